package sd

import (
	"errors"
	"fmt"
	"time"

	"nitro/board/imx6ul/dma"
)

// move moves one piece, and overcomes what can be overcome: it tries again, then
// identifies the card anew and tries once more.
func (c *Card) move(first uint64, piece dma.Buffer, write bool) error {
	if c.unsure {
		if err := c.identifyAgain(); err != nil {
			c.count(err)
			return c.lose(err)
		}
	}
	var err error
	for try := range tries {
		if try > 0 {
			c.stats.Retries++
		}
		if err = c.once(first, piece, write); err == nil {
			return nil
		}
		c.count(err)
		if final(err) {
			return c.lose(err)
		}
		if again := c.settle(); again != nil {
			c.count(again)
			if final(again) {
				return c.lose(again)
			}
			break
		}
	}
	if again := c.identifyAgain(); again != nil {
		c.count(again)
		return c.lose(fmt.Errorf("%w, after %w", again, err))
	}
	c.stats.Retries++
	if err = c.once(first, piece, write); err != nil {
		c.count(err)
		err = c.lose(fmt.Errorf("after a new identification: %w", err))
	}
	return err
}

// final tells of errors that trying again does not help.
func final(err error) bool {
	return errors.Is(err, ErrNoCard) || errors.Is(err, ErrChanged) || errors.Is(err, ErrProtected)
}

// lose gives a transfer up. Where card and controller stand is not known then, and the
// next transfer begins with an identification. If the error says that the card is gone,
// it is kept for all that follows.
func (c *Card) lose(err error) error {
	c.unsure = true
	switch {
	case errors.Is(err, ErrChanged):
		c.lost = ErrChanged
	case errors.Is(err, ErrNoCard):
		c.lost = ErrNoCard
	}
	return err
}

// count counts an error.
func (c *Card) count(err error) {
	for _, k := range []struct {
		kind  error
		count *uint64
	}{
		{ErrChanged, &c.stats.Changes}, {ErrNoCard, &c.stats.Removals}, {ErrTimeout, &c.stats.Timeouts}, {ErrCRC, &c.stats.CRC},
		{ErrDMA, &c.stats.DMA}, {ErrHost, &c.stats.Host}, {ErrStatus, &c.stats.Status},
	} {
		if errors.Is(err, k.kind) {
			*k.count++
			return
		}
	}
}

// once moves one piece with one command (4.3.3, 4.3.4).
func (c *Card) once(first uint64, piece dma.Buffer, write bool) error {
	n := len(piece.Bytes) / BlockSize
	index := uint8(17) // READ_SINGLE_BLOCK; 18 is READ_MULTIPLE_BLOCK
	if write {
		index = 24 // WRITE_BLOCK; 25 is WRITE_MULTIPLE_BLOCK
	}
	counted := false
	if n > 1 {
		index++
		if counted = c.scr.HasBlockCount; counted {
			if err := c.checked(23, uint32(n), R1); err != nil { // SET_BLOCK_COUNT
				return err
			}
		}
	}
	arg := uint32(first)
	if c.csd.ByteAddr {
		arg *= BlockSize
	}
	c.cmd = Command{
		Index: index, Arg: arg, Response: R1, Limit: dataLimit,
		Data: piece, BlockSize: BlockSize, Write: write, AutoStop: n > 1 && !counted,
	}
	status, err := c.send()
	if err == nil {
		err = c.judge(status, statusErrors)
	}
	if err == nil && c.cmd.AutoStop {
		mask := uint32(statusErrors)
		if first+uint64(n) == c.csd.Blocks {
			mask &^= statusOutOfRange // the card may have looked beyond its last block (4.3.3, 4.3.4)
		}
		err = c.judge(c.cmd.Stop, mask)
	}
	if err == nil && write {
		err = c.programmed()
	}
	return err
}

// programmed waits until the card is in the transfer state and takes data again:
// then a write before is on the card, or its status says that it is not.
func (c *Card) programmed() error {
	end := time.Now().Add(busyLimit)
	for pause := time.Duration(0); ; pause = min(pause*2+10*time.Microsecond, time.Millisecond) {
		time.Sleep(pause)
		late := time.Now().After(end)
		if !late && c.host.Busy() {
			continue
		}
		status, err := c.do(13, c.rca, R1) // SEND_STATUS
		if err == nil {
			err = c.judge(status, statusErrors)
		}
		switch {
		case err != nil:
			return err
		case state(status) == stateTransfer && status&statusReady != 0:
			return nil
		case late:
			return fmt.Errorf("status %#08x: the card stays busy for %v: %w", status, busyLimit, ErrTimeout)
		}
	}
}

// settle brings card and controller back to where a transfer can begin.
func (c *Card) settle() error {
	c.stats.LineResets++
	if err := c.host.ResetLines(); err != nil {
		return err
	}
	status, err := c.do(13, c.rca, R1)
	if err != nil {
		return err
	}
	if s := state(status); s == stateSending || s == stateReceiving {
		if _, err := c.do(12, 0, R1b); err != nil { // STOP_TRANSMISSION
			return err
		}
	}
	return c.programmed()
}

// identifyAgain identifies the card anew, and compares it with the one before. Until
// that has been done no other command may go to the card: it may be another, and may
// have chosen the same address.
func (c *Card) identifyAgain() error {
	old := c.identity
	c.unsure = true
	err := c.identify()
	if err == nil && (c.cid != old.cid || c.rawCSD != old.rawCSD) {
		err = fmt.Errorf("it is %v and was %v: %w", c.cid, old.cid, ErrChanged)
	}
	if err != nil {
		c.identity = old
		return err
	}
	c.unsure = false
	return nil
}
