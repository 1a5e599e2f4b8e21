//go:build !arm

package qemutest

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"nitro/internal/metal"
	"nitro/qemu-test/emulator"
)

// dieSecret is the word that images/die has in arguments and registers.
const dieSecret = 0x5ec2e7a9

// bootLimit bounds one boot with its death, on a busy machine.
const bootLimit = time.Minute

// A death is one way in which images/die dies by itself.
type death struct {
	way    string // function of images/die
	reason string
	code   int
	says   []string // patterns of what the Go runtime says
	trace  bool     // the runtime's trace names function and line
	calls  []string // functions that the kernel's call trace has, in this order
}

var deaths = []death{
	{way: "panics", reason: "program ended", code: 2, trace: true, says: []string{`panic: this was to be expected\r\n`}},
	{way: "dereferencesNil", reason: "program ended", code: 2, trace: true, says: []string{
		`panic: runtime error: invalid memory address or nil pointer dereference\r\n`, `\[signal SIGSEGV: .* addr=0x4 pc=0x[0-9a-f]+\]\r\n`}},
	{way: "exhaustsMemory", reason: "program ended", code: 2, trace: true, says: []string{`fatal error: runtime: (cannot allocate|out of) memory\r\n`}},
	{way: "overflowsStack", reason: "program ended", code: 2, trace: true, says: []string{
		`runtime: goroutine stack exceeds 8388608-byte limit\r\n`, `fatal error: stack overflow\r\n`}},
	{way: "deadlocks", reason: "program ended", code: 2, trace: true, says: []string{`fatal error: all goroutines are asleep - deadlock!\r\n`}},
	{way: "touchesAbsentDevice", reason: "program ended", code: 2, trace: true, says: []string{
		`fatal error: fault\r\n`, `\[signal SIGBUS: bus error .* addr=0x21a1008 pc=0x[0-9a-f]+\]\r\n`}},
	{way: "smashesStack", reason: "program ended", code: 2, says: []string{
		`runtime: g 1.*: unexpected return pc for main.smash called from 0x\?\r\n`, `\r\n[0-9a-f]{8}:\r\n`}},
	{way: "isKilled", reason: "unhandled signal", code: 9, calls: []string{"syscall.Kill", "main.isKilled", "main.main", "runtime.main"}},
	// Which thread the watchdog's interrupt meets is a matter of chance.
	{way: "leavesWatchdog", reason: "watchdog not serviced"}, // maybe while no thread runs: no trace
	{way: "exits", reason: "program ended", code: 3},
}

// TestDeaths follows an image through boots that end each in another way, on one
// console, and holds what the next boot knows of the last one against what was
// seen. It ends with deaths that come from outside.
func TestDeaths(t *testing.T) {
	image := filepath.Join(t.TempDir(), "die.elf")
	if err := (metal.Build{}).Image(t.Context(), "nitro/qemu-test/images/die", image); err != nil {
		t.Fatal(err)
	}
	w := &watch{t: t, board: start(t, emulator.Config{Image: image, Args: emulator.Hurried}), symbols: readSymbols(t, image)}
	for _, d := range deaths {
		w.boot(d.way, w.last)
		w.end()
		w.check(d)
	}
	w.fromOutside()
	said := strings.ToLower(string(w.board.Console()))
	for _, s := range []string{fmt.Sprintf("%x", dieSecret), strconv.Itoa(dieSecret)} {
		if at := strings.Index(said, s); at >= 0 {
			t.Errorf("the secret %s is on the console: %q", s, said[max(0, at-200):at+len(s)])
		}
	}
}

// fromOutside has the waiting image die of what is done to the board.
func (w *watch) fromOutside() {
	const (
		masked    = 0x1d3 // SVC mode, interrupts masked
		undefined = 0xe7f000f0
		itself    = 0xeafffffe // a branch to itself
	)
	t := w.t
	spot := w.symbols.addr(t, "main.waits")

	t.Log("the kernel jumps to nowhere")
	w.boot("waits", w.last)
	g := w.inKernel()
	w.must(g.Set(emulator.CPSR, masked), g.Set(emulator.PC, 4), g.Release())
	w.end()
	w.checkLast("fault in the kernel", 3, nil)
	if !strings.Contains(w.last.last, ", pc 0x00000004 ") {
		t.Errorf("the record has not pc 4 but %q", w.last.last)
	}

	t.Log("the kernel meets an undefined instruction")
	w.boot("waits", w.last)
	g = w.inKernel()
	w.must(g.Write(spot, word(undefined)), g.Set(emulator.CPSR, masked), g.Set(emulator.PC, spot), g.Release())
	w.end()
	w.checkLast("fault in the kernel", 1, nil)

	t.Log("the kernel's state is nonsense")
	w.boot("waits", w.last)
	g = w.inKernel()
	w.must(g.Write(stateAddr+stateCurrent, word(0x7ffffff0)), g.Release())
	w.end()
	w.checkLast("fault in the kernel", 4, []string{"nitro/board/kernel."})

	t.Log("the kernel hangs with interrupts masked")
	w.boot("waits", w.last)
	g = w.inKernel()
	entry := w.symbols.addr(t, "cpuentry")
	w.must(g.Write(spot, word(itself)), g.Set(emulator.CPSR, masked), g.Set(emulator.PC, spot), g.Break(entry), g.Resume(bootLimit))

	// The watchdog has reset the board. Nothing tells how that boot died, and the
	// record of the one before has been told: this boot has none.
	w.must(g.Resume(bootLimit))
	w.boot(deaths[0].way, nil)
	w.end()
	w.check(deaths[0])
	w.corrupt(g)
}

// corrupt changes a byte of the record that the last boot has left; the board
// stands before the next one, which must not report it.
func (w *watch) corrupt(g *emulator.GDB) {
	magic, err := g.Read(crashAddr, 8)
	w.must(err)
	if string(magic) != "NCCRASH1" {
		w.t.Errorf("the record begins with %q, want NCCRASH1", magic)
	}
	const inText = 300
	text, err := g.Read(crashAddr+inText, 1)
	w.must(err, g.Write(crashAddr+inText, []byte{text[0] ^ 0x10}), g.Release())
	w.boot(deaths[0].way, nil)
}

// Physical addresses of the kernel's (board/kernel/layout.go, state.go).
const (
	stateAddr    = 0x9ff20000
	stateCurrent = 4
	crashAddr    = 0x9fffe000
)

// A watch follows a board's boots.
type watch struct {
	t       *testing.T
	board   *emulator.Board
	symbols symbols
	last    *boot // the latest one
}

// A boot is what was seen of one boot.
type boot struct {
	all    string // from the first byte to the kernel's last words
	report string // how the kernel says that the last boot died
	record string // the same, from /dev/crash
	size   int    // length of the console's end that the record holds
	sum    string // and its SHA-256
	way    string // how the image is going to die
	said   string // what was said between that and the kernel's last words
	last   string // the kernel's last words
}

func start(t *testing.T, c emulator.Config) *emulator.Board {
	t.Helper()
	b, err := emulator.Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

func (w *watch) must(errs ...error) {
	w.t.Helper()
	for _, err := range errs {
		if err != nil {
			w.t.Fatal(err)
		}
	}
}

// inKernel stops the board in the kernel. (In User mode the emulator refuses to
// change the mode.)
func (w *watch) inKernel() *emulator.GDB {
	w.t.Helper()
	g, err := w.board.Halt()
	w.must(err)
	tick := w.symbols.addr(w.t, "nitro/board/kernel.(*kernel).timerInterrupt")
	w.must(g.Break(tick), g.Resume(bootLimit), g.Unbreak(tick))
	return g
}

var (
	reported = regexp.MustCompile(`(?m)^kernel: the previous boot died: (.*)\r$`)
	recorded = regexp.MustCompile(`(?m)^die: record: (.*)\r$`)
	tail     = regexp.MustCompile(`(?m)^die: end of the console: (\d+) bytes, SHA-256 (\w+)\r$`)
)

// boot waits until a boot has come to the way in which it will die, which must be
// the given one. It must report how the boot before died, or nothing if that is
// nil.
func (w *watch) boot(way string, before *boot) {
	w.t.Helper()
	m, err := w.board.Expect(`(?s)kernel: MCIMX6UL-EVK, .*?\ndie: main\.(\w+)\r\n`, bootLimit)
	w.must(err)
	b := &boot{all: m[0], way: m[1]}
	w.last = b
	if m := reported.FindStringSubmatch(b.all); m != nil {
		b.report = m[1]
	}
	if m := recorded.FindStringSubmatch(b.all); m != nil {
		b.record = m[1]
	}
	if m := tail.FindStringSubmatch(b.all); m != nil {
		b.size, _ = strconv.Atoi(m[1])
		b.sum = m[2]
	}
	if b.way != way {
		w.t.Fatalf("the image dies by %s, want %s", b.way, way)
	}
	var want boot
	if before != nil {
		end := before.all[max(0, len(before.all)-4096):]
		want = boot{report: before.last, record: before.last, size: len(end), sum: fmt.Sprintf("%x", sha256.Sum256([]byte(end)))}
	}
	if b.report != want.report || b.record != want.record {
		w.t.Errorf("main.%s: the boot reports\n%q, /dev/crash has\n%q, want\n%q", way, b.report, b.record, want.report)
	}
	if b.size != want.size || b.sum != want.sum {
		w.t.Errorf("main.%s: /dev/crash has %d bytes of the console, SHA-256 %s, want %d, %s", way, b.size, b.sum, want.size, want.sum)
	}
}

// end waits for the boot's end.
func (w *watch) end() {
	w.t.Helper()
	m, err := w.board.Expect(`(?s)^(.*?)\r\nkernel: ([^\n]*, thread \d+, after [^\n]*)\r\n`, bootLimit)
	w.must(err)
	w.last.said, w.last.last = m[1], m[2]
	w.last.all += m[1]
}

// check holds a boot's end against what it was to be.
func (w *watch) check(d death) {
	w.t.Helper()
	said := w.last.said
	w.checkLast(d.reason, d.code, d.calls)
	for _, pattern := range d.says {
		if !regexp.MustCompile(pattern).MatchString(said) {
			w.t.Errorf("main.%s does not say %q but\n%s", d.way, pattern, said)
		}
	}
	checkBlanked(w.t, d.way, said)
	if d.trace {
		line := fmt.Sprintf("\tnitro/qemu-test/images/die/ways_arm.go:%d +0x", lineOf(w.t, d.way))
		if !strings.Contains(said, "\r\nmain."+d.way+"(") || !strings.Contains(said, line) {
			w.t.Errorf("the trace does not name main.%s and %q:\n%s", d.way, line, said)
		}
	}
}

// checkBlanked makes sure that of all numbers in hexadecimal only program counters
// and fault addresses are shown.
func checkBlanked(t *testing.T, way, said string) {
	t.Helper()
	shown := regexp.MustCompile(`(pc=|addr=|\+)0x[0-9a-f]+`)
	stack := regexp.MustCompile(`(?m)^[0-9a-f]{8}:\r$`) // a line of a stack's dump
	rest := stack.ReplaceAllString(shown.ReplaceAllString(said, ""), "")
	if word := regexp.MustCompile(`0x[0-9a-fA-F]+|\b[0-9a-f]{8}\b`).FindString(rest); word != "" {
		t.Errorf("main.%s: the trace shows %s:\n%s", way, word, said)
	}
}

var lastWords = regexp.MustCompile(`^([a-z ]+), code (\d+), thread \d+, after \d+ s, pc 0x([0-9a-f]{8}) ` +
	`lr 0x([0-9a-f]{8}) sp 0x[0-9a-f]{8} cpsr 0x[0-9a-f]{8} fault 0x[0-9a-f]{8} at 0x[0-9a-f]{8}` +
	`(?:; called from((?: 0x[0-9a-f]{8})+))?$`)

// checkLast checks the kernel's last words: the reason, addresses that are code of
// the image, and a call trace that has the given functions in their order.
func (w *watch) checkLast(reason string, code int, calls []string) {
	w.t.Helper()
	b := w.last
	m := lastWords.FindStringSubmatch(b.last)
	if m == nil {
		w.t.Errorf("main.%s: the kernel's last words cannot be understood: %q", b.way, b.last)
		return
	}
	if m[1] != reason || m[2] != strconv.Itoa(code) {
		w.t.Errorf("main.%s: the kernel says %q, code %s; want %q, code %d; before it there is\n%s", b.way, m[1], m[2], reason, code, b.said)
	}
	if reason != "fault in the kernel" && w.symbols.function(m[3]) == "" {
		w.t.Errorf("main.%s: pc 0x%s is in no function", b.way, m[3])
	}
	if m[4] != "00000000" && w.symbols.function(m[4]) == "" {
		w.t.Errorf("main.%s: lr 0x%s is neither 0 nor in a function", b.way, m[4])
	}
	var trace []string
	for _, addr := range strings.Fields(m[5]) {
		name := w.symbols.function(strings.TrimPrefix(addr, "0x"))
		if name == "" {
			w.t.Errorf("main.%s: the call trace has %s, which is in no function", b.way, addr)
		}
		trace = append(trace, name)
	}
	if len(trace) > 0 && len(calls) == 0 && reason == "program ended" {
		w.t.Errorf("main.%s: a program that ended has the call trace %q", b.way, trace)
	}
	for at := 0; len(calls) > 0; at++ {
		if at == len(trace) {
			w.t.Errorf("main.%s: the call trace %q lacks %q", b.way, trace, calls)
			return
		}
		if strings.HasPrefix(trace[at], calls[0]) {
			calls = calls[1:]
		}
	}
}

// lineOf finds the line of images/die at which a way of dying dies.
func lineOf(t *testing.T, way string) int {
	t.Helper()
	source, err := os.ReadFile("images/die/ways_arm.go")
	if err != nil {
		t.Fatal(err)
	}
	inside := false
	for i, line := range bytes.Split(source, []byte("\n")) {
		inside = inside || bytes.HasPrefix(line, []byte("func "+way+"("))
		if inside && bytes.HasSuffix(line, []byte("// here")) {
			return i + 1
		}
	}
	t.Fatalf("images/die does not say where %s dies", way)
	return 0
}

// symbols are the image's functions, by address.
type symbols []elf.Symbol

func readSymbols(t *testing.T, image string) symbols {
	t.Helper()
	f, err := elf.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := f.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	all = slices.DeleteFunc(all, func(s elf.Symbol) bool { return elf.ST_TYPE(s.Info) != elf.STT_FUNC || s.Size == 0 })
	sort.Slice(all, func(i, j int) bool { return all[i].Value < all[j].Value })
	return all
}

// function names the function that holds an address, given in hexadecimal.
func (s symbols) function(hex string) string {
	addr, err := strconv.ParseUint(hex, 16, 32)
	if err != nil {
		return ""
	}
	i := sort.Search(len(s), func(i int) bool { return s[i].Value > addr }) - 1
	if i < 0 || addr >= s[i].Value+s[i].Size {
		return ""
	}
	return s[i].Name
}

func (s symbols) addr(t *testing.T, name string) uint32 {
	t.Helper()
	for i := range s {
		if s[i].Name == name {
			return uint32(s[i].Value)
		}
	}
	t.Fatalf("the image has no function %s", name)
	return 0
}

func word(v uint32) []byte { return binary.LittleEndian.AppendUint32(nil, v) }
