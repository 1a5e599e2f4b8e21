//go:build !arm

package chain_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/seal"
	"nitro/boot/code"
	"nitro/boot/journal"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/release"
	"nitro/boot/store"
	"nitro/boot/ticket"
	"nitro/internal/chained"
)

// A history is what a board that is cut does, up to where it is cut, and what it owes.
type history struct {
	*chained.Board
	records map[string][]byte // committed
	under   map[string][]byte // what is being committed: it is there or not, nil is a deletion
	floor   uint32            // that the board has been told to have
	ticket  ticket.Ticket     // the incident that its owner has looked into
}

// serve boots the board, which has to be in service.
func (h *history) serve(do func(*chained.Boot) error) error {
	x := h.Boot()
	if !x.InService() {
		return errors.Join(errors.New("not in service"), x.Err)
	}
	if do == nil {
		return nil
	}
	return do(x)
}

// A story is what is done, with a board in service at its end. It can be told again to a
// board that was cut in it.
type story struct {
	name string
	tell func(*history) error
	end  func(*chained.Boot) error // how the board is, once the story was told to its end
}

var stories = []story{
	{"boot", func(h *history) error { return h.serve(nil) }, version("1.0")},
	{"slot change", func(h *history) error { return update(h, h.Maker.Next) }, version("2.0")},
	{"slot change of both slots, and a higher floor", func(h *history) error {
		for range 2 {
			if err := update(h, h.Maker.Next); err != nil {
				return err
			}
		}
		return nil
	}, func(x *chained.Boot) error {
		if x.Slots.Floor() != chained.NextSecurity {
			return fmt.Errorf("the floor is %d", x.Slots.Floor())
		}
		return version("2.0")(x)
	}},
	{"rollback", func(h *history) error {
		return errors.Join(h.serve(func(x *chained.Boot) error {
			if x.Header.Version == "1.1" {
				return nil
			}
			return x.Slots.Rollback()
		}), h.serve(nil))
	}, version("1.1")},
	{"configuration", func(h *history) error {
		return errors.Join(h.serve(func(x *chained.Boot) error {
			if x.C.Config.Epoch >= 3 {
				return nil
			}
			signed, err := h.Maker.Configuration(3, nil)
			if err != nil {
				return err
			}
			_, _, err = x.Slots.Reconfigure(signed)
			return err
		}), h.serve(nil))
	}, func(x *chained.Boot) error {
		if epoch, err := x.C.NV.Epoch(); err != nil || epoch != 3 || x.C.Config.Epoch != 3 {
			return fmt.Errorf("epoch %d of the TPM, %d of the card, %v", epoch, x.C.Config.Epoch, err)
		}
		return nil
	}},
	{"store traffic", traffic, nil},
	{"quarantine and ticket", quarantine, version("1.0")},
}

func version(v string) func(*chained.Boot) error {
	return func(x *chained.Boot) error {
		if x.Header.Version != v {
			return fmt.Errorf("version %s runs, and not %s", x.Header.Version, v)
		}
		return nil
	}
}

// update puts a release into the slot that does not run, and boots it. A slot that has it
// already is left.
func update(h *history, r *release.Release) error {
	x := h.Boot()
	if !x.InService() {
		return x.Err
	}
	if _, err := x.Slots.Install(bundleOf(r), nil); err != nil {
		return err
	}
	if err := x.Slots.Activate(); err != nil {
		return err
	}
	return h.serve(version(r.Controller.Version))
}

// approve adds approvals to the sealed objects.
func approve(d medium.Device, approvals []seal.Approval) error {
	content, _, err := medium.Pair(medium.SealedObjects).Read(d, seal.Rank)
	if err != nil {
		return err
	}
	set, err := seal.Decode(content)
	if err != nil {
		return err
	}
	for _, a := range approvals {
		if !slices.ContainsFunc(set.Approvals, func(b seal.Approval) bool { return a.Kind == b.Kind && a.Policy == b.Policy }) {
			set.Approvals = append(set.Approvals, a)
		}
	}
	set.Revision++
	b, err := set.Encode()
	if err != nil {
		return err
	}
	return medium.Pair(medium.SealedObjects).Write(d, b, seal.Rank)
}

// traffic commits records of all sizes, replaces and deletes them.
func traffic(h *history) error {
	return h.serve(func(x *chained.Boot) error {
		s := x.Store()
		for n, size := range []int{10, 3000, 100 << 10, 0, 70 << 10, 200} {
			name := fmt.Sprintf("traffic/%d", n%4)
			value := bytes.Repeat([]byte{byte(n + 1)}, size)
			if err := h.commit(map[string][]byte{name: value}, func() error { return s.Put(name, value) }); err != nil {
				return err
			}
			if n == 2 {
				if err := s.Checkpoint(); err != nil {
					return err
				}
			}
		}
		var b store.Batch
		b.Put("traffic/a", []byte("together"))
		b.Put("traffic/b", []byte("with this"))
		b.Delete("traffic/0")
		return h.commit(map[string][]byte{"traffic/a": []byte("together"), "traffic/b": []byte("with this"), "traffic/0": nil}, func() error { return s.Commit(&b) })
	})
}

// commit notes what is committed.
func (h *history) commit(change map[string][]byte, do func() error) error {
	h.under = change
	if err := do(); err != nil {
		return err
	}
	maps.Copy(h.records, change)
	h.under = nil
	return nil
}

// quarantine has somebody measure what is not in the log, and the owner let the board out.
func quarantine(h *history) error {
	x := h.attacked()
	if k := x.Code(); k != code.LogDoesNotReplay {
		return fmt.Errorf("code %v: %w", k, x.Err)
	}
	if x.C.Latched.Code == 0 {
		return errors.New("not latched")
	}
	h.ticket = ticket.Ticket{Code: x.C.Latched.Code, Incident: x.C.Latched.Incident}
	if err := h.TicketOn(x.C.Card, h.ticket); err != nil {
		return err
	}
	return h.serve(nil)
}

// attacked is a boot in which somebody measures once more.
func (h *history) attacked() *chained.Boot {
	h.Between = func([]byte) {
		tpm2.PCRExtend{
			PCRHandle: tpm2.AuthHandle{Handle: 2, Auth: tpm2.PasswordAuth(nil)},
			Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
		}.Execute(h.Chip) // which has no power any more, maybe
	}
	defer func() { h.Between = nil }()
	return h.Boot()
}

// TestCut tells each story, and cuts the power at its events: all of them with
// NITRO_POWERCUT set, else some, and other ones in each run.
func TestCut(t *testing.T) {
	made := chained.NewLived(t)
	all := 0
	for _, s := range stories {
		t.Run(s.name, func(t *testing.T) { all += sweep(t, made.Board, s) })
	}
	fmt.Printf("power cuts: %d over boots, slots, configuration, store and quarantine; each survived\n", all)
}

// strides is between the events that the short form cuts at.
const strides = 23

func begin(t *testing.T, made *chained.Board, n, tear int) (*history, *chained.Power) {
	h := &history{Board: made.Clone(t), records: map[string][]byte{}, floor: chained.Security}
	for _, name := range chained.Records() {
		h.records[name] = chained.Record(name, 2)
	}
	return h, h.Hang(n, tear)
}

func sweep(t *testing.T, made *chained.Board, s story) (n int) {
	h, whole := begin(t, made, 0, 0)
	if err := s.tell(h); err != nil {
		t.Fatal("without a cut: ", err)
	}
	h.Chip.Cut()
	type cut struct{ event, tear int }
	var cuts []cut
	tears := len(mediumtest.Tears) + 1
	if os.Getenv("NITRO_POWERCUT") != "" {
		for e := range whole.Events() {
			if !slices.Contains(whole.Writes(), e+1) {
				cuts = append(cuts, cut{e + 1, 0})
				continue
			}
			for tear := range tears {
				cuts = append(cuts, cut{e + 1, tear})
			}
		}
	} else {
		for e := 1 + rand.IntN(strides); e <= whole.Events(); e += strides {
			cuts = append(cuts, cut{e, rand.IntN(tears)})
		}
	}
	for _, c := range cuts {
		t.Run(fmt.Sprintf("event %d of %d, tear %d", c.event, whole.Events(), c.tear), func(t *testing.T) {
			h, p := begin(t, made, c.event, c.tear)
			err := s.tell(h)
			if !p.Off() {
				t.Fatalf("the power did not go: %v", err)
			}
			h.On()
			h.recovered(t)
			if err := s.tell(h); err != nil {
				t.Fatalf("told again: %v", err)
			}
			x := h.recovered(t)
			if s.end != nil {
				if err := s.end(x); err != nil {
					t.Errorf("told again: %v", err)
				}
			}
			h.Chip.Cut()
		})
	}
	t.Logf("%d cuts in %d events, of which %d are writes", len(cuts), whole.Events(), len(whole.Writes()))
	return len(cuts)
}

// recovered boots a board that was cut, and judges it: it comes into service by itself, in
// a controller that may run, and owes nothing.
func (h *history) recovered(t *testing.T) *chained.Boot {
	t.Helper()
	_, x := h.Settle()
	if x.C != nil && x.C.Latched.Code != 0 { // the quarantine's story was cut
		if x.Code() != code.LogDoesNotReplay || h.ticket.Incident > x.C.Latched.Incident {
			t.Fatalf("latched %+v, behind incident %d: %v", x.C.Latched, h.ticket.Incident, x.Err)
		}
		h.ticket = ticket.Ticket{Code: x.C.Latched.Code, Incident: x.C.Latched.Incident}
		if err := h.TicketOn(h.Card, h.ticket); err != nil {
			t.Fatal(err)
		}
		_, x = h.Settle()
	}
	if !x.InService() {
		t.Fatalf("not in service: %v\n%q", x.Err, x.Said)
	}
	if r := h.Maker.Genuine(x.Header); r == nil || r.Controller.SecurityVersion < x.Slots.Floor() || x.Slots.Floor() < h.floor {
		t.Fatalf("version %s runs with a floor of %d", x.Header.Version, x.Slots.Floor())
	}
	h.floor = x.Slots.Floor()
	for name, want := range h.records {
		h.judge(t, x.Store(), name, want)
	}
	for name := range h.under {
		if _, known := h.records[name]; !known {
			h.judge(t, x.Store(), name, nil)
		}
	}
	if failures, err := x.C.T.Property(tpm2.TPMPTLockoutCounter); failures != 0 || err != nil {
		t.Errorf("the TPM counts %d failures, %v", failures, err)
	}
	if _, err := journal.Open(h.Card); err != nil {
		t.Error(err)
	}
	return x
}

// judge: a record is what was committed last, or what was being committed; and then that is
// what counts from now on. A batch is there as a whole or not at all.
func (h *history) judge(t *testing.T, s *store.Store, name string, want []byte) {
	t.Helper()
	got, err := s.Get(name)
	if errors.Is(err, store.ErrNotFound) {
		got, err = nil, nil
	}
	if err != nil {
		t.Errorf("record %s: %v", name, err)
		return
	}
	if same(got, want) {
		return
	}
	if next, under := h.under[name]; !under || !same(got, next) {
		t.Errorf("record %s: %.20q of %d bytes, and not %.20q of %d", name, got, len(got), want, len(want))
		return
	}
	for other, next := range h.under {
		if have, err := s.Get(other); err != nil && !errors.Is(err, store.ErrNotFound) || !same(have, next) {
			t.Errorf("of a batch %s is there and %s is not", name, other)
		}
	}
}

func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
