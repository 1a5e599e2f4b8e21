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
	"time"

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
	config, err := serviceTLS(dir, "")
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

// TestPlanes: control planes are admitted by the service's own CA, get access keys, and are
// revoked; the log has it all, and goes on from a head that was kept.
func TestPlanes(t *testing.T) {
	b := newBench(t)
	const owned = " -dir @service -owner owner.example"
	b.ok("keyservice init -dir @service -host 127.0.0.1")
	var admitted, keyed, revoked planeInfo
	b.json("keyservice admit"+owned+" -out "+b.dir+" west", exitOK, &admitted)
	ca, err := readCertificate(b.path("service/" + serviceCAFile))
	must(t, err)
	c, err := readCertificate(admitted.Certificate)
	must(t, err)
	if admitted.Principal != "spiffe://owner.example/storage-control-plane/west" || len(c.URIs) != 1 || c.URIs[0].String() != admitted.Principal || c.IsCA ||
		c.CheckSignatureFrom(ca) != nil || c.NotAfter.Unix() != admitted.Until || c.NotBefore.After(time.Now()) {
		t.Errorf("%+v", c)
	}
	if _, err := tls.LoadX509KeyPair(admitted.Certificate, admitted.Key); err != nil {
		t.Error(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca)
	if _, err := c.Verify(x509.VerifyOptions{Roots: pool, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err == nil {
		t.Error("a control plane could be the service")
	}
	b.json("keyservice access"+owned+" -out @west.aws west", exitOK, &keyed)
	if a, err := readAccess(b.path("west.aws")); err != nil || a.ID != keyed.AccessKey {
		t.Errorf("%+v, %v", a, err)
	}
	for _, file := range []string{admitted.Key, b.path("west.aws"), b.path("service/" + serviceCAKey)} {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
	var log logInfo
	b.json("keyservice log -dir @service", exitOK, &log)
	kept := log.Head
	if log.Records != 2 || len(log.Lines) != 2 || !strings.HasPrefix(kept, "2:") {
		t.Errorf("%+v", log)
	}
	// Nothing is overwritten, and the access key that found no file is gone.
	b.refuses("keyservice access"+owned+" -out @west.aws west", exitIO, "nothing is overwritten")
	b.refuses("keyservice admit"+owned+" -out "+b.dir+" west", exitIO, "nothing is overwritten")
	if all, err := os.ReadDir(b.path("service/access")); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
	b.json("keyservice revoke -dir @service -access "+keyed.AccessKey, exitOK, &revoked)
	if !revoked.Revoked || revoked.AccessKey != keyed.AccessKey {
		t.Errorf("%+v", revoked)
	}
	b.refuses("keyservice revoke -dir @service -access "+keyed.AccessKey, exitRefused, "no such access key")
	b.json("keyservice revoke"+owned+" west", exitOK, &revoked)
	b.refuses("keyservice revoke"+owned+" ../west", exitUsage, "spiffe://<owner>/<role>/<name>")
	b.refuses("keyservice revoke"+owned+" -access A west", exitUsage, "revoke either")
	b.refuses("keyservice admit -dir @service -out . west", exitUsage, "-owner is missing")

	b.json("keyservice log -dir @service -lines 1 -head "+kept, exitOK, &log)
	if log.Records != 6 || len(log.Lines) != 1 || !strings.Contains(string(log.Lines[0]), `"revocation"`) {
		t.Errorf("%+v", log)
	}
	b.refuses("keyservice log -dir @service -head "+kept[:len(kept)-1]+"x", exitUsage, "as keyservice log has printed it")
	text, err := os.ReadFile(b.path("service/log.jsonl"))
	must(t, err)
	end := strings.Index(string(text), "\n") + 1
	must(t, os.WriteFile(b.path("service/log.jsonl"), text[:end], 0o600))
	b.refuses("keyservice log -dir @service -head "+kept, exitRefused, "lines are gone")
	must(t, os.WriteFile(b.path("service/log.jsonl"), text[end:], 0o600))
	b.refuses("keyservice log -dir @service", exitRefused, "does not follow")
}

// refuses runs what must end with an exit code and say something.
func (b *bench) refuses(line string, exit int, say string) {
	b.Helper()
	if got, _, errs := b.run(line); got != exit || !strings.Contains(errs, say) {
		b.Errorf("nitroctl %s: exit code %d, want %d and %q:\n%s", line, got, exit, say, errs)
	}
}
