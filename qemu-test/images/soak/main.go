// Command soak is an image that does all at once what the firmware does: it serves the
// Redfish service root over HTTPS while it reads and writes the card and collects
// garbage without pause. Once a second it says how much it uses,
//
//	soak: second N threads N descriptors N goroutines N heap N pages N card N collections N
//
// heap being the bytes of live objects after a collection, pages the kernel's pages of
// memory in use, card the number of blocks that went to the card and came back as they
// were. The counters of the network follow, which tell where a request that was not
// answered has stopped. It ends with a word at the first thing that goes wrong.
package main

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"log"
	mathrand "math/rand/v2"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"nitro/board"
	"nitro/board/evk"
	"nitro/board/imx6ul/enet"
	"nitro/net/https"
	"nitro/net/redfish"
	"nitro/net/stack"
)

func main() {
	log.SetFlags(0)
	log.SetPrefix("soak: ")
	log.SetOutput(os.Stdout)
	log.Fatal(run())
}

var moved atomic.Uint64 // blocks

func run() error {
	b, err := evk.Open()
	if err != nil {
		return err
	}
	card, err := b.Card(0)
	if err != nil {
		return err
	}
	link, err := b.Port(0)
	if err != nil {
		return err
	}
	s, err := stack.New(stack.Config{Name: "management", Link: link, DHCP: true})
	if err != nil {
		return err
	}
	certificate, err := https.SelfSigned("soak")
	if err != nil {
		return err
	}
	l, err := s.Listen("tcp", ":443")
	if err != nil {
		return err
	}
	failed := make(chan error)
	identity := &https.Identity{Certificate: certificate}
	go func() {
		failed <- https.Serve(l, https.Config{
			Identity: func() *https.Identity { return identity },
			Routes:   []https.Route{{Pattern: "/", Handler: redfish.New(redfish.Config{UUID: "soak"}), Open: true}},
		})
	}()
	go func() { failed <- exercise(card) }()
	go litter()
	log.Print("ready")
	for second := 1; ; second++ {
		select {
		case err := <-failed:
			return err
		case <-time.After(time.Second):
		}
		if err := report(second); err != nil {
			return err
		}
		log.Printf("stack %+v", s.Stats())
		log.Printf("port %+v", link.(interface{ Stats() enet.Stats }).Stats())
	}
}

// exercise writes random blocks at random places and reads them back, for ever.
func exercise(card board.Card) error {
	const most = 64 // blocks of a transfer
	out, in := make([]byte, most*card.BlockSize()), make([]byte, most*card.BlockSize())
	for {
		n := (1 + mathrand.N(most)) * card.BlockSize()
		first := mathrand.N(card.Blocks() - most)
		rand.Read(out[:n])
		if err := card.WriteBlocks(first, out[:n]); err != nil {
			return err
		}
		if err := card.ReadBlocks(first, in[:n]); err != nil {
			return err
		}
		if !bytes.Equal(in[:n], out[:n]) {
			return fmt.Errorf("%d bytes at block %d came back from the card changed", n, first)
		}
		moved.Add(uint64(n / card.BlockSize()))
		time.Sleep(time.Millisecond)
	}
}

// littering is held while litter makes garbage, and while heap counts.
var littering sync.Mutex

// live is what litter still holds, half a megabyte.
var live [64][]byte

// litter makes garbage, and has it collected.
func litter() {
	for {
		littering.Lock()
		for n := range 256 {
			live[n%len(live)] = make([]byte, 1+mathrand.N(16<<10))
		}
		littering.Unlock()
		runtime.GC()
		time.Sleep(10 * time.Millisecond)
	}
}

// heap collects garbage and counts what is left. Were litter not kept from it, the 2 MiB
// that it makes between two collections would count too: all that was made during the
// collection, or between it and the count.
func heap() (m runtime.MemStats) {
	littering.Lock()
	defer littering.Unlock()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m
}

func report(second int) error {
	m := heap()
	text, err := os.ReadFile("/dev/kernel")
	if err != nil {
		return err
	}
	var threads, pages int
	for line := range strings.Lines(string(text)) {
		fmt.Sscanf(line, "threads %d", &threads)
		fmt.Sscanf(line, "pages.used %d", &pages)
	}
	// The kernel gives out the lowest number that is free.
	f, err := os.Open("/dev/null")
	if err != nil {
		return err
	}
	defer f.Close()
	log.Printf("second %d threads %d descriptors %d goroutines %d heap %d pages %d card %d collections %d",
		second, threads, f.Fd(), runtime.NumGoroutine(), m.HeapAlloc, pages, moved.Load(), m.NumGC)
	return nil
}
