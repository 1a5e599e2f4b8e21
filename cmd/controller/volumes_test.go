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
	f := &firmware{began: time.Now(), volumeEvents: make(chan storage.Event, 1000), strangersEvents: ration{most: eventsMost, every: eventsEvery}}
	for range 100 {
		f.observeVolumes(storage.Event{Kind: storage.EventServerLost, Volume: [16]byte{1}, Err: errors.New("it went away")})
		f.observeVolumes(storage.Event{Kind: storage.EventReattach, Volume: [16]byte{1}, Err: errors.New("no answer")})
	}
	if n := len(f.volumeEvents); n != eventsMost || f.volumeEventsLost.Load() != 200-eventsMost {
		t.Errorf("%d of 200 are recorded, and %d counted", n, f.volumeEventsLost.Load())
	}
	f.observeVolumes(storage.Event{Kind: storage.EventExpired, Volume: [16]byte{1}})
	if n := len(f.volumeEvents); n != eventsMost+1 {
		t.Errorf("a lease's end is not recorded: %d", n)
	}
}

// TestRation: it comes back with time, and never to more than at first.
func TestRation(t *testing.T) {
	r := ration{most: eventsMost, every: eventsEvery}
	count := func(now time.Duration) (n int) {
		for r.take(now) {
			n++
		}
		return n
	}
	for _, c := range []struct {
		now  time.Duration
		want int
	}{{0, eventsMost}, {eventsEvery - 1, 0}, {eventsEvery, 1}, {3*eventsEvery + eventsEvery/2, 2}, {4 * eventsEvery, 1}, {1000 * eventsEvery, eventsMost}, {1000*eventsEvery + 1, 0}} {
		if n := count(c.now); n != c.want {
			t.Errorf("at %v: %d, not %d", c.now, n, c.want)
		}
	}
}
