package peer

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// The folder of the unpacked packages below a system's folder, and the record of their
// versions, written once all is there.
const (
	programFolder = "debian"
	programRecord = "debian.json"
)

// A programs is a set of unpacked packages.
type programs struct {
	Suite    string            // such as "bookworm"
	Versions map[string]string // by package

	*system
	root string // the module's folder
}

func (p *programs) unpacked() string { return p.in(p.root, programFolder) }
func (p *programs) record() string   { return p.in(p.root, programRecord) }

// installedPrograms finds the packages that Setup left.
func installedPrograms(s *system, root string) (*programs, error) {
	p := &programs{system: s, root: root}
	data, err := os.ReadFile(p.record())
	if err == nil {
		err = json.Unmarshal(data, p)
	}
	if err != nil {
		return nil, fmt.Errorf("peer: Debian's programs are not set up: %w: run make peer", err)
	}
	wanted := slices.Sorted(slices.Values(s.packages))
	if got := slices.Sorted(maps.Keys(p.Versions)); !slices.Equal(got, wanted) {
		return nil, fmt.Errorf("peer: of Debian's programs %v are set up, not %v: run make peer", got, wanted)
	}
	return p, nil
}

// setupPrograms sets the packages up unless they are there. They come from the
// release that the kernel's suite belongs to.
func setupPrograms(ctx context.Context, s *system, root string, o Options) error {
	release, _, _ := strings.Cut(o.Suite, "-")
	if p, err := installedPrograms(s, root); err == nil && p.Suite == release && !o.Update {
		fmt.Fprintf(o.Log, "peer: %s of %s are set up already\n", strings.Join(s.packages, ", "), release)
		return nil
	}
	a := &apt{system: s, ctx: ctx, log: o.Log, root: root, suite: release, state: s.in(root, "apt-"+programFolder)}
	p := &programs{Suite: release, Versions: make(map[string]string), system: s, root: root}
	for _, step := range []func() error{a.tools, a.sources, a.index, func() error { return p.choose(a) }, func() error { return p.fetch(a) }} {
		if err := step(); err != nil {
			return err
		}
	}
	data, err := json.MarshalIndent(p, "", "\t")
	if err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	return replaceFile(p.record(), append(data, '\n'))
}

// choose finds the packages' versions.
func (p *programs) choose(a *apt) error {
	for _, name := range p.packages {
		show, err := a.run(a.state, "apt-cache", append(a.options(), "--no-all-versions", "show", name)...)
		if err != nil {
			return err
		}
		for line := range strings.Lines(show) {
			if version, ok := strings.CutPrefix(line, "Version: "); ok {
				p.Versions[name] = strings.TrimSpace(version)
			}
		}
		if p.Versions[name] == "" {
			return fmt.Errorf("peer: %s does not name a version of %s; it says\n%s", p.Suite, name, show)
		}
	}
	return nil
}

// fetch downloads and unpacks them. The record goes first: without it, nothing is
// set up.
func (p *programs) fetch(a *apt) error {
	if err := os.Remove(p.record()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("peer: %w", err)
	}
	var exact []string
	for _, name := range p.packages {
		exact = append(exact, name+"="+p.Versions[name])
	}
	return a.fetch(p.unpacked(), exact...)
}

// Program gives the path on this machine of a program from Debian's armhf packages,
// such as "iperf3", to be a job's. It fails when make peer has not set it up.
func Program(name string) (string, error) { return board.program(name) }

// program gives the path of a program of a system's.
func (s *system) program(name string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	p, err := installedPrograms(s, root)
	if err != nil {
		return "", err
	}
	for _, dir := range []string{"usr/bin", "usr/sbin", "bin", "sbin"} {
		file := filepath.Join(p.unpacked(), dir, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file, nil
		}
	}
	return "", fmt.Errorf("peer: none of Debian's packages %v has a program %s", s.packages, name)
}

// libraryFolder is where a guest's dynamic loader looks first.
func (s *system) libraryFolder() string { return "/lib/" + s.multiarch }

// addLibraries adds to the archive what a dynamically linked program needs: the
// loader and the libraries, with those that they need. A static program needs none.
func (k *kernel) addLibraries(c *cpio, program string) error {
	loader, needs, err := dynamic(program)
	if err != nil {
		return fmt.Errorf("peer: %s: %w", program, err)
	}
	if loader == "" {
		return nil
	}
	p, err := installedPrograms(k.system, k.root)
	if err != nil {
		return err
	}
	file, err := p.library(path.Base(loader))
	if err != nil {
		return err
	}
	if !c.has(loader) {
		if err := c.addFrom(loader, file, 0o755); err != nil {
			return err
		}
	}
	for ; len(needs) > 0; needs = needs[1:] {
		name := needs[0]
		if name == path.Base(loader) || c.has(k.libraryFolder()+"/"+name) {
			continue
		}
		file, err := p.library(name)
		if err != nil {
			return fmt.Errorf("peer: %s: %w", program, err)
		}
		if err := c.addFrom(k.libraryFolder()+"/"+name, file, 0o755); err != nil {
			return err
		}
		_, further, err := dynamic(file)
		if err != nil {
			return fmt.Errorf("peer: %s: %w", file, err)
		}
		needs = append(needs, further...)
	}
	return nil
}

// library finds a library among the unpacked packages.
func (p *programs) library(name string) (string, error) {
	for _, dir := range []string{"lib", "usr/lib"} {
		file := filepath.Join(p.unpacked(), dir, p.multiarch, name)
		if info, err := os.Stat(file); err == nil && info.Mode().IsRegular() {
			return file, nil
		}
	}
	return "", fmt.Errorf("none of Debian's packages %v has the library %s", p.packages, name)
}

// dynamic reads from an ELF file the path of its dynamic loader, if it has one, and
// the names of the libraries that it needs. Other files, which the guest will refuse
// to run, have neither.
func dynamic(file string) (loader string, needs []string, err error) {
	data, err := os.ReadFile(file)
	if err != nil || !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return "", nil, err
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return "", nil, err
	}
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		text := make([]byte, p.Filesz)
		if _, err := p.ReadAt(text, 0); err != nil {
			return "", nil, err
		}
		loader = strings.TrimRight(string(text), "\x00")
	}
	needs, err = f.ImportedLibraries()
	return loader, needs, err
}
