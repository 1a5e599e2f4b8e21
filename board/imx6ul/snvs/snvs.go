// Package snvs drives the i.MX 6UltraLite's Secure Non-Volatile Storage: the clock
// that a battery keeps, the state of the security monitor, the flag of a power
// glitch, and power off (IMX6ULLRM Rev. 1 11/2017, chapter 48; the security fields
// are those of the i.MX 6UltraLite Security Reference Manual).
//
// It uses only registers that User mode may write; those that want privilege (HPLR,
// HPCOMR) are left out, and so are alarms, tamper inputs, the monotonic counter and
// the zeroizable master key.
package snvs

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/board/imx6ul/mmio"
)

// Base and Size are the block's place (IMX6ULLRM 2.2).
const (
	Base = 0x020cc000
	Size = 0x4000
)

// Registers (48.7; those of the security monitor are reserved there).
const (
	regHPSR           = 0x14 // 48.7.4, status
	hpsrOTPMKZero     = 1 << 27
	hpsrSyndromeShift = 16
	hpsrSyndromeMask  = 0x1ff
	hpsrStateShift    = 8
	hpsrStateMask     = 0xf

	regLPCR     = 0x38 // 48.7.10, control
	lpcrSRTCENV = 1 << 0
	lpcrDPEN    = 1 << 5
	lpcrTOP     = 1 << 6

	regLPSR = 0x4c // 48.7.11, status, write 1 to clear
	lpsrPGD = 1 << 3

	regLPSRTCMR = 0x50 // clock, upper 15 bits
	regLPSRTCLR = 0x54 // clock, lower 32 bits

	regLPPGDR = 0x64       // power glitch detector
	pgdValue  = 0x41736166 // what it must hold for the flag to stay clear
)

// TicksPerSecond is the clock's rate.
const TicksPerSecond = 32768

const (
	ticksBits = 47
	// sync is how long a write may take to reach the 32 kHz domain: three ticks are
	// 92 us.
	sync32k = 10 * time.Millisecond
	// rereads bounds the reads of a running clock: it ticks every 30 us, two reads
	// take less than one.
	rereads = 8
	// powerOff is how long the power supply may take.
	powerOff = 2 * time.Second
)

// Errors that the methods wrap.
var (
	ErrClock  = errors.New("the clock does not do as it is told: check its crystal and battery")
	ErrGlitch = errors.New("the flag of a power glitch stays set: check the battery supply")
	ErrPower  = errors.New("the power is still on: check PMIC_ON_REQ's wiring")
)

// SNVS is the block. Its methods may be called by several goroutines.
type SNVS struct {
	mu   sync.Mutex
	regs mmio.Registers
}

// New drives the block behind r.
func New(r mmio.Registers) *SNVS { return &SNVS{regs: r} }

// Running tells whether the clock counts. It does not after the battery was away.
func (s *SNVS) Running() bool { return s.regs.Read32(regLPCR)&lpcrSRTCENV != 0 }

func (s *SNVS) ticks() uint64 {
	upper := uint64(s.regs.Read32(regLPSRTCMR)) << 32
	return (upper | uint64(s.regs.Read32(regLPSRTCLR))) & (1<<ticksBits - 1)
}

// Ticks reads the clock, in 1/32,768 s: twice, until both reads agree, since the
// halves can tick between the two.
func (s *SNVS) Ticks() (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := s.ticks()
	for range rereads {
		next := s.ticks()
		if next == last {
			return next, nil
		}
		last = next
	}
	return 0, fmt.Errorf("snvs: no two reads of the clock in %d agree, the last is %#x: %w", rereads+1, last, ErrClock)
}

// Time reads the clock as the time since it stood at zero.
func (s *SNVS) Time() (time.Duration, error) {
	t, err := s.Ticks()
	return time.Duration(t/TicksPerSecond)*time.Second + time.Duration(t%TicksPerSecond)*time.Second/TicksPerSecond, err
}

// SetTime sets the clock and starts it. It holds 136 years.
func (s *SNVS) SetTime(t time.Duration) error {
	if t < 0 || uint64(t/time.Second) >= 1<<ticksBits/TicksPerSecond {
		return fmt.Errorf("snvs: the clock cannot hold %v", t)
	}
	v := uint64(t/time.Second)*TicksPerSecond + uint64(t%time.Second)*TicksPerSecond/uint64(time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.run(false); err != nil {
		return err
	}
	s.regs.Write32(regLPSRTCMR, uint32(v>>32))
	s.regs.Write32(regLPSRTCLR, uint32(v))
	return s.run(true)
}

// run stops or starts the clock, and waits until it is.
func (s *SNVS) run(on bool) error {
	v := s.regs.Read32(regLPCR) &^ lpcrSRTCENV
	if on {
		v |= lpcrSRTCENV
	}
	s.regs.Write32(regLPCR, v)
	if !mmio.Wait(func() bool { return s.Running() == on }, sync32k) {
		return fmt.Errorf("snvs: LPCR %#x after %#x was written: %w", s.regs.Read32(regLPCR), v, ErrClock)
	}
	return nil
}

// A State is the security monitor's (HPSR, bits 11 to 8).
type State uint8

// The states.
const (
	Init      State = 0
	HardFail  State = 1
	SoftFail  State = 3
	Clearing  State = 8 // Init Intermediate
	Check     State = 9
	NonSecure State = 11
	Trusted   State = 13
	Secure    State = 15
)

func (s State) String() string {
	switch s {
	case Init:
		return "init"
	case HardFail:
		return "hard fail"
	case SoftFail:
		return "soft fail"
	case Clearing:
		return "init intermediate"
	case Check:
		return "check"
	case NonSecure:
		return "non-secure"
	case Trusted:
		return "trusted"
	case Secure:
		return "secure"
	}
	return fmt.Sprintf("unknown state %d", uint8(s))
}

// Status is what the security monitor reports.
type Status struct {
	State     State
	KeyIsZero bool   // OTPMK_ZERO: no master key is fused
	Syndrome  uint16 // of the fused master key's error code, 0 is good
	Glitch    bool   // a power glitch was seen, or the flag was never cleared
}

// HasOwnKey tells whether the chip's secrets are its own. Elsewhere (the part is
// open, or its key is missing or damaged) they come from a test key, which is the
// same on every chip.
func (s Status) HasOwnKey() bool {
	return (s.State == Trusted || s.State == Secure) && !s.KeyIsZero && s.Syndrome == 0
}

// Status reads the security monitor.
func (s *SNVS) Status() Status {
	v := s.regs.Read32(regHPSR)
	return Status{
		State:     State(v >> hpsrStateShift & hpsrStateMask),
		KeyIsZero: v&hpsrOTPMKZero != 0,
		Syndrome:  uint16(v >> hpsrSyndromeShift & hpsrSyndromeMask),
		Glitch:    s.regs.Read32(regLPSR)&lpsrPGD != 0,
	}
}

// ClearGlitch clears the flag of a power glitch, which is also set when the battery
// comes. The detector's value must be written first.
func (s *SNVS) ClearGlitch() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.regs.Write32(regLPPGDR, pgdValue)
	s.regs.Write32(regLPSR, lpsrPGD)
	if !mmio.Wait(func() bool { return s.regs.Read32(regLPSR)&lpsrPGD == 0 }, sync32k) {
		return fmt.Errorf("snvs: LPSR %#x: %w", s.regs.Read32(regLPSR), ErrGlitch)
	}
	return nil
}

// PowerOff has the power supply switch the board off. It returns only if that did
// not happen.
func (s *SNVS) PowerOff() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.regs.Write32(regLPCR, s.regs.Read32(regLPCR)|lpcrDPEN|lpcrTOP)
	time.Sleep(powerOff)
	return fmt.Errorf("snvs: LPCR %#x: %w", s.regs.Read32(regLPCR), ErrPower)
}
