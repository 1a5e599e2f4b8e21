// Package provisioned gives tests a board whose TPM (package swtpm) is provisioned, and
// boots it as the bootloader and the controller do: start, pin, sessions, measurements.
package provisioned

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"nitro/attest/identity"
	"nitro/attest/nv"
	"nitro/attest/provision"
	"nitro/attest/seal"
	"nitro/attest/tpm"
	"nitro/internal/swtpm"
)

// A Board is one with a provisioned TPM, powered off and on by its boots.
type Board struct {
	Chip   *swtpm.TPM
	Config provision.Config
	Result *provision.Result
	Owner  *ecdsa.PrivateKey
}

func secret(v byte) []byte { return bytes.Repeat([]byte{v, 0, v}, 11)[:tpm.AuthSize] } // with zeros inside

// New makes a board and provisions it.
func New(tb testing.TB) *Board {
	tb.Helper()
	chip, roots := swtpm.Made(tb)
	owner, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	b := &Board{Chip: chip, Owner: owner, Config: provision.Config{
		SoC: secret(1), Strength: provision.Own, Owner: secret(2), Endorsement: secret(3), Lockout: secret(4),
		OwnerKey: &owner.PublicKey, Roots: roots,
	}}
	t, err := tpm.Start(chip)
	if err != nil {
		tb.Fatal(err)
	}
	if b.Result, err = provision.Run(t, b.Config); err != nil {
		tb.Fatal(err)
	}
	return b
}

// A Boot is one boot of a board.
type Boot struct {
	T    *tpm.TPM
	S    *tpm.Session // bound to the attestation key
	AK   tpm.Entity
	NV   *nv.NV
	Door *seal.Door
}

// Boot takes the power away and boots the board with some measurements, each a digest
// that is extended into its PCR.
func (b *Board) Boot(tb testing.TB, measured map[uint]tpm.Digest) *Boot {
	tb.Helper()
	b.Chip.Cycle()
	return b.Begin(tb, measured)
}

// Begin is a boot of a TPM that has just been reset.
func (b *Board) Begin(tb testing.TB, measured map[uint]tpm.Digest) *Boot {
	tb.Helper()
	boot, err := b.Open()
	if err != nil {
		tb.Fatal(err)
	}
	for pcr, d := range measured {
		if err := boot.T.Extend(boot.S, pcr, d); err != nil {
			tb.Fatal(err)
		}
	}
	return boot
}

// Open is a boot up to its first measurement.
func (b *Board) Open() (*Boot, error) {
	t, err := tpm.Start(b.Chip)
	if err != nil {
		return nil, err
	}
	if err := t.Pin(b.Result.StorageName); err != nil {
		return nil, err
	}
	ak, _, err := identity.AK(t, b.Config.SoC)
	if err != nil {
		return nil, err
	}
	s, err := t.NewSession(ak)
	if err != nil {
		return nil, err
	}
	if err := t.ForgetPlatform(s); err != nil {
		return nil, err
	}
	n := nv.New(t, s, b.Config.SoC)
	return &Boot{t, s, ak, n, &seal.Door{T: t, S: s, AK: ak, NV: n, SoC: b.Config.SoC}}, nil
}
