package policy

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"testing"

	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
)

// signedSet is a set of an epoch as an image.
func signedSet(t *testing.T, epoch uint64) []byte {
	t.Helper()
	p := sample()
	p.Epoch = epoch
	b, err := Sign(p, 1, owner)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestCard: of two copies the newer valid one counts, a card without any says so, and an
// older set than the board has had is refused.
func TestCard(t *testing.T) {
	d := mediumtest.New(medium.MinSize / mediumtest.SectorSize)
	if _, err := Load(d, accept); !errors.Is(err, ErrNone) {
		t.Errorf("a blank card: %v", err)
	}
	seventh, eighth := signedSet(t, 7), signedSet(t, 8)
	if err := Save(d, seventh, accept); err != nil {
		t.Fatal(err)
	}
	if err := Save(d, signedSet(t, 6), accept); err == nil {
		t.Error("an older set was written")
	}
	if err := medium.WritePlace(d, medium.PolicySets[1], eighth); err != nil {
		t.Fatal(err)
	}
	if s, err := Load(d, accept); err != nil || s.Epoch != 8 {
		t.Errorf("%+v, %v", s, err)
	}
	if err := medium.WritePlace(d, medium.PolicySets[1], append(bytes.Clone(eighth[:5000]), 'x')); err != nil {
		t.Fatal(err)
	}
	if s, err := Load(d, accept); err != nil || s.Epoch != 7 {
		t.Errorf("with one copy damaged: %+v, %v", s, err)
	}
	later := accept
	later.Epoch = 8
	if s, err := Load(d, later); err == nil || errors.Is(err, ErrNone) {
		t.Errorf("older than the board has had: %+v, %v", s, err)
	}
}

// TestCardCut: wherever the power goes while a set is written, the old or the new one is
// there.
func TestCardCut(t *testing.T) {
	const sectors = 2 * 512 << 10 / mediumtest.SectorSize
	seventh, eighth := signedSet(t, 7), signedSet(t, 8)
	for _, cut := range []int{0, 1, 7, 8, 9, 20, sectors / 2, sectors/2 + 1, sectors/2 + 9, sectors - 1} {
		for _, tear := range mediumtest.Tears {
			d := mediumtest.New(medium.MinSize / mediumtest.SectorSize)
			if err := Save(d, seventh, accept); err != nil {
				t.Fatal(err)
			}
			d.CutAfter(cut, tear)
			err := Save(d, eighth, accept)
			d.PowerOn()
			s, loadErr := Load(d, accept)
			if loadErr != nil || s.Epoch < 7 || err == nil && s.Epoch != 8 {
				t.Errorf("cut after %d sectors, %v: %v; %+v, %v", cut, tear, err, s, loadErr)
			}
		}
	}
}

// TestQuarantineClients: a board without a good set knows the clients of its CAs, of
// whatever trust domain, and nobody else.
func TestQuarantineClients(t *testing.T) {
	authority, other := newCA(t), newCA(t)
	s := Quarantine("board-1", [][sha256.Size]byte{sha256.Sum256(authority.cert.RawSubjectPublicKeyInfo)})
	leaf := issue(t, &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		ExtraExtensions: []pkix.Extension{san(t, "spiffe://any.example/auditor/ada")}}, &authority, authority.key)
	if p, err := s.Identify([][]*x509.Certificate{{leaf, authority.cert}}); err != nil || p.Role != Auditor || p.Owner != "any.example" {
		t.Errorf("%v, %v", p, err)
	}
	if p, err := s.Identify([][]*x509.Certificate{{leaf, other.cert}}); err == nil {
		t.Errorf("another CA's: %v", p)
	}
	set := development(t)
	set.Issuers = s.Issuers
	if p, err := set.Identify([][]*x509.Certificate{{leaf, authority.cert}}); err == nil {
		t.Errorf("an owner's own set without an owner: %v", p)
	}
}
