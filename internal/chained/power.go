package chained

import (
	"errors"
	"sync"

	"github.com/google/go-tpm/tpm2/transport"

	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/internal/swtpm"
)

// A Power is what card and TPM of a board hang on. It goes at an event, of which each
// command of the TPM is one, and each write of the card: the command has been executed and
// its answer does not come; the write is torn, or whole and nobody is told. From then on
// nothing answers, until the power is on again.
type Power struct {
	mu     sync.Mutex
	b      *Board
	events int
	writes []int // events that are one
	cutAt  int   // 0 is never
	tear   int   // of a write that is cut: in mediumtest.Tears; len of them is a whole write
	off    bool
}

// Hang has the board hang on a power that goes at the n-th event from now on; 0 is never.
// A write is torn in one of the ways of mediumtest.Tears, or whole with their number.
func (b *Board) Hang(n, tear int) *Power {
	p := &Power{b: b, cutAt: n, tear: tear}
	b.Device = func(medium.Device) medium.Device { return p }
	b.Bus = func(transport.TPM) transport.TPM { return p }
	return p
}

// On gives the board its power back, and nobody takes it any more.
func (b *Board) On() {
	b.Leave()
	b.Card.PowerOn()
}

// Events is how many there were.
func (p *Power) Events() int { return p.events }

// Writes are the events that were writes.
func (p *Power) Writes() []int { return p.writes }

// Off tells whether the power has gone.
func (p *Power) Off() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.off
}

func (p *Power) cut() {
	p.off = true
	p.b.Chip.Cut()
}

// Send implements transport.TPM.
func (p *Power) Send(command []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return nil, swtpm.ErrPower
	}
	answer, err := p.b.Chip.Send(command)
	if p.events++; p.events == p.cutAt {
		p.cut()
		return nil, swtpm.ErrPower
	}
	return answer, err
}

// BlockSize implements medium.Device.
func (p *Power) BlockSize() int { return p.b.Card.BlockSize() }

// Blocks implements medium.Device.
func (p *Power) Blocks() uint64 { return p.b.Card.Blocks() }

// ReadBlocks implements medium.Device.
func (p *Power) ReadBlocks(first uint64, b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return mediumtest.ErrPowerCut
	}
	return p.b.Card.ReadBlocks(first, b)
}

// WriteBlocks implements medium.Device.
func (p *Power) WriteBlocks(first uint64, b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return mediumtest.ErrPowerCut
	}
	p.events++
	p.writes = append(p.writes, p.events)
	if p.events != p.cutAt {
		return p.b.Card.WriteBlocks(first, b)
	}
	defer p.cut()
	if p.tear < len(mediumtest.Tears) {
		p.b.Card.CutAfter(len(b)/mediumtest.SectorSize/2, mediumtest.Tears[p.tear])
	}
	return errors.Join(p.b.Card.WriteBlocks(first, b), mediumtest.ErrPowerCut)
}
