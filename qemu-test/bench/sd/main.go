//go:build linux

// Sd measures an SD card, one request at a time, by the wall clock. With the tag
// board it is an image for the bare board and uses the project's own driver on slot 1;
// without, it is a Linux program and uses /dev/mmcblk0 with O_DIRECT and O_SYNC: every
// request reaches the card, and a write is over when the card has it. The card's first
// 32 MiB are overwritten.
//
// Each figure is one line, name value unit:
//
//	sd.read, sd.write
//	    MB/s, sequential, in requests of 128 KiB
//	sd.read_4k, sd.write_4k
//	    requests of 4 KiB a second, at random places
//
// Arguments are the names of figures, and leave out all others. Where virtual time
// counts instructions (the emulator's -icount shift=0,sleep=off), a figure's
// reciprocal is the instructions of a request, in billions.
package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"
)

// A device is what is measured. Places and lengths are in bytes, whole blocks.
type device interface {
	ReadAt(p []byte, at int64) (int, error)
	WriteAt(p []byte, at int64) (int, error)
}

const (
	large, small = 128 << 10, 4 << 10
	span         = 32 << 20 // of the card
	many         = 1000     // random requests
)

func main() {
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, "sd:", err)
		os.Exit(1)
	}
}

func measure() error {
	d, p, err := open()
	if err != nil {
		return err
	}
	for i := range p {
		p[i] = byte(i * 7)
	}
	r := rand.New(rand.NewPCG(4, 2))
	sequential := func(i int) int64 { return int64(i) * large }
	random := func(int) int64 { return int64(r.IntN(span/small)) * small }
	const megabyte = 1e6
	for _, m := range []struct {
		name   string
		move   func([]byte, int64) (int, error)
		length int
		count  int
		place  func(i int) int64
		each   float64 // what a request counts
		unit   string
	}{
		{"sd.write", d.WriteAt, large, span / large, sequential, large / megabyte, "MB/s"},
		{"sd.read", d.ReadAt, large, span / large, sequential, large / megabyte, "MB/s"},
		{"sd.write_4k", d.WriteAt, small, many, random, 1, "IOPS"},
		{"sd.read_4k", d.ReadAt, small, many, random, 1, "IOPS"},
	} {
		if len(os.Args) > 1 && !slices.Contains(os.Args[1:], m.name) {
			continue
		}
		start := time.Now()
		for i := range m.count {
			if _, err := m.move(p[:m.length], m.place(i)); err != nil {
				return err
			}
		}
		fmt.Printf("%s %.4g %s\n", m.name, float64(m.count)*m.each/time.Since(start).Seconds(), m.unit)
	}
	return nil
}
