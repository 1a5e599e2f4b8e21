package peer

import (
	"fmt"
	"strings"
	"testing"
)

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
		pkg, version, err := parseDepends("linux-image-armmp", fmt.Sprintf(field, c.depends))
		if pkg != c.pkg || version != c.version || (err == nil) != (c.pkg != "") {
			t.Errorf("%s: got %q, %q, %v", c.depends, pkg, version, err)
		}
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
