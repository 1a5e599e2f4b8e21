// Subject is the program that internal/benchstore counts instructions of: a store on a
// card in memory, and one kind of work on it, so many times.
//
//	subject fill FILE        makes a full store of 48 MiB, with a tail, in a file
//	subject WORK FILE TIMES  does work on a copy of it, or on an empty store
//
// It prints how many sectors were read and written, and how many steps the counter did.
package main

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"

	"nitro/boot/medium"
	"nitro/boot/store"
)

const (
	sector = 512
	size   = 48 << 20
	mib    = 1 << 20
)

// A card is a file's content, and what has been written since in sectors of their own. It
// has the counter too.
type card struct {
	base          []byte
	written       map[uint64]*[sector]byte
	reads, writes int

	mu    sync.Mutex // the store steps the counter beside its writes
	value uint64
	steps int
}

func (c *card) BlockSize() int { return sector }
func (c *card) Blocks() uint64 { return size / sector }

func (c *card) ReadBlocks(first uint64, p []byte) error {
	c.reads += len(p) / sector
	copy(p, c.base[first*sector:])
	if len(c.written) == 0 {
		return nil
	}
	for i := 0; i < len(p); i += sector {
		if w := c.written[first+uint64(i/sector)]; w != nil {
			copy(p[i:], w[:])
		}
	}
	return nil
}

func (c *card) WriteBlocks(first uint64, p []byte) error {
	c.writes += len(p) / sector
	if c.written == nil {
		copy(c.base[first*sector:], p)
		return nil
	}
	for i := 0; i < len(p); i += sector {
		c.written[first+uint64(i/sector)] = (*[sector]byte)(bytes.Clone(p[i : i+sector]))
	}
	return nil
}

func (c *card) Read() (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value, nil
}

func (c *card) Increment() (uint64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.steps++
	c.value++
	return c.value, nil
}

func (c *card) config() store.Config {
	return store.Config{Device: c, Place: medium.Place{Size: size}, Key: make([]byte, store.KeySize), Counter: c, Rand: rand.Reader}
}

func (c *card) open() *store.Store {
	s, err := store.Open(c.config())
	check(err)
	return s
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// fill puts a golden copy, segments of the audit and small records into a store until it
// takes no more, and leaves 63 batches behind the last checkpoint.
func fill(c *card) {
	s := c.open()
	golden := bytes.Repeat([]byte("golden"), store.MaxValue/6)
	check(s.Put("golden", golden))
	for i := range 700 {
		check(s.Put(fmt.Sprint("audit/", i), golden[:30000]))
	}
	for i := 0; ; i++ {
		err := s.Put(fmt.Sprintf("record/%04d", i), golden[:256])
		if errors.Is(err, store.ErrFull) {
			break
		}
		check(err)
	}
	check(s.Checkpoint())
	for i := range 63 {
		check(s.Put(fmt.Sprintf("record/%04d", i), golden[:256]))
	}
}

// works are done so many times.
var works = map[string]func(c *card, times int){
	"mount": func(c *card, times int) {
		value := c.value
		for range times {
			c.written, c.value = map[uint64]*[sector]byte{}, value
			c.open()
		}
	},
	"put256full": func(c *card, times int) { puts(c.open(), 4000, times) },
	"get256full": func(c *card, times int) {
		s := c.open()
		for i := range times {
			_, err := s.Get(fmt.Sprintf("record/%04d", i%3000))
			check(err)
		}
	},
	"put256":     func(c *card, times int) { puts(empty(c), 100, times) },
	"checkpoint": func(c *card, times int) { checkpoints(empty(c), times) },
	"checkpointfull": func(c *card, times int) {
		checkpoints(c.open(), times)
	},
	"put1m": func(c *card, times int) {
		s, v := empty(c), make([]byte, mib)
		for range times {
			check(s.Put("large", v))
		}
	},
	"get1m": func(c *card, times int) {
		s := empty(c)
		check(s.Put("large", make([]byte, mib)))
		for range times {
			r, err := s.Reader("large")
			check(err)
			_, err = io.Copy(io.Discard, struct{ io.Reader }{r})
			check(err)
			check(r.Close())
		}
	},
}

func empty(c *card) *store.Store {
	check(store.Format(c.config()))
	return c.open()
}

func puts(s *store.Store, names, times int) {
	v := make([]byte, 256)
	for i := range times {
		check(s.Put(fmt.Sprintf("record/%04d", i%min(names, 3000)), v))
	}
}

// checkpoints each have a batch to keep.
func checkpoints(s *store.Store, times int) {
	for i := range times {
		check(s.Put(fmt.Sprintf("record/%04d", i%100), make([]byte, 256)))
		check(s.Checkpoint())
	}
}

func main() {
	log.SetFlags(0)
	if len(os.Args) == 3 && os.Args[1] == "fill" {
		c := &card{base: make([]byte, size)}
		check(store.Format(c.config()))
		fill(c)
		check(os.WriteFile(os.Args[2], append(c.base, strconv.FormatUint(c.value, 10)...), 0o644))
		return
	}
	if len(os.Args) != 4 || works[os.Args[1]] == nil {
		log.Fatal("usage: subject fill FILE, or subject WORK FILE TIMES")
	}
	b, err := os.ReadFile(os.Args[2])
	check(err)
	times, err := strconv.Atoi(os.Args[3])
	check(err)
	value, err := strconv.ParseUint(strings.TrimSpace(string(b[size:])), 10, 64)
	check(err)
	c := &card{base: b[:size], value: value}
	works[os.Args[1]](c, times)
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Println(c.reads, c.writes, c.steps)
}
