package sd

import (
	"errors"
	"time"

	"nitro/board/imx6ul/dma"
)

// A Host is a controller with one slot. One goroutine calls it at a time.
type Host interface {
	// Forget makes the host forget that a card was taken out.
	Forget()

	// Reset takes the slot's power away and gives it back, and leaves the controller
	// at no more than 400 kHz and one data line (6.4.1: the card has had its first
	// 74 clocks).
	Reset() error

	// SetClock makes the bus clock as fast as it can be, and no faster than hz.
	SetClock(hz uint32) error

	// SetWide makes the bus four data lines wide.
	SetWide() error

	// Do sends a command and waits until its answer and its data are through. The
	// errors that it wraps are ErrTimeout, ErrCRC, ErrDMA, ErrHost, and ErrNoCard
	// for a card that is not there, or that was taken out since Forget.
	Do(c *Command) error

	// ResetLines makes the controller forget a command that went wrong.
	ResetLines() error

	// Busy tells whether the card holds DAT0 low, as it does while it programs.
	Busy() bool
}

// A Response is the form of a command's answer (4.9).
type Response uint8

// The forms. R1b is R1 and may be followed by busy, which Do does not wait for.
const (
	NoResponse Response = iota
	R1
	R1b
	R2 // 136 bits: CID or CSD
	R3 // OCR, without CRC
	R6
	R7
)

// A Command is one command and what comes of it.
type Command struct {
	Index    uint8 // 0 to 63
	Arg      uint32
	Response Response
	Limit    time.Duration // from sending to the end of the data

	Data      dma.Buffer // no bytes: no data. Its length is a multiple of BlockSize
	BlockSize int        // bytes, at most 512
	Write     bool       // data goes to the card
	AutoStop  bool       // the controller sends CMD12 after the last block

	Answer uint32   // bits 39 to 8 of the response, but for R2
	Long   [16]byte // bits 127 to 8 of R2; the last byte, the CRC, is 0
	Stop   uint32   // the answer to the controller's own CMD12
}

// Errors that Do and the methods of a Card wrap.
var (
	ErrNoCard  = errors.New("no SD card answers in the slot, or it was taken out: insert it, and open it again")
	ErrTimeout = errors.New("the card does not answer in time")
	ErrCRC     = errors.New("a checksum or a frame on the bus is wrong: check the contacts, or slow down the clock")
	ErrDMA     = errors.New("the controller cannot reach the memory of the transfer")
	ErrHost    = errors.New("the controller does not finish")
)
