package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// seedSize is how much entropy the kernel's generator gets: 512 bits, since what the
// hardware gives need not be perfect.
const seedSize = 64

// seed feeds the kernel's random generator from the chip's, beside what the bootloader
// has left.
func (f *firmware) seed() error {
	source, err := f.board.Random()
	if err != nil {
		return err
	}
	if source == nil {
		if f.chain.Handover == nil {
			log.Print("neither chip nor bootloader gave random numbers: keys of this boot can be guessed")
		}
		return nil
	}
	entropy := make([]byte, seedSize)
	defer clear(entropy)
	if _, err := io.ReadFull(source, entropy); err != nil {
		return err
	}
	return os.WriteFile("/dev/seed", entropy, 0)
}

// setClock sets the kernel's clock from the one on the battery. Without that it is
// 1970, and the firmware runs on.
func (f *firmware) setClock() error {
	now, err := f.board.Clock().Now()
	if err != nil {
		log.Printf("the time is not known: %v", err)
		return nil
	}
	t := unix.NsecToTimespec(now.UnixNano())
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &t); err != nil {
		return fmt.Errorf("setting the kernel's clock to %v: %w", now, err)
	}
	f.clockKnown.Store(true)
	log.Printf("it is %s", time.Now().UTC().Format(time.RFC3339))
	return nil
}

// openCard opens the card with the firmware's slots and store. Without it the board is in
// quarantine.
func (f *firmware) openCard() error {
	card, err := f.board.Card(0)
	if err != nil {
		log.Printf("no card: %v", err)
		return nil
	}
	f.card = card
	log.Printf("card: %d blocks of %d bytes", card.Blocks(), card.BlockSize())
	return nil
}
