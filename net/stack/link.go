package stack

import "time"

// A Link is an Ethernet port (IEEE 802.3). The board's driver is one.
type Link interface {
	// HardwareAddr gives the port's address, 6 bytes.
	HardwareAddr() []byte

	// ChecksumOffload tells which checksums (IPv4 header, TCP, UDP, ICMP; IPv4
	// and IPv6) the link inserts on transmit, and has verified (frames with bad
	// ones never arrive) on receive.
	ChecksumOffload() (transmit, receive bool)

	// Queue copies one frame, given in pieces, without FCS, 14 to 1514 bytes;
	// short ones are padded. It waits at most a stated limit for room and then
	// returns an error. The frame may be held back until Flush.
	Queue(pieces [][]byte) error

	// Flush sends what was queued (rings the doorbell).
	Flush() error

	// Receive waits until frames have come, for a limit in whole milliseconds
	// if it is not negative, calls deliver for each one of a bounded batch
	// (slices valid during the call only), and returns. After Close it returns
	// os.ErrClosed. Bad frames are counted, never an error.
	Receive(limit time.Duration, deliver func(frame []byte)) error

	// LinkUp tells whether there is a link partner; LinkChanged gets a value
	// (buffered 1) whenever that changes.
	LinkUp() bool
	LinkChanged() <-chan struct{}

	Close() error
}
