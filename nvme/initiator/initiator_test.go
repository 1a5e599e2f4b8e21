package initiator_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"nitro/internal/pipes"
	"nitro/nvme/dhchap"
	"nitro/nvme/initiator"
	"nitro/nvme/target"
	"nitro/nvme/volume"
	"nitro/nvme/wire"
)

const (
	subsystem = "nqn.2026-01.test:ctl"
	host      = "nqn.2014-08.org.nvmexpress:uuid:host"
	patience  = 2 * time.Minute
)

var le = binary.LittleEndian

// A rig is a target behind a wire that can be tampered with.
type rig struct {
	t       *testing.T
	pipes   *pipes.Listener
	config  initiator.Config
	medium  volume.Volume
	change  atomic.Pointer[func(pdu []byte) []byte] // of what the target sends; nil drops it
	stalled atomic.Bool                             // nothing more comes from the target
}

func newRig(t *testing.T, cfg target.Config) *rig {
	t.Helper()
	v, err := volume.NewRAM(512, 4096)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, pipes: pipes.New(), medium: v}
	cfg.SubsystemNQN = subsystem
	k, err := target.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); k.Serve(r.pipes) }()
	t.Cleanup(func() { k.Close(); <-served })
	var one, two dhchap.Secret
	if err := errors.Join(one.Generate(dhchap.SHA256), two.Generate(dhchap.SHA256), k.AddHost(host, &one, &two),
		k.Attach(host, target.Namespace{ID: 1, Volume: v, UUID: [16]byte{1}})); err != nil {
		t.Fatal(err)
	}
	r.config = initiator.Config{Dial: r.dial, SubsystemNQN: subsystem, HostNQN: host, HostID: [16]byte{1}, Secret: &one, Opposite: &two, Limit: patience}
	return r
}

// dial gives a connection through the wire.
func (r *rig) dial(ctx context.Context) (net.Conn, error) {
	far, err := r.pipes.Dial(ctx)
	if err != nil {
		return nil, err
	}
	here, wireEnd := net.Pipe()
	go func() {
		defer far.Close()
		io.Copy(far, wireEnd)
	}()
	go func() {
		defer wireEnd.Close()
		for {
			head := make([]byte, wire.HeaderSize)
			if _, err := io.ReadFull(far, head); err != nil {
				return
			}
			pdu := append(head, make([]byte, le.Uint32(head[4:])-wire.HeaderSize)...)
			if _, err := io.ReadFull(far, pdu[wire.HeaderSize:]); err != nil {
				return
			}
			if change := r.change.Load(); change != nil {
				pdu = (*change)(pdu)
			}
			if r.stalled.Load() || pdu == nil {
				continue
			}
			if _, err := wireEnd.Write(pdu); err != nil {
				return
			}
		}
	}()
	return here, nil
}

// tamper changes the first PDU of a kind from now on.
func (r *rig) tamper(kind uint8, change func(pdu []byte) []byte) {
	var once atomic.Bool
	f := func(pdu []byte) []byte {
		if pdu[0] == kind && !once.Swap(true) {
			return change(pdu)
		}
		return pdu
	}
	r.change.Store(&f)
}

func (r *rig) connect() (*initiator.Controller, *initiator.Namespace) {
	r.t.Helper()
	c, err := initiator.Connect(r.t.Context(), r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	n, err := c.Namespace(r.t.Context(), 1)
	if err != nil {
		r.t.Fatal(err)
	}
	return c, n
}

// TestControllerMisbehaves: whatever a controller sends, a call ends with an error, and
// nothing is written outside the caller's data.
func TestControllerMisbehaves(t *testing.T) {
	put16 := func(at int, v uint16) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint16(b[at:], v); return b }
	}
	put32 := func(at int, v uint32) func([]byte) []byte {
		return func(b []byte) []byte { le.PutUint32(b[at:], v); return b }
	}
	for _, c := range []struct {
		name   string
		kind   uint8
		write  bool
		change func([]byte) []byte
	}{
		{"response to another command", wire.TypeCapsuleResp, true, put16(20, 31)},
		{"response to a command beyond the queue", wire.TypeCapsuleResp, true, put16(20, 0xffff)},
		{"response before the data", wire.TypeC2HData, false, func([]byte) []byte { return nil }},
		{"success without asking for data", wire.TypeR2T, true, func(b []byte) []byte {
			e := make([]byte, wire.ResponsePDU)
			wire.Header{Type: wire.TypeCapsuleResp, HLEN: wire.ResponsePDU, PLEN: wire.ResponsePDU}.Encode(e)
			le.PutUint16(e[20:], le.Uint16(b[8:]))
			return e
		}},
		{"data of another command", wire.TypeC2HData, false, put16(8, 30)},
		{"data at an offset", wire.TypeC2HData, false, put32(12, 512)},
		{"data at 4 GiB", wire.TypeC2HData, false, put32(12, 0xffffff00)},
		{"DATAL that lies", wire.TypeC2HData, false, put32(16, 4096)},
		{"more data than asked for", wire.TypeC2HData, false, func(b []byte) []byte {
			le.PutUint32(b[4:], uint32(len(b)+512))
			le.PutUint32(b[16:], uint32(len(b)-24+512))
			return append(b, make([]byte, 512)...)
		}},
		{"success with flow control", wire.TypeC2HData, false, func(b []byte) []byte { b[1] |= wire.FlagSuccess; return b }},
		{"R2T for nothing", wire.TypeR2T, true, put32(16, 0)},
		{"R2T for too much", wire.TypeR2T, true, put32(16, 1<<20)},
		{"R2T out of order", wire.TypeR2T, true, put32(12, 512)},
		{"R2T at 4 GiB", wire.TypeR2T, true, put32(12, 0xfffffff0)},
		{"R2T of another command", wire.TypeR2T, true, put16(8, 30)},
		{"R2T of a read", wire.TypeC2HData, false, func(b []byte) []byte {
			r := make([]byte, wire.R2TPDU)
			wire.Header{Type: wire.TypeR2T, HLEN: wire.R2TPDU, PLEN: wire.R2TPDU}.Encode(r)
			wire.R2T{CCCID: le.Uint16(b[8:]), Length: 512}.Encode(r)
			return r
		}},
		{"a PDU of a host", wire.TypeCapsuleResp, true, func(b []byte) []byte { b[0] = wire.TypeCapsuleCmd; return b }},
		{"a second set-up", wire.TypeCapsuleResp, true, func(b []byte) []byte { b[0] = wire.TypeICResp; return b }},
		{"HLEN", wire.TypeCapsuleResp, true, func(b []byte) []byte { b[2]++; return b }},
		{"PLEN of 4 GiB", wire.TypeC2HData, false, put32(4, 0xffffffff)},
		{"a digest that was not agreed", wire.TypeCapsuleResp, true, func(b []byte) []byte { b[1] = wire.FlagHeaderDigest; return b }},
		{"a termination", wire.TypeCapsuleResp, true, func([]byte) []byte {
			var b [wire.MaxTermReq]byte
			return b[:wire.EncodeTermReq(&b, wire.TypeC2HTermReq, wire.TermReq{Status: 1}, nil)]
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, target.Config{InCapsule: 8192})
			r.config.InCapsule = 1
			k, n := r.connect()
			before := bytes.Repeat([]byte{0xee}, 3*512)
			p := bytes.Clone(before)
			r.tamper(c.kind, c.change)
			var err error
			if c.write {
				err = n.WriteAt(t.Context(), 0, p[512:1024])
			} else {
				err = n.ReadAt(t.Context(), 0, p[512:1024])
			}
			if !errors.Is(err, volume.ErrUnavailable) {
				t.Errorf("%v", err)
			}
			if !bytes.Equal(p[:512], before[:512]) || !bytes.Equal(p[1024:], before[1024:]) {
				t.Error("written outside the data")
			}
			if err := n.Flush(t.Context()); !errors.Is(err, volume.ErrUnavailable) {
				t.Errorf("the queue afterwards: %v", err)
			}
			k.Close()
			again, err := initiator.Connect(t.Context(), r.config)
			if err != nil {
				t.Fatalf("connecting again: %v", err)
			}
			again.Close()
		})
	}
}

// TestSetUpMisbehaves: a connection that is not as asked for is not used.
func TestSetUpMisbehaves(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"a digest":             func(b []byte) []byte { b[11] = 1; return b },
		"version":              func(b []byte) []byte { b[8] = 1; return b },
		"MAXH2CDATA too small": func(b []byte) []byte { le.PutUint32(b[12:], 2048); return b },
		"MAXH2CDATA crooked":   func(b []byte) []byte { le.PutUint32(b[12:], 8193); return b },
		"PLEN":                 func(b []byte) []byte { b[4] = 127; return b },
	} {
		r := newRig(t, target.Config{})
		r.tamper(wire.TypeICResp, change)
		if c, err := initiator.Connect(t.Context(), r.config); err == nil {
			c.Close()
			t.Errorf("%s: connected", name)
		}
	}
}

// TestAuthMisbehaves: a controller that wants less than the host offers, or does not know
// its secret, gets nothing.
func TestAuthMisbehaves(t *testing.T) {
	body := wire.DataPDU
	for _, c := range []struct {
		name    string
		message uint8
		change  func(m []byte)
	}{
		{"the null group", wire.AuthChallenge, func(m []byte) { m[9] = 0; le.PutUint16(m[10:], 0) }},
		{"a group that was not offered", wire.AuthChallenge, func(m []byte) { // in good form
			m[9] = 2
			le.PutUint16(m[10:], 384)
			clear(m[48 : 48+384])
			m[48+383] = 5
		}},
		{"a hash that was not offered", wire.AuthChallenge, func(m []byte) { m[8] = 2 }},
		{"another challenge", wire.AuthChallenge, func(m []byte) { m[16] ^= 1 }},
		{"a public value of 1", wire.AuthChallenge, func(m []byte) { clear(m[48 : 48+255]); m[48+255] = 1 }},
		{"another transaction", wire.AuthChallenge, func(m []byte) { m[4] ^= 1 }},
		{"lengths that lie", wire.AuthChallenge, func(m []byte) { m[10], m[11] = 0xff, 0xff }},
		{"another message", wire.AuthChallenge, func(m []byte) { m[1] = wire.AuthSuccess1 }},
		{"a wrong response", wire.AuthSuccess1, func(m []byte) { m[20] ^= 1 }},
		{"no response", wire.AuthSuccess1, func(m []byte) { m[8] = 0 }},
	} {
		r := newRig(t, target.Config{})
		r.config.Hashes, r.config.Groups = []dhchap.Hash{dhchap.SHA256}, []dhchap.Group{dhchap.FFDHE2048}
		changed := false
		f := func(pdu []byte) []byte {
			if pdu[0] == wire.TypeC2HData && pdu[body] == wire.AuthDHCHAP && pdu[body+1] == c.message {
				c.change(pdu[body:])
				changed = true
			}
			return pdu
		}
		r.change.Store(&f)
		k, err := initiator.Connect(t.Context(), r.config)
		if err == nil {
			k.Close()
		}
		if err == nil || !changed {
			t.Errorf("%s: %v, changed %v", c.name, err, changed)
		}
		if strings.HasSuffix(c.name, "not offered") && !strings.Contains(err.Error(), "which were not offered") {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// Who strips the demand for an authentication does not get past the host.
	r := newRig(t, target.Config{})
	r.tamper(wire.TypeCapsuleResp, func(b []byte) []byte { b[10] = 0; return b })
	if _, err := initiator.Connect(t.Context(), r.config); !errors.Is(err, initiator.ErrAuth) {
		t.Errorf("no authentication asked for: %v", err)
	}
}

// TestDamage: data that was damaged on the way is not given to the caller as good.
func TestDamage(t *testing.T) {
	for kind, what := range map[uint8]string{wire.TypeC2HData: "data", wire.TypeCapsuleResp: "response"} {
		r := newRig(t, target.Config{})
		r.config.HeaderDigest, r.config.DataDigest = true, true
		_, n := r.connect()
		r.tamper(kind, func(b []byte) []byte { b[len(b)-6] ^= 1; return b })
		if err := n.ReadAt(t.Context(), 0, make([]byte, 4096)); !errors.Is(err, volume.ErrUnavailable) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestSilence: a controller that says nothing holds nobody longer than the limit, or than
// the caller's context.
func TestSilence(t *testing.T) {
	r := newRig(t, target.Config{})
	r.config.Limit = time.Second
	_, n := r.connect()
	r.stalled.Store(true)
	if err := n.Flush(context.Background()); !errors.Is(err, volume.ErrUnavailable) {
		t.Errorf("past the limit: %v", err)
	}
	r = newRig(t, target.Config{})
	_, n = r.connect()
	r.stalled.Store(true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := n.ReadAt(ctx, 0, make([]byte, 512)); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, volume.ErrUnavailable) {
		t.Errorf("past the context's end: %v", err)
	}
}

// TestRemote puts an encrypted volume on a namespace: what the target has is ciphertext.
func TestRemote(t *testing.T) {
	r := newRig(t, target.Config{})
	_, n := r.connect()
	ctx := t.Context()
	data := bytes.Repeat([]byte("plain"), 1<<20/5+1)[:1<<20] // more than a command takes
	if err := n.WriteAt(ctx, 100, data); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	if err := n.ReadAt(ctx, 100, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read: %v, right %v", err, bytes.Equal(got, data))
	}
	if err := errors.Join(n.Zero(ctx, 100, 1000), n.Deallocate(ctx, 1100, 10), n.Flush(ctx)); err != nil {
		t.Error(err)
	}
	clear(data[:1010*512])
	if err := n.ReadAt(ctx, 100, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read after zero: %v, right %v", err, bytes.Equal(got, data))
	}
	for _, err := range []error{n.ReadAt(ctx, 4096, got[:512]), n.WriteAt(ctx, 4090, got[:4096]), n.Zero(ctx, 4096, 1), n.Deallocate(ctx, 0, 4097), n.WriteAt(ctx, 0, got[:100])} {
		if !errors.Is(err, volume.ErrRange) {
			t.Errorf("outside: %v", err)
		}
	}
	n.Close()
	if err := n.Flush(ctx); !errors.Is(err, volume.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

// TestConfig refuses what cannot be.
func TestConfig(t *testing.T) {
	r := newRig(t, target.Config{})
	for name, change := range map[string]func(c *initiator.Config){
		"host name":       func(c *initiator.Config) { c.HostNQN = "x" },
		"subsystem name":  func(c *initiator.Config) { c.SubsystemNQN = "x" },
		"host identifier": func(c *initiator.Config) { c.HostID = [16]byte{} },
		"queues":          func(c *initiator.Config) { c.Queues = 17 },
		"depth":           func(c *initiator.Config) { c.Depth = 1 },
		"keep alive":      func(c *initiator.Config) { c.KeepAlive = time.Millisecond },
		"dial":            func(c *initiator.Config) { c.Dial = nil },
	} {
		cfg := r.config
		change(&cfg)
		if c, err := initiator.Connect(t.Context(), cfg); err == nil {
			c.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}
