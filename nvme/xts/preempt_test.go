package xts

import (
	"bytes"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestPreempted encrypts in several goroutines that share a key, while others
// collect garbage, let stacks grow and keep every thread busy: the scheduler
// interrupts what it can with signals. Every result is checked.
func TestPreempted(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))
	s := newSource(9)
	key, data := s.bytes(KeySize256), s.bytes(8*512)
	k := newKey(t, key)
	sealed := want(t, key, data, 512, 7, encrypt)
	var stop atomic.Bool
	var others, workers sync.WaitGroup
	for range 4 {
		others.Go(func() {
			for !stop.Load() {
				deep(100)
				runtime.GC()
			}
		})
		workers.Go(func() {
			buf := make([]byte, len(data))
			for range 200 {
				err := k.Encrypt(buf, data, 512, 7)
				if err != nil || !bytes.Equal(buf, sealed) {
					t.Errorf("encryption went wrong: %v", err)
					return
				}
				err = k.Decrypt(buf, buf, 512, 7)
				if err != nil || !bytes.Equal(buf, data) {
					t.Errorf("decryption went wrong: %v", err)
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

// deep uses stack.
func deep(n int) (sum byte) {
	var frame [512]byte
	frame[n] = byte(n)
	if n > 0 {
		sum = deep(n - 1)
	}
	return sum + frame[n]
}
