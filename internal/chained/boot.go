package chained

import (
	"nitro/boot/chain"
	"nitro/boot/code"
	"nitro/boot/handover"
	"nitro/boot/store"
	"nitro/internal/swtpm"
)

// Start switches the board's power off and on and boots it, up to the open store, or to
// whatever it comes to.
func (b *Board) Start() *Boot {
	b.tb.Helper()
	if p, hangs := b.card().(*Power); hangs && p.Off() {
		return &Boot{Err: swtpm.ErrPower}
	}
	b.Chip.Cycle()
	if b.Early != nil {
		b.Early()
	}
	return b.Begin()
}

// Begin boots a board whose power is on.
func (b *Board) Begin() *Boot {
	x := &Boot{secret: b.Secret}
	l := b.loader(x)
	if x.Err = x.load(l); x.Err != nil {
		x.Rested = true
		l.Rest(x.Err)
		return x
	}
	if b.Between != nil {
		b.Between(x.Memory)
	}
	h, err := handover.Take(x.Memory)
	if err != nil {
		x.report("%v", err)
	}
	x.C = &chain.Controller{Handover: h, SecurityKey: b.SecurityKey, Report: x.report}
	x.C.Product, x.C.Card, x.C.TPM = l.Product, b.card(), b.bus()
	x.Err = x.C.Unlock()
	return x
}

// load is what cmd/bootloader does.
func (x *Boot) load(l *chain.Loader) error {
	for _, p := range l.Phases() {
		if err := p.Do(); err != nil {
			return err
		}
	}
	header, h, err := l.Result()
	if err != nil {
		return err
	}
	defer h.Zero()
	x.Header, x.Memory = header, make([]byte, handover.Size)
	return handover.Put(x.Memory, h)
}

// Boot does so, and has the journal know how it went.
func (b *Board) Boot() *Boot {
	b.tb.Helper()
	x := b.Start()
	x.Stand()
	return x
}

// Stand has the journal know how a boot went. It tells whether the firmware would restart
// by itself.
func (x *Boot) Stand() (again bool) {
	if x.C == nil {
		return false
	}
	s, again, err := x.C.Stand(x.Err)
	if err != nil {
		x.report("%v", err)
	}
	x.Slots = s
	return again
}

// restarts is how often a board may restart by itself before it comes to rest: more than
// both slots have attempts.
const restarts = 8

// Settle boots the board as often as its firmware restarts by itself, and gives the first
// boot and the last.
func (b *Board) Settle() (first, last *Boot) {
	b.tb.Helper()
	for range restarts {
		last = b.Start()
		again := last.Stand()
		if first == nil {
			first = last
		}
		if !again {
			return first, last
		}
		last.End()
	}
	b.tb.Fatalf("the board restarts by itself without end: %v", last.Err)
	return first, last
}

// End takes what a boot holds away, as losing the power does.
func (x *Boot) End() { x.C = nil }

// InService tells whether the board is: provisioned, its store open.
func (x *Boot) InService() bool { return x.Err == nil && x.C != nil && x.C.Provisioned }

// Code is that of the quarantine, or None.
func (x *Boot) Code() code.Code { return code.Of(x.Err) }

// Store is the open store; nil where it is not.
func (x *Boot) Store() *store.Store {
	if x.C == nil {
		return nil
	}
	return x.C.Store
}
