package spinor

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var models = map[string]func() *model{"W25Q128": w25q128, "MX25L25645G": mx25l25645g, "N25Q256": n25q256, "SST25VF016B": sst25vf016bModel}

func open(t *testing.T, m *model) *Flash {
	t.Helper()
	f, err := Open(m)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func random(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(p)
	return p
}

// TestChips: each vendor's chip is erased, written and read, at its ends and across its
// pages, and above 16 MiB where there is that.
func TestChips(t *testing.T) {
	for name, make := range models {
		m := make()
		f := open(t, m)
		if f.Size() != int64(len(m.mem)) || f.EraseSize() != 4<<10 || f.ID() != m.id {
			t.Errorf("%s: %v", name, f)
		}
		if err := f.Protect(nil); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, at := range []int64{0, 64<<10 - 4<<10, f.Size() - 8<<10, f.Size() / 2} {
			clear(m.mem[at : at+8<<10])
			if err := f.Erase(at, 8<<10); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if !blank(m.mem[at : at+8<<10]) {
				t.Errorf("%s: %#x is not erased", name, at)
			}
			p := random(1000)
			copy(p[255:], bytes.Repeat([]byte{0xff}, 300)) // a page of which nothing is to be written
			if n, err := f.WriteAt(p, at+255); n != len(p) || err != nil {
				t.Fatalf("%s: %d, %v", name, n, err)
			}
			if !bytes.Equal(m.mem[at+255:at+1255], p) || !blank(m.mem[at:at+255]) || !blank(m.mem[at+1255:at+8<<10]) {
				t.Errorf("%s: what is at %#x was not written", name, at)
			}
			got := random(1002)
			if n, err := f.ReadAt(got, at+254); n != len(got) || err != nil || !bytes.Equal(got, m.mem[at+254:at+1256]) {
				t.Errorf("%s: reading %#x: %d, %v", name, at, n, err)
			}
		}
		if err := f.Close(); err != nil || m.four {
			t.Errorf("%s: left in the mode of 4-byte addresses: %t, %v", name, m.four, err)
		}
		if !strings.Contains(f.String(), hex.EncodeToString(m.id[:])) {
			t.Error(f)
		}
	}
}

// TestErasers: as few instructions as there can be.
func TestErasers(t *testing.T) {
	m := w25q128()
	f := open(t, m)
	clear(m.mem)
	if err := f.Erase(60<<10, 4<<10+64<<10+32<<10+4<<10); err != nil {
		t.Fatal(err)
	}
	if m.ops[0x20] != 2 || m.ops[0x52] != 1 || m.ops[0xd8] != 1 {
		t.Errorf("%v", m.ops)
	}
	if m.mem[60<<10-1] != 0 || !blank(m.mem[60<<10:164<<10]) || m.mem[164<<10] != 0 {
		t.Error("something else was erased")
	}
	if _, err := f.WriteAt(bytes.Repeat([]byte{0xff}, 300), 0); err != nil || m.ops[opProgram] != 0 {
		t.Errorf("what is to stay erased was written, %v", err)
	}
}

// TestProtection: the best area that the chip has for what is to be protected, nothing of
// what is not, and the chip really ignores writes there.
func TestProtection(t *testing.T) {
	const k, mib = int64(1 << 10), int64(1 << 20)
	for _, c := range []struct {
		name         string
		ranges, want [][2]int64
	}{
		{"W25Q128", [][2]int64{{0, 16 * mib}}, [][2]int64{{0, 16 * mib}}},
		{"W25Q128", [][2]int64{{8 * mib, 8 * mib}}, [][2]int64{{8 * mib, 8 * mib}}},
		{"W25Q128", [][2]int64{{528 * k, 16*mib - 528*k}}, [][2]int64{{1 * mib, 15 * mib}}}, // by CMP
		{"W25Q128", [][2]int64{{4 * k, 16*mib - 4*k}}, [][2]int64{{4 * k, 16*mib - 4*k}}},   // by SEC and CMP
		{"W25Q128", [][2]int64{{0, 8 * k}, {512 * k, 64 * k}}, [][2]int64{{0, 8 * k}}},
		{"W25Q128", [][2]int64{{0, 12 * mib}, {12 * mib, 3 * mib}}, [][2]int64{{0, 12 * mib}}},
		{"W25Q128", [][2]int64{{1 * mib, 8 * mib}}, nil},
		{"MX25L25645G", [][2]int64{{0, 32 * mib}}, [][2]int64{{0, 32 * mib}}},
		{"MX25L25645G", [][2]int64{{15 * mib, 17 * mib}}, [][2]int64{{16 * mib, 16 * mib}}},
		{"MX25L25645G", [][2]int64{{0, 16 * mib}}, nil}, // bottom cannot be had
		{"N25Q256", [][2]int64{{0, 3 * mib}}, [][2]int64{{0, 2 * mib}}},
		{"N25Q256", [][2]int64{{30 * mib, 2 * mib}}, [][2]int64{{30 * mib, 2 * mib}}},
		{"N25Q256", [][2]int64{{0, 32 * mib}}, [][2]int64{{0, 32 * mib}}},
		{"SST25VF016B", [][2]int64{{1 * mib, 1 * mib}}, [][2]int64{{1 * mib, 1 * mib}}},
		{"SST25VF016B", [][2]int64{{0, 2 * mib}}, [][2]int64{{0, 2 * mib}}},
		{"SST25VF016B", [][2]int64{{0, 1 * mib}}, nil},
		{"SST25VF016B", nil, nil},
	} {
		m := models[c.name]()
		f := open(t, m)
		quad := m.status2 & 2
		if err := f.Protect(c.ranges); err != nil {
			t.Errorf("%s, %#x: %v", c.name, c.ranges, err)
		}
		got, err := f.Protected()
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s, %#x: protected are %#x, not %#x; %v", c.name, c.ranges, got, c.want, err)
		}
		from, to := m.guarded(m)
		if len(got) == 0 && from != to || len(got) == 1 && (from != got[0][0] || to != got[0][0]+got[0][1]) {
			t.Errorf("%s, %#x: the chip protects %#x to %#x, the driver reads %#x", c.name, c.ranges, from, to, got)
		}
		if m.status2&2 != quad || (m.status&statusLock != 0) != (c.want != nil) {
			t.Errorf("%s, %#x: status registers %#x, %#x", c.name, c.ranges, m.status, m.status2)
		}
		writes := m.ops[opWriteStatus]
		if err := f.Protect(c.ranges); err != nil || m.ops[opWriteStatus] != writes {
			t.Errorf("%s: the same was written again, %v", c.name, err)
		}
		if len(got) == 0 {
			continue
		}
		m.mem[from] = 0x55
		err = f.Erase(from, 4<<10)
		if m.mem[from] != 0x55 || errors.Is(err, ErrFailed) != (c.name == "N25Q256") {
			t.Errorf("%s: erasing what is protected: %#x, %v", c.name, m.mem[from], err)
		}
		free := int64(0)
		if from == 0 {
			free = to % f.Size()
		}
		if err := f.Erase(free, 4<<10); err != nil && to-from != f.Size() {
			t.Errorf("%s: and then something else: %v", c.name, err)
		}
	}
}

// TestAreas compares every state's area with the models' tables, of which those of the
// driver know nothing.
func TestAreas(t *testing.T) {
	for name, make := range models {
		m := make()
		s := known(m.id).scheme
		for _, config := range []byte{0, 8} {
			m.config = config
			for n := uint16(0); ; n = (n - s.mask) & s.mask {
				m.status, m.status2 = byte(n), byte(n>>8)
				from, length, ok := s.area(n, int64(len(m.mem)), config)
				if a, b := m.guarded(m); ok && (b-a != length || length > 0 && a != from) {
					t.Errorf("%s, state %#x: %#x bytes at %#x, the model has %#x at %#x", name, n, length, from, b-a, a)
				}
				if n == s.mask {
					break
				}
			}
		}
	}
	if from, length, ok := winbond256.area(0x40|9<<2, 32<<20, 0); from != 0 || length != 16<<20 || !ok {
		t.Errorf("W25Q256, lower half: %#x at %#x", length, from)
	}
	if from, length, ok := winbond256.area(1<<14|0x40|1<<2, 32<<20, 0); from != 64<<10 || length != 32<<20-64<<10 || !ok {
		t.Errorf("W25Q256, all but the lowest block: %#x at %#x", length, from)
	}
}

// TestLocked: with WP# low the bits stay, and the driver says so.
func TestLocked(t *testing.T) {
	for name, make := range models {
		m := make()
		f := open(t, m)
		all := [][2]int64{{0, f.Size()}}
		if err := f.Protect(all); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		m.pinLow = true
		if err := f.Protect(nil); !errors.Is(err, ErrLocked) {
			t.Errorf("%s, WP# low: %v", name, err)
		}
		if got, err := f.Protected(); err != nil || !slices.Equal(got, all) {
			t.Errorf("%s, WP# low: %#x, %v", name, got, err)
		}
		m.pinLow = false
		if err := f.Protect(nil); err != nil {
			t.Errorf("%s, WP# high: %v", name, err)
		}
		if got, err := f.Protected(); err != nil || got != nil {
			t.Errorf("%s: %#x, %v", name, got, err)
		}
	}
}

// TestUnknownState: a combination that the data sheet leaves open is no answer.
func TestUnknownState(t *testing.T) {
	m := w25q128()
	f := open(t, m)
	m.status = 0x58
	if got, err := f.Protected(); err == nil {
		t.Errorf("%#x", got)
	}
	if err := f.Protect(nil); err != nil {
		t.Error(err)
	}
}

// TestUnknownScheme: a chip that describes itself but is not in the table works, and
// protects nothing.
func TestUnknownScheme(t *testing.T) {
	m := w25q128()
	m.id[0] = 0x0b
	f := open(t, m)
	if err := f.Protect([][2]int64{{0, f.Size()}}); err != nil {
		t.Error(err)
	}
	if got, err := f.Protected(); got != nil || err != nil {
		t.Errorf("%#x, %v", got, err)
	}
	if err := f.Erase(0, 4<<10); err != nil {
		t.Error(err)
	}
}

// TestFaults: chips that are not there, do not take the latch, stay busy, or fail.
func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := w25q128()
		m.absent = true
		if _, err := Open(m); !errors.Is(err, ErrAbsent) {
			t.Errorf("absent: %v", err)
		}
		m.absent, m.fault = false, errBus
		if _, err := Open(m); !errors.Is(err, errBus) {
			t.Errorf("bus: %v", err)
		}
		m.fault, m.sfdp = nil, nil
		if _, err := Open(m); !errors.Is(err, ErrUnknown) {
			t.Errorf("no SFDP: %v", err)
		}
		m = n25q256()
		f := open(t, m)
		m.busy, m.status = -1, m.status|statusWEL
		if err := f.Erase(0, 4<<10); !errors.Is(err, ErrLatch) {
			t.Errorf("busy before: %v", err)
		}
		m.busy, m.polls = 0, -1
		start := time.Now()
		if err := f.Erase(0, 4<<10); !errors.Is(err, ErrBusy) || time.Since(start) < 384*time.Millisecond || time.Since(start) > 400*time.Millisecond {
			t.Errorf("busy: %v after %v", err, time.Since(start))
		}
		if _, err := Open(m); !errors.Is(err, ErrAbsent) { // a busy chip gives no id
			t.Errorf("busy at the begin: %v", err)
		}
		m.busy, m.polls, m.deaf = 0, 3, true
		m.status &^= statusWEL
		if _, err := f.WriteAt([]byte{1}, 0); !errors.Is(err, ErrLatch) {
			t.Errorf("no latch: %v", err)
		}
		m.deaf, m.failFlag = false, flagsEraseError
		if err := f.Erase(0, 4<<10); !errors.Is(err, ErrFailed) || m.flags != 0 {
			t.Errorf("fails: %v, flags %#x", err, m.flags)
		}
		if err := f.Erase(0, 4<<10); err != nil {
			t.Errorf("and then not: %v", err)
		}
		m.flagsBusy = true
		if err := f.Erase(0, 4<<10); !errors.Is(err, ErrBusy) {
			t.Errorf("not ready by its flags: %v", err)
		}
		m.fault = errBus
		if _, err := f.ReadAt(make([]byte, 1), 0); !errors.Is(err, errBus) {
			t.Error(err)
		}
		if _, err := f.Protected(); !errors.Is(err, errBus) {
			t.Error(err)
		}
	})
}

// TestRanges: what is not within the chip does not reach the bus.
func TestRanges(t *testing.T) {
	m := w25q128()
	f := open(t, m)
	m.fault = errBus
	for _, err := range []error{
		f.Erase(-4<<10, 4<<10), f.Erase(16<<20, 4<<10), f.Erase(0, 32<<20), f.Erase(1, 4<<10), f.Erase(0, 1), f.Erase(4<<10, 1<<62),
		second(f.ReadAt(make([]byte, 2), 16<<20-1)), second(f.ReadAt(make([]byte, 2), -1)), second(f.WriteAt(make([]byte, 2), 16<<20-1)),
	} {
		if !errors.Is(err, ErrRange) {
			t.Error(err)
		}
	}
}

func second(_ int, err error) error { return err }

// parse reads a description that is all there is of the address space.
func parse(b []byte) (*geometry, error) {
	return parseSFDP(func(p []byte, at uint32) error {
		for i := range p {
			p[i] = 0xff
		}
		if int(at) < len(b) {
			copy(p, b[at:])
		}
		return nil
	}, part{})
}

func TestSFDP(t *testing.T) {
	g, err := parse(mx25l25645g().sfdp)
	if err != nil {
		t.Fatal(err)
	}
	want := []eraser{{0x21, 4 << 10, 384 * time.Millisecond}, {0x5c, 32 << 10, 1024 * time.Millisecond}, {0xdc, 64 << 10, 1280 * time.Millisecond}}
	if g.size != 32<<20 || g.page != 256 || g.program != 2816*time.Microsecond || !slices.Equal(g.erasers, want) || !g.wide || !g.native || g.enter != enterNever || g.flagged {
		t.Errorf("%+v", g)
	}
	old := description(basicTable(1<<27-1, 0, 0, 0)[:9], nil) // JESD216 without times
	if g, err = parse(old); err != nil || g.page != 256 || g.program != defaultProgram || g.erasers[2].limit != defaultErase {
		t.Errorf("%+v, %v", g, err)
	}
	odd := basicTable(1<<26+8*4<<10-1, 0, 0, 0) // 8 MiB and 4 KiB
	odd[9] = 1<<32 - 1
	if g, err = parse(description(odd, nil)); err != nil || len(g.erasers) != 1 || g.erasers[0].limit != maxLimit {
		t.Errorf("%+v, %v", g, err)
	}
	if g, err = parse(description(basicTable(1<<28-1, 1<<17, 0, 0), []uint32{0x7f | 6<<9, 0xffdc5c21})); err != nil || len(g.erasers) != 2 || g.erasers[0].opcode != 0x5c {
		t.Errorf("no 4-byte instruction for 4 KiB: %+v, %v", g, err)
	}
	m := n25q256()
	m.sfdp = description(basicTable(1<<28-1, 1<<17, 0, 0), nil)
	if _, err := Open(m); err == nil || !strings.Contains(err.Error(), "no way known") {
		t.Errorf("a chip that says it has no way: %v", err)
	}
	// As its first versions describe themselves.
	m.sfdp = description(basicTable(1<<28-1, 1<<17, 0, 0)[:9], nil)
	if f := open(t, m); f.g.enter != enterWithEnable || !f.g.flagged || !m.four {
		t.Errorf("%+v", f.g)
	}
	if g, err = parse(description(basicTable(1<<27-1, 2<<17, 0, 0), nil)); err != nil || !g.wide || g.enter != enterNever {
		t.Errorf("always 4-byte addresses: %+v, %v", g, err)
	}
}

// TestSFDPRefusals: one thing wrong each.
func TestSFDPRefusals(t *testing.T) {
	good := basicTable(1<<27-1, 0, 0, 0)
	with := func(n int, w uint32) []byte {
		t := slices.Clone(good)
		t[n-1] = w
		return description(t, nil)
	}
	raw := func(at int, v byte) []byte { b := description(good, nil); b[at] = v; return b }
	for _, c := range []struct {
		name string
		b    []byte
		say  string
	}{
		{"nothing", nil, "no SFDP"}, {"signature", raw(0, 0), "no SFDP"}, {"major", raw(5, 2), "major revision 2"},
		{"no basic table", raw(8, 1), "no basic table"}, {"table's major", raw(8+2, 3), "no basic table"}, {"short table", raw(8+3, 8), "8 doublewords"},
		{"pointer", raw(8+6, 0xff), "2^"}, {"odd size", with(2, 12345), "12346 bits"}, {"empty", with(2, 0), "1 bits"}, {"1 GiB", with(2, 1<<31|33), "at most 256 MiB"},
		{"2^63 bits", with(2, 1<<31|63), "2^63 bits"}, {"large without a way", with(2, 1<<28-1), "no way known"},
		{"no erase type", description(append(slices.Clone(good[:7]), 0, 0), nil), "no erase type"},
		{"huge erase type", description(append(slices.Clone(good[:7]), 0xd81f, 0), nil), "no erase type"},
		{"page", with(11, 15<<4), "pages of 32768"}, {"page of one", with(11, 0), "pages of 1 "},
	} {
		if _, err := parse(c.b); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want %q", c.name, err, c.say)
		}
	}
}

// What the fuzzer found, one a line in hexadecimal. (Package corpus, which others use, is
// not for board to import.)
//
//go:embed testdata/descriptions.hex
var kept string

// FuzzSFDP: whatever is taken is within bounds.
func FuzzSFDP(f *testing.F) {
	for _, make := range models {
		f.Add(make().sfdp)
	}
	for line := range strings.Lines(kept) {
		b, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := parse(b)
		if err != nil {
			return
		}
		if g.size < minErase || g.size > maxSize || g.page < 16 || g.page > 1024 || g.program <= 0 || g.program > maxLimit || len(g.erasers) == 0 || g.size > 16<<20 && !g.wide {
			t.Fatalf("%+v", g)
		}
		for i, e := range g.erasers {
			if e.opcode == 0 || g.size%e.size != 0 || e.limit <= 0 || e.limit > maxLimit || i > 0 && e.size%g.erasers[i-1].size != 0 {
				t.Fatalf("%+v", g)
			}
		}
	})
}
