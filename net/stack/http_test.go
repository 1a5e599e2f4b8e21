package stack_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"

	"nitro/net/stack/stacktest"
)

// TestHTTPS: net/http and crypto/tls work over the stack, as the firmware uses them.
func TestHTTPS(t *testing.T) {
	a, b, _, _ := pair(t, stacktest.Options{})
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "controller"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{address2.Addr().AsSlice()}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate)

	l, err := b.Listen("tcp", ":443")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Write(body)
	})}
	served := make(chan error, 1)
	go func() {
		served <- server.Serve(tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}))
	}()
	client := &http.Client{Timeout: limit, Transport: &http.Transport{DialContext: a.Dial, TLSClientConfig: &tls.Config{RootCAs: roots}}}
	for _, n := range []int{1, 100000, 3 << 20} {
		sent := make([]byte, n)
		rand.Read(sent)
		r, err := client.Post("https://192.0.2.2/", "", bytes.NewReader(sent))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r.Body)
		r.Body.Close()
		if err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes came back as %d: %v", n, len(got), err)
		}
	}
	client.CloseIdleConnections()
	if err := server.Shutdown(within(t)); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Error(err)
	}
}
