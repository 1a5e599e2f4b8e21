package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
	"unsafe"
)

// maxDepth is the most operations that are under way at a time.
const maxDepth = 32

// largest is the largest operation, in bytes.
const largest = 128 << 10

// A disk is a block device that is used past the kernel's cache, by its asynchronous
// operations (io_submit(2)).
type disk struct {
	f       *os.File
	size    int64
	context uintptr
	memory  []byte // largest bytes for each operation, on pages
	blocks  [maxDepth]control
	random  *rand.Rand
	next    int64 // where a sequential load goes on
}

// A control is struct iocb (linux/aio_abi.h).
type control struct {
	data      uint64
	key, rw   uint32
	opcode    uint16
	priority  int16
	file      uint32
	buffer    uint64
	bytes     uint64
	offset    int64
	reserved  uint64
	flags, fd uint32
}

// An event is struct io_event.
type event struct {
	data, object      uint64
	result, secondary int64
}

const (
	opRead  = 0 // IOCB_CMD_PREAD
	opWrite = 1 // IOCB_CMD_PWRITE
)

func openDisk(device string) (*disk, error) {
	f, err := os.OpenFile(device, os.O_RDWR|syscall.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	d := &disk{f: f, random: rand.New(rand.NewPCG(1, 2))}
	if d.size, err = f.Seek(0, io.SeekEnd); err != nil || d.size == 0 {
		return nil, fmt.Errorf("%s has %d bytes, %v", device, d.size, err)
	}
	if d.memory, err = syscall.Mmap(-1, 0, maxDepth*largest, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE); err != nil {
		return nil, err
	}
	for i := range d.memory {
		d.memory[i] = byte(i * 7)
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_IO_SETUP, maxDepth, uintptr(unsafe.Pointer(&d.context)), 0); errno != 0 {
		return nil, fmt.Errorf("io_setup: %w", errno)
	}
	return d, nil
}

// A load is operations of one kind, until there were count of them, or for a time.
type load struct {
	write, random bool
	size, depth   int
	count         int
	limit         time.Duration
}

// load does operations and gives their number.
func (d *disk) load(l load) (int, error) {
	if l.depth < 1 || l.depth > maxDepth || l.size < 512 || l.size > largest || l.count == 0 && l.limit == 0 {
		return 0, fmt.Errorf("load %+v is out of bounds", l)
	}
	end := time.Now().Add(l.limit)
	begun, done := 0, 0
	more := func() bool {
		if l.count > 0 {
			return begun < l.count
		}
		return time.Now().Before(end)
	}
	for i := 0; i < l.depth && more(); i++ {
		if err := d.submit(&l, i); err != nil {
			return done, err
		}
		begun++
	}
	var events [maxDepth]event
	for done < begun {
		n, _, errno := syscall.Syscall6(syscall.SYS_IO_GETEVENTS, d.context, 1, maxDepth, uintptr(unsafe.Pointer(&events)), 0, 0)
		if errno == syscall.EINTR {
			continue
		}
		if errno != 0 {
			return done, fmt.Errorf("io_getevents: %w", errno)
		}
		for _, e := range events[:n] {
			if e.result != int64(l.size) {
				return done, fmt.Errorf("operation %d of %+v: result %d", done, l, e.result)
			}
			done++
			if more() {
				if err := d.submit(&l, int(e.data)); err != nil {
					return done, err
				}
				begun++
			}
		}
	}
	return done, nil
}

// submit begins an operation with the buffer of number i.
func (d *disk) submit(l *load, i int) error {
	places := d.size / int64(l.size)
	place := d.next % places
	if d.next++; l.random {
		place = d.random.Int64N(places)
	}
	c := &d.blocks[i]
	*c = control{data: uint64(i), opcode: opRead, file: uint32(d.f.Fd()), bytes: uint64(l.size), offset: place * int64(l.size),
		buffer: uint64(uintptr(unsafe.Pointer(&d.memory[i*largest])))}
	if l.write {
		c.opcode = opWrite
	}
	list := [1]*control{c}
	if n, _, errno := syscall.Syscall(syscall.SYS_IO_SUBMIT, d.context, 1, uintptr(unsafe.Pointer(&list))); n != 1 {
		return fmt.Errorf("io_submit: %w", errno)
	}
	return nil
}

// verify writes so many bytes in pieces of several sizes, and reads them back.
func (d *disk) verify(total int) (n int, err error) {
	if int64(total) > d.size {
		return 0, fmt.Errorf("the disk has %d bytes", d.size)
	}
	sizes := []int{4 << 10, 64 << 10, 128 << 10, 12 << 10}
	want, got := d.memory[:largest], d.memory[largest:2*largest]
	for pass := range 2 {
		source := rand.NewPCG(uint64(total), 7)
		for at := 0; at < total; n++ {
			p := want[:min(sizes[n%len(sizes)], total-at)]
			for i := 0; i < len(p); i += 8 {
				binary.LittleEndian.PutUint64(p[i:], source.Uint64())
			}
			if pass == 0 {
				_, err = d.f.WriteAt(p, int64(at))
			} else if _, err = d.f.ReadAt(got[:len(p)], int64(at)); err == nil && !bytes.Equal(got[:len(p)], p) {
				err = fmt.Errorf("wrong data")
			}
			if err != nil {
				return n, fmt.Errorf("pass %d, %d bytes at %d: %w", pass, len(p), at, err)
			}
			at += len(p)
		}
		n = 0
	}
	return total, d.f.Sync()
}
