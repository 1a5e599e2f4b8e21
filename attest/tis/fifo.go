package tis

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// errGarbled is what a transfer's end shows: bytes were lost, doubled or changed.
var errGarbled = errors.New("bytes were lost on the bus")

// A status is what STS says.
type status struct {
	bits  byte
	burst int // bytes that can be moved without a wait
}

func (s status) is(bits byte) bool { return s.bits&bits == bits }

// status reads STS. All ones is what one reads where nobody drives the bus, or where the
// locality is not ours any more, as after a reset of the TPM alone.
func (t *TPM) status() (status, error) {
	var b [4]byte
	err := t.read(regSTS, b[:])
	return status{b[0], int(binary.LittleEndian.Uint16(b[1:]))}, err
}

// wait waits until STS is as wanted. The error of a wait that is over is [ErrStatus].
func (t *TPM) wait(limit time.Duration, wanted func(status) bool) (status, error) {
	for p := newPoll(limit); ; {
		s, err := t.status()
		if err != nil || wanted(s) {
			return s, err
		}
		if !p.pause() {
			return s, fmt.Errorf("STS is %#02x after %v: %w", s.bits, limit, ErrStatus)
		}
	}
}

// ready has the TPM take a command, whatever it was at, and gives its burst count. It
// may take two words: one drops what was, and one wakes (PTP 6.5.2.4, figure of states).
func (t *TPM) ready() (int, error) {
	ready := func(s status) bool { return s.is(stsReady) }
	s, err := t.status()
	if err == nil && ready(s) {
		return s.burst, nil
	}
	for range 2 {
		if err = t.write(regSTS, stsReady); err != nil {
			return 0, err
		}
		if s, err = t.wait(timeoutB/2, ready); err == nil {
			return s.burst, nil
		}
	}
	return 0, err
}

// put sends a command, without starting it.
func (t *TPM) put(command []byte) error {
	var err error
	for range attempts {
		var burst int
		if burst, err = t.ready(); err != nil {
			// The TPM may have lost the locality, by a reset of its own.
			if err := t.request(); err != nil {
				return err
			}
			if burst, err = t.ready(); err != nil {
				continue
			}
		}
		if err = t.putOnce(command, burst); err == nil {
			return nil
		}
		// What got through is dropped, so that nothing of it is ever executed.
		if err := t.write(regSTS, stsReady); err != nil {
			return err
		}
	}
	return err
}

func (t *TPM) putOnce(command []byte, burst int) error {
	for rest := command; len(rest) > 0; {
		n, err := t.burst(burst, len(rest))
		if err != nil {
			return err
		}
		t.frame[0] = regFIFO
		copy(t.frame[1:], rest[:n])
		err = t.bus.Tx(t.address, t.frame[:1+n], nil)
		clear(t.frame[:1+n])
		t.rest()
		if err != nil {
			return fmt.Errorf("sending %d bytes: %w: %w", n, ErrBus, err)
		}
		rest, burst = rest[n:], burst-n
	}
	s, err := t.wait(timeoutC, func(s status) bool { return s.is(stsValid) })
	if err != nil {
		return err
	}
	if s.is(stsExpect) {
		return fmt.Errorf("command of %d bytes, STS %#02x: the TPM expects more: %w", len(command), s.bits, errGarbled)
	}
	return t.check(command)
}

// take reads an answer, of which the TPM offers the first burst bytes.
func (t *TPM) take(burst int) ([]byte, error) {
	var err error
	for range attempts {
		var answer []byte
		if answer, err = t.takeOnce(burst); err == nil {
			return answer, nil
		}
		clear(answer)
		if err := t.write(regSTS, stsRetry); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnread, err)
		}
		s, err := t.wait(timeoutC, func(s status) bool { return s.is(stsValid | stsData) })
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnread, err)
		}
		burst = s.burst
	}
	return nil, fmt.Errorf("%w: %w", ErrUnread, err)
}

func (t *TPM) takeOnce(burst int) ([]byte, error) {
	answer := make([]byte, headerSize, 256)
	burst, err := t.takeBytes(answer, burst)
	if err != nil {
		return answer, err
	}
	size := binary.BigEndian.Uint32(answer[sizeAt:])
	if size < headerSize || size > MaxSize {
		return answer, fmt.Errorf("the answer says that it has %d bytes: %w", size, ErrSize)
	}
	answer = append(answer, make([]byte, size-headerSize)...)
	if _, err = t.takeBytes(answer[headerSize:], burst); err != nil {
		return answer, err
	}
	s, err := t.wait(timeoutC, func(s status) bool { return s.is(stsValid) })
	if err != nil {
		return answer, err
	}
	if s.is(stsData) {
		return answer, fmt.Errorf("answer of %d bytes, STS %#02x: the TPM has more: %w", size, s.bits, errGarbled)
	}
	return answer, t.check(answer)
}

// takeBytes fills p, and gives what is left of the burst.
func (t *TPM) takeBytes(p []byte, burst int) (left int, err error) {
	for len(p) > 0 {
		n, err := t.burst(burst, len(p))
		if err != nil {
			return 0, err
		}
		err = t.bus.Tx(t.address, []byte{regFIFO}, p[:n])
		t.rest()
		if err != nil {
			return 0, fmt.Errorf("reading %d bytes: %w: %w", n, ErrBus, err)
		}
		p, burst = p[n:], burst-n
	}
	return burst, nil
}

// burst gives how many of wanted bytes can be moved now: left of the last burst, or a
// new one.
func (t *TPM) burst(left, wanted int) (int, error) {
	if left <= 0 {
		s, err := t.wait(timeoutC, func(s status) bool { return s.burst > 0 })
		if err != nil {
			return 0, fmt.Errorf("no burst: %w", err)
		}
		left = s.burst
	}
	return min(left, wanted), nil
}

// check compares the TPM's checksum of what was last moved through the FIFO with ours.
func (t *TPM) check(moved []byte) error {
	if !t.checksum {
		return nil
	}
	var b [2]byte
	if err := t.read(regCSUM, b[:]); err != nil {
		return err
	}
	if want, got := crc(moved), binary.BigEndian.Uint16(b[:]); got != want {
		return fmt.Errorf("%d bytes, checksum %#04x, the TPM's %#04x: %w", len(moved), want, got, errGarbled)
	}
	return nil
}

// crc is CRC-CCITT as PTP 8.1.7 has it: x^16 + x^12 + x^5 + 1, the least significant
// bit first, from zero.
func crc(p []byte) (sum uint16) {
	for _, b := range p {
		// Four bits at a time, without a table: x is the byte folded onto the polynomial.
		x := b ^ byte(sum)
		x ^= x << 4
		sum = sum>>8 ^ uint16(x)<<8 ^ uint16(x)<<3 ^ uint16(x)>>4
	}
	return sum
}

// read reads a register. It has no effect but for the FIFO, which is not read here, so
// it can be repeated.
func (t *TPM) read(register byte, p []byte) error {
	var err error
	for range tries {
		if err = t.bus.Tx(t.address, []byte{register}, p); err == nil {
			if err = sane(register, p); err == nil {
				t.rest()
				return nil
			}
		}
		time.Sleep(guardUnknown)
	}
	return fmt.Errorf("reading register %#02x: %w: %w", register, ErrBus, err)
}

// sane checks the bits that read as zero (PTP 8.3).
func sane(register byte, p []byte) error {
	var zero byte
	switch register {
	case regACCESS:
		zero = accessZero
	case regSTS:
		zero = stsZero
	}
	if p[0]&zero != 0 {
		return fmt.Errorf("% x has bits of %#02x", p, zero)
	}
	return nil
}

// write writes a byte to a register. What is written through it may be written twice
// without harm; see its callers.
func (t *TPM) write(register, v byte) error {
	var err error
	for range tries {
		if err = t.bus.Tx(t.address, []byte{register, v}, nil); err == nil {
			t.rest()
			return nil
		}
		time.Sleep(guardUnknown)
	}
	return fmt.Errorf("writing %#02x to register %#02x: %w: %w", v, register, ErrBus, err)
}

// rest leaves the TPM the guard time that it wants between transfers.
func (t *TPM) rest() {
	if t.guard > 0 {
		time.Sleep(t.guard)
	}
}

// A poll paces looks at the TPM.
type poll struct {
	end  time.Time
	next time.Duration
}

func newPoll(limit time.Duration) *poll { return &poll{time.Now().Add(limit), firstPause} }

// pause waits before the next look, longer each time. False means that the limit has
// passed.
func (p *poll) pause() bool {
	if !time.Now().Before(p.end) {
		return false
	}
	time.Sleep(p.next)
	p.next = min(2*p.next, lastPause)
	return true
}
