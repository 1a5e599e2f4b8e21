package iperf3

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// serve gives the port of a server on the loopback interface, and what it logs.
func serve(t *testing.T) (port string, log func() string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var said strings.Builder
	s := &Server{Log: func(format string, a ...any) {
		mu.Lock()
		defer mu.Unlock()
		fmt.Fprintf(&said, format+"\n", a...)
	}}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	t.Cleanup(func() { l.Close(); <-ended })
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port, func() string { mu.Lock(); defer mu.Unlock(); return said.String() }
}

// client runs Debian's client and gives its report.
func client(t *testing.T, port string, args ...string) (report struct {
	Error string
	End   struct {
		Sent     struct{ Bytes float64 } `json:"sum_sent"`
		Received struct{ Bytes float64 } `json:"sum_received"`
		Streams  []any
	}
}) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "iperf3", append([]string{"-J", "-c", "127.0.0.1", "-p", port}, args...)...).Output()
	if len(out) == 0 {
		t.Fatalf("iperf3 %v: %v (Debian's package iperf3 has it: make deps)", args, err)
	}
	if err := json.Unmarshal(out, &report); err != nil {
		t.Fatalf("iperf3 %v: %v\n%s", args, err, out)
	}
	return report
}

// TestClient: Debian's client takes the server for one of its own.
func TestClient(t *testing.T) {
	port, log := serve(t)
	for _, args := range [][]string{
		{"-t", "1"}, {"-t", "1", "-R"}, {"-n", "10M"}, {"-n", "10M", "-R"}, {"-t", "1", "-P", "3"}, {"-t", "1", "-P", "3", "-R"},
		{"-t", "1", "-O", "1"}, {"-k", "10", "-l", "100K"},
	} {
		r := client(t, port, args...)
		if r.Error != "" {
			t.Errorf("%v: %s\n%s", args, r.Error, log())
			continue
		}
		if r.End.Sent.Bytes < 1e6 || r.End.Received.Bytes < 1e6 || r.End.Received.Bytes > r.End.Sent.Bytes*1.5 {
			t.Errorf("%v: %v bytes sent, %v received", args, r.End.Sent.Bytes, r.End.Received.Bytes)
		}
	}
}

// TestRefusals: what there is not is refused, and the next test runs.
func TestRefusals(t *testing.T) {
	port, _ := serve(t)
	for _, args := range [][]string{{"-u", "-t", "1"}, {"--bidir", "-t", "1"}, {"-P", "17", "-t", "1"}} {
		if r := client(t, port, args...); r.Error == "" {
			t.Errorf("%v: accepted", args)
		}
	}
	if r := client(t, port, "-n", "1M"); r.Error != "" {
		t.Error(r.Error)
	}
}

// TestBusy: a second client is turned away while a test runs.
func TestBusy(t *testing.T) {
	port, _ := serve(t)
	c, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	c.Write(make([]byte, cookieSize))
	c.Read(make([]byte, 1)) // the test has begun
	if r := client(t, port, "-t", "1"); !strings.Contains(r.Error, "busy") {
		t.Errorf("%q", r.Error)
	}
	c.Close()
	free(t, port)
}

// TestRubbish: clients that send nonsense do not stop the server.
func TestRubbish(t *testing.T) {
	port, _ := serve(t)
	cookie := strings.Repeat("x", cookieSize)
	for _, text := range []string{"", "short", cookie, cookie + "\x00\x00\x00\x00", cookie + "\xff\xff\xff\xff", cookie + "\x00\x00\x00\x02{}",
		cookie + "\x00\x00\x00\x0c{\"tcp\":true}\x01"} {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		c.Write([]byte(text))
		c.Close()
		time.Sleep(20 * time.Millisecond)
	}
	free(t, port)
}

// free waits until the server serves again.
func free(t *testing.T, port string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if r := client(t, port, "-n", "1M"); r.Error == "" {
			return
		}
	}
	t.Error("the server stays busy")
}
