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

// TestCorpora: a fuzz target with kept inputs is named, one without is not.
func TestCorpora(t *testing.T) {
	p := &Package{Dir: t.TempDir()}
	if got := p.corpora(); got != nil {
		t.Errorf("no folder: %q", got)
	}
	for _, name := range []string{"FuzzOne", "FuzzTwo"} {
		if err := os.MkdirAll(filepath.Join(p.Dir, "testdata", "fuzz", name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := p.corpora(), []string{"^FuzzOne$", "^FuzzTwo$"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
