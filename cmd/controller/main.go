// Command controller is the firmware of the Nitro Controller.
//
// It brings the board up phase by phase, with a log line for each, and then serves
// HTTPS on the management port: GET /healthz, and the Redfish service root. The host
// is held in reset all the time: nothing here lets it go yet.
package main

import (
	"log"
	"os"
	"runtime"

	"nitro/board"
	"nitro/board/cpu/counter"
	"nitro/board/phase"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("controller: ")
	log.SetOutput(os.Stdout)
	log.Printf("%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	phase.ReportReset()
	if err := run(); err != nil {
		log.Fatalf("%v", err)
	}
}

// run brings the firmware up and keeps it up. It returns only with the reason why it
// cannot go on: the kernel then resets the board.
func run() error {
	var b board.Board
	var f firmware
	var instructionTime uint64 // ns, if an emulator counts instructions
	err := phase.Run(&instructionTime, []phase.Phase{
		{Name: "board", Do: func() (err error) {
			b, err = open()
			if err == nil && b.Emulated() {
				instructionTime = counter.InstructionTime()
			}
			return err
		}},
		{Name: "self-test", Do: selfTest},
		{Name: "host held", Do: func() error { return checkHeld(b.ResetLines()) }},
		{Name: "random numbers", Do: func() error { return seed(b) }},
		{Name: "clock", Do: func() error { return setClock(b.Clock()) }},
		{Name: "card", Do: func() error { return f.openCard(b) }},
		{Name: "network", Do: func() error { return f.openPorts(b) }},
		{Name: "identity", Do: func() error { return f.makeIdentity(b) }},
		{Name: "https", Do: f.serve},
	}...)
	if err != nil {
		return err
	}
	phase.Report("from power-on", phase.Counts{}, phase.Count(), instructionTime)
	announceReady()
	go f.reportAddress()
	go blink(b.StatusLED())
	return watch()
}

// announceReady tells that the firmware serves. Measurements end at its first
// instruction, so it stays a function.
//
//go:noinline
func announceReady() { log.Print("ready") }
