package kernel

// A clock turns the architected counter (ARM ARM B8) into seconds and
// nanoseconds. Its base moves on by whole seconds, so it gathers no rounding
// error, and a time is the base's second plus what the counter says since.
type clock struct {
	hz       uint32
	nsScale  uint32 // nanoseconds per tick << nsShift
	tickRate uint64 // ticks per nanosecond << 32, rounded up
	base     uint64 // counter at the last whole second
	seconds  uint64 // since the first base: CLOCK_MONOTONIC

	// CLOCK_REALTIME minus CLOCK_MONOTONIC.
	offsetSec  uint64
	offsetNsec uint32
}

const (
	nsShift = 24
	second  = 1000000000 // nanoseconds
)

// The frequencies that the clock's arithmetic bears.
const (
	minCounterHz = 4000000
	maxCounterHz = 250000000
)

// init starts the clock at counter value now. hz is between minCounterHz and
// maxCounterHz.
func (c *clock) init(hz uint32, now uint64) {
	c.hz = hz
	c.nsScale = uint32((second << nsShift) / uint64(hz))
	c.tickRate = (uint64(hz)<<32 + second - 1) / second
	c.base = now
	c.seconds = 0
	c.offsetSec, c.offsetNsec = 0, 0
}

// advance moves the base to the last whole second and reports whether it moved.
func (c *clock) advance(now uint64) bool {
	moved := false
	for now-c.base >= uint64(c.hz) {
		c.base += uint64(c.hz)
		c.seconds++
		moved = true
	}
	return moved
}

// monotonic returns the time since the clock started. It leaves the base alone:
// who moves it must publish it.
func (c *clock) monotonic(now uint64) (sec uint64, nsec uint32) {
	sec, nsec = c.span(now - c.base)
	return c.seconds + sec, nsec
}

// real returns the wall-clock time since 1970.
func (c *clock) real(now uint64) (sec uint64, nsec uint32) {
	sec, nsec = c.monotonic(now)
	sec += c.offsetSec
	nsec += c.offsetNsec
	if nsec >= second {
		nsec -= second
		sec++
	}
	return sec, nsec
}

// setReal makes the wall-clock time sec and nsec.
func (c *clock) setReal(now, sec uint64, nsec uint32) {
	mSec, mNsec := c.monotonic(now)
	if nsec < mNsec {
		nsec += second
		sec--
	}
	c.offsetSec, c.offsetNsec = sec-mSec, nsec-mNsec
}

// after returns the deadline that lies sec and nsec after now, never sooner. One
// that lies beyond the counter is no deadline.
func (c *clock) after(now, sec uint64, nsec uint32) uint64 {
	const farAway = 1 << 31 // seconds; hz times this fits easily
	if sec >= farAway {
		return never
	}
	return now + sec*uint64(c.hz) + (uint64(nsec)*c.tickRate)>>32 + 1
}

// span splits a number of ticks into seconds and nanoseconds, for a remaining
// time.
func (c *clock) span(ticks uint64) (sec uint64, nsec uint32) {
	sec = ticks / uint64(c.hz)
	ticks -= sec * uint64(c.hz)
	return sec, uint32(ticks * uint64(c.nsScale) >> nsShift)
}
