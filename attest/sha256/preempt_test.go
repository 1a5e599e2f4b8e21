package sha256

import (
	standard "crypto/sha256"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPreempted hashes in several goroutines at changing depths of their stacks, which
// grow beneath the assembly, while others collect garbage and keep every thread busy:
// the scheduler interrupts what it can with signals. Every digest is checked.
func TestPreempted(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	m := message(9, 5000)
	var want [8][Size]byte
	for i := range want {
		want[i] = standard.Sum256(m[i : len(m)-i*100])
	}
	var stop atomic.Bool
	var others, workers sync.WaitGroup
	for range 4 {
		others.Go(func() {
			for !stop.Load() {
				runtime.GC()
			}
		})
	}
	for range 40 {
		workers.Go(func() {
			for n := range 20 {
				i := n % len(want)
				if deep(n, m[i:len(m)-i*100]) != want[i] {
					t.Error("a digest is wrong")
					return
				}
				time.Sleep(time.Microsecond)
			}
		})
	}
	workers.Wait()
	stop.Store(true)
	others.Wait()
}

// deep hashes with n frames of stack in use.
func deep(n int, m []byte) (digest [Size]byte) {
	var frame [512]byte
	frame[n] = byte(n)
	if n > 0 {
		digest = deep(n-1, m)
	} else {
		digest = Sum256(m)
	}
	digest[0] ^= frame[n] ^ byte(n)
	return digest
}
