package provisioning

import (
	"context"
	"crypto/ecdsa"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/attest/identity"
	"nitro/attest/nv"
	"nitro/attest/provision"
	"nitro/attest/seal"
	"nitro/attest/tpm"
	"nitro/boot/code"
	"nitro/boot/config"
	"nitro/boot/handover"
	"nitro/boot/medium"
	"nitro/boot/pin"
	"nitro/boot/store"
)

// Port is where an unprovisioned board listens, as a net.Listen address.
const Port = ":4430"

// A Board is what provisioning needs of the board in this boot, which has measured itself
// and not capped PCR 7.
type Board struct {
	TPM      *tpm.TPM // started or attached; no salt key is pinned, no session open
	Device   medium.Device
	SoC      []byte            // derived from the SoC's secret, 32 bytes; not copied
	Strength handover.Strength // of it
	// Development: the board's anchor block marks it as development for ever.
	Development bool

	Config *config.Config
	// Log is this boot's, up to the event "identity" with the key of Certificate. The cap is
	// appended to it.
	Log *eventlog.Log
	// Certificate is this boot's, self-signed.
	Certificate tls.Certificate
	// Floor is the security version that the rollback floor is raised to: the lowest of
	// the images on the card.
	Floor uint32
	// Removable is what the removable security key gives, nil where the board has none.
	Removable []byte
}

// A Result is what a provisioned board has.
type Result struct {
	Pin           pin.Pin
	Envelope      []byte // board part
	AKCertificate []byte // DER
}

// A Server is the board's end in one boot. Its fields belong to who holds mu.
type Server struct {
	Board
	facts facts

	mu     sync.Mutex
	made   *provision.Result
	ak     tpm.Entity
	s      *tpm.Session // bound to the AK
	door   *seal.Door
	store  *store.Store
	auths  auths
	capped bool // PCR 7, in this boot
	broken bool // the store's state is known at the next mount only
	result *Result
}

// facts are those of the board that its log has.
type facts struct {
	board           eventlog.Event // PCR 1
	uniqueID        uint64
	securityVersion uint32
}

// New makes the board's end, or refuses: a board that is provisioned, or has another's
// card, or may not be provisioned. Every error has a code.
func New(b Board) (*Server, error) {
	_, _, err := pin.Read(b.Device, b.SoC)
	switch {
	case err == nil:
		return nil, code.AlreadyProvisioned.Errorf("provisioning: the card has this board's pin")
	case !errors.Is(err, pin.ErrNone):
		return nil, err
	case b.Config == nil || b.Config.Factory == nil:
		return nil, code.FactoryUnknown.Errorf("provisioning: the configuration has no factory certificate")
	case b.Strength != handover.OwnSecret && !b.Development:
		return nil, code.SecretIsTestKey.Errorf("provisioning: the SoC's secret is %v: %w", b.Strength, provision.ErrTestSecret)
	case len(b.Certificate.Certificate) == 0:
		return nil, code.ProvisioningFailed.Errorf("provisioning: this boot has no certificate")
	}
	f, err := factsOf(b.Log)
	if err != nil {
		return nil, code.ProvisioningFailed.Errorf("provisioning: %w", err)
	}
	return &Server{Board: b, facts: f}, nil
}

// factsOf reads the board's facts from a log.
func factsOf(l *eventlog.Log) (f facts, err error) {
	seen := map[string]bool{}
	for _, e := range l.Events() {
		switch e.Name() {
		case "board":
			f.board = e
			_, err = fmt.Sscanf(e.Value("unique-id"), "%x", &f.uniqueID)
		case "security-version":
			_, err = fmt.Sscan(e.Value("value"), &f.securityVersion)
		default:
			continue
		}
		if err != nil || seen[e.Name()] {
			return f, fmt.Errorf("the event log has %q twice, or malformed", e.Name())
		}
		seen[e.Name()] = true
	}
	if len(seen) != 2 {
		return f, errors.New("the event log has no board, or no security version")
	}
	return f, nil
}

// tlsConfig asks for the factory's certificate, and takes no other.
func (s *Server) tlsConfig() *tls.Config {
	want := s.Config.Factory.Raw
	return &tls.Config{
		Certificates:           []tls.Certificate{s.Certificate},
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequireAnyClientCert, // TLS has shown that the client has its key
		SessionTicketsDisabled: true,
		VerifyConnection: func(c tls.ConnectionState) error {
			if len(c.PeerCertificates) == 0 || subtle.ConstantTimeCompare(c.PeerCertificates[0].Raw, want) != 1 {
				return errors.New("provisioning: the certificate is not the configuration's factory certificate")
			}
			return nil
		},
	}
}

// errDone ends Serve when the board is provisioned.
var errDone = errors.New("provisioned")

// Serve answers connections until the board is provisioned, ctx ends, or this boot can
// not go on: then the error says so, and the way on is to restart the board. It closes
// the listener, the store, and all sessions, and zeroes what is secret.
func (s *Server) Serve(ctx context.Context, l net.Listener) (*Result, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	context.AfterFunc(ctx, func() { l.Close() })
	var handlers sync.WaitGroup
	slots := make(chan struct{}, maxWaiting)
	for ctx.Err() == nil {
		conn, err := l.Accept()
		if err != nil {
			cancel(fmt.Errorf("provisioning: %w", err))
			break
		}
		select {
		case slots <- struct{}{}:
		default:
			conn.Close()
			continue
		}
		handlers.Go(func() {
			defer func() { <-slots }()
			if err := s.serve(ctx, conn); err != nil {
				cancel(err)
			}
		})
	}
	l.Close()
	handlers.Wait()
	s.end()
	if err := context.Cause(ctx); !errors.Is(err, errDone) {
		return nil, err
	}
	return s.result, nil
}

// end forgets what this boot has opened.
func (s *Server) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.auths.zero()
	clear(s.ak.Auth)
	if s.store != nil && s.TPM.Lost() == nil {
		s.store.Close()
		s.store = nil
	}
	if s.s != nil && s.TPM.Lost() == nil {
		s.s.Close()
		s.s = nil
	}
}

// serve answers one connection. Its error ends the boot's provisioning.
func (s *Server) serve(ctx context.Context, raw net.Conn) error {
	defer raw.Close()
	stop := context.AfterFunc(ctx, func() { raw.Close() })
	defer stop()
	conn := tls.Server(raw, s.tlsConfig())
	shake, cancel := context.WithTimeout(ctx, handshake)
	defer cancel()
	if conn.HandshakeContext(shake) != nil {
		return nil // a stranger
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer conn.Close()
	t := &talk{Server: s}
	defer t.end()
	if t.result != nil {
		send(conn, handshake, refusal(Connect, code.AlreadyProvisioned.Errorf("provisioning: the board is provisioned, and restarts")), nil)
		return nil
	}
	if send(conn, handshake, message{Step: Connect}, nil) != nil {
		return nil
	}
	for _, step := range order {
		if ctx.Err() != nil {
			return nil
		}
		m, err := receive(conn, askLimit)
		if err != nil && !errors.Is(err, errMessage) {
			return nil // the connection broke
		}
		var answer any
		if err == nil {
			answer, err = t.step(step, m)
		}
		if err != nil {
			send(conn, handshake, refusal(step, err), nil)
			return s.fatal(err)
		}
		if send(conn, handshake, message{Step: step}, answer) != nil && s.result == nil {
			return nil
		}
	}
	return errDone
}

// refusal is the answer that says why not.
func refusal(s Step, err error) message {
	m := message{Step: s, Code: codeOf(err)}
	if coded := (*code.Error)(nil); errors.As(err, &coded) {
		err = coded.Err // or the other end would name the code twice
	}
	m.Error = printable(err.Error())
	return m
}

// fatal gives an error after which this boot cannot provision the board.
func (s *Server) fatal(err error) error {
	if s.TPM.Lost() != nil || s.capped && s.store == nil || s.broken {
		return fmt.Errorf("provisioning: restart the board: %w", err)
	}
	return nil
}

// A talk is one connection.
type talk struct {
	*Server
	approvals []seal.Approval // that the factory delivered
	draft     *golden.Draft
	signing   *identity.Signing
	env       []byte
}

// end gives up a signature that the owner has not approved.
func (t *talk) end() {
	if t.signing != nil && t.TPM.Lost() == nil {
		t.signing.Cancel()
	}
}

// step answers a question, which must be that of the step whose turn it is.
func (t *talk) step(want Step, m message) (any, error) {
	if m.Step != want || m.Code != code.None || m.Error != "" {
		return nil, fmt.Errorf("provisioning: step %q: %q is due: %w", printable(string(m.Step)), want, errMessage)
	}
	body := m.Body
	if body == nil {
		body = json.RawMessage("{}")
	}
	switch m.Step {
	case Hello:
		return ask(body, t.hello)
	case Prove:
		return ask(body, t.prove)
	case Seal:
		return ask(body, t.seal)
	case Close:
		return ask(body, t.close)
	case BoardPart:
		return ask(body, t.boardPart)
	case Sign:
		return ask(body, t.sign)
	default:
		return ask(body, t.commit)
	}
}

// ask decodes a question for the function that answers it.
func ask[Q, A any](body json.RawMessage, f func(Q) (A, error)) (any, error) {
	var q Q
	if err := decode(body, &q); err != nil {
		return nil, err
	}
	a, err := f(q)
	return a, err
}

// codes are those of errors that come without one, the first that fits.
var codes = []struct {
	err  error
	code code.Code
}{
	{errMessage, code.ProvisioningFailed},
	{tpm.ErrLost, code.TPMSessionLost},
	{provision.ErrLockedOut, code.TPMLockedOut},
	{provision.ErrForeign, code.TPMForeign},
	{provision.ErrTestSecret, code.SecretIsTestKey},
	{nv.ErrDefinition, code.TPMForeign},
	{nv.ErrValue, code.TPMFloorMissing},
	{identity.ErrCertificate, code.TPMEndorsement},
	{seal.ErrFloor, code.BelowFloor},
	{seal.ErrNotApproved, code.ApprovalMissing},
	{seal.ErrSignature, code.ApprovalMissing},
	{seal.ErrAuthority, code.SealedObjectMissing},
	{seal.ErrSet, code.SealedObjectMissing},
	{seal.ErrRefused, code.UnsealRefused},
	{store.ErrRolledBack, code.StoreRolledBack},
	{store.ErrWorn, code.StoreWorn},
	{store.ErrUnreadable, code.StoreUnreadable},
	{store.ErrDamaged, code.StoreDamaged},
	{store.ErrKey, code.StoreDamaged},
	{store.ErrNotFormatted, code.StoreDamaged},
	{store.ErrCounter, code.StoreDamaged},
	{store.ErrNotFound, code.StoreDamaged},
}

// codeOf is the code of any error.
func codeOf(err error) code.Code {
	if c := code.Of(err); c != code.None {
		return c
	}
	for _, e := range codes {
		if errors.Is(err, e.err) {
			return e.code
		}
	}
	return code.ProvisioningFailed
}

// names are the TPM names of what was made, in the pin's order.
func namesOf(r *provision.Result) [4][]byte {
	return [4][]byte{r.StorageName, r.AKName, r.EKName, r.BoardKeyName}
}

// freshness is the TPM's counter as the store takes it.
type freshness struct{ *nv.NV }

func (f freshness) Read() (uint64, error)      { return f.Freshness() }
func (f freshness) Increment() (uint64, error) { return f.Step() }

// boardKey is the board key as crypto/ecdsa has it.
func boardKey(public *tpm2.TPMTPublic) (*ecdsa.PublicKey, error) {
	k, err := tpm2.Pub(*public)
	if err != nil {
		return nil, fmt.Errorf("provisioning: key: %w", err)
	}
	e, ok := k.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("provisioning: key: a %T, not ECDSA", k)
	}
	return e, nil
}
