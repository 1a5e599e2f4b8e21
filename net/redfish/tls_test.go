package redfish

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"

	"nitro/internal/pipes"
	"nitro/net/policy"
)

// TestMutualTLS: a client with a certificate is who it is through a whole TLS 1.3
// connection; one without does not get that far.
func TestMutualTLS(t *testing.T) {
	b := newBench(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := issue(t, key, &x509.Certificate{Subject: pkix.Name{CommonName: "ca"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour)}, nil)
	server := issue(t, key, &x509.Certificate{DNSNames: []string{"board"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, ca)
	client := issue(t, key, &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{{Scheme: "spiffe", Host: "owner.example", Path: "/operator/mona"}}}, ca)
	set, err := policy.Compile(&policy.Payload{Epoch: 1, Policies: policy.Default,
		Issuers: []policy.Issuer{{Owner: "owner.example", CA: sha256.Sum256(ca.RawSubjectPublicKeyInfo), Roles: []policy.Role{policy.Operator}}}}, "board-1")
	if err != nil {
		t.Fatal(err)
	}
	b.service.config.Gate.(*Gatekeeper).Policy = func() *policy.Set { return set }
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	listener := pipes.New()
	s := &http.Server{Handler: b.service, ErrorLog: log.New(io.Discard, "", 0)}
	done := make(chan error)
	go func() {
		done <- s.Serve(tls.NewListener(listener, &tls.Config{MinVersion: tls.VersionTLS13, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots,
			Certificates: []tls.Certificate{{Certificate: [][]byte{server.Raw}, PrivateKey: key}}}))
	}()
	ask := func(certificate *x509.Certificate, method, path, body string) (int, string, error) {
		c := &tls.Config{RootCAs: roots, ServerName: "board"}
		if certificate != nil {
			c.Certificates = []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key}}
		}
		transport := &http.Transport{DialTLS: func(string, string) (net.Conn, error) {
			conn, err := listener.Dial(t.Context())
			return tls.Client(conn, c), err
		}}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequest(method, "https://board"+path, bytes.NewBufferString(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		answer, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Do(r)
		if err != nil {
			return 0, "", err
		}
		defer answer.Body.Close()
		text, err := io.ReadAll(answer.Body)
		return answer.StatusCode, string(text), err
	}
	if status, body, err := ask(client, "GET", hostPath, ""); status != 200 || err != nil {
		t.Errorf("GET: %d %s %v", status, body, err)
	}
	if status, body, err := ask(client, "POST", hostPath+"/Actions/ComputerSystem.Reset", `{"ResetType":"ForceOff"}`); status != 204 || err != nil || len(b.machine.done) != 1 {
		t.Errorf("POST: %d %s %v", status, body, err)
	}
	if status, body, err := ask(client, "HEAD", hostPath, ""); status != 200 || body != "" || err != nil {
		t.Errorf("HEAD: %d %s %v", status, body, err)
	}
	if status, _, err := ask(nil, "GET", Root, ""); err == nil {
		t.Errorf("without a certificate: %d", status)
	}
	stranger := issue(t, key, &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}, ca)
	if status, body, _ := ask(stranger, "GET", Root, ""); status != 401 {
		t.Errorf("without a principal: %d %s", status, body)
	}
	listener.Close()
	s.Close()
	if err := <-done; err == nil {
		t.Error("served on")
	}
}
