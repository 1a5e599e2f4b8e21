package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"nitro/net/policy"
	"nitro/net/standing"
	"nitro/qemu-test/factory"
)

// A fakeHost is a board's API of a host, which takes some looks to get where it is asked to.
type fakeHost struct {
	mu             sync.Mutex
	powered, held  bool
	cycle          int
	why, bad       string // of being held; of a cycle that begins
	looks          int    // that the next change takes
	read           int    // times that what the board records was read
	pending, asked string
}

func (h *fakeHost) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h.mu.Lock()
	defer h.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	switch {
	case r.Method == "GET" && r.URL.Path == "/v1/status":
		if h.looks--; h.looks <= 0 {
			h.change()
		}
		json.NewEncoder(w).Encode(standing.Status{State: standing.InService, Host: &standing.Host{Power: h.powered, Running: h.powered && !h.held, Cycle: uint64(h.cycle), Why: h.why}})
	case r.Method == "GET" && r.URL.Path == systemPath:
		h.read++
		conditions := ""
		if h.why != "" {
			conditions = fmt.Sprintf(`"Conditions":[{"Message":%q}],`, h.why)
		}
		fmt.Fprintf(w, `{"Status":{%s"State":"Enabled"},"Oem":{"Nitro":{"Powered":%v,"Held":%v,"Adopted":false,"Cycle":%d}}}`, conditions, h.powered, h.held, h.cycle)
	case r.Method == "POST" && r.URL.Path == systemResetPath:
		text, _ := io.ReadAll(r.Body)
		var ask struct{ ResetType string }
		if err := json.Unmarshal(text, &ask); err != nil || h.asked == "refuse" {
			w.WriteHeader(http.StatusConflict)
			io.WriteString(w, `{"error":{"code":"Base.1.18.ResourceInUse","@Message.ExtendedInfo":[{"Message":"It is in use.","Resolution":"Code 708: wait."}]}}`)
			return
		}
		h.asked, h.pending, h.looks = ask.ResetType, ask.ResetType, 2
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// change does what is pending.
func (h *fakeHost) change() {
	switch h.pending {
	case "On", "ForceRestart":
		h.cycle++
		h.held, h.why = h.bad != "", h.bad
	case "ForceOff", "GracefulShutdown":
		h.held, h.why = true, ""
	}
	h.pending = ""
}

// TestHost: what is asked for is Redfish's, and the command ends when the host is there, or
// tells why it is not.
func TestHost(t *testing.T) {
	b := newBench(t)
	clients, err := factory.NewClients()
	must(t, err)
	pair, err := clients.Certificate(policy.Operator, "ada")
	must(t, err)
	b.savePair("client", pair)
	h := &fakeHost{powered: true, held: true, cycle: 3}
	address, pin := serve(t, selfSigned(t), h)
	as := " -cert @client.pem -key @client.key -board " + address + " -pin " + pin
	var s hostInfo
	for _, c := range []struct {
		line  string
		asked string
		runs  bool
		cycle uint64
	}{
		{"host status", "", false, 3}, {"host power on", "On", true, 4}, {"host reset", "ForceRestart", true, 5},
		{"host power shutdown", "GracefulShutdown", false, 5}, {"host power off", "ForceOff", false, 5},
	} {
		b.json(c.line+as, exitOK, &s)
		if h.asked != c.asked || s.runs() != c.runs || s.Cycle != c.cycle || !s.Connection.Verified {
			t.Errorf("%s: asked for %q, and has %+v", c.line, h.asked, s)
		}
	}
	if h.read != 1 {
		t.Errorf("the host was read %d times, each of them recorded: once was asked for", h.read)
	}
	if out := b.ok("host status" + as); !strings.Contains(out, "is held in reset") {
		t.Errorf("%s", out)
	}
	h.bad = "firmware of the host does not verify\x1b[2J"
	if p := b.json("host power on"+as, exitRefused, &s); !strings.HasPrefix(p.Message, "the host is held: firmware of the host does not verify") || strings.Contains(p.Message, "\x1b") || p.Next == "" {
		t.Errorf("%+v", p)
	}
	h.bad, h.looks = "", 0
	if b.json("host reset -wait 0s"+as, exitOK, &s); s.runs() {
		t.Errorf("it waits: %+v", s)
	}
	for line, says := range map[string]string{"host power": "say on, off", "host power up": "say on, off", "host reset -wait -1s": "-wait"} {
		if exit, _, said := b.run(line + as); exit != exitUsage || !strings.Contains(said, says) {
			t.Errorf("%s: %d %s", line, exit, said)
		}
	}
	h.asked = "refuse"
	if p := b.json("host reset"+as, exitRefused, nil); !strings.Contains(p.Next, "Code 708") {
		t.Errorf("%+v", p)
	}
}
