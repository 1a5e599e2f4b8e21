package kernelcheck

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func build(t *testing.T, path, tags string) *Image {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image")
	if err := Build("../..", path, tags, out); err != nil {
		t.Fatal(err)
	}
	m, err := Open(out)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

const hello = Smallest

func TestKernelCode(t *testing.T) {
	for _, image := range []struct{ path, tags string }{
		{hello, ""}, {"internal/kernelcheck/testdata/large", ""}, {hello, "bootloader"},
	} {
		path := image.path
		m := build(t, path, image.tags)
		w := m.From(KernelRules(), Roots...)
		for _, p := range w.Problems {
			t.Errorf("%s: %s", path, p)
		}
		checkReached(t, w)
		checkStack(t, w)
		checkHooks(t, m)
	}
}

// checkReached makes sure that the walk went where the kernel's code is.
func checkReached(t *testing.T, w *Walk) {
	insns := 0
	for _, f := range w.Reached {
		insns += len(f)
	}
	t.Logf("%d functions, %d instructions", len(w.Reached), insns)
	for _, name := range []string{"trap", "boot", "buildTables", "kernelFault", "callFutex",
		"callEpollPwait", "leaveFor", "cachesOff", "unmapPiece", "mapDevicePiece", "saveFPU", "(*kernel).schedule", "(*kernel).dieAt"} {
		if w.Reached["nitro/board/kernel."+name] == nil {
			t.Errorf("the walk did not come to %s", name)
		}
	}
	var steps []string
	for _, name := range []string{"advisePiece", "mapDevicePiece", "protectPiece", "unmapPiece"} {
		steps = append(steps, "nitro/board/kernel."+name)
	}
	if got := w.Values(); !slices.Equal(got, steps) {
		t.Errorf("function values: %v", got)
	}
}

// The stacks of board/kernel/layout.go: Go's functions check their own frame
// against the limit, and may go StackSmall (128) bytes below it.
const (
	stackRoom = 0x4000 - 928
	faultRoom = 0x1000
)

func checkStack(t *testing.T, w *Walk) {
	for _, root := range []string{"cpuentry", "vecCall", "enterKernel"} {
		n, path := w.Depth(root)
		t.Logf("%s needs %d bytes of stack", root, n)
		if n > stackRoom {
			t.Errorf("the stack has room for %d:\n%s", stackRoom, strings.Join(path, "\n"))
		}
	}
	if n, path := w.Depth("nitro/board/kernel.kernelFault"); n > faultRoom {
		t.Errorf("kernelFault needs %d bytes, and has %d:\n%s", n, faultRoom, strings.Join(path, "\n"))
	}
	for _, p := range w.Problems {
		if strings.HasSuffix(p, "calls itself") {
			t.Error(p)
		}
	}
}

// hooks are what images that test have, and no other.
const semihosting = 0xef123456 // SVC 0x123456

var hooks = []string{"semihost", "hostArguments", "hostStrings", "hostStat", "torment"}

func hookSymbols(m *Image) (found []string) {
	for _, s := range m.symbols {
		for _, h := range hooks {
			if strings.HasPrefix(s.Name, "nitro/board/kernel.") && strings.HasSuffix(s.Name, "."+h) {
				found = append(found, s.Name)
			}
		}
	}
	return found
}

func checkHooks(t *testing.T, m *Image) {
	if m.HasWord(semihosting) {
		t.Error("a product image reaches for the emulator's host")
	}
	if found := hookSymbols(m); len(found) > 0 {
		t.Errorf("a product image holds %v", found)
	}
}

// TestHooksAreFound: what a product image must not have, a test image is seen to
// have.
func TestHooksAreFound(t *testing.T) {
	m := build(t, hello, "boardtest,boardtorment")
	if !m.HasWord(semihosting) {
		t.Error("no semihosting call in a test image")
	}
	found := strings.Join(hookSymbols(m), " ")
	for _, h := range []string{"semihost", "hostStrings", "torment"} {
		if !strings.Contains(found, "."+h) {
			t.Errorf("%s is not found: %s", h, found)
		}
	}
}
