package main

import (
	"errors"
	"strings"
	"testing"
)

func TestParseIperf(t *testing.T) {
	const good = `{"start":{"connected":[{"socket":5}]},"end":{"sum_sent":{"bytes":41000000},"sum_received":{"bytes":40000000,"bits_per_second":160000000}}}`
	for _, c := range []struct {
		text string
		rate float64
		says string
	}{
		{good, 160, ""},
		{strings.Replace(good, "41000000", "39999999", 1), 0, "39999999 bytes sent, 40000000 received"},
		{strings.Replace(good, "41000000", "99000000", 1), 0, "99000000 bytes sent"},
		{`{"end":{"sum_sent":{"bytes":5},"sum_received":{}}}`, 0, "0 received"},
		{`{"error":"unable to connect to server: Connection refused"}`, 0, errNotThere.Error()},
		{`{"error":"unable to receive control message: Connection reset by peer"}`, 0, errNotThere.Error()},
		{`{"start":{"connected":[]},"error":"control socket has closed unexpectedly"}`, 0, errNotThere.Error()},
		{`{"start":{"connected":[{"socket":5}]},"error":"control socket has closed unexpectedly"}`, 0, "iperf3: control socket has closed"},
		{``, 0, "unexpected end"},
	} {
		got, err := parseIperf([]byte(c.text))
		rate := got.rate
		said := ""
		if err != nil {
			said = err.Error()
		}
		if rate != c.rate || (c.says == "") != (err == nil) || !strings.Contains(said, c.says) {
			t.Errorf("%s: %v, %v; want %v, %q", c.text, rate, err, c.rate, c.says)
		}
		if again := c.says == errNotThere.Error(); errors.Is(err, errNotThere) != again {
			t.Errorf("%s: tried again: %v, want %v", c.text, !again, again)
		}
	}
}

// TestThroughput measures Linux in both directions, one after the other without a
// pause, as the bench does.
func TestThroughput(t *testing.T) {
	s, err := linuxServer(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.stop()
	for _, way := range []direction{boardSends, boardReceives} {
		first, second, err := compare(t.Context(), s, s, way, 1)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %.0f and %.0f Mbit/s", way, first, second)
		if first < 1 || second < 1 {
			t.Errorf("%s: %v and %v Mbit/s", way, first, second)
		}
	}
}
