package peer

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// ModuleList is where a host's initramfs lists the paths of its kernel modules, one a line,
// in an order in which they can be loaded.
const ModuleList = "/modules"

// A Host is what the initramfs of the rack's x86 host is made of.
type Host struct {
	Init     string   // the first process: a package of the module, "./..."
	Programs []string // of Debian's amd64 packages, in the guest in /bin
	Absent   []string // libraries that they were linked with and do not use: others stand in (addStandIns)
	Modules  []string // kernel modules; what they need is added
}

// Make writes the initramfs into a folder, and gives the files of Debian's kernel and of the
// initramfs. It fails when Setup has not set the host's Linux up.
func (h Host) Make(ctx context.Context, folder string) (image, initramfs string, err error) {
	k, err := installed(host)
	if err != nil {
		return "", "", err
	}
	var c cpio
	first, err := k.buildInit(ctx, h.Init, folder)
	if err != nil {
		return "", "", err
	}
	if err := c.addFrom("/init", first, 0o755); err != nil {
		return "", "", err
	}
	for _, name := range h.Programs {
		file, err := k.program(name)
		if err != nil {
			return "", "", err
		}
		if err := c.addFrom(path.Join("/bin", name), file, 0o755); err != nil {
			return "", "", err
		}
		if err := k.addStandIns(ctx, &c, h.Absent, file, folder); err != nil {
			return "", "", err
		}
		if err := k.addLibraries(&c, file); err != nil {
			return "", "", err
		}
	}
	modules, err := k.addModules(ctx, &c, h.Modules)
	if err != nil {
		return "", "", err
	}
	if err := c.add(ModuleList, []byte(strings.Join(modules, "\n")), 0o644); err != nil {
		return "", "", err
	}
	initramfs = filepath.Join(folder, "initramfs")
	if err := os.WriteFile(initramfs, c.bytes(), 0o644); err != nil {
		return "", "", fmt.Errorf("peer: %w", err)
	}
	return k.image(), initramfs, nil
}

// HostLinux gives the Debian package and version of the host's kernel, as "PACKAGE VERSION".
func HostLinux() (string, error) {
	k, err := installed(host)
	if err != nil {
		return "", err
	}
	return k.Package + " " + k.Version, nil
}
