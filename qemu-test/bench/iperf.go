package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"
)

// A direction is which end sends.
type direction string

const (
	boardSends    direction = "board sends"
	boardReceives direction = "board receives"
)

const (
	iperfTime  = 3 * time.Second // of one measurement
	iperfGrace = time.Minute     // how long a server may take to be there, Linux's boot included
)

// inFlight is the most that can have been sent and not received at the end of a
// measurement: what lies in the sockets of this machine, of the emulator and of the
// guest. Linux gives a socket up to 4 MiB to send and 6 MiB to receive.
const inFlight = 16 << 20

// throughput measures once, in Mbit/s. A server that is not there yet, or not again
// after its previous client (iperf3 opens its port anew for each), is tried again.
func (s *server) throughput(ctx context.Context, way direction) (float64, error) {
	for end := time.Now().Add(iperfGrace); ; {
		v, err := s.once(ctx, way)
		if err == nil {
			return v, nil
		}
		if !errors.Is(err, errNotThere) || ctx.Err() != nil || time.Now().After(end) {
			return 0, fmt.Errorf("%s, %s: %w", s.name, way, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// errNotThere says that nobody answered the client.
var errNotThere = errors.New("nobody answers")

// once runs the client.
func (s *server) once(ctx context.Context, way direction) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, iperfTime+iperfGrace)
	defer cancel()
	args := []string{"--client", "127.0.0.1", "--port", strconv.Itoa(s.port), "--time", fmt.Sprint(iperfTime.Seconds()), "--json"}
	if way == boardSends {
		args = append(args, "--reverse")
	}
	out, err := exec.CommandContext(ctx, "iperf3", args...).Output() // it says what failed in its output
	if errors.Is(err, exec.ErrNotFound) {
		return 0, fmt.Errorf("%w: run make deps", err)
	}
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	return parseIperf(out)
}

// parseIperf reads the client's result and gives what the receiver got, in Mbit/s.
func parseIperf(text []byte) (float64, error) {
	var r struct {
		Error string `json:"error"`
		End   struct {
			Sent struct {
				Bytes float64 `json:"bytes"`
			} `json:"sum_sent"`
			Received struct {
				Bytes float64 `json:"bytes"`
				Rate  float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(text, &r); err != nil {
		return 0, fmt.Errorf("iperf3: %w: %.500q", err, text)
	}
	sent, received := r.End.Sent.Bytes, r.End.Received.Bytes
	switch {
	case strings.Contains(r.Error, "unable to connect"), strings.Contains(r.Error, "unable to receive control message"),
		strings.Contains(r.Error, "unable to send cookie"), strings.Contains(r.Error, "server is busy"):
		return 0, fmt.Errorf("iperf3: %w: %s", errNotThere, r.Error)
	case r.Error != "":
		return 0, fmt.Errorf("iperf3: %s", r.Error)
	case received <= 0 || received > sent || sent-received > inFlight:
		return 0, fmt.Errorf("iperf3: %.0f bytes sent, %.0f received", sent, received)
	}
	return r.End.Received.Rate / 1e6, nil
}
