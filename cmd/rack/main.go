// Command rack starts the emulated rack and tells, step by step and with the time of each,
// what happens in it: the board with a TPM, an SD card and two networks, of which the first
// can be reached from this machine, an x86 host behind its lines and at the end of its
// second network, and a key service in this process. The board boots as one on a bench
// does, from its card, measured, verified, the store unsealed; it verifies the host's
// firmware (OVMF, and U-Boot for a BMC that nobody emulates) in the flash that a second card
// stands in for, and releases the host. That boots Debian's Linux with a program of the
// rack's (qemu-test/rack/guest), which finds the board, connects, and uses the encrypted
// volume that nitroctl has made for it meanwhile. The rack checks each step for itself.
//
//	rack [-folder folder] [-bootloader file] [-controller file] [-nitroctl file] [-new] [-demo] [-port n] [-console] [-count] [-v]
//
// With -demo the rack ends after the last step, with exit code 0 only if all were as they
// should be; else it goes on, says what to try next, and ends with Ctrl-C.
//
// What lasts from run to run is in the folder: development keys and the owner's clients
// (clients/<role>.pem and .key), which are made there, the card, the TPM, the factory's
// record of the board, and the key service's keys. A card is made with those keys and
// the board is provisioned when there is none, when the programs are others than the card
// has, or with -new. Port n of 127.0.0.1, or a free one if it is taken, leads to the
// firmware's HTTPS. The consoles go into board.log and host.log of the folder, or with
// -console to the terminal, where the host's begins with "host:", the rack's own words with
// "rack:", and all else is the board's. -count has the emulator count instructions, which
// the firmware's boot log then shows; it is slower, and the board's clock falls behind. -v
// shows what the emulator reports and what the board does with its pins.
package main

import (
	"context"
	"errors"
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

	"nitro/internal/peer"
	"nitro/internal/tied"
	"nitro/net/provisioning"
	"nitro/qemu-test/rack"
)

// httpsPort is where the firmware serves HTTPS.
const httpsPort = 443

type options struct {
	folder, bootloader, controller, nitroctl string
	fresh, demo                              bool
	port                                     int
	console, count, verbose                  bool
}

func main() {
	var o options
	flag.StringVar(&o.folder, "folder", "build/rack", "`folder` of what lasts: keys, card, TPM, record")
	flag.StringVar(&o.bootloader, "bootloader", "build/bootloader.elf", "`file` of the bootloader, an ELF image")
	flag.StringVar(&o.controller, "controller", "build/controller.elf", "`file` of the controller, an ELF image")
	flag.StringVar(&o.nitroctl, "nitroctl", "build/bin/nitroctl", "`file` of the operator's tool")
	flag.BoolVar(&o.demo, "demo", false, "end after the last step, with exit code 0 only if all were checked")
	flag.BoolVar(&o.console, "console", false, "show both consoles here, and not in files")
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
	start := time.Now()
	b, err := openBench(o, out)
	if err != nil {
		return err
	}
	keys, err := b.serveKeys()
	if err != nil {
		return err
	}
	defer keys.close()
	folder, err := tied.NewFolder("nitro-host-")
	if err != nil {
		return err
	}
	defer folder.Remove()
	linux, err := hostLinux(ctx, folder.Path)
	if err != nil {
		return err
	}
	board, host, err := o.consoles(b, out)
	if err != nil {
		return err
	}
	r, err := rack.Start(rack.Config{
		Log: board, Hold: true,
		TPMState:  b.tpm(),
		Cards:     [2]string{b.card(), b.flash()},
		Host:      true,
		HostLog:   host,
		HostLinux: linux,
		Nets:      []rack.Net{{Forward: map[int]int{httpsPort: freePort(o.port), provisioningPort: 0}, Serve: map[int]string{keyPort: keys.address()}}},
		Args:      o.args(),
	})
	if err != nil {
		return err
	}
	defer r.Close()
	address, err := r.Address(httpsPort)
	if err != nil {
		return err
	}
	s := &story{bench: b, rack: r, start: start, tool: &tool{program: o.nitroctl, board: address, service: "https://" + keys.address(), clients: filepath.Join(o.folder, "clients")}}
	s.done("a card with %s and %s, signed by development keys, a TPM, and a key service: %s", o.bootloader, o.controller, filepath.Clean(b.folder))
	if o.verbose {
		fmt.Fprintf(out, "rack: the emulator is process %d, the TPM %d\n", r.PID(), r.TPM.PID())
		go showEvents(r, out)
		go showPins(r, out)
		go showHost(r, out)
	}
	if err := r.QMP.Continue(); err != nil {
		return err
	}
	return o.follow(ctx, s)
}

// follow tells the story, and goes on until Ctrl-C if it is no demonstration.
func (o *options) follow(ctx context.Context, s *story) error {
	told := make(chan error, 1)
	go func() { told <- s.tell(ctx) }()
	for {
		select {
		case <-ctx.Done():
			fmt.Fprintln(s.out, "\nrack: switched off")
			if o.demo {
				return errors.New("the demonstration was cut")
			}
			return nil
		case err := <-told:
			switch {
			case err != nil:
				return fmt.Errorf("step %d: %w", s.steps+1, err)
			case o.demo:
				fmt.Fprintf(s.out, "rack: all %d steps were checked, in %.1f s\n", s.steps, time.Since(s.start).Seconds())
				return nil
			}
			s.next(s.out)
		case <-s.rack.Ended():
			if err := s.rack.Err(); err != nil {
				return err
			}
			return fmt.Errorf("the emulator has ended by itself: %s", s.rack.Complaints())
		}
	}
}

// hostLinux makes what the host boots.
func hostLinux(ctx context.Context, folder string) (*rack.Linux, error) {
	image, initramfs, err := peer.Host{
		Init: "./qemu-test/rack/guest", Programs: []string{"nvme", "mke2fs"},
		Modules: []string{"e1000e", "crc32c_generic", "nvme-tcp", "ext4"},
	}.Make(ctx, folder)
	return &rack.Linux{Image: image, Initramfs: initramfs}, err
}

// consoles are where the board's and the host's go.
func (o *options) consoles(b *bench, out io.Writer) (board, host io.Writer, err error) {
	if o.console {
		return out, &lines{to: out, prefix: "host: "}, nil
	}
	if board, err = os.Create(filepath.Join(b.folder, "board.log")); err != nil {
		return nil, nil, err
	}
	host, err = os.Create(filepath.Join(b.folder, "host.log"))
	return board, host, err
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
