// Package usdhc drives the i.MX 6UltraLite's SD host controller: the uSDHC block
// (IMX6ULLRM Rev. 1 11/2017, chapter 58, Ultra Secured Digital Host Controller; the
// block is the UL's too). It is the [sd.Host] of package sd, which speaks the card's
// protocol.
//
// Data moves by ADMA2, over one or four lines, at 3.3 V and at up to 50 MHz. What is
// over at once is polled, the rest is waited for by interrupt, and every wait has a
// limit. A card that is taken out is remembered.
//
// Left out: PIO and the simple DMA, eight lines and eMMC, DDR, 1.8 V and tuning, SDIO
// interrupts, and the write-protect switch, which microSD cards do not have.
package usdhc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"nitro/board/imx6ul/dma"
	"nitro/board/imx6ul/mmio"
	"nitro/board/imx6ul/sd"
)

// A Line is the controller's interrupt: an irq.Line.
type Line interface {
	Enable() error
	Wait(deadline time.Time) (uint32, error)
}

// Config is how a controller runs.
type Config struct {
	Clock  uint32     // of the block (USDHC_CLK_ROOT), Hz: the most that it can be
	Table  dma.Buffer // for the descriptors: eight bytes for each 32 KiB of a transfer
	IRQ    Line
	Detect bool          // the slot's switch is wired to CD_B
	Power  func(on bool) // switches the slot's power; nil where it is always on

	// Polls is how many looks a command gets before its goroutine sleeps until the
	// interrupt; 0 is 128. The interrupt costs 9,800 instructions (counted), which is
	// about what 128 looks take on silicon: a command without data is over by then,
	// and one with data costs at most twice what it had to.
	Polls int
}

// Limits and times.
const (
	defaultPolls = 128
	lineLimit    = 10 * time.Millisecond // of a reset, a clock change, a free line; all are some clocks
	powerOff     = 10 * time.Millisecond // 1 ms below 0.5 V restarts a card (SD 6.4.1.2), and the slot's capacitors take a while
	powerOn      = 2 * time.Millisecond  // 1 ms of power before the first clocks (SD 6.4.1.1), and the regulator's start
	initClock    = 400000                // of an identification (SD 4.2.1)
)

// A Controller is one block with its slot. One goroutine calls its methods at a time.
type Controller struct {
	regs    mmio.Registers
	c       Config
	prot    uint32 // PROT_CTRL
	removed bool   // a card was taken out since Forget
}

var _ sd.Host = (*Controller)(nil)

// New drives the block behind r. It touches no register: Reset does.
func New(r mmio.Registers, c Config) *Controller {
	if c.Polls == 0 {
		c.Polls = defaultPolls
	}
	return &Controller{regs: r, c: c}
}

// Forget makes the controller forget that a card was taken out.
func (c *Controller) Forget() {
	c.regs.Write32(regINTSTATUS, intCRM)
	c.removed = false
}

// Reset implements sd.Host. All that RSTA leaves as it is gets its reset value by
// hand: MIX_CTRL, the delay lines, the boot mode.
func (c *Controller) Reset() error {
	c.noteRemoval(c.regs.Read32(regINTSTATUS))
	if c.c.Power != nil {
		c.c.Power(false)
		time.Sleep(powerOff)
		c.c.Power(true)
		time.Sleep(powerOn)
	}
	if err := c.reset(sysRSTA); err != nil {
		return err
	}
	c.prot = protReset | protLittle | protADMA2
	for _, w := range []struct{ register, value uint32 }{
		{regMIXCTRL, mixAlways}, {regDLLCTRL, 0}, {regTUNE, 0}, {regMMCBOOT, 0}, {regVENDSPEC, vendReset},
		{regWTMKLVL, wtmk}, {regPROTCTRL, c.prot}, {regINTSTATUSEN, c.noted()}, {regINTSIGNALEN, 0},
	} {
		c.regs.Write32(w.register, w.value)
	}
	if err := c.SetClock(initClock); err != nil {
		return err
	}
	c.regs.Write32(regSYSCTRL, c.regs.Read32(regSYSCTRL)|sysINITA)
	return c.await(regSYSCTRL, sysINITA, 0)
}

// noted are the bits of the interrupt status that are to be noted. CD_B means nothing
// where no switch is wired to it.
func (c *Controller) noted() uint32 {
	if c.c.Detect {
		return intAll
	}
	return intAll &^ intCRM
}

// reset sets reset bits and waits until they are through.
func (c *Controller) reset(which uint32) error {
	c.regs.Write32(regSYSCTRL, c.regs.Read32(regSYSCTRL)|sysAlways|which)
	return c.await(regSYSCTRL, which, 0)
}

// await waits until the bits of a register have a value.
func (c *Controller) await(register, bits, value uint32) error {
	if !mmio.Wait(func() bool { return c.regs.Read32(register)&bits == value }, lineLimit) {
		return fmt.Errorf("usdhc: bits %#x of register %#x are not %#x after %v: %w", bits, register, value, lineLimit, c.fault(sd.ErrHost, 0))
	}
	return nil
}

// fault adds the controller's state to an error.
func (c *Controller) fault(err error, status uint32) error {
	return fmt.Errorf("%w (INT_STATUS %#x, PRES_STATE %#x, SYS_CTRL %#x, AUTOCMD12_ERR %#x, ADMA_ERR %#x)", err,
		status, c.regs.Read32(regPRESSTATE), c.regs.Read32(regSYSCTRL), c.regs.Read32(regAC12ERR), c.regs.Read32(regADMAERR))
}

// SetClock implements sd.Host. The clock is gated off while its dividers change
// (PRES_STATE, SDOFF), and runs all the time afterwards.
func (c *Controller) SetClock(hz uint32) error {
	dividers, err := divide(c.c.Clock, hz)
	if err != nil {
		return err
	}
	c.regs.Write32(regVENDSPEC, vendReset)
	if err := c.await(regPRESSTATE, presSDOFF, presSDOFF); err != nil {
		return err
	}
	c.regs.Write32(regSYSCTRL, sysAlways|sysDTOCV|sysIPPRSTN|dividers)
	if err := c.await(regPRESSTATE, presSDSTB, presSDSTB); err != nil {
		return err
	}
	c.regs.Write32(regVENDSPEC, vendReset|vendFRCSDCLKON)
	return nil
}

// divide finds the dividers for the fastest clock of at most hz: a prescaler of 1, 2,
// 4 to 256, and a divisor of 1 to 16 (SYS_CTRL).
func divide(clock, hz uint32) (bits uint32, err error) {
	if hz > 0 && clock > 0 {
		by := (uint64(clock) + uint64(hz) - 1) / uint64(hz)
		for prescaler := uint64(1); prescaler <= 256; prescaler *= 2 {
			if divisor := (by + prescaler - 1) / prescaler; divisor <= 16 {
				return uint32(prescaler/2<<sysSDCLKFS | (divisor-1)<<sysDVS), nil
			}
		}
	}
	return 0, fmt.Errorf("usdhc: a clock of %d Hz from %d Hz: the block divides by 1 to 4096", hz, clock)
}

// SetWide implements sd.Host.
func (c *Controller) SetWide() error {
	c.prot |= protDTW4
	c.regs.Write32(regPROTCTRL, c.prot)
	return nil
}

// ResetLines implements sd.Host by RSTC and RSTD.
func (c *Controller) ResetLines() error {
	if err := c.reset(sysRSTC); err != nil {
		return err
	}
	if err := c.reset(sysRSTD); err != nil {
		return err
	}
	c.regs.Write32(regINTSTATUS, intAll&^intCRM)
	return nil
}

// Busy implements sd.Host.
func (c *Controller) Busy() bool { return c.regs.Read32(regPRESSTATE)&presDAT0 == 0 }

// noteRemoval keeps the removal that an interrupt status tells of.
func (c *Controller) noteRemoval(status uint32) {
	if status&intCRM != 0 {
		c.removed = true
	}
}

// Do implements sd.Host.
func (c *Controller) Do(cmd *sd.Command) error {
	if err := c.free(cmd); err != nil {
		return err
	}
	done := uint32(intCC)
	transfer, mix := command(cmd), uint32(mixAlways)
	if n := len(cmd.Data.Bytes); n > 0 {
		done |= intTC | intDINT
		if _, err := describe(c.c.Table.Bytes, cmd.Data.Addr, uint32(n)); err != nil {
			return err
		}
		mix |= mode(cmd)
		c.regs.Write32(regADMASYS, c.c.Table.Addr)
		c.regs.Write32(regBLKATT, uint32(n/cmd.BlockSize)<<16|uint32(cmd.BlockSize))
		mmio.Barrier() // descriptors and data before the command
	}
	c.regs.Write32(regMIXCTRL, mix)
	c.regs.Write32(regCMDARG, cmd.Arg)
	c.regs.Write32(regCMDXFRTYP, transfer)
	if err := c.finish(done, cmd.Limit); err != nil {
		return err
	}
	mmio.Barrier() // the status before the data
	c.answer(cmd)
	return nil
}

// free waits until the lines that a command needs are free, and a card is there.
func (c *Controller) free(cmd *sd.Command) error {
	lines := uint32(presCIHB)
	if len(cmd.Data.Bytes) > 0 {
		lines |= presCDIHB
	}
	var state uint32
	free := mmio.Wait(func() bool {
		state = c.regs.Read32(regPRESSTATE)
		return state&lines == 0
	}, lineLimit)
	switch {
	case c.removed || c.c.Detect && state&presCINST == 0:
		return sd.ErrNoCard
	case !free:
		return c.fault(sd.ErrHost, c.regs.Read32(regINTSTATUS))
	}
	return nil
}

// command gives CMD_XFR_TYP.
func command(cmd *sd.Command) uint32 {
	v := uint32(cmd.Index) << cmdINX
	switch cmd.Response {
	case sd.R1, sd.R6, sd.R7:
		v |= cmdRSP48 | cmdCICEN | cmdCCCEN
	case sd.R1b:
		v |= cmdRSP48Busy | cmdCICEN | cmdCCCEN
	case sd.R2:
		v |= cmdRSP136 | cmdCCCEN
	case sd.R3:
		v |= cmdRSP48
	}
	const stopTransmission = 12
	if cmd.Index == stopTransmission {
		v |= cmdABORT
	}
	if len(cmd.Data.Bytes) > 0 {
		v |= cmdDPSEL
	}
	return v
}

// mode gives MIX_CTRL's bits of a transfer.
func mode(cmd *sd.Command) uint32 {
	v := uint32(mixDMAEN | mixBCEN)
	if !cmd.Write {
		v |= mixDTDSEL
	}
	if len(cmd.Data.Bytes) > cmd.BlockSize {
		v |= mixMSBSEL
	}
	if cmd.AutoStop {
		v |= mixAC12EN
	}
	return v
}

// finish waits until all bits of done are there, or an error is, and clears them.
func (c *Controller) finish(done uint32, limit time.Duration) error {
	status, over := c.look(done)
	for polls := c.c.Polls; polls > 1 && !over; polls-- {
		status, over = c.look(done)
	}
	if !over {
		var err error
		if status, err = c.sleep(status, done, time.Now().Add(limit)); err != nil {
			return err
		}
	}
	c.regs.Write32(regINTSTATUS, status&^intCRM)
	c.noteRemoval(status)
	switch {
	case c.removed:
		return c.fault(sd.ErrNoCard, status)
	case status&intTimeouts != 0:
		return c.fault(sd.ErrTimeout, status)
	case status&intCRCs != 0:
		return c.fault(sd.ErrCRC, status)
	case status&intDMAE != 0:
		return c.fault(sd.ErrDMA, status)
	case status&done != done:
		return c.fault(sd.ErrHost, status)
	}
	return nil
}

// look reads the interrupt status and tells whether nothing more is to be waited for.
func (c *Controller) look(done uint32) (status uint32, over bool) {
	status = c.regs.Read32(regINTSTATUS)
	return status, status&done == done || status&(intErrors|intCRM) != 0
}

// sleep waits for interrupts until nothing more is to be waited for, or the deadline
// has passed. Only bits that are still missing raise the interrupt. An interrupt of
// an earlier wait that missed its deadline may come first; it costs one round.
func (c *Controller) sleep(status, done uint32, deadline time.Time) (uint32, error) {
	for {
		c.regs.Write32(regINTSIGNALEN, done&^status|intErrors|intCRM)
		err := c.c.IRQ.Enable()
		if err == nil {
			_, err = c.c.IRQ.Wait(deadline)
		}
		c.regs.Write32(regINTSIGNALEN, 0)
		late := errors.Is(err, os.ErrDeadlineExceeded)
		if err != nil && !late {
			return status, fmt.Errorf("usdhc: %w", err)
		}
		var over bool
		if status, over = c.look(done); over || late {
			return status, nil
		}
	}
}

// answer takes the answer out of the registers. Of 136 bits they hold 127 to 8.
func (c *Controller) answer(cmd *sd.Command) {
	switch cmd.Response {
	case sd.NoResponse:
	case sd.R2:
		var long [16]byte
		for i, r := range [4]uint32{regCMDRSP3, regCMDRSP2, regCMDRSP1, regCMDRSP0} {
			binary.BigEndian.PutUint32(long[i*4:], c.regs.Read32(r))
		}
		copy(cmd.Long[:15], long[1:])
	default:
		cmd.Answer = c.regs.Read32(regCMDRSP0)
	}
	if cmd.AutoStop {
		cmd.Stop = c.regs.Read32(regCMDRSP3)
	}
}
