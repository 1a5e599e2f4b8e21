package rack

import (
	"errors"
	"os"
	"syscall"
)

// Whence of lseek(2) that finds what is in a file.
const (
	seekData = 3 // the next offset that holds data
	seekHole = 4 // the next that holds none
)

// eachData calls do for each part of a file that was ever written; what lies between
// reads as zero.
func eachData(f *os.File, do func(offset, length int64) error) error {
	for at := int64(0); ; {
		start, err := f.Seek(at, seekData)
		if errors.Is(err, syscall.ENXIO) { // there is nothing more
			return nil
		}
		if err != nil {
			return err
		}
		if at, err = f.Seek(start, seekHole); err != nil {
			return err
		}
		if err := do(start, at-start); err != nil {
			return err
		}
	}
}
