// Command rack starts the emulated rack and shows the board's console until Ctrl-C: the
// board with a TPM, an SD card and two networks, of which the first can be reached from
// this machine, and an x86 host behind its lines. It boots as a board on a bench does:
// bootloader and controller from the card, measured, verified, the store unsealed; then the
// board verifies the host's firmware (OVMF, and U-Boot for a BMC that nobody emulates) in
// the flash that a second card stands in for, and releases the host, which boots it.
//
//	rack [-folder folder] [-bootloader file] [-controller file] [-new] [-port n] [-count] [-v]
//
// What lasts from run to run is in the folder: development keys and the owner's clients
// (clients/<role>.pem and .key), which are made there, the card, the TPM, and the factory's
// record of the board. A card is made with those keys and
// the board is provisioned when there is none, when the programs are others than the card
// has, or with -new. Port n of 127.0.0.1, or a free one if it is taken, leads to the
// firmware's HTTPS. -count has the emulator count instructions, which the firmware's boot
// log then shows; it is slower, and the board's clock falls behind. -v shows what the
// emulator reports and what the board does with its pins. The rack's own words begin with
// "rack:", the host's console with "host:", all else is the board's.
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
	folder, bootloader, controller string
	fresh                          bool
	port                           int
	count, verbose                 bool
}

func main() {
	var o options
	flag.StringVar(&o.folder, "folder", "build/rack", "`folder` of what lasts: keys, card, TPM, record")
	flag.StringVar(&o.bootloader, "bootloader", "build/bootloader.elf", "`file` of the bootloader, an ELF image")
	flag.StringVar(&o.controller, "controller", "build/controller.elf", "`file` of the controller, an ELF image")
	flag.BoolVar(&o.fresh, "new", false, "begin with a new card and a new TPM")
	flag.IntVar(&o.port, "port", 8443, "port of 127.0.0.1 that leads to the firmware's HTTPS; if it is taken, a free one is used")
	flag.BoolVar(&o.count, "count", false, "count instructions: slower, and the board's clock falls behind")
	flag.BoolVar(&o.verbose, "v", false, "show the emulator's events, and what the board does with its pins")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "rack:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options, out io.Writer) error {
	b, err := openBench(o, out)
	if err != nil {
		return err
	}
	r, err := rack.Start(rack.Config{
		Log: out, Hold: true,
		TPMState: b.tpm(),
		Cards:    [2]string{b.card(), b.flash()},
		Host:     true,
		HostLog:  &lines{to: out, prefix: "host: "},
		Nets:     []rack.Net{{Forward: map[int]int{httpsPort: freePort(o.port), provisioningPort: 0}}, {}},
		Args:     o.args(),
	})
	if err != nil {
		return err
	}
	defer r.Close()
	address, err := r.Address(httpsPort)
	if err != nil {
		return err
	}
	o.explain(out, b, address)
	if o.verbose {
		fmt.Fprintf(out, "rack: the emulator is process %d, the TPM %d\n", r.PID(), r.TPM.PID())
		go showEvents(r, out)
		go showPins(r, out)
	}
	if err := r.QMP.Continue(); err != nil {
		return err
	}
	failed := make(chan error, 1)
	go showHost(r, out)
	go func() {
		if err := b.provision(ctx, r); err != nil {
			failed <- err
		}
	}()
	select {
	case <-ctx.Done():
		fmt.Fprintln(out, "\nrack: switched off")
		return nil
	case err := <-failed:
		return err
	case <-r.Ended():
		if err := r.Err(); err != nil {
			return err
		}
		return fmt.Errorf("the emulator has ended by itself: %s", r.Complaints())
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

func (o *options) explain(out io.Writer, b *bench, address string) {
	fmt.Fprintf(out, `rack: the emulated MCIMX6UL-EVK boots its card: %s, then %s
rack: card, TPM, development keys: %s
rack: https://%s/ leads to port %d of the board's first Ethernet port; once it is ready, try
rack:   curl --insecure https://%[4]s/v1/status
rack:   curl --insecure https://%[4]s/v1/evidence -d '{"nonce":"0011223344556677"}'
rack: and as the owner's operator (or auditor, fleet-verifier, release-manager, storage-control-plane)
rack:   curl --insecure --cert %[6]s/operator.pem --key %[6]s/operator.key https://%[4]s/redfish/v1/Systems/host
rack: Ctrl-C switches off; the console follows
`, o.bootloader, o.controller, filepath.Clean(b.folder), address, httpsPort, filepath.Join(b.folder, "clients"))
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

// showHost says when the host's processor begins to run, and when it ends.
func showHost(r *rack.Rack, out io.Writer) {
	for {
		boot, err := r.Host.AwaitRunning(math.MaxInt64) // ends with the emulator
		if err != nil {
			return
		}
		fmt.Fprintf(out, "rack: the host runs: x86 (process %d), from flash with SHA-256 %x\n", boot.Machine.PID(), boot.Digest)
		if r.Host.AwaitStopped(math.MaxInt64) != nil {
			return
		}
		fmt.Fprintln(out, "rack: the host's processor is held")
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
