package caam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/board/imx6ul/mmio"
)

// Registers of the TRNG (regs.h, struct rngtst).
const (
	regRTMCTL   = 0x600
	mctlRaw     = 1 << 0  // SAMP_MODE 1: raw samples into the shifter and the checker
	mctlAccess  = 1 << 5  // TRNG_ACC: the entropy can be read here
	mctlReset   = 1 << 6  // RST_DEF: all parameters as after reset
	mctlValid   = 1 << 10 // ENT_VAL
	mctlError   = 1 << 12 // ERR: the checks failed; writing 1 clears it
	mctlProgram = 1 << 16 // PRGM: parameters can be written

	regRTSDCTL  = 0x610 // samples of one entropy, and the delay of each in its upper half
	sampleCount = 2500
	sampleDelay = 3200 // system clocks; what Linux starts with

	regRTFRQMIN = 0x618 // bounds of how often the oscillator swings in a sample
	regRTFRQMAX = 0x61c
	minSwings   = sampleDelay / 4
	maxSwings   = sampleDelay * 16

	regRTSTATUS = 0x63c // which check failed
	regRTENT    = 0x640 // 16 words; reading the last one starts anew
	entropySize = 64    // bytes
)

// entropyLimit is how long 64 bytes may take: 2,500 samples of 3,200 clocks at 66 MHz
// are 121 ms, for 512 bits that are not compressed up to four times that.
const entropyLimit = 2 * time.Second

// tries is how often failed checks are forgiven in a row: a generator that works fails
// now and then by chance.
const tries = 3

// ErrRandom tells that the TRNG cannot be used.
var ErrRandom = errors.New("the generator fails its checks: do not use this chip's random numbers")

// A TRNG is CAAM's true random number generator. Its methods may be called by several
// goroutines.
type TRNG struct {
	mu   sync.Mutex
	regs mmio.Registers
	last [entropySize]byte
}

// NewTRNG sets the generator up. A CAAM must have been probed behind r.
func NewTRNG(r mmio.Registers) *TRNG {
	r.Write32(regRTMCTL, mctlProgram|mctlReset|mctlError)
	r.Write32(regRTSDCTL, sampleDelay<<16|sampleCount)
	r.Write32(regRTFRQMIN, minSwings)
	r.Write32(regRTFRQMAX, maxSwings)
	r.Write32(regRTMCTL, mctlRaw|mctlAccess|mctlError)
	return &TRNG{regs: r}
}

// Read fills p with entropy, about 64 bytes in a tenth of a second. What equals the
// 64 bytes before it is an error (the block is stuck); p is zeroed then.
func (g *TRNG) Read(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for at := 0; at < len(p); at += entropySize {
		if err := g.draw(); err != nil {
			clear(p)
			return 0, err
		}
		copy(p[at:], g.last[:])
	}
	return len(p), nil
}

// draw takes the next 64 bytes.
func (g *TRNG) draw() error {
	var control, status uint32
	for range tries {
		mmio.Wait(func() bool {
			control = g.regs.Read32(regRTMCTL)
			return control&(mctlValid|mctlError) != 0
		}, entropyLimit)
		if control&mctlError == 0 {
			break
		}
		status = g.regs.Read32(regRTSTATUS)
		g.regs.Write32(regRTMCTL, mctlRaw|mctlAccess|mctlError)
	}
	if control&mctlValid == 0 {
		return fmt.Errorf("caam: RTMCTL %#x, RTSTATUS %#x: %w", control, status, ErrRandom)
	}
	var next [entropySize]byte
	for i := range entropySize / 4 {
		binary.LittleEndian.PutUint32(next[i*4:], g.regs.Read32(regRTENT+uint32(i)*4))
	}
	if next == g.last || next == [entropySize]byte{} {
		return fmt.Errorf("caam: RTMCTL %#x, the entropy repeats: %w", control, ErrRandom)
	}
	g.last = next
	return nil
}
