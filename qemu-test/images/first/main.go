// Command first is a bootloader that does things that no bootloader should, so that what
// the kernel sees to can be tried. It is built with the tag bootloader. It
//
//   - tries all that the kernel must refuse about the next image;
//   - leaves a secret on its heap, on goroutines' stacks, among its variables, in DMA
//     memory and in the window beside the image;
//   - starts the second Ethernet port receiving, and leaves it so;
//
// and then starts the image of slot A, without a look at it.
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"

	"nitro/board/evk"
	"nitro/board/kernel"
	"nitro/board/next"
	"nitro/qemu-test/images/second/pattern"
)

func main() {
	err := run()
	fmt.Println("first:", err)
	os.Exit(1)
}

func run() error {
	b, err := evk.Open()
	if err != nil {
		return err
	}
	w, err := next.Open()
	if err != nil {
		return err
	}
	if err := refusals(w); err != nil {
		return err
	}
	fmt.Println("first: all refused")
	header, err := load(b, w)
	if err != nil {
		return err
	}
	if err := receive(b); err != nil {
		return err
	}
	if err := plant(b, w); err != nil {
		return err
	}
	word := func(offset int) uint32 { return binary.LittleEndian.Uint32(header[offset:]) }
	fmt.Println("first: leaving")
	return w.Start(word(128), word(16), word(132))
}

// load copies the image of slot A.
func load(b *evk.Board, w *next.Window) ([]byte, error) {
	const slot, block = 16 << 20, 512
	card, err := b.Card(0)
	if err != nil {
		return nil, err
	}
	header := make([]byte, 4096)
	if err := card.ReadBlocks(slot/block, header); err != nil {
		return nil, err
	}
	n := (binary.LittleEndian.Uint32(header[16:]) + block - 1) / block * block
	return header, card.ReadBlocks((slot+4096)/block, w.Memory[:n])
}

// receive has a port take frames in, until one has come.
func receive(b *evk.Board) error {
	port, err := b.Ethernet(1)
	if err != nil {
		return err
	}
	fmt.Println("first: receiving")
	return port.Receive(-1, func([]byte) {})
}

// variable is among the image's initialised data.
var variable = [pattern.Size]byte{1}

var kept [][]byte

var forever = make(chan struct{})

// plant leaves the secret in all places. The window's end is no part of the image.
func plant(b *evk.Board, w *next.Window) error {
	variable = pattern.Of(pattern.Secret)
	for range 64 {
		p := make([]byte, 64<<10)
		pattern.Fill(p, pattern.Secret)
		kept = append(kept, p)
	}
	var planted sync.WaitGroup
	for range 64 {
		planted.Add(1)
		go func() {
			var p [2048]byte
			pattern.Fill(p[:], pattern.Secret)
			planted.Done()
			<-forever
			runtime.KeepAlive(&p)
		}()
	}
	planted.Wait()
	buffer, err := b.DMA.Alloc(64<<10, 64)
	if err != nil {
		return err
	}
	pattern.Fill(buffer.Bytes, pattern.Secret)
	pattern.Fill(w.Memory[len(w.Memory)-1<<20:], pattern.Secret)
	return nil
}

// refusals tries what the kernel must refuse.
func refusals(w *next.Window) error {
	start, end := w.Addr, w.Addr+uint32(len(w.Memory))
	for i, b := range w.Memory {
		if b != 0 {
			return fmt.Errorf("byte %#x of the window is not zero at first", i)
		}
	}
	if _, err := next.Open(); !errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("mapping the window twice: %v, want EBUSY", err)
	}
	if _, err := os.Open("/dev/next"); !errors.Is(err, syscall.EACCES) {
		return fmt.Errorf("reading /dev/next: %v, want EACCES", err)
	}
	if err := refuseMappings(start, end); err != nil {
		return err
	}
	f, err := os.OpenFile("/dev/next", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	const page = 4096
	for _, c := range []struct {
		what  string
		words []uint32
	}{
		{"too few words", []uint32{start, start}},
		{"too many words", []uint32{start, start, end, 0}},
		{"an entry that is not aligned", []uint32{start + 2, start, end}},
		{"an entry before the window", []uint32{start - 4, start, end}},
		{"an entry behind the window", []uint32{end, start, end}},
		{"an entry before a part of the window", []uint32{start, start + page, end}},
		{"an entry behind a part of the window", []uint32{start + page, start, start + page}},
		{"no window", []uint32{start, start, start}},
		{"a window upside down", []uint32{start, end, start}},
		{"a window that is not whole pages", []uint32{start + 8, start + 4, end}},
		{"a window with half a page", []uint32{start, start, end - 4}},
		{"a window that begins before", []uint32{start, start - page, end}},
		{"a window that ends behind", []uint32{start, start, end + page}},
		{"a window over this kernel's image", []uint32{0x98010000, 0x9800f000, 0x98020000}},
		{"a window up to this kernel's image", []uint32{start, start, 0x98010000}},
		{"a window over the kernel's region", []uint32{0x9ff00000, 0x9ff00000, 0xa0000000}},
		{"a window over devices", []uint32{0x02190000, 0x02190000, 0x02194000}},
		{"a window around everything", []uint32{start, 0, 0xfffff000}},
	} {
		var order []byte
		for _, v := range c.words {
			order = binary.LittleEndian.AppendUint32(order, v)
		}
		if _, err := syscall.Write(int(f.Fd()), order); err != syscall.EINVAL {
			return fmt.Errorf("%s: %v, want EINVAL", c.what, err)
		}
	}
	return nil
}

func refuseMappings(start, end uint32) error {
	mem, err := os.OpenFile("/dev/mem", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer mem.Close()
	for _, c := range []struct {
		what        string
		addr, pages uint32
		prot        int
		want        syscall.Errno
	}{
		{"the page before the window", start - 4096, 1, syscall.PROT_READ, syscall.EPERM},
		{"the page behind the window", end, 1, syscall.PROT_READ, syscall.EPERM},
		{"the window's last page and the next", end - 4096, 2, syscall.PROT_READ, syscall.EPERM},
		{"this image", 0x98010000, 1, syscall.PROT_READ | syscall.PROT_WRITE, syscall.EPERM},
		{"the kernel's region", kernel.HandoverEnd, 1, syscall.PROT_READ, syscall.EPERM},
		{"an executable window", start, 1, syscall.PROT_READ | syscall.PROT_EXEC, syscall.EACCES},
		{"a page of the window again", start + 4096, 1, syscall.PROT_READ, syscall.EBUSY},
	} {
		if _, err := syscall.Mmap(int(mem.Fd()), int64(c.addr), int(c.pages*4096), c.prot, syscall.MAP_SHARED); err != c.want {
			return fmt.Errorf("mapping %s: %v, want %v", c.what, err, c.want)
		}
	}
	return nil
}
