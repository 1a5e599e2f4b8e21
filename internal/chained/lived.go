package chained

import (
	"fmt"
	"testing"

	"nitro/boot/config"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/release"
	"nitro/boot/store"
	"nitro/boot/ticket"
)

// Secrets of the SoCs of the boards that there are.
var ourSecret, otherSecret = [32]byte{7, 31: 7}, [32]byte{8, 31: 8}

// A Lived is a board that has run for a while: First is proven in slot A, which is
// preferred, and Second in slot B. Its configuration has been changed, and its store
// written. Beside it is what an attacker may have kept or come by.
type Lived struct {
	*Board
	Past *mediumtest.Card // this board's, as it was before configuration and store were changed
	// Other is another board of the same maker, with a SoC's secret of its own; Twin one with
	// the same secret, as all emulated boards have it.
	Other, Twin *Board
	// Stranger makes boards, too, and has other keys.
	Stranger *Maker
}

// Epochs of the configuration that a Lived has had.
const (
	FirstEpoch  = 1
	SecondEpoch = 2
)

// NewLived makes such a board.
func NewLived(tb testing.TB) *Lived {
	tb.Helper()
	m := Product()
	l := &Lived{Board: New(tb, m, ourSecret, nil), Other: New(tb, m, otherSecret, nil), Twin: New(tb, m, ourSecret, nil)}
	for _, b := range []*Board{l.Board, l.Other, l.Twin} {
		b.Provision()
		b.serve(func(x *Boot) error { return fill(x.Store(), 1) })
	}
	l.serve(func(x *Boot) error { return x.Slots.Rollback() }) // to B, so that B is proven
	l.serve(func(x *Boot) error { return x.Slots.Rollback() })
	l.serve(nil)
	l.Past = l.Card.Clone()
	must(tb, l.Configure(SecondEpoch, nil))
	l.serve(func(x *Boot) error { return fill(x.Store(), 2) })
	var err error
	l.Stranger, err = NewMaker()
	must(tb, err)
	l.Chip.Cut()
	return l
}

// Clone is a Lived in the same state.
func (l *Lived) Clone(tb testing.TB) *Lived {
	c := *l
	c.Board = l.Board.Clone(tb)
	return &c
}

// serve boots the board, which has to be in service, and has something done.
func (b *Board) serve(do func(*Boot) error) {
	b.tb.Helper()
	x := b.Boot()
	if !x.InService() {
		b.tb.Fatalf("not in service: %v\n%q", x.Err, x.Said)
	}
	if do != nil {
		must(b.tb, do(x))
	}
}

// Configure puts a configuration of an epoch on the card.
func (b *Board) Configure(epoch uint64, change func(*config.Config)) error {
	signed, err := b.Maker.Configuration(epoch, change)
	if err != nil {
		return err
	}
	return b.ConfigureOn(b.Card, signed)
}

// ConfigureOn puts a signed configuration on the card as it is seen.
func (b *Board) ConfigureOn(d medium.Device, signed []byte) error {
	return config.Write(d, signed, config.Want{Product: b.Maker.First.Controller.Product, Anchors: b.Maker.First.Anchors})
}

// Records of the store: small ones, and one that has segments of its own.
const (
	smallRecords = 20
	largeRecord  = "large"
)

func smallRecord(n int) string { return fmt.Sprintf("small/%d", n) }

// Record is what a record holds after a number of fillings.
func Record(name string, filling int) []byte {
	size := 100
	if name == largeRecord {
		size = 100 << 10
	}
	b := make([]byte, 0, size)
	for len(b) < size {
		b = fmt.Appendf(b, "%s of filling %d; ", name, filling)
	}
	return b[:size]
}

// Records are the names of what fillings write.
func Records() (all []string) {
	for n := range smallRecords {
		all = append(all, smallRecord(n))
	}
	return append(all, largeRecord)
}

// fill writes all records, and has the TPM count it.
func fill(s *store.Store, filling int) error {
	for _, name := range Records() {
		if err := s.Put(name, Record(name, filling)); err != nil {
			return err
		}
	}
	return s.Checkpoint()
}

// Ticket puts the owner's word on the card that the board may leave a quarantine.
func (b *Board) Ticket(t ticket.Ticket) error { return b.TicketOn(b.Card, t) }

// TicketOn puts it on the card as it is seen.
func (b *Board) TicketOn(d medium.Device, t ticket.Ticket) error {
	owner, err := b.Maker.Keys.Signer(release.Owner)
	if err != nil {
		return err
	}
	t.Board = ticket.BoardOf(b.Record.AKName)
	signed, err := t.Sign(owner)
	if err != nil {
		return err
	}
	return ticket.Write(d, signed)
}

// Install writes a release into a slot, with its known-good set.
func Install(d medium.Device, slot int, r *release.Release) error {
	if err := medium.WritePlace(d, medium.Slots[slot], r.Controller.Bytes); err != nil {
		return err
	}
	return medium.WritePlace(d, medium.KnownGoodOf[slot], r.KnownGood.Bytes)
}
