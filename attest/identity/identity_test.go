package identity_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/eventlog"
	"nitro/attest/identity"
	"nitro/attest/tpm"
	"nitro/internal/provisioned"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// verifies verifies a TPMT_SIGNATURE with a key's public area.
func verifies(t *testing.T, public *tpm2.TPMTPublic, digest tpm.Digest, signature []byte) bool {
	t.Helper()
	key, err := tpm2.Pub(*public)
	must(t, err)
	sig, err := tpm2.Unmarshal[tpm2.TPMTSignature](signature)
	must(t, err)
	s, err := sig.Signature.ECDSA()
	must(t, err)
	return ecdsa.Verify(key.(*ecdsa.PublicKey), digest[:], new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer))
}

// TestQuote: the attestation key signs the nonce and the PCRs, and PCR 8 binds the keys
// of the boot.
func TestQuote(t *testing.T) {
	board := provisioned.New(t)
	event := eventlog.Identity(tpm.Digest{1}, tpm.Digest{2}).Digest()
	b := board.Boot(t, map[uint]tpm.Digest{0: {10}, identity.BootPCR: event})
	nonce := []byte("the caller's nonce")
	q, err := identity.NewQuote(b.T, b.S, b.AK, nonce, 0, identity.BootPCR)
	must(t, err)
	if !verifies(t, board.Result.AK, sha256.Sum256(q.Attest), q.Signature) {
		t.Error("the signature does not verify")
	}
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](q.Attest)
	must(t, err)
	info, err := attest.Attested.Quote()
	must(t, err)
	pcr0, pcr8 := tpm.Extended(tpm.Digest{}, tpm.Digest{10}), tpm.Extended(tpm.Digest{}, event)
	want := sha256.Sum256(append(pcr0[:], pcr8[:]...))
	if !bytes.Equal(info.PCRDigest.Buffer, want[:]) || !bytes.Equal(attest.ExtraData.Buffer, nonce) {
		t.Errorf("it quotes %x for %q", info.PCRDigest.Buffer, attest.ExtraData.Buffer)
	}
	for _, n := range []int{0, identity.MaxNonce + 1} {
		if _, err := identity.NewQuote(b.T, b.S, b.AK, make([]byte, n), 0); err == nil {
			t.Errorf("a nonce of %d bytes", n)
		}
	}
	_, err = identity.NewQuote(b.T, b.S, b.AK, make([]byte, identity.MaxNonce), 0)
	must(t, err)
	wrong := b.AK
	wrong.Auth = make([]byte, tpm.AuthSize)
	other, err := b.T.NewSession(tpm.Hierarchy(tpm2.TPMRHOwner, board.Config.Owner))
	must(t, err)
	if _, err := identity.NewQuote(b.T, other, wrong, nonce, 0); !errors.Is(err, tpm2.TPMRCBadAuth) {
		t.Errorf("without the SoC's secret: %v", err)
	}
}

// TestActivate: a challenge is answered for the keys that are there, and for no others.
func TestActivate(t *testing.T) {
	board := provisioned.New(t)
	b := board.Boot(t, nil)
	ek := tpm.Entity{Handle: tpm.EKHandle, Name: tpm2.TPM2BName{Buffer: board.Result.EKName}}
	storage := tpm.Entity{Handle: tpm.StorageHandle, Name: b.T.StorageName()}
	activate := func(object tpm.Entity, c identity.Challenge, auth []byte) ([]byte, error) {
		return identity.Activate(b.T, object, ek, auth, c)
	}
	for name, object := range map[string]tpm.Entity{"attestation key": b.AK, "storage primary": storage} {
		c, want, err := identity.NewChallenge(board.Result.EK, object.Name.Buffer)
		must(t, err)
		got, err := activate(object, c, board.Config.Endorsement)
		must(t, err)
		if err := identity.Proved(got, want); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		got[0] ^= 1
		if err := identity.Proved(got, want); !errors.Is(err, identity.ErrCredential) {
			t.Errorf("%s, another answer: %v", name, err)
		}
	}
	c, _, err := identity.NewChallenge(board.Result.EK, storage.Name.Buffer)
	must(t, err)
	if _, err := activate(b.AK, c, board.Config.Endorsement); !errors.Is(err, identity.ErrCredential) {
		t.Errorf("for another key: %v", err)
	}
	if _, err := activate(storage, c, nil); !errors.Is(err, identity.ErrCredential) {
		t.Errorf("without the endorsement authorisation: %v", err)
	}
	other := provisioned.New(t)
	c, _, err = identity.NewChallenge(other.Result.EK, b.AK.Name.Buffer)
	must(t, err)
	if _, err := activate(b.AK, c, board.Config.Endorsement); !errors.Is(err, identity.ErrCredential) {
		t.Errorf("for another TPM: %v", err)
	}
}

// TestBoardKey: it signs what the owner has approved, once, and nothing else.
func TestBoardKey(t *testing.T) {
	board := provisioned.New(t)
	b := board.Boot(t, nil)
	part := sha256.Sum256([]byte("the board part"))
	begin := func(d tpm.Digest) *identity.Signing {
		t.Helper()
		g, err := identity.BeginSigning(b.T, b.AK, d)
		must(t, err)
		return g
	}
	g := begin(part)
	for what, c := range map[string]struct {
		approve []byte
		digest  tpm.Digest
		want    error
	}{
		"the board part": {g.Approve, part, nil},
		"another one":    {g.Approve, sha256.Sum256([]byte("another")), identity.ErrOwner},
		"an expiration":  {func() []byte { b := bytes.Clone(g.Approve); b[len(b)-33] = 1; return b }(), part, identity.ErrOwner},
		"no nonce":       {g.Approve[len(g.Approve)-36:], part, identity.ErrOwner},
		"too much":       {append(make([]byte, identity.MaxNonce), g.Approve...), part, identity.ErrOwner},
		"nothing":        {nil, part, identity.ErrOwner},
	} {
		if err := identity.CheckApproval(c.approve, board.Result.BoardKey, c.digest); !errors.Is(err, c.want) {
			t.Errorf("to be approved, %s: %v", what, err)
		}
	}
	if err := identity.CheckApproval(g.Approve, board.Result.AK, part); !errors.Is(err, identity.ErrOwner) {
		t.Errorf("to be approved, another key: %v", err)
	}
	approval, err := identity.ApproveSigning(board.Owner, g.Approve)
	must(t, err)
	signature, err := g.Finish(&board.Owner.PublicKey, approval)
	must(t, err)
	if !verifies(t, board.Result.BoardKey, part, signature) {
		t.Error("the signature does not verify")
	}

	g = begin(part)
	if _, err := g.Finish(&board.Owner.PublicKey, approval); !errors.Is(err, identity.ErrOwner) {
		t.Errorf("the approval again: %v", err)
	}
	g = begin(sha256.Sum256([]byte("another part")))
	forged := begin(part)
	approval, err = identity.ApproveSigning(board.Owner, forged.Approve)
	must(t, err)
	if _, err := g.Finish(&board.Owner.PublicKey, approval); !errors.Is(err, identity.ErrOwner) {
		t.Errorf("an approval of another part: %v", err)
	}
	must(t, forged.Cancel())

	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	g = begin(part)
	approval, err = identity.ApproveSigning(stranger, g.Approve)
	must(t, err)
	if _, err := g.Finish(&stranger.PublicKey, approval); !errors.Is(err, identity.ErrOwner) {
		t.Errorf("a stranger's approval under his key: %v", err)
	}
	g = begin(part)
	approval, err = identity.ApproveSigning(stranger, g.Approve)
	must(t, err)
	if _, err := g.Finish(&board.Owner.PublicKey, approval); !errors.Is(err, identity.ErrOwner) {
		t.Errorf("a stranger's approval: %v", err)
	}
	for _, bad := range [][]byte{nil, {0x30}, append(approval, 0)} {
		g = begin(part)
		if _, err := g.Finish(&board.Owner.PublicKey, bad); !errors.Is(err, identity.ErrOwner) {
			t.Errorf("approval % x: %v", bad, err)
		}
	}
	must(t, b.T.CheckReset(b.S)) // all sessions of it are gone, and ours is not
}

// TestCertificate: as it lies in the TPM, and for this key alone.
func TestCertificate(t *testing.T) {
	board, other := provisioned.New(t), provisioned.New(t)
	b := board.Boot(t, nil)
	der, err := identity.EKCertificate(b.T, b.S)
	must(t, err)
	if !bytes.Equal(der, board.Result.EKCertificate.Raw) {
		t.Error("it is another certificate")
	}
	roots := board.Config.Roots
	_, err = identity.VerifyEK(der, board.Result.EK, roots, nil, time.Now())
	must(t, err)
	if _, err := identity.VerifyEK(der, other.Result.EK, roots, nil, time.Time{}); !errors.Is(err, identity.ErrCertificate) {
		t.Errorf("for another key: %v", err)
	}
	if _, err := identity.VerifyEK(der[:len(der)-1], board.Result.EK, roots, nil, time.Time{}); !errors.Is(err, identity.ErrCertificate) {
		t.Errorf("cut: %v", err)
	}
}
