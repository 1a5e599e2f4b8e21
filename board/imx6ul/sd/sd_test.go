package sd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func newCard(t *testing.T, s *slot) *Card {
	t.Helper()
	s.t = t
	c, err := New(s, buffer(8))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func opened(t *testing.T, s *slot) *Card {
	t.Helper()
	c := newCard(t, s)
	if err := c.Open(); err != nil {
		t.Fatal(err)
	}
	return c
}

// fill writes blocks that tell their place and version.
func fill(c *Card, first, n uint64, version uint32) error {
	var p []byte
	for i := range n {
		b := block(first+i, version)
		p = append(p, b[:]...)
	}
	return c.WriteBlocks(first, p)
}

// holds reads blocks and compares them with what fill wrote.
func holds(c *Card, first, n uint64, version uint32) error {
	p := make([]byte, n*512)
	if err := c.ReadBlocks(first, p); err != nil {
		return err
	}
	for i := range n {
		if [512]byte(p[i*512:]) != block(first+i, version) {
			return fmt.Errorf("block %d holds %x", first+i, p[i*512:][:16])
		}
	}
	return nil
}

// TestCards opens cards of each kind, and writes and reads at their ends and in
// between, in pieces of each size.
func TestCards(t *testing.T) {
	old := func(change func(*modelCard)) *modelCard {
		c := sdhc(1)
		c.high, c.csd, c.blocks = false, csd1(3751, 7, 9), 3752<<9
		change(c)
		return c
	}
	large := func(size uint32, change func(*modelCard)) *modelCard {
		c := sdhc(1)
		c.csd, c.blocks = csd2(size), (uint64(size)+1)*1024
		change(c)
		return c
	}
	as := func(*modelCard) {}
	for name, m := range map[string]struct {
		card  *modelCard
		clock uint32
		wide  bool
	}{
		"SDSC of version 1":      {old(func(c *modelCard) { c.version1, c.fast = true, false }), 25000000, true},
		"SDSC, 1 GiB":            {old(as), 50000000, true},
		"SDSC, 2 GiB":            {old(func(c *modelCard) { c.csd, c.blocks = csd1(4095, 7, 10), 4<<20 }), 50000000, true},
		"SDSC, slow":             {old(func(c *modelCard) { put(c.csd[:], 94, 94, 0) }), 25000000, true},
		"SDHC":                   {large(16383, as), 50000000, true},
		"SDHC, one line":         {large(16383, func(c *modelCard) { c.scr = scr(1, 0) }), 50000000, false},
		"SDHC, no high speed":    {large(16383, func(c *modelCard) { c.fast = false }), 25000000, true},
		"SDHC of version 1.0":    {large(16383, func(c *modelCard) { put(c.scr[:], 59, 56, 0) }), 25000000, true},
		"SDXC, block count":      {large(131071, func(c *modelCard) { c.scr = scr(5, 3) }), 50000000, true},
		"SDXC, 2 TiB":            {large(1<<22-1, func(c *modelCard) { c.strict = true }), 50000000, true},
		"SDXC, CMD20 and not 23": {large(131071, func(c *modelCard) { c.scr = scr(5, 1) }), 50000000, true},
		"no time to power up":    {large(16383, func(c *modelCard) { c.startup = 0 }), 50000000, true},
		"the last to power up":   {large(16383, func(c *modelCard) { c.startup = 900 }), 50000000, true},
		"no room for a while":    {large(16383, func(c *modelCard) { c.unready = 5 }), 50000000, true},
		"long busy":              {large(16383, func(c *modelCard) { c.busy = 400 }), 50000000, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &slot{card: m.card}
				c := opened(t, s)
				if c.Blocks() != m.card.blocks || s.clock != m.clock || s.wide != m.wide || m.card.lines4 != m.wide {
					t.Errorf("%d blocks, %d Hz, four lines %v and %v", c.Blocks(), s.clock, s.wide, m.card.lines4)
				}
				for i, r := range [][2]uint64{{0, 1}, {1, 7}, {9, 8}, {100, 9}, {200, 16}, {300, 17}, {c.Blocks() - 1, 1}, {c.Blocks() - 9, 8}, {c.Blocks() - 19, 19}, {5, 0}} {
					version := uint32(i)
					if err := fill(c, r[0], r[1], version); err != nil {
						t.Errorf("write %d at %d: %v", r[1], r[0], err)
					}
					for j := range r[1] {
						if m.card.data[r[0]+j] != block(r[0]+j, version) {
							t.Fatalf("block %d is not on the card when the write is over", r[0]+j)
						}
					}
					if err := holds(c, r[0], r[1], version); err != nil {
						t.Errorf("read %d at %d: %v", r[1], r[0], err)
					}
				}
				if st := c.Stats(); st.Retries+st.LineResets+st.Timeouts+st.CRC+st.Status > 0 || st.BlocksRead != 86 || st.BlocksWritten != 86 {
					t.Errorf("%+v", st)
				}
			})
		})
	}
}

// TestRefused: what cannot be done is refused before any command.
func TestRefused(t *testing.T) {
	s := &slot{card: sdhc(1)}
	c := newCard(t, s)
	if err := c.ReadBlocks(0, make([]byte, 512)); !errors.Is(err, ErrNotOpen) {
		t.Errorf("a card that is not open: %v", err)
	}
	if err := c.Open(); err != nil {
		t.Fatal(err)
	}
	sent := s.sent
	for _, r := range []struct {
		first uint64
		n     int
	}{{c.Blocks(), 512}, {c.Blocks() - 1, 1024}, {c.Blocks() + 1, 0}, {1 << 63, 512}, {^uint64(0), 512}, {0, 511}, {0, 1}, {0, 513}} {
		if err := c.ReadBlocks(r.first, make([]byte, r.n)); !errors.Is(err, ErrRange) {
			t.Errorf("read of %d bytes at %d: %v", r.n, r.first, err)
		}
		if err := c.WriteBlocks(r.first, make([]byte, r.n)); !errors.Is(err, ErrRange) {
			t.Errorf("write of %d bytes at %d: %v", r.n, r.first, err)
		}
	}
	if s.sent != sent {
		t.Errorf("%d commands were sent for what is not on the card", s.sent-sent)
	}
	put(s.card.csd[:], 13, 12, 1)
	if err := c.Open(); err != nil {
		t.Fatal(err)
	}
	sent = s.sent
	if err := fill(c, 0, 1, 1); !errors.Is(err, ErrProtected) || s.sent != sent {
		t.Errorf("a write to a protected card: %v", err)
	}
	if err := c.ReadBlocks(0, make([]byte, 512)); err != nil {
		t.Errorf("a read of a protected card: %v", err)
	}
	for _, n := range []int{0, 1, 512, 1025, maxBlocks*512 + 1024} {
		b := buffer(maxBlocks + 1)
		b.Bytes = b.Bytes[:n]
		if _, err := New(s, b); err == nil {
			t.Errorf("a buffer of %d bytes was taken", n)
		}
	}
}

// isTransfer tells the commands that move blocks.
func isTransfer(c *Command) bool { return len(c.Data.Bytes) >= 512 }

// TestRetries: errors of a transfer, so many in a row, before or after the card has
// carried it out.
func TestRetries(t *testing.T) {
	for _, kind := range []error{ErrTimeout, ErrCRC, ErrDMA, ErrHost} {
		for _, write := range []bool{false, true} {
			for _, done := range []bool{false, true} {
				for n := 1; n <= 6; n++ {
					t.Run(fmt.Sprintf("%v/write %v/done %v/%d", kind, write, done, n), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { testRetries(t, kind, write, done, n) })
					})
				}
			}
		}
	}
}

func testRetries(t *testing.T, kind error, write, done bool, n int) {
	s := &slot{card: sdhc(1)}
	c := opened(t, s)
	if err := fill(c, 0, 20, 1); err != nil {
		t.Fatal(err)
	}
	left := n
	fail := func(cmd *Command) error {
		if !isTransfer(cmd) || left == 0 {
			return nil
		}
		left--
		if !done && cmd.Index == 18 {
			s.card.state = sending // the card goes on until it is stopped
		}
		return fmt.Errorf("planted: %w", kind)
	}
	if done {
		s.after = fail
	} else {
		s.fault = fail
	}
	var err error
	if write {
		err = fill(c, 0, 20, 2)
	} else {
		err = holds(c, 0, 20, 1)
	}
	st := c.Stats()
	failed := n > tries
	if failed != (err != nil) || failed && !errors.Is(err, kind) {
		t.Errorf("%v", err)
	}
	if want := uint64(min(n, tries)); st.Retries != want || st.LineResets != want {
		t.Errorf("%+v, want %d retries and resets of the lines", st, want)
	}
	if again := st.Identifications == 2; again != (n >= tries) {
		t.Errorf("identified %d times", st.Identifications)
	}
	if got := st.Timeouts + st.CRC + st.DMA + st.Host; got != uint64(min(n, tries+1)) {
		t.Errorf("%d errors counted", got)
	}
	s.fault, s.after = nil, nil
	version := uint32(1)
	if write && !failed {
		version = 2
	} else if write {
		version = 3
		if err := fill(c, 0, 20, 3); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	}
	if err := holds(c, 0, 20, version); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// work is what the tests of vanishing cards do.
func work(c *Card, write bool) error {
	if write {
		return fill(c, 100, 20, 2)
	}
	return holds(c, 100, 20, 1)
}

// TestVanishing: the card is taken out before each command of a transfer, or while the
// card is being identified anew. It is an error, soon, and stays one until the owner
// opens the card again, even if the same card comes back.
func TestVanishing(t *testing.T) {
	for _, detect := range []bool{true, false} {
		for _, write := range []bool{true, false} {
			for _, broken := range []bool{false, true} {
				for at := 1; ; at++ {
					over := false
					synctest.Test(t, func(t *testing.T) { over = vanish(t, detect, write, broken, at) })
					if over {
						break
					}
				}
			}
		}
	}
}

// vanish takes the card out before the command that is number at of the work, and
// tells whether the work was over by then. A broken card fails all transfers, so it
// is identified anew before.
func vanish(t *testing.T, detect, write, broken bool, at int) (over bool) {
	s := &slot{card: sdhc(1), detect: detect}
	c := opened(t, s)
	if err := fill(c, 100, 20, 1); err != nil {
		t.Fatal(err)
	}
	same, n := s.card, 0
	s.fault = func(cmd *Command) error {
		if n++; n == at {
			s.change(nil)
			if detect {
				return ErrNoCard
			}
		}
		if broken && isTransfer(cmd) {
			return ErrCRC
		}
		return nil
	}
	start := time.Now()
	err := work(c, write)
	if n < at {
		return true
	}
	name := fmt.Sprintf("detect %v, write %v, broken %v, command %d", detect, write, broken, at)
	for range 2 { // where no switch tells, it may look like an error of another kind first
		if err != nil && !detect && !errors.Is(err, ErrNoCard) {
			err = work(c, write)
		}
	}
	if took := time.Since(start); !errors.Is(err, ErrNoCard) || took > 2*time.Second {
		t.Errorf("%s: %v after %v", name, err, took)
	}
	s.fault = nil
	s.change(same)
	sent := s.sent
	if err := work(c, write); !errors.Is(err, ErrNoCard) || s.sent != sent {
		t.Errorf("%s: the card is back: %v", name, err)
	}
	if err := c.Open(); err != nil {
		t.Errorf("%s: open: %v", name, err)
	}
	if err := fill(c, 100, 20, 3); err != nil {
		t.Errorf("%s: afterwards: %v", name, err)
	}
	if err := holds(c, 100, 20, 3); err != nil {
		t.Errorf("%s: afterwards: %v", name, err)
	}
	return false
}

// TestSwapped puts another card into the slot before each command of a transfer, and
// has one more command fail, at each place. Nothing is ever written to the other card,
// or read from it, before its owner has opened it.
func TestSwapped(t *testing.T) {
	other := sdhc(2)
	larger := sdhc(1) // of the same CID, as no two real cards are
	larger.csd, larger.blocks = csd2(32767), 32768*1024
	for _, other := range []*modelCard{other, larger} {
		for _, detect := range []bool{true, false} {
			for _, write := range []bool{true, false} {
				swapEverywhere(t, other, detect, write)
			}
		}
	}
}

func swapEverywhere(t *testing.T, other *modelCard, detect, write bool) {
	for at := 1; ; at++ {
		for fails := at; fails < at+40; fails++ {
			over := false
			synctest.Test(t, func(t *testing.T) { over = swap(t, other, detect, write, at, fails) })
			if over {
				return
			}
		}
	}
}

func swap(t *testing.T, other *modelCard, detect, write bool, at, fails int) (over bool) {
	s := &slot{card: sdhc(1), detect: detect}
	c := opened(t, s)
	if err := fill(c, 100, 20, 1); err != nil {
		t.Fatal(err)
	}
	n := 0
	for i := range uint64(20) {
		other.data[100+i] = block(100+i, 7)
	}
	s.fault = func(cmd *Command) error {
		if n++; n == at {
			s.change(other)
			if detect {
				return ErrNoCard
			}
		}
		if n == fails {
			return ErrCRC
		}
		return nil
	}
	err := work(c, write)
	if n < at {
		return true
	}
	name := fmt.Sprintf("detect %v, write %v, swapped at command %d, error at %d", detect, write, at, fails)
	for range 3 { // an identification that broke off is taken up again
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if errors.Is(err, ErrChanged) || errors.Is(err, ErrNoCard) {
			break
		}
		err = work(c, write)
	}
	if want := map[bool]error{true: ErrNoCard, false: ErrChanged}[detect]; !errors.Is(err, want) {
		t.Errorf("%s: %v", name, err)
	}
	sent := s.sent
	if again := work(c, write); !errors.Is(again, ErrNoCard) && !errors.Is(again, ErrChanged) || s.sent != sent {
		t.Errorf("%s: once more: %v", name, again)
	}
	for i := range uint64(20) {
		if other.data[100+i] != block(100+i, 7) {
			t.Fatalf("%s: the other card was written to", name)
		}
	}
	s.fault = nil
	if err := c.Open(); err != nil {
		t.Errorf("%s: open: %v", name, err)
	}
	if err := holds(c, 100, 20, 7); err != nil || c.CID() != other.cid {
		t.Errorf("%s: the other card, once it is opened: %v", name, err)
	}
	return false
}

// TestBusy: a card that programs without end is an error.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slot{card: sdhc(1)}
		c := opened(t, s)
		s.card.busy = 1 << 30
		start := time.Now()
		err := fill(c, 0, 1, 1)
		if took := time.Since(start); !errors.Is(err, ErrTimeout) || took > 12*busyLimit {
			t.Errorf("%v after %v", err, took)
		}
		s.card.busy = 0
		if err := errors.Join(fill(c, 0, 1, 2), holds(c, 0, 1, 2)); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

// TestStatus: errors that the card reports, in each answer of a transfer.
func TestStatus(t *testing.T) {
	for _, m := range []struct {
		index uint8
		bits  uint32
		want  error
	}{
		{25, 1 << 30, ErrStatus}, {25, 1 << 31, ErrStatus}, {25, 1 << 26, ErrProtected}, {25, 1 << 19, ErrStatus}, {25, 1 << 22, nil},
		{13, 1 << 21, ErrStatus}, {13, 1 << 20, ErrStatus}, {13, 1 << 26, ErrProtected}, {13, 1 << 23, nil},
		{24, 1 << 29, nil}, // not sent
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &slot{card: sdhc(1)}
			c := opened(t, s)
			s.tells = func(cmd *Command) uint32 {
				if cmd.Index == m.index {
					return m.bits
				}
				return 0
			}
			err := fill(c, 0, 8, 1)
			if !errors.Is(err, m.want) || (m.want == nil) != (err == nil) {
				t.Errorf("CMD%d, status %#x: %v", m.index, m.bits, err)
			}
			if s := c.Stats(); m.want == ErrProtected && s.Retries+s.LineResets > 0 {
				t.Errorf("CMD%d, status %#x: %+v", m.index, m.bits, s)
			}
		})
	}
}

// TestStop: OUT_OF_RANGE in the answer to Auto CMD12 means nothing after the last
// block, and is an error elsewhere.
func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &slot{card: sdhc(1)}
		c := opened(t, s)
		s.after = func(cmd *Command) error {
			if cmd.AutoStop {
				cmd.Stop |= statusOutOfRange
			}
			return nil
		}
		if err := c.ReadBlocks(c.Blocks()-8, make([]byte, 8*512)); err != nil {
			t.Errorf("at the end: %v", err)
		}
		if err := c.ReadBlocks(c.Blocks()-9, make([]byte, 8*512)); !errors.Is(err, ErrStatus) {
			t.Errorf("before the end: %v", err)
		}
	})
}

// TestUnusable: what is no card, or none that can be used, is an error when it is
// opened, within two seconds.
func TestUnusable(t *testing.T) {
	for name, m := range map[string]struct {
		change func(*slot)
		want   error
	}{
		"empty":                      {func(s *slot) { s.card = nil }, ErrNoCard},
		"empty, with a switch":       {func(s *slot) { s.card, s.detect = nil, true }, ErrNoCard},
		"never ready":                {func(s *slot) { s.card.startup = 1 << 30 }, ErrTimeout},
		"only 1.8 V":                 {func(s *slot) { s.card.voltages = 0x80 }, ErrNotSD},
		"locked":                     {func(s *slot) { s.card.locked = statusLocked }, ErrLocked},
		"no address":                 {func(s *slot) { s.card.address = 0 }, ErrNonsense},
		"SDUC":                       {func(s *slot) { put(s.card.csd[:], 127, 126, 2) }, ErrNonsense},
		"CSD of large blocks":        {func(s *slot) { s.card.csd = csd1(100, 7, 12) }, ErrNonsense},
		"CSD of small blocks":        {func(s *slot) { s.card.csd = csd1(100, 7, 8) }, ErrNonsense},
		"CSD of another card":        {func(s *slot) { s.card.csd = csd1(100, 7, 9) }, ErrNonsense},
		"SCR of another structure":   {func(s *slot) { put(s.card.scr[:], 63, 60, 1) }, ErrNonsense},
		"SCR without lines":          {func(s *slot) { put(s.card.scr[:], 51, 48, 0) }, ErrNonsense},
		"another pattern":            {answers(8, 0x1ab^0x1aa), ErrNotSD},
		"no application commands":    {func(s *slot) { s.fault = fails(55, ErrTimeout) }, ErrNoCard},
		"application command denied": {func(s *slot) { s.after = forgets(55, statusAppCommand) }, ErrNotSD},
		"checksums":                  {func(s *slot) { s.fault = fails(9, ErrCRC) }, ErrCRC},
		"status in CMD6":             {answers(6, 1<<19), ErrStatus},
		"silent in CMD51":            {func(s *slot) { s.fault = fails(51, ErrTimeout) }, ErrTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &slot{card: sdhc(1)}
				m.change(s)
				c := newCard(t, s)
				start := time.Now()
				err := c.Open()
				if took := time.Since(start); !errors.Is(err, m.want) || took > 2*time.Second {
					t.Errorf("%v after %v", err, took)
				}
				if err := c.ReadBlocks(0, make([]byte, 512)); !errors.Is(err, m.want) {
					t.Errorf("read: %v", err)
				}
				if !strings.Contains(c.String(), m.want.Error()) {
					t.Errorf("%v", c)
				}
			})
		})
	}
}

func answers(index uint8, bits uint32) func(*slot) {
	return func(s *slot) {
		s.tells = func(c *Command) uint32 {
			if c.Index == index {
				return bits
			}
			return 0
		}
	}
}

func fails(index uint8, err error) func(*Command) error {
	return func(c *Command) error {
		if c.Index == index {
			return err
		}
		return nil
	}
}

func forgets(index uint8, bits uint32) func(*Command) error {
	return func(c *Command) error {
		if c.Index == index {
			c.Answer &^= bits
		}
		return nil
	}
}

// TestTogether: several goroutines use one card.
func TestTogether(t *testing.T) {
	s := &slot{card: sdhc(1)}
	c := opened(t, s)
	var all sync.WaitGroup
	for g := range uint64(4) {
		all.Go(func() {
			r := rand.New(rand.NewPCG(1, g))
			for version := range uint32(50) {
				first, n := g*1000+r.Uint64N(900), r.Uint64N(20)
				if err := errors.Join(fill(c, first, n, version), holds(c, first, n, version)); err != nil {
					t.Error(err)
				}
				_, _, _ = c.Stats(), c.String(), c.Blocks()
			}
		})
	}
	all.Wait()
}
