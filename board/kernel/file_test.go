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
		if ok := f.eventAdd(s.add); ok != s.ok || f.count != s.left {
			t.Errorf("step %d: %v, %#x", i, ok, f.count)
		}
	}
	if n := f.eventRead(); n != maxEventCount || f.count != 0 {
		t.Errorf("read %#x, left %#x", n, f.count)
	}
	f.which = efdSemaphore
	f.count = 1<<32 + 1
	for i := range 2 {
		if n := f.eventRead(); n != 1 {
			t.Errorf("semaphore read %d: %d", i, n)
		}
	}
	if f.count != 1<<32-1 {
		t.Errorf("semaphore left %#x", f.count)
	}
	if f.count = 0; f.eventRead() != 0 {
		t.Error("an empty semaphore gave something")
	}
}

func TestPoll(t *testing.T) {
	k := new(kernel)
	for _, c := range []struct {
		name string
		f    file
		want uint32
	}{
		{"eventfd, empty", file{kind: fileEvent}, epollOut},
		{"eventfd, some", file{kind: fileEvent, count: 1 << 32}, epollIn | epollOut},
		{"eventfd, full", file{kind: fileEvent, count: maxEventCount}, epollIn},
		{"interrupt, none", file{kind: fileInterrupt}, epollOut},
		{"interrupt, one", file{kind: fileInterrupt, count: 1}, epollIn | epollOut},
		{"console", file{kind: fileConsole}, 0},
	} {
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
		if got := k.newFile(fileNull, ^uint32(0)); got != fd {
			t.Fatalf("descriptor %d: %d", fd, int32(got))
		}
	}
	if got := k.newFile(fileNull, 0); got != eMFILE {
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
		if got := k.newFile(fileEvent, 0); got != fd {
			t.Errorf("descriptor %d is free, but got %d", fd, int32(got))
		}
		th.resumed = true
		if th.same(&k.file[fd]) {
			t.Errorf("descriptor %d: a call goes on with another file", fd)
		}
		th.resumed = false
	}
}
