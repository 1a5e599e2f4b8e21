//go:build linux && arm

package conformance

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// Numbers of the system calls, arch/arm/tools/syscall.tbl.
const (
	sysRead             = 3
	sysWrite            = 4
	sysOpen             = 5
	sysClose            = 6
	sysGetpid           = 20
	sysKill             = 37
	sysBrk              = 45
	sysIoctl            = 54
	sysFcntl            = 55
	sysMunmap           = 91
	sysClone            = 120
	sysUname            = 122
	sysMprotect         = 125
	sysSchedYield       = 158
	sysNanosleep        = 162
	sysPrctl            = 172
	sysRtSigaction      = 174
	sysRtSigprocmask    = 175
	sysSigaltstack      = 186
	sysMmap2            = 192
	sysFstat64          = 197
	sysGetuid32         = 199
	sysGetgid32         = 200
	sysGeteuid32        = 201
	sysGetegid32        = 202
	sysMadvise          = 220
	sysFcntl64          = 221
	sysGettid           = 224
	sysFutex            = 240
	sysSchedGetaffinity = 242
	sysEpollCtl         = 251
	sysClockSettime     = 262
	sysClockGettime     = 263
	sysTgkill           = 268
	sysOpenat           = 322
	sysEpollWait        = 252
	sysEpollPwait       = 346
	sysEventfd2         = 356
	sysEpollCreate1     = 357
	sysPipe2            = 359
	sysGetrandom        = 384
	sysClockGettime64   = 403
	sysClockSettime64   = 404
	sysFutex64          = 422
)

// Short names for the errno values in the tables.
const (
	ok           = syscall.Errno(0)
	EPERM        = syscall.EPERM
	ENOENT       = syscall.ENOENT
	ESRCH        = syscall.ESRCH
	EINTR        = syscall.EINTR
	EBADF        = syscall.EBADF
	EAGAIN       = syscall.EAGAIN
	ENOMEM       = syscall.ENOMEM
	EFAULT       = syscall.EFAULT
	EEXIST       = syscall.EEXIST
	ENODEV       = syscall.ENODEV
	EINVAL       = syscall.EINVAL
	ENOTTY       = syscall.ENOTTY
	EPIPE        = syscall.EPIPE
	ENAMETOOLONG = syscall.ENAMETOOLONG
	ENOSYS       = syscall.ENOSYS
	ETIMEDOUT    = syscall.ETIMEDOUT
)

// minus returns -n as a register holds it.
func minus(n int32) uintptr { return uintptr(uint32(-n)) }

// call makes a system call that may block: the runtime is told, so other
// goroutines go on. Arguments must not point to Go stacks or to the Go heap.
func call(nr uintptr, args ...uintptr) (uintptr, syscall.Errno) {
	var a [6]uintptr
	copy(a[:], args)
	r, _, e := syscall.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	return r, e
}

// raw is call for calls that do not block, without the runtime's knowledge.
func raw(nr uintptr, args ...uintptr) (uintptr, syscall.Errno) {
	var a [6]uintptr
	copy(a[:], args)
	r, _, e := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	return r, e
}

// among reports whether e is one of allowed.
func among(e syscall.Errno, allowed []syscall.Errno) bool {
	for _, a := range allowed {
		if a == e {
			return true
		}
	}
	return false
}

// must makes a call that has to succeed.
func must(t testing.TB, nr uintptr, args ...uintptr) uintptr {
	t.Helper()
	r, e := call(nr, args...)
	if e != 0 {
		t.Fatalf("system call %d%s: %v", nr, hex(args), e)
	}
	return r
}

// refuse makes a call that has to fail with one of want.
func refuse(t testing.TB, what string, want syscall.Errno, nr uintptr, args ...uintptr) {
	t.Helper()
	if r, e := call(nr, args...); e != want {
		t.Errorf("%s: system call %d%s = %#x, %s; want %s", what, nr, hex(args), r, name(e), name(want))
	}
}

func hex(args []uintptr) string {
	var s []string
	for _, a := range args {
		s = append(s, fmt.Sprintf("%#x", a))
	}
	return "(" + strings.Join(s, ", ") + ")"
}

func name(e syscall.Errno) string {
	if e == 0 {
		return "success"
	}
	return fmt.Sprintf("errno %d (%v)", int(e), e)
}

// underUserEmulation says that qemu-arm answers instead of a kernel: it shows
// the x86 host's /proc/cpuinfo. The firmware has no such file.
var underUserEmulation = func() bool {
	b, err := os.ReadFile("/proc/cpuinfo")
	return err == nil && !strings.Contains(string(b), "CPU implementer")
}()

const pageSize = 4096

// Flags of mmap2.
const (
	protNone  = syscall.PROT_NONE
	protRead  = syscall.PROT_READ
	protRW    = syscall.PROT_READ | syscall.PROT_WRITE
	mapAnon   = syscall.MAP_PRIVATE | syscall.MAP_ANONYMOUS
	mapFixed  = mapAnon | syscall.MAP_FIXED
	dontNeed  = syscall.MADV_DONTNEED
	noFd      = ^uintptr(0)
	farAwayFd = 3000000
)

// pages returns the address of n fresh zero pages outside the Go heap, between
// two pages that allow no access. They go away with the test.
func pages(t testing.TB, n uintptr) uintptr {
	t.Helper()
	size := (n + 2) * pageSize
	base := must(t, sysMmap2, 0, size, protNone, mapAnon, noFd, 0)
	must(t, sysMprotect, base+pageSize, n*pageSize, protRW)
	t.Cleanup(func() { must(t, sysMunmap, base, size) })
	return base + pageSize
}

// cstring writes s and a NUL to addr and returns addr.
func cstring(addr uintptr, s string) uintptr {
	copy(bytesAt(addr, len(s)+1), s+"\x00")
	return addr
}

func bytesAt(addr uintptr, n int) []byte { return unsafe.Slice((*byte)(pointer(addr)), n) }
func wordAt(addr uintptr) *uint32        { return (*uint32)(pointer(addr)) }
func pairAt(addr uintptr) *[2]int32      { return (*[2]int32)(pointer(addr)) }
func longsAt(addr uintptr) *[2]int64     { return (*[2]int64)(pointer(addr)) }
func longAt(addr uintptr) *uint64        { return (*uint64)(pointer(addr)) }

// lockThread binds the test to its thread until the test ends.
func lockThread(t testing.TB) {
	runtime.LockOSThread()
	t.Cleanup(runtime.UnlockOSThread)
}

// allow picks an iteration count: the short one under -short.
func allow(full, short int) int {
	if testing.Short() {
		return short
	}
	return full
}

// finishes fails the test if f has not returned after a limit that only a hang
// can reach.
func finishes(t testing.TB, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: still not done after 20 s", what)
	}
}
