//go:build !arm

package rack

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"nitro/internal/metal"
)

// bootLimit is how long an image may take to say something. It takes a second or two
// on an idle machine.
const bootLimit = time.Minute

// build builds one of the images.
func build(t *testing.T, name string) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), name+".elf")
	if err := (metal.Build{}).Image(t.Context(), "nitro/qemu-test/images/"+name, image); err != nil {
		t.Fatal(err)
	}
	return image
}

func start(t *testing.T, c Config) *Rack {
	t.Helper()
	r, err := Start(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Err(); err != nil {
			t.Error(err)
		}
		r.Close()
	})
	return r
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	for _, err := range errs {
		if err != nil {
			t.Fatal(err)
		}
	}
}

// expect waits for a line of the console and gives its first group.
func (r *Rack) expect(t *testing.T, pattern string) string {
	t.Helper()
	m, err := r.Expect(pattern+`\r\n`, bootLimit)
	if err != nil {
		t.Fatal(err)
	}
	return m[len(m)-1]
}

// resets is how often the TPM has been reset in its life.
func (r *Rack) resets(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(r.expect(t, `tpm: resets (\d+)`))
	must(t, err)
	return n
}

// TestTPM: it is there, it keeps its state where the state is kept, it can be reset alone,
// and it can be lost.
func TestTPM(t *testing.T) {
	image, state := build(t, "tpm"), t.TempDir()
	r := start(t, Config{Image: image, TPMState: state})
	r.expect(t, `tpm: DID_VID 14 10 01 00`)
	r.expect(t, `tpm: startup 0x0`)
	first := r.resets(t)
	must(t, r.TPM.Reset())
	r.expect(t, `tpm: clock refused 0x100`) // TPM_RC_INITIALIZE: it wants a TPM2_Startup
	must(t, r.Reset())
	r.expect(t, `tpm: startup 0x0`)
	if now := r.resets(t); now <= first {
		t.Errorf("the TPM counts %d resets after one, and counted %d before", now, first)
	}
	r.Close()

	r = start(t, Config{Image: image, TPMState: state})
	kept := r.resets(t)
	if kept <= first {
		t.Errorf("the TPM whose state was kept counts %d resets, and counted %d before", kept, first)
	}
	r.TPM.Kill()
	r.expect(t, `tpm: clock refused 0x9`) // what QEMU answers when the TPM does not: TPM_FAIL
	r.Close()

	r = start(t, Config{Image: image})
	if fresh := r.resets(t); fresh >= kept {
		t.Errorf("a new TPM counts %d resets", fresh)
	}
	r.Close()

	r = start(t, Config{Image: image, NoTPM: true})
	r.expect(t, `tpm: none: .*`)
}
