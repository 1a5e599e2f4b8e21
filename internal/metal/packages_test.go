package metal

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPackageArgs(t *testing.T) {
	p := &Package{Dir: t.TempDir()}
	if args, err := p.emulatorArgs(); args != nil || err != nil {
		t.Errorf("a package without wishes: %q, %v", args, err)
	}
	file := filepath.Join(p.Dir, argsFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("-device\ntmp105,bus=i2c-bus.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if args, err := p.emulatorArgs(); !slices.Equal(args, []string{"-device", "tmp105,bus=i2c-bus.0"}) || err != nil {
		t.Errorf("%q, %v", args, err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := p.emulatorArgs(); err == nil {
		t.Error("a list that cannot be read was taken for none")
	}
}
