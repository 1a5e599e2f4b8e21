package target_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"nitro/nvme/initiator"
	"nitro/nvme/target"
	"nitro/nvme/wire"
)

// An eraser is the owner of the volumes.
type eraser struct {
	asked   chan []target.Namespace
	outcome chan error
}

func newEraser() eraser {
	return eraser{make(chan []target.Namespace, 1), make(chan error, 1)}
}

func (e eraser) erase(_ context.Context, all []target.Namespace) error {
	e.asked <- all
	return <-e.outcome
}

func (r *rig) command(c *initiator.Controller, cmd wire.Command) error {
	_, err := c.Admin(r.t.Context(), &cmd, nil, nil)
	return err
}

// TestFormat: it reaches the owner of the volumes, and its outcome the host. Until then
// the admin queue serves on.
func TestFormat(t *testing.T) {
	e := newEraser()
	r := newRig(t, target.Config{Erase: e.erase})
	r.attach(bob, 2, ramVolume(t, 512, 65536))
	c := r.connect(r.config(bob))
	ctx := t.Context()
	n := r.namespace(c, 2)
	for _, f := range []struct {
		name    string
		id      uint32
		setting uint32
		want    []uint32 // namespaces
		err     error
		status  wire.Status
	}{
		{"no erase asked for", 2, 0, []uint32{2}, nil, wire.Success},
		{"user data erase", 2, 1 << 9, []uint32{2}, nil, wire.Success},
		{"cryptographic erase", 2, 2 << 9, []uint32{2}, nil, wire.Success},
		{"of all", 0xffffffff, 2 << 9, []uint32{1, 2}, nil, wire.Success},
		{"too many", 2, 2 << 9, []uint32{2}, target.ErrLater, wire.CommandInterrupted},
		{"failed", 2, 2 << 9, []uint32{2}, errors.New("no"), wire.InternalError},
		{"another kind of erase", 2, 3 << 9, nil, nil, wire.InvalidFormat},
		{"another format", 2, 1, nil, nil, wire.InvalidFormat},
		{"no namespace", 3, 0, nil, nil, wire.InvalidNamespace},
	} {
		var err error
		if f.want == nil {
			err = r.command(c, wire.Command{Opcode: wire.AdminFormatNVM, NSID: f.id, CDW10: f.setting})
		} else {
			var wg sync.WaitGroup
			wg.Go(func() { err = r.command(c, wire.Command{Opcode: wire.AdminFormatNVM, NSID: f.id, CDW10: f.setting}) })
			all := <-e.asked
			if len(all) != len(f.want) || all[0].ID != f.want[0] || all[len(all)-1].ID != f.want[len(f.want)-1] {
				t.Errorf("%s: of %+v", f.name, all)
			}
			wantStatus(t, f.name+": a write meanwhile", n.WriteAt(ctx, 0, make([]byte, 512)), wire.FormatInProgress)
			wantStatus(t, f.name+": a sanitize meanwhile", r.command(c, wire.Command{Opcode: wire.AdminSanitize, CDW10: 4}), wire.FormatInProgress)
			if err := r.command(c, wire.Command{Opcode: wire.AdminKeepAlive}); err != nil {
				t.Errorf("%s: keep alive: %v", f.name, err)
			}
			e.outcome <- f.err
			wg.Wait()
		}
		if f.status != wire.Success {
			wantStatus(t, f.name, err, f.status)
		} else if err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
		if err := n.WriteAt(ctx, 0, make([]byte, 512)); err != nil {
			t.Errorf("%s: a write afterwards: %v", f.name, err)
		}
	}
}

// TestSanitize: it is for all namespaces of the host, runs beside other commands, and tells
// its end.
func TestSanitize(t *testing.T) {
	e := newEraser()
	r := newRig(t, target.Config{Erase: e.erase})
	told := make(chan uint32, 4)
	cfg := r.config(bob)
	cfg.Notify = func(result uint32) { told <- result }
	c := r.connect(cfg)
	n := r.namespace(c, 1)
	ctx := t.Context()
	sanitize := func(cdw10 uint32) error { return r.command(c, wire.Command{Opcode: wire.AdminSanitize, CDW10: cdw10}) }
	log := func() (progress, status uint16, cdw10 uint32) {
		b := make([]byte, 512)
		if err := c.Log(ctx, wire.LogSanitize, 0, b); err != nil {
			t.Error(err)
		}
		return le.Uint16(b), le.Uint16(b[2:]), le.Uint32(b[4:])
	}
	for what, cdw10 := range map[string]uint32{"nothing": 0, "block erase": 2, "overwrite": 3, "without deallocation": 4 | 1<<9} {
		wantStatus(t, what, sanitize(cdw10), wire.InvalidField)
	}
	if _, status, _ := log(); status != 0 {
		t.Errorf("before the first: status %d", status)
	}
	for _, outcome := range []struct {
		err    error
		status uint16
	}{{nil, 1}, {errors.New("no"), 3}} {
		if err := sanitize(4 | 1<<3); err != nil {
			t.Fatal(err)
		}
		if all := <-e.asked; len(all) != 1 || all[0].ID != 1 || all[0].Volume != r.volumes[bob] {
			t.Errorf("of %+v", all)
		}
		wantStatus(t, "a write meanwhile", n.WriteAt(ctx, 0, make([]byte, 4096)), wire.SanitizeInProgress)
		wantStatus(t, "a second sanitize", sanitize(4), wire.SanitizeInProgress)
		wantStatus(t, "a format", r.command(c, wire.Command{Opcode: wire.AdminFormatNVM, NSID: 1}), wire.SanitizeInProgress)
		wantStatus(t, "leaving a failure", sanitize(1), wire.SanitizeInProgress)
		if progress, status, _ := log(); progress != 0 || status != 2 {
			t.Errorf("meanwhile: progress %#x, status %d", progress, status)
		}
		e.outcome <- outcome.err
		if got := <-told; got != wire.EventSanitized {
			t.Errorf("event %#x", got)
		}
		if progress, status, cdw10 := log(); progress != 0xffff || status != outcome.status || cdw10 != 4|1<<3 {
			t.Errorf("afterwards: progress %#x, status %d, command %#x", progress, status, cdw10)
		}
		if err := n.WriteAt(ctx, 0, make([]byte, 4096)); err != nil {
			t.Errorf("a write afterwards: %v", err)
		}
	}
	if err := sanitize(1); err != nil {
		t.Errorf("leaving the failure: %v", err)
	}
	if _, status, _ := log(); status != 0 {
		t.Errorf("after that: status %d", status)
	}
}

// TestNoErase: a target whose owner erases nothing for hosts does not offer it.
func TestNoErase(t *testing.T) {
	r := newRig(t, target.Config{})
	c := r.connect(r.config(alice))
	if id := c.Identity(); id.OACS != 0 || id.SANICAP != 0 || id.FNA != 0 {
		t.Errorf("it says %+v", id)
	}
	for _, op := range []uint8{wire.AdminFormatNVM, wire.AdminSanitize} {
		wantStatus(t, "erase", r.command(c, wire.Command{Opcode: op, NSID: 1, CDW10: 4}), wire.InvalidOpcode)
	}
	b := make([]byte, 4096)
	if err := c.Log(t.Context(), wire.LogEffects, 0, b); err != nil || b[4*int(wire.AdminFormatNVM)] != 0 || b[4*int(wire.AdminIdentify)] == 0 {
		t.Errorf("effects: %v, % x", err, b[4*int(wire.AdminFormatNVM)])
	}
}

// TestEraseWaits: what is under way ends before an erase begins, and an end of the target
// does not wait for it.
func TestEraseWaits(t *testing.T) {
	for _, closed := range []bool{false, true} {
		erased := make(chan struct{})
		r := newRig(t, target.Config{Lanes: 2, Erase: func(context.Context, []target.Namespace) error { close(erased); return nil }})
		s := newSlow(t)
		r.attach(alice, 2, s)
		c := r.connect(r.config(alice))
		n := r.namespace(c, 2)
		var wg sync.WaitGroup
		wg.Go(func() { n.ReadAt(t.Context(), 0, make([]byte, 512)) })
		<-s.began
		wg.Go(func() { r.command(c, wire.Command{Opcode: wire.AdminFormatNVM, NSID: 2}) })
		r.eventually("the format begins", func() bool {
			var status wire.Status
			return errors.As(n.WriteAt(t.Context(), 0, make([]byte, 512)), &status) && status.Code() == wire.FormatInProgress
		})
		select {
		case <-erased:
			t.Error("erased under a read")
		default:
		}
		if closed {
			wg.Go(func() { r.Close() })
			r.eventually("the target is closed", func() bool { _, err := c.Namespaces(t.Context()); return err != nil })
		}
		close(s.release)
		wg.Wait()
		select {
		case <-erased:
			if closed {
				t.Error("erased after the end")
			}
		default:
			if !closed {
				t.Error("not erased")
			}
		}
	}
}

// TestEraseDetached: a namespace that is detached while it is erased stays so, and the one
// that comes in its place is none of the erase's.
func TestEraseDetached(t *testing.T) {
	e := newEraser()
	r := newRig(t, target.Config{Erase: e.erase})
	c := r.connect(r.config(alice))
	n := r.namespace(c, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := r.command(c, wire.Command{Opcode: wire.AdminFormatNVM, NSID: 1}); err != nil {
			t.Error(err)
		}
	})
	all := <-e.asked
	if err := r.Detach(t.Context(), alice, 1); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, "a write to what is detached", n.WriteAt(t.Context(), 0, make([]byte, 512)), wire.InvalidNamespace)
	other := ramVolume(t, 512, 65536)
	r.attach(alice, 1, other)
	if err := n.WriteAt(t.Context(), 0, make([]byte, 512)); err != nil || all[0].Volume == other {
		t.Errorf("a write to what came in its place: %v", err)
	}
	e.outcome <- nil
	wg.Wait()
}
