// Package sd speaks to an SD memory card: SD Specifications Part 1, Physical Layer
// Simplified Specification, Version 6.00 (April 2017), whose sections the code
// names. A [Card] is a block device on a card of any capacity up to 2 TiB: SDSC with
// byte addresses, SDHC and SDXC with block addresses. The bus has one or four lines
// and runs at 3.3 V, at up to 50 MHz where the card has high speed.
//
// What goes wrong on the bus is tried again, a few times; then the card is
// identified anew, once. A card that was taken out, or that is not the same after
// that, is an error until its owner opens it again: whoever trusts what lies on the
// card must look at it anew then.
//
// Left out: eMMC and MMC, SDUC, SDIO, 1.8 V and the UHS modes, passwords, erasing,
// and the SPI mode.
package sd

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/board/imx6ul/dma"
)

// BlockSize is a block's length in bytes, whatever the card.
const BlockSize = 512

// Errors of a Card, beside those of its host.
var (
	ErrChanged   = errors.New("another card is in the slot: open it, and look at what is on it")
	ErrNotOpen   = errors.New("the card is not open: open it")
	ErrRange     = errors.New("not within the card")
	ErrStatus    = errors.New("the card reports an error")
	ErrProtected = errors.New("the card is protected against writing: use another")
	ErrLocked    = errors.New("the card is locked with a password: use another")
	ErrNotSD     = errors.New("what is in the slot is no SD memory card for 3.3 V: use another")
	ErrNonsense  = errors.New("the card's registers make no sense: use another")
)

// Limits.
const (
	tries = 3 // of a transfer, before and without the one after a new identification

	commandLimit = 100 * time.Millisecond // an answer begins within 64 clocks (4.12)

	// dataLimit is of a whole transfer. A card may take 100 ms until data comes, and
	// 500 ms for a block that it programs (4.6.2); the slowest write 2 MB/s.
	dataLimit = 2 * time.Second

	busyLimit = 1 * time.Second // after a write: 500 ms (4.6.2.2), and as much again
)

// Stats count what a Card did since it was made.
type Stats struct {
	Commands      uint64 // sent, those of identifications included
	BlocksRead    uint64
	BlocksWritten uint64

	Retries         uint64 // of transfers
	LineResets      uint64
	Identifications uint64

	Timeouts, CRC, DMA, Host, Status uint64 // errors by kind: those of this package
	Removals, Changes                uint64
}

// A Card is the card in a host's slot. Its methods may be called by several
// goroutines; one transfer runs at a time.
type Card struct {
	mu     sync.Mutex
	host   Host
	small  dma.Buffer // for the card's registers: they are read between two tries of a write, too
	buffer dma.Buffer // for blocks
	cmd    Command    // the last one, here so that none is allocated
	lost   error      // why there is no card; nil when it is open
	unsure bool       // a transfer or an identification broke off: the next one begins with an identification
	stats  Stats
	identity
}

// An identity is what is known of the card.
type identity struct {
	rca       uint32 // relative card address, where an argument has it
	cid       CID
	rawCSD    [16]byte
	csd       CSD
	scr       SCR
	highSpeed bool
}

// New makes a Card of a slot. Transfers go through the buffer, one copy each. Its
// length is a multiple of 512 bytes: the first 512 are for the card's registers, and
// the rest is the most that one command moves.
func New(h Host, buffer dma.Buffer) (*Card, error) {
	if n := len(buffer.Bytes); n < 2*BlockSize || n%BlockSize != 0 || n > (1+maxBlocks)*BlockSize {
		return nil, fmt.Errorf("sd: a buffer of %d bytes: use 2 to %d blocks of %d bytes", n, 1+maxBlocks, BlockSize)
	}
	return &Card{host: h, small: part(buffer, 0, BlockSize), buffer: part(buffer, BlockSize, len(buffer.Bytes)), lost: ErrNotOpen}, nil
}

// part gives the bytes from one place to another of a buffer.
func part(b dma.Buffer, from, to int) dma.Buffer {
	return dma.Buffer{Bytes: b.Bytes[from:to:to], Addr: b.Addr + uint32(from)}
}

// maxBlocks is what the slowest card moves within dataLimit, and more than Linux asks
// for at a time. (Controllers count to 65,535.)
const maxBlocks = 1024

// Open identifies the card that is in the slot, whichever it is: at first, and again
// after ErrNoCard and ErrChanged.
func (c *Card) Open() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.host.Forget()
	c.lost, c.unsure = c.identify(), false
	if c.lost != nil {
		c.count(c.lost)
		return fmt.Errorf("sd: %w", c.lost)
	}
	return nil
}

// CID identifies the card.
func (c *Card) CID() CID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cid
}

// String describes the card for a log.
func (c *Card) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost != nil {
		return "sd: " + c.lost.Error()
	}
	lines := 1
	if c.scr.Wide {
		lines = 4
	}
	return fmt.Sprintf("sd: %v: %d blocks, %d lines, high speed %v", c.cid, c.csd.Blocks, lines, c.highSpeed)
}

// BlockSize gives 512.
func (c *Card) BlockSize() int { return BlockSize }

// Blocks gives the number of blocks of the card that was opened last.
func (c *Card) Blocks() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.csd.Blocks
}

// Stats gives the counts.
func (c *Card) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stats
}

// ReadBlocks fills p, whole blocks, from the card.
func (c *Card) ReadBlocks(first uint64, p []byte) error { return c.transfer(first, p, false) }

// WriteBlocks writes p, whole blocks, to the card. They are on the card when it
// returns without an error; with one, any of them may be.
func (c *Card) WriteBlocks(first uint64, p []byte) error { return c.transfer(first, p, true) }

// transfer goes piece by piece through the buffer.
func (c *Card) transfer(first uint64, p []byte, write bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	verb := "read"
	if write {
		verb = "write"
	}
	fail := func(err error) error {
		return fmt.Errorf("sd: %s of %d bytes at block %d: %w", verb, len(p), first, err)
	}
	n := uint64(len(p)) / BlockSize
	switch {
	case c.lost != nil:
		return fail(c.lost)
	case len(p)%BlockSize != 0:
		return fail(fmt.Errorf("not a multiple of %d bytes: %w", BlockSize, ErrRange))
	case first > c.csd.Blocks || n > c.csd.Blocks-first:
		return fail(fmt.Errorf("the card has %d blocks: %w", c.csd.Blocks, ErrRange))
	case write && c.csd.Protected:
		return fail(ErrProtected)
	}
	for at := first; len(p) > 0; {
		size := min(len(p), len(c.buffer.Bytes))
		piece := part(c.buffer, 0, size)
		if write {
			copy(piece.Bytes, p)
		}
		if err := c.move(at, piece, write); err != nil {
			return fail(err)
		}
		if !write {
			copy(p, piece.Bytes)
		}
		p, at = p[size:], at+uint64(size)/BlockSize
	}
	if write {
		c.stats.BlocksWritten += n
	} else {
		c.stats.BlocksRead += n
	}
	return nil
}
