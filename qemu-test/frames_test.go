//go:build !arm

package qemutest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"nitro/internal/metal"
	"nitro/qemu-test/emulator"
)

// answerLimit bounds what the board takes for an answer.
const answerLimit = 20 * time.Second

// A wire is the other end of an emulated port's. QEMU puts the length before each
// frame on a stream, 32 bits, big endian (docs: qemu-options, -netdev stream).
type wire struct {
	t    *testing.T
	conn net.Conn
	in   chan []byte // frames from the board
}

// A cable is where a board plugs in: it gives the emulator's arguments for port n.
type cable struct {
	t    *testing.T
	path string
	l    *net.UnixListener
}

func newCable(t *testing.T, n int) *cable {
	path := filepath.Join(t.TempDir(), fmt.Sprint("wire", n))
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &cable{t, path, l}
}

func (c *cable) args(n int) []string {
	return []string{
		"-netdev", fmt.Sprintf("stream,id=wire%d,server=off,addr.type=unix,addr.path=%s", n, c.path),
		"-net", fmt.Sprintf("nic,netdev=wire%d,macaddr=52:54:00:00:00:%02x", n, n),
	}
}

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

func TestFrames(t *testing.T) {
	image := filepath.Join(t.TempDir(), "frames.elf")
	if err := (metal.Build{}).Image(t.Context(), "nitro/qemu-test/images/frames", image); err != nil {
		t.Fatal(err)
	}
	c := newCable(t, 0)
	board := start(t, emulator.Config{Image: image, Args: c.args(0)})
	w := c.plug()
	if _, err := board.Expect(`port 0 link true\r\n`, bootLimit); err != nil {
		t.Fatal(err)
	}
	frame := append([]byte{0x52, 0x54, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, bytes.Repeat([]byte{7}, 1000)...)
	w.send(frame)
	got, err := w.receive(answerLimit)
	if err != nil {
		t.Fatal(err, string(board.Console()))
	}
	t.Logf("%d bytes: % x", len(got), got[:20])
	frame[13] = 0xb8
	w.send(frame)
	got, err = w.receive(answerLimit)
	t.Logf("%s %v", got, err)
}
