package kernelcheck

import "testing"

// Where assembly and unsafe may live, and how much of it.
var (
	asmFiles = map[string]int{
		"board/kernel/asm_arm.s": 380, "board/kernel/caches_arm.s": 50, "board/kernel/calls_arm.s": 80,
		"board/cpu/start_arm.s": 40, "board/cpu/counter_arm.s": 20, "board/evk/entry_arm.s": 5,
	}
	unsafeFiles = map[string]int{
		"board/kernel/access.go": 2, "board/kernel/death_arm.go": 1, "board/kernel/trap_arm.go": 1,
	}
)

// maxLines is how large the kernel may be, so that it can be read in an afternoon.
const maxLines = 3000

func TestKernelSize(t *testing.T) {
	m := build(t, hello, "")
	c, err := CountKernel("../..", m.From(KernelRules(), Roots[1:]...).Lines())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("reachable %d, all %d, assembly %v, unsafe %v", c.Reachable, c.All, c.Asm, c.Unsafe)
	if c.Reachable > maxLines {
		t.Errorf("%d lines can run in the kernel, %d are allowed", c.Reachable, maxLines)
	}
	if c.Reachable < 1500 || c.All < c.Reachable {
		t.Errorf("%d lines of %d: they are not counted", c.Reachable, c.All)
	}
	limit(t, "lines of assembly", c.Asm, asmFiles)
	limit(t, "uses of unsafe", c.Unsafe, unsafeFiles)
}

func limit(t *testing.T, what string, got, most map[string]int) {
	for name, n := range got {
		if n > most[name] {
			t.Errorf("%s: %d %s, %d are allowed", name, n, what, most[name])
		}
	}
}
