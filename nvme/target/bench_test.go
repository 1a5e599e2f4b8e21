package target_test

import (
	"io"
	"net"
	"testing"
	"time"

	"nitro/internal/hostile"
	"nitro/nvme/target"
	"nitro/nvme/wire"
)

// A belt is a connection that brings the same commands again and again, without a network
// or a host beside it: what is left is the target's own work.
type belt struct {
	pdu  []byte
	at   int
	left int // PDUs
	sent int // bytes that came back
	done chan struct{}
}

func (b *belt) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.pdu[b.at:])
	if b.at += n; b.at == len(b.pdu) {
		b.at = 0
		b.left--
	}
	return n, nil
}

func (b *belt) Write(p []byte) (int, error)      { b.sent += len(p); return len(p), nil }
func (b *belt) Close() error                     { return nil }
func (b *belt) LocalAddr() net.Addr              { return &net.UnixAddr{} }
func (b *belt) RemoteAddr() net.Addr             { return &net.UnixAddr{} }
func (b *belt) SetDeadline(time.Time) error      { return nil }
func (b *belt) SetReadDeadline(time.Time) error  { return nil }
func (b *belt) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkTarget is the target's part of one I/O on a volume in RAM. On an ARM, count
// instructions rather than time.
func BenchmarkTarget(b *testing.B) {
	write := func(size int) []byte {
		return hostile.Capsule(&wire.Command{Opcode: wire.IOWrite, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLInCapsule, Length: uint32(size), CDW12: uint32(size/512 - 1)}, make([]byte, size))
	}
	read := func(size int) []byte {
		return hostile.Capsule(&wire.Command{Opcode: wire.IORead, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLTransport, Length: uint32(size), CDW12: uint32(size/512 - 1)}, nil)
	}
	for _, c := range []struct {
		name string
		pdu  []byte
		back int
	}{
		{"flush", hostile.Capsule(&wire.Command{Opcode: wire.IOFlush, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLTransport}, nil), 24},
		{"read4k", read(4096), 24 + 4096 + 24}, {"write4k", write(4096), 24},
		{"read128k", read(128 << 10), 24 + 128<<10 + 24}, {"write128k", write(128 << 10), 24},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := target.NewProven(b, subsystem, alice, ramVolume(b, 512, 1<<20))
			conn := &belt{pdu: c.pdu, left: b.N}
			b.ReportAllocs()
			b.ResetTimer()
			<-r.Serve(conn, false)
			b.StopTimer()
			if conn.sent != b.N*c.back {
				b.Fatalf("%d bytes of answers to %d commands, want %d each", conn.sent, b.N, c.back)
			}
		})
	}
}
