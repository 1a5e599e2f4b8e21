package peer

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"syscall"
)

// Suite is the Debian suite that Setup takes the kernel from: the one that has
// Linux 6.12 for Debian 12. The suite "bookworm" itself has Linux 6.1.
const Suite = "bookworm-backports"

// Options are what Setup can be told.
type Options struct {
	Suite  string    // Debian suite of the kernel; empty means Suite
	Host   bool      // the x86 host's Linux alone
	Update bool      // look for a newer kernel and newer programs even when they are set up
	Log    io.Writer // gets a line for each step
}

// Setup makes two Linuxes ready: the board's peer under build/peer of the module (Debian's
// armhf kernel of the suite, the reference board's device tree, and the programs
// of Debian that the kernel's peers are measured with), and that of the rack's x86 host
// under build/host, unless it is told to leave the peer out. Nothing is installed on this
// machine but the unpacker that the kernel's modules need (xz-utils), if it is
// missing: apt works on a state of its own, with the system's architecture and whose
// only sources are this machine's Debian mirror, and checks Debian's signature.
//
// What is there already is left alone, without asking the network, unless Setup is
// told to update.
func Setup(ctx context.Context, o Options) error {
	if o.Suite == "" {
		o.Suite = Suite
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	for _, s := range []*system{host, board} {
		if s == board && o.Host {
			continue
		}
		if err := s.setUp(ctx, root, o); err != nil {
			return err
		}
	}
	return nil
}

// setUp makes one system ready.
func (s *system) setUp(ctx context.Context, root string, o Options) error {
	lock, err := lockFolder(s.in(root))
	if err != nil {
		return err
	}
	defer lock.Close()
	if err := setupKernel(ctx, s, root, o); err != nil {
		return err
	}
	return setupPrograms(ctx, s, root, o)
}

// setupKernel sets the kernel up unless it is there.
func setupKernel(ctx context.Context, of *system, root string, o Options) error {
	if k, err := installed(of); err == nil && k.Suite == o.Suite && !o.Update {
		fmt.Fprintf(o.Log, "peer: %s %s is set up already\n", k.Package, k.Version)
		return nil
	}
	s := &setup{
		apt: apt{system: of, ctx: ctx, log: o.Log, root: root, suite: o.Suite, state: of.in(root, "apt")},
		k:   kernel{Suite: o.Suite, system: of, root: root},
	}
	for _, step := range []func() error{s.tools, s.sources, s.index, s.choose, s.fetchKernel, s.deviceTree, s.k.record} {
		if err := step(); err != nil {
			return err
		}
	}
	s.say("%s %s is ready", s.k.Package, s.k.Version)
	return nil
}

// lockFolder makes the folder and locks it against another Setup. Closing the
// file unlocks it; so does the end of the process.
func lockFolder(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("peer: lock %s: %w: another setup is at work there: run this again when it is done", dir, err)
	}
	return f, nil
}

// A setup is one setup of the kernel.
type setup struct {
	apt
	k kernel // what is being set up
}

// choose finds which kernel the metapackage stands for.
func (s *setup) choose() (err error) {
	show, err := s.run(s.state, "apt-cache", append(s.options(), "--no-all-versions", "show", s.metapackage)...)
	if err != nil {
		return err
	}
	s.k.Package, s.k.Version, err = parseDepends(s.metapackage, show)
	return err
}

// dependency matches the metapackage's field "Depends: linux-image-RELEASE (= VERSION)".
var dependency = regexp.MustCompile(`(?m)^Depends: (linux-image-[0-9][a-z0-9.+-]*) \(= ([0-9][A-Za-z0-9.+~-]*)\)`)

// parseDepends reads the kernel's package and version out of the metapackage's
// description.
func parseDepends(metapackage, show string) (pkg, version string, err error) {
	m := dependency.FindStringSubmatch(show)
	if m == nil {
		return "", "", fmt.Errorf("peer: %s does not name one kernel with its version; it says\n%s", metapackage, strings.TrimSpace(show))
	}
	return m[1], m[2], nil
}

// fetchKernel downloads and unpacks the kernel, unless that was done before.
func (s *setup) fetchKernel() error {
	if _, err := os.Stat(s.k.unpacked()); err == nil {
		s.say("%s %s is unpacked already", s.k.Package, s.k.Version)
		return nil
	}
	return s.fetch(s.k.unpacked(), s.k.Package+"="+s.k.Version)
}

// deviceTree writes the board's device tree for the runs: Debian's, with the
// processor's timer enabled.
func (s *setup) deviceTree() error {
	if s.tree == "" {
		return nil
	}
	data, err := os.ReadFile(s.k.debianTree())
	if err != nil {
		return fmt.Errorf("peer: the kernel package has no device tree of the board: %w", err)
	}
	enabled, err := enableTimer(data)
	if err != nil {
		return fmt.Errorf("%w: %s", err, s.k.debianTree())
	}
	return replaceFile(s.k.deviceTree(), enabled)
}
