//go:build !arm

package qemutest

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"nitro/internal/metal"
	"nitro/qemu-test/rack"
)

// A bench is a rack whose cards are changed.
type bench struct {
	*rack.Rack
	t      *testing.T
	folder string
}

// card makes a card with a name in its first block, and gives its file.
func (b *bench) card(name string, size int64) string {
	b.t.Helper()
	file := filepath.Join(b.folder, name)
	if err := rack.NewCard(file, size); err != nil {
		b.t.Fatal(err)
	}
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(name)
		f.Close()
	}
	if err != nil {
		b.t.Fatal(err)
	}
	return file
}

// expect waits for a line of the console.
func (b *bench) expect(format string, args ...any) {
	b.t.Helper()
	if _, err := b.Expect(fmt.Sprintf(format, args...)+`.*\r\n`, time.Minute); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) take(slot int) {
	b.t.Helper()
	if err := b.QMP.Do("eject", map[string]any{"device": fmt.Sprintf("sd%d", slot-1), "force": true}, nil); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) put(slot int, file string) {
	b.t.Helper()
	args := map[string]any{"device": fmt.Sprintf("sd%d", slot-1), "filename": file, "format": "raw"}
	if err := b.QMP.Do("blockdev-change-medium", args, nil); err != nil {
		b.t.Fatal(err)
	}
}

// TestCards puts cards in, takes them out and changes them while they are written to. What is lost
// stays lost until it is opened again, and a card that was put in is untouched until
// then.
//
// QEMU's cards all have the same CID. Slot 1 sees by its switch that a card was taken
// out; in slot 2, which has none, the new card is told from the old one by its size.
func TestCards(t *testing.T) {
	image := filepath.Join(t.TempDir(), "cards.elf")
	if err := (metal.Build{}).Image(t.Context(), "nitro/qemu-test/images/cards", image); err != nil {
		t.Fatal(err)
	}
	for slot := 1; slot <= 2; slot++ {
		t.Run(fmt.Sprintf("slot %d", slot), func(t *testing.T) { changeCards(t, image, slot) })
	}
}

func changeCards(t *testing.T, image string, slot int) {
	b := &bench{t: t, folder: t.TempDir()}
	const name = "old"
	old := b.card(name, 16<<20)
	slots := []string{"-drive", "if=sd,index=0", "-drive", "if=sd,index=1"} // empty, where cards can be put in
	r, err := rack.Start(rack.Config{Image: image, NoTPM: true, Args: slots})
	if err != nil {
		t.Fatal(err)
	}
	b.Rack = r
	defer r.Close()
	b.expect(`slot %d: not opened: no card`, slot)
	b.put(slot, old)
	b.expect(`slot %d: opened, \d+ blocks, "%s"`, slot, name)
	b.expect(`slot %d: works`, slot)

	b.take(slot)
	b.expect(`slot %d: round \d+: no card`, slot)
	b.put(slot, old)
	b.expect(`slot %d: opened, \d+ blocks, "%s"`, slot, name)
	b.expect(`slot %d: works`, slot)

	other := b.card("other", 64<<20)
	b.put(slot, other)
	want := map[int]string{1: "no card", 2: "changed"}[slot]
	b.expect(`slot %d: round \d+: %s`, slot, want)
	b.expect(`slot %d: opened, %d blocks, "other"`, slot, 64<<11)
	b.expect(`slot %d: works`, slot)
	if bytes.Contains(b.Console(), []byte("a lost card works")) {
		t.Errorf("%s", b.Console())
	}
}
