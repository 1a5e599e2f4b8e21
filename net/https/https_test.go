package https

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serve starts a server, and gives its address and a client that trusts it.
func serve(t *testing.T, h http.Handler) (string, *tls.Config) {
	t.Helper()
	certificate, err := SelfSigned("board")
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	identity := &Identity{Certificate: certificate}
	go func() {
		ended <- Serve(l, Config{Identity: func() *Identity { return identity }, Routes: []Route{{Pattern: "/", Handler: h, Open: true}}})
	}()
	t.Cleanup(func() {
		l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("the server ended: %v", err)
		}
	})
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "board"}
}

// echo answers with the body's length.
func echo(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if tooLarge := new(http.MaxBytesError); errors.As(err, &tooLarge) {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	io.WriteString(w, strings.Repeat("x", int(n)))
}

func TestServe(t *testing.T) {
	addr, config := serve(t, http.HandlerFunc(echo))
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	for _, c := range []struct {
		body, header, status int
	}{{0, 0, 200}, {1000, 1000, 200}, {BodyBytes + 1, 0, 413}, {0, HeaderBytes + 8192, 431}} {
		r, err := http.NewRequest("POST", "https://"+addr+"/", bytes.NewReader(make([]byte, c.body)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Filler", strings.Repeat("y", c.header))
		answer, err := client.Do(r)
		if err != nil {
			t.Errorf("body %d, header %d: %v", c.body, c.header, err)
			continue
		}
		got, _ := io.ReadAll(answer.Body)
		answer.Body.Close()
		if answer.StatusCode != c.status || c.status == 200 && len(got) != c.body {
			t.Errorf("body %d, header %d: status %d, %d bytes", c.body, c.header, answer.StatusCode, len(got))
		}
		if v := answer.TLS.Version; v != tls.VersionTLS13 {
			t.Errorf("TLS version %#x", v)
		}
	}
}

// TestOldTLS: nothing before 1.3 is spoken.
func TestOldTLS(t *testing.T) {
	addr, config := serve(t, http.HandlerFunc(echo))
	config.MaxVersion = tls.VersionTLS12
	if c, err := tls.Dial("tcp", addr, config); err == nil {
		c.Close()
		t.Error("TLS 1.2 was accepted")
	}
}

// TestPlain: somebody who speaks no TLS gets no HTTP.
func TestPlain(t *testing.T) {
	addr, _ := serve(t, http.HandlerFunc(echo))
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: board\r\n\r\n")
	if line, _ := bufio.NewReader(c).ReadString('\n'); strings.Contains(line, " 200 ") {
		t.Errorf("plain HTTP was answered: %q", line)
	}
}

// TestOnePath: nobody is sent from one spelling of a path to another.
func TestOnePath(t *testing.T) {
	m := newMutual(t)
	c, _ := m.client(nil, nil)
	for i, p := range []string{"//open", "/./open", "/x/../open", "/open/.", "/open//", "//", "/open/x/.."} {
		m.want("another spelling", c, p, 0, 404)
		if n := m.failures[Path].Load(); n != int64(i+1) {
			t.Errorf("%s: %d were counted", p, n)
		}
	}
	m.want("the one spelling", c, "/open", 0, 200)
}
