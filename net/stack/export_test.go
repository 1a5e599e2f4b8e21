package stack

import "gvisor.dev/gvisor/pkg/tcpip"

// WithClock has a stack go by another clock than the real one.
func WithClock(c Config, clock tcpip.Clock) Config {
	c.clock = clock
	return c
}
