// Command rack starts the emulated rack and tells, step by step, how a server comes up
// under a Nitro Controller, until Ctrl-C: a card with this firmware is built and signed by
// development keys, a TPM is made, and the board with both is provisioned as in a factory.
// The board then verifies itself, and the host's firmware (OVMF, and U-Boot for a BMC that nobody
// emulates) in the flash that a second card stands in for, and releases the host. That is an x86
// machine with Debian's kernel (package linuxhost). It asks the board's metadata service
// on the private wire, connects the volume that a storage control plane (nitroctl) has
// made and attached with a key from a key service, makes a file system and works in it, over a restart of the controller
// too. The card, searched, holds no plaintext. Each step is told once its check has passed.
//
//	rack [-demo] [-folder folder] [-bootloader file] [-controller file] [-nitroctl file] [-new] [-port n] [-fio MiB] [-count] [-v]
//
// -demo begins with a new board, and ends when the last step is done: with exit code 0 only
// if every step's check has passed. -fio adds steps in which the host has fio write so many
// MiB on a second volume, and verify them, while its connections are cut and the controller
// restarts.
//
// What lasts from run to run is in the folder: development keys and the owner's clients
// (clients/<role>.pem and .key), which are made there, the card, the TPM, the factory's
// record of the board, the keys of volumes; and the consoles of the last run (board.log,
// host.log). The board is a new one when there is none, when the programs are others than the card
// has, or with -new. Port n of 127.0.0.1, or a free one if it is taken, leads to the
// firmware's HTTPS. -count has the emulator count instructions, which the firmware's boot
// log then shows; it is slower, and the board's clock falls behind. -v shows the consoles too, the
// host's behind "host:", and what the emulator reports and the board does with its pins.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"nitro/net/provisioning"
	"nitro/qemu-test/rack"
)

// httpsPort is where the firmware serves HTTPS.
const httpsPort = 443

type options struct {
	folder, bootloader, controller, nitroctl string
	fresh, demo                              bool
	fio                                      int64 // MiB
	port                                     int
	count, verbose                           bool
}

func main() {
	var o options
	flag.BoolVar(&o.demo, "demo", false, "begin with a new board, and end when the last step is done")
	flag.StringVar(&o.folder, "folder", "build/rack", "`folder` of what lasts: keys, card, TPM, record")
	flag.StringVar(&o.bootloader, "bootloader", "build/bootloader.elf", "`file` of the bootloader, an ELF image")
	flag.StringVar(&o.controller, "controller", "build/controller.elf", "`file` of the controller, an ELF image")
	flag.StringVar(&o.nitroctl, "nitroctl", "build/bin/nitroctl", "`file` of the operator's tool")
	flag.BoolVar(&o.fresh, "new", false, "begin with a new card and a new TPM")
	flag.Int64Var(&o.fio, "fio", 0, "`MiB` that the host has fio write and verify, half on a second volume itself, half in a file on it")
	flag.IntVar(&o.port, "port", 8443, "port of 127.0.0.1 that leads to the firmware's HTTPS; if it is taken, a free one is used")
	flag.BoolVar(&o.count, "count", false, "count instructions: slower, and the board's clock falls behind")
	flag.BoolVar(&o.verbose, "v", false, "show the consoles, the emulator's events, and what the board does with its pins")
	flag.Parse()
	o.fresh = o.fresh || o.demo
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "rack:", err)
		os.Exit(1)
	}
}

// run tells the story, and then waits unless it is a demonstration. All that it starts ends
// with it.
func run(ctx context.Context, o options, out io.Writer) error {
	t, err := newTale(o, out)
	if err != nil {
		return err
	}
	defer t.close()
	told := make(chan error, 1)
	go func() { told <- t.tell(ctx) }()
	select {
	case err = <-told:
	case <-ctx.Done():
		t.close() // ends what the steps wait for
		<-told
		fmt.Fprintln(out, "\nrack: switched off")
		return nil
	}
	if err != nil || o.demo {
		return err
	}
	t.explain()
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "\nrack: switched off")
		return nil
	case <-t.rack.Ended():
		if err := t.rack.Err(); err != nil {
			return err
		}
		return fmt.Errorf("the emulator has ended by itself: %s", t.rack.Complaints())
	}
}

// args has the emulator count instructions if that is wanted: one is a nanosecond of the
// board's time then, and time without work passes as everywhere.
func (o *options) args() []string {
	if o.count {
		return []string{"-icount", "shift=0"}
	}
	return nil
}

// freePort is the wanted port, or 0, which lets the system choose, if that is taken.
func freePort(want int) int {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", want))
	if err != nil {
		return 0
	}
	l.Close()
	return want
}

// explain says what can be tried next.
func (t *tale) explain() {
	clients := filepath.Join(t.bench.folder, "clients")
	as := func(role string) string {
		return fmt.Sprintf("-cert %[1]s/%[2]s.pem -key %[1]s/%[2]s.key", clients, role)
	}
	fmt.Fprintf(t.out, `
rack: https://%[1]s/ leads to the board's management port; the host is behind it, on its private wire. Try
  curl --insecure https://%[1]s/v1/status
  %[2]s attest verify -board %[1]s -release %[3]s -issuer %[4]s -accept-development -accept-open-life-cycle -accept-weak-secret
  %[2]s volume list -board %[1]s -pin %[5]s %[6]s
  %[2]s volume detach -board %[1]s -pin %[5]s %[6]s %[7]s
  %[2]s volume attach -board %[1]s -pin %[5]s %[6]s -keyservice https://127.0.0.1:%[8]d -keyservice-ca %[9]s/ca.pem %[7]s
  curl --insecure --cert %[9]s/operator.pem --key %[9]s/operator.key https://%[1]s/redfish/v1/Systems/host
rack: consoles: %[10]s and %[11]s; what the host does from now on follows; Ctrl-C switches all off
`, t.address, t.options.nitroctl, t.bench.released(), t.bench.issuerFile(), t.pin, as("storage-control-plane"), volumeName, t.keys.port, clients, t.bench.log("board"), t.bench.log("host"))
	go t.followHost()
}

// showEvents shows what the emulator reports, until it ends.
func showEvents(r *rack.Rack, out io.Writer) {
	for from := 0; ; from++ {
		e, err := r.QMP.Await(from, math.MaxInt64) // ends with the connection
		if err != nil {
			return
		}
		fmt.Fprintf(out, "rack: event %s %s\n", e.Name, e.Data)
	}
}

// showPins shows what the board does with its pins, until the emulator ends.
func showPins(r *rack.Rack, out io.Writer) {
	for shown := 0; ; {
		select {
		case <-r.Ended():
			return
		case <-time.After(100 * time.Millisecond):
		}
		for _, c := range r.Pins.Changes()[shown:] {
			fmt.Fprintln(out, "rack:", c)
			shown++
		}
	}
}

// provisioningPort is where the board's end of provisioning listens.
var provisioningPort = func() int {
	var n int
	fmt.Sscanf(provisioning.Port, ":%d", &n)
	return n
}()
