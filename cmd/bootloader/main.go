// Command bootloader is the first image that runs on the board: it measures itself and
// what the boot stands on into the TPM, chooses a slot of the card, verifies and measures
// the controller in it, and starts it with log, secret and seed (package chain).
//
// When something is wrong it rests: the host's lines stay held, the code is on the console
// and in the lamp's blinking, and nothing but the power switch goes on from there.
package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"runtime"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"nitro/attest/eventlog"
	"nitro/attest/tis"
	"nitro/board"
	"nitro/board/cpu/counter"
	"nitro/board/next"
	"nitro/board/phase"
	"nitro/boot/chain"
	"nitro/boot/code"
	"nitro/boot/handover"
	"nitro/boot/image"
	"nitro/boot/medium"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("bootloader: ")
	log.SetOutput(os.Stdout)
	log.Printf("%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	phase.ReportReset()
	m := machine{}
	err := m.start()
	if m.dog == nil {
		log.Fatalf("%v", err) // the kernel resets the board: nothing would watch over it
	}
	if code.Of(err) == code.None {
		err = code.BoardUnusable.Errorf("%w", err) // and not a reset: that would be one after the other for ever
	}
	m.rest(err)
}

// A machine is the board with what the phases hand on.
type machine struct {
	board  board.Board
	dog    *os.File
	window *next.Window
	chain  *chain.Loader // nil until the board is open

	instructionTime uint64 // ns, if an emulator counts instructions
}

// start starts the controller. It returns only with the reason why it could not.
func (m *machine) start() (err error) {
	if m.dog, err = os.OpenFile("/dev/watchdog", os.O_WRONLY, 0); err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	if err := phase.Run(&m.instructionTime, m.guarded("board", m.openBoard), m.guarded("window", m.openWindow)); err != nil {
		return err
	}
	l, err := m.loader()
	if err != nil {
		return err
	}
	m.chain = l
	for _, p := range l.Phases() {
		if err := phase.Run(&m.instructionTime, m.guarded(p.Name, p.Do)); err != nil {
			return err
		}
	}
	header, h, err := l.Result()
	if err != nil {
		return err
	}
	if err := m.handOver(h); err != nil {
		return err
	}
	log.Printf("starting the controller, version %s, at %#x", header.Version, header.Entry)
	return m.window.Start(header.Load, uint32(header.Length), header.Entry)
}

// guarded gives a phase the watchdog's full time, and no more.
func (m *machine) guarded(name string, do func() error) phase.Phase {
	return phase.Phase{Name: name, Do: func() error {
		if err := m.service(); err != nil {
			return err
		}
		return do()
	}}
}

func (m *machine) service() error {
	if _, err := m.dog.Write([]byte{1}); err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	return nil
}

func (m *machine) openBoard() (err error) {
	if m.board, err = open(); err != nil {
		return err
	}
	if m.board.Emulated() {
		m.instructionTime = counter.InstructionTime()
	}
	return nil
}

func (m *machine) openWindow() (err error) {
	m.window, err = next.Open()
	return err
}

// loader is the chain's first half on this board.
func (m *machine) loader() (*chain.Loader, error) {
	b := m.board
	secret, worth, err := b.Secret()
	if err != nil {
		return nil, code.SecretUnavailable.Errorf("%w", err)
	}
	defer clear(secret[:])
	id, err := b.UniqueID()
	if err != nil {
		return nil, err
	}
	closed, err := b.Closed()
	if err != nil {
		return nil, err
	}
	random, err := b.Random()
	if err != nil {
		return nil, code.TPMEntropyAbsent.Errorf("%w", err)
	}
	l := &chain.Loader{
		Product: b.Product(), UniqueID: id, LifeCycle: eventlog.Open,
		Secret: secret, Strength: handover.Strength(worth), Random: random,
		OpenCard: func() (medium.Device, error) {
			c, err := b.Card(0)
			if err != nil {
				return nil, err
			}
			return c, nil
		},
		OpenTPM:   m.openTPM,
		Constants: next.Constants,
		Place:     m.place,
		Stir:      func(entropy []byte) error { return os.WriteFile("/dev/seed", entropy, 0) },
		Report:    log.Printf,
	}
	if closed {
		l.LifeCycle = eventlog.Closed
	}
	return l, nil
}

func (m *machine) openTPM() (transport.TPM, error) {
	bus := m.board.TPMBus()
	if bus == nil {
		return nil, code.TPMAbsent.Errorf("%s has no TPM", m.board.Name())
	}
	t, err := tis.Open(bus, tis.DefaultAddress)
	if err != nil {
		return nil, err // not t: a nil *tis.TPM is no nil transport
	}
	return t, nil
}

// place is the part of the window where the payload goes.
func (m *machine) place(h image.Header) ([]byte, error) {
	w := m.window
	if err := m.service(); err != nil {
		return nil, err
	}
	at := uint64(h.Load) - uint64(w.Addr)
	if h.Load < w.Addr || at+h.Length > uint64(len(w.Memory)) {
		return nil, fmt.Errorf("the payload of %#x bytes at %#x does not fit between %#x and %#x", h.Length, h.Load, w.Addr, uint64(w.Addr)+uint64(len(w.Memory)))
	}
	return w.Memory[at : at+h.Length : at+h.Length], nil
}

// handOver fills the block that the controller reads.
func (m *machine) handOver(h *handover.Handover) error {
	defer h.Zero()
	block, err := next.Handover()
	if err != nil {
		return err
	}
	c := phase.Count()
	h.Executed, h.Elapsed = uint32(c.Instructions(m.instructionTime)), uint64(c.Uptime().Microseconds())
	return handover.Put(block, h)
}

// Times of resting: how long the lamp is on and off for a blink, and between numbers.
const (
	blink   = 250 * time.Millisecond
	between = time.Second
	service = 5 * time.Second
)

// rest holds all and shows the code until the power is switched off. The lamp blinks the
// code's digits, ten times for a zero.
func (m *machine) rest(why error) {
	c := code.Of(why)
	log.Printf("%v", why)
	if err := m.service(); err == nil && m.chain != nil {
		m.chain.Rest(why)
	}
	log.Printf("quarantine: code %v", c)
	if e, ok := code.Lookup(c); ok {
		log.Printf("%s", e.Next)
	}
	if m.board != nil {
		if lamp := m.board.StatusLED(); lamp != nil {
			go showCode(lamp, c)
		}
	}
	for {
		if err := m.service(); err != nil {
			log.Fatal(errors.Join(why, err))
		}
		time.Sleep(service)
	}
}

func showCode(lamp board.Lamp, c code.Code) {
	for {
		for _, digit := range fmt.Sprint(uint16(c)) {
			n := int(digit - '0')
			if n == 0 {
				n = 10
			}
			for range n {
				lamp.Light(true)
				time.Sleep(blink)
				lamp.Light(false)
				time.Sleep(blink)
			}
			time.Sleep(between)
		}
		time.Sleep(between)
	}
}
