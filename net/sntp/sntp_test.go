package sntp_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nitro/internal/tied"
	"nitro/net/sntp"
)

// A fake is a time server that answers what a function makes of a question.
func fake(t *testing.T, answer func(question []byte) [][]byte) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromUDP(b)
			if err != nil {
				return
			}
			for _, a := range answer(b[:n]) {
				c.WriteToUDP(a, from)
			}
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// ntp is a time as an NTP timestamp.
func ntp(t time.Time) (b [8]byte) {
	seconds := uint64(t.Unix() + 2208988800)
	binary.BigEndian.PutUint64(b[:], seconds<<32|uint64(t.Nanosecond())<<32/1e9)
	return b
}

// good is the answer of a server whose clock is off by something.
func good(question []byte, off time.Duration) []byte {
	b := make([]byte, 48)
	b[0], b[1] = 4<<3|4, 2
	binary.BigEndian.PutUint32(b[4:], 0x100) // 4 ms
	binary.BigEndian.PutUint32(b[8:], 0x100)
	copy(b[24:], question[40:48])
	now := ntp(time.Now().Add(off))
	copy(b[32:], now[:])
	copy(b[40:], now[:])
	return b
}

// changed is that of a server whose answer has something else at an offset.
func changed(at int, to ...byte) func([]byte) [][]byte {
	return func(q []byte) [][]byte {
		b := good(q, 0)
		copy(b[at:], to)
		return [][]byte{b}
	}
}

func off(d time.Duration) func([]byte) [][]byte {
	return func(q []byte) [][]byte { return [][]byte{good(q, d)} }
}

func silent([]byte) [][]byte { return nil }

func client(t *testing.T, servers ...func([]byte) [][]byte) *sntp.Client {
	c := &sntp.Client{Dial: new(net.Dialer).DialContext}
	for _, s := range servers {
		c.Servers = append(c.Servers, fake(t, s))
	}
	return c
}

// ask asks for as long as a test likes to wait for the silent.
func ask(t *testing.T, c *sntp.Client, limit time.Duration) (*sntp.Result, error) {
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return c.Ask(ctx)
}

// TestLiars: what no honest server sends does not count, for its own reason.
func TestLiars(t *testing.T) {
	for name, c := range map[string]struct {
		server func([]byte) [][]byte
		why    string
	}{
		"another question's": {changed(24, 1, 2, 3), "origin"},
		"short":              {func(q []byte) [][]byte { return [][]byte{good(q, 0)[:47]} }, "47 bytes"},
		"a client":           {changed(0, 4<<3|3), "mode 3"},
		"a broadcast":        {changed(0, 4<<3|5), "mode 5"},
		"version 2":          {changed(0, 2<<3|4), "version 2"},
		"does not know":      {changed(0, 3<<6|4<<3|4), "does not know"},
		"stratum 16":         {changed(1, 16), "stratum 16"},
		"no receive time":    {changed(32, make([]byte, 8)...), "zero"},
		"no transmit time":   {changed(40, make([]byte, 8)...), "zero"},
		"sent before":        {changed(32, 0xff, 0xff, 0xff, 0xff), "before the question"},
		"far from its root":  {changed(4, 0, 4, 0, 0), "own error"},
		"scattered":          {changed(8, 0, 2, 0, 0), "own error"},
		"thought for long": {func(q []byte) [][]byte {
			b := good(q, 0)
			n := ntp(time.Now().Add(time.Minute))
			copy(b[40:], n[:])
			return [][]byte{b}
		}, "round trip"},
		"kiss": {changed(1, 0), "kiss code"},
	} {
		r, err := ask(t, client(t, c.server), 300*time.Millisecond)
		if err == nil || !errors.Is(err, sntp.ErrAgree) || !strings.Contains(fmt.Sprint(r.Answers[0].Err), c.why) {
			t.Errorf("%s: %v; want %q", name, err, c.why)
		}
	}
}

// TestForged: forgeries that arrive before the true answer do not keep it out.
func TestForged(t *testing.T) {
	flood := func(q []byte) [][]byte {
		var all [][]byte
		for i := range 20 {
			b := good(q, time.Hour)
			b[24] ^= byte(i + 1)
			all = append(all, b)
		}
		return append(all, good(q, 0))
	}
	r, err := ask(t, client(t, flood), 5*time.Second)
	if err != nil || r.Offset.Abs() > time.Second {
		t.Errorf("%v, %v", r.Offset, err)
	}
}

// TestAgreement: more than half of the servers that are configured.
func TestAgreement(t *testing.T) {
	const hour = time.Hour
	for name, c := range map[string]struct {
		servers []func([]byte) [][]byte
		want    time.Duration
		good    bool
	}{
		"one":                       {[]func([]byte) [][]byte{off(0)}, 0, true},
		"two":                       {[]func([]byte) [][]byte{off(0), off(0)}, 0, true},
		"two that differ":           {[]func([]byte) [][]byte{off(0), off(hour)}, 0, false},
		"one of two is silent":      {[]func([]byte) [][]byte{off(0), silent}, 0, false},
		"one of three lies":         {[]func([]byte) [][]byte{off(hour), off(0), off(0)}, 0, true},
		"one of three is silent":    {[]func([]byte) [][]byte{silent, off(0), off(0)}, 0, true},
		"two of three lie together": {[]func([]byte) [][]byte{off(hour), off(hour), off(0)}, hour, true},
		"two of three lie":          {[]func([]byte) [][]byte{off(hour), off(2 * hour), off(0)}, 0, false},
		"two of four":               {[]func([]byte) [][]byte{off(hour), off(hour), off(0), off(0)}, 0, false},
		"five of eight":             {[]func([]byte) [][]byte{off(hour), off(-hour), silent, off(0), off(0), off(0), off(0), off(0)}, 0, true},
	} {
		r, err := ask(t, client(t, c.servers...), time.Second)
		if (err == nil) != c.good || c.good && (r.Offset-c.want).Abs() > 100*time.Millisecond {
			t.Errorf("%s: %v %v, %d agree", name, r.Offset, err, r.Agree)
		}
		if err != nil && !errors.Is(err, sntp.ErrAgree) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ask(t, &sntp.Client{}, time.Second); err == nil {
		t.Error("no server at all")
	}
}

// TestKiss: who wants to be left alone is.
func TestKiss(t *testing.T) {
	asked := 0
	c := client(t, func(q []byte) [][]byte {
		asked++
		b := good(q, 0)
		b[1] = 0
		copy(b[12:], "DENY")
		return [][]byte{b}
	})
	for range 3 {
		if _, err := ask(t, c, 5*time.Second); !errors.Is(err, sntp.ErrKiss) {
			t.Error(err)
		}
	}
	if asked != 1 {
		t.Errorf("asked %d times", asked)
	}
}

// TestSilence: nobody waits longer than Limit for who never answers.
func TestSilence(t *testing.T) {
	start := time.Now()
	if _, err := client(t, silent).Ask(t.Context()); !errors.Is(err, sntp.ErrAgree) || time.Since(start) > 20*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}

// chrony is where the Makefile's deps unpacks Debian's package to: it is not installed,
// since that would put a daemon in charge of this machine's clock.
const chrony = "../../build/debian/usr/sbin/chronyd"

// TestChrony asks three real servers, which serve this machine's clock without touching it (-x).
func TestChrony(t *testing.T) {
	program, err := filepath.Abs(chrony)
	must(t, err)
	self, err := user.Current()
	must(t, err)
	c := &sntp.Client{Dial: new(net.Dialer).DialContext}
	for range 3 {
		folder := t.TempDir()
		probe, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		must(t, err)
		at := probe.LocalAddr().(*net.UDPAddr).AddrPort()
		probe.Close()
		daemon := exec.Command(program, "-x", "-d", "-U", "-u", self.Username, "-4", "local stratum 8", "allow 127.0.0.1", "bindaddress 127.0.0.1", "cmdport 0",
			fmt.Sprintf("port %d", at.Port()), "pidfile "+filepath.Join(folder, "pid"), "bindcmdaddress /")
		running, err := tied.Start(daemon)
		must(t, err)
		t.Cleanup(func() { daemon.Process.Kill(); <-running.Ended() })
		c.Servers = append(c.Servers, at)
	}
	var r *sntp.Result
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) { // until they serve
		if r, err = c.Ask(t.Context()); err == nil && r.Agree == 3 || time.Now().After(end) {
			break
		}
	}
	if err != nil || r.Agree != 3 || r.Offset.Abs() > r.Error+time.Second || r.Answers[0].Stratum != 8 {
		t.Fatalf("%+v, %v", r, err)
	}
	w := &world{at: time.Unix(0, 0)}
	k := sntp.NewClock(sntp.ClockConfig{Now: func() time.Time { return w.at }, Set: func(t time.Time) error { w.at = t; return nil },
		Up: func() time.Duration { return 0 }, Floor: time.Now().Add(-time.Hour)})
	if _, err := k.Network(r); err != nil || time.Until(w.at).Abs() > 5*time.Second || !k.Known() {
		t.Errorf("%v, %v", w.at, err)
	}
}
