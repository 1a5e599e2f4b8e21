package kernel

// Kinds of open files.
const (
	fileFree = iota
	fileConsole
	fileNull
	fileEvent
	fileEpoll
	fileInterrupt
	filePipeRead
	filePipeWrite
	fileMemory
	fileRandom
	fileSeed
	fileWatchdog
	fileNext // starts another image
	fileKernel
	fileCrash
	fileHost // a file of the emulator's host; test images only
)

// A file is an open descriptor; there is no dup, so the two are one.
type file struct {
	kind  uint8
	which uint8  // pipe number, or efdSemaphore
	fd    uint16 // its descriptor
	told  bool   // all that watch it know that it is ready, and nobody waits for it
	flags uint32 // access mode, O_NONBLOCK, O_APPEND, O_CLOEXEC
	arg   uint32 // interrupt line; position in a text; host handle

	serial uint32 // tells files apart that have the same descriptor in turn

	count uint64 // an eventfd's; interrupts since the last read; position in a host's file
}

func (f *file) writable() bool { return f.flags&oAccessMode != oRdonly }
func (f *file) blocks() bool   { return f.flags&oNonblock == 0 }

// newFile takes the lowest free descriptor, as POSIX demands, and returns it, or
// the error.
func (k *kernel) newFile(kind uint8, flags uint32) uint32 {
	for fd := range uint32(MaxFiles) {
		if f := &k.file[fd]; f.kind == fileFree {
			*f = file{}
			k.lastSerial++
			f.kind = kind
			f.fd = uint16(fd)
			f.serial = k.lastSerial
			f.flags = flags & (oAccessMode | oNonblock | oAppend | oCloexec)
			return fd
		}
	}
	return eMFILE
}

// same reports whether the thread's call, if it goes on, still finds the file that
// it began with behind its descriptor.
func (t *thread) same(f *file) bool {
	if !t.resumed {
		t.serial = f.serial
	}
	return t.serial == f.serial
}

// pollable reports whether epoll can watch the file.
func (f *file) pollable() bool {
	switch f.kind {
	case fileEvent, fileInterrupt, filePipeRead, filePipeWrite:
		return true
	}
	return false
}

func b2u(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

const maxEventCount = ^uint64(0) - 1

// poll returns what a file is ready for.
func (k *kernel) poll(f *file) uint32 {
	switch f.kind {
	case fileEvent:
		return b2u(f.count > 0)*epollIn | b2u(f.count < maxEventCount)*epollOut
	case fileInterrupt:
		return b2u(f.count > 0)*epollIn | epollOut
	}
	return k.pollPipe(f)
}

// eventRead takes the counter, or one of it in semaphore mode (which is 1). It
// returns 0 if there is nothing to take.
func (f *file) eventRead() uint64 {
	n := f.count
	if f.which == efdSemaphore && n > 0 {
		n = 1
	}
	f.count -= n
	return n
}

// eventAdd adds to the counter; false if it would overflow.
func (f *file) eventAdd(n uint64) bool {
	sum := f.count + n
	if sum < n || sum > maxEventCount {
		return false
	}
	f.count = sum
	return true
}
