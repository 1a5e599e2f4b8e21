package main

import (
	"errors"
	"testing"
	"time"

	"nitro/nvme/storage"
)

// TestStrangersEvents: a storage server that comes and goes does not fill the audit log, nor
// keep out of it what the board does itself.
func TestStrangersEvents(t *testing.T) {
	f := &firmware{began: time.Now(), volumeEvents: make(chan storage.Event, 1000)}
	for range 100 {
		f.observeVolumes(storage.Event{Kind: storage.EventServerLost, Volume: [16]byte{1}, Err: errors.New("it went away")})
		f.observeVolumes(storage.Event{Kind: storage.EventReattach, Volume: [16]byte{1}, Err: errors.New("no answer")})
	}
	if n := len(f.volumeEvents); n != rationMost || f.volumeEventsLost.Load() != 200-rationMost {
		t.Errorf("%d of 200 are recorded, and %d counted", n, f.volumeEventsLost.Load())
	}
	f.observeVolumes(storage.Event{Kind: storage.EventExpired, Volume: [16]byte{1}})
	if n := len(f.volumeEvents); n != rationMost+1 {
		t.Errorf("a lease's end is not recorded: %d", n)
	}
}

// TestRation: it comes back with time, and never to more than at first.
func TestRation(t *testing.T) {
	var r ration
	count := func(now time.Duration) (n int) {
		for r.take(now) {
			n++
		}
		return n
	}
	for _, c := range []struct {
		now  time.Duration
		want int
	}{{0, rationMost}, {rationEvery - 1, 0}, {rationEvery, 1}, {3*rationEvery + rationEvery/2, 2}, {4 * rationEvery, 1}, {1000 * rationEvery, rationMost}, {1000*rationEvery + 1, 0}} {
		if n := count(c.now); n != c.want {
			t.Errorf("at %v: %d, not %d", c.now, n, c.want)
		}
	}
}
