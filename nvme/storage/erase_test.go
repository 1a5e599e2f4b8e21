package storage_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"nitro/boot/medium/mediumtest"
	"nitro/nvme/initiator"
	"nitro/nvme/pool"
	"nitro/nvme/storage"
	"nitro/nvme/wire"
)

// TestEraseHalfRecorded: the card fails between the two copies of the record that says that a
// volume is empty. What the host writes then is refused, since the next start may have its
// place as free; nothing that was acknowledged is lost.
func TestEraseHalfRecorded(t *testing.T) {
	for writes := range 4 { // before the first copy, between, behind
		x := newBoard(t).start()
		v := x.serving(nil)
		host := x.connect()
		x.write(host, 1)
		x.erasing = func(secret [32]byte) error {
			x.erase = secret
			x.card.CutAfter(writes, mediumtest.Prefix)
			return nil
		}
		erased := format(x, host)
		x.card.PowerOn()
		x.erasing = nil
		n, err := host.Namespace(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		written := errors.Join(n.WriteAt(t.Context(), 3, plain), n.Flush(t.Context()))
		if (erased == nil) != (written == nil) {
			t.Errorf("%d writes: erased %v, written %v", writes, erased, written)
		}
		x.Close()
		y := x.board.start()
		y.BeginCycle(8, false)
		y.attach(v, nil)
		if written == nil && !y.read(y.connect(), 1) {
			t.Errorf("%d writes: what was acknowledged is lost", writes)
		}
		y.Close()
	}
}

// An eraser is a way in which a host erases.
type eraser func(x *boot, c *initiator.Controller) error

func format(x *boot, c *initiator.Controller) error {
	_, err := c.Admin(x.t.Context(), &wire.Command{Opcode: wire.AdminFormatNVM, NSID: 1, CDW10: 2 << 9}, nil, nil)
	return err
}

// errSanitize is what the log page says of a Sanitize that failed.
var errSanitize = errors.New("the sanitize log says that it failed")

func sanitize(x *boot, c *initiator.Controller) error {
	if _, err := c.Admin(x.t.Context(), &wire.Command{Opcode: wire.AdminSanitize, CDW10: 4}, nil, nil); err != nil {
		return err
	}
	for b := make([]byte, 512); ; {
		err := c.Log(x.t.Context(), wire.LogSanitize, 0, b)
		switch status := b[2] & 7; {
		case err != nil:
			return err
		case status == 1:
			return nil
		case status != 2:
			return errSanitize
		}
	}
}

// write has the host write plaintext to a namespace, at a block of its own.
func (x *boot) write(c *initiator.Controller, namespace uint32) {
	x.t.Helper()
	n, err := c.Namespace(x.t.Context(), namespace)
	if err == nil {
		err = n.WriteAt(x.t.Context(), 3, plain)
	}
	if err != nil {
		x.t.Fatal(err)
	}
}

// read has it read that again: all of it, or nothing of it.
func (x *boot) read(c *initiator.Controller, namespace uint32) (there bool) {
	x.t.Helper()
	n, err := c.Namespace(x.t.Context(), namespace)
	got := make([]byte, len(plain))
	if err == nil {
		err = n.ReadAt(x.t.Context(), 3, got)
	}
	if err != nil {
		x.t.Fatalf("namespace %d: %v", namespace, err)
	}
	there = bytes.Equal(got, plain)
	if !there && bytes.Contains(got, []byte("nobody")) {
		x.t.Errorf("namespace %d: some of the plaintext is there", namespace)
	}
	return there
}

// TestHostErases: what a host erases is gone for good, is empty, and can be used at once and
// after the next attachment; what it does not erase is there.
func TestHostErases(t *testing.T) {
	for _, c := range []struct {
		name   string
		kind   storage.Kind
		do     eraser
		others bool // are erased too
	}{{"format", storage.Pool, format, false}, {"format of memory", storage.RAM, format, false}, {"sanitize", storage.Pool, sanitize, true}} {
		t.Run(c.name, func(t *testing.T) {
			x := newBoard(t).start()
			v, other := x.volume(1, c.kind, 64), x.volume(2, storage.Pool, 64)
			if err := x.BeginCycle(7, false); err != nil {
				t.Fatal(err)
			}
			x.attach(v, nil)
			x.attach(other, nil)
			host := x.connect()
			x.write(host, 1)
			x.write(host, 2)
			free := x.Spaces()[storage.Pool].Free
			before := bytes.Clone(x.memory)
			if err := c.do(x, host); err != nil {
				t.Fatal(err)
			}
			x.sees(host, 1, 2)
			if x.read(host, 1) || x.read(host, 2) == c.others {
				t.Error("erased and readable, or not erased and gone")
			}
			if c.kind == storage.Pool && x.state(v).Used != 0 || x.Spaces()[storage.Pool].Free == free && c.kind == storage.Pool {
				t.Errorf("%d bytes in use", x.state(v).Used)
			}
			if want := map[storage.Kind]int{storage.Pool: 1}[c.kind]; x.erasures != want || x.settled != 3 {
				t.Errorf("the TPM's secret was overwritten %d times; settled %d times", x.erasures, x.settled)
			}
			if same := slices.Equal(before, x.memory); same {
				t.Error("the key in memory is the same")
			}
			x.certified(v, c.kind)
			x.write(host, 1)
			if err := x.Detach(t.Context(), v); err != nil {
				t.Fatal(err)
			}
			x.attach(v, nil)
			if !x.read(host, 1) {
				t.Error("what was written afterwards does not outlast the attachment")
			}
			if err := errors.Join(x.Detach(t.Context(), v), x.Detach(t.Context(), other)); err != nil || !x.empty() {
				t.Errorf("in the end: %v; no key in memory %v", err, x.empty())
			}
		})
	}
}

// certified looks for what a certificate of sanitisation is made of.
func (x *boot) certified(v [16]byte, kind storage.Kind) {
	x.t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, e := range x.events {
		if e.Kind == storage.EventHostErased && e.Volume == v && e.Cycle == 7 && e.Err == nil && e.Sanitised != nil && e.Sanitised.ID == v && e.Sanitised.Kind == kind {
			return
		}
	}
	x.t.Error("nobody was told of the erase")
}

// TestEraseNotAllowed: an erase too many changes nothing, and may be asked for again.
func TestEraseNotAllowed(t *testing.T) {
	b := newBoard(t)
	allowed := false
	b.mayErase = func() bool { return allowed }
	x := b.start()
	x.serving(nil)
	host := x.connect()
	x.write(host, 1)
	var status wire.Status
	if err := format(x, host); !errors.As(err, &status) || status != wire.CommandInterrupted {
		t.Errorf("format: %v", err)
	}
	if err := sanitize(x, host); err != errSanitize {
		t.Errorf("sanitize: %v", err)
	}
	if !x.read(host, 1) || x.erasures != 0 || x.happened(storage.EventHostErased) != 0 {
		t.Error("something was erased")
	}
	allowed = true
	if err := format(x, host); err != nil || x.read(host, 1) {
		t.Errorf("later: %v", err)
	}
}

// TestEraseFails: after an erase that failed the host goes on with what counts, whether that
// is the old salt or the new one; where nobody can tell, it loses the volume, and the key
// is gone.
func TestEraseFails(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		name        string
		fail        func(x *boot)
		there, lost bool
	}{
		{"the TPM does not answer at all", func(x *boot) { x.noTPM = broken }, true, false},
		{"the TPM refuses", func(x *boot) { x.erasing = func([32]byte) error { return broken } }, true, false},
		{"the TPM's answer is lost", func(x *boot) { x.erasing = func(s [32]byte) error { x.erase = s; return broken } }, false, false},
		{"the TPM answers no more", func(x *boot) { x.erasing = func([32]byte) error { x.noTPM = broken; return broken } }, false, true},
		{"the card fails at once", func(x *boot) { x.card.Fail(broken) }, true, false},
		{"the card fails then", func(x *boot) { x.erasing = func(s [32]byte) error { x.erase = s; x.card.Fail(broken); return nil } }, false, false},
		{"the store fails", func(x *boot) { x.noStore = broken }, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := newBoard(t).start()
			v := x.serving(nil)
			host := x.connect()
			x.write(host, 1)
			c.fail(x)
			if err := format(x, host); err == nil {
				t.Error("reported as done")
			}
			x.card.Fail(nil)
			x.noTPM, x.erasing, x.noStore = nil, nil, nil
			if c.lost {
				x.sees(host)
				if x.state(v).Attached || !x.empty() {
					t.Error("a key is left of a volume that is gone")
				}
				return
			}
			if x.sees(host, 1); x.read(host, 1) != c.there {
				t.Errorf("the plaintext is there: %v", !c.there)
			}
			n, err := host.Namespace(t.Context(), 1)
			if err == nil {
				err = n.WriteAt(t.Context(), 3, plain)
			}
			x.Close()
			y := x.board.start()
			if err := y.BeginCycle(8, false); err != nil {
				t.Fatal(err)
			}
			y.attach(v, nil)
			if there := y.read(y.connect(), 1); err == nil && !there {
				t.Error("what was written after the failure is lost")
			}
		})
	}
}

// TestEraseCut has the power cut in each write of an erase of the host's, in all ways. What
// was reported as erased is gone, other volumes keep what they hold, and the volume can be
// used; what was not reported is there as a whole, or gone as a whole.
func TestEraseCut(t *testing.T) {
	for name, c := range map[string]struct {
		do     eraser
		erased []uint32 // of the three
	}{"format": {format, []uint32{1}}, "sanitize": {sanitize, []uint32{1, 2}}} {
		t.Run(name, func(t *testing.T) {
			prepare := func() (*boot, *initiator.Controller) { // a sanitize is of what the host sees: the third is not
				x := newBoard(t).start()
				if err := x.BeginCycle(7, false); err != nil {
					t.Fatal(err)
				}
				for i := byte(3); i >= 1; i-- {
					x.attach(x.volume(i, storage.Pool, 64), nil)
				}
				host := x.connect()
				for n := uint32(1); n <= 3; n++ {
					x.write(host, n)
				}
				if err := x.Detach(t.Context(), [16]byte{1, 15: 1}); err != nil {
					t.Fatal(err)
				}
				return x, host
			}
			x, host := prepare()
			n := len(x.card.Writes())
			if err := c.do(x, host); err != nil {
				t.Fatal(err)
			}
			sectors := 0
			for _, w := range x.card.Writes()[n:] {
				sectors += len(w.Data) / 512
			}
			outcomes := map[[2]bool]int{} // reported, readable
			for cut := range len(mediumtest.Tears) * (sectors + 1) {
				x, host := prepare()
				x.card.CutAfter(cut/len(mediumtest.Tears), mediumtest.Tears[cut%len(mediumtest.Tears)])
				reported := c.do(x, host) == nil
				x.card.CutAfter(0, mediumtest.Prefix)
				x.Close()
				x.card.PowerOn()
				y := x.board.start()
				if err := y.BeginCycle(8, false); err != nil {
					t.Fatal(err)
				}
				for i := byte(3); i >= 1; i-- {
					y.attach([16]byte{i, 15: 1}, nil)
				}
				host = y.connect()
				var readable []uint32
				for n := uint32(1); n <= 3; n++ {
					if y.read(host, n) {
						readable = append(readable, n)
					}
					if y.write(host, n); !y.read(host, n) {
						t.Errorf("cut %d: volume %d cannot be used", cut, n)
					}
				}
				whole := len(readable) == 3
				if rest := slices.DeleteFunc([]uint32{1, 2, 3}, func(n uint32) bool { return slices.Contains(c.erased, n) }); !whole && !slices.Equal(readable, rest) || whole && reported {
					t.Errorf("cut %d: reported %v, readable %v", cut, reported, readable)
				}
				outcomes[[2]bool{reported, whole}]++
				y.Close()
			}
			if outcomes[[2]bool{false, true}] == 0 || outcomes[[2]bool{false, false}] == 0 || outcomes[[2]bool{true, false}] == 0 {
				t.Errorf("reported, readable: %v", outcomes)
			}
		})
	}
}

// TestEraseOldCard: who has kept a copy of the card, and is given the key, reads nothing of
// what the host erased.
func TestEraseOldCard(t *testing.T) {
	x := newBoard(t).start()
	v := x.serving(nil)
	host := x.connect()
	x.write(host, 1)
	old, era := make([]byte, 16<<20), x.era
	if err := x.card.ReadBlocks(0, old); err != nil {
		t.Fatal(err)
	}
	if err := format(x, host); err != nil {
		t.Fatal(err)
	}
	x.Close()
	if err := x.card.WriteBlocks(0, old); err != nil {
		t.Fatal(err)
	}
	x.era = era
	y := x.board.start()
	if err := y.BeginCycle(8, false); err != nil {
		t.Fatal(err)
	}
	if err := y.try(v, nil); !errors.Is(err, pool.ErrErased) {
		t.Errorf("the old card's volume has a key: %v", err)
	}
}

// TestEraseLate: an erase that comes after its volume was detached does not meet the next
// attachment, whose key is another one's, and erases nothing.
func TestEraseLate(t *testing.T) {
	x := newBoard(t).start()
	v := x.serving(nil)
	host, late := x.connect(), x.Shown(v)
	x.write(host, 1)
	if err := x.Detach(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if err := x.EraseForHost(t.Context(), late); !errors.Is(err, storage.ErrDetached) {
		t.Errorf("of a detached volume: %v", err)
	}
	x.attach(v, nil)
	if err := x.EraseForHost(t.Context(), late); !errors.Is(err, storage.ErrDetached) || !x.read(host, 1) {
		t.Errorf("of one that is attached again: %v", err)
	}
	if err := x.EraseForHost(t.Context(), x.Shown(v)); err != nil || x.read(host, 1) {
		t.Errorf("of the present one: %v", err)
	}
}

// TestEraseWhileClosing: quarantine waits for no erase, and no erase for quarantine.
func TestEraseWhileClosing(t *testing.T) {
	x := newBoard(t).start()
	x.serving(nil)
	host := x.connect()
	begun, going := make(chan struct{}), make(chan struct{})
	x.erasing = func(secret [32]byte) error { x.erase = secret; close(begun); <-going; return nil }
	go format(x, host)
	<-begun
	closed := make(chan struct{})
	go func() { defer close(closed); x.Close() }()
	for !x.empty() { // before the erase has come to its end
		time.Sleep(time.Millisecond)
	}
	close(going)
	<-closed
	if !x.empty() {
		t.Error("a key is left")
	}
}
