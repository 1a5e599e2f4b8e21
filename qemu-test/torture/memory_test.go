package torture

import (
	"errors"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const pageSize = 4096

// kernelCount reads one of the counters of /dev/kernel; on another kernel, which
// has none, ok is false.
func kernelCount(t *testing.T, name string) (n int, ok bool) {
	text, err := os.ReadFile("/dev/kernel")
	if errors.Is(err, os.ErrNotExist) {
		return 0, false
	}
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, found := strings.CutPrefix(line, name+" "); found {
			n, err := strconv.Atoi(strings.TrimSpace(rest))
			if err != nil {
				t.Fatalf("/dev/kernel: %s: %v", name, err)
			}
			return n, true
		}
	}
	t.Fatalf("/dev/kernel has no %s", name)
	return 0, false
}

func mapPages(n int) ([]byte, error) {
	return syscall.Mmap(-1, 0, n*pageSize, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
}

// most is how much memory the exhaustion takes where nothing stops it earlier: on
// another kernel, whose memory is not ours to take.
const most = 64 << 20

// TestExhaustion takes all memory, page by page, and gives it back. The kernel
// must say ENOMEM when there is no more, and give every page that it promised.
func TestExhaustion(t *testing.T) {
	debug.FreeOSMemory()
	before, onBoard := kernelCount(t, "pages.used")
	for round := range 2 {
		const chunk = 1024 // pages
		var chunks [][]byte
		for {
			b, err := mapPages(chunk)
			if errors.Is(err, syscall.ENOMEM) && onBoard {
				break
			}
			if err != nil {
				t.Fatalf("round %d: after %d MiB: %v, want ENOMEM", round, len(chunks)*chunk*pageSize>>20, err)
			}
			chunks = append(chunks, b)
			if !onBoard && len(chunks)*chunk*pageSize >= most {
				break
			}
		}
		if onBoard && len(chunks)*chunk*pageSize < 400<<20 {
			t.Errorf("round %d: only %d MiB could be mapped", round, len(chunks)*chunk*pageSize>>20)
		}
		for i, b := range chunks {
			for p := 0; p < len(b); p += pageSize {
				if b[p] != 0 || b[p+pageSize-1] != 0 {
					t.Fatalf("round %d: chunk %d, page %d is not zero", round, i, p/pageSize)
				}
				b[p], b[p+pageSize-1] = byte(i), byte(p/pageSize)
			}
		}
		for i, b := range chunks {
			for p := 0; p < len(b); p += pageSize {
				if b[p] != byte(i) || b[p+pageSize-1] != byte(p/pageSize) {
					t.Fatalf("round %d: chunk %d, page %d has lost what was written", round, i, p/pageSize)
				}
			}
			if err := syscall.Munmap(b); err != nil {
				t.Fatal(err)
			}
		}
	}
	if after, _ := kernelCount(t, "pages.used"); onBoard && after > before+512 {
		t.Errorf("%d pages in use, %d before", after, before)
	}
}

// TestPagesComeAndGo has goroutines write pages that are given back beneath them
// at random, and looks at every page for what it must hold.
func TestPagesComeAndGo(t *testing.T) {
	rounds := 4000
	if testing.Short() {
		rounds = 1000
	}
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(worker), 1))
			const n = 256
			b, err := mapPages(n)
			if err != nil {
				t.Error(err)
				return
			}
			defer syscall.Munmap(b)
			var holds [n]byte
			for round := range rounds {
				p := r.IntN(n)
				page := b[p*pageSize : (p+1)*pageSize]
				if page[0] != holds[p] || page[pageSize-1] != holds[p] {
					t.Errorf("worker %d, round %d: page %d holds %d and %d, want %d", worker, round, p, page[0], page[pageSize-1], holds[p])
					return
				}
				if r.IntN(3) == 0 {
					if err := syscall.Madvise(page, syscall.MADV_DONTNEED); err != nil {
						t.Error(err)
						return
					}
					holds[p] = 0
				} else {
					holds[p] = byte(1 + r.IntN(255))
					page[0], page[pageSize-1] = holds[p], holds[p]
				}
			}
		})
	}
	wg.Wait()
}

type node struct {
	left, right *node
	value       int
	pad         [3]int
}

func grow(depth, value int) *node {
	if depth == 0 {
		return &node{value: value}
	}
	return &node{left: grow(depth-1, 2*value), right: grow(depth-1, 2*value+1), value: value}
}

func (n *node) whole(value int) bool {
	return n == nil || n.value == value && n.left.whole(2*value) && n.right.whole(2*value+1)
}

// TestCollection keeps trees alive through collections that follow each other
// without pause, under a memory limit, while freed memory goes back to the kernel.
func TestCollection(t *testing.T) {
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(24 << 20))
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	length := 10 * time.Second
	if testing.Short() {
		length = 3 * time.Second
	}
	const depth = 13
	live := grow(depth, 1)
	stop := time.Now().Add(length)
	var wg sync.WaitGroup
	for worker := range 3 {
		wg.Go(func() {
			for i := 1; time.Now().Before(stop); i++ {
				if !grow(9, i).whole(i) {
					t.Errorf("worker %d: a new tree is damaged", worker)
					return
				}
				buf := make([]byte, 1<<(10+i%9))
				for j := range buf {
					if buf[j] != 0 {
						t.Errorf("worker %d: new memory is not zero", worker)
						return
					}
				}
				buf[len(buf)-1] = 1
				if i%50 == 0 {
					debug.FreeOSMemory()
				}
			}
		})
	}
	wg.Wait()
	if !live.whole(1) {
		t.Error("the live tree is damaged")
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%d collections, %d MiB allocated in all", m.NumGC, m.TotalAlloc>>20)
}
