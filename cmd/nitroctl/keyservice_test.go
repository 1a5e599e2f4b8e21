package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nitro/net/keyservice"
)

// TestKeyserviceServes: a client that knows the folder's CA reaches what is served.
func TestKeyserviceServes(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keyservice")
	n := streams{out: os.Stderr, err: os.Stderr}
	if got := run([]string{"keyservice", "init", "-dir", dir, "-host", "127.0.0.1"}, n); got != exitOK {
		t.Fatal(got)
	}
	if got := run([]string{"keyservice", "init", "-dir", dir, "-host", "127.0.0.1"}, n); got != exitIO {
		t.Errorf("made twice: %d", got)
	}
	if info, err := os.Stat(filepath.Join(dir, grantKeyFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if _, err := readP256(filepath.Join(dir, grantKeyFile)); err != nil {
		t.Error(err)
	}
	// No policy: nothing is served.
	if got := run([]string{"keyservice", "serve", "-dir", dir, "-clients", filepath.Join(dir, serviceCAFile), "-owner", "owner.example", "-listen", "127.0.0.1:0"}, n); got == exitOK {
		t.Error("served without a policy")
	}
	config, err := serviceTLS(dir, filepath.Join(dir, serviceCAFile))
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- serveKeys(ctx, tls.NewListener(l, config), nil) }()
	ca, err := readCertificate(filepath.Join(dir, serviceCAFile))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	c, err := keyservice.New(keyservice.Setup{URL: "https://" + l.Addr().String(), Roots: roots})
	if err != nil {
		t.Fatal(err)
	}
	// The default mux has no such path: that it answers shows that TLS is right.
	if _, err := c.Challenge(ctx); err == nil || !strings.Contains(err.Error(), "HTTP status 404") {
		t.Error(err)
	}
	c.Close()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
