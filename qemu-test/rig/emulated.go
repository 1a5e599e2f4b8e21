package rig

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"nitro/boot/release"
	"nitro/internal/metal"
	"nitro/internal/tied"
	"nitro/qemu-test/console"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/rack"
)

// buildLimit is how long the firmware may take to be built.
const buildLimit = 15 * time.Minute

// An emulated board is one of the emulator's, new, with materials of its own making. Its ports
// on this machine are the same over all times of power.
type emulated struct {
	console *console.Console
	folder  *tied.Folder
	ports   map[Port]int
	rack    *rack.Rack // nil without power
}

// boardPorts are those of the board.
var boardPorts = map[Port]int{Service: 443, Provisioning: 4430}

// newEmulated makes one without power.
func newEmulated(ctx context.Context, log io.Writer) (*emulated, error) {
	e := &emulated{console: console.New(log), ports: map[Port]int{}}
	var err error
	if e.folder, err = tied.NewFolder("nitro-rig-"); err != nil {
		return nil, fmt.Errorf("rig: %w", err)
	}
	if err = e.make(ctx); err == nil {
		err = e.choosePorts()
	}
	if err != nil {
		e.folder.Remove()
		return nil, fmt.Errorf("rig: %w", err)
	}
	return e, nil
}

func (e *emulated) materials() string { return e.folder.Join("materials") }

// make builds the firmware, two releases of it, a card and a TPM, and leaves what a bench needs
// as materials.
func (e *emulated) make(ctx context.Context) error {
	if err := os.Mkdir(e.materials(), 0o700); err != nil {
		return err
	}
	material := func(name string) string { return e.folder.Join("materials/" + name) }
	f, err := factory.Open(material("keys"), material("clients"))
	if err != nil {
		return err
	}
	first, next, err := e.releases(ctx, f)
	if err != nil {
		return err
	}
	configuration, err := f.Configuration(1, nil)
	if err != nil {
		return err
	}
	issuer, _, err := f.Keys.Issuer()
	if err != nil {
		return err
	}
	err = errors.Join(f.Card(e.folder.Join("card.img"), configuration, first), factory.MakeTPM(e.folder.Join("tpm")),
		first.Write(material("release")), next.Write(material("release-next")),
		os.WriteFile(material("issuer.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Raw}), 0o644))
	if err != nil {
		return err
	}
	maker, err := os.ReadFile(e.folder.Join("tpm/maker.pem"))
	if err != nil {
		return err
	}
	return os.WriteFile(material("maker.pem"), maker, 0o644)
}

// releases builds the firmware, and a release that it can be updated to.
func (e *emulated) releases(ctx context.Context, f *factory.Factory) (first, next *release.Release, err error) {
	ctx, cancel := context.WithTimeout(ctx, buildLimit)
	defer cancel()
	bootloader, controller := e.folder.Join("bootloader.elf"), e.folder.Join("controller.elf")
	if err := (metal.Build{Bootloader: true}).Image(ctx, "nitro/cmd/bootloader", bootloader); err != nil {
		return nil, nil, err
	}
	if err := (metal.Build{}).Image(ctx, "nitro/cmd/controller", controller); err != nil {
		return nil, nil, err
	}
	if first, err = f.Release(bootloader, controller, factory.Version{Name: "1.0", Security: 1}); err == nil {
		next, err = f.Next(bootloader, controller, factory.Version{Name: "1.1", Security: 1}, first)
	}
	return first, next, err
}

// choosePorts chooses free ports of this machine.
func (e *emulated) choosePorts() error {
	for p := range boardPorts {
		l, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer l.Close()
		e.ports[p] = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}

// Console implements Board.
func (e *emulated) Console() *console.Console { return e.console }

// Address implements Board.
func (e *emulated) Address(p Port) (string, error) {
	here, ok := e.ports[p]
	if !ok {
		return "", fmt.Errorf("%w: %s", ErrNoPort, p)
	}
	return fmt.Sprintf("127.0.0.1:%d", here), nil
}

// On implements Board.
func (e *emulated) On(context.Context) (err error) {
	if e.rack != nil {
		return nil
	}
	forward := map[int]int{}
	for p, n := range boardPorts {
		forward[n] = e.ports[p]
	}
	e.rack, err = rack.Start(rack.Config{
		Log: e.console, TPMState: e.folder.Join("tpm"), Cards: [2]string{e.folder.Join("card.img")}, Expander: true, Wires: rack.HostWires(),
		Nets: []rack.Net{{Cable: rack.User, Forward: forward}, {Cable: rack.User}},
	})
	return err
}

// Off implements Board.
func (e *emulated) Off(context.Context) error {
	if e.rack == nil {
		return nil
	}
	e.rack.Cut()
	err := e.rack.Err()
	e.rack = nil
	return err
}

// Close implements Board.
func (e *emulated) Close() error {
	err := e.Off(context.Background())
	e.folder.Remove()
	return err
}
