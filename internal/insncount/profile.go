package insncount

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"
)

// BuildProfiler compiles the profiling plugin into dir, as profile.so, as Build does
// the counting one.
func BuildProfiler(ctx context.Context, dir string) (string, error) {
	return build(ctx, dir, "profile")
}

// ProfileOptions say when to count. Addresses are the guest's virtual addresses of
// instructions; zero means none.
type ProfileOptions struct {
	From  uint32 // count from each execution of this address on (that one included); none: from the start
	To    uint32 // stop at its next execution (that one left out); none: never
	Once  bool   // count from the first execution of From to the next one of To, and no more
	Exact bool   // count each instruction by itself: about half as fast
	Snap  string // path of a named pipe by which [Snapshots] asks for counts; none: ""
}

// ProfileArgs gives the emulator's arguments that load the profiling plugin and have
// it write its result to the file out, as Args does.
func ProfileArgs(plugin, out string, o ProfileOptions) []string {
	arg := quote(plugin) + ",out=" + quote(out)
	for name, addr := range map[string]uint32{"from": o.From, "to": o.To} {
		if addr != 0 {
			arg += fmt.Sprintf(",%s=%#x", name, addr)
		}
	}
	for name, on := range map[string]bool{"once": o.Once, "exact": o.Exact} {
		if on {
			arg += "," + name + "=on"
		}
	}
	if o.Snap != "" {
		arg += ",snap=" + quote(o.Snap)
	}
	return []string{"-plugin", arg}
}

// Snapshots takes profiles while the emulator runs. Make it before the emulator starts,
// and give that its Options and the same file out.
type Snapshots struct {
	pipe *os.File
	out  string
	n    int // taken
}

// NewSnapshots makes the named pipe beside the file out, in which the plugin will write
// its result.
func NewSnapshots(out string) (*Snapshots, error) {
	path := out + ".pipe"
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("insncount: %w", err)
	}
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		return nil, fmt.Errorf("insncount: %s: %w", path, err)
	}
	pipe, err := os.OpenFile(path, os.O_RDWR, 0) // for both, so that neither waits for the plugin
	if err != nil {
		return nil, fmt.Errorf("insncount: %w", err)
	}
	return &Snapshots{pipe: pipe, out: out}, nil
}

// Pipe is the named pipe's path, for [ProfileOptions].
func (s *Snapshots) Pipe() string { return s.pipe.Name() }

// snapshotLimit bounds the plugin's writing.
const snapshotLimit = time.Minute

// Take gives what has been counted from the emulator's start until now. The board goes on
// meanwhile: what it executes within milliseconds may be counted or not.
func (s *Snapshots) Take() (Profile, error) {
	s.n++
	file := fmt.Sprintf("%s.%d", s.out, s.n)
	if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Profile{}, fmt.Errorf("insncount: %w", err)
	}
	if _, err := s.pipe.Write([]byte{1}); err != nil {
		return Profile{}, fmt.Errorf("insncount: asking for a snapshot: %w", err)
	}
	for end := time.Now().Add(snapshotLimit); ; time.Sleep(5 * time.Millisecond) {
		p, err := ReadProfile(file)
		if err == nil {
			return p, os.Remove(file)
		}
		if !errors.Is(err, fs.ErrNotExist) || time.Now().After(end) {
			return Profile{}, err
		}
	}
}

// Close removes the named pipe.
func (s *Snapshots) Close() error {
	return errors.Join(os.Remove(s.pipe.Name()), s.pipe.Close())
}

// Since gives what was counted after an earlier snapshot of the same run.
func (p Profile) Since(earlier Profile) Profile {
	before := make(map[Code]uint64)
	for _, c := range earlier.Code {
		before[Code{c.PC, c.Insns, c.Mode, 0}] = c.Count
	}
	d := Profile{Windows: p.Windows}
	for _, c := range p.Code {
		if c.Count -= before[Code{c.PC, c.Insns, c.Mode, 0}]; c.Count > 0 {
			d.Code = append(d.Code, c)
		}
	}
	return d
}

// Code is a piece of code without branches, and how often it was executed.
type Code struct {
	PC    uint32 // address of its first instruction
	Insns uint32 // how many instructions it has
	Mode  Mode   // the mode in which it was executed
	Count uint64 // how often
}

// A Profile is a result of the profiling plugin.
type Profile struct {
	Windows uint64 // how often From was found; 1 without it
	Code    []Code
}

// ReadProfile reads the result that the profiling plugin wrote to the file out. It
// fails when the emulator did not end in good order.
func ReadProfile(out string) (Profile, error) {
	data, err := os.ReadFile(out)
	if err != nil {
		return Profile{}, fmt.Errorf("insncount: no result: %w (was the emulator killed?)", err)
	}
	p, err := parseProfile(string(data))
	if err != nil {
		return Profile{}, fmt.Errorf("insncount: %s: %w", out, err)
	}
	return p, nil
}

// parseProfile reads the lines that the plugin's function report writes. QEMU may
// have translated code more than once: equal pieces are added up.
func parseProfile(text string) (Profile, error) {
	body, whole := strings.CutSuffix(text, "done\n")
	if !whole {
		return Profile{}, errCut
	}
	var p Profile
	counts := make(map[Code]uint64)
	for line := range strings.Lines(body) {
		var c Code
		var n uint64
		if _, err := fmt.Sscanf(line, "code %v %v %v %v\n", &c.PC, &c.Insns, &c.Mode, &n); err == nil {
			counts[c] += n
		} else if _, err := fmt.Sscanf(line, "windows %v\n", &p.Windows); err != nil {
			return Profile{}, fmt.Errorf("bad line %q", line)
		}
	}
	for c, n := range counts {
		c.Count = n
		p.Code = append(p.Code, c)
	}
	slices.SortFunc(p.Code, func(a, b Code) int {
		return cmp.Or(cmp.Compare(a.PC, b.PC), cmp.Compare(a.Insns, b.Insns), cmp.Compare(a.Mode, b.Mode))
	})
	return p, nil
}

// A Share is what one function, one package or all of the code has of a profile.
type Share struct {
	Name  string
	Insns uint64 // instructions executed
	User  uint64 // of those, in User mode
}

// add adds one piece of code.
func (s *Share) add(c Code) {
	insns := uint64(c.Insns) * c.Count
	s.Insns += insns
	if c.Mode == userMode {
		s.User += insns
	}
}

// Total gives the share of all code; its name is empty.
func (p Profile) Total() Share {
	var total Share
	for _, c := range p.Code {
		total.add(c)
	}
	return total
}

// Functions gives the functions that were executed, those with the most
// instructions first. Code without a symbol goes by its page, as "[0x12345000]".
func (p Profile) Functions(s *Symbols) []Share {
	return p.by(s.Name)
}

// Packages gives the Go packages whose functions were executed, in the same order.
// Assembly whose symbol names no package goes by the symbol.
func (p Profile) Packages(s *Symbols) []Share {
	return p.by(func(pc uint32) string { return packageOf(s.Name(pc)) })
}

// by adds up what has the same name.
func (p Profile) by(name func(pc uint32) string) []Share {
	sums := make(map[string]*Share)
	for _, c := range p.Code {
		n := name(c.PC)
		s := sums[n]
		if s == nil {
			s = &Share{Name: n}
			sums[n] = s
		}
		s.add(c)
	}
	var all []Share
	for _, s := range sums {
		all = append(all, *s)
	}
	slices.SortFunc(all, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Insns, a.Insns), strings.Compare(a.Name, b.Name))
	})
	return all
}
