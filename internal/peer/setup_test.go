package peer

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPickMirror(t *testing.T) {
	const both = "Packages http://a.example/debian/ bookworm main\n" +
		"Translations http://b.example/debian/ bookworm-backports main\n" +
		"Packages http://c.example/debian/ bookworm-backports contrib\n" +
		"Packages http://d.example/debian/ bookworm-backports main\n"
	for _, c := range []struct{ list, suite, want string }{
		{both, "bookworm-backports", "http://d.example/debian/"},
		{both, "bookworm", "http://a.example/debian/"},
		{"Packages http://a.example/debian/ bookworm main\n", "bookworm-backports", "http://a.example/debian/"},
		{both, "trixie", ""},
		{"", "bookworm", ""},
	} {
		got, err := pickMirror(c.list, c.suite)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: got %q, %v; want %q", c.suite, got, err, c.want)
		}
	}
}

func TestParseDepends(t *testing.T) {
	const field = "Package: linux-image-armmp\nDepends: %s\nDescription: Linux\n"
	for _, c := range []struct{ depends, pkg, version string }{
		{"linux-image-6.12.95+deb12-armmp (= 6.12.95-1~bpo12+1)", "linux-image-6.12.95+deb12-armmp", "6.12.95-1~bpo12+1"},
		{"linux-image-6.1.0-40-armmp (= 6.1.153-1)", "linux-image-6.1.0-40-armmp", "6.1.153-1"},
		{"linux-image-6.1.0-40-armmp", "", ""},
		{"linux-image-../../x (= 1)", "", ""},
		{"linux-image-6.1-armmp (= 1/../2)", "", ""},
		{"linux-base (= 4.9)", "", ""},
	} {
		pkg, version, err := parseDepends(fmt.Sprintf(field, c.depends))
		if pkg != c.pkg || version != c.version || (err == nil) != (c.pkg != "") {
			t.Errorf("%s: got %q, %q, %v", c.depends, pkg, version, err)
		}
	}
}

// TestIndexRefusesUnsigned gives apt, with the options that Setup gives it, a
// suite that nobody signed.
func TestIndexRefusesUnsigned(t *testing.T) {
	mirror := t.TempDir()
	suite := filepath.Join(mirror, "dists", Suite)
	if err := os.MkdirAll(filepath.Join(suite, "main", "binary-armhf"), 0o755); err != nil {
		t.Fatal(err)
	}
	release := "Origin: Debian\nSuite: " + Suite + "\nCodename: " + Suite + "\nArchitectures: armhf\nComponents: main\n" +
		"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 0 main/binary-armhf/Packages\n"
	for name, text := range map[string]string{"Release": release, "main/binary-armhf/Packages": ""} {
		if err := os.WriteFile(filepath.Join(suite, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	s := &setup{ctx: t.Context(), log: io.Discard, apt: dir, k: kernel{Suite: Suite, root: dir}}
	if err := s.writeSources("file:" + mirror); err != nil {
		t.Fatal(err)
	}
	err := s.index()
	if err == nil || !strings.Contains(err.Error(), "is not signed") {
		t.Errorf("error %v, want one that says \"is not signed\"", err)
	}
}
func TestLockFolder(t *testing.T) {
	dir := t.TempDir()
	first, err := lockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockFolder(dir); err == nil || !strings.Contains(err.Error(), "another setup is at work") {
		t.Errorf("second lock: %v", err)
	}
	first.Close()
	again, err := lockFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}
