package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"nitro/boot/code"
	"nitro/net/audit"
	"nitro/net/https"
	"nitro/net/redfish"
	"nitro/net/standing"
	"nitro/resetctl"
	"nitro/resetctl/cycle"
)

// routes are all that the board serves: to anybody how it stands, with its evidence, and
// to who has a certificate of the owner's the API. A board that is not provisioned, or
// that has no configuration, knows nobody and has no API.
func (f *firmware) routes(id uint64) []https.Route {
	routes := []https.Route{
		{Pattern: "GET /healthz", Handler: http.HandlerFunc(f.health), Body: 1, Open: true},
		{Pattern: "/v1/", Handler: standing.Handler(f), Body: standing.MaxBody, Open: true},
	}
	if !f.chain.Provisioned || f.chain.Config == nil {
		return routes
	}
	service := redfish.New(f.resources(id))
	return append(routes,
		https.Route{Pattern: "/redfish", Handler: service, Body: redfish.MaxBody + 1},
		https.Route{Pattern: "/redfish/", Handler: service, Body: redfish.MaxBody + 1}) // so that the service says what is too much
}

// resources are the API's backends, as far as the board has what is behind them.
func (f *firmware) resources(id uint64) redfish.Config {
	c := redfish.Config{
		UUID: serviceUUID(id), Product: f.board.Name(), Controller: controllerAPI{f, id}, Firmware: newFirmwareAPI(f), Access: accessAPI{f},
		Gate: &redfish.Gatekeeper{Policy: f.policySet, Mode: f.mode, Audit: &f.records},
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
		}
	})
}

// clientTime is the time by which clients' certificates are valid. While the time is not
// known it is the earliest that it can be, so that somebody can come in and set it.
func (f *firmware) clientTime() time.Time {
	now := time.Now()
	if floor := f.timeFloor(); now.Before(floor) {
		return floor
	}
	return now
}

// timeFloor is a time that has passed for sure: when the configuration was signed.
func (f *firmware) timeFloor() time.Time {
	if f.chain.Config == nil {
		return time.Unix(0, 0)
	}
	return time.Unix(int64(f.chain.Config.Header.Built), 0)
}

// showIdentity sets what TLS shows, and whom it knows.
func (f *firmware) showIdentity() {
	id := &https.Identity{Certificate: f.certificate}
	if f.chain.Provisioned && f.chain.Config != nil {
		id.CAs = f.chain.Config.Operators
	}
	f.identity.Store(id)
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

// Bounds of what a client may set the time to.
const (
	timeStep = 5 * time.Minute           // from a time that is known
	timeSpan = 20 * 365 * 24 * time.Hour // from the floor
)

// SetTime implements redfish.Controller. It answers who moves the clock to where an expired
// certificate is valid: once it is known the time moves in small steps.
func (a controllerAPI) SetTime(_ context.Context, t time.Time) error {
	from, to := a.f.timeFloor(), a.f.timeFloor().Add(timeSpan)
	if now, known := a.f.now(); known {
		from, to = now.Add(-timeStep), now.Add(timeStep)
	}
	if t.Before(from) || t.After(to) {
		e := redfish.Refuse(http.StatusBadRequest, "PropertyValueFormatError", t.UTC().Format(time.RFC3339), "DateTime")
		e.Next = fmt.Sprintf("Set a time from %s to %s.", from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))
		return e
	}
	ts := unix.NsecToTimespec(t.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &ts); err != nil {
		return fmt.Errorf("setting the kernel's clock: %w", err)
	}
	if err := a.f.board.Clock().Set(t); err != nil {
		log.Printf("the clock on the battery: %v", err) // the next boot will ask again
	}
	a.f.clockKnown.Store(true)
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
		state.Fault = h.Why
	}
	return state
}

// requests are Redfish's ResetTypes in the words of the host's control.
var requests = map[string]cycle.Request{
	"On": cycle.AskOn, "ForceOff": cycle.AskHold, "ForceRestart": cycle.AskReset, "GracefulShutdown": cycle.AskOff,
}

// hostLimit is how long the host's control may take to answer that it has begun.
const hostLimit = 10 * time.Second

// Reset implements redfish.Host.
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
	ctx, cancel := context.WithTimeout(ctx, hostLimit)
	defer cancel()
	err := c.Ask(ctx, requests[kind])
	if err == nil {
		return nil
	}
	e := redfish.Refuse(http.StatusConflict, "ResourceInUse")
	if k, known := code.Lookup(code.Of(err)); known {
		e.Next = fmt.Sprintf("Code %d: %s %s", uint16(code.Of(err)), k.Sentence, k.Next)
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
	key := a.f.certificate.PrivateKey
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject, DNSNames: names}, key)
	if err != nil {
		return "", refuseParameter("AlternativeNames", "CertificateService.GenerateCSR", err.Error())
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// maxChain is how many certificates a chain may have.
const maxChain = 5

// Replace implements redfish.Access: TLS shows another chain for the key of this boot, until
// the next boot makes another key. Open connections stay.
func (a accessAPI) Replace(_ context.Context, _, chain string) error {
	refuse := func(why string) error {
		return refuseParameter("CertificateString", "CertificateService.ReplaceCertificate", why)
	}
	next := a.f.certificate
	next.Certificate, next.Leaf = nil, nil
	for rest := []byte(chain); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil || block.Type != "CERTIFICATE" || len(next.Certificate) == maxChain {
			return refuse("Send 1 to 5 PEM blocks CERTIFICATE, the board's first.")
		}
		if next.Leaf == nil {
			next.Leaf = c
		}
		next.Certificate = append(next.Certificate, c.Raw)
	}
	own, ok := next.PrivateKey.(*ecdsa.PrivateKey)
	if next.Leaf == nil || !ok || !own.PublicKey.Equal(next.Leaf.PublicKey) {
		return refuse("The first certificate must be for the key of this boot: ask for a signing request by GenerateCSR.")
	}
	id := *a.f.identity.Load()
	id.Certificate = next
	a.f.identity.Store(&id)
	return nil
}

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
