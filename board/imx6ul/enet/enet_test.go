package enet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"nitro/board/imx6ul/dma"
	"nitro/board/imx6ul/dma/dmatest"
	"nitro/board/imx6ul/mmio"
	"nitro/board/imx6ul/mmio/mmiotest"
	"nitro/board/imx6ul/phy"
)

// link is what the network stack wants of a port.
type link interface {
	HardwareAddr() []byte
	ChecksumOffload() (transmit, receive bool)
	Queue(pieces [][]byte) error
	Flush() error
	Receive(limit time.Duration, deliver func(frame []byte)) error
	LinkUp() bool
	LinkChanged() <-chan struct{}
	Close() error
}

var _ link = (*Port)(nil)

// bubble runs a test with a port in a bubble of synctest, with the link up, and closes
// the port.
func bubble(t *testing.T, change func(*Config), f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, change)
		defer r.Close()
		time.Sleep(time.Millisecond) // stopping the MAC takes a moment
		synctest.Wait()
		if !r.LinkUp() {
			t.Fatal("no link")
		}
		f(r)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if n, used, _ := r.arena.Usage(); n != 0 || used != 0 {
			t.Errorf("%d buffers of %d bytes are left", n, used)
		}
	})
}

// frame makes a frame of n bytes to a destination, random but for its header, which is
// that of no IP packet.
func frame(n int, to Address) []byte {
	f := make([]byte, n)
	for i := range f {
		f[i] = byte(rand.Uint32())
	}
	copy(f, to)
	if n >= 14 {
		f[12], f[13] = 0x88, 0xb5
	}
	return f
}

// TestBringUp compares all that is written when a port starts, and when it stops, with
// what chapter 22 asks for.
func TestBringUp(t *testing.T) {
	s := mmiotest.New(t)
	r := s.Block("enet")
	arena, _ := dmatest.New(t, 1<<16)
	p := &Port{c: Config{Registers: r, Arena: arena}, regs: r}
	var err error
	if p.rx.ring, err = newRing(arena, 4); err != nil {
		t.Fatal(err)
	}
	if p.tx.ring, err = newRing(arena, 2); err != nil {
		t.Fatal(err)
	}
	s.Expect(
		r.Writes(0x024, 1), r.Reads(0x024, 0xf0000001), r.Reads(0x024, 0xf0000000), r.Writes(0x008, 0),
		r.Reads(0x0e4, 0x52540012), r.Reads(0x0e8, 0x34568808),
	)
	if err := p.reset(); err != nil || p.c.Address.String() != "52:54:00:12:34:56" {
		t.Errorf("%v, %v", p.c.Address, err)
	}
	starts := func(rcr, tcr uint32) {
		s.Expect(
			r.Writes(0x004, 0xff7fffff), r.Writes(0x0e4, 0x52540012), r.Writes(0x0e8, 0x34568808),
			r.Writes(0x118, 0), r.Writes(0x11c, 0), r.Writes(0x120, 0xffffffff), r.Writes(0x124, 0xffffffff),
			r.Writes(0x084, rcr), r.Writes(0x0c4, tcr), r.Writes(0x144, 0x100), r.Writes(0x190, 0), r.Writes(0x1b0, 1522),
			r.Writes(0x1c0, 0x18), r.Writes(0x1c4, 0x46), r.Writes(0x188, 1536),
			r.Writes(0x180, p.rx.descriptors.Addr), r.Writes(0x184, p.tx.descriptors.Addr), r.Writes(0x064, 0),
			r.Writes(0x024, 0x112), r.Writes(0x010, 1<<24), r.Writes(0x008, 0x02400000),
		)
	}
	starts(0x05f20104, 4)
	p.start(full)
	s.Expect(
		r.Writes(0x008, 0), r.Reads(0x024, 0xf0000112), r.Writes(0x004, 1<<28), r.Reads(0x0c4, 4), r.Writes(0x0c4, 5),
		r.Reads(0x004, 0), r.Reads(0x004, 1<<28), r.Writes(0x024, 0x110), r.Reads(0x024, 0xf0000110),
	)
	p.stop()
	starts(0x05f20306, 0)
	p.start(phy.State{Up: true, Mbps: 10})
	for i := range uint32(4) {
		if status, want := dma.Load(p.rx.word(i, wordStatus)), uint32(0x80000000)|p.rx.wrapAt(i); status != want || dma.Load(p.rx.word(i, wordBuffer)) != p.rx.buffers.Addr+i*1536 || dma.Load(p.rx.word(i, wordExtra)) != 1<<23 {
			t.Errorf("receive descriptor %d: %#x, buffer %#x, extra %#x", i, status, dma.Load(p.rx.word(i, wordBuffer)), dma.Load(p.rx.word(i, wordExtra)))
		}
	}
	if p.rx.wrapAt(3) != 0x20000000 || dma.Load(p.tx.word(1, wordStatus)) != 0 {
		t.Error("the rings' ends are wrong")
	}
}

// TestNoReset: a block that stays in reset is an error within the limit.
func TestNoReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := mmiotest.New(t)
		r := s.Block("enet")
		s.Expect(r.Writes(0x024, 1), r.Polls(0x024, 1))
		start := time.Now()
		_, err := Open(Config{Registers: r})
		if took := time.Since(start); !errors.Is(err, ErrReset) || took > 2*resetLimit {
			t.Errorf("%v after %v", err, took)
		}
	})
}

func TestMisconfigured(t *testing.T) {
	for _, c := range []Config{
		{Receive: 1}, {Receive: -1}, {Transmit: 1}, {Address: Address{1, 2, 3, 4, 5, 6}},
		{Address: Address{2, 2, 3}}, {Address: make(Address, 6)},
	} {
		if _, err := Open(c); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	arena, memory := dmatest.New(t, 4096)
	b := newBlock(t, memory)
	if _, err := Open(Config{Registers: b, Arena: arena}); err == nil {
		t.Error("rings that do not fit were taken")
	}
	if n, _, _ := arena.Usage(); n != 0 {
		t.Error("memory is left")
	}
	b.regs[regPALR], b.regs[regPAUR] = 0, 0x8808
	if _, err := Open(Config{Registers: b, Arena: arena}); err == nil {
		t.Error("a port without an address was opened")
	}
}

// TestMDIO: transfers as clause 22 has them, which clear the event MII and no other.
func TestMDIO(t *testing.T) {
	s := mmiotest.New(t)
	r := s.Block("enet")
	m := NewMDIO(r, 66000000)
	s.Expect(
		r.Reads(0x044, 0), r.Writes(0x040, 0), r.Writes(0x044, 0x1a), r.Writes(0x004, 1<<23),
		r.Writes(0x040, 0x60920000|5<<23&0x0f800000), r.Reads(0x004, 0x02000000), r.Reads(0x004, 0x02800000),
		r.Writes(0x004, 1<<23), r.Reads(0x040, 0x6092abcd),
	)
	if v, err := m.Read(5, 4); v != 0xabcd || err != nil {
		t.Errorf("%#x, %v", v, err)
	}
	s.Expect(
		r.Reads(0x044, 0x1a), r.Writes(0x004, 1<<23), r.Writes(0x040, 0x5ffe1234),
		r.Reads(0x004, 0x00800000), r.Writes(0x004, 1<<23), r.Reads(0x040, 0x5ffe1234),
	)
	if err := m.Write(31, 31, 0x1234); err != nil {
		t.Error(err)
	}
	if _, err := m.Read(32, 0); err == nil {
		t.Error("PHY 32 was read")
	}
	if err := m.Write(0, 32, 0); err == nil {
		t.Error("register 32 was written")
	}
}

// TestMDIOLimit: a transfer that does not end is an error within its limit.
func TestMDIOLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBlock(t, nil)
		b.mute = true
		start := time.Now()
		_, err := NewMDIO(b, 66000000).Read(1, 2)
		if took := time.Since(start); !errors.Is(err, ErrMDIO) || took > 2*mdioLimit {
			t.Errorf("%v after %v", err, took)
		}
	})
}

// TestMDIOClock: never faster than 2.5 MHz, and data held for 10 ns.
func TestMDIOClock(t *testing.T) {
	for clock, want := range map[uint32]uint32{66000000: 0x1a, 50000000: 0x12, 49500000: 0x12, 5000000: 0, 150000000: 0x13a, 320000000: 0x37e} {
		if m := NewMDIO(nil, clock); m.mscr != want {
			t.Errorf("%d Hz: MSCR %#x, not %#x", clock, m.mscr, want)
		}
	}
	for _, clock := range []uint32{0, 321000000} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%d Hz was taken", clock)
				}
			}()
			NewMDIO(nil, clock)
		}()
	}
}

// TestReceive: rings of several lengths go round, with frames of all lengths.
func TestReceive(t *testing.T) {
	for _, n := range []int{2, 3, 4, 100} {
		bubble(t, func(c *Config) { c.Receive = n; c.Emulated = true }, func(r *rig) {
			next := 14
			for next <= maxTagged {
				var want [][]byte
				for range min(1+rand.IntN(n), maxTagged+1-next) {
					f := frame(next, ours)
					if !r.block.arrive(f, last) {
						t.Fatalf("ring of %d: no room for frame %d", n, next)
					}
					want = append(want, f)
					next++
				}
				for len(want) > 0 {
					err := r.Receive(-1, func(f []byte) {
						if len(want) == 0 || !bytes.Equal(f, want[0]) || cap(f) != len(f) {
							t.Fatalf("ring of %d: a frame of %d bytes, capacity %d", n, len(f), cap(f))
						}
						want = want[1:]
					})
					if err != nil {
						t.Fatal(err)
					}
				}
			}
			if s := r.Stats(); s.Received != uint64(next-14) || s.ReceivedBytes == 0 {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestDropped: what is wrong with a frame is counted, and the next one comes.
func TestDropped(t *testing.T) {
	other := Address{0x52, 0x54, 0, 0x12, 0x34, 0x57}
	for _, c := range []struct {
		name  string
		put   func(b *block) bool
		count func(s *Stats) uint64
	}{
		{"too long", func(b *block) bool { return b.arrive(frame(1519, ours), last) }, func(s *Stats) uint64 { return s.TooLong }},
		{"much too long", func(b *block) bool { return b.arrive(frame(9000, ours), last) }, func(s *Stats) uint64 { return s.TooLong }},
		{"flagged as long", func(b *block) bool { return b.arrive(frame(1000, ours), last|rxLong) }, func(s *Stats) uint64 { return s.TooLong }},
		{"of impossible length", func(b *block) bool { return b.put(last | 0xffff) }, func(s *Stats) uint64 { return s.TooLong }},
		{"short", func(b *block) bool { return b.arrive(frame(13, ours), last) }, func(s *Stats) uint64 { return s.TooShort }},
		{"of no bytes", func(b *block) bool { return b.put(last) }, func(s *Stats) uint64 { return s.TooShort }},
		{"of part of an FCS", func(b *block) bool { return b.put(last | 3) }, func(s *Stats) uint64 { return s.TooShort }},
		{"FCS", func(b *block) bool { return b.arrive(frame(100, ours), last|rxCRC) }, func(s *Stats) uint64 { return s.Damaged }},
		{"odd", func(b *block) bool { return b.arrive(frame(100, ours), last|rxOdd) }, func(s *Stats) uint64 { return s.Damaged }},
		{"overrun", func(b *block) bool { return b.arrive(frame(100, ours), last|rxOverrun|rxCRC) }, func(s *Stats) uint64 { return s.Overrun }},
		{"another's", func(b *block) bool { return b.arrive(frame(100, other), last) }, func(s *Stats) uint64 { return s.Foreign }},
		{"in parts", func(b *block) bool { return b.put(1536) && b.put(1536) && b.put(last|4000) }, func(s *Stats) uint64 { return s.TooLong }},
		{"in parts, as QEMU has it", func(b *block) bool { return b.put(1536) && b.put(last|100) }, func(s *Stats) uint64 { return s.TooLong }},
	} {
		bubble(t, nil, func(r *rig) {
			for range 10 { // more than the ring has
				before := r.Stats()
				good := frame(60, Address{0x33, 0x33, 0, 0, 0, 1})
				if !c.put(r.block) || !r.block.arrive(good, last) {
					t.Fatalf("%s: no room", c.name)
				}
				n := 0
				if err := r.Receive(-1, func(f []byte) {
					if n++; !bytes.Equal(f, good) {
						t.Errorf("%s: %d bytes came", c.name, len(f))
					}
				}); err != nil || n != 1 {
					t.Fatalf("%s: %d frames, %v", c.name, n, err)
				}
				after := r.Stats()
				if c.count(&after) != c.count(&before)+1 || after.Received != before.Received+1 {
					t.Errorf("%s: %+v", c.name, after)
				}
			}
		})
	}
}

// TestBatch: one call takes a bounded number, good or bad.
func TestBatch(t *testing.T) {
	bubble(t, func(c *Config) { c.Receive = 200 }, func(r *rig) {
		for range 200 {
			r.block.arrive(frame(60, ours), last)
		}
		n := 0
		for _, want := range []int{64, 128, 192, 200} {
			if err := r.Receive(-1, func([]byte) { n++ }); err != nil || n != want {
				t.Errorf("%d frames, %v; want %d", n, err, want)
			}
		}
	})
}

// TestReceiveLimit: a call returns when nothing has come within its limit, and what comes
// afterwards is not lost. However often that happens, it counts as no fruitless wake-up.
func TestReceiveLimit(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		n := 0
		deliver := func([]byte) { n++ }
		for range 2 * fruitlessLimit {
			for _, limit := range []time.Duration{0, 2 * time.Millisecond} {
				begin := time.Now()
				if err := r.Receive(limit, deliver); err != nil || n != 0 || time.Since(begin) != limit {
					t.Fatalf("limit %v: %d frames, %v, after %v", limit, n, err, time.Since(begin))
				}
			}
		}
		r.block.arrive(frame(60, ours), last)
		if err := r.Receive(0, deliver); err != nil || n != 1 {
			t.Errorf("%d frames, %v", n, err)
		}
		time.AfterFunc(time.Millisecond, func() { r.block.arrive(frame(60, ours), last) })
		if err := r.Receive(2*time.Millisecond, deliver); err != nil || n != 2 {
			t.Errorf("%d frames, %v", n, err)
		}
		if s := r.Stats(); s.Fruitless != 0 {
			t.Errorf("%d fruitless wake-ups", s.Fruitless)
		}
	})
}

// TestNoLostWakeUp has a frame arrive before each access that the driver makes to the
// block or the line on its way into waiting: it must come up each time.
func TestNoLostWakeUp(t *testing.T) {
	for at := 0; ; at++ {
		arrived := false
		bubble(t, nil, func(r *rig) {
			f := frame(60, ours)
			// One frame first: the line is masked by its interrupt afterwards.
			got := make(chan int, 10)
			go func() {
				for r.Receive(-1, func(f []byte) { got <- len(f) }) == nil {
				}
				close(got)
			}()
			synctest.Wait()
			n := 0
			r.block.mu.Lock()
			r.block.access = func(uint32) {
				if n++; n == at+1 && !arrived {
					arrived = true
					r.block.arrive(f, last)
				}
			}
			r.block.mu.Unlock()
			r.block.arrive(f, last)
			time.Sleep(linkPoll / 2)
			want := 1
			if arrived {
				want = 2
			}
			if len(got) != want {
				t.Errorf("a frame before access %d: %d of %d came", at, len(got), want)
			}
			r.Close()
			for range got {
			}
		})
		if !arrived {
			if at < 4 {
				t.Errorf("the driver made %d accesses only", at)
			}
			return
		}
	}
}

// TestInterrupts: under load the line stays masked.
func TestInterrupts(t *testing.T) {
	bubble(t, func(c *Config) { c.Receive = 8 }, func(r *rig) {
		left := 1000
		r.block.arrive(frame(60, ours), last)
		for left > 0 {
			if err := r.Receive(-1, func([]byte) {
				if left--; left > 0 {
					r.block.arrive(frame(60, ours), last)
				}
			}); err != nil {
				t.Fatal(err)
			}
		}
		if s := r.Stats(); s.Interrupts > 1 || s.Received != 1000 {
			t.Errorf("%d interrupts for %d frames", s.Interrupts, s.Received)
		}
	})
}

// TestStorm: an event that never clears costs a bounded number of wake-ups, and frames
// still come.
func TestStorm(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.block.mu.Lock()
		r.block.stuck = eirRXF
		r.block.mu.Unlock()
		got := 0
		done := make(chan struct{})
		go func() {
			defer close(done)
			for r.Receive(-1, func([]byte) { got++ }) == nil {
			}
		}()
		r.block.arrive(frame(60, ours), last)
		time.Sleep(time.Second)
		r.block.arrive(frame(60, ours), last)
		time.Sleep(time.Second)
		r.line.mu.Lock()
		waits := r.line.waits
		r.line.mu.Unlock()
		if waits > 2100 || waits < 1000 {
			t.Errorf("%d wake-ups in two seconds", waits)
		}
		r.Close()
		<-done
		if got != 2 {
			t.Errorf("%d frames came, not 2", got)
		}
	})
}

// TestBusError: the MAC stops, and goes on; frames come again.
func TestBusError(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		got := make(chan struct{}, 10)
		go func() {
			for r.Receive(-1, func([]byte) { got <- struct{}{} }) == nil {
			}
		}()
		for round := range uint64(3) {
			synctest.Wait()
			r.block.mu.Lock()
			r.block.regs[regECR] &^= ecrETHEREN
			r.block.event(eirEBERR)
			r.block.mu.Unlock()
			synctest.Wait()
			time.Sleep(time.Millisecond)
			if !r.block.arrive(frame(60, ours), last) {
				t.Fatal("the MAC does not run")
			}
			<-got
			if s := r.Stats(); s.BusErrors != round+1 || s.Resets != round+1 {
				t.Errorf("%+v", s)
			}
		}
	})
}

// TestTransmit: rings go round; pieces come together; short frames are padded with
// zeros, whatever was in the buffer.
func TestTransmit(t *testing.T) {
	for _, n := range []int{2, 3, 4, 50} {
		bubble(t, func(c *Config) { c.Transmit = n }, func(r *rig) {
			var want [][]byte
			total := 0
			for _, i := range rand.Perm(MaxFrame + 1 - MinFrame)[:150] {
				length := MinFrame + i
				if i%2 == 0 {
					length = MinFrame + i%60 // in a buffer that has had longer ones
				}
				f := frame(length, Address{2, 0, 0, 0, 0, 1})
				cut := rand.IntN(length + 1)
				if err := r.Queue([][]byte{f[:cut], nil, f[cut:]}); err != nil {
					t.Fatal(err)
				}
				total += length
				want = append(want, append(f, make([]byte, max(0, 60-length))...))
				if rand.IntN(3) == 0 {
					if err := r.Flush(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := r.Flush(); err != nil {
				t.Fatal(err)
			}
			if !slices.EqualFunc(r.block.sent, want, bytes.Equal) {
				t.Errorf("ring of %d: %d frames were sent, not the %d queued", n, len(r.block.sent), len(want))
			}
			if s := r.Stats(); s.Transmitted != uint64(len(want)) || s.TransmittedBytes != uint64(total) {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestLengths(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		for _, pieces := range [][][]byte{nil, {}, {nil}, {make([]byte, 13)}, {make([]byte, 1515)}, {make([]byte, 1000), make([]byte, 515)}, {make([]byte, 1<<20)}} {
			if err := r.Queue(pieces); !errors.Is(err, ErrLength) {
				t.Errorf("%d pieces: %v", len(pieces), err)
			}
		}
		if len(r.block.sent) != 0 {
			t.Error("something was sent")
		}
	})
}

// TestStalled: a block that does not transmit is an error within the limit, and is
// started again.
func TestStalled(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.block.mu.Lock()
		r.block.deaf = true
		r.block.mu.Unlock()
		f := frame(60, ours)
		for range 3 {
			if err := r.Queue([][]byte{f}); err != nil {
				t.Fatal(err)
			}
		}
		start := time.Now()
		err := r.Queue([][]byte{f})
		if took := time.Since(start); !errors.Is(err, ErrStalled) || took > roomLimit+2*roomPause {
			t.Errorf("%v after %v", err, took)
		}
		r.block.mu.Lock()
		r.block.deaf = false
		r.block.mu.Unlock()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if err := errors.Join(r.Queue([][]byte{f}), r.Flush()); err != nil {
			t.Error(err)
		}
		if s := r.Stats(); r.block.frames() != 1 || s.Resets != 1 || s.Stalled != 1 {
			t.Errorf("%d frames sent, %+v", len(r.block.sent), s)
		}
	})
}

// TestRoom: Queue waits while the block works through a full ring.
func TestRoom(t *testing.T) {
	bubble(t, func(c *Config) { c.Transmit = 8 }, func(r *rig) {
		r.block.mu.Lock()
		r.block.deaf = true
		r.block.mu.Unlock()
		f := frame(60, ours)
		for range 7 { // one more may take two descriptors
			if err := r.Queue([][]byte{f}); err != nil {
				t.Fatal(err)
			}
		}
		time.AfterFunc(10*time.Millisecond, func() {
			r.block.mu.Lock()
			defer r.block.mu.Unlock()
			r.block.deaf = false
			r.block.transmit()
		})
		start := time.Now()
		if err := r.Queue([][]byte{f}); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < 10*time.Millisecond || took > 10*time.Millisecond+2*roomPause {
			t.Errorf("it took %v", took)
		}
	})
}

// TestDoorbellMissed: erratum ERR006358. The next look at the link rings again.
func TestDoorbellMissed(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.block.mu.Lock()
		r.block.ignores = 1
		r.block.mu.Unlock()
		if err := errors.Join(r.Queue([][]byte{frame(60, ours)}), r.Flush()); err != nil {
			t.Fatal(err)
		}
		if s := r.block.frames(); s != 0 {
			t.Fatal("the erratum is not played")
		}
		time.Sleep(linkPoll + time.Millisecond)
		synctest.Wait()
		if r.block.frames() != 1 {
			t.Error("the frame waits for ever")
		}
	})
}

// TestDoorbellActive: erratum ERR007885. While the block is at work TDAR is read, not
// written.
func TestDoorbellActive(t *testing.T) {
	s := mmiotest.New(t)
	r := s.Block("enet")
	p := &Port{regs: r}
	s.Expect(r.Reads(0x014, 1<<24), r.Reads(0x014, 1<<24), r.Reads(0x014, 1<<24), r.Reads(0x014, 1<<24))
	p.doorbell()
	s.Expect(r.Reads(0x014, 1<<24), r.Reads(0x014, 0), r.Writes(0x014, 1<<24))
	p.doorbell()
}

// TestTransmitErrors: what the block reports in descriptors is counted.
func TestTransmitErrors(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.block.txExtra = func(n int) uint32 { return []uint32{0, 0xa000, 0x9000, 0x8400, 0x2000}[n] }
		for range 5 {
			if err := errors.Join(r.Queue([][]byte{frame(60, ours)}), r.Flush()); err != nil {
				t.Fatal(err)
			}
		}
		if s := r.Stats(); s.Underflow != 1 || s.Collisions != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// changes counts what LinkChanged has.
func changes(p *Port) (n int) {
	for {
		select {
		case <-p.LinkChanged():
			n++
		default:
			return n
		}
	}
}

// TestLink: the link's states are followed, and the MAC runs at what it has.
func TestLink(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		if changes(r.Port) != 1 {
			t.Error("the first link was not told of")
		}
		look := func(f func(p *transceiver)) {
			r.phy.set(f)
			time.Sleep(linkPoll)
			synctest.Wait()
		}
		starts := func() (n int) {
			r.block.mu.Lock()
			defer r.block.mu.Unlock()
			for _, o := range r.block.writes {
				if o == regRDSR {
					n++
				}
			}
			return n
		}
		look(func(p *transceiver) {})
		if starts() != 1 || changes(r.Port) != 0 {
			t.Error("a link that stays was told of")
		}
		look(func(p *transceiver) { p.state = phy.State{} })
		if r.LinkUp() || changes(r.Port) != 1 {
			t.Error("the link is lost, and nobody knows")
		}
		if err := r.Queue([][]byte{frame(60, ours)}); !errors.Is(err, ErrNoLink) {
			t.Errorf("without a link: %v", err)
		}
		look(func(p *transceiver) { p.state = full })
		if !r.LinkUp() || changes(r.Port) != 1 || starts() != 1 {
			t.Error("the same link is back")
		}
		look(func(p *transceiver) { p.dropped = true })
		if !r.LinkUp() || changes(r.Port) != 1 || starts() != 1 {
			t.Error("a flap was not told of")
		}
		look(func(p *transceiver) { p.state = phy.State{Up: true, Mbps: 10} })
		if !r.LinkUp() || starts() != 2 || r.block.regs[regRCR]&rcr10 == 0 || r.block.regs[regTCR]&tcrFDEN != 0 {
			t.Errorf("10 Mbit/s half duplex: %d starts, RCR %#x, TCR %#x", starts(), r.block.regs[regRCR], r.block.regs[regTCR])
		}
		if s := r.Stats(); s.NoLink != 1 || s.LinkChanges < 5 {
			t.Errorf("%+v", s)
		}
	})
}

// TestAbsentPHY: the port opens, says what is wrong, looks for the PHY at long
// intervals, and finds it.
func TestAbsentPHY(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		arena, memory := dmatest.New(t, 1<<20)
		b := newBlock(t, memory)
		p, err := Open(Config{Registers: b, Line: newLine(b), Arena: arena, PHY: phy.New(NewMDIO(b, 66000000), 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		time.Sleep(time.Minute)
		synctest.Wait()
		if s := p.Stats(); !errors.Is(p.PHYError(), phy.ErrAbsent) || p.LinkUp() || s.PHYErrors < 15 || s.PHYErrors > 18 {
			t.Errorf("%v, link %v, %d errors", p.PHYError(), p.LinkUp(), s.PHYErrors)
		}
		b.mu.Lock()
		b.phys[1] = [32]uint16{1: 0x24, 2: 7, 3: 0xc0d1, 5: 0x1e1}
		b.mu.Unlock()
		time.Sleep(phyRetry + linkPoll)
		synctest.Wait()
		if err := p.PHYError(); err != nil || !p.LinkUp() {
			t.Errorf("the PHY is there now: link %v, %v", p.LinkUp(), err)
		}
	})
}

// TestClosed: who waits comes back, and everything is an error afterwards.
func TestClosed(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		back := make(chan error)
		go func() { back <- r.Receive(-1, func([]byte) {}) }()
		synctest.Wait()
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if err := <-back; err != os.ErrClosed {
			t.Errorf("a receiver that waited: %v", err)
		}
		if err := r.Receive(-1, nil); err != os.ErrClosed {
			t.Errorf("Receive: %v", err)
		}
		if err := r.Queue([][]byte{make([]byte, 60)}); err != os.ErrClosed {
			t.Errorf("Queue: %v", err)
		}
		if err := r.Flush(); err != os.ErrClosed || r.LinkUp() {
			t.Errorf("Flush: %v", err)
		}
		if r.block.regs[regECR]&ecrETHEREN != 0 || r.block.regs[regEIMR] != 0 {
			t.Error("the MAC still runs")
		}
		r.Stats()
	})
}

// TestClosedAtOnce: the keeper has not started the MAC yet, and does not afterwards.
func TestClosedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, nil)
		time.Sleep(10 * time.Microsecond)
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		time.Sleep(time.Second)
		if r.LinkUp() || r.block.regs[regECR]&ecrETHEREN != 0 {
			t.Errorf("link %v, ECR %#x", r.LinkUp(), r.block.regs[regECR])
		}
	})
}

// TestFull: a ring that was full takes frames again.
func TestFull(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		for range 3 {
			n := 0
			for r.block.arrive(frame(60, ours), last) {
				n++
			}
			if n != 4 {
				t.Errorf("a ring of 4 took %d frames", n)
			}
			if err := r.Receive(-1, func([]byte) { n-- }); err != nil || n != 0 {
				t.Errorf("%d frames are missing, %v", n, err)
			}
		}
	})
}

// TestLineBroken: an error of the line comes up.
func TestLineBroken(t *testing.T) {
	bubble(t, nil, func(r *rig) {
		r.line.broken = errors.New("broken")
		if err := r.Receive(-1, nil); !errors.Is(err, r.line.broken) {
			t.Error(err)
		}
	})
}

type fuses struct {
	words map[int]uint32
	id    uint64
	err   error
}

func (f fuses) Read(bank, word int) (uint32, error) {
	if bank != 4 {
		return 0, fmt.Errorf("bank %d", bank)
	}
	return f.words[word], f.err
}
func (f fuses) UniqueID() (uint64, error) { return f.id, f.err }

func TestAddress(t *testing.T) {
	burnt := fuses{words: map[int]uint32{2: 0x9f112233, 3: 0x44550004, 4: 0x00049f66}, id: 5}
	for _, c := range []struct {
		port int
		f    fuses
		want string
	}{
		{1, burnt, "00:04:9f:11:22:33"}, {2, burnt, "00:04:9f:66:44:55"},
		{1, fuses{id: 0x1122334455667788}, ""}, {2, fuses{id: 0x1122334455667788}, ""},
		{1, fuses{words: map[int]uint32{3: 0x0100}, id: 7}, ""}, // a group's address
	} {
		a, err := FusedAddress(c.port, c.f)
		switch {
		case err != nil:
			t.Errorf("port %d, %+v: %v", c.port, c.f, err)
		case c.want != "" && a.String() != c.want:
			t.Errorf("port %d: %v, not %v", c.port, a, c.want)
		case c.want == "" && (!usable(a) || a[0]&2 == 0):
			t.Errorf("port %d: %v is no locally administered address", c.port, a)
		}
		again, _ := FusedAddress(c.port, c.f)
		other, _ := FusedAddress(3-c.port, c.f)
		if !bytes.Equal(a, again) || bytes.Equal(a, other) {
			t.Errorf("%v, again %v, the other port %v", a, again, other)
		}
	}
	if _, err := FusedAddress(1, fuses{}); !errors.Is(err, ErrNoAddress) {
		t.Errorf("nothing to go by: %v", err)
	}
	if _, err := FusedAddress(1, fuses{err: ErrReset}); !errors.Is(err, ErrReset) {
		t.Errorf("no fuses: %v", err)
	}
	if _, err := FusedAddress(3, burnt); err == nil {
		t.Error("port 3 has an address")
	}
}

// FuzzRing: whatever a broken or hostile block writes into descriptors, what is handed
// up lies in one buffer, and nothing hangs.
func FuzzRing(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0x08})
	f.Add([]byte{0xff, 0xff, 0xff, 0x7f, 0, 4, 0, 8, 64, 0, 0, 8, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, statuses []byte) {
		arena, memory := dmatest.New(t, 1<<16)
		b := newBlock(t, memory)
		p := &Port{c: Config{Registers: b, Address: ours}, regs: b}
		var err error
		if p.rx.ring, err = newRing(arena, 4); err != nil {
			t.Fatal(err)
		}
		if p.tx.ring, err = newRing(arena, 2); err != nil {
			t.Fatal(err)
		}
		p.start(full)
		statuses = statuses[:min(len(statuses), 256)]
		for ; len(statuses) >= 4; statuses = statuses[4:] {
			at := p.rx.next
			if !b.put(binary.LittleEndian.Uint32(statuses)) {
				t.Fatal("the ring is full")
			}
			copy(p.rx.buffers.Bytes[at*bufferSize:], statuses)
			buffer := p.rx.buffers.Bytes[at*bufferSize:][:bufferSize]
			p.drain(func(f []byte) {
				if len(f) < MinFrame || len(f) > maxTagged || &f[0] != &buffer[0] {
					t.Fatalf("%d bytes were handed up", len(f))
				}
			})
			mmio.Barrier()
			if dma.Load(p.rx.word(at, wordStatus))&^wrap != rxEmpty {
				t.Fatalf("descriptor %d is not the block's again", at)
			}
		}
	})
}
