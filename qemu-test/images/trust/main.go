// Command trust is an image that does a whole boot's work with a provisioned TPM: what
// the bootloader does, then what the controller does, in parts that are counted from
// outside. Its arguments are hexadecimal: the secret derived from the SoC's, the storage
// primary's name, the sealed set, and the authorities' public keys (PKIX), P-384 and
// RSA-3072.
package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/eventlog"
	"nitro/attest/identity"
	"nitro/attest/nv"
	"nitro/attest/seal"
	"nitro/attest/tis"
	"nitro/attest/tpm"
	"nitro/board/evk"
)

func main() {
	if err := run(); err != nil {
		fmt.Println("trust: failed:", err)
		os.Exit(1)
	}
	fmt.Println("trust: done")
	select {}
}

// A boot is what the parts hand on.
type boot struct {
	bus         tis.Bus
	chip        *tis.TPM
	soc, name   []byte
	set         *seal.Set
	authorities seal.Authorities

	t      *tpm.TPM
	s      *tpm.Session
	ak     tpm.Entity
	nv     *nv.NV
	door   *seal.Door
	before []tpm.Digest
}

func parse(args []string) (*boot, error) {
	var in [5][]byte
	if len(args) != len(in) {
		return nil, fmt.Errorf("%d arguments, not %d", len(args), len(in))
	}
	for i, arg := range args {
		var err error
		if in[i], err = hex.DecodeString(arg); err != nil {
			return nil, err
		}
	}
	set, err := seal.Decode(in[2])
	if err != nil {
		return nil, err
	}
	b := &boot{soc: in[0], name: in[1], set: set}
	for i, to := range []*[]crypto.PublicKey{&b.authorities.P384, &b.authorities.RSA3072} {
		key, err := x509.ParsePKIXPublicKey(in[3+i])
		if err != nil {
			return nil, err
		}
		*to = []crypto.PublicKey{key}
	}
	return b, nil
}

func run() error {
	b, err := parse(os.Args[1:])
	if err != nil {
		return err
	}
	d, err := evk.Open()
	if err != nil {
		return err
	}
	b.bus = d.I2C1
	for _, part := range []struct {
		name string
		do   func(*boot) error
	}{
		{"start", start}, {"random", random}, {"extend", extend}, {"read", read}, {"primary", primary},
		{"pin", pin}, {"session", session}, {"floor", floor}, {"measure", measure}, {"forget", forget},
		{"attach", attach}, {"pin", pin}, {"session", session}, {"unseal", unseal}, {"counts", counts},
		{"bind", bind}, {"quote", quote}, {"check", check},
	} {
		begin := time.Now()
		err := part.do(b)
		mark()
		if err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
		fmt.Printf("trust: %s took %d us\n", part.name, time.Since(begin).Microseconds())
	}
	return nil
}

// mark ends a part for who counts.
//
//go:noinline
func mark() {}

//go:noinline
func start(b *boot) (err error) {
	if b.chip, err = tis.Open(b.bus, tis.DefaultAddress); err != nil {
		return err
	}
	b.t, err = tpm.Start(b.chip)
	return err
}

// The single commands.

//go:noinline
func random(b *boot) error {
	r, err := tpm2.GetRandom{BytesRequested: 32}.Execute(b.t)
	if err == nil && len(r.RandomBytes.Buffer) != 32 {
		err = errors.New("too few bytes")
	}
	return err
}

//go:noinline
func extend(b *boot) error { return b.t.Extend(nil, 10, tpm.Digest{1}) }

//go:noinline
func read(b *boot) error {
	v, err := b.t.ReadPCRs(10)
	if err == nil && v[0] != tpm.Extended(tpm.Digest{}, tpm.Digest{1}) {
		err = fmt.Errorf("PCR 10 is %x", v[0])
	}
	return err
}

//go:noinline
func primary(b *boot) error {
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHNull, InPublic: tpm2.New2B(identity.StorageTemplate)}.Execute(b.t)
	if err != nil {
		return err
	}
	return b.t.FlushHandle(made.ObjectHandle)
}

// The bootloader.

//go:noinline
func pin(b *boot) error { return b.t.Pin(b.name) }

//go:noinline
func session(b *boot) (err error) {
	if b.ak, _, err = identity.AK(b.t, b.soc); err != nil {
		return err
	}
	if b.s, err = b.t.NewSession(b.ak); err != nil {
		return err
	}
	b.nv = nv.New(b.t, b.s, b.soc)
	b.door = &seal.Door{T: b.t, S: b.s, AK: b.ak, NV: b.nv, SoC: b.soc}
	return nil
}

//go:noinline
func floor(b *boot) error {
	_, err := b.nv.SecurityVersion()
	return err
}

// measure extends as many events as a boot has.
//
//go:noinline
func measure(b *boot) error {
	for _, e := range [...]struct {
		pcr    uint
		digest tpm.Digest
	}{{0, tpm.Digest{9}}, {0, tpm.Digest{10}}, {1, tpm.Digest{11}}, {2, tpm.Digest{12}}, {3, tpm.Digest{13}}, {7, tpm.Digest{17}}, {7, tpm.Digest{18}}} {
		if err := b.t.Extend(b.s, e.pcr, e.digest); err != nil {
			return err
		}
	}
	return nil
}

//go:noinline
func forget(b *boot) error {
	if err := b.t.ForgetPlatform(b.s); err != nil {
		return err
	}
	return b.s.Close()
}

// The controller.

//go:noinline
func attach(b *boot) (err error) {
	b.t, err = tpm.Attach(b.chip, b.t.Resets())
	return err
}

//go:noinline
func unseal(b *boot) error {
	pcrs, err := b.t.ReadPCRs(7)
	if err != nil {
		return err
	}
	b.before = pcrs
	first, second, err := b.door.Unseal(b.set, b.authorities)
	if err != nil {
		return err
	}
	defer clear(first)
	defer clear(second)
	key, err := seal.StoreKey(first, second, b.soc, nil)
	if err == nil && bytes.Equal(key, make([]byte, len(key))) {
		err = errors.New("no key")
	}
	return err
}

// counts are what the store and the configuration are compared with.
//
//go:noinline
func counts(b *boot) error {
	_, err := b.nv.Step()
	if err == nil {
		_, err = b.nv.Epoch()
	}
	if err == nil {
		_, err = b.nv.Latched()
	}
	return err
}

//go:noinline
func bind(b *boot) error {
	return b.t.Extend(b.s, identity.BootPCR, eventlog.Identity(tpm.Digest{1}, tpm.Digest{2}).Digest())
}

//go:noinline
func quote(b *boot) error {
	_, err := identity.NewQuote(b.t, b.s, b.ak, []byte("the verifier's nonce"), 0, 1, 2, 3, 4, 5, 6, 7, 8)
	return err
}

//go:noinline
func check(b *boot) error { return b.door.Check(b.set, b.authorities, b.before[0]) }
