package card

import (
	"errors"
	"fmt"
	"io"
	"os"

	"nitro/boot/medium"
)

// sector is the block of a file, in bytes.
const sector = 512

// A File is a medium in a file: an image of a card, or the device file of one.
type File struct {
	f    *os.File
	size int64
}

// Create makes a new file of a size in bytes, at least medium.MinSize and whole sectors.
// It is sparse: it takes the room of what is written. QEMU takes powers of two alone.
func Create(path string, size int64) (*File, error) {
	if size < medium.MinSize || size%sector != 0 {
		return nil, fmt.Errorf("card: %d bytes: a card has whole sectors of %d bytes, and at least %d bytes", size, sector, int64(medium.MinSize))
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("card: %w", err)
	}
	if err := f.Truncate(size); err != nil {
		return nil, fmt.Errorf("card: %w", errors.Join(err, f.Close()))
	}
	return &File{f, size}, nil
}

// Open opens a file, or a card's device file, to be read; or to be written as well. A
// device that is mounted is not opened to be written.
func Open(path string, write bool) (*File, error) {
	flags := os.O_RDONLY
	if write {
		flags = os.O_RDWR | os.O_EXCL // of a block device: EBUSY where the system uses it (open(2))
	}
	f, err := os.OpenFile(path, flags, 0)
	if err != nil {
		return nil, fmt.Errorf("card: %w", err)
	}
	size, err := f.Seek(0, io.SeekEnd) // Stat gives a device's size as 0
	if err == nil && size < medium.MinSize {
		err = fmt.Errorf("%s has %d bytes, and a card has at least %d: is this the card?", path, size, int64(medium.MinSize))
	}
	if err != nil {
		return nil, fmt.Errorf("card: %w", errors.Join(err, f.Close()))
	}
	return &File{f, size / sector * sector}, nil
}

// BlockSize is that of a sector, 512 bytes.
func (f *File) BlockSize() int { return sector }

// Blocks is the number of sectors.
func (f *File) Blocks() uint64 { return uint64(f.size / sector) }

// check refuses what is not whole sectors within the file.
func (f *File) check(first uint64, p []byte) error {
	if len(p)%sector != 0 || first > f.Blocks() || uint64(len(p)/sector) > f.Blocks()-first {
		return fmt.Errorf("card: %d bytes from sector %d on: the card has %d sectors", len(p), first, f.Blocks())
	}
	return nil
}

// ReadBlocks reads sectors.
func (f *File) ReadBlocks(first uint64, p []byte) error {
	if err := f.check(first, p); err != nil {
		return err
	}
	if _, err := f.f.ReadAt(p, int64(first)*sector); err != nil {
		return fmt.Errorf("card: %w", err)
	}
	return nil
}

// WriteBlocks writes sectors. When it returns they are on the disk.
func (f *File) WriteBlocks(first uint64, p []byte) error {
	if err := f.check(first, p); err != nil {
		return err
	}
	if _, err := f.f.WriteAt(p, int64(first)*sector); err != nil {
		return fmt.Errorf("card: %w", err)
	}
	if err := f.f.Sync(); err != nil {
		return fmt.Errorf("card: %w", err)
	}
	return nil
}

// Close closes the file.
func (f *File) Close() error {
	if err := f.f.Close(); err != nil {
		return fmt.Errorf("card: %w", err)
	}
	return nil
}
