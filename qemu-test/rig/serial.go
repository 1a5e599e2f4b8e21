package rig

import (
	"fmt"
	"maps"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// speeds are the serial speeds that a console may have, in bits a second, as termios names them.
var speeds = map[int]uint32{
	9600: unix.B9600, 19200: unix.B19200, 38400: unix.B38400, 57600: unix.B57600, 115200: unix.B115200,
	230400: unix.B230400, 460800: unix.B460800, 921600: unix.B921600,
}

// Bauds lists the speeds.
func Bauds() []int { return slices.Sorted(maps.Keys(speeds)) }

// openSerial opens a serial device raw, 8N1, without flow control (termios(3)), and throws away
// what has come before. Closing it ends a Read.
func openSerial(device string, baud int) (*os.File, error) {
	// Not blocking: without a carrier the open would wait, and the runtime polls it then.
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_NOCTTY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("rig: console %s: %w", device, err)
	}
	f := os.NewFile(uintptr(fd), device)
	t, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("rig: console %s: %w: name a serial device", device, err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	t.Cflag = unix.CS8 | unix.CREAD | unix.CLOCAL | speeds[baud]
	t.Cc[unix.VMIN], t.Cc[unix.VTIME] = 1, 0
	t.Ispeed, t.Ospeed = speeds[baud], speeds[baud]
	err = unix.IoctlSetTermios(fd, unix.TCSETS, t)
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TCFLSH, unix.TCIFLUSH)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("rig: console %s: %w", device, err)
	}
	return f, nil
}
