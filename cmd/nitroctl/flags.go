package main

import (
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"

	"nitro/boot/image"
	"nitro/boot/medium"
	"nitro/boot/release"
)

// A list is a flag that may be given more than once.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// keysFlag is the flag of key folders.
func keysFlag(f *flag.FlagSet) *list {
	var l list
	f.Var(&l, "keys", "`folder` of keys; give one for each custodian")
	return &l
}

// load reads the keys of a keysFlag.
func (l list) load() (*release.Keys, error) {
	if len(l) == 0 {
		return nil, usage("-keys is missing: nitroctl keys new makes a folder of keys")
	}
	return release.Load(l...)
}

// epochVariable is the environment variable that reproducible builds take their time from
// (https://reproducible-builds.org/specs/source-date-epoch).
const epochVariable = "SOURCE_DATE_EPOCH"

// builtFlag is the flag of the build time.
func builtFlag(f *flag.FlagSet) func() (uint64, error) {
	s := f.String("built", "", "build time in `seconds` since 1970; without it that of $"+epochVariable)
	return func() (uint64, error) {
		v, from := *s, "-built"
		if v == "" {
			v, from = os.Getenv(epochVariable), "$"+epochVariable
		}
		if v == "" {
			return 0, usage("give the build time by -built or $%s, or no two builds are the same: for instance that of the commit, git log -1 --format=%%ct", epochVariable)
		}
		n, err := strconv.ParseUint(v, 10, 63)
		if err != nil {
			return 0, usage("%s: %q is no number of seconds since 1970", from, v)
		}
		return n, nil
	}
}

// securityVersion checks a flag's number.
func securityVersion(n uint) (uint32, error) {
	if n > image.MaxSecurityVersion {
		return 0, usage("security version %d: it can be 0 to %d", n, image.MaxSecurityVersion)
	}
	return uint32(n), nil
}

// need refuses flags that are empty.
func need(flags map[string]string) error {
	for _, name := range sortedKeys(flags) {
		if flags[name] == "" {
			return usage("-%s is missing", name)
		}
	}
	return nil
}

// readFile reads a file of at most some bytes.
func readFile(path string, most int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(b)) > most {
		err = fmt.Errorf("%s is longer than the %d bytes that it may have: give another file", path, most)
	}
	return b, err
}

// writeNew writes a file that must not be there yet.
func writeNew(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return fmt.Errorf("nothing is overwritten: name a new file: %w", err)
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// writeSecret is writeNew for what nobody else may read.
func writeSecret(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("nothing is overwritten: name a new file: %w", err)
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Sync(), f.Close())
}

// replaceFile replaces a file at once, so that a power cut leaves the one or the other, and
// returns when it is on the disk.
func replaceFile(path string, data []byte, mode os.FileMode) error {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	err = f.Chmod(mode) // first: it may be there already
	if err == nil {
		_, err = f.Write(data)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// readAnchors reads an anchor block's file; "" gives nil.
func readAnchors(path string) (*medium.Anchors, error) {
	if path == "" {
		return nil, nil
	}
	b, err := readFile(path, medium.AnchorSize)
	if err != nil {
		return nil, err
	}
	a, err := release.DecodeAnchors(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return a, nil
}

// anchorsUsage says what -anchors takes.
const anchorsUsage = "`file` of the anchor block that is trusted: anchors.bin of a release"

// parseSize reads a size such as 256MiB or 1073741824.
func parseSize(s string) (int64, error) {
	number, unit := s, int64(1)
	for suffix, n := range map[string]int64{"MiB": 1 << 20, "GiB": 1 << 30} {
		if rest, ok := strings.CutSuffix(s, suffix); ok {
			number, unit = rest, n
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n <= 0 || n > math.MaxInt64/unit {
		return 0, usage("size %q: write it as 256MiB, 8GiB, or a number of bytes", s)
	}
	return n * unit, nil
}

// hexOf is hexadecimal.
func hexOf(d [32]byte) string { return hex.EncodeToString(d[:]) }

// A table prints names and values in two columns.
func table(w io.Writer, rows ...[2]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		if r[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", r[0], r[1])
		}
	}
	t.Flush()
}
