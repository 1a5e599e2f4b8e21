package rack

import (
	"errors"
	"fmt"
	"time"

	"nitro/qemu-test/emulator"
)

// QEMU resets the expander with the board, and on the reference board (board/evk) it is
// not: it has the host's standby supply. So the rack reads its registers before a reset and
// writes them back behind it, over the board's own I2C block while the board stands still.

// The board's I2C1 (IMX6ULLRM 31.7), registers of 16 bits.
const (
	i2cIFDR = 0x021a0004
	i2cI2CR = 0x021a0008
	i2cI2SR = 0x021a000c
	i2cI2DR = 0x021a0010

	i2crIEN  = 1 << 7
	i2crMSTA = 1 << 5
	i2crMTX  = 1 << 4
	i2crRSTA = 1 << 2
	i2srIBB  = 1 << 5
	i2srRXAK = 1 << 0
)

// The expander: its address, and the registers that it keeps, PSC0 to LS3, with their
// values at power-on (PCA9552 Rev. 8, 6.2).
const (
	expanderAddress = 0x60
	expanderFirst   = 2
	autoIncrement   = 0x10
)

// expanderRegisters are what the expander keeps.
type expanderRegisters [8]byte

var expanderAtPowerOn = expanderRegisters{0xff, 0x80, 0xff, 0x80, 0x55, 0x55, 0x55, 0x55}

// An i2cMaster speaks for the board, which stands still, on its I2C1.
type i2cMaster struct {
	q   *emulator.QTest
	err error
}

func (m *i2cMaster) set(register uint32, value uint16) {
	if m.err == nil {
		m.err = m.q.Write16(register, value)
	}
}

func (m *i2cMaster) get(register uint32) uint16 {
	if m.err != nil {
		return 0
	}
	var b []byte
	if b, m.err = m.q.Read(register, 2); m.err != nil {
		return 0
	}
	return uint16(b[0]) | uint16(b[1])<<8
}

// send sends a byte, which somebody has to acknowledge.
func (m *i2cMaster) send(b byte) {
	m.set(i2cI2DR, uint16(b))
	if m.get(i2cI2SR)&i2srRXAK != 0 && m.err == nil {
		m.err = fmt.Errorf("expander: byte %#x is not acknowledged", b)
	}
}

// start begins a transfer to the expander's registers; whatever was under way is over.
func (m *i2cMaster) start() {
	m.set(i2cI2CR, 0)
	m.set(i2cI2CR, i2crIEN)
	m.set(i2cI2CR, i2crIEN|i2crMSTA|i2crMTX)
	m.send(expanderAddress << 1)
	m.send(expanderFirst | autoIncrement)
}

// stop ends it, and leaves the block as after a reset.
func (m *i2cMaster) stop() error {
	m.set(i2cI2CR, i2crIEN)
	m.set(i2cI2CR, 0)
	return m.err
}

// readExpander reads what the expander keeps.
func readExpander(q *emulator.QTest) (r expanderRegisters, err error) {
	m := &i2cMaster{q: q}
	m.start()
	m.set(i2cI2CR, i2crIEN|i2crMSTA|i2crMTX|i2crRSTA)
	m.send(expanderAddress<<1 | 1)
	m.set(i2cI2CR, i2crIEN|i2crMSTA)
	m.get(i2cI2DR) // begins to receive
	for i := range r {
		r[i] = byte(m.get(i2cI2DR))
	}
	return r, m.stop()
}

// writeExpander writes it.
func writeExpander(q *emulator.QTest, r expanderRegisters) error {
	m := &i2cMaster{q: q}
	m.start()
	for _, b := range r {
		m.send(b)
	}
	return m.stop()
}

// busLimit is how long the board may be in the middle of a transfer on I2C1.
const busLimit = 5 * time.Second

// resetExpander gives the expander's RESET input a pulse, as the loss of the host's power
// does: all lines are released, and the nonce is gone. The board stands still for it, between
// two of its transfers, and sees its I2C block as it was.
func (r *Rack) resetExpander() error {
	r.resetting.Lock()
	defer r.resetting.Unlock()
	for end := time.Now().Add(busLimit); ; time.Sleep(time.Millisecond) {
		if err := r.QMP.Stop(); err != nil {
			return err
		}
		done, err := r.Pins.resetExpander()
		if err := errors.Join(err, r.QMP.Continue()); err != nil || done {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("expander: the board's I2C1 is busy for %v", busLimit)
		}
	}
}

// resetExpander does it, unless the bus is busy.
func (p *Pins) resetExpander() (done bool, err error) {
	p.mu.Lock()
	q := p.qtest
	p.mu.Unlock()
	if q == nil {
		return false, nil // in the middle of a reset
	}
	m := &i2cMaster{q: q}
	control, divider := m.get(i2cI2CR), m.get(i2cIFDR)
	if busy := m.get(i2cI2SR)&i2srIBB != 0; m.err != nil || busy || control&i2crMSTA != 0 {
		return false, m.err
	}
	if err := writeExpander(q, expanderAtPowerOn); err != nil {
		return false, err
	}
	m.set(i2cIFDR, divider)
	m.set(i2cI2CR, control)
	return true, m.err
}
