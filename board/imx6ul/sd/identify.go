package sd

import (
	"errors"
	"fmt"
	"time"
)

// do sends a command without data and gives the answer's 32 bits.
func (c *Card) do(index uint8, arg uint32, r Response) (uint32, error) {
	c.cmd = Command{Index: index, Arg: arg, Response: r, Limit: commandLimit}
	return c.send()
}

// send sends c.cmd.
func (c *Card) send() (uint32, error) {
	c.stats.Commands++
	if err := c.host.Do(&c.cmd); err != nil {
		return 0, fmt.Errorf("CMD%d(%#x): %w", c.cmd.Index, c.cmd.Arg, err)
	}
	return c.cmd.Answer, nil
}

// checked sends a command with R1 as its answer, and looks at the status in it.
func (c *Card) checked(index uint8, arg uint32, r Response) error {
	status, err := c.do(index, arg, r)
	if err == nil {
		err = c.judge(status, statusErrors)
	}
	return err
}

// judge makes an error of a card status; mask tells which bits matter.
func (c *Card) judge(status, mask uint32) error {
	switch {
	case status&mask == 0:
		return nil
	case status&mask&statusViolation != 0:
		return fmt.Errorf("CMD%d(%#x): status %#08x: %w", c.cmd.Index, c.cmd.Arg, status, ErrProtected)
	}
	return fmt.Errorf("CMD%d(%#x): status %#08x: %w", c.cmd.Index, c.cmd.Arg, status, ErrStatus)
}

// application sends an application command, after the CMD55 that announces it.
func (c *Card) application(index uint8, arg uint32, r Response) (uint32, error) {
	if err := c.announce(); err != nil {
		return 0, err
	}
	return c.do(index, arg, r)
}

func (c *Card) announce() error {
	status, err := c.do(55, c.rca, R1)
	if err == nil && status&statusAppCommand == 0 {
		err = fmt.Errorf("CMD55(%#x): status %#08x: the card expects no application command: %w", c.rca, status, ErrNotSD)
	}
	return err
}

// Clocks. Without high speed every card has 25 MHz (5.3.2: TRAN_SPEED).
const (
	defaultClock   = 25000000
	highSpeedClock = 50000000
)

// identify brings the card from power-on to the transfer state (4.2, figure 4-2).
func (c *Card) identify() error {
	c.stats.Identifications++
	c.rca = 0
	if err := c.host.Reset(); err != nil {
		return err
	}
	if _, err := c.do(0, 0, NoResponse); err != nil {
		return err
	}
	high, err := c.powerUp()
	if err != nil {
		return err
	}
	if err := c.address(); err != nil {
		return err
	}
	if high == c.csd.ByteAddr {
		return fmt.Errorf("OCR says high capacity: %v, CSD %x: %w", high, c.rawCSD, ErrNonsense)
	}
	if err := c.host.SetClock(defaultClock); err != nil {
		return err
	}
	status, err := c.do(7, c.rca, R1b) // SELECT_CARD
	if err == nil && status&statusLocked != 0 {
		err = ErrLocked
	}
	if err == nil {
		err = c.programmed()
	}
	if err == nil {
		err = c.configure()
	}
	return err
}

// powerUp asks for the card's operating conditions until it has powered up (4.2.2,
// 4.2.3), and tells whether it has a high capacity.
func (c *Card) powerUp() (high bool, err error) {
	const (
		pattern = 0x1aa            // CMD8: 2.7 to 3.6 V, and a pattern that comes back (4.3.13)
		limit   = 1 * time.Second  // of the card's power-up (4.2.3)
		pause   = time.Millisecond // between two looks
	)
	arg := uint32(ocrVoltages)
	switch echo, err := c.do(8, pattern, R7); {
	case err == nil && echo&0xfff != pattern:
		return false, fmt.Errorf("CMD8(%#x) gives %#x: %w", pattern, echo, ErrNotSD)
	case err == nil:
		arg |= ocrHigh
	case !errors.Is(err, ErrTimeout):
		return false, err
	default: // a card of version 1
		if err := c.host.ResetLines(); err != nil {
			return false, err
		}
	}
	for end := time.Now().Add(limit); ; time.Sleep(pause) {
		late := time.Now().After(end)
		ocr, err := c.application(41, arg, R3)
		switch {
		case errors.Is(err, ErrTimeout): // nothing there answers as SD cards do
			return false, fmt.Errorf("%w (%w)", ErrNoCard, err)
		case err != nil:
			return false, err
		case ocr&ocrVoltages == 0:
			return false, fmt.Errorf("OCR %#08x: %w", ocr, ErrNotSD)
		case ocr&ocrReady != 0:
			return ocr&ocrHigh != 0, nil
		case late:
			return false, fmt.Errorf("OCR %#08x: the card does not power up: %w", ocr, ErrTimeout)
		}
	}
}

// address gives the card its relative address, and reads what it says of itself
// before it is selected (4.2.3).
func (c *Card) address() error {
	if _, err := c.do(2, 0, R2); err != nil { // ALL_SEND_CID
		return err
	}
	c.cid = c.cmd.Long
	for range tries { // the card may choose 0, which no card keeps (5.4)
		answer, err := c.do(3, 0, R6) // SEND_RELATIVE_ADDR
		if err != nil {
			return err
		}
		if c.rca = answer &^ 0xffff; c.rca != 0 {
			break
		}
	}
	if c.rca == 0 {
		return fmt.Errorf("CMD3 gives address 0: %w", ErrNonsense)
	}
	if _, err := c.do(9, c.rca, R2); err != nil { // SEND_CSD
		return err
	}
	c.rawCSD = c.cmd.Long
	csd, err := ParseCSD(c.rawCSD)
	c.csd = csd
	return err
}

// configure makes the bus as wide and as fast as card and controller can.
func (c *Card) configure() error {
	if err := c.announce(); err != nil {
		return err
	}
	answer, err := c.fetch(51, 0, 8) // SEND_SCR
	if err != nil {
		return err
	}
	if c.scr, err = ParseSCR([8]byte(answer)); err != nil {
		return err
	}
	if c.scr.Wide {
		const four = 2
		if status, err := c.application(6, four, R1); err != nil { // SET_BUS_WIDTH
			return err
		} else if err := c.judge(status, statusErrors); err != nil {
			return err
		}
		if err := c.host.SetWide(); err != nil {
			return err
		}
	}
	if err := c.speedUp(); err != nil {
		return err
	}
	if c.csd.ByteAddr {
		return c.checked(16, BlockSize, R1) // SET_BLOCKLEN
	}
	return nil
}

// speedUp switches to high speed where the card offers it (4.3.10).
func (c *Card) speedUp() error {
	const (
		check = 0x00fffff0 | highSpeed // all other groups stay as they are
		set   = check | 1<<31
	)
	c.highSpeed = false
	if !c.scr.HasSwitch || !c.csd.HasSwitch {
		return nil
	}
	status, err := c.fetch(6, check, switchSize)
	if err != nil || !offersHighSpeed(status) {
		return err
	}
	if status, err = c.fetch(6, set, switchSize); err != nil || !choseHighSpeed(status) {
		return err
	}
	c.highSpeed = true
	return c.host.SetClock(highSpeedClock)
}

// fetch sends a command that n bytes of data answer, and gives them.
func (c *Card) fetch(index uint8, arg uint32, n int) ([]byte, error) {
	data := part(c.small, 0, n)
	c.cmd = Command{Index: index, Arg: arg, Response: R1, Limit: dataLimit, Data: data, BlockSize: n}
	status, err := c.send()
	if err == nil {
		err = c.judge(status, statusErrors)
	}
	return data.Bytes, err
}
