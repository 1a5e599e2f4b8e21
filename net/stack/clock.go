package stack

import (
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// A clock is the real one, made cheap: gVisor asks for the time some twenty times for each
// packet that comes and is answered. While the receiver is at work, the time stands still.
type clock struct {
	tcpip.Clock
	frozen atomic.Pointer[tcpip.MonotonicTime] // nil while the receiver waits
}

func newClock() *clock { return &clock{Clock: tcpip.NewStdClock()} }

// freeze has the time stand still, and gives it.
func (c *clock) freeze() tcpip.MonotonicTime {
	now := c.Clock.NowMonotonic()
	c.frozen.Store(&now)
	return now
}

// thaw has it go on, and gives where it stood: the beginning of time if it did not stand.
func (c *clock) thaw() (stood tcpip.MonotonicTime) {
	if now := c.frozen.Swap(nil); now != nil {
		stood = *now
	}
	return stood
}

// NowMonotonic implements tcpip.Clock.
func (c *clock) NowMonotonic() tcpip.MonotonicTime {
	if now := c.frozen.Load(); now != nil {
		return *now
	}
	return c.Clock.NowMonotonic()
}

// shortest is the shortest time that a timer is set to. TCP looks for lost segments after
// twice the time that an answer takes, which on a wire is a millisecond: a timer then costs as
// much as the packet. It stops its timers by letting them come and doing nothing, so with this
// there are at most fifty a second, and a loss that nothing else tells of is found so much
// later.
const shortest = 20 * time.Millisecond

// AfterFunc implements tcpip.Clock.
func (c *clock) AfterFunc(d time.Duration, f func()) tcpip.Timer {
	return timer{c.Clock.AfterFunc(max(d, shortest), func() {
		c.thaw()
		f()
	})}
}

// A timer is one that is never set to less than shortest.
type timer struct{ tcpip.Timer }

// Reset implements tcpip.Timer.
func (t timer) Reset(d time.Duration) { t.Timer.Reset(max(d, shortest)) }
