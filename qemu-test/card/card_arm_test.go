package card

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"nitro/board/evk"
	"nitro/board/imx6ul/ccm"
	"nitro/board/imx6ul/dma"
	"nitro/board/imx6ul/irq"
	"nitro/board/imx6ul/mmio"
	"nitro/board/imx6ul/sd"
	"nitro/board/imx6ul/usdhc"
)

// open opens slot 1 as the board has it, and slot 2 by hand, behind registers that are
// so late that the driver sleeps, and with more memory for transfers.
var open = sync.OnceValues(func() (cards [2]*sd.Card, err error) {
	b, err := evk.Open()
	if err != nil {
		return cards, err
	}
	if cards[0], err = b.SDCard(0); err != nil {
		return cards, err
	}
	window, err := mmio.Map(0x02194000, usdhc.Size)
	if err != nil {
		return cards, err
	}
	line, err := irq.Open(32 + 23)
	if err != nil {
		return cards, err
	}
	const segments = 16
	table, err1 := b.DMA.Alloc(segments*usdhc.DescriptorSize, dma.LineSize)
	buffer, err2 := b.DMA.Alloc(sd.BlockSize+segments*usdhc.Segment, dma.LineSize)
	if err := errors.Join(err1, err2); err != nil {
		return cards, err
	}
	b.Clocks.On(ccm.USDHC2)
	interrupts.Line = line
	cards[1], err = sd.New(usdhc.New(&late{Registers: window}, usdhc.Config{Clock: 198000000, Table: table, IRQ: &interrupts, Polls: 1}), buffer)
	return cards, errors.Join(err, cards[0].Open(), cards[1].Open())
})

// late are registers whose interrupt status is 0 at the first look after a command. The
// emulator is through with most commands when they are sent, so the driver would never
// have to wait.
type late struct {
	mmio.Registers
	sent bool
}

func (l *late) Write32(offset, value uint32) {
	l.Registers.Write32(offset, value)
	if offset == 0x0c {
		l.sent = true
	}
}

func (l *late) Read32(offset uint32) uint32 {
	if offset == 0x30 && l.sent {
		l.sent = false
		return 0
	}
	return l.Registers.Read32(offset)
}

// interrupts counts those of slot 2.
var interrupts counter

type counter struct {
	*irq.Line
	came int
}

func (c *counter) Wait(deadline time.Time) (uint32, error) {
	n, err := c.Line.Wait(deadline)
	c.came += int(n)
	return n, err
}

// each runs a test on both cards.
func each(t *testing.T, test func(t *testing.T, c *sd.Card)) {
	cards, err := open()
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range cards {
		t.Run(fmt.Sprintf("slot %d", i+1), func(t *testing.T) { test(t, c) })
	}
}

func fill(p []byte, r *rand.Rand) {
	for i := range p {
		p[i] = byte(r.Uint32())
	}
}

// TestRanges writes ranges at random places, the first and the last block among them,
// and finds all of them as they were written last.
func TestRanges(t *testing.T) {
	each(t, func(t *testing.T, c *sd.Card) {
		const most = 700 // blocks: more than one command moves
		r := rand.New(rand.NewPCG(1, c.Blocks()))
		type place struct{ first, n uint64 }
		places := []place{{0, 1}, {c.Blocks() - 1, 1}, {1, 2}, {c.Blocks() - most, most}}
		for range 12 {
			n := 1 + r.Uint64N(most)
			places = append(places, place{r.Uint64N(c.Blocks() - n), n})
		}
		model := map[uint64][]byte{}
		for _, at := range places {
			p := make([]byte, at.n*sd.BlockSize)
			fill(p, r)
			if err := c.WriteBlocks(at.first, p); err != nil {
				t.Fatalf("%+v: %v", at, err)
			}
			for i := range at.n {
				model[at.first+i] = p[i*sd.BlockSize:][:sd.BlockSize]
			}
		}
		for _, at := range places {
			p := make([]byte, at.n*sd.BlockSize)
			if err := c.ReadBlocks(at.first, p); err != nil {
				t.Fatalf("%+v: %v", at, err)
			}
			for i := range at.n {
				if !bytes.Equal(p[i*sd.BlockSize:][:sd.BlockSize], model[at.first+i]) {
					t.Fatalf("%+v: block %d is not as it was written", at, at.first+i)
				}
			}
		}
		if s := c.Stats(); s.Retries+s.LineResets > 0 {
			t.Errorf("%+v", s)
		}
	})
	if cards, _ := open(); interrupts.came < int(cards[1].Stats().Commands) {
		t.Errorf("%d interrupts, %d commands", interrupts.came, cards[1].Stats().Commands)
	}
}

// TestEnd: the cards are as large as their images, and nothing is behind their end.
func TestEnd(t *testing.T) {
	sizes := []uint64{64 << 20, 4096 << 20}
	each(t, func(t *testing.T, c *sd.Card) {
		if c.Blocks() != sizes[0]/sd.BlockSize || c.BlockSize() != 512 {
			t.Errorf("%d blocks of %d bytes", c.Blocks(), c.BlockSize())
		}
		sizes = sizes[1:]
		before := c.Stats().Commands
		p := make([]byte, 2*sd.BlockSize)
		if err := c.ReadBlocks(c.Blocks()-1, p); !errors.Is(err, sd.ErrRange) {
			t.Error(err)
		}
		if err := c.WriteBlocks(c.Blocks(), p); !errors.Is(err, sd.ErrRange) {
			t.Error(err)
		}
		if n := c.Stats().Commands - before; n > 0 {
			t.Errorf("%d commands went beyond the end", n)
		}
	})
}

// TestAgain: an open card can be opened again, and keeps what is on it.
func TestAgain(t *testing.T) {
	each(t, func(t *testing.T, c *sd.Card) {
		want, got := bytes.Repeat([]byte("again..."), 64), make([]byte, 512)
		if err := errors.Join(c.WriteBlocks(5, want), c.Open(), c.ReadBlocks(5, got)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v, %q", err, got[:16])
		}
	})
}

// TestTogether: several goroutines use both cards.
func TestTogether(t *testing.T) {
	cards, err := open()
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for g := range uint64(6) {
		all.Go(func() {
			c, r := cards[g%2], rand.New(rand.NewPCG(3, g))
			want, got := make([]byte, 16*sd.BlockSize), make([]byte, 16*sd.BlockSize)
			for range 20 {
				fill(want, r)
				first := 1000*g + r.Uint64N(900)
				if err := errors.Join(c.WriteBlocks(first, want), c.ReadBlocks(first, got)); err != nil || !bytes.Equal(got, want) {
					t.Errorf("goroutine %d at %d: %v", g, first, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// TestOneOwner: a slot is wired up once.
func TestOneOwner(t *testing.T) {
	if _, err := open(); err != nil {
		t.Fatal(err)
	}
	if _, err := mmio.Map(0x02190000, usdhc.Size); !errors.Is(err, syscall.EBUSY) {
		t.Errorf("a second owner: %v", err)
	}
}
