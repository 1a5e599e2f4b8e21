// Command controller is the firmware of the Nitro Controller.
//
// It brings the board up phase by phase, with a log line for each, takes over from the
// bootloader, and compares what was measured with what should have been. If all is as it
// should be it opens its store, verifies the host's firmware and releases the host, or
// adopts one that it has released before, serves the host its volumes on the host's wire,
// and HTTPS on the management port; a board
// that was never provisioned serves provisioning; and where anything is wrong it goes into
// quarantine, with its host held, and serves status and evidence.
package main

import (
	"log"
	"os"
	"runtime"
	"time"

	"nitro/board/cpu/counter"
	"nitro/board/phase"
	"nitro/nvme/storage"
	"nitro/resetctl/cycle"
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
	f := firmware{began: time.Now(), hostStates: make(chan cycle.State, 1), volumeEvents: make(chan storage.Event, 64),
		strangersEvents: ration{most: eventsMost, every: eventsEvery}, hostErases: ration{most: erasesMost, every: erasesEvery}}
	var instructionTime uint64 // ns, if an emulator counts instructions
	err := phase.Run(&instructionTime, f.timed([]phase.Phase{
		{Name: "board", Do: func() (err error) {
			f.board, err = open()
			if err == nil && f.board.Emulated() {
				instructionTime = counter.InstructionTime()
			}
			return err
		}},
		{Name: "self-test", Do: selfTest},
		{Name: "lines", Do: f.lookAtLines},
		{Name: "hand-over", Do: f.takeHandover},
		{Name: "random numbers", Do: f.seed},
		{Name: "clock", Do: f.readClock},
		{Name: "card", Do: f.openCard},
		{Name: "unlock", Do: f.unlock},
		{Name: "time", Do: f.openClock},
		{Name: "identity", Do: f.makeIdentity},
		{Name: "policy", Do: f.loadPolicy},
		{Name: "audit", Do: f.openAudit},
		{Name: "host", Do: f.controlHost},
		{Name: "network", Do: f.openPorts},
		{Name: "volumes", Do: f.openVolumes},
		{Name: "release", Do: f.runHost},
		{Name: "https", Do: f.serve},
	})...)
	if err != nil {
		return err
	}
	phase.Report("from power-on", phase.Counts{}, phase.Count(), instructionTime)
	announceReady()
	go f.reportAddress()
	go f.reportStanding()
	switch {
	case f.reason() != nil:
	case f.chain.Provisioned:
		go f.guardTPM()
	default:
		go f.provision()
	}
	go blink(f.board.StatusLED())
	return watch()
}

// timed keeps what each phase takes, for the metrics.
func (f *firmware) timed(phases []phase.Phase) []phase.Phase {
	for i, p := range phases {
		phases[i].Do = func() error {
			start := time.Now()
			err := p.Do()
			f.mu.Lock()
			f.phases = append(f.phases, phaseTime{p.Name, time.Since(start)})
			f.mu.Unlock()
			return err
		}
	}
	return phases
}

// announceReady tells that the firmware serves. Measurements end at its first
// instruction, so it stays a function.
//
//go:noinline
func announceReady() { log.Print("ready") }
