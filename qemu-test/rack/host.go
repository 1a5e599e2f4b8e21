package rack

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"nitro/boot/card"
	"nitro/qemu-test/emulator"
	"nitro/resetctl/firmware"
	"nitro/resetctl/firmware/cardflash"
)

// A Host is the x86 machine that the board guards. It has power from the first press of its
// button on, and then stands still until nothing holds it.
type Host struct {
	rack *Rack
	card string // file of the card that has its flash
	log  io.Writer
	args []string // of the emulator, beside the flash's

	mu      sync.Mutex
	closed  bool
	powered bool
	machine *emulator.Board // nil without power, or without flash
	qmp     *emulator.QMP
	running bool
	boots   []*Boot
	refused []error       // why the flash was not the host's
	more    chan struct{} // closed when something changes
	off     chan struct{} // asks for the power to go
}

// A Boot is one run of the host, from the release of its processor on.
type Boot struct {
	Machine *emulator.Board // its console
	Digest  [32]byte        // SHA-256 of the whole flash that it runs from
	At      time.Time
	Ended   bool
	qmp     *emulator.QMP
}

// Running tells whether the machine runs, and the emulator's word for its state.
func (b *Boot) Running() (running bool, state string, err error) { return b.qmp.Running() }

// A Linux is an operating system for the host, which OVMF loads from the emulator (fw_cfg).
// It is not among what the board verifies.
type Linux struct{ Kernel, Initramfs, CommandLine string }

func newHost(r *Rack, c *Config) *Host {
	h := &Host{rack: r, card: c.Cards[1], log: c.HostLog, more: make(chan struct{}), off: make(chan struct{}, 1)}
	if l := c.Linux; l != nil {
		h.args = append(h.args, "-cpu", "max", "-kernel", l.Kernel, "-initrd", l.Initramfs, "-append", l.CommandLine)
	}
	for _, n := range c.Nets {
		if n.Cable == ToHost {
			h.args = append(h.args, "-netdev", "stream,id=wire,server=off,reconnect-ms=100,addr.type=unix,addr.path="+optionValue(r.hostWire()),
				"-device", "virtio-net-pci,netdev=wire,romfile=,mac="+newMAC())
		}
	}
	return h
}

// hostWire is the socket of the wire between the board's port and the host's.
func (r *Rack) hostWire() string { return r.folder.Join("hostwire") }

// overridePress is how long the button is pressed to cut the power (ACPI 6.5, 4.8.2.2.1).
const overridePress = 4 * time.Second

// follow has the host do what its nets say, until the board's emulator ends.
func (h *Host) follow() {
	drive := map[Pin]Drive{}
	var pressed time.Duration
	for seen := 0; ; {
		changes, more := h.rack.Pins.changesFrom(seen)
		for _, c := range changes {
			drive[c.Pin] = c.Drive
			if c.Pin == hostLines[WireButton] {
				h.button(c.Drive == Low, c.At-pressed)
				pressed = c.At
			}
			h.judge(drive)
		}
		seen += len(changes)
		if len(changes) > 0 {
			continue
		}
		select {
		case <-more:
		case <-h.ended():
			h.setPower(false)
		case <-h.off:
			h.setPower(false)
		case <-h.rack.Board.Ended():
			return
		}
	}
}

// ended is closed when the host has switched itself off; nil where there is none that could.
func (h *Host) ended() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.machine == nil {
		return nil
	}
	return h.machine.Ended()
}

// button is told that the power button went down, or up again.
func (h *Host) button(down bool, held time.Duration) {
	h.mu.Lock()
	powered, qmp := h.powered, h.qmp
	h.mu.Unlock()
	switch {
	case down && !powered:
		h.setPower(true)
	case !down && powered && held >= overridePress:
		h.setPower(false)
	case !down && powered && qmp != nil:
		h.fail(qmp.Do("system_powerdown", nil, nil)) // ACPI tells the host
	}
}

// setPower switches the host's power. The expander sees power good, and loses its registers
// when that goes.
func (h *Host) setPower(on bool) {
	h.mu.Lock()
	was := h.powered
	h.powered = on
	if !on {
		h.stop()
	}
	h.changed()
	h.mu.Unlock()
	h.fail(h.rack.Pins.Drive(PowerGood, !on))
	if was && !on {
		h.fail(h.rack.resetExpander())
	}
}

// changed wakes who waits. The caller has the lock.
func (h *Host) changed() {
	close(h.more)
	h.more = make(chan struct{})
}

// fail switches the rack off: a host that is not what its nets say must not go on. While the
// rack is being switched off everything fails.
func (h *Host) fail(err error) {
	if err != nil {
		h.rack.fail(fmt.Errorf("the host: %w", err))
	}
}

// stop ends the machine. The caller has the lock.
func (h *Host) stop() {
	if h.machine != nil {
		h.machine.Kill()
		h.machine.Close()
		if h.running {
			h.boots[len(h.boots)-1].Ended = true
		}
	}
	h.machine, h.qmp, h.running = nil, nil, false
}

// judge has the machine be what the nets say: there while there is power and the flash is
// the host's, and running while nothing holds it. A processor that is held again begins anew.
func (h *Host) judge(drive map[Pin]Drive) {
	h.mu.Lock()
	defer h.mu.Unlock()
	held := func(name string) bool { return drive[hostLines[name]] != Low }
	there := h.powered && !held(WireMux) && !h.closed
	run := there && !held(WirePlatform) && !held(WireHost)
	if h.machine != nil && (!there || h.running && !run) {
		h.stop()
		h.changed()
	}
	if there && h.machine == nil {
		if err := h.start(held(WireProtect)); err != nil {
			h.refused = append(h.refused, err)
			h.changed()
			return
		}
	}
	if run && !h.running && h.machine != nil {
		h.fail(h.qmp.Continue())
		h.running = true
		h.boots[len(h.boots)-1].At = time.Now()
		h.changed()
	}
}

// start makes the machine, which stands still, from a copy of the flash.
func (h *Host) start(protected bool) error {
	if !protected {
		return errors.New("rack: the host gets no flash: the line that guards its protection is let go")
	}
	flash, err := h.readFlash()
	if err != nil {
		return err
	}
	file := h.rack.folder.Join("flash.img")
	if err := os.RemoveAll(file); err != nil {
		return err
	}
	if err := os.WriteFile(file, flash, 0o400); err != nil {
		return err
	}
	h.machine, err = emulator.Start(emulator.Config{
		Program: emulator.HostProgram, Machine: "q35", Log: h.log,
		Args: append([]string{"-S", "-nodefaults", "-vga", "none", "-drive", "if=pflash,format=raw,readonly=on,file=" + optionValue(file)}, h.args...),
	})
	if err == nil {
		h.qmp, err = h.machine.QMP()
	}
	if err != nil {
		h.stop()
		return err
	}
	h.boots = append(h.boots, &Boot{Machine: h.machine, Digest: sha256.Sum256(flash), qmp: h.qmp})
	return nil
}

// readFlash copies the host's flash off the card. An x86 processor begins at the end of it,
// so a chip that does not protect that protects nothing.
func (h *Host) readFlash() ([]byte, error) {
	file, err := card.Open(h.card, false)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	chip, err := cardflash.Open(file, firmware.Host)
	if err != nil {
		return nil, err
	}
	guarded, err := chip.Protected()
	if err != nil {
		return nil, err
	}
	if n := len(guarded); n == 0 || guarded[n-1][0]+guarded[n-1][1] != chip.Size() {
		return nil, fmt.Errorf("rack: the host gets no flash: its chip protects %#x, and not its end", guarded)
	}
	flash := make([]byte, chip.Size())
	_, err = chip.ReadAt(flash, 0)
	return flash, err
}

// PowerOff takes the host's power away.
func (h *Host) PowerOff() {
	select {
	case h.off <- struct{}{}:
	default:
	}
}

// State tells how the host stands: its boots so far, those that were prepared and not
// released included, and why it was refused its flash.
func (h *Host) State() (powered, running bool, boots []*Boot, refused []error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.powered, h.running, append([]*Boot(nil), h.boots...), append([]error(nil), h.refused...)
}

// AwaitRunning waits until the host's processor runs, and gives its boot.
func (h *Host) AwaitRunning(limit time.Duration) (*Boot, error) {
	return h.await(true, limit)
}

// AwaitStopped waits until it does not.
func (h *Host) AwaitStopped(limit time.Duration) error {
	_, err := h.await(false, limit)
	return err
}

func (h *Host) await(running bool, limit time.Duration) (*Boot, error) {
	for late := time.After(limit); ; {
		h.mu.Lock()
		more := h.more
		if h.running == running {
			defer h.mu.Unlock()
			if !running {
				return nil, nil
			}
			return h.boots[len(h.boots)-1], nil
		}
		refused := h.refused
		h.mu.Unlock()
		select {
		case <-more:
		case <-h.rack.Board.Ended():
			return nil, errors.New("rack: the board's emulator ended")
		case <-late:
			return nil, fmt.Errorf("rack: the host's processor running is not %v within %v; it was refused %v; the pins were %v", running, limit, refused, h.rack.Pins.Changes())
		}
	}
}

// close ends the machine for good.
func (h *Host) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	h.stop()
}
