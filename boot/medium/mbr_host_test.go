//go:build !arm

package medium_test

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"nitro/boot/medium"
)

// TestMBR has util-linux read it.
func TestMBR(t *testing.T) {
	const size = 512 << 20
	b, err := medium.EncodeMBR(size)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "card")
	if err := os.WriteFile(file, b[:], 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sfdisk", "--dump", file)
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := run(cmd)
	if err != nil {
		t.Fatalf("sfdisk (Debian's fdisk, which internal/deps/install.sh installs): %v\n%s", err, out)
	}
	got := regexp.MustCompile(`start= *(\d+), size= *(\d+), type=(\w+)`).FindAllStringSubmatch(out, -1)
	var rows []string
	for _, m := range got {
		rows = append(rows, strings.Join(m[1:], " "))
	}
	want := []string{"2 16382 da", "16384 147456 da", "163840 98304 da", "262144 786432 da"}
	if !slices.Equal(rows, want) {
		t.Errorf("sfdisk sees %q, not %q:\n%s", rows, want, out)
	}
	if _, err := medium.EncodeMBR(medium.MinSize - 512); err == nil {
		t.Error("a card that is too small")
	}
	if b, err := medium.EncodeMBR(1 << 45); err != nil || binary.LittleEndian.Uint32(b[446+48+12:]) != 1<<32-1 {
		t.Errorf("a card beyond the MBR's reach: %v", err)
	}
}

// run finds programs in the folders of administrators too.
func run(cmd *exec.Cmd) (string, error) {
	if cmd.Err != nil {
		cmd.Path, cmd.Err = "/usr/sbin/"+cmd.Args[0], nil
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}
