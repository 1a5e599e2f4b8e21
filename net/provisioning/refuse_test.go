package provisioning

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/golden"
	"nitro/attest/identity"
	"nitro/attest/nv"
	"nitro/attest/provision"
	"nitro/attest/seal"
	"nitro/attest/tpm"
	"nitro/boot/code"
	"nitro/boot/handover"
	"nitro/boot/pin"
)

// TestNew: boards that offer nothing.
func TestNew(t *testing.T) {
	made := newRig(t)
	for what, c := range map[string]struct {
		change func(*rig)
		want   code.Code
	}{
		"no factory":            {func(r *rig) { c := *r.config; c.Factory = nil; r.config = &c }, code.FactoryUnknown},
		"a secret of all chips": {func(r *rig) { r.strength = handover.SharedSecret }, code.SecretIsTestKey},
		"no secret":             {func(r *rig) { r.strength = handover.NoSecret }, code.SecretIsTestKey},
		"another board's card": {func(r *rig) {
			n := bytes.Repeat([]byte{1}, 34)
			env := append([]byte("NCBOARD1"), make([]byte, 100)...)
			if err := pin.Write(r.card, bytes.Repeat([]byte{1}, 32), pin.Pin{Storage: n, AK: n, EK: n, BoardKey: n}, env); err != nil {
				t.Fatal(err)
			}
		}, code.BoardMismatch},
		"a good one":             {func(*rig) {}, code.None},
		"a board of development": {func(r *rig) { r.strength, r.development = handover.NoSecret, true }, code.None},
	} {
		r := made.clone()
		c.change(r)
		if _, err := r.begin(); code.Of(err) != c.want || (err == nil) != (c.want == code.None) {
			t.Errorf("%s: %v", what, err)
		}
		r.chip.Cut()
	}
}

// keysOnly makes the keys in a TPM and does something with it, before the board is
// provisioned.
func (r *rig) keysOnly(do func(b *tpm.TPM, n *nv.NV, s *tpm.Session) error) {
	r.tb.Helper()
	b, err := tpm.Start(r.chip)
	if err != nil {
		r.tb.Fatal(err)
	}
	if _, err := provision.Make(b, provision.Config{SoC: r.soc, Strength: provision.Own, OwnerKey: r.config.Owner}); err != nil {
		r.tb.Fatal(err)
	}
	ak, _, err := identity.AK(b, r.soc)
	if err != nil {
		r.tb.Fatal(err)
	}
	s, err := b.NewSession(ak)
	if err != nil {
		r.tb.Fatal(err)
	}
	if err := do(b, nv.New(b, s, r.soc), s); err != nil {
		r.tb.Fatal(err)
	}
	r.chip.Cycle()
}

// permanent has the TPM say other things in TPMA_PERMANENT (part 2, 8.6).
func permanent(r *rig, bits uint32) {
	r.chip.Tap.Answer = func(command, answer []byte) []byte {
		// TPM2_GetCapability of TPM_CAP_TPM_PROPERTIES, TPM_PT_PERMANENT
		if len(command) >= 18 && binary.BigEndian.Uint32(command[6:]) == 0x17a && binary.BigEndian.Uint32(command[14:]) == uint32(tpm2.TPMPTPermanent) {
			answer = slices.Clone(answer)
			v := answer[len(answer)-4:]
			binary.BigEndian.PutUint32(v, binary.BigEndian.Uint32(v)|bits)
		}
		return answer
	}
}

// TestRefused: what either end refuses in the procedure, with its code or error. Each one
// leaves the TPM without a failure counted, and no hierarchy closed.
func TestRefused(t *testing.T) {
	made := newRig(t)
	other := newRig(t)
	signed := func(change func(*golden.Manifest)) *golden.Release {
		m := manifest
		change(&m)
		r, err := golden.Build(m)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	option := func(f func(*Options)) func(*rig) { return func(r *rig) { r.options = f } }
	for what, c := range map[string]struct {
		change func(*rig)
		code   code.Code
		err    error
	}{
		// the board's
		"no approvals": {option(func(o *Options) { o.Approvals = nil }), code.ApprovalMissing, nil},
		"no canary approval": {option(func(o *Options) {
			o.Approvals = slices.DeleteFunc(o.Approvals, func(a seal.Approval) bool { return a.Kind == seal.Canary })
		}), code.ApprovalMissing, nil},
		"approvals' signature": {option(func(o *Options) {
			for i := range o.Approvals {
				o.Approvals[i].Signature = slices.Clone(o.Approvals[(i+1)%3].Signature)
			}
		}), code.ApprovalMissing, nil},
		"locked out": {func(r *rig) { permanent(r, 1<<9) }, code.TPMLockedOut, nil},
		"authorisations of another card": {func(r *rig) {
			r.keysOnly(func(b *tpm.TPM, _ *nv.NV, s *tpm.Session) error {
				return b.SetAuth(s, tpm2.TPMRHOwner, nil, bytes.Repeat([]byte{3}, 32))
			})
		}, code.TPMForeign, nil},
		"another board's keys": {func(r *rig) {
			r.keysOnly(func(*tpm.TPM, *nv.NV, *tpm.Session) error { return nil })
			r.soc = bytes.Repeat([]byte{4}, 32)
		}, code.TPMForeign, nil},
		"another owner's board key": {func(r *rig) {
			r.keysOnly(func(*tpm.TPM, *nv.NV, *tpm.Session) error { return nil })
			c := *r.config
			c.Owner = &keysOf().other.PrivateKey.(*ecdsa.PrivateKey).PublicKey
			r.config = &c
		}, code.TPMForeign, nil},
		"below the floor": {func(r *rig) {
			r.keysOnly(func(_ *tpm.TPM, n *nv.NV, _ *tpm.Session) error { return n.RaiseFloor(security + 1) })
		}, code.BelowFloor, nil},
		"an old configuration": {func(r *rig) {
			r.keysOnly(func(_ *tpm.TPM, n *nv.NV, _ *tpm.Session) error { return n.RaiseEpoch(r.config.Epoch + 1) })
		}, code.ConfigurationOld, nil},
		"the owner's key": {option(func(o *Options) { o.Owner = keysOf().other.PrivateKey.(*ecdsa.PrivateKey) }), code.None, ErrKeys},

		// the factory's
		"another maker of TPMs": {option(func(o *Options) { o.Roots = other.roots }), code.None, identity.ErrCertificate},
		"another product":       {option(func(o *Options) { o.Product = "imx6ul-armory" }), code.None, ErrBoard},
		"another board":         {option(func(o *Options) { o.UniqueID = "0123456789abcdee" }), code.None, ErrBoard},
		"not of development":    {option(func(o *Options) { o.Development = true }), code.None, ErrBoard},
		"another release": {option(func(o *Options) {
			o.Releases = []*golden.Release{signed(func(m *golden.Manifest) { m.Controller.Version = "2.1" })}
		}), code.None, ErrBoard},
		"another TPM's record":  {option(func(o *Options) { o.Record = &Record{EKCertificate: []byte{1}} }), code.None, ErrBoard},
		"no disk":               {option(func(o *Options) { o.Keep = func(Record) error { return errNoDisk } }), code.None, errNoDisk},
		"wrong certificate":     {option(func(o *Options) { o.Factory = keysOf().other }), code.FactoryUnknown, nil},
		"no AK certificate":     {option(func(o *Options) { o.Certify = func(Record) ([]byte, error) { return nil, errNoDisk } }), code.None, errNoDisk},
		"a long AK certificate": {option(func(o *Options) { o.Certify = func(Record) ([]byte, error) { return make([]byte, maxAKCert+1), nil } }), code.ProvisioningFailed, nil},
	} {
		r := made.clone()
		c.change(r)
		err := r.attempt()
		if err == nil || code.Of(err) != c.code || !errors.Is(err, c.err) && c.err != nil {
			t.Errorf("%s: %v", what, err)
		}
		r.chip.Tap.Answer = nil
		r.power.on(0, 0)
		b, err := tpm.Start(r.chip)
		if err != nil {
			t.Fatal(err)
		}
		if failures, err := b.Property(tpm2.TPMPTLockoutCounter); failures != 0 || err != nil {
			t.Errorf("%s: %d failures are counted, %v", what, failures, err)
		}
		if set, err := b.AuthsSet(); err != nil || set.Lockout && !strings.Contains(what, "AK cert") {
			t.Errorf("%s: %+v, %v", what, set, err)
		}
		r.chip.Cut()
	}
}

var errNoDisk = errors.New("no disk")

// TestApprovalsLater: a refusal for want of approvals costs nothing; the next connection
// in the same boot brings them.
func TestApprovalsLater(t *testing.T) {
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
	o.Approvals = nil
	if _, err := Provision(ctx, o); code.Of(err) != code.ApprovalMissing {
		t.Fatal(err)
	}
	if _, err := Provision(ctx, r.factory(address)); err != nil {
		t.Fatal(err)
	}
	if e := <-ended; e.err != nil {
		t.Fatal(e.err)
	}
}

// TestOptions: what the factory's tool must be told.
func TestOptions(t *testing.T) {
	r := &rig{tb: t}
	release, err := golden.Build(manifest)
	if err != nil {
		t.Fatal(err)
	}
	r.release = release
	for what, change := range map[string]func(*Options){
		"certificate": func(o *Options) { o.Factory = tls.Certificate{} },
		"owner":       func(o *Options) { o.Owner = nil },
		"P-256":       func(o *Options) { o.Owner = keysOf().p384 },
		"roots":       func(o *Options) { o.Roots = nil },
		"known-good":  func(o *Options) { o.Releases = nil },
		"product":     func(o *Options) { o.Product = "" },
		"certified":   func(o *Options) { o.Certify = nil },
		"kept":        func(o *Options) { o.Keep = nil },
	} {
		o := r.factory("127.0.0.1:1")
		o.Roots = x509.NewCertPool()
		change(&o)
		if _, err := Provision(t.Context(), o); !errors.Is(err, ErrOptions) || !strings.Contains(err.Error(), what) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
