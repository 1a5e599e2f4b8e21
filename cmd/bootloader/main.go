// Command bootloader is the first image that runs on the board: it loads the controller
// from the card and starts it.
//
// So far it is a skeleton. It takes slot A (docs/medium.md) if the image header has the
// right shape, and verifies neither signature nor digest, keeps no slot journal, measures
// nothing and hands no secret and no seed over: it must not guard anything yet.
package main

import (
	"fmt"
	"log"
	"os"
	"runtime"

	"nitro/board"
	"nitro/board/cpu/counter"
	"nitro/board/next"
	"nitro/board/phase"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("bootloader: ")
	log.SetOutput(os.Stdout)
	log.Printf("%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	phase.ReportReset()
	log.Fatalf("%v", run())
}

// run loads the controller and starts it. It returns only with the reason why it could
// not: the kernel then resets the board.
func run() error {
	l := loader{slot: slotA}
	dog, err := os.OpenFile("/dev/watchdog", os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	// Every phase has the watchdog's full time, and no more.
	guarded := func(name string, do func() error) phase.Phase {
		return phase.Phase{Name: name, Do: func() error {
			if _, err := dog.Write([]byte{1}); err != nil {
				return fmt.Errorf("watchdog: %w", err)
			}
			return do()
		}}
	}
	err = phase.Run(&l.instructionTime,
		guarded("board", l.openBoard),
		guarded("card", func() (err error) { l.card, err = l.board.Card(0); return err }),
		guarded("window", func() (err error) { l.window, err = next.Open(); return err }),
		guarded("load", l.load),
		guarded("hand-over", l.handOver),
	)
	if err != nil {
		return err
	}
	log.Printf("starting the controller at %#x", l.header.entry)
	return l.window.Start(l.header.load, l.header.length, l.header.entry)
}

// A loader is what the phases hand on.
type loader struct {
	board  board.Board
	card   board.Card
	window *next.Window
	slot   uint32
	header header

	instructionTime uint64 // ns, if an emulator counts instructions
}

func (l *loader) openBoard() (err error) {
	if l.board, err = open(); err != nil {
		return err
	}
	if l.board.Emulated() {
		l.instructionTime = counter.InstructionTime()
	}
	return nil
}
