package peer

import (
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Libraries that stand in for others. Debian's fio is linked with the clients of Ceph, Gluster,
// NBD, RDMA and persistent memory, which bring forty packages and 100 MiB with them; an emulated
// guest would unpack them all before it starts. The dynamic loader wants the libraries' names,
// versions and symbols (fio is linked with BIND_NOW), and no more: a library that stands in has
// those, and each function of it traps.

// addStandIns adds libraries that stand in for those of a program which are named absent.
func (k *kernel) addStandIns(ctx context.Context, c *cpio, absent []string, program, folder string) error {
	f, err := elf.Open(program)
	if err != nil {
		return fmt.Errorf("peer: %s: %w", program, err)
	}
	defer f.Close()
	needs, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("peer: %s: %w", program, err)
	}
	isAbsent := func(name string) bool { return slices.Contains(absent, name) }
	if !slices.ContainsFunc(needs, isAbsent) {
		return nil
	}
	imports, err := f.DynamicSymbols()
	if err != nil {
		return fmt.Errorf("peer: %s: %w", program, err)
	}
	there, err := k.exported(slices.DeleteFunc(slices.Clone(needs), isAbsent))
	if err != nil {
		return err
	}
	for _, library := range slices.DeleteFunc(needs, func(n string) bool { return !isAbsent(n) }) {
		symbols := map[string][]string{} // by version
		for _, s := range imports {
			// What has no version names no library: each one that stands in has those that are nowhere
			// else. The program does without what is weak, and would call it if it were there.
			lost := s.Library == "" && !there[s.Name] && elf.ST_BIND(s.Info) != elf.STB_WEAK
			if s.Section == elf.SHN_UNDEF && (s.Library == library || lost) {
				symbols[s.Version] = append(symbols[s.Version], s.Name)
			}
		}
		file := filepath.Join(folder, library)
		if err := makeStandIn(ctx, file, library, symbols); err != nil {
			return err
		}
		if err := c.addFrom(k.libraryFolder()+"/"+library, file, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// exported gives the symbols that libraries have.
func (k *kernel) exported(libraries []string) (map[string]bool, error) {
	p, err := installedPrograms(k.system, k.root)
	if err != nil {
		return nil, err
	}
	there := map[string]bool{}
	for _, name := range libraries {
		file, err := p.library(name)
		if err != nil {
			return nil, fmt.Errorf("peer: %w", err)
		}
		f, err := elf.Open(file)
		if err != nil {
			return nil, fmt.Errorf("peer: %s: %w", file, err)
		}
		symbols, err := f.DynamicSymbols()
		f.Close()
		if err != nil {
			return nil, fmt.Errorf("peer: %s: %w", file, err)
		}
		for _, s := range symbols {
			if s.Section != elf.SHN_UNDEF {
				there[s.Name] = true
			}
		}
	}
	return there, nil
}

// makeStandIn makes a library with functions, by version; those of version "" have none.
func makeStandIn(ctx context.Context, file, name string, symbols map[string][]string) error {
	var source, versions strings.Builder
	for _, version := range slices.Sorted(maps.Keys(symbols)) {
		for _, s := range symbols[version] {
			fmt.Fprintf(&source, "void %s(void) { __builtin_trap(); }\n", s)
		}
		if version != "" {
			fmt.Fprintf(&versions, "%s { %s; };\n", version, strings.Join(symbols[version], "; "))
		}
	}
	args := []string{"-shared", "-nostdlib", "-fPIC", "-fno-builtin", "-x", "c", "-", "-o", file, "-Wl,-soname=" + name}
	if versions.Len() > 0 {
		script := file + ".versions"
		if err := os.WriteFile(script, []byte(versions.String()), 0o644); err != nil {
			return fmt.Errorf("peer: %w", err)
		}
		args = append(args, "-Wl,--version-script="+script)
	}
	ctx, cancel := context.WithTimeout(ctx, DefaultLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "gcc", args...)
	cmd.Stdin = strings.NewReader(source.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("peer: a library that stands in for %s: gcc: %w: %s", name, err, bytes.TrimSpace(out))
	}
	return nil
}
