package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// keyring holds the keys of Debian's archive (package debian-archive-keyring,
// which apt depends on). Setup accepts no other signature.
const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// stepLimit bounds each command that Setup runs. The longest one downloads
// about 100 MB.
const stepLimit = 10 * time.Minute

// An apt takes packages of one architecture and one Debian suite, on a state of its own.
type apt struct {
	*system
	ctx   context.Context
	log   io.Writer // gets a line for each step
	root  string    // the module's folder
	suite string    // such as "bookworm"
	state string    // folder of the state
}

func (s *apt) say(format string, args ...any) {
	fmt.Fprintf(s.log, "peer: "+format+"\n", args...)
}

// run runs a command in dir and gives its standard output.
func (s *apt) run(dir, name string, args ...string) (string, error) {
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
func (s *apt) tools() error {
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
	if _, err := s.run(s.root, install[0], install[1:]...); err != nil {
		return fmt.Errorf("%w\npeer: run apt-get update, install xz-utils by hand, and run this again", err)
	}
	return nil
}

// sources finds the mirror that this machine takes its own Debian packages from,
// and has apt's private state take the suite there.
func (s *apt) sources() error {
	list, err := s.run(s.root, "apt-get", "indextargets", "--format", "$(CREATED_BY) $(REPO_URI) $(RELEASE) $(COMPONENT)")
	if err != nil {
		return err
	}
	mirror, err := pickMirror(list, s.suite)
	if err != nil {
		return err
	}
	s.say("taking %s from %s", s.suite, mirror)
	return s.writeSources(mirror)
}

// writeSources makes apt's private state, with the suite on the mirror as its
// only source.
func (s *apt) writeSources(mirror string) error {
	for _, dir := range []string{"lists/partial", "archives/partial", "none"} {
		if err := os.MkdirAll(filepath.Join(s.state, dir), 0o755); err != nil {
			return fmt.Errorf("peer: %w", err)
		}
	}
	line := fmt.Sprintf("deb [arch=%s signed-by=%s] %s %s main\n", s.architecture, keyring, mirror, s.suite)
	for name, text := range map[string]string{"sources.list": line, "status": ""} {
		if err := os.WriteFile(filepath.Join(s.state, name), []byte(text), 0o644); err != nil {
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
func (s *apt) options() []string {
	var o []string
	for _, v := range []string{
		"Dir::State=" + s.state,
		"Dir::State::lists=" + filepath.Join(s.state, "lists"),
		"Dir::State::status=" + filepath.Join(s.state, "status"),
		"Dir::Cache=" + s.state,
		"Dir::Cache::archives=" + filepath.Join(s.state, "archives"),
		"Dir::Etc::SourceList=" + filepath.Join(s.state, "sources.list"),
		"Dir::Etc::SourceParts=" + filepath.Join(s.state, "none"),
		"Dir::Etc::Preferences=" + filepath.Join(s.state, "none", "preferences"),
		"Dir::Etc::PreferencesParts=" + filepath.Join(s.state, "none"),
		"APT::Architecture=" + s.architecture,
		"APT::Architectures=" + s.architecture,
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
func (s *apt) index() error {
	s.say("updating the private package lists in %s", s.state)
	if _, err := s.run(s.state, "apt-get", append(s.options(), "update")...); err != nil {
		return fmt.Errorf("%w\npeer: the mirror must be reached and have %s signed by Debian; a mirror without it: -suite bookworm takes Linux 6.1", err, s.suite)
	}
	return nil
}

// fetch downloads the packages, each named as NAME or NAME=VERSION, and unpacks them
// into a new folder, which then has all of them or is not there.
func (s *apt) fetch(into string, packages ...string) error {
	s.say("downloading %s", strings.Join(packages, ", "))
	archives := filepath.Join(s.state, "archives")
	part := into + ".part" // what an earlier, interrupted run left is replaced
	if err := errors.Join(os.RemoveAll(archives), os.MkdirAll(filepath.Join(archives, "partial"), 0o755), os.RemoveAll(part), os.Mkdir(part, 0o755)); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	if _, err := s.run(archives, "apt-get", append(append(s.options(), "download"), packages...)...); err != nil {
		return err
	}
	debs, err := filepath.Glob(filepath.Join(archives, "*.deb"))
	if err != nil || len(debs) != len(packages) {
		return fmt.Errorf("peer: %s holds %d packages, want %d: empty it and run this again", archives, len(debs), len(packages))
	}
	s.say("unpacking into %s", into)
	for _, deb := range debs {
		if _, err := s.run(s.state, "dpkg-deb", "-x", deb, part); err != nil {
			return err
		}
		if err := os.Remove(deb); err != nil {
			return fmt.Errorf("peer: %w", err)
		}
	}
	if err := errors.Join(os.RemoveAll(into), os.Rename(part, into)); err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	return nil
}
