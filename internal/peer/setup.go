package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// Suite is the Debian suite that Setup takes the kernel from: the one that has
// Linux 6.12 for Debian 12. The suite "bookworm" itself has Linux 6.1.
const Suite = "bookworm-backports"

// keyring holds the keys of Debian's archive (package debian-archive-keyring,
// which apt depends on). Setup accepts no other signature.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// metapackage depends on the current kernel for ARMv7 boards.
const metapackage = "linux-image-armmp"

// stepLimit bounds each command that Setup runs. The longest one downloads
// about 57 MB.
const stepLimit = 10 * time.Minute

// Options are what Setup can be told.
type Options struct {
	Suite  string    // Debian suite of the kernel; empty means Suite
	Update bool      // look for a newer kernel even when one is set up
	Log    io.Writer // gets a line for each step
}

// Setup makes the Linux peer ready under build/peer of the module: Debian's
// armhf kernel of the suite, and the reference board's device tree. Nothing is
// installed on this machine but the unpacker that the kernel's modules need
// (xz-utils), if it is missing: apt works on a state of its own, whose
// architecture is armhf and whose only sources are this machine's Debian mirror,
// and checks Debian's signature.
//
// When a whole kernel of the suite is there it does nothing, without asking the
// network, unless told to update.
func Setup(ctx context.Context, o Options) error {
	if o.Suite == "" {
		o.Suite = Suite
	}
	if k, err := installed(); err == nil && k.Suite == o.Suite && !o.Update {
		fmt.Fprintf(o.Log, "peer: %s %s is set up already\n", k.Package, k.Version)
		return nil
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	s := &setup{ctx: ctx, log: o.Log, apt: filepath.Join(root, folder, "apt"), k: kernel{Suite: o.Suite, root: root}}
	lock, err := lockFolder(filepath.Join(root, folder))
	if err != nil {
		return err
	}
	defer lock.Close()
	for _, step := range []func() error{s.tools, s.sources, s.index, s.choose, s.fetch, s.deviceTree, s.k.record} {
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

// A setup is one run of Setup.
type setup struct {
	ctx context.Context
	log io.Writer
	apt string // folder of apt's private state
	k   kernel // what is being set up
}

func (s *setup) say(format string, args ...any) {
	fmt.Fprintf(s.log, "peer: "+format+"\n", args...)
}

// run runs a command in dir and gives its standard output.
func (s *setup) run(dir, name string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeoutCause(s.ctx, stepLimit, fmt.Errorf("limit of %v passed", stepLimit))
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	cmd.WaitDelay = grace
	var complaints strings.Builder
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return "", fmt.Errorf("peer: %s %s: %w\n%s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)+complaints.String()))
	}
	return string(out), nil
}

// tools sees to the programs that the steps and the runs need. apt-get, dpkg-deb
// and the keyring are on every Debian; xz is installed when it is missing.
func (s *setup) tools() error {
	for _, name := range []string{"apt-get", "apt-cache", "dpkg-deb"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("peer: %w: the peer is set up on Debian 12 or later", err)
		}
	}
	if _, err := os.Stat(keyring); err != nil {
		return fmt.Errorf("peer: %w: install Debian's package debian-archive-keyring", err)
	}
	if _, err := exec.LookPath("xz"); err == nil {
		return nil
	}
	s.say("installing xz-utils, which unpacks the kernel's modules")
	install := []string{"apt-get", "install", "-y", "--no-install-recommends", "xz-utils"}
	if os.Geteuid() != 0 {
		install = append([]string{"sudo"}, install...)
	}
	if _, err := s.run(s.k.root, install[0], install[1:]...); err != nil {
		return fmt.Errorf("%w\npeer: run apt-get update, install xz-utils by hand, and run this again", err)
	}
	return nil
}

// sources finds the mirror that this machine takes its own Debian packages from,
// and has apt's private state take the suite there.
func (s *setup) sources() error {
	list, err := s.run(s.k.root, "apt-get", "indextargets", "--format", "$(CREATED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)")
	if err != nil {
		return err
	}
	mirror, err := pickMirror(list, s.k.Suite)
	if err != nil {
		return err
	}
	s.say("taking %s from %s", s.k.Suite, mirror)
	return s.writeSources(mirror)
}

// writeSources makes apt's private state, with the suite on the mirror as its
// only source.
func (s *setup) writeSources(mirror string) error {
	for _, dir := range []string{"lists/partial", "archives/partial", "none"} {
		if err := os.MkdirAll(filepath.Join(s.apt, dir), 0o755); err != nil {
			return fmt.Errorf("peer: %w", err)
		}
	}
	line := fmt.Sprintf("deb [arch=armhf signed-by=%s] %s %s main\n", keyring, mirror, s.k.Suite)
	for name, text := range map[string]string{"sources.list": line, "status": ""} {
		if err := os.WriteFile(filepath.Join(s.apt, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("peer: %w", err)
		}
	}
	return nil
}

// pickMirror chooses among the machine's own package lists (lines of apt's name
// for the kind of list, the repository, the release and the component): the
// repository that has the suite itself, or else the one that has the release the
// suite belongs to ("bookworm" for "bookworm-backports"), since Debian keeps
// both in one archive.
func pickMirror(list, suite string) (string, error) {
	release, _, _ := strings.Cut(suite, "-")
	for _, wanted := range []string{suite, release} {
		for line := range strings.Lines(list) {
			if f := strings.Fields(line); len(f) == 4 && f[0] == "Packages" && f[2] == wanted && f[3] == "main" {
				return f[1], nil
			}
		}
	}
	return "", fmt.Errorf("peer: this machine's apt sources have neither %s nor %s (component main): add Debian's to /etc/apt/sources.list.d, or name another suite with -suite", suite, release)
}

// options are what makes apt work on the private state and nothing else. The
// last ones refuse what is not signed, whatever the machine's own settings say.
func (s *setup) options() []string {
	var o []string
	for _, v := range []string{
		"Dir::State=" + s.apt,
		"Dir::State::lists=" + filepath.Join(s.apt, "lists"),
		"Dir::State::status=" + filepath.Join(s.apt, "status"),
		"Dir::Cache=" + s.apt,
		"Dir::Cache::archives=" + filepath.Join(s.apt, "archives"),
		"Dir::Etc::SourceList=" + filepath.Join(s.apt, "sources.list"),
		"Dir::Etc::SourceParts=" + filepath.Join(s.apt, "none"),
		"Dir::Etc::Preferences=" + filepath.Join(s.apt, "none", "preferences"),
		"Dir::Etc::PreferencesParts=" + filepath.Join(s.apt, "none"),
		"APT::Architecture=armhf",
		"APT::Architectures=armhf",
		"APT::Sandbox::User=root", // the sandbox's user cannot reach into build/
		"Acquire::Languages=none",
		"Acquire::Retries=3",
		"APT::Update::Error-Mode=any", // an old index in place of a new one is an error
		"APT::Get::AllowUnauthenticated=false",
		"Acquire::AllowInsecureRepositories=false",
		"Acquire::AllowWeakRepositories=false",
		"Acquire::AllowDowngradeToInsecureRepositories=false",
	} {
		o = append(o, "-o", v)
	}
	return o
}

// index brings the private package lists up to date.
func (s *setup) index() error {
	s.say("updating the private package lists in %s", s.apt)
	if _, err := s.run(s.apt, "apt-get", append(s.options(), "update")...); err != nil {
		return fmt.Errorf("%w\npeer: the mirror must be reached and have %s signed by Debian; a mirror without it: -suite bookworm takes Linux 6.1", err, s.k.Suite)
	}
	return nil
}

// choose finds which kernel the metapackage stands for.
func (s *setup) choose() (err error) {
	show, err := s.run(s.apt, "apt-cache", append(s.options(), "--no-all-versions", "show", metapackage)...)
	if err != nil {
		return err
	}
	s.k.Package, s.k.Version, err = parseDepends(show)
	return err
}

// dependency matches the metapackage's field "Depends: linux-image-RELEASE (= VERSION)".
var dependency = regexp.MustCompile(`(?m)^Depends: (linux-image-[0-9][a-z0-9.+-]*) \(= ([0-9][A-Za-z0-9.+~-]*)\)`)

// parseDepends reads the kernel's package and version out of the metapackage's
// description.
func parseDepends(show string) (pkg, version string, err error) {
	m := dependency.FindStringSubmatch(show)
	if m == nil {
		return "", "", fmt.Errorf("peer: %s does not name one kernel with its version; it says\n%s", metapackage, strings.TrimSpace(show))
	}
	return m[1], m[2], nil
}

// fetch downloads and unpacks the kernel, unless that was done before.
func (s *setup) fetch() error {
	if _, err := os.Stat(s.k.unpacked()); err == nil {
		s.say("%s %s is unpacked already", s.k.Package, s.k.Version)
		return nil
	}
	archives := filepath.Join(s.apt, "archives")
	s.say("downloading %s %s", s.k.Package, s.k.Version)
	get := append(s.options(), "download", s.k.Package+"="+s.k.Version)
	if _, err := s.run(archives, "apt-get", get...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(archives, s.k.Package+"_*_armhf.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("peer: %s holds %d archives of %s, want one: empty it and run this again", archives, len(debs), s.k.Package)
	}
	s.say("unpacking it into %s", s.k.unpacked())
	part := s.k.unpacked() + ".part" // what an earlier, interrupted run left is replaced
	if err := errors.Join(os.RemoveAll(part), os.Mkdir(part, 0o755)); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	if _, err := s.run(s.apt, "dpkg-deb", "-x", debs[0], part); err != nil {
		return err
	}
	if err := errors.Join(os.Rename(part, s.k.unpacked()), os.Remove(debs[0])); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	return nil
}

// deviceTree writes the board's device tree for the runs: Debian's, with the
// processor's timer enabled.
func (s *setup) deviceTree() error {
	data, err := os.ReadFile(s.k.debianTree())
	if err != nil {
		return fmt.Errorf("peer: the kernel package has no device tree of the board: %w", err)
	}
	enabled, err := enableTimer(data)
	if err != nil {
		return fmt.Errorf("%w: %s", err, s.k.debianTree())
	}
	return replaceFile(s.k.tree(), enabled)
}
