//go:build !arm

package tamper

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"nitro/attest/identity"
	"nitro/attest/nv"
	"nitro/attest/seal"
	"nitro/attest/tpm"
	"nitro/boot/code"
	"nitro/boot/medium"
	"nitro/boot/pin"
	"nitro/boot/store"
	"nitro/boot/ticket"
	"nitro/internal/chained"
	"nitro/qemu-test/factory"
)

// stride is between the cases of the short form, which begins with another one in each run,
// so that in time all are met.
const stride = 4

// TestTamper goes through the table.
func TestTamper(t *testing.T) {
	made := chained.NewLived(t)
	folder := filepath.Join(t.TempDir(), "tpm")
	if err := factory.MakeTPM(folder); err != nil {
		t.Fatal(err)
	}
	n, board, first := 0, 0, rand.IntN(stride)
	for i, c := range Cases() {
		if c.Board {
			board++
		}
		if os.Getenv("NITRO_TAMPER") == "" && i%stride != first {
			continue
		}
		n++
		t.Run(c.Region+": "+c.Name, func(t *testing.T) { (&trial{t, c, made, made.Clone(t), false}).run(folder) })
	}
	fmt.Printf("tamper: %d cases, %d on the board\n", n, board)
}

// A trial is one case.
type trial struct {
	*testing.T
	Case
	made, l *chained.Lived
	mounted bool // the store was opened meanwhile, so the card as it was is an old one
}

func (t *trial) run(newTPM string) {
	target := &Target{
		Card: t.l.Card, Past: t.l.Past, Twin: t.l.Twin.Card, Other: t.l.Other.Card, TPM: t.l.Chip.State(),
		TwinTPM: t.l.Twin.Chip.State(), NewTPM: newTPM, Maker: t.l.Maker, Stranger: t.l.Stranger,
	}
	if t.Do != nil {
		t.Do(target)
	}
	if err := target.Err(); err != nil {
		t.Fatal(err)
	}
	t.l.Twin = t.made.Twin.Clone(t.T)
	if t.Live != nil {
		t.Live(t.l)
	}
	first := t.l.Start()
	t.judge(first)
	last := first
	for again := first.Stand(); again; again = last.Stand() {
		last = t.l.Start()
		t.judge(last)
	}
	t.end(first, last)
	if !t.Failed() && !t.Ruined && (!t.mounted || t.Do == nil) {
		t.after(target.swapped)
	}
	t.l.Chip.Cut()
}

// judge judges one boot.
func (t *trial) judge(x *chained.Boot) {
	t.Helper()
	if x.Err != nil && x.Code() == code.None {
		t.Errorf("an error without a code: %v", x.Err)
	}
	if !x.Rested {
		r := t.l.Maker.Genuine(x.Header)
		if r == nil || !bytes.Equal(x.Loaded, r.Controller.Payload()) || x.Header.SecurityVersion < chained.Security {
			t.Errorf("runs what must not run: version %s", x.Header.Version)
		}
	}
	if s := x.Store(); s != nil {
		if x.Err != nil {
			t.Error("the store is open in quarantine")
		}
		t.mounted = true
		t.judgeStore(s)
		return
	}
	if x.C != nil && x.C.Handover != nil && x.Err != nil && x.C.Handover.Secret != [32]byte{} {
		t.Error("the SoC's secret is not zero in quarantine")
	}
	if x.Err != nil && !t.Forgotten { // else it is not the board's TPM, or not usable
		if err := t.unseal(); err == nil {
			t.Error("the board's secrets unseal in quarantine")
		}
	}
}

// judgeStore: all is as it was last committed, or it is said to be damaged.
func (t *trial) judgeStore(s *store.Store) {
	for _, name := range chained.Records() {
		got, err := s.Get(name)
		switch {
		case err == nil && bytes.Equal(got, chained.Record(name, 2)):
		case err != nil && t.Damaged && errors.Is(err, store.ErrDamaged):
		default:
			t.Errorf("record %s: %.40q, %v", name, got, err)
		}
	}
}

// unseal is what somebody does who has the SoC's secret, and the card as it was.
func (t *trial) unseal() error {
	chip := t.l.Chip
	m, err := tpm.Rejoin(chip)
	if err != nil {
		return err
	}
	p, _, err := pin.Read(t.made.Card, t.l.Secret[:])
	if err != nil {
		return err
	}
	if err := m.Pin(p.Storage); err != nil {
		return err
	}
	ak, _, err := identity.AK(m, t.l.Secret[:])
	if err != nil {
		return err
	}
	s, err := m.NewSession(ak)
	if err != nil {
		return err
	}
	content, _, err := medium.Pair(medium.SealedObjects).Read(t.made.Card, seal.Rank)
	if err != nil {
		return err
	}
	set, err := seal.Decode(content)
	if err != nil {
		return err
	}
	c, err := t.l.Maker.Keys.Config(factory.Product, chained.SecondEpoch)
	if err != nil {
		return err
	}
	door := &seal.Door{T: m, S: s, AK: ak, NV: nv.New(m, s, t.l.Secret[:]), SoC: t.l.Secret[:]}
	_, _, err = door.Unseal(set, c.Sealing())
	return err
}

// end compares what has come of it with what had to.
func (t *trial) end(first, last *chained.Boot) {
	t.Helper()
	k := first.Code()
	switch {
	case t.Code == anyReset:
		if !slices.Contains(resetCodes, k) && !(k == code.None && first.InService()) {
			t.Errorf("%v, %v", k, first.Err)
		}
		return
	case t.Damaged && (k == code.StoreDamaged || k == code.StoreRolledBack):
		return
	case k != t.Code || first.Rested != t.Rests:
		t.Errorf("code %v, rests %v; it has to be %v, %v\n%v\n%q", k, first.Rested, t.Code, t.Rests, first.Err, first.Said)
	}
	version := ""
	if last.InService() {
		version = last.Header.Version
	}
	if version != t.Version && !t.Unprovisioned {
		t.Errorf("in service in the end: %q, and not %q: %v\n%q", version, t.Version, last.Err, last.Said)
	}
	if first.Err == nil && first.C.Provisioned == t.Unprovisioned {
		t.Errorf("provisioned: %v", first.C.Provisioned)
	}
}

// after: the attack is over and all is as it was. What was latched is still there, and the
// owner's ticket ends it, once; anything else is gone.
func (t *trial) after(swapped bool) {
	l := t.l
	l.Leave()
	l.Text, l.UniqueID = t.made.Text, t.made.UniqueID
	if t.Do != nil {
		l.Card = t.made.Card.Clone()
	}
	if swapped {
		l = t.made.Clone(t.T)
		t.l = l
	}
	x := l.Boot()
	if x.Code() == code.SlotsExhausted { // it has used up what it has, and gets one attempt more
		x = l.Boot()
	}
	if x.C == nil {
		t.Fatalf("afterwards: %v", x.Err)
	}
	kept := x.C.Latched
	latched := t.Code.Class() == code.Latched && t.Code != anyReset && t.Code != code.None && !t.Forgotten
	if latched && (x.Code() != t.Code || kept.Code != uint32(t.Code)) {
		t.Fatalf("afterwards: %v is not latched any more: %+v, %v", t.Code, kept, x.Err)
	}
	if kept.Code != 0 {
		if err := l.Ticket(ticket.Ticket{Code: kept.Code, Incident: kept.Incident}); err != nil {
			t.Fatal(err)
		}
		x = l.Boot()
	}
	if !x.InService() {
		t.Fatalf("afterwards the board is not in service: %v\n%q", x.Err, x.Said)
	}
	t.judge(x)
}
