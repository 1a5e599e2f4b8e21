//go:build !arm

package chain_test

import (
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/seal"
	"nitro/boot/code"
	"nitro/boot/config"
	"nitro/boot/journal"
	"nitro/boot/medium"
	"nitro/boot/release"
	"nitro/boot/ticket"
	"nitro/internal/chained"
)

// is fails unless a board is in service in a version.
func is(t *testing.T, x *chained.Boot, version string) *chained.Boot {
	t.Helper()
	if !x.InService() || x.Header.Version != version {
		t.Fatalf("version %s: %v\n%q", x.Header.Version, x.Err, x.Said)
	}
	return x
}

// rests fails unless a board is in quarantine with a code.
func rests(t *testing.T, x *chained.Boot, c code.Code) *chained.Boot {
	t.Helper()
	if x.Code() != c || x.InService() {
		t.Fatalf("code %v, and not %v: %v\n%q", x.Code(), c, x.Err, x.Said)
	}
	return x
}

// TestService: a board that is as it should be comes into service, proves that its next
// boot will unseal, and measures nothing else behind the cap into PCR 7.
func TestService(t *testing.T) {
	l := chained.NewLived(t)
	x := is(t, l.Boot(), "1.0")
	if err := x.C.CheckSeal(); err != nil {
		t.Error(err)
	}
	if err := x.C.BindIdentity([32]byte{1}, [32]byte{2}); err != nil {
		t.Error(err)
	}
	var names []string
	for _, e := range x.C.Log.Events() {
		names = append(names, e.Name())
	}
	want := []string{"anchors", "bootloader", "board", "configuration", "controller", "authority", "security-version", "slot", "cap", "identity"}
	if len(names) != len(want) {
		t.Fatal(names)
	}
	for i := range want {
		if names[i] != want[i] {
			t.Error(names)
		}
	}
	values, err := x.C.T.ReadPCRs(0, 1, 2, 3, 4, 5, 6, 7, 8)
	if err != nil {
		t.Fatal(err)
	}
	replayed := x.C.Log.Replay()
	for i, v := range values {
		if replayed[i] != v {
			t.Errorf("PCR %d is not what the log gives", i)
		}
	}
	if _, _, err := x.C.Door().Unseal(setOf(t, l.Card), x.C.Config.Sealing()); err == nil {
		t.Error("it unseals twice in a boot")
	}
	if s := x.Slots.State(); s.Preferred != journal.A || s.Pending || s.Slots[0].Status != journal.Proven || s.Slots[0].Attempts != journal.MaxAttempts {
		t.Errorf("%+v", s)
	}
}

// setOf are the sealed objects of a card.
func setOf(t *testing.T, d medium.Device) *seal.Set {
	t.Helper()
	content, _, err := medium.Pair(medium.SealedObjects).Read(d, seal.Rank)
	must(t, err)
	s, err := seal.Decode(content)
	must(t, err)
	return s
}

// TestUnprovisioned: a new board boots, has no secrets, and does not use its attempts up.
func TestUnprovisioned(t *testing.T) {
	b := chained.New(t, chained.Product(), [32]byte{1}, nil)
	for range 4 {
		x := b.Boot()
		if x.Err != nil || x.C.Provisioned || x.C.Store != nil || x.Header.Version != "1.0" {
			t.Fatalf("%v, version %s", x.Err, x.Header.Version)
		}
		if x.C.LowestSecurityVersion() != chained.Security {
			t.Error(x.C.LowestSecurityVersion())
		}
	}
}

// TestSecurityKey: where the configuration says so the store opens with the removable key
// alone, and being without is transient.
func TestSecurityKey(t *testing.T) {
	b := chained.New(t, chained.Product(), [32]byte{1}, func(c *config.Config) { c.SecurityKey = true })
	key := []byte("the secret of the removable key.")
	b.SecurityKey = func() ([]byte, error) { return append([]byte(nil), key...), nil }
	b.Provision()
	is(t, b.Boot(), "1.0")
	b.SecurityKey = func() ([]byte, error) { return nil, errors.New("nobody answers") }
	rests(t, b.Boot(), code.SecurityKeyMissing)
	b.SecurityKey = nil
	rests(t, b.Boot(), code.SecurityKeyMissing)
	b.SecurityKey = func() ([]byte, error) { return make([]byte, 32), nil }
	rests(t, b.Boot(), code.StoreKey)
	b.SecurityKey = func() ([]byte, error) { return append([]byte(nil), key...), nil }
	if _, x := b.Settle(); !x.InService() {
		t.Error(x.Err)
	}
}

// TestTicket: what is latched outlasts power cycles, and one ticket ends one incident of one
// board, once.
func TestTicket(t *testing.T) {
	l := chained.NewLived(t)
	latched := func() uint32 {
		t.Helper()
		h := &history{Board: l.Board}
		return rests(t, h.attacked(), code.LogDoesNotReplay).C.Latched.Incident
	}
	incident := latched()
	const c = uint32(code.LogDoesNotReplay)
	if again := rests(t, l.Boot(), code.LogDoesNotReplay).C.Latched.Incident; again != incident {
		t.Errorf("incident %d became %d", incident, again)
	}
	for name, wrong := range map[string]ticket.Ticket{
		"another code": {Code: uint32(code.TPMNotFresh), Incident: incident}, "another incident": {Code: c, Incident: incident + 1},
	} {
		must(t, l.Ticket(wrong))
		if x := rests(t, l.Boot(), code.LogDoesNotReplay); x.C.Latched.Incident != incident {
			t.Errorf("%s: %+v", name, x.C.Latched)
		}
	}
	record := *l.Record
	l.Record = l.Twin.Record // another board's
	must(t, l.Ticket(ticket.Ticket{Code: c, Incident: incident}))
	rests(t, l.Boot(), code.LogDoesNotReplay)
	l.Record = &record
	must(t, l.Ticket(ticket.Ticket{Code: c, Incident: incident}))
	is(t, l.Boot(), "1.0")
	is(t, l.Boot(), "1.0")
	// The ticket still lies on the card.
	if next := latched(); next != incident+1 {
		t.Errorf("incident %d is followed by %d", incident, next)
	}
	rests(t, l.Boot(), code.LogDoesNotReplay)
	must(t, l.Ticket(ticket.Ticket{Code: c, Incident: incident + 1}))
	// Somebody resets the TPM in the very boot in which the owner lets the board out.
	l.Between = func([]byte) { l.Chip.Reset(); tpm2.Startup{StartupType: tpm2.TPMSUClear}.Execute(l.Chip) }
	rests(t, l.Boot(), code.TPMSessionLost)
	l.Leave()
	q := rests(t, l.Boot(), code.TPMSessionLost).C.Latched // of which the owner does not know
	must(t, l.Ticket(ticket.Ticket{Code: q.Code, Incident: q.Incident}))
	is(t, l.Boot(), "1.0")
}

// TestTicketForLoss: an older store opens only if the owner says that he accepts it.
func TestTicketForLoss(t *testing.T) {
	l := chained.NewLived(t)
	b := make([]byte, medium.Store.Size)
	must(t, medium.ReadPlace(l.Past, medium.Store, b))
	must(t, medium.WritePlace(l.Card, medium.Store, b))
	q := rests(t, l.Boot(), code.StoreRolledBack).C.Latched
	word := ticket.Ticket{Code: q.Code, Incident: q.Incident}
	must(t, l.Ticket(word))
	q = rests(t, l.Boot(), code.StoreRolledBack).C.Latched
	word.Incident, word.AcceptLoss = q.Incident, true
	must(t, l.Ticket(word))
	x := is(t, l.Boot(), "1.0")
	if got, err := x.Store().Get(chained.Records()[0]); err != nil || string(got) != string(chained.Record(chained.Records()[0], 1)) {
		t.Errorf("%q, %v", got, err)
	}
	is(t, l.Boot(), "1.0")
}

// TestAgain: a transient quarantine restarts the board until its slot has no attempt left,
// and then the other slot runs. One that the other slot would be in too costs no attempt.
func TestAgain(t *testing.T) {
	l := chained.NewLived(t)
	must(t, medium.WritePlace(l.Card, medium.KnownGoodOf[0], make([]byte, 4096)))
	for n := range journal.MaxAttempts {
		x := l.Start()
		rests(t, x, code.KnownGoodMissing)
		if left := x.C.Handover.Attempt; left != uint32(journal.MaxAttempts-n) {
			t.Errorf("boot %d: %d attempts were left", n, left)
		}
		if !x.Stand() {
			t.Errorf("boot %d: no other one", n)
		}
	}
	is(t, l.Boot(), "1.1")
	must(t, medium.WritePlace(l.Card, medium.SealedObjects[0], make([]byte, 4096)), medium.WritePlace(l.Card, medium.SealedObjects[1], make([]byte, 4096)))
	for range 5 {
		x := l.Start()
		rests(t, x, code.SealedObjectMissing)
		if x.Stand() {
			t.Error("a restart would mend it")
		}
		if x.Header.Version != "1.1" || x.C.Handover.Attempt != journal.MaxAttempts {
			t.Errorf("version %s, attempt %d", x.Header.Version, x.C.Handover.Attempt)
		}
	}
}

// TestUpdate: a release is put into the other slot and boots; when both slots have it the
// floor rises, and what is older does not run any more.
func TestUpdate(t *testing.T) {
	l := chained.NewLived(t)
	next := l.Maker.Next
	x := is(t, l.Start(), "1.0")
	s, err := x.C.Slots()
	must(t, err)
	if _, err := s.Clear(); code.Of(err) != code.UpdateUnsafe {
		t.Error("a slot that is not healthy lets the other one be overwritten: ", err)
	}
	if err := s.Rollback(); err != nil {
		t.Error(err)
	}
	l.Chip.Cut()

	is(t, l.Boot(), "1.1") // what was rolled back to
	for n, floor := range []uint32{chained.Security, chained.NextSecurity} {
		x := l.Boot()
		if err := x.Slots.Activate(); n == 0 && code.Of(err) != code.UpdateUnsafe {
			t.Error("a slot is activated that was not cleared: ", err)
		}
		slot, err := x.Slots.Clear()
		must(t, err)
		if err := x.Slots.Rollback(); code.Of(err) != code.SlotEmpty {
			t.Error("there is nothing to roll back to: ", err)
		}
		must(t, chained.Install(l.Card, int(slot), next))
		if n == 0 {
			if err := x.Slots.Activate(); code.Of(err) != code.UnsealNotPredicted {
				t.Error("a release is activated that nobody has approved: ", err)
			}
		}
		must(t, approve(l.Card, next.Approvals))
		must(t, x.Slots.Activate())
		x = is(t, l.Boot(), "2.0")
		if got := x.Slots.Floor(); got != floor || x.C.Handover.Slot != slot {
			t.Errorf("floor %d, %v", got, x.C.Handover.Slot)
		}
	}
	for _, r := range []*release.Release{l.Maker.First, l.Maker.Second, l.Maker.Old} {
		old := l.Clone(t)
		must(t, chained.Install(old.Card, 0, r), chained.Install(old.Card, 1, r))
		rests(t, old.Boot(), code.BelowFloor)
		l = old
	}
}

// TestCheck: a TPM that is reset while the board is in service is found, whatever it is
// asked, and whoever feeds it the good measurements; and the next boot knows of it.
func TestCheck(t *testing.T) {
	l := chained.NewLived(t)
	x := is(t, l.Boot(), "1.0")
	must(t, x.C.Check(), x.C.Check())
	l.Chip.Reset()
	_, err := tpm2.Startup{StartupType: tpm2.TPMSUClear}.Execute(l.Chip)
	must(t, err)
	if err := x.C.Check(); code.Of(err) != code.TPMSessionLost {
		t.Error(err)
	}
	if err := x.Store().Put("live", []byte("goes on")); err != nil {
		t.Error("what is live has ended: ", err)
	}
	if err := x.Store().Checkpoint(); err == nil {
		t.Error("the store's counter is stepped in a TPM that is lost")
	}
	q := rests(t, l.Boot(), code.TPMSessionLost).C.Latched
	must(t, l.Ticket(ticket.Ticket{Code: q.Code, Incident: q.Incident}))
	is(t, l.Boot(), "1.0")
}
