package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

var hostGroup = &group{"host", "the server behind a board", []*command{
	{
		name:    "status",
		summary: "how the host stands",
		about: `
Shows whether the host has power and is held in reset, which cycle it is in, and why it is
held if it should not be.
`,
		example: "nitroctl host status -board 192.0.2.10 -pin TLS_KEY -cert ada.pem -key ada.key",
		setup:   hostStatus,
	},
	{
		name:    "reset",
		summary: "have the host begin anew",
		about: `
Holds the host in reset, verifies its firmware, and lets it go: Redfish's ForceRestart. What it
works on is lost. It waits until the host runs, and says why it does not.
`,
		example: "nitroctl host reset -board 192.0.2.10 -pin TLS_KEY -cert ada.pem -key ada.key",
		setup: func(f *flag.FlagSet) func(*call) (result, error) {
			return hostChange(f, func(*call) (string, error) { return "ForceRestart", nil })
		},
	},
	{
		name:    "power",
		summary: "have the host run, or not",
		args:    "on|off|shutdown",
		about: `
on verifies the firmware of a host that is held, and lets it go; off holds it in reset at once;
shutdown asks its operating system to end, and holds it when it has. It waits until that is so,
and says why it is not.
`,
		example: "nitroctl host power -board 192.0.2.10 -pin TLS_KEY -cert ada.pem -key ada.key on",
		setup: func(f *flag.FlagSet) func(*call) (result, error) {
			return hostChange(f, func(c *call) (string, error) {
				kinds := map[string]string{"on": "On", "off": "ForceOff", "shutdown": "GracefulShutdown"}
				if len(c.args) != 1 || kinds[c.args[0]] == "" {
					return "", usage("say on, off or shutdown")
				}
				return kinds[c.args[0]], nil
			})
		},
	},
}}

// Where the API has the host.
const (
	systemPath      = "/redfish/v1/Systems/host"
	systemResetPath = systemPath + "/Actions/ComputerSystem.Reset"
)

// hostPoll is how often the board is asked whether the host is as it should be, and hostBegins
// how long it may still tell why the host was held before.
const (
	hostPoll   = time.Second
	hostBegins = 10 * time.Second
)

// A hostInfo is how the host stands.
type hostInfo struct {
	Powered    bool       `json:"powered"`
	Held       bool       `json:"held"` // in reset
	Adopted    bool       `json:"adopted"`
	Cycle      uint64     `json:"cycle"`
	Why        string     `json:"why,omitempty"` // it is held, if it should not be
	Connection connection `json:"connection"`
}

// state says it in words.
func (h hostInfo) state() string {
	switch {
	case !h.Powered:
		return "has no power"
	case h.Held:
		return "is held in reset"
	case h.Adopted:
		return "runs, and ran when the controller started"
	}
	return "runs"
}

func (h hostInfo) print(w io.Writer) {
	table(w, [2]string{"host", h.state()}, [2]string{"cycle", fmt.Sprint(h.Cycle)}, [2]string{"why", printable(h.Why)})
	h.Connection.print(w)
}

// runs tells whether the host does.
func (h hostInfo) runs() bool { return h.Powered && !h.Held }

// host asks how the host stands.
func (r *remote) host() (hostInfo, error) {
	var o struct {
		Status struct {
			Conditions []struct{ Message string }
		}
		Oem struct {
			Nitro struct {
				Powered, Held, Adopted bool
				Cycle                  uint64
			}
		}
	}
	c, err := r.call(http.MethodGet, systemPath, nil, &o, http.StatusOK)
	if err != nil {
		return hostInfo{}, err
	}
	n := o.Oem.Nitro
	h := hostInfo{Powered: n.Powered, Held: n.Held, Adopted: n.Adopted, Cycle: n.Cycle, Connection: c}
	var why []string
	for _, c := range o.Status.Conditions {
		why = append(why, c.Message)
	}
	h.Why = strings.Join(why, "; ")
	return h, nil
}

// glance is host without what the board would record: by its status, which anybody may ask
// for. A board that guards no host holds it.
func (r *remote) glance() (hostInfo, error) {
	s, err := askStatus(r)
	if err != nil {
		return hostInfo{}, err
	}
	h := hostInfo{Held: true, Connection: s.Connection}
	if is := s.Host; is != nil {
		h.Powered, h.Held, h.Adopted, h.Cycle, h.Why = is.Power, !is.Running, is.Adopted, is.Cycle, is.Why
	}
	return h, nil
}

func hostStatus(f *flag.FlagSet) func(*call) (result, error) {
	board := apiFlags(f)
	return func(*call) (result, error) {
		r, err := board()
		if err != nil {
			return nil, err
		}
		h, err := r.host()
		if err != nil {
			return nil, err
		}
		return h, nil
	}
}

// hostChange makes a command that asks for a ResetType and waits for what it leads to.
func hostChange(f *flag.FlagSet, kind func(*call) (string, error)) func(*call) (result, error) {
	board := apiFlags(f)
	wait := f.Duration("wait", 5*time.Minute, "`time` that the host has to get there; 0s does not wait")
	return func(c *call) (result, error) {
		reset, err := kind(c)
		if err != nil {
			return nil, err
		}
		if *wait < 0 {
			return nil, usage("-wait %v: it cannot be less than nothing", *wait)
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		before, err := r.glance()
		if err != nil {
			return nil, err
		}
		if _, err := r.call(http.MethodPost, systemResetPath, map[string]string{"ResetType": reset}, nil, http.StatusNoContent); err != nil {
			return nil, err
		}
		return awaitHost(r, before, reset, *wait, c.say)
	}
}

// awaitHost waits until a reset has led to what it is for. One that ends with a host that runs
// has failed when the host is held for a reason.
func awaitHost(r *remote, before hostInfo, reset string, limit time.Duration, say func(string, ...any)) (result, error) {
	var there func(h hostInfo) bool
	switch reset {
	case "ForceRestart":
		there = func(h hostInfo) bool { return h.runs() && h.Cycle > before.Cycle }
	case "On":
		there = hostInfo.runs
	default:
		there = func(h hostInfo) bool { return !h.runs() }
	}
	said, began := "", time.Now()
	for ; ; time.Sleep(hostPoll) {
		h, err := r.glance()
		if err != nil {
			return nil, err
		}
		if limit == 0 || there(h) {
			return h, nil
		}
		old := h.Why == before.Why && time.Since(began) < hostBegins
		if h.Why != "" && !old && (reset == "On" || reset == "ForceRestart") {
			return h, advised{fmt.Errorf("the host is held: %s", printable(h.Why)), "nitroctl update status shows the host's firmware, nitroctl update push brings another one"}
		}
		if time.Since(began) > limit {
			return h, advised{errors.New("the host is not there after " + limit.String()), "nitroctl host status, or a longer -wait"}
		}
		if state := fmt.Sprintf("cycle %d: the host %s", h.Cycle, h.state()); state != said {
			say("%s", state)
			said = state
		}
	}
}
