package tis

import (
	"encoding/binary"
	"errors"
	"slices"
)

// States of a TPM's interface (PTP 1.05, 6.5.2.4).
const (
	idle = iota
	readyState
	reception
	execution
	completion
)

// A chip is a model of a TPM's registers on a bus, written from the profile, in front of
// a function that executes commands.
type chip struct {
	execute func(command []byte) []byte

	burst   int // most bytes of a burst
	busy    int // transfers that are not acknowledged while it is at work: after commandReady, bursts and tpmGo
	working int // looks at STS until a command is done; negative is never
	noCheck bool
	guard   uint32 // of INTERFACE_CAPABILITY

	// fault is asked before and after each transfer, which it has fail then. corrupt may
	// change the bytes of one that passes the FIFO.
	fault   func(n int, after bool) bool
	corrupt func(n int, p []byte)
	lose    func(n int) bool // the last byte of what is written

	transfers int
	executed  [][]byte
	cancelled int

	state          int
	active         bool
	checking       bool
	in, out        []byte
	read           int // of out
	nacks, looks   int
	selected       byte
	lostLocalityAt int // transfer at which the TPM alone is reset
}

var errNACK = errors.New("no acknowledge")

func newChip(execute func([]byte) []byte) *chip {
	return &chip{execute: execute, burst: 64}
}

func (c *chip) Tx(address uint8, write, read []byte) error {
	c.transfers++
	n := c.transfers
	if n == c.lostLocalityAt {
		c.active, c.state, c.in, c.out = false, idle, nil, nil
	}
	if address != DefaultAddress {
		return errNACK
	}
	if c.fault != nil && c.fault(n, false) {
		return errNACK
	}
	if c.nacks > 0 {
		c.nacks--
		return errNACK
	}
	c.selected = write[0]
	data := slices.Clone(write[1:])
	if c.corrupt != nil && c.selected == regFIFO {
		c.corrupt(n, data)
	}
	if c.lose != nil && c.selected == regFIFO && len(data) > 0 && c.lose(n) {
		data = data[:len(data)-1]
	}
	if len(data) > 0 {
		c.write(data)
	}
	if len(read) > 0 {
		c.readInto(read)
		if c.corrupt != nil && c.selected == regFIFO {
			c.corrupt(n, read)
		}
	}
	if c.fault != nil && c.fault(n, true) {
		return errNACK
	}
	return nil
}

func (c *chip) write(p []byte) {
	switch c.selected {
	case regACCESS:
		if p[0] == accessRequest {
			c.active = true
		} else if p[0] == accessActive {
			c.active = false
		}
	case regCSUMEN:
		c.checking = p[0] == 1 && !c.noCheck
	case regSTS:
		if c.active {
			c.command(p[0])
		}
	case regSTSCtl:
		if c.active && p[0] == stsCancel && c.state == execution {
			c.cancelled++
			c.looks = 3
			c.out = []byte{0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x09, 0x09} // TPM_RC_CANCELED
		}
	case regFIFO:
		if c.active {
			c.take(p)
		}
	}
}

// command is a write to STS.
func (c *chip) command(bits byte) {
	switch {
	case bits == stsReady && c.state == idle:
		c.state, c.nacks = readyState, c.busy
		c.in, c.out = nil, nil
	case bits == stsReady && c.state != readyState:
		c.state = idle
		c.in, c.out = nil, nil
	case bits == stsGo && c.state == reception && !c.expects():
		c.state, c.looks, c.nacks = execution, c.working, c.busy
		c.executed = append(c.executed, slices.Clone(c.in))
		c.out, c.read = c.execute(c.in), 0
	case bits == stsRetry && c.state == completion:
		c.read = 0
	}
}

func (c *chip) expects() bool {
	return len(c.in) < headerSize || len(c.in) < int(binary.BigEndian.Uint32(c.in[sizeAt:]))
}

func (c *chip) take(p []byte) {
	for _, b := range p {
		if c.state == readyState {
			c.state = reception
		}
		if c.state == reception && c.expects() {
			c.in = append(c.in, b)
		}
	}
	c.nacks = c.busy
}

func (c *chip) readInto(p []byte) {
	var b [4]byte
	switch c.selected {
	case regACCESS:
		b[0] = accessValid
		if c.active {
			b[0] |= accessActive
		}
	case regSTS:
		binary.LittleEndian.PutUint32(b[:], c.status())
	case regINTFCAP:
		binary.LittleEndian.PutUint32(b[:], capTypeFIFO|c.guard)
	case regCSUMEN:
		if c.checking {
			b[0] = 1
		}
	case regCSUM:
		sum := c.in
		if c.state == completion {
			sum = c.out[:c.read]
		}
		binary.BigEndian.PutUint16(b[:], slowCRC(sum))
	case regDIDVID:
		b = [4]byte{0x14, 0x10, 0x01, 0x00}
	case regFIFO:
		for i := range p {
			p[i] = 0xff
			if c.active && c.state == completion && c.read < len(c.out) {
				p[i] = c.out[c.read]
				c.read++
			}
		}
		return
	}
	copy(p, b[:])
}

func (c *chip) status() uint32 {
	if !c.active {
		return 0xffffffff
	}
	bits, burst := uint32(stsValid), 0
	switch c.state {
	case readyState:
		bits, burst = stsReady|stsValid, c.burst
	case reception:
		burst = c.burst
		if c.expects() {
			bits |= stsExpect
		}
	case execution:
		bits = 0
		if c.looks == 0 {
			c.state, c.read = completion, 0
		}
		c.looks--
	}
	if c.state == completion {
		bits = stsValid
		if c.read < len(c.out) {
			bits, burst = bits|stsData, min(c.burst, len(c.out)-c.read)
		}
	}
	return bits | uint32(burst)<<8
}

// slowCRC is bit by bit.
func slowCRC(p []byte) (sum uint16) {
	for _, b := range p {
		sum ^= uint16(b)
		for range 8 {
			low := sum & 1
			if sum >>= 1; low != 0 {
				sum ^= 0x8408
			}
		}
	}
	return sum
}
