package main

import (
	"flag"
	"fmt"
	"io"
	"net/http"

	"nitro/boot/code"
	"nitro/net/standing"
)

var statusGroup = &group{"status", "how a board stands", []*command{{
	summary: "ask a board how it stands",
	about: `
Asks a board for its status: whether it is in service and, if not, the code, what it means,
what to do next, and the incident that a ticket must name. The exit code is 0 if the board is
in service, else 1. The board answers anybody, and anybody could answer for it: the status
is as good as the connection. With -pin the key that answers must be the one that the
board's evidence has shown.
`,
	example: "nitroctl status -board 192.0.2.10 -pin 5f2a4d0c9e1b7a3384c6d5e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4",
	setup:   status,
}}}

// A statusInfo is a board's status.
type statusInfo struct {
	standing.Status
	Connection connection `json:"connection"`
}

func (s statusInfo) print(w io.Writer) {
	table(w, [2]string{"state", printable(s.State)}, [2]string{"board", printable(s.Status.Board)}, [2]string{"version", printable(s.Version)},
		[2]string{"slot", printable(s.Slot)}, [2]string{"development", yes(s.Development)}, [2]string{"emulated", yes(s.Emulated)},
		[2]string{"serves since", fmt.Sprintf("%d seconds", s.Seconds)})
	if h := s.Host; h != nil {
		printHost(w, h)
	}
	if q := s.Quarantine; q != nil {
		printReason(w, q.Reason)
		if q.Incident != 0 {
			table(w, [2]string{"incident", fmt.Sprint(q.Incident)}, [2]string{"ticket for", printable(q.Board)})
		}
	}
	s.Connection.print(w)
}

// printHost says how the host stands. What the codes mean this tool knows better than the
// board, if it knows them.
func printHost(w io.Writer, h *standing.Host) {
	state := printable(h.State)
	if h.Adopted {
		state += ", adopted"
	}
	table(w, [2]string{"host", fmt.Sprintf("%s, cycle %d", state, h.Cycle)}, [2]string{"host runs", yes(h.Running)}, [2]string{"host has power", yes(h.Power)})
	if h.Code != 0 {
		name, next := named(h.Code, "", "")
		table(w, [2]string{"host's code", fmt.Sprintf("%d %s: %s", h.Code, name, printable(h.Why))}, [2]string{"next", next})
	}
}

func printReason(w io.Writer, r standing.Reason) {
	name, next := named(r.Code, r.Name, r.Next)
	what := printable(r.What)
	if e, ok := code.Lookup(code.Code(r.Code)); ok {
		what = e.Sentence
	}
	table(w, [2]string{"code", fmt.Sprintf("%d %s, %s", r.Code, name, code.Code(r.Code).Class())}, [2]string{"meaning", what},
		[2]string{"the board says", printable(r.Detail)}, [2]string{"next", next})
}

// askStatus asks a board for its status.
func askStatus(r *remote) (s statusInfo, err error) {
	a, err := r.ask(http.MethodGet, "/v1/status", "", nil)
	if err == nil {
		err = a.refusal(http.StatusOK)
	}
	if err == nil {
		s.Connection = a.connection
		err = a.decode(&s.Status)
	}
	return s, err
}

func status(f *flag.FlagSet) func(*call) (result, error) {
	board := remoteFlags(f)
	return func(*call) (result, error) {
		r, err := board()
		if err != nil {
			return nil, err
		}
		s, err := askStatus(r)
		if err != nil {
			return nil, err
		}
		return s, outOfService(s.Status)
	}
}

// outOfService is the error of a board that is not in service.
func outOfService(s standing.Status) error {
	switch {
	case s.State == standing.InService:
		return nil
	case s.State == standing.Unprovisioned:
		return code.NotProvisioned.Errorf("the board is not provisioned")
	case s.Quarantine == nil:
		return fmt.Errorf("the board is in a state that this tool does not know: %s", printable(s.State))
	}
	return reasonError("the board is in quarantine", s.Quarantine.Reason)
}

// reasonError is the error of a board's reason.
func reasonError(what string, r standing.Reason) error {
	k := code.Code(r.Code)
	if _, ok := code.Lookup(k); ok {
		return k.Errorf("%s", what)
	}
	_, next := named(r.Code, r.Name, r.Next)
	return advised{fmt.Errorf("%s, code %d: %s", what, r.Code, printable(r.Detail)), next}
}
