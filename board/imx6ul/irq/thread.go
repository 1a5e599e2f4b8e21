package irq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A ThreadLine is a line whose Wait keeps the thread that it is called on. A [Line] gives
// the thread away: then the scheduler's poller takes the interrupt, and has to find the
// goroutine, a place for it to run and something to do for the thread that it ran on,
// some ten thousand instructions. Here the kernel wakes the thread that goes on. It is for
// drivers that wait all the time, since a thread takes memory.
type ThreadLine struct {
	number int
	closed atomic.Bool

	mu                sync.Mutex // held by who waits
	line, epoll, bell int        // descriptors: the line, what is waited for, and what Close rings
	events            [2]syscall.EpollEvent
	count             [4]byte
}

// OpenThread takes a line as Open does.
func OpenThread(number int) (*ThreadLine, error) {
	fd, err := syscall.Open(fmt.Sprintf("/dev/irq/%d", number), syscall.O_RDWR|syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("irq: line %d: %w: each line has one owner", number, err)
	}
	l, err := newThreadLine(number, fd)
	if err != nil {
		return nil, fmt.Errorf("irq: line %d: %w", number, err)
	}
	return l, nil
}

// newThreadLine makes a line of an open one. When it fails that is closed.
func newThreadLine(number, line int) (*ThreadLine, error) {
	bell, _, errno := syscall.Syscall(syscall.SYS_EVENTFD2, 0, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return nil, errors.Join(errno, syscall.Close(line))
	}
	epoll, err := syscall.EpollCreate1(syscall.O_CLOEXEC)
	if err != nil {
		return nil, errors.Join(err, syscall.Close(line), syscall.Close(int(bell)))
	}
	l := &ThreadLine{number: number, line: line, epoll: epoll, bell: int(bell)}
	for _, fd := range []int{l.line, l.bell} {
		if err := syscall.EpollCtl(epoll, syscall.EPOLL_CTL_ADD, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: int32(fd)}); err != nil {
			return nil, errors.Join(err, l.release())
		}
	}
	return l, nil
}

// Wait waits for an interrupt, for a limit in whole milliseconds if it is not negative, and
// gives how many there were: none when the time has passed. After one the line is masked:
// deal with the device, and call Enable. After Close the error is os.ErrClosed.
func (l *ThreadLine) Wait(limit time.Duration) (uint32, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	ms := -1
	if limit >= 0 {
		ms = int((limit + time.Millisecond - 1) / time.Millisecond)
	}
	for !l.closed.Load() {
		n, err := syscall.EpollWait(l.epoll, l.events[:], ms)
		if err == nil && n == 0 {
			return 0, nil
		}
		if err == nil {
			_, err = syscall.Read(l.line, l.count[:])
		}
		switch err {
		case nil:
			return binary.LittleEndian.Uint32(l.count[:]), nil
		case syscall.EAGAIN, syscall.EINTR: // the bell; or a signal
		default:
			return 0, fmt.Errorf("irq: line %d: %w", l.number, err)
		}
	}
	return 0, os.ErrClosed
}

// Enable lets the next interrupt through. One that the device holds comes at once. It is
// for who waits, and not to be called while Close is.
func (l *ThreadLine) Enable() error {
	if _, err := syscall.Write(l.line, enable); err != nil {
		return fmt.Errorf("irq: line %d: set to %d: %w", l.number, enable[0], err)
	}
	return nil
}

// Close masks the line and gives it back, when nobody waits for it any more: who does gets
// os.ErrClosed.
func (l *ThreadLine) Close() error {
	if l.closed.Swap(true) {
		return os.ErrClosed
	}
	if _, err := syscall.Write(l.bell, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
		return fmt.Errorf("irq: line %d: %w", l.number, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.release()
}

// release closes the descriptors.
func (l *ThreadLine) release() error {
	return errors.Join(syscall.Close(l.epoll), syscall.Close(l.bell), syscall.Close(l.line))
}
