// Command cards is an image that opens the cards of both slots, says what lies on them,
// and writes and reads back over and over until a card fails it. It says so, and begins
// anew. A test on the machine outside takes cards out and puts others in.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"nitro/board/evk"
	"nitro/board/imx6ul/sd"
)

// length is that of a transfer in bytes: many commands, so that cards change in its
// middle.
const length = 1 << 20

func main() {
	b, err := evk.Open()
	if err != nil {
		fmt.Println("cards:", err)
		os.Exit(1)
	}
	for slot := 1; slot <= 2; slot++ {
		c, err := b.SDCard(slot - 1)
		if err != nil {
			fmt.Println("cards:", err)
			os.Exit(1)
		}
		go serve(slot, c)
	}
	time.Sleep(5 * time.Minute) // the test is over long before
}

// serve uses a slot for ever.
func serve(slot int, c *sd.Card) {
	for {
		err := c.Open()
		if err != nil {
			fmt.Printf("slot %d: not opened: %s: %v\n", slot, kind(err), err)
		}
		for ; err != nil; err = c.Open() {
			time.Sleep(20 * time.Millisecond)
		}
		first := make([]byte, sd.BlockSize)
		if err := c.ReadBlocks(0, first); err != nil {
			fmt.Printf("slot %d: after opening: %v\n", slot, err)
			continue
		}
		fmt.Printf("slot %d: opened, %d blocks, %q\n", slot, c.Blocks(), bytes.TrimRight(first, "\x00"))
		round, err := use(slot, c)
		fmt.Printf("slot %d: round %d: %s: %v\n", slot, round, kind(err), err)
		if again := c.ReadBlocks(0, first); !errors.Is(again, sd.ErrNoCard) && !errors.Is(again, sd.ErrChanged) {
			fmt.Printf("slot %d: a lost card works: %v\n", slot, again)
		}
	}
}

// use writes and reads until something fails.
func use(slot int, c *sd.Card) (round int, err error) {
	want, got := make([]byte, length), make([]byte, length)
	for round = 1; ; round++ {
		for i := range want {
			want[i] = byte(round + i>>9)
		}
		if err = c.WriteBlocks(1, want); err == nil {
			err = c.ReadBlocks(1, got)
		}
		if err == nil && !bytes.Equal(got, want) {
			err = errors.New("what was read is not what was written")
		}
		if err != nil {
			return round, err
		}
		if round == 1 {
			fmt.Printf("slot %d: works\n", slot)
		}
	}
}

func kind(err error) string {
	switch {
	case errors.Is(err, sd.ErrChanged):
		return "changed"
	case errors.Is(err, sd.ErrNoCard):
		return "no card"
	}
	return "other"
}
