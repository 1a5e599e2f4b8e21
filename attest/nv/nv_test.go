package nv_test

import (
	"crypto/sha256"
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"nitro/attest/nv"
	"nitro/attest/tpm"
	"nitro/internal/provisioned"
)

// TestFloor: it rises, survives the power, and never goes back.
func TestFloor(t *testing.T) {
	board := provisioned.New(t)
	b := board.Boot(t, nil)
	is := func(want uint32) {
		t.Helper()
		if v, err := b.NV.SecurityVersion(); v != want || err != nil {
			t.Fatalf("floor %d, %v, not %d", v, err, want)
		}
	}
	is(0)
	for _, c := range []struct {
		to   uint32
		want uint32
		err  error
	}{{0, 0, nil}, {1, 1, nil}, {5, 5, nil}, {5, 5, nil}, {4, 5, nv.ErrBack}, {0, 5, nv.ErrBack}, {65, 5, nv.ErrValue}, {6, 6, nil}} {
		if err := b.NV.RaiseFloor(c.to); !errors.Is(err, c.err) {
			t.Errorf("to %d: %v", c.to, err)
		}
		b = board.Boot(t, nil)
		is(c.want)
	}
	if err := b.NV.RaiseFloor(64); err != nil {
		t.Error(err)
	}
	is(64)
}

// TestUndefine: nobody removes an index, with whatever authorisation, and clearing the
// TPM does not either.
func TestUndefine(t *testing.T) {
	board := provisioned.New(t)
	b := board.Boot(t, nil)
	if err := b.NV.RaiseFloor(7); err != nil {
		t.Fatal(err)
	}
	board.Chip.Cycle() // a TPM that is reset alone: the platform's authorisation is empty
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(board.Chip); err != nil {
		t.Fatal(err)
	}
	name, err := nv.Floor.PublicName()
	if err != nil {
		t.Fatal(err)
	}
	index := tpm2.NamedHandle{Handle: nv.Floor.Handle, Name: name}
	password := func(h tpm2.TPMHandle, auth []byte) tpm2.AuthHandle {
		return tpm2.AuthHandle{Handle: h, Name: tpm2.HandleName(h), Auth: tpm2.PasswordAuth(auth)}
	}
	owner, platform := password(tpm2.TPMRHOwner, board.Config.Owner), password(tpm2.TPMRHPlatform, nil)
	_, err = tpm2.NVUndefineSpace{AuthHandle: owner, NVIndex: index}.Execute(board.Chip)
	if !errors.Is(err, tpm2.TPMRCNVAuthorization) && !errors.Is(err, tpm2.TPMRCAttributes) {
		t.Errorf("by the owner: %v", err)
	}
	_, err = tpm2.NVUndefineSpace{AuthHandle: platform, NVIndex: index}.Execute(board.Chip)
	if !errors.Is(err, tpm2.TPMRCAttributes) {
		t.Errorf("by the platform: %v", err)
	}
	policy := tpm2.Policy(tpm2.TPMAlgSHA256, 16, func(p transport.TPM, h tpm2.TPMISHPolicy, _ tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicyCommandCode{PolicySession: h, Code: tpm2.TPMCCNVUndefineSpaceSpecial}.Execute(p)
		return err
	})
	_, err = tpm2.NVUndefineSpaceSpecial{NVIndex: tpm2.AuthHandle{Handle: index.Handle, Name: name, Auth: policy}, Platform: platform}.Execute(board.Chip)
	if !errors.Is(err, tpm2.TPMRCPolicyFail) {
		t.Errorf("by the platform and a policy: %v", err)
	}
	_, err = tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
		NVIndex: nv.Floor.Handle, NameAlg: tpm2.TPMAlgSHA256, DataSize: 8, Attributes: tpm2.TPMANV{AuthRead: true, AuthWrite: true, NT: tpm2.TPMNTBits},
	})}.Execute(board.Chip)
	if !errors.Is(err, tpm2.TPMRCNVDefined) {
		t.Errorf("defined again: %v", err)
	}
	if v, err := board.Boot(t, nil).NV.SecurityVersion(); v != 7 || err != nil {
		t.Errorf("the floor is %d, %v", v, err)
	}

	board.Chip.Cycle()
	if _, err := (tpm2.Startup{StartupType: tpm2.TPMSUClear}).Execute(board.Chip); err != nil {
		t.Fatal(err)
	}
	if _, err := (tpm2.Clear{AuthHandle: platform}).Execute(board.Chip); err != nil {
		t.Fatal(err)
	}
	if r, err := (tpm2.NVReadPublic{NVIndex: nv.Floor.Handle}).Execute(board.Chip); err != nil {
		t.Errorf("cleared, the floor is gone: %v", err)
	} else if public, err := r.NVPublic.Contents(); err != nil || !public.Attributes.Written {
		t.Errorf("cleared: %+v, %v", public, err)
	}
}

// TestOthers: who does not have the SoC's secret neither reads nor writes, and what he
// tries is not counted against the TPM.
func TestOthers(t *testing.T) {
	board := provisioned.New(t)
	b := board.Boot(t, nil)
	other := nv.New(b.T, b.S, make([]byte, tpm.AuthSize))
	for range 40 {
		if _, err := other.SecurityVersion(); !errors.Is(err, tpm2.TPMRCBadAuth) {
			t.Fatal(err)
		}
		if err := other.RaiseFloor(9); !errors.Is(err, tpm2.TPMRCBadAuth) {
			t.Fatal(err)
		}
	}
	if n, err := b.T.Property(tpm2.TPMPTLockoutCounter); n != 0 || err != nil {
		t.Errorf("%d failures, %v", n, err)
	}
	if v, err := b.NV.SecurityVersion(); v != 0 || err != nil {
		t.Error(v, err)
	}
}

func TestValues(t *testing.T) {
	board := provisioned.New(t)
	b := board.Boot(t, nil)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}

	first, err := b.NV.Freshness()
	must(err)
	for i := uint64(1); i <= 3; i++ {
		v, err := b.NV.Step()
		must(err)
		if v != first+i {
			t.Errorf("step %d from %d: %d", i, first, v)
		}
	}

	must(b.NV.RaiseEpoch(3))
	must(b.NV.RaiseEpoch(3))
	must(b.NV.RaiseEpoch(1 << 40))
	if err := b.NV.RaiseEpoch(1<<40 - 1); !errors.Is(err, nv.ErrBack) {
		t.Error(err)
	}

	q := nv.Quarantine{Code: 0x2001, Incident: 77}
	if got, err := b.NV.Latched(); got != (nv.Quarantine{}) || err != nil {
		t.Error(got, err)
	}
	must(b.NV.SetLatch(q))

	old, err := b.NV.EraseSecret()
	must(err)
	if len(old) != 32 || string(old) == string(make([]byte, 32)) {
		t.Errorf("the first erase secret is %x", old)
	}
	must(b.NV.EraseAll([32]byte{1, 2, 3}))

	before, err := b.NV.AuditDigest()
	must(err)
	record := sha256.Sum256([]byte("refused"))
	must(b.NV.ExtendAudit(record))

	b = board.Boot(t, nil) // all lasts
	if v, err := b.NV.Epoch(); v != 1<<40 || err != nil {
		t.Error(v, err)
	}
	if v, err := b.NV.Freshness(); v != first+3 || err != nil {
		t.Error(v, err)
	}
	if got, err := b.NV.Latched(); got != q || err != nil {
		t.Error(got, err)
	}
	if got, err := b.NV.EraseSecret(); [32]byte(got) != [32]byte{1, 2, 3} || err != nil {
		t.Error(got, err)
	}
	only, err := b.NV.AuditOnly()
	must(err)
	must(only.ExtendAudit(record))
	if got, err := only.AuditDigest(); got != tpm.Extended(tpm.Extended(before, record), record) || err != nil {
		t.Errorf("%x, %v", got, err)
	}
	if _, err := only.Epoch(); !errors.Is(err, nv.ErrGivenUp) {
		t.Errorf("the epoch, of who has the audit index alone: %v", err)
	}
	must(b.NV.SetLatch(nv.Quarantine{}))
	if got, err := b.NV.Latched(); got != (nv.Quarantine{}) || err != nil {
		t.Error(got, err)
	}
}

func TestFloorBits(t *testing.T) {
	for v, want := range map[uint32]uint64{0: 0, 1: 1, 2: 3, 5: 31, 63: 1<<63 - 1, 64: ^uint64(0)} {
		if got := nv.FloorBits(v); got != want {
			t.Errorf("%d: %#x, not %#x", v, got, want)
		}
	}
}
