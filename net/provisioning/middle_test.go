package provisioning

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/eventlog"
	"nitro/attest/identity"
	"nitro/attest/tpm"
	"nitro/boot/code"
	"nitro/net/https"
)

// A relay sits between factory and board. It shows the factory a certificate, the board
// a factory's, and may change what the board answers. With the board's own certificate it
// is a board that lies.
type relay struct {
	shown, factory tls.Certificate
	board          string // address
	change         func(step Step, body map[string]any)

	mu    sync.Mutex
	asked []Step // by the factory
}

// start serves one factory and gives the address.
func (y *relay) start(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			raw, err := l.Accept()
			if err != nil {
				return
			}
			c := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{y.shown}, ClientAuth: tls.RequireAnyClientCert})
			y.serve(c)
			c.Close()
		}
	}()
	return l.Addr().String()
}

func (y *relay) serve(factory *tls.Conn) {
	raw, err := net.DialTimeout("tcp", y.board, patience)
	if err != nil {
		return
	}
	defer raw.Close()
	board := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{y.factory}})
	if err := y.answer(board, factory); err != nil {
		// The board does not take him. He can only say so himself, and hear.
		send(factory, patience, message{Step: Connect}, nil)
		y.question(factory)
		return
	}
	for {
		m, err := y.question(factory)
		if err != nil || send(board, patience, m, nil) != nil || y.answer(board, factory) != nil {
			return
		}
	}
}

func (y *relay) question(factory net.Conn) (message, error) {
	m, err := receive(factory, patience)
	if err == nil {
		y.mu.Lock()
		y.asked = append(y.asked, m.Step)
		y.mu.Unlock()
	}
	return m, err
}

// answer carries an answer back.
func (y *relay) answer(board, factory net.Conn) error {
	m, err := receive(board, patience)
	if err != nil {
		return err
	}
	if y.change != nil && m.Body != nil {
		var body map[string]any
		if err := json.Unmarshal(m.Body, &body); err != nil {
			return err
		}
		y.change(m.Step, body)
		if m.Body, err = json.Marshal(body); err != nil {
			return err
		}
	}
	return send(factory, patience, m, nil)
}

// through provisions a board through a relay, in one attempt.
func (r *rig) through(y *relay, liar bool) error {
	r.tb.Helper()
	s, err := r.begin()
	if err != nil {
		r.tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var ended <-chan served
	if y.board, ended, err = serve(ctx, s); err != nil {
		r.tb.Fatal(err)
	}
	if liar {
		y.shown = s.Certificate
	}
	f := &factory{Options: r.factory(y.start(r.tb.(*testing.T))), r: &Record{Format: format}}
	err = f.attempt(ctx)
	cancel()
	<-ended
	return err
}

// TestMiddle: a man in the middle. Without the factory's key he cannot speak to the
// board; with a stolen one he relays all, and the factory notices before it has got or
// given anything.
func TestMiddle(t *testing.T) {
	made := newRig(t)
	own, err := https.SelfSigned("board")
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		factory tls.Certificate
		want    error
		asked   []Step
	}{
		"without the factory's key": {keysOf().other, nil, []Step{Hello}},
		"with it":                   {keysOf().factory, ErrChannel, []Step{Hello, Prove}},
	} {
		r := made.clone()
		y := &relay{shown: own, factory: c.factory}
		if err := r.through(y, false); err == nil || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v", what, err)
		}
		y.mu.Lock()
		if !slices.Equal(y.asked, c.asked) {
			t.Errorf("%s: he was told %v", what, y.asked)
		}
		y.mu.Unlock()
		if r.record != nil {
			t.Errorf("%s: a record is kept", what)
		}
		r.chip.Cut()
	}
}

// member is a member of an answer, in base64, to be changed.
func member(body map[string]any, name string, change func(b []byte) []byte) {
	b, err := base64.StdEncoding.DecodeString(body[name].(string))
	if err != nil {
		panic(err)
	}
	body[name] = base64.StdEncoding.EncodeToString(change(b))
}

// public changes a public area.
func public(change func(p *tpm2.TPMTPublic)) func([]byte) []byte {
	return func(b []byte) []byte {
		p, err := tpm2.Unmarshal[tpm2.TPMTPublic](b)
		if err != nil {
			panic(err)
		}
		change(p)
		return tpm2.Marshal(*p)
	}
}

func flip(b []byte) []byte { b[len(b)-1] ^= 1; return b }

// TestLies: a board, or who took it over, that says what is not so.
func TestLies(t *testing.T) {
	made := newRig(t)
	other, _ := https.SelfSigned("other")
	strange := &other.PrivateKey.(*ecdsa.PrivateKey).PublicKey
	old := map[string]any{}
	if err := made.clone().through(&relay{factory: keysOf().factory, change: func(s Step, body map[string]any) {
		if s == Prove {
			for k, v := range body {
				old[k] = v
			}
		}
	}}, true); err != nil {
		t.Fatal("a relay that changes nothing:", err)
	}
	for what, c := range map[string]struct {
		step   Step
		change func(body map[string]any)
		want   error
	}{
		"an AK that signs anything": {Hello, func(b map[string]any) {
			member(b, "ak", public(func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false }))
		}, ErrKeys},
		"an AK from outside": {Hello, func(b map[string]any) {
			member(b, "ak", public(func(p *tpm2.TPMTPublic) { p.Unique = point(strange) }))
		}, errRefused(code.ProvisioningFailed)},
		"a storage primary from outside": {Hello, func(b map[string]any) {
			member(b, "storage", public(func(p *tpm2.TPMTPublic) { p.Unique = point(strange) }))
		}, errRefused(code.ProvisioningFailed)},
		"a board key without the owner": {Hello, func(b map[string]any) {
			member(b, "board_key", public(func(p *tpm2.TPMTPublic) {
				p.AuthPolicy = tpm2.TPM2BDigest{}
				p.ObjectAttributes.UserWithAuth = true
			}))
		}, ErrKeys},
		"a board key from outside": {Hello, func(b map[string]any) {
			member(b, "board_key", public(func(p *tpm2.TPMTPublic) { p.Unique = point(strange) }))
		}, errRefused(code.TPMSaltKey)},
		"another EK": {Hello, func(b map[string]any) {
			member(b, "ek", public(func(p *tpm2.TPMTPublic) {
				p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: bytes.Repeat([]byte{0xc1}, 256)})
			}))
		}, identity.ErrCertificate},
		"an EK certificate that is none":      {Hello, func(b map[string]any) { member(b, "ek_certificate", flip) }, identity.ErrCertificate},
		"no credential of the AK":             {Prove, func(b map[string]any) { member(b, "ak_answer", flip) }, identity.ErrCredential},
		"no credential of the storage":        {Prove, func(b map[string]any) { member(b, "storage_answer", flip) }, identity.ErrCredential},
		"one credential for both":             {Prove, func(b map[string]any) { b["ak_answer"] = b["storage_answer"] }, identity.ErrCredential},
		"answers of another run":              {Prove, func(b map[string]any) { b["ak_answer"], b["storage_answer"] = old["ak_answer"], old["storage_answer"] }, identity.ErrCredential},
		"a quote of another run":              {Prove, func(b map[string]any) { b["attest"], b["signature"] = old["attest"], old["signature"] }, identity.ErrQuote},
		"a quote that nobody signed":          {Prove, func(b map[string]any) { member(b, "attest", flip) }, identity.ErrQuote},
		"a log with another TLS key":          {Prove, func(b map[string]any) { member(b, "log", otherLog) }, identity.ErrQuote},
		"a lockout authorisation that is cut": {Seal, func(b map[string]any) { member(b, "lockout", func(b []byte) []byte { return b[:31] }) }, ErrLockout},
		"another lockout authorisation":       {Seal, func(b map[string]any) { member(b, "lockout", flip) }, ErrLockout},
		"something else to be approved":       {BoardPart, func(b map[string]any) { member(b, "approve", flip) }, identity.ErrOwner},
		"an approval that expires":            {BoardPart, func(b map[string]any) { member(b, "approve", func(b []byte) []byte { b[len(b)-33] = 1; return b }) }, identity.ErrOwner},
		"another revision":                    {BoardPart, func(b map[string]any) { b["revision"] = 2 }, identity.ErrOwner},
		"a board part that nobody signed":     {Sign, func(b map[string]any) { member(b, "envelope", func(b []byte) []byte { b[20] ^= 1; return b }) }, errAny},
		"a member more":                       {Sign, func(b map[string]any) { b["more"] = 1 }, errMessage},
	} {
		r := made.clone()
		err := r.through(&relay{factory: keysOf().factory, change: func(s Step, body map[string]any) {
			if s == c.step {
				c.change(body)
			}
		}}, true)
		var refused errRefused
		switch {
		case err == nil:
			t.Errorf("%s: believed", what)
		case errors.As(c.want, &refused) && code.Of(err) != code.Code(refused):
			t.Errorf("%s: %v", what, err)
		case !errors.As(c.want, &refused) && c.want != errAny && !errors.Is(err, c.want):
			t.Errorf("%s: %v", what, err)
		}
		if r.record != nil && (r.record.Complete || c.step == Hello || c.step == Prove) {
			t.Errorf("%s: the record has %+v", what, r.record)
		}
		r.chip.Cut()
	}
}

// errRefused is a refusal by the board, which notices that it is lied about.
type errRefused code.Code

func (e errRefused) Error() string { return code.Code(e).String() }

var errAny = errors.New("any")

func point(k *ecdsa.PublicKey) tpm2.TPMUPublicID {
	b, err := k.Bytes()
	if err != nil {
		panic(err)
	}
	return tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: b[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: b[33:]}})
}

// otherLog is a log with another identity.
func otherLog(b []byte) []byte {
	l, err := eventlog.Parse(b)
	if err != nil {
		panic(err)
	}
	other := eventlog.New()
	for _, e := range l.Events() {
		if e.Name() == "identity" {
			e = eventlog.Identity(tpm.Digest{1}, tpm.Digest{2})
		}
		if err := other.Append(e); err != nil {
			panic(err)
		}
	}
	return other.Bytes()
}

// TestUnconfirmed: the board's last word is lost. The factory says what it does not know.
func TestUnconfirmed(t *testing.T) {
	r := newRig(t)
	s, err := r.begin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	address, ended, err := serve(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	o := r.factory(address)
	client, stop := context.WithCancel(ctx)
	var deaf *deafConn
	o.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		deaf = &deafConn{Conn: c}
		return deaf, err
	}
	o.Certify = func(Record) ([]byte, error) {
		deaf.deaf = true
		time.AfterFunc(10*time.Millisecond, func() { <-ended; stop() })
		return []byte("a certificate"), nil
	}
	o.Retry = time.Millisecond
	record, err := Provision(client, o)
	if !errors.Is(err, ErrUnconfirmed) || record.Complete || len(record.Lockout) != 32 || record.AKCertificate == nil {
		t.Fatalf("%+v, %v", record, err)
	}
	r.power.on(0, 0)
	r.checkProvisioned("unconfirmed")
}

// deafConn is a connection that, once deaf, hears no more.
type deafConn struct {
	net.Conn
	deaf bool
}

func (d *deafConn) Read(b []byte) (int, error) {
	n, err := d.Conn.Read(b)
	if d.deaf {
		return 0, io.EOF
	}
	return n, err
}

// TestMessages: what is no message, or not the one that is due, ends the connection and
// nothing else.
func TestMessages(t *testing.T) {
	r := newRig(t)
	s, err := r.begin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	address, ended, err := serve(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	framed := func(s string) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(s))), s...) }
	for what, raw := range map[string][]byte{
		"too long":          binary.BigEndian.AppendUint32(nil, maxMessage+1),
		"no JSON":           framed("hello"),
		"out of order":      framed(`{"format":1,"step":"commit","body":{}}`),
		"another format":    framed(`{"format":2,"step":"hello"}`),
		"a step twice":      framed(`{"format":1,"step":"hello","step":"hello"}`),
		"null":              framed(`{"format":1,"step":"hello","body":null}`),
		"a member more":     framed(`{"format":1,"step":"hello","body":{"more":1}}`),
		"approvals garbage": framed(`{"format":1,"step":"hello","body":{"approvals":"AAAA"}}`),
		"a code":            framed(`{"format":1,"step":"hello","code":101}`),
	} {
		c, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{keysOf().factory}})
		if err != nil {
			t.Fatal(err)
		}
		if m, err := receive(c, patience); err != nil || m.Step != Connect || m.Code != code.None {
			t.Fatal(what, m, err)
		}
		if _, err := c.Write(raw); err != nil {
			t.Fatal(err)
		}
		m, err := receive(c, patience)
		if err != nil || m.Code != code.ProvisioningFailed || m.Step != Hello || !strings.Contains(m.Error, "message") {
			t.Errorf("%s: %+v, %v", what, m, err)
		}
		if _, err := receive(c, patience); !errors.Is(err, io.EOF) {
			t.Errorf("%s: the connection goes on: %v", what, err)
		}
		c.Close()
	}
	if _, err := Provision(ctx, r.factory(address)); err != nil {
		t.Fatal(err)
	}
	if e := <-ended; e.err != nil {
		t.Fatal(e.err)
	}
}
