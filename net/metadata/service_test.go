package metadata_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nitro/net/metadata"
)

const base = "http://169.254.169.254"

// A board is a source whose host comes and goes.
type board struct {
	cycle atomic.Uint64 // 0: no host
	names int           // length of the volume's name
}

func (b *board) Metadata() (*metadata.Document, error) {
	cycle := b.cycle.Load()
	if cycle == 0 {
		return nil, metadata.ErrNoHost
	}
	return &metadata.Document{
		Cycle: cycle, Board: metadata.Board{Product: "p", ID: "0123", Firmware: "1.0"},
		NVMe:    metadata.NVMe{Transport: "tcp", Address: "169.254.169.254", Port: 4420, Subsystem: "s", Host: "h", HostID: "i", HostSecret: "DHHC-1:one", ControllerSecret: "DHHC-1:two"},
		Volumes: []metadata.Volume{{NSID: 3, Identity: "00112233445566778899aabbccddeeff", Name: strings.Repeat("n", b.names), Bytes: 4096}},
	}, nil
}

func newService() (*metadata.Service, *board) {
	b := &board{names: 4}
	b.cycle.Store(7)
	return metadata.New(netip.MustParseAddrPort("169.254.169.254:80"), b), b
}

// ask sends a request, with headers as NAME=value.
func ask(h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, base+path, strings.NewReader(body))
	for _, header := range headers {
		name, value, _ := strings.Cut(header, "=")
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Add(name, value)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

const lifetime = metadata.LifetimeHeader + "="

// token asks for one.
func token(t *testing.T, h http.Handler) string {
	t.Helper()
	w := ask(h, "PUT", metadata.TokenPath, "", lifetime+"60")
	if w.Code != 200 || w.Body.Len() != 64 {
		t.Fatalf("token: %d %s", w.Code, w.Body)
	}
	return metadata.TokenHeader + "=" + w.Body.String()
}

// TestRefusals: what is asked in a wrong way gets the status of docs/metadata.md, and no
// word of the secrets.
func TestRefusals(t *testing.T) {
	s, _ := newService()
	good := token(t, s)
	other, _ := newService()
	flipped := good[:len(good)-2] + string(good[len(good)-2]^1) + good[len(good)-1:]
	for _, c := range []struct {
		name, method, path, body string
		headers                  []string
		want                     int
	}{
		{"token", "PUT", metadata.TokenPath, "", []string{lifetime + "1"}, 200},
		{"longest token", "PUT", metadata.TokenPath, "", []string{lifetime + "300", "Host=169.254.169.254:80"}, 200},
		{"document", "GET", metadata.HostPath, "", []string{good}, 200},
		{"other host", "GET", metadata.HostPath, "", []string{good, "Host=evil.example"}, 421},
		{"other port", "GET", metadata.HostPath, "", []string{good, "Host=169.254.169.254:81"}, 421},
		{"proxy", "PUT", metadata.TokenPath, "", []string{lifetime + "60", "X-Forwarded-For=10.0.0.1"}, 403},
		{"empty proxy header", "PUT", metadata.TokenPath, "", []string{lifetime + "60", "X-Forwarded-For="}, 403},
		{"proxy's host", "GET", metadata.HostPath, "", []string{good, "X-Forwarded-Host=a"}, 403},
		{"real address", "GET", metadata.HostPath, "", []string{good, "X-Real-IP=a"}, 403},
		{"RFC 7239", "GET", metadata.HostPath, "", []string{good, "Forwarded=for=a"}, 403},
		{"via", "GET", metadata.HostPath, "", []string{good, "Via=1.1 a"}, 403},
		{"browser", "GET", metadata.HostPath, "", []string{good, "Origin=http://evil.example"}, 403},
		{"browser's fetch", "GET", metadata.HostPath, "", []string{good, "Sec-Fetch-Site=cross-site"}, 403},
		{"body", "PUT", metadata.TokenPath, "x", []string{lifetime + "60"}, 413},
		{"other path", "GET", "/latest/meta-data/", "", []string{good}, 404},
		{"token by GET", "GET", metadata.TokenPath, "", []string{lifetime + "60"}, 405},
		{"document by PUT", "PUT", metadata.HostPath, "", []string{good}, 405},
		{"no lifetime", "PUT", metadata.TokenPath, "", nil, 400},
		{"none", "PUT", metadata.TokenPath, "", []string{lifetime + "0"}, 400},
		{"too long", "PUT", metadata.TokenPath, "", []string{lifetime + "301"}, 400},
		{"wraps", "PUT", metadata.TokenPath, "", []string{lifetime + "65537"}, 400},
		{"negative", "PUT", metadata.TokenPath, "", []string{lifetime + "-1"}, 400},
		{"two lifetimes", "PUT", metadata.TokenPath, "", []string{lifetime + "60", lifetime + "60"}, 400},
		{"no token", "GET", metadata.HostPath, "", nil, 401},
		{"two tokens", "GET", metadata.HostPath, "", []string{good, good}, 401},
		{"changed token", "GET", metadata.HostPath, "", []string{flipped}, 401},
		{"short token", "GET", metadata.HostPath, "", []string{good[:len(good)-4]}, 401},
		{"another boot's", "GET", metadata.HostPath, "", []string{token(t, other)}, 401},
	} {
		w := ask(s, c.method, c.path, c.body, c.headers...)
		if w.Code != c.want {
			t.Errorf("%s: %d %s, not %d", c.name, w.Code, w.Body, c.want)
		}
		if said := w.Body.String(); w.Code != 200 && strings.Contains(said, "DHHC") {
			t.Errorf("%s: it says %s", c.name, said)
		}
		if w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%s: it may be kept", c.name)
		}
	}
}

// TestCycles: a token ends with its host cycle, and without one nothing is told.
func TestCycles(t *testing.T) {
	s, b := newService()
	good := token(t, s)
	for _, c := range []struct {
		cycle uint64
		want  int
	}{{7, 200}, {8, 401}, {0, 503}, {7, 200}} {
		b.cycle.Store(c.cycle)
		if w := ask(s, "GET", metadata.HostPath, "", good); w.Code != c.want {
			t.Errorf("in cycle %d: %d, not %d", c.cycle, w.Code, c.want)
		}
	}
	b.cycle.Store(0)
	if w := ask(s, "PUT", metadata.TokenPath, "", lifetime+"60"); w.Code != 503 || w.Header().Get("Retry-After") != "1" {
		t.Errorf("without a host: %d", w.Code)
	}
}

// TestBounds: a document out of its bounds is not told.
func TestBounds(t *testing.T) {
	s, b := newService()
	for _, c := range []struct{ length, want int }{{metadata.MaxName, 200}, {metadata.MaxName + 1, 500}} {
		b.names = c.length
		if w := ask(s, "GET", metadata.HostPath, "", token(t, s)); w.Code != c.want {
			t.Errorf("a name of %d bytes: %d, not %d", c.length, w.Code, c.want)
		}
	}
}

// A wire is a listener whose connections are pipes.
type wire struct {
	calls chan net.Conn
	once  sync.Once
	done  chan struct{}
	hops  atomic.Int64 // that connections were bound to, together
	plain bool         // connections that know no hop limit
}

func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.calls:
		return c, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}
func (w *wire) Close() error   { w.once.Do(func() { close(w.done) }); return nil }
func (w *wire) Addr() net.Addr { return &net.TCPAddr{} }

type hopped struct {
	net.Conn
	hops *atomic.Int64
}

func (h hopped) SetHopLimit(n int) error { h.hops.Add(int64(n)); return nil }

func (w *wire) dial(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	if !w.plain {
		there = hopped{there, &w.hops}
	}
	select {
	case w.calls <- there:
		return here, nil
	case <-w.done:
		return nil, net.ErrClosed
	}
}

// serve begins to serve on a wire.
func serve(t *testing.T, s *metadata.Service, plain bool) (*wire, *http.Client) {
	t.Helper()
	w := &wire{calls: make(chan net.Conn), done: make(chan struct{}), plain: plain}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(w) }()
	t.Cleanup(func() {
		w.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
	return w, &http.Client{Transport: &http.Transport{DialContext: w.dial, DisableKeepAlives: true}}
}

// TestFetch: a host gets what the source has, on connections that are bound to the wire.
func TestFetch(t *testing.T) {
	s, b := newService()
	w, client := serve(t, s, false)
	got, err := metadata.Fetch(t.Context(), client, base)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := b.Metadata()
	want.Version = metadata.Version
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, not %+v", got, want)
	}
	if w.hops.Load() != 2 {
		t.Errorf("two connections were bound to %d hops together", w.hops.Load())
	}
	b.cycle.Store(0)
	if _, err := metadata.Fetch(t.Context(), client, base); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("without a host: %v", err)
	}
}

// TestUnbound: a connection whose packets may go anywhere is closed.
func TestUnbound(t *testing.T) {
	s, _ := newService()
	_, client := serve(t, s, true)
	if d, err := metadata.Fetch(t.Context(), client, base); err == nil {
		t.Errorf("%+v", d)
	}
}

// TestStalled: who connects and says nothing keeps nobody out for long.
func TestStalled(t *testing.T) {
	s, _ := newService()
	w, client := serve(t, s, false)
	for range 8 {
		c, err := w.dial(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := metadata.Fetch(ctx, client, base); err != nil {
		t.Error(err)
	}
}

// TestFetchRefuses: answers that are no document of this version are refused.
func TestFetchRefuses(t *testing.T) {
	for _, text := range []string{"", "{", `{"version":2,"cycle":1}`, `{"version":1}`, `{"version":1,"cycle":1,"volumes":[{"name":"` + strings.Repeat("n", 65) + `"}]}`,
		`{"version":1,"cycle":1,"x":"` + strings.Repeat("x", metadata.MaxDocument) + `"}`} {
		client := &http.Client{Transport: answers(text)}
		if d, err := metadata.Fetch(t.Context(), client, base); err == nil {
			t.Errorf("%.60s: %+v", text, d)
		}
	}
}

// answers answers each request with itself.
type answers string

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Status: "200 OK", Body: io.NopCloser(strings.NewReader(string(a)))}, nil
}
