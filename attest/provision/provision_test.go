package provision

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/identity"
	"nitro/attest/tpm"
	"nitro/internal/swtpm"
)

func bytesOf(v byte) []byte { return bytes.Repeat([]byte{v}, tpm.AuthSize) }

func config(t *testing.T, roots *x509.CertPool) Config {
	t.Helper()
	owner, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		SoC: bytesOf(1), Strength: Own, Owner: bytesOf(2), Endorsement: bytesOf(3), Lockout: bytesOf(4),
		OwnerKey: &owner.PublicKey, Roots: roots,
	}
}

func start(t *testing.T, chip *swtpm.TPM) *tpm.TPM {
	t.Helper()
	b, err := tpm.Start(chip)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRun(t *testing.T) {
	chip, roots := swtpm.Made(t)
	c := config(t, roots)
	first, err := Run(start(t, chip), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d commands", chip.Commands())
	chip.Cycle()
	second, err := Run(start(t, chip), c)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.AKName, second.AKName) || !bytes.Equal(first.StorageName, second.StorageName) {
		t.Error("the names have changed")
	}
}

// TestCutAnywhere cuts the power after every single command of provisioning and goes on:
// the board ends provisioned, with no failure counted.
func TestCutAnywhere(t *testing.T) {
	made, roots := swtpm.Made(t)
	c := config(t, roots)
	chip := made.Clone()
	if _, err := Run(start(t, chip), c); err != nil {
		t.Fatal(err)
	}
	whole := chip.Commands()
	cuts := 0
	for n := 1; n < whole; n++ {
		chip := made.Clone()
		chip.CutAfter(n)
		if b, err := tpm.Start(chip); err == nil {
			_, err = Run(b, c)
			if err == nil {
				t.Fatalf("cut after %d of %d commands, and nobody noticed", n, whole)
			}
		}
		cuts++
		chip.On()
		checkProvisioned(t, chip, c, n)
		chip.Cut()
	}
	t.Logf("%d commands, %d cuts, each survived", whole, cuts)
}

func checkProvisioned(t *testing.T, chip *swtpm.TPM, c Config, n int) {
	t.Helper()
	b := start(t, chip)
	bootloader(t, b, c)
	if _, err := Run(b, c); err != nil {
		t.Fatalf("cut after %d commands: %v", n, err)
	}
	set, err := b.AuthsSet()
	if want := (tpm.AuthsSet{Owner: true, Endorsement: true, Lockout: true}); err != nil || set != want {
		t.Fatalf("cut after %d commands: %+v, %v", n, set, err)
	}
	if failures, err := b.Property(tpm2.TPMPTLockoutCounter); failures != 0 || err != nil {
		t.Fatalf("cut after %d commands: %d failures are counted, %v", n, failures, err)
	}
}

// bootloader forgets the platform's authorisation where there is an attestation key, as
// the bootloader does before provisioning goes on.
func bootloader(t *testing.T, b *tpm.TPM, c Config) {
	t.Helper()
	ak, _, err := identity.AK(b, c.SoC)
	if tpm.IsAbsent(err) {
		return
	}
	storage, err2 := b.ReadPublic(tpm.StorageHandle)
	if err := errors.Join(err, err2); err != nil {
		t.Fatal(err)
	}
	name, err := tpm2.ObjectName(storage)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.PinPublic(storage, name.Buffer); err != nil {
		t.Fatal(err)
	}
	s, err := b.NewSession(ak)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(b.ForgetPlatform(s), s.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestCutTwice cuts the power again and again, each time a few commands later, until it
// is done.
func TestCutTwice(t *testing.T) {
	chip, roots := swtpm.Made(t)
	c := config(t, roots)
	for cuts := 0; ; cuts++ {
		chip.CutAfter(14 + cuts*2)
		b, err := tpm.Start(chip)
		if err == nil {
			_, err = Run(b, c)
		}
		if err == nil {
			chip.Cycle()
			checkProvisioned(t, chip, c, cuts)
			t.Logf("done after %d cuts", cuts)
			return
		}
		if cuts > 60 {
			t.Fatal(err)
		}
		chip.On()
	}
}

// TestRefused: what provisioning must not accept.
func TestRefused(t *testing.T) {
	made, roots := swtpm.Made(t)
	good := config(t, roots)
	_, others := swtpm.Made(t)
	for name, test := range map[string]struct {
		change func(*Config)
		want   error
	}{
		"shared secret":      {func(c *Config) { c.Strength = Shared }, ErrTestSecret},
		"no secret":          {func(c *Config) { c.Strength = None }, ErrTestSecret},
		"development":        {func(c *Config) { c.Strength, c.Development = None, true }, nil},
		"another maker":      {func(c *Config) { c.Roots = others }, identity.ErrCertificate},
		"certificate lapsed": {func(c *Config) { c.At = time.Now().Add(48 * time.Hour) }, identity.ErrCertificate},
		"no owner":           {func(c *Config) { c.OwnerKey = nil }, identity.ErrOwner},
	} {
		c := good
		test.change(&c)
		chip := made.Clone()
		if _, err := Run(start(t, chip), c); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
			t.Errorf("%s: %v", name, err)
		}
		chip.Cut()
	}
}

// TestForeign: a TPM that another board was provisioned with.
func TestForeign(t *testing.T) {
	made, roots := swtpm.Made(t)
	c := config(t, roots)
	if _, err := Run(start(t, made), c); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Config){
		"another SoC":   func(c *Config) { c.SoC = bytesOf(9) },
		"another owner": func(c *Config) { c.Owner = bytesOf(9) },
		"another key":   func(c *Config) { c.OwnerKey = config(t, roots).OwnerKey },
	} {
		other := c
		change(&other)
		chip := made.Clone()
		if _, err := Run(start(t, chip), other); err == nil {
			t.Errorf("%s: accepted", name)
		} else {
			t.Log(name, err)
		}
		b := start(t, chip.Clone())
		if failures, err := b.Property(tpm2.TPMPTLockoutCounter); failures != 0 || err != nil {
			t.Errorf("%s: %d failures are counted, %v", name, failures, err)
		}
	}
}

// TestForeignStorage: a key that somebody has left where the storage primary goes, and
// whose private part he may have.
func TestForeignStorage(t *testing.T) {
	chip, roots := swtpm.Made(t)
	b := start(t, chip)
	template := identity.StorageTemplate
	template.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: bytesOf(1)}})
	made, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHOwner, InPublic: tpm2.New2B(template)}.Execute(b)
	if err != nil {
		t.Fatal(err)
	}
	_, err = tpm2.EvictControl{
		Auth: tpm2.TPMRHOwner, ObjectHandle: tpm2.NamedHandle{Handle: made.ObjectHandle, Name: made.Name}, PersistentHandle: tpm.StorageHandle,
	}.Execute(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Run(b, config(t, roots)); !errors.Is(err, ErrForeign) {
		t.Error(err)
	}
}

// TestMakeAndClose: what Run does, in two parts and three boots.
func TestMakeAndClose(t *testing.T) {
	chip, roots := swtpm.Made(t)
	c := config(t, roots)
	begun := c
	begun.Roots, begun.Owner, begun.Endorsement, begun.Lockout = nil, nil, nil, nil
	b := start(t, chip)
	first, err := Make(b, begun)
	if err != nil {
		t.Fatal(err)
	}
	if set, err := b.AuthsSet(); err != nil || set != (tpm.AuthsSet{}) {
		t.Fatalf("Make has closed %+v, %v", set, err)
	}
	if err := Close(b, begun); err == nil {
		t.Fatal("closed without authorisations")
	}
	if set, err := b.AuthsSet(); err != nil || set != (tpm.AuthsSet{}) {
		t.Fatalf("Close has closed %+v without authorisations, %v", set, err)
	}
	chip.Cycle()
	if err := Close(start(t, chip), c); err != nil {
		t.Fatal(err)
	}
	chip.Cycle()
	checkProvisioned(t, chip, c, 0)
	chip.Cycle()
	again, err := Make(start(t, chip), c)
	if err != nil || !bytes.Equal(first.BoardKeyName, again.BoardKeyName) || !bytes.Equal(first.EKCertificate.Raw, again.EKCertificate.Raw) {
		t.Fatalf("the keys have changed: %v", err)
	}
	chip.Cycle()
	if _, err := Make(start(t, chip), begun); err == nil {
		t.Error("made without the owner's authorisation")
	}
}
