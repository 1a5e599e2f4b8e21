package peer

import (
	"strings"
	"testing"
)

// TestCPIOBytes compares a whole archive with one written out by hand from
// buffer-format.rst.
func TestCPIOBytes(t *testing.T) {
	var c cpio
	if err := c.add("/d/f", []byte("hello"), 0o755); err != nil {
		t.Fatal(err)
	}
	header := func(inode, mode, links, size, name string) string {
		z := "00000000"
		return "070701" + inode + mode + z + z + links + z + size + z + z + z + z + name + z
	}
	want := header("00000001", "000041ED", "00000002", "00000000", "00000002") + "d\x00" +
		header("00000002", "000081ED", "00000001", "00000005", "00000004") + "d/f\x00\x00\x00" +
		"hello\x00\x00\x00" +
		header("00000003", "00000000", "00000001", "00000000", "0000000B") + "TRAILER!!!\x00\x00\x00\x00"
	if got := string(c.bytes()); got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestCPIORefuses(t *testing.T) {
	var c cpio
	if err := c.add("/d/f", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, reason := range map[string]string{
		"":                                 "not a clean absolute path",
		"/":                                "not a clean absolute path",
		"d":                                "not a clean absolute path",
		"/a/../b":                          "not a clean absolute path",
		"/a/":                              "not a clean absolute path",
		"/" + strings.Repeat("a", maxName): "not a clean absolute path",
		"/d":                               "there twice",
		"/d/f":                             "there twice",
		"/d/f/g":                           "cannot hold files",
	} {
		if err := c.add(name, nil, 0o644); err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%.20q: got %v, want %q", name, err, reason)
		}
	}
}
