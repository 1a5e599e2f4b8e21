package metal

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestPackageArgs(t *testing.T) {
	p, temp := &Package{Dir: t.TempDir()}, t.TempDir()
	if args, err := p.emulatorArgs(temp); args != nil || err != nil {
		t.Errorf("a package without wishes: %q, %v", args, err)
	}
	file := filepath.Join(p.Dir, argsFile)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("-device\ntmp105,bus=i2c-bus.0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if args, err := p.emulatorArgs(temp); !slices.Equal(args, []string{"-device", "tmp105,bus=i2c-bus.0"}) || err != nil {
		t.Errorf("%q, %v", args, err)
	}
	card := filepath.Join(temp, "card.img")
	if err := os.WriteFile(file, []byte("-drive\nif=sd,file={3M:card.img}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if args, err := p.emulatorArgs(temp); !slices.Equal(args, []string{"-drive", "if=sd,file=" + card}) || err != nil {
		t.Errorf("%q, %v", args, err)
	}
	if info, err := os.Stat(card); err != nil || info.Size() != 3<<20 {
		t.Errorf("the scratch file: %v, %v", info, err)
	}
	if _, err := p.emulatorArgs(temp); err == nil {
		t.Error("a scratch file that is there already was taken")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(file, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := p.emulatorArgs(temp); err == nil {
		t.Error("a list that cannot be read was taken for none")
	}
}
