package insncount

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
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
	return []string{"-plugin", arg}
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
