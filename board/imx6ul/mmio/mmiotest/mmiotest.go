// Package mmiotest plays the hardware for the tests of drivers: an ordered script
// of expected register accesses. Any other access, at the first place where it
// differs, ends the test and says what was expected and what came.
//
//	s := mmiotest.New(t)
//	gpio := s.Block("gpio1")
//	s.Expect(
//		gpio.Reads(0x08, 1<<3),
//		gpio.Writes(0x00, 1<<3),
//	)
//	driver.New(gpio).Work()
//
// A script may cover several blocks, since the order among them can matter. The
// accesses must come from the test's own goroutine. [Recorder] writes down what a
// driver does to real registers, in the form of a script.
package mmiotest

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"nitro/board/imx6ul/mmio"
)

// A Step is an expected access.
type Step struct {
	block  *Block
	kind   string // Reads, Writes, Reads16, Writes16 or Polls
	offset uint32
	value  uint32
	met    bool // of Polls: at least one read came
}

func (s *Step) String() string {
	return fmt.Sprintf("%s.%s(%#02x, %#x)", s.block.name, s.kind, s.offset, s.value)
}

// A Script is an ordered list of expected accesses.
type Script struct {
	t     testing.TB
	steps []*Step
	next  int
}

// New makes an empty script. When the test ends, all steps must have come.
func New(t testing.TB) *Script {
	s := &Script{t: t}
	t.Cleanup(s.Finish)
	return s
}

// Finish fails the test if not all steps that were expected have come. It runs by
// itself at the test's end; it may be called earlier too.
func (s *Script) Finish() {
	s.t.Helper()
	s.pass()
	if s.next < len(s.steps) && !s.t.Failed() {
		s.t.Errorf("step %d of %d did not come: %v", s.next+1, len(s.steps), s.steps[s.next])
	}
}

// Expect adds steps to the script's end.
func (s *Script) Expect(steps ...*Step) { s.steps = append(s.steps, steps...) }

// Block names a block of the script.
func (s *Script) Block(name string) *Block { return &Block{s, name} }

// pass leaves a step of any number of reads behind that has been met.
func (s *Script) pass() {
	if s.next < len(s.steps) && s.steps[s.next].met {
		s.next++
	}
}

// play takes an access and gives the value that it reads.
func (s *Script) play(got *Step) uint32 {
	s.t.Helper()
	for {
		if s.next == len(s.steps) {
			s.t.Fatalf("after the script's %d steps came %v", len(s.steps), got)
		}
		want := s.steps[s.next]
		reads := want.kind == "Polls" && got.kind == "Reads" || want.kind == "Polls16" && got.kind == "Reads16"
		if reads && want.block.name == got.block.name && want.offset == got.offset {
			want.met = true
			return want.value
		}
		if want.met {
			s.next++
			continue
		}
		wrote := strings.HasPrefix(got.kind, "Writes") && want.value != got.value
		if want.kind != got.kind || want.block.name != got.block.name || want.offset != got.offset || wrote {
			s.t.Fatalf("step %d of %d: came %v, expected %v", s.next+1, len(s.steps), got, want)
		}
		s.next++
		return want.value
	}
}

// A Block is one block's registers in a script. It implements mmio.Registers.
type Block struct {
	script *Script
	name   string
}

var _ mmio.Registers = (*Block)(nil)

func (b *Block) step(kind string, offset, value uint32) *Step {
	return &Step{block: b, kind: kind, offset: offset, value: value}
}

// Reads expects a 32-bit read, which gives value.
func (b *Block) Reads(offset, value uint32) *Step { return b.step("Reads", offset, value) }

// Writes expects a 32-bit write of value.
func (b *Block) Writes(offset, value uint32) *Step { return b.step("Writes", offset, value) }

// Reads16 expects a 16-bit read, which gives value.
func (b *Block) Reads16(offset uint32, value uint16) *Step {
	return b.step("Reads16", offset, uint32(value))
}

// Writes16 expects a 16-bit write of value.
func (b *Block) Writes16(offset uint32, value uint16) *Step {
	return b.step("Writes16", offset, uint32(value))
}

// Polls expects one or more 32-bit reads, which all give value: what a driver that
// waits sees of a device that does not change.
func (b *Block) Polls(offset, value uint32) *Step { return b.step("Polls", offset, value) }

// Polls16 is Polls for 16-bit reads.
func (b *Block) Polls16(offset uint32, value uint16) *Step {
	return b.step("Polls16", offset, uint32(value))
}

// Read32 plays a 32-bit read.
func (b *Block) Read32(offset uint32) uint32 {
	b.script.t.Helper()
	return b.script.play(b.step("Reads", offset, 0))
}

// Write32 plays a 32-bit write.
func (b *Block) Write32(offset, value uint32) {
	b.script.t.Helper()
	b.script.play(b.step("Writes", offset, value))
}

// Read16 plays a 16-bit read.
func (b *Block) Read16(offset uint32) uint16 {
	b.script.t.Helper()
	return uint16(b.script.play(b.step("Reads16", offset, 0)))
}

// Write16 plays a 16-bit write.
func (b *Block) Write16(offset uint32, value uint16) {
	b.script.t.Helper()
	b.script.play(b.step("Writes16", offset, uint32(value)))
}

// A Recorder passes accesses on to a block and writes them down. Several goroutines
// may use it.
type Recorder struct {
	block *Block
	regs  mmio.Registers
	mu    sync.Mutex
	steps []*Step
}

// Record puts a recorder in front of a block's registers.
func Record(name string, r mmio.Registers) *Recorder {
	return &Recorder{block: &Block{name: name}, regs: r}
}

// String gives what was recorded, a step a line, as a script has it.
func (r *Recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var s strings.Builder
	for _, step := range r.steps {
		fmt.Fprintf(&s, "%v,\n", step)
	}
	return s.String()
}

func (r *Recorder) note(kind string, offset, value uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.steps = append(r.steps, r.block.step(kind, offset, value))
}

// Read32 makes and records a 32-bit read.
func (r *Recorder) Read32(offset uint32) uint32 {
	v := r.regs.Read32(offset)
	r.note("Reads", offset, v)
	return v
}

// Write32 makes and records a 32-bit write.
func (r *Recorder) Write32(offset, value uint32) {
	r.note("Writes", offset, value)
	r.regs.Write32(offset, value)
}

// Read16 makes and records a 16-bit read.
func (r *Recorder) Read16(offset uint32) uint16 {
	v := r.regs.Read16(offset)
	r.note("Reads16", offset, uint32(v))
	return v
}

// Write16 makes and records a 16-bit write.
func (r *Recorder) Write16(offset uint32, value uint16) {
	r.note("Writes16", offset, uint32(value))
	r.regs.Write16(offset, value)
}
