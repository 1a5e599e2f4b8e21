package pool_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"nitro/boot/medium/mediumtest"
	. "nitro/nvme/pool"
	"nitro/nvme/volume"
)

// TestRandom compares volumes that are together larger than the pool with the model,
// through remounts and full pools.
func TestRandom(t *testing.T) {
	rounds := 3000
	if few() {
		rounds = 250
	}
	r := newRig(t)
	x := rand.New(rand.NewPCG(1, 2))
	per := uint64(ExtentSize / 4096)
	r.create("a", 4096, 13*per+5)
	r.create("b", 512, 9*ExtentSize/512)
	r.create("c", 4096, 8*per)
	if got := r.pool.Space(); got != (Space{testExtents, testExtents}) {
		t.Errorf("%+v", got)
	}
	full := 0
	for i := range rounds {
		switch err := r.step(x); {
		case errors.Is(err, volume.ErrFull):
			full++
			for _, m := range r.model {
				if err := m.deallocate(t, uint64(x.IntN(len(m.block)/2)), uint64(len(m.block)/2)); err != nil {
					t.Fatal(err)
				}
			}
		case err != nil:
			t.Fatalf("operation %d: %v", i, err)
		}
		if i%50 == 0 {
			r.verify(false)
		}
		if i%130 == 0 {
			for _, m := range r.model {
				if err := m.flush(t); err != nil {
					t.Fatal(err)
				}
			}
			r.reopen()
			r.card.Settle()
		}
	}
	if full == 0 {
		t.Error("the pool was never full")
	}
	t.Logf("%d times full", full)
}

// script is what the cuts are tried on: all kinds of operations, several checkpoints.
func script(r *rig) (err error) {
	x := rand.New(rand.NewPCG(3, 4))
	for range 150 {
		if err = r.step(x); err != nil && !errors.Is(err, volume.ErrFull) {
			return err
		}
	}
	return nil
}

func prepared(t testing.TB) *rig {
	r := newRig(t)
	per := uint64(ExtentSize / 4096)
	r.create("a", 4096, 6*per+5)
	r.create("b", 512, 5*ExtentSize/512)
	return r
}

// cutPoints are the moments to cut at: before each write of the card's, and in one place
// within each that is longer, which goes from its first sector to its last and around.
func cutPoints(c *mediumtest.Card) (points []int) {
	at := 0
	for i, w := range c.Writes() {
		n := len(w.Data) / mediumtest.SectorSize
		points = append(points, at)
		if n > 1 {
			points = append(points, at+[]int{1, n / 2, n - 1}[i%3])
		}
		at += n
	}
	return points
}

// TestCuts cuts the power in each write of the script, in each of the four ways in turn.
func TestCuts(t *testing.T) {
	r := prepared(t)
	r.card.Settle()
	if err := script(r); err != nil {
		t.Fatal(err)
	}
	points := cutPoints(r.card)
	every := 1
	if few() {
		every = 53
	}
	for i := 0; i < len(points); i += every {
		r := prepared(t)
		tear := mediumtest.Tears[i/every%len(mediumtest.Tears)]
		r.card.CutAfter(points[i], tear)
		if err := script(r); !errors.Is(err, mediumtest.ErrPowerCut) {
			t.Fatalf("cut after %d sectors: %v", points[i], err)
		}
		r.reopen()
		x := rand.New(rand.NewPCG(uint64(i), 0))
		for range 8 {
			if err := r.step(x); err != nil && !errors.Is(err, volume.ErrFull) {
				t.Fatalf("cut after %d sectors, %v: %v", points[i], tear, err)
			}
		}
		r.verify(false)
		for _, m := range r.model {
			if err := m.flush(t); err != nil {
				t.Fatal(err)
			}
		}
		r.reopen()
	}
	t.Logf("%d writes, %d cuts", len(r.card.Writes()), (len(points)+every-1)/every)
}

func TestNames(t *testing.T) {
	r := newRig(t)
	for _, s := range []Spec{
		{Name: "", BlockSize: 512, Blocks: 1}, {Name: "a b", BlockSize: 512, Blocks: 1}, {Name: "\x80", BlockSize: 512, Blocks: 1},
		{Name: string(bytes.Repeat([]byte("x"), 65)), BlockSize: 512, Blocks: 1},
		{Name: "a", BlockSize: 1024, Blocks: 1}, {Name: "a", BlockSize: 512}, {Name: "a", BlockSize: 4096, Blocks: 1 << 40},
	} {
		if _, err := r.pool.Create(s); err == nil {
			t.Errorf("%+v is taken", s)
		}
	}
}

// operations are done one after the other by the tests of cuts and tampering.
var operations = []struct {
	what string
	do   func(p *Pool) error
}{
	{"create", func(p *Pool) error {
		_, err := p.Create(Spec{Name: "c", BlockSize: 4096, Blocks: 100, Commitment: [32]byte{9}})
		return err
	}},
	{"grow", func(p *Pool) error { return p.Resize("a", 6*32+20) }},
	{"shrink", func(p *Pool) error { return p.Resize("a", 40) }},
	{"grow again", func(p *Pool) error { return p.Resize("a", 70) }},
	{"erase", func(p *Pool) error { return p.Erase("a") }},
	{"delete", func(p *Pool) error { return p.Delete("b") }},
}

// look tells all that operations change, as text.
func look(t *testing.T, p *Pool) (s string) {
	t.Helper()
	for _, i := range p.List() {
		salt, err := p.Salt(i.Name)
		if err != nil {
			t.Fatal(err)
		}
		v, err := p.Volume(i.Name)
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, uint64(i.BlockSize)*i.Blocks)
		if err := v.ReadAt(t.Context(), 0, b); err != nil {
			t.Fatal(err)
		}
		if err := v.Close(); err != nil {
			t.Fatal(err)
		}
		s += fmt.Sprintf("%s %d*%d commitment %x salt %d extents %d", i.Name, i.Blocks, i.BlockSize, i.Commitment[:1], len(salt), i.Extents)
		for at := 0; at < len(b); at += 8 * i.BlockSize {
			s += fmt.Sprintf(" %x", b[at:at+3])
		}
		s += "\n"
	}
	return s
}

// filled is a pool whose two volumes are written everywhere, and closed.
func filled(t *testing.T) *rig {
	r := prepared(t)
	for _, m := range r.model {
		if err := m.write(t, 0, uint64(len(m.block)), 77<<16); err != nil {
			t.Fatal(err)
		}
		m.v.Close()
	}
	r.model = nil
	return r
}

// TestOperations: what each volume operation leaves, and that a cut within it leaves what
// was before or after. An erase leaves the data as it was, or none; and a salt that opens.
func TestOperations(t *testing.T) {
	r := filled(t)
	want := []string{look(t, r.pool)}
	r.card.Settle()
	for _, o := range operations {
		if err := o.do(r.pool); err != nil {
			t.Fatalf("%s: %v", o.what, err)
		}
		want = append(want, look(t, r.pool))
	}
	points := cutPoints(r.card)
	for i, n := range points {
		for _, tear := range mediumtest.Tears {
			if few() && (i+int(tear))%11 != 0 {
				continue
			}
			r := filled(t)
			r.card.CutAfter(n, tear)
			at := 0
			for at < len(operations) && operations[at].do(r.pool) == nil {
				at++
			}
			r.reopen()
			if got := look(t, r.pool); at == len(operations) || got != want[at] && got != want[at+1] {
				t.Fatalf("cut after %d sectors, %v, in %s:\n%s", n, tear, operations[at].what, got)
			}
			if err := operations[at].do(r.pool); err != nil && !errors.Is(err, ErrExists) && !errors.Is(err, ErrNoVolume) {
				t.Fatalf("%s again: %v", operations[at].what, err)
			}
			if got := look(t, r.pool); got != want[at+1] {
				t.Fatalf("cut after %d sectors, %v, in %s, which was done again:\n%s", n, tear, operations[at].what, got)
			}
		}
	}
	t.Logf("%d places to cut at", len(points))
}

// sectors is how many were written since Settle.
func sectors(c *mediumtest.Card) (n int) {
	for _, w := range c.Writes() {
		n += len(w.Data) / mediumtest.SectorSize
	}
	return n
}
