package ticket_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"testing"

	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/ticket"
)

func newOwner(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestTicket: what the owner signed comes back, for its board and incident only; no
// changed byte of it is taken.
func TestTicket(t *testing.T) {
	owner, ak := newOwner(t), []byte("the attestation key's name")
	for _, want := range []ticket.Ticket{
		{Board: ticket.BoardOf(ak), Code: 602, Incident: 7, AcceptLoss: true},
		{Board: ticket.BoardOf(ak), Code: 105, Incident: 1},
	} {
		b, err := want.Sign(owner)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ticket.Open(b, &owner.PublicKey)
		if err != nil || *got != want {
			t.Fatalf("%+v, %v", got, err)
		}
		if err := got.For(ak, want.Code, want.Incident); err != nil {
			t.Error(err)
		}
		for what, err := range map[string]error{
			"board":    got.For([]byte("another"), want.Code, want.Incident),
			"code":     got.For(ak, want.Code+1, want.Incident),
			"incident": got.For(ak, want.Code, want.Incident+1),
		} {
			if !errors.Is(err, ticket.ErrOther) {
				t.Errorf("another %s: %v", what, err)
			}
		}
		for i := range b {
			b[i] ^= 1 << (i % 8)
			if _, err := ticket.Open(b, &owner.PublicKey); err == nil {
				t.Errorf("byte %d may change", i)
			}
			b[i] ^= 1 << (i % 8)
		}
		if _, err := ticket.Open(b, &newOwner(t).PublicKey); !errors.Is(err, ticket.ErrSignature) {
			t.Errorf("another owner: %v", err)
		}
	}
}

// TestCard: a card has a ticket or none.
func TestCard(t *testing.T) {
	owner, d := newOwner(t), mediumtest.New(medium.MinSize/mediumtest.SectorSize)
	if _, err := ticket.Read(d, &owner.PublicKey); !errors.Is(err, ticket.ErrNone) {
		t.Errorf("an empty card: %v", err)
	}
	want := ticket.Ticket{Code: 102, Incident: 1}
	b, err := want.Sign(owner)
	if err != nil {
		t.Fatal(err)
	}
	if err := ticket.Write(d, b); err != nil {
		t.Fatal(err)
	}
	if got, err := ticket.Read(d, &owner.PublicKey); err != nil || *got != want {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzOpen(f *testing.F) {
	owner, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	b, _ := (&ticket.Ticket{Code: 602, Incident: 7}).Sign(owner)
	f.Add(b)
	f.Fuzz(func(t *testing.T, in []byte) {
		if _, err := ticket.Open(in, &owner.PublicKey); err == nil && string(in[:448]) != string(b[:448]) {
			t.Errorf("took %x", in)
		}
	})
}
