package main

import (
	"context"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"nitro/net/https"
	"nitro/net/policy"
	"nitro/net/provisioning"
	"nitro/qemu-test/factory"
)

// TestGateway: who has the password and speaks to the gateway's own address reaches the
// board as the certificate's principal, and nobody else does.
func TestGateway(t *testing.T) {
	own := selfSigned(t)
	clients, err := factory.NewClients()
	must(t, err)
	operator, err := clients.Certificate(policy.Operator, "mona")
	must(t, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	identity := &https.Identity{Certificate: own, CAs: []*x509.Certificate{clients.CA}}
	go https.Serve(l, https.Config{Identity: func() *https.Identity { return identity }, Routes: []https.Route{{Pattern: "/", Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.TLS.VerifiedChains[0][0].Subject.CommonName+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
	})}}})
	pin := provisioning.KeyDigest(own.Leaf)
	r := &remote{address: l.Addr().String(), pin: &pin, limit: time.Minute}
	g, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- runGateway(ctx, g, r.gateway(operator, g.Addr().String(), "secret")) }()
	ask := func(path, host, user, password string) (int, string) {
		q, err := http.NewRequest("GET", "http://"+g.Addr().String()+path, nil)
		must(t, err)
		if q.Host = host; user != "" {
			q.SetBasicAuth(user, password)
		}
		a, err := http.DefaultClient.Do(q)
		must(t, err)
		defer a.Body.Close()
		text, err := io.ReadAll(a.Body)
		must(t, err)
		return a.StatusCode, string(text)
	}
	const path = "/redfish/v1/Systems"
	if status, text := ask("/redfish/v1/", "", "", ""); status != 200 {
		t.Errorf("the service root: %d %q", status, text)
	}
	if status, text := ask(path, "", gatewayUser, "secret"); status != 200 || text != "mona "+path+" " {
		t.Errorf("with the password: %d %q", status, text)
	}
	for _, c := range [][4]string{
		{path, "", "", ""}, {path, "", gatewayUser, "Secret"}, {path, "", "root", "secret"}, {path, "evil.example", gatewayUser, "secret"},
		{"/redfish/v1/", "evil.example", "", ""}, {"/redfish/v1/?$expand=.", "", "", ""}, {"/redfish/v1/", "", gatewayUser, "Secret"},
	} {
		if status, text := ask(c[0], c[1], c[2], c[3]); status != 401 || strings.Contains(text, "mona") {
			t.Errorf("%q: %d %q", c, status, text)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	b := newBench(t)
	for line, exit := range map[string]int{
		"gateway -board x -cert a -key b":                      exitUsage, // no pin
		"gateway -board x -pin " + hexOf(pin):                  exitUsage,
		"gateway -board x -cert @a -key @b -pin " + hexOf(pin): exitIO,
	} {
		if got, _, err := b.run(line); got != exit {
			t.Errorf("%s: exit code %d, not %d: %s", line, got, exit, err)
		}
	}
}
