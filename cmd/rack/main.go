// Command rack starts the emulated rack with an image and shows its console until
// Ctrl-C: the board with a TPM, an SD card and two networks, of which the first can be
// reached from this machine.
//
//	rack [-image file] [-card file] [-tpm-state folder] [-port n] [-count] [-v]
//
// Card and TPM are kept from run to run, in build/rack unless flags say otherwise; a
// card that is not there is made, and -tpm-state "" gives a new TPM each time. Port n of
// 127.0.0.1, or a free one if it is taken, leads to the firmware's HTTPS. -count has the
// emulator count instructions, which the firmware's boot log then shows; it is slower, and
// the board's clock falls behind. -v shows what the emulator reports and what the board
// does with its pins. The rack's own words begin with "rack:", all else is the board's.
package main

import (
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

	"nitro/qemu-test/rack"
)

// cardSize is that of a card that is made, in bytes.
const cardSize = 64 << 20

// httpsPort is where the firmware serves HTTPS.
const httpsPort = 443

type options struct {
	image, card, tpmState string
	port                  int
	count, verbose        bool
}

func main() {
	var o options
	flag.StringVar(&o.image, "image", "build/controller.elf", "`file` of the firmware, an ELF image")
	flag.StringVar(&o.card, "card", "build/rack/card.img", "`file` of the SD card; made if it is not there")
	flag.StringVar(&o.tpmState, "tpm-state", "build/rack/tpm", "`folder` of the TPM's state; \"\" is a new TPM each time")
	flag.IntVar(&o.port, "port", 8443, "port of 127.0.0.1 that leads to the firmware's HTTPS; if it is taken, a free one is used")
	flag.BoolVar(&o.count, "count", false, "count instructions: slower, and the board's clock falls behind")
	flag.BoolVar(&o.verbose, "v", false, "show the emulator's events, and what the board does with its pins")
	flag.Parse()
	if err := run(o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "rack:", err)
		os.Exit(1)
	}
}

func run(o options, out io.Writer) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	c, err := o.config(out)
	if err != nil {
		return err
	}
	r, err := rack.Start(c)
	if err != nil {
		return err
	}
	defer r.Close()
	address, err := r.Address(httpsPort)
	if err != nil {
		return err
	}
	o.explain(out, address)
	if o.verbose {
		fmt.Fprintf(out, "rack: the emulator is process %d, the TPM %d\n", r.PID(), r.TPM.PID())
		go showEvents(r, out)
		go showPins(r, out)
	}
	if err := r.QMP.Continue(); err != nil {
		return err
	}
	select {
	case <-stop:
		fmt.Fprintln(out, "\nrack: switched off")
		return nil
	case <-r.Ended():
		if err := r.Err(); err != nil {
			return err
		}
		return fmt.Errorf("the emulator has ended by itself: %s", r.Complaints())
	}
}

// config is the rack that the options ask for, before its board runs.
func (o *options) config(out io.Writer) (rack.Config, error) {
	if _, err := os.Stat(o.image); err != nil {
		return rack.Config{}, fmt.Errorf("%w: build it first: make", err)
	}
	if err := os.MkdirAll(filepath.Dir(o.card), 0o755); err != nil {
		return rack.Config{}, err
	}
	if _, err := os.Stat(o.card); errors.Is(err, os.ErrNotExist) {
		if err := rack.NewCard(o.card, cardSize); err != nil {
			return rack.Config{}, err
		}
	}
	return rack.Config{
		Image: o.image, Log: out, Hold: true,
		TPMState: o.tpmState,
		Cards:    [2]string{o.card},
		Expander: true,
		Nets:     []rack.Net{{Forward: map[int]int{httpsPort: freePort(o.port)}}, {}},
		Wires:    rack.ResetWires(),
		Args:     o.args(),
	}, nil
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

func (o *options) explain(out io.Writer, address string) {
	tpm := "new, and gone afterwards"
	if o.tpmState != "" {
		tpm = o.tpmState
	}
	fmt.Fprintf(out, `rack: the emulated MCIMX6UL-EVK boots %s
rack: SD card: %s; TPM: %s
rack: https://%s/ leads to port %d of the board's first Ethernet port
rack: curl --insecure https://%s/
rack: Ctrl-C switches off; the console follows
`, o.image, o.card, tpm, address, httpsPort, address)
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
