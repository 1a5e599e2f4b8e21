package neon

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// machine runs the instructions that Straight emits, from their text: a
// register is 16 bits here, since all operations are bit by bit.
type machine struct {
	q   [NumQ]uint16
	mem map[string]uint16
}

// run executes one instruction.
func (m *machine) run(t *testing.T, i Inst) {
	var d, n, s int
	name, operands, _ := strings.Cut(i.Text, "\t")
	if name == "vst1.64" || name == "vld1.64" {
		var lo, hi int
		var at string
		if _, err := fmt.Sscanf(operands, "{d%d-d%d}, [%2s", &lo, &hi, &at); err != nil {
			t.Fatalf("%q: %v", i.Text, err)
		}
		if name == "vst1.64" {
			m.mem[at] = m.q[lo/2]
		} else {
			m.q[lo/2] = m.mem[at]
		}
		return
	}
	if name == "vmvn" {
		fmt.Sscanf(operands, "q%d, q%d", &d, &n)
		m.q[d] = ^m.q[n]
		return
	}
	if _, err := fmt.Sscanf(operands, "q%d, q%d, q%d", &d, &n, &s); err != nil {
		t.Fatalf("%q: %v", i.Text, err)
	}
	x, y, z := m.q[d], m.q[n], m.q[s]
	m.q[d] = map[string]uint16{
		"veor": y ^ z, "vand": y & z, "vorr": y | z, "vbic": y &^ z, "vorn": y | ^z,
		"vbsl": x&y | z&^x, "vbit": y&z | x&^z, "vbif": x&z | y&^z,
	}[name]
}

// program makes a random program over a few names that stores and loads now
// and then, and its meaning by evaluation.
func program(rng *rand.Rand, in map[string]uint16) (text string, out map[string]uint16) {
	v := map[string]uint16{}
	for name, x := range in {
		v[name] = x
	}
	name := func() string { return fmt.Sprint("v", rng.IntN(len(in))) }
	var b strings.Builder
	for range 60 {
		o, x, y, z := name(), name(), name(), name()
		switch rng.IntN(8) {
		case 0:
			fmt.Fprintf(&b, "%s = %s ^ %s\n", o, x, y)
			v[o] = v[x] ^ v[y]
		case 1:
			fmt.Fprintf(&b, "%s = %s & %s\n", o, x, y)
			v[o] = v[x] & v[y]
		case 2:
			if x == y {
				continue // an or of equals is a copy, which the encoder refuses
			}
			fmt.Fprintf(&b, "%s = %s | %s\n", o, x, y)
			v[o] = v[x] | v[y]
		case 3:
			fmt.Fprintf(&b, "%s = %s &~ %s\n", o, x, y)
			v[o] = v[x] &^ v[y]
		case 4:
			fmt.Fprintf(&b, "%s = %s |~ %s\n", o, x, y)
			v[o] = v[x] | ^v[y]
		case 5:
			fmt.Fprintf(&b, "%s = ~ %s\n", o, x)
			v[o] = ^v[x]
		case 6:
			if x == y || y == z || x == z {
				continue
			}
			fmt.Fprintf(&b, "%s = %s ? %s : %s\n", o, x, y, z)
			v[o] = v[x]&v[y] | v[z]&^v[x]
		case 7:
			fmt.Fprintf(&b, "store %s\nload %s\n", x, x)
		}
	}
	return b.String(), v
}

// TestStraight runs what comes of random programs.
func TestStraight(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 500 {
		const n = 10
		in := map[string]uint16{}
		regs := map[string]Q{}
		m := machine{mem: map[string]uint16{}}
		var names []string
		for i := range n {
			v, q := fmt.Sprint("v", i), Q(i+3)
			in[v], regs[v] = uint16(rng.Uint32()), q
			m.q[q] = in[v]
			names = append(names, v)
		}
		text, want := program(rng, in)
		lines, err := ParseLines(text)
		if err != nil {
			t.Fatal(err)
		}
		var a Asm
		out := Straight{Lines: lines, In: regs, Out: names, OutBelow: 11,
			Slots: []Mem{At(R0), At(R1), At(R2), At(R3), At(R4), At(R5)}}.Emit(&a)
		if a.Err() != nil {
			t.Fatalf("%v\n%s", a.Err(), text)
		}
		a.Spread(8) // which must not change what comes out
		for _, i := range a.Insts() {
			m.run(t, i)
		}
		for _, v := range names {
			if m.q[out[v]] != want[v] || out[v] >= 11 {
				t.Fatalf("%s in %v is %04x, want %04x, of\n%s", v, out[v], m.q[out[v]], want[v], text)
			}
		}
	}
}

// TestStraightRefusals gives Straight programs that it cannot lay out.
func TestStraightRefusals(t *testing.T) {
	var many, use strings.Builder
	for i := range NumQ {
		fmt.Fprintf(&many, "t%d = a ^ b\n", i)
		fmt.Fprintf(&use, "a = a ^ t%d\n", i)
	}
	for _, c := range []struct{ why, text string }{
		{"register pressure", many.String() + use.String()},
		{"a value that is not there", "c = a ^ x"},
		{"a load without a store", "load c"},
		{"a second load of one store", "store a\nload a\nc = a ^ b\nload a"},
		{"more stored than slots", "store a\nstore b\nload a\nload b"},
		{"a result that is not there", "d = a ^ b"},
	} {
		lines, err := ParseLines(c.text)
		if err != nil {
			t.Fatal(err)
		}
		var a Asm
		Straight{Lines: lines, In: map[string]Q{"a": 0, "b": 1}, Out: []string{"a", "c"}, Slots: []Mem{At(R0)}}.Emit(&a)
		if a.Err() == nil || c.why == "a result that is not there" && !strings.Contains(a.Err().Error(), "at the end") {
			t.Errorf("%s: error %v", c.why, a.Err())
		}
	}
	for _, text := range []string{"a = b", "a = b + c", "store", "load a b", "again a = b & c", "a = b ? c", "again a b c ^ d"} {
		if _, err := ParseLines(text); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

// TestSpread looks at what moves and what must not.
func TestSpread(t *testing.T) {
	for _, c := range []struct {
		why  string
		do   func(*Asm)
		want string
	}{
		{"an independent one fills the gap", func(a *Asm) {
			a.VEOR(Q(0), Q(1), Q(2))
			a.VEOR(Q(3), Q(0), Q(2))
			a.VEOR(Q(4), Q(1), Q(2))
		}, "q0 q4 q3"},
		{"it needs the same result", func(a *Asm) {
			a.VEOR(Q(0), Q(1), Q(2))
			a.VEOR(Q(3), Q(0), Q(2))
			a.VEOR(Q(4), Q(0), Q(1))
		}, "q0 q3 q4"},
		{"it writes what is read before it", func(a *Asm) {
			a.VEOR(Q(0), Q(1), Q(2))
			a.VEOR(Q(3), Q(0), Q(2))
			a.VEOR(Q(2), Q(1), Q(5))
		}, "q0 q3 q2"},
		{"it writes half of what is read before it", func(a *Asm) {
			a.VEOR(Q(0), Q(1), Q(2))
			a.VEOR(Q(3), Q(0), Q(2))
			a.VEOR(D(5), D(2), D(10))
		}, "q0 q3 d5"},
		{"it selects in place", func(a *Asm) {
			a.VEOR(Q(0), Q(1), Q(2))
			a.VEOR(Q(3), Q(0), Q(2))
			a.VBSL(Q(3), Q(1), Q(5))
		}, "q0 q3 q3"},
		{"a line of Go's assembler stays", func(a *Asm) {
			a.VEOR(Q(0), Q(1), Q(2))
			a.VEOR(Q(3), Q(0), Q(2))
			a.Go("NOP")
			a.VEOR(Q(4), Q(1), Q(2))
		}, "q0 q3 q4"},
		{"nothing crosses a scalar instruction", func(a *Asm) {
			a.VEOR(Q(0), Q(1), Q(2))
			a.VEOR(Q(3), Q(0), Q(2))
			a.ADD(R0, R1, R2)
			a.VEOR(Q(4), Q(1), Q(2))
		}, "q0 q3 r0 q4"},
		{"loads and stores keep their order", func(a *Asm) {
			a.VEOR(Q(0), Q(1), Q(2))
			a.VST1(8, Q(0).Lo(), 2, At(R0))
			a.VLD1(8, Q(4).Lo(), 2, At(R1))
		}, "q0 {d0-d1} {d8-d9}"},
		{"a swap writes both of its registers", func(a *Asm) {
			a.VEOR(Q(0), Q(1), Q(2))
			a.VEOR(Q(3), Q(0), Q(2))
			a.VSWP(Q(5), Q(2))
		}, "q0 q3 q5"},
	} {
		var a Asm
		c.do(&a)
		a.Spread(4)
		var got []string
		for _, i := range a.Insts() {
			_, operands, _ := strings.Cut(i.Text, "\t")
			first, _, _ := strings.Cut(operands, ", ")
			got = append(got, first)
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %v, want %s", c.why, got, c.want)
		}
	}
}
