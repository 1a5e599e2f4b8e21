//go:build !arm

package rack

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestCards: the board has the card that was put in, writes go to its file, and another
// run can have another card.
func TestCards(t *testing.T) {
	dir, image := t.TempDir(), build(t, "hello")
	one, two, three := filepath.Join(dir, "one,with comma"), filepath.Join(dir, "two"), filepath.Join(dir, "three")
	must(t, NewCard(one, 4<<20), CopyCard(two, one), CopyCard(three, one))
	// The emulator itself reads and writes through the slot, as the image has no driver; what
	// it says comes where the console comes.
	run := func(c Config, line, want string) {
		c.Image, c.NoTPM, c.Hold = image, true, true
		r := start(t, c)
		defer r.Close()
		_, err := r.QMP.Monitor(line)
		must(t, err)
		_, err = r.Expect(want, bootLimit)
		must(t, err)
		if text := string(r.Console()); strings.Contains(text, "failed") {
			t.Errorf("%s: %s", line, text)
		}
	}
	run(Config{Cards: [2]string{one, two}}, `qemu-io sd0 "write -P 0x5a 2098176 1024"`, `wrote 1024/1024 bytes at offset 2098176.*\n`)
	run(Config{Cards: [2]string{two, one}}, `qemu-io sd1 "read -P 0x5a 2098176 1024"`, `read 1024/1024 bytes at offset 2098176.*\n`)
	got, err := CompareCards(one, two)
	if want := []Sectors{{4098, 2}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("the cards differ in %v, %v, want %v", got, err, want)
	}
	if got, err := CompareCards(two, three); err != nil || len(got) != 0 {
		t.Errorf("equal cards differ in %v, %v", got, err)
	}
	copied := filepath.Join(dir, "copy")
	must(t, CopyCard(copied, one))
	if got, err := CompareCards(one, copied); err != nil || len(got) != 0 {
		t.Errorf("a card and its copy differ in %v, %v", got, err)
	}
}

func TestCardRefusals(t *testing.T) {
	dir := t.TempDir()
	small, large := filepath.Join(dir, "small"), filepath.Join(dir, "large")
	must(t, NewCard(small, 1<<20), NewCard(large, 2<<20))
	for _, size := range []int64{0, 512, 3 << 20} {
		if err := NewCard(filepath.Join(dir, "bad"), size); err == nil {
			t.Errorf("a card of %d bytes was made", size)
		}
	}
	if err := NewCard(small, 1<<20); err == nil {
		t.Error("a card was made over another one")
	}
	if _, err := CompareCards(small, large); err == nil {
		t.Error("cards of two sizes compare")
	}
	if _, err := CompareCards(small, filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a card that is not there: %v", err)
	}
}
