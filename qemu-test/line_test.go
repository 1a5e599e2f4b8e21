//go:build !arm

package qemutest

import (
	"encoding/binary"
	"path/filepath"
	"testing"

	"nitro/internal/metal"
	"nitro/qemu-test/emulator"
)

// TestLineDisabledOnClose looks into the interrupt controller while an image
// opens and closes a line: it must be enabled while it is open, and not afterwards.
func TestLineDisabledOnClose(t *testing.T) {
	const (
		line      = 88
		isenabler = 0x00a01100 // GICD_ISENABLER0 (IHI 0048B 4.3.5)
	)
	image := filepath.Join(t.TempDir(), "line.elf")
	if err := (metal.Build{}).Image(t.Context(), "nitro/qemu-test/images/line", image); err != nil {
		t.Fatal(err)
	}
	w := &watch{t: t, board: start(t, emulator.Config{Image: image, Args: []string{"-S"}}), symbols: readSymbols(t, image)}
	g, err := w.board.Halt()
	w.must(err)
	for round := range 3 {
		for _, at := range []struct {
			function string // stopped before it does anything
			enabled  uint32
		}{{"(*kernel).openLine", 0}, {"callEpollCtl", 1}} { // what is open is watched
			addr := w.symbols.addr(t, "nitro/board/kernel."+at.function)
			w.must(g.Break(addr), g.Resume(bootLimit), g.Unbreak(addr))
			reg, err := g.ReadAs(isenabler+line/32*4, 4)
			w.must(err)
			if got := binary.LittleEndian.Uint32(reg) >> (line % 32) & 1; got != at.enabled {
				t.Errorf("round %d, before %s: the line's enable bit is %d, want %d", round, at.function, got, at.enabled)
			}
		}
	}
	w.must(g.Release())
}
