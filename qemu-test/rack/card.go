package rack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

// SectorSize is that of a card, in bytes.
const SectorSize = 512

// NewCard makes a card's file, all zero. QEMU wants sizes that are a power of two.
func NewCard(path string, size int64) error {
	if size < 1<<20 || size&(size-1) != 0 {
		return fmt.Errorf("rack: card %s: %d bytes: a card's size is a power of two, at least 1 MiB", path, size)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("rack: card: %w", err)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		return fmt.Errorf("rack: card: %w", err)
	}
	return nil
}

// CopyCard copies a card, as it is now, into a new file.
func CopyCard(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return fmt.Errorf("rack: card: %w", err)
	}
	defer in.Close()
	info, err := in.Stat()
	if err == nil {
		err = NewCard(to, info.Size())
	}
	if err != nil {
		return err
	}
	out, err := os.OpenFile(to, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("rack: card: %w", err)
	}
	err = eachData(in, func(offset, length int64) error {
		_, err := io.Copy(io.NewOffsetWriter(out, offset), io.NewSectionReader(in, offset, length))
		return err
	})
	if err := errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("rack: card: copying %s: %w", from, err)
	}
	return nil
}

// A Sectors is a run of a card's sectors.
type Sectors struct{ First, Count int64 }

// CompareCards gives the sectors in which two cards of one size differ.
func CompareCards(a, b string) (differ []Sectors, err error) {
	var files [2]*os.File
	var size [2]int64
	for i, name := range []string{a, b} {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("rack: card: %w", err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return nil, fmt.Errorf("rack: card: %w", err)
		}
		files[i], size[i] = f, info.Size()
	}
	if size[0] != size[1] {
		return nil, fmt.Errorf("rack: cards %s and %s: %d and %d bytes: only cards of one size compare", a, b, size[0], size[1])
	}
	var x, y [1 << 16]byte
	for at := int64(0); at < size[0]; at += int64(len(x)) {
		n := min(int64(len(x)), size[0]-at)
		if _, err := files[0].ReadAt(x[:n], at); err != nil {
			return nil, fmt.Errorf("rack: card: %w", err)
		}
		if _, err := files[1].ReadAt(y[:n], at); err != nil {
			return nil, fmt.Errorf("rack: card: %w", err)
		}
		if bytes.Equal(x[:n], y[:n]) {
			continue
		}
		for i := int64(0); i < n; i += SectorSize {
			if !bytes.Equal(x[i:i+SectorSize], y[i:i+SectorSize]) {
				differ = add(differ, (at+i)/SectorSize)
			}
		}
	}
	return differ, nil
}

// add adds a sector behind those that are there.
func add(runs []Sectors, sector int64) []Sectors {
	if n := len(runs) - 1; n >= 0 && runs[n].First+runs[n].Count == sector {
		runs[n].Count++
		return runs
	}
	return append(runs, Sectors{sector, 1})
}

// cardArgs puts the cards into their slots. The emulator reads and writes a card sector by
// sector and waits for each one, so what it waits for should be near: io_uring, where this
// machine has it, and not a thread that has to be woken.
func cardArgs(c *Config) (args []string, err error) {
	how := "threads"
	if hasRings() {
		how = "io_uring"
	}
	for slot, file := range c.Cards {
		if file == "" {
			continue
		}
		args = append(args, "-drive", fmt.Sprintf("if=sd,index=%d,format=raw,aio=%s,file=%s", slot, how, optionValue(file)))
	}
	return args, nil
}

// hasRings tells whether this machine's kernel gives io_uring to programs.
var hasRings = sync.OnceValue(func() bool {
	var parameters [120]byte // struct io_uring_params (Linux, include/uapi/linux/io_uring.h)
	fd, _, errno := unix.Syscall(unix.SYS_IO_URING_SETUP, 1, uintptr(unsafe.Pointer(&parameters)), 0)
	if errno != 0 {
		return false
	}
	unix.Close(int(fd))
	return true
})
