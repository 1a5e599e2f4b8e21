package syslog_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"nitro/internal/tied"
	"nitro/net/audit"
	"nitro/net/syslog"
)

// A log is one in memory, which can be cleared.
type log struct {
	mu      sync.Mutex
	records [][]byte
	first   int
	origin  string
}

func (l *log) add(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for range n {
		l.records = append(l.records, fmt.Appendf(nil, `{"v":1,"n":%d,"t":"2026-11-24T12:00:00.000Z","up":1,"boot":0,"kind":"denied","who":"spiffe://owner.example/operator/mona","why":"no policy permits it [x]"}`, len(l.records)))
	}
}

func (l *log) Origin() string { return l.origin }
func (l *log) Stats() audit.Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return audit.Stats{Size: uint64(len(l.records)), First: uint64(l.first)}
}
func (l *log) Records(from uint64, most int) ([][]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if from < uint64(l.first) {
		return nil, audit.ErrGone
	}
	return l.records[from:min(int(from)+most, len(l.records))], nil
}

// A cursor is one in memory.
type cursor struct {
	mu     sync.Mutex
	origin string
	n      uint64
	saves  int
}

func (c *cursor) Load() (string, uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.origin, c.n, nil
}
func (c *cursor) Save(origin string, n uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.origin, c.n, c.saves = origin, n, c.saves+1
	return nil
}

// A collector's certificate, of a CA of its own.
type identity struct {
	ca   *x509.Certificate
	pair tls.Certificate
}

func newIdentity(t *testing.T) identity {
	t.Helper()
	issue := func(template, parent *x509.Certificate, key, signer *ecdsa.PrivateKey) *x509.Certificate {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		must(t, err)
		c, err := x509.ParseCertificate(der)
		must(t, err)
		return c
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	root := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "log CA"}, IsCA: true, BasicConstraintsValid: true}
	ca := issue(root, root, key, key)
	leaf := issue(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "log.example"}, DNSNames: []string{"log.example"}}, ca, key, key)
	return identity{ca, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}
}

func (i identity) client() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(i.ca)
	return &tls.Config{RootCAs: pool, ServerName: "log.example", MinVersion: tls.VersionTLS12}
}

// run runs a sender until the test ends, or stop is called.
func run(t *testing.T, l *log, c *cursor, address string, config *tls.Config) (s *syslog.Sender, stop func()) {
	t.Helper()
	s = syslog.New(syslog.Config{Log: l, Cursor: c, Host: "board", Address: address, Dial: new(net.Dialer).DialContext, TLS: func() *tls.Config { return config }, Report: t.Logf})
	s.Hurry()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return s, stop
}

// wait waits for something to be so.
func wait(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// rsyslogd is where the Makefile's deps unpacks Debian's package to.
const debian = "../../build/debian/"

// rsyslog starts the daemon on an address; what it takes it writes as parsed lines.
func rsyslog(t *testing.T, id identity, address, out string) *tied.Program {
	t.Helper()
	root, err := filepath.Abs(debian)
	must(t, err)
	folder := t.TempDir()
	key, err := x509.MarshalPKCS8PrivateKey(id.pair.PrivateKey)
	must(t, err)
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(folder, name)
		must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	host, port, err := net.SplitHostPort(address)
	must(t, err)
	config := filepath.Join(folder, "rsyslog.conf")
	must(t, os.WriteFile(config, []byte(fmt.Sprintf(`
global(workDirectory=%q defaultNetstreamDriver="ossl" defaultNetstreamDriverCAFile=%q defaultNetstreamDriverCertFile=%q defaultNetstreamDriverKeyFile=%q)
module(load="imtcp" StreamDriver.Name="ossl" StreamDriver.Mode="1" StreamDriver.AuthMode="anon")
input(type="imtcp" address=%q port=%q)
template(name="line" type="string" string="%%PRI%% %%TIMESTAMP:::date-rfc3339%% %%HOSTNAME%% %%APP-NAME%% %%MSGID%% %%STRUCTURED-DATA%%\n")
action(type="omfile" file=%q template="line" asyncWriting="off" flushOnTXEnd="on")
`, folder, write("ca.pem", "CERTIFICATE", id.ca.Raw), write("cert.pem", "CERTIFICATE", id.pair.Certificate[0]), write("key.pem", "PRIVATE KEY", key), host, port, out)), 0o600))
	libraries, err := filepath.Glob(root + "/usr/lib/*/rsyslog")
	must(t, err)
	if len(libraries) != 1 {
		t.Fatalf("no rsyslog in %s: make deps", root)
	}
	daemon := exec.Command(root+"/usr/sbin/rsyslogd", "-n", "-f", config, "-i", filepath.Join(folder, "pid"), "-M", libraries[0])
	daemon.Env = append(os.Environ(), "LD_LIBRARY_PATH="+filepath.Dir(libraries[0]))
	p, err := tied.Start(daemon)
	must(t, err)
	t.Cleanup(func() { p.Process.Kill(); <-p.Ended() })
	return p
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

var line = regexp.MustCompile(`^108 2026-11-24T12:00:00(?:\.000)?(?:Z|\+00:00) board nitro denied \[nitro@32473 n="(\d+)" boot="0" up="1" who="spiffe://owner.example/operator/mona" why="no policy permits it \[x\\\]"\]$`)

// numbers are the indices of the records that a file has, each of which must have all its
// parts.
func numbers(t *testing.T, file string) map[int]int {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	all := map[int]int{}
	for _, l := range strings.SplitAfter(string(b), "\n") {
		if !strings.HasSuffix(l, "\n") || strings.Contains(l, "rsyslogd") {
			continue
		}
		m := line.FindStringSubmatch(strings.TrimSuffix(l, "\n"))
		if m == nil {
			t.Fatalf("the collector has %q", l)
		}
		n, _ := strconv.Atoi(m[1])
		all[n]++
	}
	return all
}

// TestRsyslog: a real collector gets all, over TLS; and when it was killed in the middle,
// and the board restarted meanwhile, it gets what it has missed.
func TestRsyslog(t *testing.T) {
	id, address := newIdentity(t), freeAddress(t)
	out := filepath.Join(t.TempDir(), "out")
	l, c := &log{origin: "board/1"}, new(cursor)
	l.add(200)
	s, stop := run(t, l, c, address, id.client()) // the collector is not there yet
	wait(t, "a refused connection", func() bool { return s.Stats().Failures > 0 })
	first := rsyslog(t, id, address, out)
	wait(t, "200 records", func() bool { return len(numbers(t, out)) == 200 })
	wait(t, "the cursor", func() bool { _, n, _ := c.Load(); return n == 200 })
	first.Process.Kill()
	<-first.Ended()
	l.add(100)
	wait(t, "the collector's end to be noticed", func() bool { return !s.Stats().Connected })
	stop() // the board restarts
	l.add(100)
	s, _ = run(t, l, c, address, id.client())
	rsyslog(t, id, address, out)
	wait(t, "400 records", func() bool { return len(numbers(t, out)) == 400 })
	for n, times := range numbers(t, out) {
		if n < 200 && times != 1 {
			t.Errorf("record %d came %d times", n, times)
		}
	}
	if st := s.Stats(); !st.Connected || st.Next != 400 || st.Skipped != 0 {
		t.Errorf("%+v", st)
	}
}

// collector is a TLS server that hands each connection to a function.
func collector(t *testing.T, id identity, serve func(net.Conn)) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{id.pair}})
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return l.Addr().String()
}

// TestLostInFlight: what a collector has read and lost, because it died soon after, comes
// again.
func TestLostInFlight(t *testing.T) {
	id := newIdentity(t)
	l, c := &log{origin: "board/1"}, new(cursor)
	l.add(10)
	var mu sync.Mutex
	connections, good := 0, 0
	address := collector(t, id, func(n net.Conn) {
		defer n.Close()
		mu.Lock()
		connections++
		second := connections > 1
		mu.Unlock()
		if !second {
			for b, seen := make([]byte, 65536), 0; seen < 10; { // all, and then it dies
				k, err := n.Read(b)
				if seen += strings.Count(string(b[:k]), "<108>1 "); err != nil {
					return
				}
			}
			return
		}
		b := make([]byte, 65536)
		for {
			k, err := n.Read(b)
			mu.Lock()
			good += strings.Count(string(b[:k]), "<108>1 ")
			mu.Unlock()
			if err != nil {
				return
			}
		}
	})
	run(t, l, c, address, id.client())
	wait(t, "all ten", func() bool { mu.Lock(); defer mu.Unlock(); return good >= 10 })
}

// TestWrongCollector: who cannot show a certificate of the CA, with the name, gets nothing.
func TestWrongCollector(t *testing.T) {
	id, other := newIdentity(t), newIdentity(t)
	got := make(chan int, 100)
	address := collector(t, id, func(n net.Conn) {
		k, _ := n.Read(make([]byte, 100))
		got <- k
		n.Close()
	})
	l := &log{origin: "board/1"}
	l.add(5)
	named := id.client()
	named.ServerName = "other.example"
	for name, config := range map[string]*tls.Config{"another CA": other.client(), "another name": named} {
		c := new(cursor)
		s, stop := run(t, l, c, address, config)
		wait(t, "three failures", func() bool { return s.Stats().Failures >= 3 })
		stop()
		if st := s.Stats(); st.Sent > 0 || st.Connected || c.saves > 0 {
			t.Errorf("%s: %+v", name, st)
		}
	}
	for len(got) > 0 {
		if n := <-got; n > 0 {
			t.Errorf("the wrong collector has read %d bytes", n)
		}
	}
}

// TestCleared: what was cleared before it was sent is skipped, and counted; another log
// begins at its beginning.
func TestCleared(t *testing.T) {
	id := newIdentity(t)
	address := collector(t, id, func(n net.Conn) { io.Copy(io.Discard, n) })
	l := &log{origin: "board/1"}
	l.add(100)
	l.first = 64
	c := &cursor{origin: "board/1", n: 10}
	s, stop := run(t, l, c, address, id.client())
	wait(t, "the rest", func() bool { return s.Stats().Next == 100 })
	if st := s.Stats(); st.Skipped != 54 || st.Sent != 36 {
		t.Errorf("%+v", st)
	}
	stop()
	anew := &log{origin: "board/2"}
	anew.add(5)
	s, _ = run(t, anew, c, address, id.client())
	wait(t, "the other log", func() bool { return s.Stats().Sent == 5 })
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
