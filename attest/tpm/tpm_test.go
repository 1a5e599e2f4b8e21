package tpm_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/identity"
	"nitro/attest/tpm"
	"nitro/internal/provisioned"
	"nitro/internal/swtpm"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestFresh: a TPM must be found as a reset leaves it.
func TestFresh(t *testing.T) {
	chip := swtpm.New(t)
	b, err := tpm.Start(chip)
	must(t, err)
	if _, err := tpm.Start(chip); !errors.Is(err, tpm.ErrNotFresh) {
		t.Errorf("started twice: %v", err)
	}
	resets := b.Resets()
	chip.Cycle()
	b, err = tpm.Start(chip)
	must(t, err)
	if b.Resets() != resets+1 {
		t.Errorf("%d resets after %d", b.Resets(), resets)
	}

	// What somebody extends after the start, and before our look at the PCRs.
	for _, pcr := range []uint32{0, 7, 8} {
		chip.Cycle()
		chip.Tap.Answer = func(command, answer []byte) []byte {
			if binary.BigEndian.Uint32(command[6:]) == uint32(tpm2.TPMCCStartup) {
				extend(t, chip, pcr)
			}
			return answer
		}
		if _, err := tpm.Start(chip); !errors.Is(err, tpm.ErrPCR) {
			t.Errorf("PCR %d: %v", pcr, err)
		}
		chip.Tap.Answer = nil
	}

	// A restart keeps state: TPM2_Shutdown(STATE), reset, TPM2_Startup(CLEAR).
	_, err = tpm2.Shutdown{ShutdownType: tpm2.TPMSUState}.Execute(chip)
	must(t, err)
	chip.Reset()
	if _, err := tpm.Start(chip); !errors.Is(err, tpm.ErrStartupType) {
		t.Errorf("restarted: %v", err)
	}
	chip.Cycle()
	_, err = tpm.Start(chip)
	must(t, err)
}

// extend extends a PCR past the tap.
func extend(t *testing.T, chip *swtpm.TPM, pcr uint32) {
	t.Helper()
	chip.Tap.Answer = nil
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}.Execute(chip)
	must(t, err)
}

// TestAttach: a later stage flushes what the earlier one has left, and notices a reset.
func TestAttach(t *testing.T) {
	board := provisioned.New(t)
	b := board.Boot(t, nil)
	for range 2 {
		_, err := b.T.NewPolicySession(b.AK)
		must(t, err)
		_, err = tpm2.CreatePrimary{PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHNull, Auth: tpm2.PasswordAuth(nil)}, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(b.T)
		must(t, err)
	}
	resets := b.T.Resets()
	next, err := tpm.Attach(board.Chip, resets)
	must(t, err)
	if n := loaded(t, next); n != 0 {
		t.Errorf("%d handles are left", n)
	}
	if _, err := tpm.Attach(board.Chip, resets-1); !errors.Is(err, tpm.ErrReset) {
		t.Errorf("another count of resets: %v", err)
	}
	board.Chip.Reset()
	if _, err := tpm.Attach(board.Chip, resets); !errors.Is(err, tpm.ErrReset) {
		t.Errorf("a TPM that was reset: %v", err)
	}
}

// loaded counts transient objects and sessions.
func loaded(t *testing.T, b *tpm.TPM) (n int) {
	t.Helper()
	for _, first := range []uint32{0x80000000, 0x02000000, 0x03000000} {
		r, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: first, PropertyCount: 32}.Execute(b)
		must(t, err)
		h, err := r.CapabilityData.Data.Handles()
		must(t, err)
		n += len(h.Handle)
	}
	return n
}

// TestPin: an interposer offers a salt key of his own, whose private part he has.
func TestPin(t *testing.T) {
	board := provisioned.New(t)
	other := provisioned.New(t)
	_, err := tpm2.ReadPublic{ObjectHandle: tpm.StorageHandle}.Execute(other.Chip)
	must(t, err)
	board.Chip.Cycle()
	board.Chip.Tap.Answer = func(command, answer []byte) []byte {
		if binary.BigEndian.Uint32(command[6:]) != uint32(tpm2.TPMCCReadPublic) {
			return answer
		}
		feigned, err := other.Chip.Raw(command)
		must(t, err)
		return feigned
	}
	if _, err := board.Open(); !errors.Is(err, tpm.ErrName) {
		t.Errorf("interposed: %v", err)
	}
	board.Chip.Tap.Answer = nil
	board.Boot(t, nil)

	b, err := tpm.Start(other.Chip.Clone())
	must(t, err)
	if _, err := b.NewSession(tpm.Hierarchy(tpm2.TPMRHOwner, nil)); !errors.Is(err, tpm.ErrName) {
		t.Errorf("a session without a pin: %v", err)
	}
}

// TestForgedAnswers: an answer that is changed, replayed or made up loses the TPM.
func TestForgedAnswers(t *testing.T) {
	board := provisioned.New(t)
	for name, forge := range map[string]func(command, answer, last []byte) []byte{
		"a bit changed":  func(_, a, _ []byte) []byte { a = bytes.Clone(a); a[len(a)-1] ^= 1; return a },
		"data changed":   func(_, a, _ []byte) []byte { a = bytes.Clone(a); a[17] ^= 1; return a },
		"the last again": func(_, _, last []byte) []byte { return last },
	} {
		b := board.Boot(t, nil)
		var last []byte
		board.Chip.Tap.Answer = func(_, answer []byte) []byte { last = answer; return answer }
		_, err := b.T.Random(b.S, 16)
		must(t, err)
		board.Chip.Tap.Answer = func(command, answer []byte) []byte { return forge(command, answer, last) }
		if _, err := b.T.Random(b.S, 16); !errors.Is(err, tpm.ErrLost) || !errors.Is(err, tpm.ErrSession) {
			t.Errorf("%s: %v", name, err)
		}
		board.Chip.Tap.Answer = nil
		if _, err := b.T.Random(b.S, 16); !errors.Is(err, tpm.ErrLost) {
			t.Errorf("%s: and after that: %v", name, err)
		}
	}

	// An extend that is swallowed, and answered as if it had been done.
	b := board.Boot(t, nil)
	var good []byte
	board.Chip.Tap.Answer = func(_, answer []byte) []byte { good = answer; return answer }
	must(t, b.T.Extend(b.S, 2, tpm.Digest{1}))
	board.Chip.Tap.Answer = nil
	board.Chip.Tap.Command = func([]byte) []byte { return []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x81} } // TPM2_ReadClock
	board.Chip.Tap.Answer = func([]byte, []byte) []byte { return good }
	if err := b.T.Extend(b.S, 2, tpm.Digest{2}); !errors.Is(err, tpm.ErrSession) {
		t.Errorf("a swallowed extend: %v", err)
	}
	board.Chip.Tap = swtpm.Tap{}
}

// TestFlushedSession: a session that somebody flushes is a lost TPM.
func TestFlushedSession(t *testing.T) {
	board := provisioned.New(t)
	b := board.Boot(t, nil)
	_, err := tpm2.FlushContext{FlushHandle: b.S.Handle()}.Execute(board.Chip)
	must(t, err)
	if err := b.T.CheckReset(b.S); !errors.Is(err, tpm.ErrLost) || !errors.Is(err, tpm.ErrSession) {
		t.Error(err)
	}
}

// TestHidden: what is secret is not on the bus in clear: random bytes, authorisations,
// the erase secret.
func TestHidden(t *testing.T) {
	board := provisioned.New(t)
	b := board.Boot(t, nil)
	var wire []byte
	board.Chip.Tap = swtpm.Tap{
		Command: func(c []byte) []byte { wire = append(wire, c...); return c },
		Answer:  func(_, a []byte) []byte { wire = append(wire, a...); return a },
	}
	random, err := b.T.Random(b.S, 32)
	must(t, err)
	erase := [32]byte{7, 7, 7, 1, 2, 3, 4, 5, 6, 7, 8, 9}
	must(t, b.NV.EraseAll(erase))
	auth := []byte("a new authorisation of the owner")
	must(t, b.T.SetAuth(b.S, tpm2.TPMRHOwner, board.Config.Owner, auth))
	must(t, b.T.CheckReset(b.S))
	for name, secret := range map[string][]byte{"random": random, "erase": erase[:], "old": board.Config.Owner, "new": auth, "SoC": board.Config.SoC, "AK": b.AK.Auth} {
		if bytes.Contains(wire, secret[:12]) {
			t.Errorf("%s is on the bus", name)
		}
	}
	if !bytes.Contains(wire, []byte{0x80, 0x02}) {
		t.Error("nothing was recorded")
	}
}

// TestAuths: authorisations with zeros anywhere work.
func TestAuths(t *testing.T) {
	board := provisioned.New(t)
	b := board.Boot(t, nil)
	old := board.Config.Owner
	for _, auth := range [][]byte{
		bytes.Repeat([]byte{0, 1}, 16), bytes.Repeat([]byte{1, 0}, 16), append(make([]byte, 31), 1), append([]byte{1}, make([]byte, 31)...), make([]byte, 32), old,
	} {
		if err := b.T.SetAuth(b.S, tpm2.TPMRHOwner, old, auth); err != nil {
			t.Fatalf("to %x: %v", auth, err)
		}
		old = auth
	}
	must(t, b.T.CheckReset(b.S))
}

// TestUnbound: a session that was used to authenticate a command that needs no
// authorisation is not bound any more, and goes on.
func TestUnbound(t *testing.T) {
	b := provisioned.New(t).Boot(t, nil)
	for range 2 {
		_, err := identity.NewQuote(b.T, b.S, b.AK, []byte{1}, 0)
		must(t, err)
		must(t, b.T.CheckReset(b.S))
	}
}

// TestPlatform: after a boot has begun nobody clears the TPM.
func TestPlatform(t *testing.T) {
	board := provisioned.New(t)
	board.Boot(t, nil)
	_, err := tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}}.Execute(board.Chip)
	if !errors.Is(err, tpm2.TPMRCBadAuth) {
		t.Errorf("cleared with the empty authorisation: %v", err)
	}
	for h, auth := range map[tpm2.TPMHandle][]byte{tpm2.TPMRHOwner: nil, tpm2.TPMRHEndorsement: nil} {
		_, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.AuthHandle{Handle: h, Auth: tpm2.PasswordAuth(auth)}, InPublic: tpm2.New2B(tpm2.ECCSRKTemplate)}.Execute(board.Chip)
		if !errors.Is(err, tpm2.TPMRCBadAuth) {
			t.Errorf("hierarchy %#x with the empty authorisation: %v", uint32(h), err)
		}
	}
}

// TestRudeCuts: boots that end with a power cut, each after all kinds of use, never bring
// the TPM near its lockout.
func TestRudeCuts(t *testing.T) {
	board := provisioned.New(t)
	c, want, err := identity.NewChallenge(board.Result.EK, board.Result.AKName)
	must(t, err)
	for range 40 {
		b := board.Boot(t, map[uint]tpm.Digest{0: {1}})
		_, err := b.NV.Step()
		must(t, err)
		_, err = identity.NewQuote(b.T, b.S, b.AK, []byte("nonce"), 0)
		must(t, err)
		ek := tpm.Entity{Handle: tpm.EKHandle, Name: tpm2.TPM2BName{Buffer: board.Result.EKName}}
		got, err := identity.Activate(b.T, b.AK, ek, board.Config.Endorsement, c)
		must(t, err)
		must(t, identity.Proved(got, want))
		if n, err := b.T.Property(tpm2.TPMPTLockoutCounter); n != 0 || err != nil {
			t.Fatalf("%d failures are counted, %v", n, err)
		}
	}
	b := board.Boot(t, nil)
	if set, err := b.T.AuthsSet(); err != nil || set.LockedOut {
		t.Errorf("%+v, %v", set, err)
	}
	must(t, b.T.Shutdown())
}

// quotes is how many TestQuotes makes; NITRO_QUOTES says another number, for a soak.
const quotes = 1000

// TestQuotes: many quotes leave nothing behind.
func TestQuotes(t *testing.T) {
	count := quotes
	if s := os.Getenv("NITRO_QUOTES"); s != "" {
		n, err := strconv.Atoi(s)
		must(t, err)
		count = n
	}
	board := provisioned.New(t)
	b := board.Boot(t, map[uint]tpm.Digest{0: {1}})
	before := loaded(t, b.T)
	for i := range count {
		if _, err := identity.NewQuote(b.T, b.S, b.AK, fmt.Appendf(nil, "nonce %d", i), 0, 1, 2, 3, 4, 5, 6, 7, 8); err != nil {
			t.Fatalf("quote %d: %v", i, err)
		}
	}
	if n := loaded(t, b.T); n != before {
		t.Errorf("%d handles after %d quotes, %d before", n, count, before)
	}
	t.Logf("%d quotes", count)
}

// TestReadPublicIn: an interposer who shows a key of his own at a handle. By itself it
// is believed; in a session it is not.
func TestReadPublicIn(t *testing.T) {
	board := provisioned.New(t)
	b := board.Boot(t, nil)
	good, err := b.T.ReadPublicIn(b.S, tpm.BoardKeyHandle)
	if err != nil {
		t.Fatal(err)
	}
	if name, err := tpm2.ObjectName(good); err != nil || !bytes.Equal(name.Buffer, board.Result.BoardKeyName) {
		t.Fatalf("name %x, %v", name.Buffer, err)
	}
	var shown []byte // the answer for another key
	board.Chip.Tap.Answer = func(_, answer []byte) []byte { shown = answer; return answer }
	if _, err := b.T.ReadPublic(tpm.AKHandle); err != nil {
		t.Fatal(err)
	}
	const noSessions = 0x80 // low byte of TPM_ST_NO_SESSIONS is 1: the tag is 0x8001
	board.Chip.Tap.Answer = func(command, answer []byte) []byte {
		if command[0] == noSessions && command[1] == 1 {
			return shown
		}
		return answer
	}
	if p, err := b.T.ReadPublic(tpm.BoardKeyHandle); err != nil || bytes.Equal(tpm2.Marshal(*p), tpm2.Marshal(*good)) {
		t.Fatal("the interposer does not work:", err)
	}
	if _, err := b.T.ReadPublicIn(b.S, tpm.BoardKeyHandle); err == nil {
		t.Error("the interposer's key is believed")
	}
}
