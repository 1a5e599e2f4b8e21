//go:build !arm

package api

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nitro/net/audit"
	"nitro/net/policy"
)

// How much load there is: the Makefile's soak gives more. A log that is nearly full is
// witnessed and cleared on the way.
var (
	handshakes = flag.Int("handshakes", 500, "TLS handshakes of the load")
	requests   = flag.Int("requests", 5000, "requests of the load, with two audit records each")
)

// A usage is one status line of the firmware.
type usage struct {
	threads, goroutines, descriptors, live int
	pages                                  float64 // MiB
}

const usageLine = `controller: up \d+ s, [^\r]*\r\n`

// usage waits for the next line.
func (b *bench) usage(t *testing.T) (u usage) {
	t.Helper()
	b.Skip()
	line, err := b.Expect(usageLine, 3*time.Minute)
	must(t, err)
	_, text, _ := strings.Cut(line[0], "idle ")
	var idle, calls, interrupts int
	if _, err := fmt.Sscanf(text, "%d%%, %f MiB in use, %d threads, %d calls, %d interrupts, %d goroutines, %d descriptors, %d KiB live",
		&idle, &u.pages, &u.threads, &calls, &interrupts, &u.goroutines, &u.descriptors, &u.live); err != nil {
		t.Fatalf("%q: %v", line[0], err)
	}
	return u
}

// grew tells what is more than before, by more than chance: the last collection may have been
// in the middle of some requests, each of which has some 20 KiB.
func grew(before, after usage) (grown []string) {
	for _, c := range []struct {
		what                string
		before, after, more float64
	}{
		{"threads", float64(before.threads), float64(after.threads), 2},
		{"goroutines", float64(before.goroutines), float64(after.goroutines), 2},
		{"descriptors", float64(before.descriptors), float64(after.descriptors), 0},
		{"KiB of live heap", float64(before.live), float64(after.live), 512},
		{"MiB of pages", before.pages, after.pages, 4},
	} {
		if c.after > c.before+c.more {
			grown = append(grown, fmt.Sprintf("%s grew from %v to %v", c.what, c.before, c.after))
		}
	}
	return grown
}

// comesDown waits until nothing is more than before, for some lines, and gives the last. What
// is allocated while a collection runs counts as live, which is much when many ask; so between
// two lines one client alone asks, and has the board collect.
func (b *bench) comesDown(t *testing.T, before usage, lines int) (u usage, grown []string) {
	t.Helper()
	for range lines {
		u = b.usage(t)
		if grown = grew(before, u); grown == nil {
			break
		}
		for n := range 200 { // of some 40 KiB of garbage each; a collection comes every 4 MiB
			b.want(t, policy.Auditor, "GET", loadPaths[n%len(loadPaths)], "", 200)
		}
		b.leave()
	}
	return u, grown
}

// load does the handshakes and the requests: what goroutines, descriptors, heap and pages
// the board has in use must not grow. That a leak would be seen is seen by connections that
// are held: each keeps a goroutine and its buffers, as a leak would.
func (b *bench) load(t *testing.T) {
	warm := max(*requests/10, 100) // so that all pools have what they will keep
	b.ask(t, warm)
	b.shake(t, max(*handshakes/20, 10))
	b.leave()
	before, _ := b.comesDown(t, usage{}, 2) // anything is more than nothing: the second line counts
	start := time.Now()
	b.shake(t, *handshakes)
	shaken := time.Since(start)
	start = time.Now()
	b.ask(t, *requests)
	asked := time.Since(start)
	b.leave()
	after, grown := b.comesDown(t, before, 6)
	t.Logf("%d handshakes in %v, %d requests in %v\nbefore %+v\nafter  %+v", *handshakes, shaken, *requests, asked, before, after)
	for _, g := range grown {
		t.Error(g)
	}
	held := b.hold(t, 8)
	leaked := b.usage(t)
	for _, c := range held {
		c.Close()
	}
	if seen := strings.Join(grew(before, leaked), ", "); !strings.Contains(seen, "goroutines") {
		t.Errorf("8 connections were held, and the board has %+v, which is taken for nothing more than %+v", leaked, before)
	}
}

// hold opens connections on which one request has been answered.
func (b *bench) hold(t *testing.T, n int) (held []net.Conn) {
	t.Helper()
	for range n {
		c, err := b.Dial(t.Context(), anyServer())
		must(t, err)
		c.SetDeadline(time.Now().Add(2 * time.Minute))
		_, err = io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: board\r\n\r\n")
		must(t, err)
		_, err = http.ReadResponse(bufio.NewReader(c), nil)
		must(t, err)
		held = append(held, c)
	}
	return held
}

// loadClients is how many ask at a time.
const loadClients = 4

// inParallel has some goroutines do something so many times in all.
func inParallel(t *testing.T, times int, do func(n int) error) {
	t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for range loadClients {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= times {
					return
				}
				if err := do(n); err != nil {
					mu.Lock()
					defer mu.Unlock()
					errs = append(errs, fmt.Errorf("number %d of %d: %w", n, times, err))
					next.Add(int64(times))
					return
				}
			}
		})
	}
	wg.Wait()
	must(t, errs...)
}

// shake makes handshakes, with and without a certificate.
func (b *bench) shake(t *testing.T, times int) {
	t.Helper()
	pair, err := b.Factory.Clients.Certificate(policy.Operator, "load")
	must(t, err)
	configs := []*tls.Config{anyServer(), anyServer(pair)}
	inParallel(t, times, func(n int) error {
		c, err := b.Dial(t.Context(), configs[n%2])
		if err != nil {
			return err
		}
		return c.Close()
	})
}

// loadPaths are what the load asks for, by auditors, who may read everything.
var loadPaths = []string{hostPath, "/redfish/v1/Managers/controller", "/redfish/v1/Chassis/controller", auditPath, "/redfish/v1/UpdateService/FirmwareInventory"}

// ask makes requests on connections that are kept. Before the log is full the witness and
// the auditor see to it.
func (b *bench) ask(t *testing.T, times int) {
	t.Helper()
	// Two records each, and what comes behind the last checkpoint cannot be cleared.
	const burst = audit.DefaultSegments * audit.SegmentRecords / 8
	client, err := b.Client(policy.Auditor, loadClients)
	must(t, err)
	defer client.CloseIdleConnections()
	for left := times; left > 0; left -= burst {
		if times > burst {
			b.clearLog(t)
		}
		inParallel(t, min(burst, left), func(n int) error {
			a, err := b.by(client, "GET", loadPaths[n%len(loadPaths)], "")
			if err == nil && a.status != 200 {
				err = fmt.Errorf("%d %s", a.status, a.text)
			}
			return err
		})
	}
}

// fullLog: who may not do something does not fill the log by asking for it. A log without
// room refuses what changes things or only reads, says what to do next, and still holds the
// host, shows the log, and lets itself be witnessed and cleared.
func (b *bench) fullLog(t *testing.T) {
	b.ak(t)
	before := b.records(t)
	b.askFor(t, policy.FleetVerifier, 1000, 403)
	if n := b.denials(t, before); n > 16 { // fewer where others have used up what all share
		t.Errorf("1,000 denials of one principal are %d records", n)
	}
	room := b.want(t, policy.Auditor, "GET", auditPath, "", 200).object(t)
	t.Logf("the log has %d records, of %v", b.records(t), room["MaxNumberOfRecords"])
	for end := time.Now().Add(20 * time.Minute); b.askFor(t, policy.Operator, 500, 200, 503) != 503; {
		if time.Now().After(end) {
			t.Fatal("the log is not full")
		}
	}
	full := b.want(t, policy.Operator, "POST", resetPath, `{"ResetType":"On"}`, 503)
	if full.header.Get("Retry-After") != "60" || !strings.Contains(string(full.text), "code 802") || !strings.Contains(string(full.text), "witnessed and cleared") {
		t.Errorf("no next step in %v %s", full.header, full.text)
	}
	b.want(t, policy.Operator, "POST", resetPath, `{"ResetType":"ForceOff"}`, 204)
	b.want(t, policy.FleetVerifier, "GET", hostPath, "", 403)
	b.want(t, "", "GET", "/v1/status", "", 200)
	b.want(t, policy.Auditor, "POST", auditPath+"/Actions/LogService.ClearLog", "", 409)
	b.clearLog(t)
	b.want(t, policy.Operator, "GET", hostPath, "", 200)
	b.want(t, policy.Operator, "POST", resetPath, `{"ResetType":"On"}`, 409)
	b.unharmed(t)
}

// denials are the records that there are, from one on, of what the fleet verifier was denied.
func (b *bench) denials(t *testing.T, from int) (n int) {
	t.Helper()
	for seen := from; ; {
		o := b.want(t, policy.Auditor, "GET", fmt.Sprintf("%s/Entries?$skip=%d&$top=200", auditPath, seen), "", 200).object(t)
		members, _ := o["Members"].([]any)
		for _, m := range members {
			r, err := audit.DecodeRecord([]byte(fmt.Sprint(m.(map[string]any)["Message"])))
			must(t, err)
			if r.Kind == audit.KindDenied && strings.Contains(r.Who, "/"+string(policy.FleetVerifier)+"/") {
				n++
			}
		}
		if seen += len(members); len(members) < 200 {
			return n
		}
	}
}

// askFor has a role ask for the host so many times, and gives the last status that came of it:
// another one than those that are named is a failure.
func (b *bench) askFor(t *testing.T, role policy.Role, times int, statuses ...int) int {
	t.Helper()
	client, err := b.Client(role, loadClients)
	must(t, err)
	defer client.CloseIdleConnections()
	var last atomic.Int64
	inParallel(t, times, func(int) error {
		a, err := b.by(client, "GET", hostPath, "")
		if err == nil && !slices.Contains(statuses, a.status) {
			err = fmt.Errorf("%d %s", a.status, a.text)
		}
		if err == nil {
			last.Store(int64(a.status))
		}
		return err
	})
	return int(last.Load())
}
