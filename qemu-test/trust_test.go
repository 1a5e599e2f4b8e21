//go:build !arm

package qemutest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nitro/attest/seal"
	"nitro/attest/tpm"
	"nitro/internal/insncount"
	"nitro/internal/metal"
	"nitro/internal/provisioned"
	"nitro/qemu-test/rack"
)

// trustParts are the image's parts. Those in bootParts are what a boot does.
var (
	trustParts = []string{"start", "random", "extend", "read", "primary", "pin", "session", "floor", "measure", "forget", "attach", "unseal", "counts", "bind", "quote", "check"}
	bootParts  = []string{"start", "pin", "session", "floor", "measure", "forget", "attach", "unseal", "counts", "bind"}
)

// TestTrust: a whole boot's work with a provisioned TPM, on the board, through its
// driver. It prints the time of each part and, without -short, the instructions.
func TestTrust(t *testing.T) {
	image := filepath.Join(t.TempDir(), "trust.elf")
	if err := (metal.Build{Test: true, Symbols: true}).Image(t.Context(), "nitro/qemu-test/images/trust", image); err != nil {
		t.Fatal(err)
	}
	board, args := provisionedBoard(t)
	for _, line := range strings.Split(trustBoot(t, image, board, args, nil), "\n") {
		if strings.HasPrefix(line, "trust: ") {
			t.Log(line)
		}
	}
	if testing.Short() {
		return
	}
	countParts(t, image, board, args)
}

// provisionedBoard provisions a TPM and seals for what the image measures. It gives the
// image's arguments.
func provisionedBoard(t *testing.T) (*provisioned.Board, []string) {
	t.Helper()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	after := func(events ...tpm.Digest) (pcr tpm.Digest) {
		for _, e := range events {
			pcr = tpm.Extended(pcr, e)
		}
		return pcr
	}
	release := seal.Release{
		PCR0: after(tpm.Digest{9}, tpm.Digest{10}), PCR2: after(tpm.Digest{12}), PCR7: after(tpm.Digest{17}, tpm.Digest{18}), SecurityVersion: 3,
	}
	set := &seal.Set{Revision: 1}
	var keys [2]string
	for k, signer := range map[seal.Kind]crypto.Signer{seal.P384: p384, seal.RSA3072: rsaKey, seal.Canary: p384} {
		a, err := seal.Approve(signer, k, release)
		if err != nil {
			t.Fatal(err)
		}
		set.Approvals = append(set.Approvals, a)
		der, err := x509.MarshalPKIXPublicKey(signer.Public())
		if err != nil {
			t.Fatal(err)
		}
		if k != seal.Canary {
			keys[k-1] = hex.EncodeToString(der)
		}
	}
	board := provisioned.New(t)
	b := board.Boot(t, map[uint]tpm.Digest{1: {11}})
	if set.Objects, _, _, err = b.Door.SealNew(seal.Authorities{P384: []crypto.PublicKey{p384.Public()}, RSA3072: []crypto.PublicKey{rsaKey.Public()}}); err != nil {
		t.Fatal(err)
	}
	board.Chip.Cut()
	bytes, err := set.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return board, []string{"trust", hex.EncodeToString(board.Config.SoC), hex.EncodeToString(board.Result.StorageName), hex.EncodeToString(bytes), keys[0], keys[1]}
}

// trustBoot boots the image and gives its console.
func trustBoot(t *testing.T, image string, board *provisioned.Board, args, emulator []string) string {
	t.Helper()
	state := filepath.Join(t.TempDir(), "tpm")
	if err := os.CopyFS(state, os.DirFS(board.Chip.State())); err != nil {
		t.Fatal(err)
	}
	const between = "\x1f" // see internal/metal
	r, err := rack.Start(rack.Config{
		Image: image, TPMState: state,
		Args: append([]string{"-semihosting-config", "enable=on,target=native,arg=" + strings.Join(args, between) + "\x1e"}, emulator...),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	m, err := r.Expect(`trust: (done|failed: .*)\r\n`, 2*time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if m[1] != "done" {
		t.Fatal(m[0])
	}
	return strings.ReplaceAll(string(r.Console()), "\r", "")
}

// countParts counts the instructions of each part, the polling of a busy TPM included.
func countParts(t *testing.T, image string, board *provisioned.Board, args []string) {
	symbols, err := insncount.ReadSymbols(image)
	if err != nil {
		t.Fatal(err)
	}
	plugin, err := insncount.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	to, err := symbols.Address("main.mark")
	if err != nil {
		t.Fatal(err)
	}
	counted := map[string]uint64{}
	for _, part := range trustParts {
		from, err := symbols.Address("main." + part)
		if err != nil {
			t.Fatal(err)
		}
		out := filepath.Join(t.TempDir(), "counts")
		trustBoot(t, image, board, args, insncount.Args(plugin, out, insncount.Options{From: from, To: to}))
		c, err := insncount.Read(out)
		if err != nil {
			t.Fatal(err)
		}
		counted[part] = c.Window.Total
		t.Logf("%-8s %6.2f M instructions, %d times", part, float64(c.Window.Total)/1e6, c.Window.Passes)
	}
	sum := uint64(0)
	for _, part := range bootParts {
		sum += counted[part]
	}
	t.Logf("a boot: %.1f M instructions", float64(sum)/1e6)
}
