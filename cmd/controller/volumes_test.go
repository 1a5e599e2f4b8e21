package main

import (
	"errors"
	"testing"
	"time"

	"nitro/nvme/storage"
	"nitro/nvme/target"
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

// TestRefusedHosts: what the target refuses is counted by reason, and nothing of it is recorded.
func TestRefusedHosts(t *testing.T) {
	f := &firmware{volumeEvents: make(chan storage.Event, 100)}
	for kind, n := range map[string]int{target.EventRefused: 3, target.EventFailed: 2, target.EventProtocol: 4, target.EventOpened: 5} {
		for range n {
			f.observeVolumes(storage.Event{Kind: kind, Host: "nqn.2014-08.org.nvmexpress:uuid:stranger"})
		}
	}
	r := &f.refusedHosts
	if c, a, p := r.connection.Load(), r.authentication.Load(), r.protocol.Load(); c != 3 || a != 2 || p != 4 {
		t.Errorf("%d connections, %d authentications and %d breaches are counted, not 3, 2 and 4", c, a, p)
	}
	if n := len(f.volumeEvents); n != 0 {
		t.Errorf("%d are recorded", n)
	}
}
