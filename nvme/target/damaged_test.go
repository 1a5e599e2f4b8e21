package target_test

import (
	"context"
	"net"
	"sync/atomic"
)

// damaged is a network that flips a bit of the next long write when it is told to.
type damaged struct {
	rig  *rig
	next atomic.Bool
}

func (d *damaged) dial(ctx context.Context) (net.Conn, error) {
	nc, err := d.rig.pipes.Dial(ctx)
	return &damagedConn{nc, d}, err
}

type damagedConn struct {
	net.Conn
	d *damaged
}

func (c *damagedConn) Write(p []byte) (int, error) {
	if len(p) >= 512 && c.d.next.Swap(false) {
		p = append([]byte{}, p...)
		p[len(p)/2] ^= 0x10
	}
	return c.Conn.Write(p)
}
