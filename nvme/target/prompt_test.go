package target_test

import (
	"bytes"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nitro/internal/hostile"
	"nitro/nvme/target"
	"nitro/nvme/volume"
	"nitro/nvme/wire"
)

// A promptConn is a connection as net/stack's are: what comes lies in a buffer, and who
// fills it (the receiver) calls a handler first.
type promptConn struct {
	net.Conn
	turns *atomic.Int64 // answers that handlers have sent

	mu      sync.Mutex
	changed sync.Cond
	in, out []byte
	inErr   error
	outErr  error
	late    bool // the deadline for reading has passed
	writing bool // what was taken from out is being written
	ready   bool // Await is to look
	handler func() (more, done bool)
	at      sync.Mutex // held while the handler runs
	inTurn  atomic.Bool
}

// promptRoom is how many bytes a connection takes each way: less than two large answers.
const promptRoom = 24 << 10

func newPrompt(nc net.Conn, turns *atomic.Int64) *promptConn {
	c := &promptConn{Conn: nc, turns: turns, in: make([]byte, 0, promptRoom), out: make([]byte, 0, promptRoom)}
	c.changed.L = &c.mu
	go c.receive()
	go c.transmit()
	return c
}

func (c *promptConn) receive() {
	part := make([]byte, promptRoom/2)
	for {
		n, err := c.Conn.Read(part)
		c.mu.Lock()
		for len(c.in)+n > cap(c.in) && c.outErr == nil {
			c.changed.Wait()
		}
		if c.inErr = err; c.outErr == nil {
			c.in = append(c.in, part[:n]...)
		}
		c.ready = true
		c.changed.Broadcast()
		c.mu.Unlock()
		for c.turn() {
		}
		if err != nil {
			return
		}
	}
}

// turn gives the handler one, and reports whether it wants another.
func (c *promptConn) turn() bool {
	c.at.Lock()
	defer c.at.Unlock()
	if c.handler == nil {
		return false
	}
	c.inTurn.Store(true)
	more, done := c.handler()
	c.inTurn.Store(false)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ready = !done; !done {
		c.handler = nil
		c.changed.Broadcast()
		return false
	}
	return more
}

func (c *promptConn) transmit() {
	part := make([]byte, promptRoom)
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.out) == 0 && c.outErr == nil {
			c.changed.Wait()
		}
		if c.outErr != nil {
			return
		}
		n := copy(part, c.out)
		c.out, c.writing = c.out[:0], true
		c.mu.Unlock()
		_, err := c.Conn.Write(part[:n])
		c.mu.Lock()
		if c.writing = false; err != nil {
			c.outErr = err
		}
		c.changed.Broadcast()
	}
}

func (c *promptConn) TryRead(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := copy(p, c.in)
	c.in = c.in[:copy(c.in, c.in[n:])]
	c.changed.Broadcast()
	if n == 0 {
		return 0, c.inErr
	}
	return n, nil
}

// mayWait tells what must not be called in a turn: nothing else calls it meanwhile.
func (c *promptConn) mayWait(what string) {
	if c.inTurn.Load() {
		panic(what + " in a turn")
	}
}

func (c *promptConn) Read(p []byte) (int, error) {
	c.mayWait("Read")
	for {
		if n, err := c.TryRead(p); n > 0 || err != nil {
			return n, err
		}
		c.mu.Lock()
		for len(c.in) == 0 && c.inErr == nil && c.outErr == nil && !c.late {
			c.changed.Wait()
		}
		late, err := c.late, c.outErr
		c.mu.Unlock()
		if late {
			return 0, os.ErrDeadlineExceeded
		} else if err != nil {
			return 0, err
		}
	}
}

func (c *promptConn) TryWrite(p []byte) (int, error) {
	c.turns.Add(1)
	return c.put(p)
}

func (c *promptConn) put(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.outErr != nil {
		return 0, c.outErr
	}
	n := min(len(p), cap(c.out)-len(c.out))
	c.out = append(c.out, p[:n]...)
	c.changed.Broadcast()
	return n, nil
}

// Write waits until all has gone.
func (c *promptConn) Write(p []byte) (int, error) {
	c.mayWait("Write")
	for done := 0; ; {
		n, err := c.put(p[done:])
		if done += n; err != nil {
			return done, err
		}
		c.mu.Lock()
		for (len(c.out) > 0 || c.writing) && c.outErr == nil {
			c.changed.Wait()
		}
		err = c.outErr
		c.mu.Unlock()
		if err != nil || done == len(p) {
			return done, err
		}
	}
}

func (c *promptConn) Await(handler func() (more, done bool)) error {
	c.at.Lock()
	c.mu.Lock()
	c.ready = len(c.in) > 0
	c.mu.Unlock()
	c.handler = handler
	c.at.Unlock()
	defer func() {
		c.at.Lock()
		defer c.at.Unlock()
		c.handler = nil
	}()
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.ready && c.inErr == nil && c.outErr == nil {
		c.changed.Wait()
	}
	return c.outErr
}

// CloseWrite is what a pipe cannot do.
func (c *promptConn) CloseWrite() error {
	c.mayWait("CloseWrite")
	return errors.ErrUnsupported
}

func (c *promptConn) Close() error {
	c.mu.Lock()
	c.outErr = net.ErrClosed
	c.changed.Broadcast()
	c.mu.Unlock()
	return c.Conn.Close()
}

func (c *promptConn) SetReadDeadline(at time.Time) error {
	time.AfterFunc(time.Until(at), func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.late = true
		c.changed.Broadcast()
	})
	return nil
}

// A promptListener makes the connections of another one prompt.
type promptListener struct {
	net.Listener
	turns *atomic.Int64
}

func (l promptListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return newPrompt(nc, l.turns), nil
}

// unhurried is a volume that does not say that it waits for nothing.
type unhurried struct{ volume.Volume }

// TestTurns: which commands are done where they arrive.
func TestTurns(t *testing.T) {
	r := newRig(t, target.Config{})
	r.attach(alice, 2, unhurried{ramVolume(t, 512, 1<<20)})
	c := r.connect(r.config(alice))
	for _, k := range []struct {
		name      string
		namespace uint32
		size      int
		prompt    bool
	}{
		{"small", 1, 4096, true}, {"as large as may be", 1, 16 << 10, true}, {"larger", 1, 16<<10 + 512, false},
		{"of a volume that may wait", 2, 4096, false},
	} {
		n := r.namespace(c, k.namespace)
		p, got := pattern(k.size, 3), make([]byte, k.size)
		write := func() error { return n.WriteAt(t.Context(), 8, p) }
		read := func() error { return n.ReadAt(t.Context(), 8, got) }
		for name, do := range map[string]func() error{"read": read, "write": write} {
			// More data than the connection's buffer for commands holds is the goroutine's.
			prompt := k.prompt && (name == "read" || k.size < 8<<10)
			for range 2 { // so that it waits again when it is counted
				if err := do(); err != nil {
					t.Fatal(err)
				}
			}
			const rounds = 20
			before := r.turns.Load()
			for range rounds {
				if err := do(); err != nil {
					t.Fatal(err)
				}
			}
			if turns := r.turns.Load() - before; prompt && turns == 0 || !prompt && turns > 0 {
				t.Errorf("%s %s: %d answers in turns to %d commands", k.name, name, turns, rounds)
			}
		}
		if err := read(); err != nil || !bytes.Equal(got, p) {
			t.Errorf("%s: %v, right %v", k.name, err, bytes.Equal(got, p))
		}
	}
}

// TestTurnsOutOfRoom: answers that find no room are sent when there is some, whole and in
// order, and so is what ends a connection.
func TestTurnsOutOfRoom(t *testing.T) {
	r := newRig(t, target.Config{})
	n := r.namespace(r.connect(r.config(alice)), 1)
	want := pattern(64<<10, 9)
	if err := n.WriteAt(t.Context(), 0, want); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			got := make([]byte, 16<<10)
			for i := range 20 {
				lba := uint64((w + i) % 97)
				if err := n.ReadAt(t.Context(), lba, got); err != nil || !bytes.Equal(got, want[lba<<9:][:len(got)]) {
					t.Errorf("at %d: %v, or other data", lba, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

// TestTurnsFatal: a breach of the rules that is found in a turn ends the connection as it
// does elsewhere.
func TestTurnsFatal(t *testing.T) {
	p := target.NewProven(t, subsystem, alice, ramVolume(t, 512, 1<<20))
	here, there := net.Pipe()
	turns := new(atomic.Int64)
	ended := p.Serve(newPrompt(there, turns), false)
	c := hostile.New(t, here, patience)
	for turns.Load() < 2 { // then whoever waits does so again
		if s, got := c.Do(wire.Command{Opcode: wire.IORead, NSID: 1, Length: 512}, nil); s.Status != wire.Success || len(got) != 512 {
			t.Fatalf("read: %v, %d bytes", s.Status, len(got))
		}
	}
	cmd := wire.Command{Opcode: wire.IOWrite, Flags: wire.FlagSGL, NSID: 1, SGL: wire.SGLInCapsule, Length: 1024}
	c.Send(hostile.Capsule(&cmd, make([]byte, 512)))
	if got := c.PDU(); got == nil || got[0] != wire.TypeC2HTermReq {
		t.Errorf("a length that does not fit: % x", got)
	}
	if got := c.PDU(); got != nil {
		t.Errorf("the connection goes on with % x", got)
	}
	<-ended
}

// TestTurnsMore: commands that come together are all done, though a turn ends before.
func TestTurnsMore(t *testing.T) {
	p := target.NewProven(t, subsystem, alice, ramVolume(t, 512, 1<<20))
	here, there := net.Pipe()
	turns := new(atomic.Int64)
	p.Serve(newPrompt(there, turns), false)
	c := hostile.New(t, here, patience)
	for turns.Load() < 20 {
		var all []byte
		for id := range uint16(5) {
			all = append(all, hostile.Capsule(&wire.Command{Opcode: wire.IORead, Flags: wire.FlagSGL, CID: id, NSID: 1, SGL: wire.SGLTransport, Length: 8192, CDW12: 15}, nil)...)
		}
		c.Send(all)
		for id := range uint16(5) {
			if e, data := c.Completion(); e.CID != id || e.Status != wire.Success || len(data) != 8192 {
				t.Fatalf("command %d: %+v, %d bytes", id, e, len(data))
			}
		}
	}
}
