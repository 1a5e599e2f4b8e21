package main

import (
	"io"
	"log"
	"os"
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
