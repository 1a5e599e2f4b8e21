//go:build !arm

package qemutest

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"nitro/boot/card"
	"nitro/boot/code"
	"nitro/boot/medium"
	"nitro/internal/chained"
	"nitro/internal/tamper"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/rack"
)

// boardStride is between the cases of the short form.
const boardStride = 2

// emulatedSecret is the SoC's secret of all emulated boards (board/imx6ul).
var emulatedSecret = sha256.Sum256([]byte("nitro emulated board: this is no secret"))

// came is what a boot comes to, as the console says it.
const came = `(bootloader|controller): quarantine: code (\d+) [^\r]*|controller: (slot A is proven)[^\r]*|controller: this board is (not provisioned)[^\r]*`

// TestTamper does to card and TPM of an emulated board what package tamper does to one
// without an emulator, and the same has to come of it.
func TestTamper(t *testing.T) {
	made := newProvisioned(t)
	past := filepath.Join(t.TempDir(), "past.img")
	must(t, rack.CopyCard(past, made.card))
	made.on(nil) // the TPM counts this boot, so the copy's store is an older one
	made.says(`controller: slot A is proven; .*`)
	made.off()
	twin := chained.New(t, chained.Product(), emulatedSecret, nil)
	twin.Provision()
	fresh := filepath.Join(t.TempDir(), "new")
	must(t, factory.MakeTPM(fresh))
	n, on := 0, 0
	for _, c := range tamper.Cases() {
		if !c.Board {
			continue
		}
		if on++; os.Getenv("NITRO_TAMPER") == "" && on%boardStride != 0 {
			continue
		}
		n++
		t.Run(c.Region+": "+c.Name, func(t *testing.T) {
			b := made.copy(t)
			b.tamper(c, past, tamper.Target{Twin: twin.Card, TPM: b.tpm, TwinTPM: twin.Chip.State(), NewTPM: fresh})
			b.on(nil)
			b.comesTo(c.Want)
			b.off()
		})
	}
	fmt.Printf("tamper: %d cases on the emulated board\n", n)
}

// copy is another board in the same state.
func (b *trustedBoard) copy(t *testing.T) *trustedBoard {
	t.Helper()
	c, folder := *b, t.TempDir()
	c.t, c.card, c.tpm = t, filepath.Join(folder, "card.img"), filepath.Join(folder, "tpm")
	must(t, rack.CopyCard(c.card, b.card), os.CopyFS(c.tpm, os.DirFS(b.tpm)))
	return &c
}

// tamper does what a case does.
func (b *trustedBoard) tamper(c tamper.Case, past string, target tamper.Target) {
	b.t.Helper()
	now, err := card.Open(b.card, true)
	must(b.t, err)
	before, err := card.Open(past, false)
	must(b.t, err)
	target.Card, target.Past = medium.Device(now), before
	c.Do(&target)
	must(b.t, target.Err(), now.Close(), before.Close())
}

// comesTo waits until it is known what has come of a boot.
func (b *trustedBoard) comesTo(want tamper.Want) {
	b.t.Helper()
	m := b.says(came)
	switch k := fmt.Sprint(uint16(want.Code)); {
	case want.Code != code.None:
		if who := map[bool]string{false: "controller", true: "bootloader"}[want.Rests]; m[1] != who || m[2] != k {
			b.t.Errorf("%q, and not code %v by the %s", m[0], want.Code, who)
		}
	case want.Unprovisioned:
		if m[4] == "" {
			b.t.Errorf("%q, and not a board that is not provisioned", m[0])
		}
	case m[3] == "":
		b.t.Errorf("%q, and not in service", m[0])
	}
}
