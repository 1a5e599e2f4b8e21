package main

import (
	"context"
	"crypto"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strings"
	"time"

	"nitro/boot/code"
	"nitro/net/audit"
	"nitro/net/https"
	"nitro/net/redfish"
	"nitro/net/sntp"
	"nitro/net/standing"
	"nitro/resetctl"
	"nitro/resetctl/cycle"
)

// routes are all that the board serves: to anybody how it stands, with its evidence, and
// to who has a certificate of the owner's the API. A board that is not provisioned, or
// that has no configuration, knows nobody and has no API.
func (f *firmware) routes(id uint64) []https.Route {
	routes := []https.Route{
		{Pattern: "GET /healthz", Handler: f.requests.Count("health", http.HandlerFunc(f.health)), Body: 1, Open: true},
		{Pattern: "/v1/", Handler: f.requests.Count("standing", standing.Handler(f)), Body: standing.MaxBody, Open: true},
	}
	if f.updates == nil {
		return routes
	}
	service := redfish.New(f.resources(id))
	api := f.requests.Count("redfish", service)
	return append(routes,
		https.Route{Pattern: redfish.UploadPath, Handler: f.requests.Count("upload", service), Body: redfish.MaxUpload, Upload: uploadLimit},
		https.Route{Pattern: redfish.MetricsPath, Handler: f.requests.Count("metrics", service), Body: 1},
		https.Route{Pattern: redfish.RingPath, Handler: f.requests.Count("ring", service), Body: 1},
		https.Route{Pattern: "/redfish", Handler: api, Body: redfish.MaxBody + 1},
		https.Route{Pattern: "/redfish/", Handler: api, Body: redfish.MaxBody + 1}) // so that the service says what is too much
}

// uploadLimit is how long a package may be on its way.
const uploadLimit = 30 * time.Minute

// resources are the API's backends, as far as the board has what is behind them.
func (f *firmware) resources(id uint64) redfish.Config {
	c := redfish.Config{
		UUID: serviceUUID(id), Product: f.board.Name(), Controller: controllerAPI{f, id}, Firmware: f.updates, Tasks: f.updates, Access: accessAPI{f},
		Gate: &redfish.Gatekeeper{Policy: f.policySet, Mode: f.mode, Audit: &f.records}, Metrics: f, Ring: &f.records,
	}
	if b := f.board.HostLines(); b != nil {
		c.Host = hostAPI{f, linesOf(b)}
	}
	if v := f.volumes.Load(); v != nil && c.Host != nil {
		c.Storage = volumesAPI{v, f}
	}
	if f.chain.Session != nil {
		c.Evidence = newEvidenceAPI(f)
	}
	if f.log != nil {
		c.Log = f.log
	}
	return c
}

// failed counts who does not get as far as the gate.
func (f *firmware) failed(why https.Failure) {
	f.records.Count(func(c *audit.Counters) {
		switch why {
		case https.Handshake:
			c.TLS++
		case https.NoCertificate:
			c.Certificate++
		case https.Crowded:
			c.Busy++
		case https.Path:
			c.Request++
		}
	})
}

// clientTime is the time by which clients' certificates are valid. While the time is not
// known it is the earliest that it can be, so that somebody can come in and set it.
func (f *firmware) clientTime() time.Time {
	now := time.Now()
	if floor := f.clock.Floor(); now.Before(floor) {
		return floor
	}
	return now
}

// showIdentity sets what TLS shows, and whom it knows.
func (f *firmware) showIdentity() {
	f.show(func(id *https.Identity) {
		id.Certificate = f.certificate
		if f.chain.Provisioned {
			f.know(id)
		}
	})
}

// know has TLS know the clients of the configuration in force.
func (f *firmware) know(id *https.Identity) {
	if c := f.chain.Configuration(); c != nil {
		id.CAs, id.Revokes = c.Operators, c.Revokes
	}
}

// show puts another identity in place: the one that is there, but for what change does.
func (f *firmware) show(change func(*https.Identity)) {
	f.showing.Lock()
	defer f.showing.Unlock()
	var id https.Identity
	if now := f.identity.Load(); now != nil {
		id = *now
	}
	change(&id)
	f.identity.Store(&id)
}

// A controllerAPI is the board itself.
type controllerAPI struct {
	f  *firmware
	id uint64
}

// Controller implements redfish.Controller.
func (a controllerAPI) Controller() redfish.ControllerState {
	s := redfish.ControllerState{Version: a.f.version, Serial: fmt.Sprintf("%016x", a.id)}
	if now, known := a.f.now(); known {
		s.Time = now
	}
	if why := a.f.reason(); why != nil {
		s.Quarantine = code.Of(why).String()
	}
	return s
}

// Restart implements redfish.Controller.
func (a controllerAPI) Restart(context.Context) error {
	a.f.restartAfter(restartDelay, "it was asked for")
	return nil
}

// SetTime implements redfish.Controller. It answers who moves the clock to where an ended
// certificate is valid: once it is known the time moves in small steps (docs/time.md).
func (a controllerAPI) SetTime(_ context.Context, t time.Time) error {
	err := a.f.clock.Owner(t)
	var bound *sntp.Bound
	switch {
	case errors.As(err, &bound):
		e := redfish.Refuse(http.StatusBadRequest, "PropertyValueFormatError", t.UTC().Format(time.RFC3339), "DateTime")
		e.Next = fmt.Sprintf("Set a time from %s to %s.", bound.From.UTC().Format(time.RFC3339), bound.To.UTC().Format(time.RFC3339))
		return e
	case err != nil && !a.f.clock.Known():
		return err
	case err != nil: // battery or store: the next boot asks again
		log.Printf("%v", err)
	}
	return nil
}

// A hostAPI is the server.
type hostAPI struct {
	f     *firmware
	lines *resetctl.Lines
}

// Host implements redfish.Host. What is held is what pins show.
func (a hostAPI) Host() redfish.HostState {
	c := a.f.host.Load()
	if c == nil {
		v, err := a.lines.Look()
		s := redfish.HostState{Powered: v.Power, Held: true}
		if err != nil {
			s.Fault = "The host's lines cannot be read."
		}
		return s
	}
	s := c.Status()
	state := redfish.HostState{Powered: s.View.Power, Held: !s.View.Running(), Adopted: s.State.Adopted, Cycle: s.State.Cycle}
	if h := a.f.hostStatus(); h != nil {
		state.Phase, state.Code, state.Fault = h.State, h.Code, h.Why
	}
	if facts := a.f.hostFacts.Load(); facts != nil {
		state.Cause, state.Parts = facts.cause.String(), facts.parts
	}
	return state
}

// requests are Redfish's ResetTypes in the words of the host's control.
var requests = map[string]cycle.Request{
	"On": cycle.AskOn, "ForceOff": cycle.AskHold, "ForceRestart": cycle.AskReset, "GracefulShutdown": cycle.AskOff,
}

// hostLimit is how long the host's control may take to answer that it has begun.
const hostLimit = 10 * time.Second

// Reset implements redfish.Host. A host whose firmware does not verify and could not be
// recovered stays as it is: no cycle could end otherwise, and a client that is answered with
// success waits for a host that never comes. A golden copy that was written since, or who
// asks for ForceOff in between, has it tried anew.
func (a hostAPI) Reset(ctx context.Context, kind string) error {
	c := a.f.host.Load()
	if c == nil {
		if kind == "ForceOff" { // it is held
			return nil
		}
		e := redfish.Refuse(http.StatusConflict, "ResourceInStandby")
		e.Next = "This board guards no host: have the owner's configuration name one (docs/medium.md, host)."
		return e
	}
	if s := c.Status().State; s.Phase == cycle.Held && s.Why == code.HostFirmware && releases(kind) && !a.f.hostRenewed.Load() {
		e := hostRefusal(s.Why)
		e.Next += " To have what is there verified once more, ask for ForceOff first."
		return e
	}
	ctx, cancel := context.WithTimeout(ctx, hostLimit)
	defer cancel()
	if err := c.Ask(ctx, requests[kind]); err != nil {
		return hostRefusal(code.Of(err))
	}
	return nil
}

// releases tells whether a ResetType ends with a host that runs.
func releases(kind string) bool { return kind == "On" || kind == "ForceRestart" }

// hostRefusal refuses a reset for the reason that a code says.
func hostRefusal(why code.Code) *redfish.Error {
	e := redfish.Refuse(http.StatusConflict, "ResourceInUse")
	if k, known := code.Lookup(why); known {
		e.Next = fmt.Sprintf("Code %d: %s %s", uint16(why), k.Sentence, k.Next)
	}
	return e
}

// An accessAPI is who may do what.
type accessAPI struct{ f *firmware }

// certificateID is the ID of what TLS shows.
const certificateID = "server"

// Certificates implements redfish.Access.
func (a accessAPI) Certificates() []redfish.Certificate {
	var text []byte
	for _, der := range a.f.identity.Load().Certificate.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return []redfish.Certificate{{ID: certificateID, Name: "HTTPS", PEM: string(text), Usage: []string{"Web"}}}
}

// Request implements redfish.Access. The key is this boot's, as PCR 8 has it.
func (a accessAPI) Request(_ context.Context, _ string, subject pkix.Name, names []string) (string, error) {
	der, err := https.Request(a.f.certificate.PrivateKey.(crypto.Signer), subject, names)
	if err != nil {
		return "", refuseParameter("AlternativeNames", "CertificateService.GenerateCSR", wrong(err))
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// Replace implements redfish.Access: TLS shows another chain for the key of this boot, until
// the next boot makes another key. No other key ever takes its place, since evidence vouches
// for this one. Open connections stay.
func (a accessAPI) Replace(_ context.Context, _, chain string) error {
	now, known := a.f.now()
	if !known {
		now = time.Time{}
	}
	next, err := https.Certified(a.f.certificate, chain, now)
	if err != nil {
		return refuseParameter("CertificateString", "CertificateService.ReplaceCertificate", wrong(err))
	}
	a.f.show(func(id *https.Identity) { id.Certificate = next })
	return nil
}

// wrong is what net/https has found wrong, for the client.
func wrong(err error) string { return strings.TrimPrefix(err.Error(), "https: ") }

// PolicyEpoch implements redfish.Access.
func (a accessAPI) PolicyEpoch() uint64 {
	if s := a.f.policySet(); s != nil {
		return s.Epoch
	}
	return 0
}

func refuseParameter(name, action, next string) error {
	e := redfish.Refuse(http.StatusBadRequest, "ActionParameterValueFormatError", "", name, action)
	e.Next = next
	return e
}
