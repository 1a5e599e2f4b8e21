package kernel

import (
	"math/big"
	"math/rand/v2"
	"testing"
)

var frequencies = []uint32{8000000, 62500000, 24000000, 4000000, 250000000, 13333333, 99999989}

func nanoseconds(sec uint64, nsec uint32) *big.Int {
	n := new(big.Int).Mul(new(big.Int).SetUint64(sec), big.NewInt(second))
	return n.Add(n, big.NewInt(int64(nsec)))
}

// TestClockTells: time never goes back, stays below a second's end, and is true
// to within what the scale can say, over seconds, years and with the base moved or
// not.
func TestClockTells(t *testing.T) {
	for _, hz := range frequencies {
		r := rand.New(rand.NewPCG(uint64(hz), 1))
		var c clock
		start := r.Uint64() >> 2
		c.init(hz, start)
		now, last := start, big.NewInt(0)
		for i := range 20000 {
			now += r.Uint64N(uint64(hz) / 3)
			if i%4000 == 3999 {
				now += uint64(hz) * 86400 // nobody looked for a day
			}
			if r.IntN(3) == 0 {
				before := c
				if moved := c.advance(now); moved != (c.base != before.base) || now-c.base >= uint64(hz) {
					t.Fatalf("%d Hz: advance says %v, base %d ticks behind", hz, moved, now-c.base)
				}
			}
			was := c
			sec, nsec := c.monotonic(now)
			if c != was {
				t.Fatalf("%d Hz: telling the time changed the clock", hz)
			}
			if nsec >= second {
				t.Fatalf("%d Hz: %d nanoseconds", hz, nsec)
			}
			got := nanoseconds(sec, nsec)
			if got.Cmp(last) < 0 {
				t.Fatalf("%d Hz: time went back from %v to %v", hz, last, got)
			}
			last = got
			want := new(big.Int).Mul(new(big.Int).SetUint64(now-start), big.NewInt(second))
			want.Div(want, big.NewInt(int64(hz)))
			if off := new(big.Int).Sub(want, got).Int64(); off < 0 || off > 16 {
				t.Fatalf("%d Hz: %d ns late after %d ticks", hz, off, now-start)
			}
		}
	}
}

// TestDeadlines: no deadline comes before its time, nor more than two ticks after.
func TestDeadlines(t *testing.T) {
	for _, hz := range frequencies {
		r := rand.New(rand.NewPCG(uint64(hz), 2))
		var c clock
		c.init(hz, 0)
		for range 50000 {
			now, sec, nsec := r.Uint64()>>3, r.Uint64N(1<<r.IntN(31)), r.Uint32N(second)
			got := new(big.Int).SetUint64(c.after(now, sec, nsec) - now)
			got.Mul(got, big.NewInt(second))
			want := nanoseconds(sec, nsec)
			want.Mul(want, big.NewInt(int64(hz)))
			if got.Cmp(want) < 0 {
				t.Fatalf("%d Hz: %d s %d ns is early", hz, sec, nsec)
			}
			if got.Sub(got, want).Cmp(big.NewInt(2*second)) > 0 {
				t.Fatalf("%d Hz: %d s %d ns is late", hz, sec, nsec)
			}
		}
		for _, sec := range []uint64{1 << 31, 1 << 62, 1<<63 - 1} {
			if c.after(1<<60, sec, second-1) != never {
				t.Errorf("%d Hz: %d s is a deadline", hz, sec)
			}
		}
		if end := c.after(1<<60, 1<<31-1, second-1); end <= 1<<60 || end == never {
			t.Errorf("%d Hz: the longest deadline wraps", hz)
		}
	}
}

func TestWallClock(t *testing.T) {
	for _, hz := range frequencies {
		r := rand.New(rand.NewPCG(uint64(hz), 3))
		var c clock
		c.init(hz, 5)
		now := uint64(5)
		for i := range 2000 {
			now += r.Uint64N(uint64(hz) * 2)
			m0, n0 := c.monotonic(now)
			sec, nsec := m0+r.Uint64N(1<<33), r.Uint32N(second)
			if i%3 == 0 {
				nsec = (n0 + second - r.Uint32N(2)) % second // just before, or just then
			}
			if nsec < n0 {
				sec++ // or it would lie before the machine's start
			}
			c.setReal(now, sec, nsec)
			if c.offsetNsec >= second {
				t.Fatalf("%d Hz: an offset of %d ns", hz, c.offsetNsec)
			}
			if s, n := c.real(now); s != sec || n != nsec {
				t.Fatalf("%d Hz: set to %d.%09d, tells %d.%09d", hz, sec, nsec, s, n)
			}
			if m, n := c.monotonic(now); m != m0 || n != n0 {
				t.Fatalf("%d Hz: setting the time moved CLOCK_MONOTONIC", hz)
			}
			s, _ := c.real(now + 3*uint64(hz))
			if s != sec+3 && s != sec+2 {
				t.Fatalf("%d Hz: three seconds after %d is %d", hz, sec, s)
			}
		}
	}
}

func TestSpan(t *testing.T) {
	for _, hz := range frequencies {
		var c clock
		c.init(hz, 0)
		for _, ticks := range []uint64{0, 1, uint64(hz) - 1, uint64(hz), 1e15, never / 2, never} {
			sec, nsec := c.span(ticks)
			if sec != ticks/uint64(hz) || nsec >= second {
				t.Errorf("%d Hz: %d ticks are %d s %d ns", hz, ticks, sec, nsec)
			}
		}
	}
}
