//go:build !arm

package qemutest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// answerLimit bounds what the board takes for an answer.
const answerLimit = 20 * time.Second

// A cable is where an emulated port is to be plugged in.
type cable struct {
	t    *testing.T
	path string
	l    *net.UnixListener
}

func newCable(t *testing.T) *cable {
	path := filepath.Join(t.TempDir(), "wire")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &cable{t, path, l}
}

// args gives the emulator's arguments that plug port n in, under the name wiren. Ports
// are in the order of the calls.
func (c *cable) args(n int) []string {
	return []string{
		"-netdev", fmt.Sprintf("stream,id=wire%d,server=off,addr.type=unix,addr.path=%s", n, c.path),
		"-net", fmt.Sprintf("nic,netdev=wire%d,macaddr=%v", n, portAddress(n)),
	}
}

// portAddress is that of the board's port n.
func portAddress(n int) net.HardwareAddr { return net.HardwareAddr{0x52, 0x54, 0, 0, 0, byte(n)} }

// plug waits until the emulator has connected.
func (c *cable) plug() *wire {
	c.t.Helper()
	c.l.SetDeadline(time.Now().Add(answerLimit))
	conn, err := c.l.Accept()
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	w := &wire{c.t, conn, make(chan []byte, 1<<16)}
	go w.read()
	return w
}

// A wire is the other end of an emulated port's. On a stream each frame has its length
// before it, 32 bits, big endian (QEMU, net/stream.c).
type wire struct {
	t    *testing.T
	conn net.Conn
	in   chan []byte // frames from the board
}

func (w *wire) read() {
	defer close(w.in)
	for {
		var length [4]byte
		if _, err := io.ReadFull(w.conn, length[:]); err != nil {
			return
		}
		frame := make([]byte, binary.BigEndian.Uint32(length[:]))
		if _, err := io.ReadFull(w.conn, frame); err != nil {
			return
		}
		w.in <- frame
	}
}

// send sends frames, as fast as they go.
func (w *wire) send(frames ...[]byte) {
	w.t.Helper()
	var all []byte
	for _, frame := range frames {
		all = binary.BigEndian.AppendUint32(all, uint32(len(frame)))
		all = append(all, frame...)
	}
	w.conn.SetWriteDeadline(time.Now().Add(answerLimit))
	if _, err := w.conn.Write(all); err != nil {
		w.t.Fatal(err)
	}
}

var errSilence = errors.New("no frame came")

func (w *wire) receive(limit time.Duration) ([]byte, error) {
	select {
	case frame, ok := <-w.in:
		if !ok {
			return nil, io.ErrUnexpectedEOF
		}
		return frame, nil
	case <-time.After(limit):
		return nil, errSilence
	}
}
