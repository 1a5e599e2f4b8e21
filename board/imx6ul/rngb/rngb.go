// Package rngb drives the i.MX 6ULL's random number generator, RNGB (IMX6ULLRM
// Rev. 1 11/2017, chapter 44): it finds the block, has it test itself, seeds it from
// its ring oscillators, and reads what it generates. The block reseeds itself every
// 2^20 words (44.4). The i.MX 6UltraLite has CAAM in its place, and QEMU neither.
//
// Interrupts are left out: a seed is ready within a tenth of a second, words at once.
// The block's clock must run; on the ULL it has no gate of its own.
package rngb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/board/imx6ul/mmio"
)

// Base and Size are the block's place (IMX6ULLRM 2.2).
const (
	Base = 0x02284000
	Size = 0x1000
)

// Registers (44.6).
const (
	regVER       = 0x00 // 44.6.1, version: type, major and minor
	verTypeShift = 28
	verTypeRNGB  = 1
	verMajor     = 8

	regCMD      = 0x04   // 44.6.2, command
	cmdSelfTest = 1 << 0 // ST
	cmdSeed     = 1 << 1 // GS
	cmdClearInt = 1 << 4 // CI
	cmdClearErr = 1 << 5 // CE
	cmdReset    = 1 << 6 // SR

	regCR         = 0x08   // 44.6.3, control
	crAutoReseed  = 1 << 4 // AR
	crMaskDone    = 1 << 5
	crMaskErr     = 1 << 6
	crUnderflowBE = 2 // FUFMOD: reading an empty FIFO sets an error, and no bus fault

	regSR        = 0x0c   // 44.6.4, status
	srBusy       = 1 << 1 // BUSY
	srTestDone   = 1 << 4 // STDN
	srSeedDone   = 1 << 5 // SDN
	srLevelShift = 8      // FIFO_LVL, 4 bits: words to read
	srLevelMask  = 0xf
	srErr        = 1 << 16
	srTestFailed = 0xffe00000 // ST_PF and STATPF: a 1 is a failed test

	regESR = 0x10 // 44.6.5, which error
	regOUT = 0x14 // 44.6.6, a word
)

// Limits. The self-test takes 29,000 cycles of the 66 MHz clock (44.4.2.1), seeding
// at least 20,000 samples of the oscillators; one word 57 cycles.
const (
	testLimit = 100 * time.Millisecond
	seedLimit = time.Second
	wordLimit = 10 * time.Millisecond
)

// Errors that New and Read wrap.
var (
	ErrFailed  = errors.New("the generator failed its tests: do not use this chip's random numbers")
	ErrNoWord  = errors.New("the generator gives no words: check its clock")
	ErrRepeats = errors.New("the generator repeats a word: do not use this chip's random numbers")
)

// Probe reads the block's version. The error tells that the chip has none.
func Probe(r mmio.Registers) (major, minor uint8, err error) {
	v, err := mmio.Probe(r, regVER)
	if err != nil {
		return 0, 0, fmt.Errorf("rngb: %w", err)
	}
	if v>>verTypeShift != verTypeRNGB {
		return 0, 0, fmt.Errorf("rngb: VER %#x is not that of an RNGB: take random numbers from elsewhere", v)
	}
	return uint8(v >> verMajor), uint8(v), nil
}

// An RNGB is the block, seeded. Its methods may be called by several goroutines.
type RNGB struct {
	mu   sync.Mutex
	regs mmio.Registers
	last uint32
}

// New tests and seeds the block behind r, which Probe has found there. It takes up
// to a second.
func New(r mmio.Registers) (*RNGB, error) {
	b := &RNGB{regs: r}
	r.Write32(regCMD, cmdReset)
	r.Write32(regCR, crMaskDone|crMaskErr|crUnderflowBE)
	if err := b.run("self-test", cmdSelfTest, srTestDone, testLimit); err != nil {
		return nil, err
	}
	if err := b.run("seeding", cmdSeed, srSeedDone, seedLimit); err != nil {
		return nil, err
	}
	r.Write32(regCR, crMaskDone|crMaskErr|crUnderflowBE|crAutoReseed)
	first, err := b.word()
	b.last = first // for the comparison only: it is not given out
	return b, err
}

// run has the block do something and waits until it is done.
func (b *RNGB) run(what string, command, done uint32, limit time.Duration) error {
	b.regs.Write32(regCMD, cmdClearInt|cmdClearErr|command)
	var status uint32
	ended := mmio.Wait(func() bool {
		status = b.regs.Read32(regSR)
		return status&(done|srErr) != 0 && status&srBusy == 0
	}, limit)
	if !ended || status&(srErr|srTestFailed) != 0 {
		return fmt.Errorf("rngb: %s, SR %#x, ESR %#x: %w", what, status, b.regs.Read32(regESR), ErrFailed)
	}
	return nil
}

// word reads one word.
func (b *RNGB) word() (uint32, error) {
	var status uint32
	there := mmio.Wait(func() bool {
		status = b.regs.Read32(regSR)
		return status&srErr != 0 || status>>srLevelShift&srLevelMask != 0
	}, wordLimit)
	switch {
	case status&srErr != 0:
		return 0, fmt.Errorf("rngb: SR %#x, ESR %#x: %w", status, b.regs.Read32(regESR), ErrFailed)
	case !there:
		return 0, fmt.Errorf("rngb: SR %#x: %w", status, ErrNoWord)
	}
	return b.regs.Read32(regOUT), nil
}

// Read fills p with random bytes. Two equal words in a row are an error (FIPS 140-2,
// 4.9.2, the continuous test): once in 2^32 words of a generator that works, always
// of one that is stuck. p is zeroed then.
func (b *RNGB) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for at := 0; at < len(p); at += 4 {
		v, err := b.word()
		if err == nil && v == b.last {
			err = fmt.Errorf("rngb: %w", ErrRepeats)
		}
		if err != nil {
			clear(p)
			return 0, err
		}
		b.last = v
		var word [4]byte
		binary.LittleEndian.PutUint32(word[:], v)
		copy(p[at:], word[:])
	}
	return len(p), nil
}
