// Subject does one thing of the boot chain again and again, to be counted under
// emulation.
//
// Usage:
//
//	subject OPERATION PASSES ANCHORS IMAGE CONFIGURATION
//
// OPERATION is header (verify the header of IMAGE), hash (SHA-256 of 1 MiB), decode (decode
// and validate the payload of CONFIGURATION), configuration (verify and decode it), anchors
// (decode ANCHORS) or log (write, parse and replay the log of a boot). The three files are
// what lies on a medium.
package main

import (
	"crypto/sha256"
	"log"
	"os"
	"runtime/debug"
	"strconv"

	"nitro/attest/eventlog"
	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/boot/medium"
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 6 {
		log.Fatal("usage: subject OPERATION PASSES ANCHORS IMAGE CONFIGURATION")
	}
	passes, err := strconv.Atoi(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	debug.SetGCPercent(-1)
	block, head, conf := [medium.AnchorSize]byte(read(3)), [image.HeaderSize]byte(read(4)), read(5)
	anchors, err := medium.DecodeAnchors(&block)
	if err != nil {
		log.Fatal(err)
	}
	do := map[string]func() error{
		"header": func() error {
			_, err := image.Verify(&head, image.Want{Where: "slot A", Component: image.Controller, Product: "imx6ul-evk", Authorities: anchors.Authorities})
			return err
		},
		"hash": func() error { sum = sha256.Sum256(mib[:]); return nil },
		"decode": func() error {
			_, err := config.Decode(conf[image.HeaderSize:])
			return err
		},
		"configuration": func() error {
			_, err := config.Verify(conf, config.Want{Product: "imx6ul-evk", Anchors: anchors})
			return err
		},
		"anchors": func() error {
			_, err := medium.DecodeAnchors(&block)
			return err
		},
		"log": boot,
	}[os.Args[1]]
	if do == nil {
		log.Fatal("subject: no such operation")
	}
	for range passes {
		if err := do(); err != nil {
			log.Fatal(err)
		}
	}
}

var (
	mib [1 << 20]byte
	sum [sha256.Size]byte
)

// read is the file that an argument names.
func read(arg int) []byte {
	b, err := os.ReadFile(os.Args[arg])
	if err != nil {
		log.Fatal(err)
	}
	return b
}

// boot writes the log of a boot, and reads it as the controller does.
func boot() error {
	l := eventlog.New()
	for _, e := range []eventlog.Event{
		eventlog.Anchors(sum, false), eventlog.Bootloader(sum, "1.0", 1), eventlog.Board("imx6ul-evk", 1, eventlog.Closed, eventlog.OwnSecret),
		eventlog.Configuration(sum, 1), eventlog.Authority(sum, sum), eventlog.SecurityVersion(1), eventlog.Controller(sum, "1.0", 1), eventlog.Slot(0, 2),
	} {
		if err := l.Append(e); err != nil {
			return err
		}
	}
	l, err := eventlog.Parse(l.Bytes())
	if err == nil {
		l.Replay()
	}
	return err
}
