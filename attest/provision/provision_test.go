package provision

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"testing"

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
