package peer

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// kernelRecord is where Setup writes a kernel down once all of it is there.
const kernelRecord = "kernel.json"

// A kernel is an unpacked Debian kernel.
type kernel struct {
	Suite   string // Debian's suite that it came from, such as "bookworm-backports"
	Package string // such as "linux-image-6.12.95+deb12-armmp"
	Version string // the package's version

	// Digests, in hexadecimal SHA-256, of the files that a run hands to the
	// emulator: they tell a half-written or changed folder from a good one.
	ImageSHA256 string
	TreeSHA256  string `json:",omitempty"`

	*system
	root string // the module's folder
}

func (k *kernel) release() string    { return strings.TrimPrefix(k.Package, "linux-image-") }
func (k *kernel) unpacked() string   { return k.in(k.root, k.Package+"_"+k.Version) }
func (k *kernel) image() string      { return filepath.Join(k.unpacked(), "boot", "vmlinuz-"+k.release()) }
func (k *kernel) deviceTree() string { return k.in(k.root, k.tree) }
func (k *kernel) modules() string {
	return filepath.Join(k.unpacked(), "lib", "modules", k.release())
}

// debianTree is the device tree as Debian ships it.
func (k *kernel) debianTree() string {
	return filepath.Join(k.unpacked(), "usr", "lib", k.Package, k.tree)
}

// Linux gives the Debian package and version of the kernel that Run boots, as
// "PACKAGE VERSION". It fails as Run does when the peer is not set up.
func Linux() (string, error) {
	k, err := installed(board)
	if err != nil {
		return "", err
	}
	return k.Package + " " + k.Version, nil
}

// files are those that a run hands to the emulator, with their digests.
func (k *kernel) files() map[string]*string {
	f := map[string]*string{k.image(): &k.ImageSHA256}
	if k.tree != "" {
		f[k.deviceTree()] = &k.TreeSHA256
	}
	return f
}

// installed finds the kernel that Setup left and checks that it is whole.
func installed(s *system) (*kernel, error) {
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	k := &kernel{system: s, root: root}
	record := s.in(root, kernelRecord)
	data, err := os.ReadFile(record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("peer: not set up (%s is missing): run make peer", record)
	}
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	if err := json.Unmarshal(data, k); err != nil {
		return nil, fmt.Errorf("peer: %s: %w: run make peer", record, err)
	}
	for file, want := range k.files() {
		got, err := digest(file)
		if err != nil {
			return nil, fmt.Errorf("peer: %w: run make peer", err)
		}
		if got != *want {
			return nil, fmt.Errorf("peer: %s has SHA-256 %s, was set up with %s: run make peer", file, got, *want)
		}
	}
	return k, nil
}

// record writes the kernel down, whole or not at all.
func (k *kernel) record() (err error) {
	for file, sum := range k.files() {
		if *sum, err = digest(file); err != nil {
			return fmt.Errorf("peer: %w", err)
		}
	}
	data, err := json.MarshalIndent(k, "", "\t")
	if err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	return replaceFile(k.in(k.root, kernelRecord), append(data, '\n'))
}

// replaceFile writes a file so that a reader sees the old one or the new one.
func replaceFile(file string, data []byte) error {
	fresh := file + ".new"
	if err := os.WriteFile(fresh, data, 0o644); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	if err := os.Rename(fresh, file); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	return nil
}

// digest gives a file's SHA-256 in hexadecimal.
func digest(file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// moduleRoot finds the folder of this module's go.mod, at or above the working
// folder (which for a test is its package's folder).
func moduleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("peer: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if line, _, _ := bufio.NewReader(bytes.NewReader(data)).ReadLine(); err == nil && string(line) == "module nitro" {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("peer: no go.mod of module nitro at or above %s: run this inside the project", start)
		}
	}
}
