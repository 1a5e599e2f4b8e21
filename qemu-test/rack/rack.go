package rack

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"nitro/internal/tied"
	"nitro/qemu-test/emulator"
)

// Config is how a rack is set up.
type Config struct {
	Image string    // path of the ELF file; "" boots the first card, as the chip's boot ROM does
	Log   io.Writer // if set, gets the console as it comes

	NoTPM    bool   // the board has none
	TPMState string // the TPM's folder, kept; "" gives a new TPM that is gone with the rack

	Cards  [2]string // files of the cards in uSDHC1 and uSDHC2; "" is an empty slot
	EEPROM string    // file of an AT24C at 0x50 of I2C1, which has its size; "" is none
	Nets   []Net     // what is in the Ethernet ports: ENET1, then ENET2

	Expander bool   // a PCA9552 at 0x60 of I2C1, which a reset of the board leaves as it is
	Wires    []Wire // nets that begin at an output

	// Host puts an x86 host behind the expander's lines, whose flash is on the second card
	// (package cardflash). It adds HostWires and the expander.
	Host    bool
	HostLog io.Writer // if set, gets the host's console as it comes
	Linux   *Linux    // what the host's firmware boots; nil: it finds nothing to boot

	Args []string // further arguments for the emulator
	Hold bool     // switch on, but have the board stand still until QMP.Continue
}

// A Rack is a set-up that has power.
type Rack struct {
	*emulator.Board // its console and its GDB
	QMP             *emulator.QMP
	Pins            *Pins
	TPM             *TPM  // nil where there is none
	Host            *Host // nil where there is none

	folder *tied.Folder
	ram    *os.File
	nets   []*port
	over   sync.WaitGroup

	resetting sync.Mutex // one reset at a time
	mu        sync.Mutex
	closing   bool
	err       error
}

// Start switches a rack on. Who calls it must call Close.
func Start(c Config) (*Rack, error) {
	r := &Rack{}
	if err := r.start(c); err != nil {
		r.Close()
		return nil, fmt.Errorf("rack: %w", err)
	}
	return r, nil
}

func (r *Rack) start(c Config) (err error) {
	if c.Host {
		if c.Cards[1] == "" {
			return errors.New("a host needs its flash: give the second card")
		}
		c.Expander, c.Wires = true, append(HostWires(), c.Wires...)
	}
	if r.folder, err = tied.NewFolder("nitro-rack-"); err != nil {
		return err
	}
	if r.ram, err = newRAM(); err != nil {
		return err
	}
	args := []string{
		"-S", // until the pins have their levels
		"-action", "watchdog=pause",
		"-object", fmt.Sprintf("memory-backend-file,id=ram,size=%d,mem-path=/proc/self/fd/3,share=on", ramSize), "-machine", "memory-backend=ram",
	}
	for _, part := range []func(*Config) ([]string, error){r.tpmArgs, cardArgs, r.netArgs, i2cArgs} {
		more, err := part(&c)
		if err != nil {
			return err
		}
		args = append(args, more...)
	}
	if c.Image == "" {
		more, err := romArgs(&c, r.folder)
		if err != nil {
			return err
		}
		args = append(args, more...)
	}
	files := []*os.File{r.ram} // descriptor 3
	if r.Board, err = emulator.Start(emulator.Config{Image: c.Image, Log: c.Log, Files: files, Args: append(args, c.Args...)}); err != nil {
		return err
	}
	if r.QMP, err = r.Board.QMP(); err != nil {
		return err
	}
	if r.Pins, err = newPins(r.Board, r.QMP, c.Wires, c.Expander); err != nil {
		return err
	}
	if err := r.connectNets(&c); err != nil {
		return err
	}
	if c.Host {
		r.Host = newHost(r, &c)
		r.over.Go(r.Host.follow)
	}
	r.over.Go(r.followResets)
	if c.Hold {
		return nil
	}
	return r.QMP.Continue()
}

// tpmArgs starts the TPM.
func (r *Rack) tpmArgs(c *Config) (args []string, err error) {
	if c.NoTPM {
		return nil, nil
	}
	state := c.TPMState
	if state == "" {
		state = r.folder.Join("tpm")
	}
	if r.TPM, err = startTPM(r.folder, state); err != nil {
		return nil, err
	}
	return []string{
		"-chardev", "socket,id=chrtpm,path=" + r.folder.Join(tpmSocket), "-tpmdev", "emulator,id=tpm0,chardev=chrtpm",
		"-device", "tpm-tis-i2c,tpmdev=tpm0,address=0x2e,bus=i2c-bus.0",
	}, nil
}

// i2cArgs puts the expander and the EEPROM on I2C1.
func i2cArgs(c *Config) (args []string, err error) {
	if c.Expander {
		args = append(args, "-device", "pca9552,id=exp0,bus=i2c-bus.0,address=0x60")
	}
	if c.EEPROM != "" {
		info, err := os.Stat(c.EEPROM)
		if err != nil {
			return nil, fmt.Errorf("EEPROM: %w", err)
		}
		args = append(args, "-drive", "if=none,id=eeprom,format=raw,file="+optionValue(c.EEPROM),
			"-device", fmt.Sprintf("at24c-eeprom,bus=i2c-bus.0,address=0x50,rom-size=%d,drive=eeprom", info.Size()))
	}
	return args, nil
}

// optionValue writes a name as a value among QEMU's options: a comma is doubled.
func optionValue(name string) string { return strings.ReplaceAll(name, ",", ",,") }

// Reset resets the board as its reset button would, with the TPM.
func (r *Rack) Reset() error { return r.ResetAnd(func([]byte) {}) }

// ResetAnd resets the board, and has something happen to the expander meanwhile: to its
// registers PSC0 to LS3.
func (r *Rack) ResetAnd(change func(registers []byte)) error {
	r.resetting.Lock()
	defer r.resetting.Unlock()
	if err := r.QMP.Stop(); err != nil {
		return err
	}
	return r.reset(change)
}

// wdog1WCR is WDOG1's control register. With WDA and SRS clear it asks for a reset at once
// (IMX6ULLRM 59.7.1).
const wdog1WCR = 0x020bc000

// Bite has the board's watchdog reset it, as when the firmware does not serve it any more.
func (r *Rack) Bite() error {
	r.Pins.mu.Lock()
	q := r.Pins.qtest
	r.Pins.mu.Unlock()
	if q == nil {
		return errors.New("rack: the board is being reset, or is off")
	}
	return q.Write16(wdog1WCR, 0)
}

// reset resets a board that stands still, and has it go on.
func (r *Rack) reset(change func(registers []byte)) error {
	if err := r.Pins.beforeReset(); err != nil {
		return err
	}
	change(r.Pins.kept[:])
	if err := r.QMP.Reset(); err != nil {
		return err
	}
	if err := r.Pins.afterReset(); err != nil {
		return err
	}
	return r.QMP.Continue()
}

// followResets resets the board whenever its watchdog wants it. It returns when the
// emulator has ended.
func (r *Rack) followResets() {
	for from := 0; ; {
		e, err := r.QMP.Await(from, math.MaxInt64, "WATCHDOG") // ends with the connection
		if err != nil {
			return
		}
		from = e.N + 1
		if err := r.watchdogReset(); err != nil {
			r.fail(fmt.Errorf("resetting the board: %w", err))
			return
		}
	}
}

// watchdogReset does nothing when somebody else was quicker.
func (r *Rack) watchdogReset() error {
	r.resetting.Lock()
	defer r.resetting.Unlock()
	// The event comes a moment before the board stands still.
	for end := time.Now().Add(resetLimit); ; time.Sleep(time.Millisecond) {
		running, state, err := r.QMP.Running()
		switch {
		case err != nil:
			return err
		case state == "watchdog":
			return r.reset(func([]byte) {})
		case !running:
			return nil
		case time.Now().After(end):
			return nil // it was reset meanwhile, and runs
		}
	}
}

// resetLimit is how long the emulator may take to stop a board that its watchdog resets.
const resetLimit = time.Second

// fail keeps what went wrong with the rack itself, and switches it off: a board whose
// pins are not what they should be must not go on.
func (r *Rack) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closing || r.err != nil {
		return
	}
	r.err = fmt.Errorf("rack: %w", err)
	r.Board.Kill()
}

// Err tells what has gone wrong with the rack itself, as opposed to the board.
func (r *Rack) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return errors.Join(r.err)
}

// Cut switches off without warning: board and TPM are killed. What the board has
// written to its cards, and the TPM to its folder, is there; nothing more is written.
func (r *Rack) Cut() {
	r.Board.Kill()
	if r.TPM != nil {
		r.TPM.Kill()
	}
	r.Close()
}

// Close switches off, waits until all programs are gone, and removes what was
// temporary. Closing again does no harm.
func (r *Rack) Close() {
	r.mu.Lock()
	r.closing = true
	r.mu.Unlock()
	if r.Board != nil {
		r.Board.Close()
	}
	if r.Host != nil {
		r.Host.close()
	}
	if r.Pins != nil {
		r.Pins.disconnect()
	}
	r.over.Wait() // ends with the emulator's connections
	for _, p := range r.nets {
		p.close()
	}
	if r.TPM != nil {
		r.TPM.close()
	}
	if r.ram != nil {
		r.ram.Close()
	}
	if r.folder != nil {
		r.folder.Remove()
	}
}
