package kernel

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// An epollModel is a plain model of Linux's epoll (fs/eventpoll.c): what a set
// watches, and which of it stands in the ready list.
type epollModel struct {
	watched map[uint32]*watch // by descriptor
}

type watch struct {
	events uint32
	data   uint64
	linked bool // in the ready list
	off    bool // switched off by EPOLLONESHOT
}

func (w *watch) mask() uint32 {
	if w.off {
		return 0
	}
	return w.events&^epollFlags | epollErr | epollHup
}

type world struct {
	k    *kernel
	sets map[uint32]*epollModel
	fds  []uint32 // eventfds
	r    *rand.Rand
}

// ready is a model of poll, for an eventfd.
func (w *world) ready(fd uint32) uint32 {
	ready := uint32(0)
	if n := w.k.file[fd].count; n > 0 {
		ready |= epollIn
		if n < maxEventCount {
			ready |= epollOut
		}
		return ready
	}
	return epollOut
}

// happened tells the models of an event, as a wake-up of the file's queue does.
func (w *world) happened(fd, event uint32) {
	for _, s := range w.sets {
		if it := s.watched[fd]; it != nil && it.mask()&event != 0 {
			it.linked = true
		}
	}
}

func (w *world) write(fd uint32, n uint64) {
	if f := &w.k.file[fd]; f.eventAdd(n) {
		w.k.notify(f, epollIn)
		w.happened(fd, epollIn)
	}
}

func (w *world) read(fd uint32) {
	if f := &w.k.file[fd]; f.count > 0 {
		f.eventRead()
		w.k.notify(f, epollOut)
		w.happened(fd, epollOut)
	}
}

func (w *world) add(set, fd, events uint32, data uint64) {
	if _, has := w.k.findItem(set, fd); has != (w.sets[set].watched[fd] != nil) {
		panic("findItem and the model do not agree")
	} else if has {
		return
	}
	if w.k.addItem(set, fd, events, data) != 0 {
		panic("no item left")
	}
	it := &watch{events: events, data: data}
	it.linked = w.ready(fd)&it.mask() != 0
	w.sets[set].watched[fd] = it
}

func (w *world) modify(set, fd, events uint32, data uint64) {
	if n, has := w.k.findItem(set, fd); has {
		w.k.changeItem(n, events, data)
		it := w.sets[set].watched[fd]
		it.events, it.data, it.off = events, data, false
		it.linked = it.linked || w.ready(fd)&it.mask() != 0
	}
}

func (w *world) remove(set, fd uint32) {
	if n, has := w.k.findItem(set, fd); has {
		w.k.removeItem(n)
		delete(w.sets[set].watched, fd)
	}
}

// close closes an eventfd and opens another, which gets its number.
func (w *world) close(fd uint32) error {
	w.k.forget(fd)
	w.k.file[fd].kind = fileFree
	for _, s := range w.sets {
		delete(s.watched, fd)
	}
	if got := w.k.newFile(fileEvent, oRdwr); got != fd {
		return fmt.Errorf("the lowest free descriptor is %d, not %d", fd, got)
	}
	return nil
}

type event struct {
	events uint32
	data   uint64
}

// fetch is what fetchEvents does, into a slice.
func (k *kernel) fetch(set uint32, room int) (got []event) {
	first := uint32(maxItems)
	for {
		i, events := k.nextReady(set)
		if events == 0 || i == first || len(got) == room {
			return got
		}
		got = append(got, event{events, k.item[i].data})
		if k.reported(i) && first == maxItems {
			first = i
		}
	}
}

// wait compares one epoll_wait with what the model says.
func (w *world) wait(set uint32, room int) error {
	want := map[uint64]uint32{}
	by := map[uint64]uint32{}
	for fd, it := range w.sets[set].watched {
		if events := w.ready(fd) & it.mask(); it.linked && events != 0 {
			want[it.data], by[it.data] = events, fd
		} else {
			it.linked = false
		}
	}
	got := w.k.fetch(set, room)
	if len(got) != min(len(want), room) {
		return fmt.Errorf("%d events of %d, room for %d", len(got), len(want), room)
	}
	for _, e := range got {
		if want[e.data] != e.events {
			return fmt.Errorf("data %d: events %#x, not %#x", e.data, e.events, want[e.data])
		}
		delete(want, e.data) // or it comes twice
		it := w.sets[set].watched[by[e.data]]
		it.off = it.events&epollOneshot != 0
		it.linked = !it.off && it.events&epollEdge == 0
	}
	return nil
}

// step makes one random change. Data is unique, so that events can be told apart.
func (w *world) step(data uint64) error {
	fd := w.fds[w.r.IntN(len(w.fds))]
	set := uint32(w.r.IntN(len(w.sets)))
	kinds := []uint32{epollIn, epollOut, epollIn | epollOut, 0}
	flags := []uint32{0, epollEdge, epollOneshot, epollEdge | epollOneshot}
	events := kinds[w.r.IntN(len(kinds))] | flags[w.r.IntN(len(flags))]
	switch w.r.IntN(16) {
	case 0, 1:
		w.write(fd, 1)
	case 2:
		w.write(fd, maxEventCount-w.k.file[fd].count) // full
	case 3, 4:
		w.read(fd)
	case 5, 6, 7:
		w.add(set, fd, events, data)
	case 8, 9:
		w.modify(set, fd, events, data)
	case 10:
		w.remove(set, fd)
	case 11:
		return w.close(fd)
	default:
		return w.wait(set, 1+w.r.IntN(8))
	}
	return nil
}

// TestEpollAgainstModel explores several sets that watch the same descriptors.
func TestEpollAgainstModel(t *testing.T) {
	for seed := range uint64(40) {
		k := newKernel(t, 1)
		w := &world{k: k, sets: map[uint32]*epollModel{}, r: rand.New(rand.NewPCG(seed, 7))}
		for range 3 {
			set := k.newFile(fileEpoll, oRdwr)
			w.sets[set] = &epollModel{map[uint32]*watch{}}
		}
		for range 1 + seed%6 {
			fd := k.newFile(fileEvent, oRdwr)
			w.fds = append(w.fds, fd)
		}
		for i := range 4000 {
			if err := w.step(uint64(i)); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, i, err)
			}
		}
		for set := range maps.Keys(w.sets) {
			k.forget(set)
		}
		for n := range k.item {
			if k.item[n].used {
				t.Fatalf("seed %d: item %d is left", seed, n)
			}
		}
	}
}

// TestEpollRoundRobin: with room for one, level-triggered descriptors that all
// stay ready take turns.
func TestEpollRoundRobin(t *testing.T) {
	k := newKernel(t, 1)
	set := k.newFile(fileEpoll, oRdwr)
	const n = 5
	for i := range uint64(n) {
		fd := k.newFile(fileEvent, oRdwr)
		k.file[fd].count = 1
		k.addItem(set, fd, epollIn, i)
	}
	for i := range uint64(3 * n) {
		got := k.fetch(set, 1)
		if len(got) != 1 || got[0].data != i%n {
			t.Fatalf("turn %d: %v", i, got)
		}
	}
}

// TestEpollWakes: no thread stays parked in a set in which something is ready,
// and one event does not wake all who wait for it.
func TestEpollWakes(t *testing.T) {
	for seed := range uint64(30) {
		r := rand.New(rand.NewPCG(seed, 11))
		k := newKernel(t, 6)
		set := k.newFile(fileEpoll, oRdwr)
		var fds []uint32
		for i := range uint64(4) {
			fd := k.newFile(fileEvent, oRdwr)
			k.addItem(set, fd, epollIn|[]uint32{0, epollEdge}[i%2], i)
			fds = append(fds, fd)
		}
		q := nodeWait + set
		for step := range 3000 {
			// All threads wait; each that is woken takes what there is for it.
			for n := 0; k.thread[k.current].state == threadRunnable; n++ {
				if n > 100 {
					t.Fatal("threads wake each other without end")
				}
				got := k.fetch(set, 1+r.IntN(2))
				if len(got) > 0 {
					if !k.rings.alone(nodeReady + set) {
						k.wakeFirst(q)
					}
					for _, e := range got { // and deals with it
						f := &k.file[fds[e.data]]
						f.count = 0
						k.notify(f, epollOut)
					}
				} else {
					k.park(q, never)
				}
				k.reschedule(0)
			}
			for _, fd := range fds {
				if k.file[fd].count > 0 {
					t.Fatalf("seed %d step %d: all sleep, and descriptor %d is ready", seed, step, fd)
				}
			}
			before := len(k.rings.list(q))
			fd := fds[r.IntN(len(fds))]
			k.file[fd].eventAdd(1)
			k.notify(&k.file[fd], epollIn)
			if woken := before - len(k.rings.list(q)); woken != 1 {
				t.Fatalf("seed %d step %d: one event woke %d threads", seed, step, woken)
			}
			if r.IntN(3) == 0 {
				k.file[fds[0]].eventAdd(1)
				k.notify(&k.file[fds[0]], epollIn)
			}
			k.reschedule(0)
		}
	}
}

// TestNotifyWakesReaders: who waits for the file itself is woken although all sets
// know of it.
func TestNotifyWakesReaders(t *testing.T) {
	k := newKernel(t, 2)
	set := k.newFile(fileEpoll, oRdwr)
	fd := k.newFile(fileEvent, oRdwr)
	k.addItem(set, fd, epollIn, 0)
	f := &k.file[fd]
	f.eventAdd(1)
	k.notify(f, epollIn)
	if !f.told {
		t.Fatal("all know, but told is not set")
	}
	f.count = 0
	f.told = false // as block does
	th := k.current
	k.park(nodeWait+fd, never)
	k.reschedule(0)
	f.eventAdd(1)
	k.notify(f, epollIn)
	if k.thread[th].state != threadRunnable {
		t.Error("the reader sleeps")
	}
}
