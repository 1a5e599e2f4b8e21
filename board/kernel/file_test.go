package kernel

import "testing"

func TestEventfd(t *testing.T) {
	f := &file{kind: fileEvent}
	for i, s := range []struct {
		add  uint64
		ok   bool
		left uint64
	}{
		{0, true, 0}, {1, true, 1}, {1<<32 - 1, true, 1 << 32}, {maxEventCount - 1<<32, true, maxEventCount},
		{1, false, maxEventCount}, {maxEventCount, false, maxEventCount}, {0, true, maxEventCount},
	} {
		if ok := f.eventAdd(s.add); ok != s.ok || f.count() != s.left {
			t.Errorf("step %d: %v, %#x", i, ok, f.count())
		}
	}
	if n := f.eventRead(); n != maxEventCount || f.count() != 0 {
		t.Errorf("read %#x, left %#x", n, f.count())
	}
	f.which = efdSemaphore
	f.setCount(1<<32 + 1)
	for i := range 2 {
		if n := f.eventRead(); n != 1 {
			t.Errorf("semaphore read %d: %d", i, n)
		}
	}
	if f.count() != 1<<32-1 {
		t.Errorf("semaphore left %#x", f.count())
	}
	if f.setCount(0); f.eventRead() != 0 {
		t.Error("an empty semaphore gave something")
	}
}

func TestPoll(t *testing.T) {
	k := new(kernel)
	p := &k.pipe[3]
	for _, c := range []struct {
		name string
		f    file
		pipe pipe
		want uint32
	}{
		{"eventfd, empty", file{kind: fileEvent}, pipe{}, epollOut},
		{"eventfd, some", file{kind: fileEvent, high: 1}, pipe{}, epollIn | epollOut},
		{"eventfd, full", file{kind: fileEvent, low: ^uint32(1), high: ^uint32(0)}, pipe{}, epollIn},
		{"interrupt, none", file{kind: fileInterrupt}, pipe{}, epollOut},
		{"interrupt, one", file{kind: fileInterrupt, low: 1}, pipe{}, epollIn | epollOut},
		{"pipe, empty", file{kind: filePipeRead, which: 3}, pipe{writer: 1}, 0},
		{"pipe, some", file{kind: filePipeRead, which: 3}, pipe{writer: 1, read: ^uint32(0)}, epollIn},
		{"pipe, empty, no writer", file{kind: filePipeRead, which: 3}, pipe{}, epollHup},
		{"pipe, some, no writer", file{kind: filePipeRead, which: 3}, pipe{written: 1}, epollIn | epollHup},
		{"pipe, room for a page", file{kind: filePipeWrite, which: 3}, pipe{reader: 1, written: pipeSize - pageSize}, epollOut},
		{"pipe, room for less", file{kind: filePipeWrite, which: 3}, pipe{reader: 1, written: pipeSize - pageSize + 1}, 0},
		{"pipe, no reader", file{kind: filePipeWrite, which: 3}, pipe{written: pipeSize}, epollErr},
		{"console", file{kind: fileConsole}, pipe{}, 0},
	} {
		*p = c.pipe
		if got := k.poll(&c.f); got != c.want {
			t.Errorf("%s: %#x, not %#x", c.name, got, c.want)
		}
	}
}

// TestDescriptors: the lowest free one is taken, up to MaxFiles, and none is
// mistaken for the one that had its number before.
func TestDescriptors(t *testing.T) {
	k := new(kernel)
	for fd := range uint32(MaxFiles) {
		if got, ok := k.newFile(fileNull, ^uint32(0)); !ok || got != fd {
			t.Fatalf("descriptor %d: %d %v", fd, got, ok)
		}
	}
	if _, ok := k.newFile(fileNull, 0); ok {
		t.Fatal("one descriptor too many")
	}
	if f := k.file[9].flags; f != oAccessMode|oNonblock|oAppend|oCloexec {
		t.Errorf("flags %#x", f)
	}
	th := &thread{}
	for _, fd := range []uint32{200, 7} {
		if !th.same(&k.file[fd]) {
			t.Errorf("descriptor %d: a call that begins finds another file", fd)
		}
		k.file[fd].kind = fileFree
		if got, ok := k.newFile(fileEvent, 0); !ok || got != fd {
			t.Errorf("descriptor %d is free, but got %d %v", fd, got, ok)
		}
		th.resumed = true
		if th.same(&k.file[fd]) {
			t.Errorf("descriptor %d: a call goes on with another file", fd)
		}
		th.resumed = false
	}
}
