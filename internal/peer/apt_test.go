package peer

import (
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
	s := &apt{system: board, ctx: t.Context(), log: io.Discard, root: dir, suite: Suite, state: dir}
	if err := s.writeSources("file:" + mirror); err != nil {
		t.Fatal(err)
	}
	err := s.index()
	if err == nil || !strings.Contains(err.Error(), "is not signed") {
		t.Errorf("error %v, want one that says \"is not signed\"", err)
	}
}
