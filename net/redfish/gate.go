package redfish

import (
	"maps"
	"net/http"
	"strconv"
	"sync"
	"time"

	"nitro/net/audit"
	"nitro/net/policy"
)

// retryUnrecorded is when to ask again what could not be recorded, in seconds.
const retryUnrecorded = 60

// A Gatekeeper is the Gate of a board: the principal from the TLS client certificate, the
// policy set in force, and the audit log or quarantine's ring.
type Gatekeeper struct {
	Policy func() *policy.Set // may change while the board runs
	Mode   func() policy.Mode
	Audit  audit.Recorder

	mu      sync.Mutex
	scraped map[string]time.Time // when a principal's reading of the metrics was recorded last
}

// Readings of the metrics are recorded once in a while for each principal: a collector
// that asks four times a minute would fill the log in three days (docs/audit.md).
const (
	scrapeEach = time.Hour
	scrapers   = 32 // principals that are remembered; of more each reading is recorded
)

// scrape tells whether a principal's reading of the metrics has been recorded of late, so
// that this one need not be.
func (g *Gatekeeper) scrape(who string, now time.Time) (recorded bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if last, ok := g.scraped[who]; ok && now.Sub(last) < scrapeEach {
		return true
	}
	if g.scraped == nil {
		g.scraped = map[string]time.Time{}
	}
	maps.DeleteFunc(g.scraped, func(_ string, last time.Time) bool { return now.Sub(last) >= scrapeEach })
	if len(g.scraped) < scrapers {
		g.scraped[who] = now
	}
	return false
}

// Stranger answers who has shown no client certificate (DSP0266 13.2). It reads nothing of
// the request.
func Stranger(w http.ResponseWriter, _ *http.Request) {
	e := Refuse(http.StatusUnauthorized, "NoValidSession")
	e.Next = noPrincipal
	w.Header().Set("OData-Version", "4.0")
	e.write(w)
}

const noPrincipal = "Present a client certificate with exactly one URI spiffe://<owner>/<role>/<name>, from a CA that the policy set lets give that role."

// identify says who asks, or counts that it is not known.
func (g *Gatekeeper) identify(r *http.Request) (*policy.Set, policy.Principal, *Error) {
	set := g.Policy()
	if set == nil || r.TLS == nil {
		g.Audit.Count(func(c *audit.Counters) { c.Principal++ })
		return nil, policy.Principal{}, Refuse(http.StatusUnauthorized, "NoValidSession")
	}
	p, err := set.Identify(r.TLS.VerifiedChains)
	if err != nil {
		g.Audit.Count(func(c *audit.Counters) { c.Principal++ })
		e := Refuse(http.StatusUnauthorized, "NoValidSession")
		e.Next = noPrincipal
		return nil, policy.Principal{}, e
	}
	return set, p, nil
}

// request is what the policy is asked.
func (g *Gatekeeper) request(p policy.Principal, a Ask) policy.Request {
	return policy.Request{Principal: p, Action: a.Route.Action, Resource: policy.Resource{Type: a.Route.On, ID: a.Resource}, Reset: a.Reset, Mode: g.Mode()}
}

// Admit implements Gate.
func (g *Gatekeeper) Admit(r *http.Request, a Ask) (func(int, string), *Error) {
	set, p, e := g.identify(r)
	if e != nil {
		return nil, e
	}
	request := g.request(p, a)
	d := set.Decide(request)
	entry := audit.Entry{Who: p.String(), Action: string(a.Route.Action), Type: string(a.Route.On), Resource: a.Resource,
		Method: r.Method, Reset: a.Reset, Why: d.String(), Relief: request.Relief()}
	if !d.Allowed {
		_ = g.Audit.Deny(entry) // refused in any case; the recorder counts what it cannot record
		e := Refuse(http.StatusForbidden, "InsufficientPrivilege")
		e.Next = "Ask the owner's policy why (" + d.String() + ")."
		return nil, e
	}
	if request.Action == policy.ReadMetrics && g.scrape(entry.Who, time.Now()) {
		return func(int, string) {}, nil
	}
	token, err := g.Audit.Begin(entry, request.Safe())
	if err != nil {
		e := Refuse(http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", strconv.Itoa(retryUnrecorded))
		e.RetryAfter = retryUnrecorded
		e.Next = "The request cannot be recorded (code 802): have the audit log witnessed and cleared, or the card checked. That, and holding the host, is possible all the same."
		return nil, e
	}
	return func(status int, detail string) {
		_ = token.End(audit.Outcome{Status: status, Detail: detail}) // what was done is done; the log counts the gap
	}, nil
}

// Who implements Gate.
func (g *Gatekeeper) Who(r *http.Request) string {
	set := g.Policy()
	if set == nil || r.TLS == nil {
		return ""
	}
	p, err := set.Identify(r.TLS.VerifiedChains)
	if err != nil {
		return ""
	}
	return p.String()
}

// Permits implements Gate.
func (g *Gatekeeper) Permits(r *http.Request, a Ask) bool {
	set := g.Policy()
	if set == nil || r.TLS == nil {
		return false
	}
	p, err := set.Identify(r.TLS.VerifiedChains)
	return err == nil && set.Decide(g.request(p, a)).Allowed
}

// Unrouted implements Gate: what has no route is no action, and only counted.
func (g *Gatekeeper) Unrouted(*http.Request, int) {
	g.Audit.Count(func(c *audit.Counters) { c.Request++ })
}
