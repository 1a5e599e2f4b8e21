package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"time"
)

// A direction is which end sends.
type direction string

const (
	boardSends    direction = "board sends"
	boardReceives direction = "board receives"
)

const (
	iperfTime  = 3 * time.Second // of one measurement by time
	iperfLimit = 2 * time.Minute // of one measurement by bytes
	iperfGrace = 2 * time.Minute // how long a server may take to be there, Linux's boot under a plugin included
)

// An amount is how much the client transfers: an option of iperf3 and its value.
type amount [2]string

var byTime = amount{"--time", fmt.Sprint(iperfTime.Seconds())}

func byBytes(n int) amount { return amount{"--bytes", strconv.Itoa(n)} }

// A transfer is what the receiver counted.
type transfer struct {
	bytes float64
	rate  float64 // Mbit/s
}

// inFlight is the most that can have been sent and not received at the end of a
// measurement: what lies in the sockets of this machine, of the emulator and of the
// guest. Linux gives a socket up to 4 MiB to send and 6 MiB to receive.
const inFlight = 16 << 20

// transfer runs the client. A server that is not there yet, or not again after its
// previous client (iperf3 opens its port anew for each), is tried again.
func (s *server) transfer(ctx context.Context, way direction, much amount) (transfer, error) {
	for end := time.Now().Add(iperfGrace); ; {
		t, err := s.once(ctx, way, much)
		if err == nil {
			return t, nil
		}
		if !errors.Is(err, errNotThere) || ctx.Err() != nil || time.Now().After(end) {
			return t, fmt.Errorf("%s, %s: %w", s.name, way, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// errNotThere says that nobody answered the client.
var errNotThere = errors.New("nobody answers")

// once runs the client once.
func (s *server) once(ctx context.Context, way direction, much amount) (transfer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, iperfLimit, fmt.Errorf("limit of %v passed", iperfLimit))
	defer cancel()
	args := []string{"--client", "127.0.0.1", "--port", strconv.Itoa(s.port), much[0], much[1], "--json"}
	if way == boardSends {
		args = append(args, "--reverse")
	}
	out, err := exec.CommandContext(ctx, "iperf3", args...).Output() // it says what failed in its output
	if errors.Is(err, exec.ErrNotFound) {
		return transfer{}, fmt.Errorf("%w: run make deps", err)
	}
	if ctx.Err() != nil {
		return transfer{}, context.Cause(ctx)
	}
	return parseIperf(out)
}

// parseIperf reads the client's result and gives what the receiver got.
func parseIperf(text []byte) (transfer, error) {
	var r struct {
		Error string `json:"error"`
		Start struct {
			Connected []any `json:"connected"`
		} `json:"start"`
		End struct {
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
		return transfer{}, fmt.Errorf("iperf3: %w: %.500q", err, text)
	}
	sent, received := r.End.Sent.Bytes, r.End.Received.Bytes
	switch {
	case r.Error != "" && len(r.Start.Connected) == 0: // no stream: the server was not ready for one
		return transfer{}, fmt.Errorf("iperf3: %w: %s", errNotThere, r.Error)
	case r.Error != "":
		return transfer{}, fmt.Errorf("iperf3: %s", r.Error)
	case received <= 0 || received > sent || sent-received > inFlight:
		return transfer{}, fmt.Errorf("iperf3: %.0f bytes sent, %.0f received", sent, received)
	}
	return transfer{bytes: received, rate: r.End.Received.Rate / 1e6}, nil
}
