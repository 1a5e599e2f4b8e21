package target_test

import (
	_ "embed"
	"io"
	"testing"
	"time"

	"nitro/internal/corpus"
	"nitro/internal/hostile"
	"nitro/nvme/target"
	"nitro/nvme/wire"
)

// What the fuzzer found: see package corpus.
//
//go:embed testdata/queues
var keptQueues string

// FuzzQueue feeds an authenticated I/O queue, or with the first byte's bit 0 an admin
// queue, with whatever comes, and then ends the connection: the target must end it too,
// serve another queue as before, and keep nothing.
func FuzzQueue(f *testing.F) {
	corpus.Add(f, keptQueues)
	f.Add(append([]byte{0}, hostile.Capsule(&wire.Command{Opcode: wire.IORead, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLTransport, Length: 512}, nil)...))
	f.Add(append([]byte{0}, hostile.Capsule(&wire.Command{Opcode: wire.IOWrite, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLInCapsule, Length: 512}, make([]byte, 512))...))
	f.Add(append([]byte{0}, append(hostile.Capsule(&wire.Command{Opcode: wire.IOWrite, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLTransport, Length: 512}, nil),
		hostile.H2C(wire.Data{Length: 512}, wire.FlagLast, make([]byte, 512))...)...))
	f.Add(append([]byte{0}, hostile.Capsule(&wire.Command{Opcode: wire.IODatasetManagement, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLInCapsule, Length: 16, CDW11: 4}, make([]byte, 16))...))
	for _, op := range []uint8{wire.AdminIdentify, wire.AdminGetLogPage, wire.AdminGetFeatures, wire.AdminAsyncEvent, wire.AdminAbort, wire.AdminFormatNVM, wire.AdminSanitize} {
		f.Add(append([]byte{1}, hostile.Capsule(&wire.Command{Opcode: op, Flags: wire.FlagSGL, SGL: wire.SGLTransport, Length: 4096, CDW10: 1}, nil)...))
	}
	n := wire.Negotiate{Transaction: 1, Hashes: []byte{1}, Groups: []byte{0}}
	cmd := wire.AuthCommand(wire.FabricsAuthSend, uint32(len(n.Encode())))
	f.Add(append([]byte{1}, hostile.Capsule(&cmd, n.Encode())...))
	r := target.NewProven(f, subsystem, alice, ramVolume(f, 512, 1<<20))
	good := r.Queue()
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 1 {
			return
		}
		nc, ended := r.Connect(b[0]&1 != 0)
		nc.SetDeadline(time.Now().Add(patience))
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			io.Copy(io.Discard, nc)
		}()
		nc.Write(b[1:])
		nc.Close()
		<-drained
		<-ended
		c := hostile.New(t, good, patience)
		if e, _ := c.Do(wire.Command{Opcode: wire.IOFlush, NSID: 1}, nil); e.Status != wire.Success && e.Status != wire.SanitizeInProgress && e.Status != wire.FormatInProgress {
			t.Fatalf("the other queue: %v", e.Status)
		}
		if conns, _, controllers, _ := r.Counts(); conns != 2 || controllers != 1 {
			t.Fatalf("%d connections, %d controllers are left", conns, controllers)
		}
	})
}
