package peer

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// guestModules is the guest's folder of kernel modules.
const guestModules = "/lib/modules"

// addModules adds the named kernel modules to the archive, with all that they
// need, and gives their paths in the guest in an order in which they can be
// loaded. A module that is built into the kernel needs nothing.
//
// Debian's package has no modules.dep (depmod makes it when the package is
// installed), so the needs are read where the kernel's build wrote them: in each
// module's .modinfo section, field "depends". Soft dependencies are not
// followed: name such modules too.
func (k *kernel) addModules(ctx context.Context, c *cpio, names []string) ([]string, error) {
	if len(names) == 0 {
		return nil, nil
	}
	r := resolver{ctx: ctx, dir: k.modules(), c: c, state: make(map[string]int)}
	var err error
	if r.files, err = moduleIndex(filepath.Join(r.dir, "modules.order")); err != nil {
		return nil, err
	}
	if r.builtin, err = moduleIndex(filepath.Join(r.dir, "modules.builtin")); err != nil {
		return nil, err
	}
	for _, name := range names {
		if err := r.add(moduleName(name)); err != nil {
			return nil, err
		}
	}
	return r.order, nil
}

// moduleName is a module's name as the kernel spells it: Linux takes hyphen and
// underscore for the same.
func moduleName(file string) string {
	return strings.ReplaceAll(strings.TrimSuffix(path.Base(file), ".ko"), "-", "_")
}

// moduleIndex reads a list of module files, one a line, as a map from module
// name to file.
func moduleIndex(list string) (map[string]string, error) {
	data, err := os.ReadFile(list)
	if err != nil {
		return nil, fmt.Errorf("peer: %w: run make peer", err)
	}
	index := make(map[string]string)
	for line := range strings.Lines(string(data)) {
		file := strings.TrimSpace(line)
		index[moduleName(file)] = file
	}
	return index, nil
}

// A resolver collects modules, each after those that it needs.
type resolver struct {
	ctx            context.Context
	dir            string            // the kernel's modules on this machine
	c              *cpio             // gets the modules
	files, builtin map[string]string // name to file below dir
	state          map[string]int    // name to visiting or done
	order          []string          // paths in the guest
}

const (
	visiting = iota + 1
	done
)

// add collects one module and, before it, what it needs.
func (r *resolver) add(name string) error {
	if _, in := r.builtin[name]; in || r.state[name] == done {
		return nil
	}
	if r.state[name] == visiting {
		return fmt.Errorf("peer: module %s needs itself", name)
	}
	file, there := r.files[name]
	if !there {
		return fmt.Errorf("peer: this kernel has no module %s (looked in %s)", name, r.dir)
	}
	r.state[name] = visiting
	object, err := readModule(r.ctx, filepath.Join(r.dir, file))
	if err != nil {
		return err
	}
	needs, err := moduleNeeds(object)
	if err != nil {
		return fmt.Errorf("peer: module %s: %w", name, err)
	}
	for _, need := range needs {
		if err := r.add(moduleName(need)); err != nil {
			return err
		}
	}
	r.state[name] = done
	in := path.Join(guestModules, path.Base(file))
	r.order = append(r.order, in)
	return r.c.add(in, object, 0o644)
}

// readModule gives the module that the kernel's list calls file: Debian's 6.12
// keeps it in FILE.xz, its 6.1 as it is. Go's library has no xz.
func readModule(ctx context.Context, file string) ([]byte, error) {
	if object, err := os.ReadFile(file); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return object, err
	}
	ctx, cancel := context.WithTimeout(ctx, DefaultLimit)
	defer cancel()
	var complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, "xz", "--decompress", "--stdout", file+".xz")
	cmd.Stderr = &complaints
	object, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("peer: xz %s.xz: %w: %s", file, err, bytes.TrimSpace(complaints.Bytes()))
	}
	return object, nil
}

// moduleNeeds reads the field "depends" of a module's .modinfo section, a list
// of NUL-terminated KEY=value.
func moduleNeeds(object []byte) ([]string, error) {
	f, err := elf.NewFile(bytes.NewReader(object))
	if err != nil {
		return nil, err
	}
	section := f.Section(".modinfo")
	if section == nil {
		return nil, fmt.Errorf("no section .modinfo")
	}
	info, err := section.Data()
	if err != nil {
		return nil, err
	}
	for field := range strings.SplitSeq(string(info), "\x00") {
		if list, ok := strings.CutPrefix(field, "depends="); ok {
			return strings.FieldsFunc(list, func(r rune) bool { return r == ',' }), nil
		}
	}
	return nil, fmt.Errorf("section .modinfo has no field depends")
}
