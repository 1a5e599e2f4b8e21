//go:build !arm

package server

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"nitro/net/keyservice"
)

// TestRevokedMeanwhile: who is revoked between a request's head and its body has nothing done.
func TestRevokedMeanwhile(t *testing.T) {
	r := newRig(t)
	o := r.owner()
	v := keyservice.Identity([16]byte{2})
	must(r.control.CreateKey(t.Context(), [16]byte{2}))(t)
	u := must(url.Parse(r.http.URL))(t)
	c := r.tls.issue(t, principal("one").String())
	conn := must(tls.Dial("tcp", u.Host, &tls.Config{RootCAs: r.tls.pool(), Certificates: []tls.Certificate{c}, ServerName: "127.0.0.1"}))(t)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(conn, "DELETE /v1/keys/%s HTTP/1.1\r\nHost: %s\r\nContent-Length: 2\r\n\r\n", v, u.Host)
	time.Sleep(300 * time.Millisecond) // so that the head has been judged
	if err := o.Revoke(principal("one")); err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "{}")
	a := must(http.ReadResponse(bufio.NewReader(conn), nil))(t)
	if _, err := os.Stat(filepath.Join(r.folder, "keys", string(v))); a.StatusCode != http.StatusForbidden || err != nil {
		t.Errorf("%s, and the key: %v", a.Status, err)
	}
}
