package provisioning

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"nitro/boot/code"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
)

// TestWhole: a new board is provisioned, boots, and refuses from then on.
func TestWhole(t *testing.T) {
	r := newRig(t)
	s, err := r.begin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	address, ended, err := serve(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	o := r.factory(address)
	var steps []Step
	o.Progress = func(s Step) { steps = append(steps, s) }
	record, err := Provision(ctx, o)
	if err != nil {
		t.Fatal(err)
	}
	if e := <-ended; e.err != nil || e.result == nil || len(e.result.Pin.AK) != 34 {
		t.Fatalf("%+v", e)
	}
	t.Logf("%d events, %v", r.power.events, steps)
	if !record.Complete || len(record.Lockout) != 32 {
		t.Errorf("%+v", record)
	}
	r.chip.Cycle()
	r.checkProvisioned("whole")
}

// A cut is an event at which the power goes, and how it tears a write.
type cut struct{ event, tear int }

// cuts are those that a sweep makes in a run that was seen whole. The short form has a
// stride, and where it begins and how it tears changes from run to run, so that in time
// all are met.
func cuts(whole *power, stride int) (all []cut) {
	if os.Getenv("NITRO_POWERCUT") != "" {
		for n := range whole.events {
			all = append(all, cut{n + 1, 0})
		}
		for _, w := range whole.writes {
			for tear := range mediumtest.Tears {
				all = append(all, cut{w.event, tear + 1}) // the last one is a whole write
			}
		}
		return all
	}
	for n := 1 + rand.IntN(stride); n <= whole.events; n += stride {
		all = append(all, cut{n, rand.IntN(len(mediumtest.Tears) + 1)})
	}
	return all
}

// sweep has the power go in a run, resumes, and looks whether the board is provisioned
// and nothing is lost.
func sweep(t *testing.T, made *rig, stride int) {
	whole := made.clone()
	if err := whole.attempt(); err != nil {
		t.Fatal(err)
	}
	all := cuts(whole.power, stride)
	committed := 0
	for _, c := range all {
		r := made.clone()
		r.power.on(c.event, c.tear)
		what := fmt.Sprintf("cut at event %d of %d, tear %d", c.event, whole.power.events, c.tear)
		if err := r.attempt(); err == nil && !r.record.Complete {
			t.Fatalf("%s: nobody noticed", what)
		}
		r.power.on(0, 0)
		if err := r.attempt(); code.Of(err) == code.AlreadyProvisioned {
			committed++
		} else if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		r.power.on(0, 0)
		r.checkProvisioned(what)
		r.chip.Cut()
	}
	t.Logf("%d cuts in %d events, of which %d are writes; each survived, %d were behind the commit",
		len(all), whole.power.events, len(whole.power.writes), committed)
}

// TestCut sweeps over a run from the beginning: all events with NITRO_POWERCUT set.
func TestCut(t *testing.T) { sweep(t, newRig(t), 12) }

// TestCutAgain sweeps over a run that takes up one which was cut while it closed the
// hierarchies.
func TestCutAgain(t *testing.T) {
	r := newRig(t)
	stop := errors.New("stopped")
	r.options = func(o *Options) { o.Owner = noOwner{o.Owner, stop} } // who is asked behind close
	if err := r.attempt(); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	r.options = nil
	sweep(t, r, 12)
}

// noOwner is an owner's key that does not sign.
type noOwner struct {
	crypto.Signer
	err error
}

func (n noOwner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, n.err }

// TestCutAndForget: the lockout authorisation is gone from the board before the pin is
// written. Who then has no record of the earlier run cannot go on; who has one, can.
func TestCutAndForget(t *testing.T) {
	made := newRig(t)
	whole := made.clone()
	if err := whole.attempt(); err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, w := range whole.power.writes {
		if w.first*mediumtest.SectorSize == uint64(medium.BoardParts[0].Offset) {
			at = w.event
			break
		}
	}
	r := made.clone()
	r.power.on(at, int(mediumtest.Garbled))
	if err := r.attempt(); err == nil || r.record.Complete {
		t.Fatal(err)
	}
	kept := r.record
	r.record = nil
	r.power.on(0, 0)
	if err := r.attempt(); !errors.Is(err, ErrLockout) {
		t.Fatal("without the record:", err)
	}
	r.record = kept
	r.power.on(0, 0)
	if err := r.attempt(); err != nil {
		t.Fatal("with the record:", err)
	}
	r.power.on(0, 0)
	r.checkProvisioned("with the record")
}

// TestSameBoot breaks connections and not the power: the boot goes on, with its store
// open, though it can unseal no more.
func TestSameBoot(t *testing.T) {
	r := newRig(t)
	s, err := r.begin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	address, ended, err := serve(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	o := r.factory(address)
	var conn net.Conn
	o.Dial = func(ctx context.Context, network, address string) (c net.Conn, err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, address)
		return conn, err
	}
	broken := map[Step]bool{}
	o.Progress = func(s Step) {
		if s != Connect && s != Hello && s != Done && !broken[s] {
			broken[s] = true
			conn.Close()
		}
	}
	o.Retry = time.Millisecond
	record, err := Provision(ctx, o)
	if err != nil || !record.Complete || len(broken) != 6 {
		t.Fatal(len(broken), err)
	}
	if e := <-ended; e.err != nil {
		t.Fatal(e.err)
	}
	r.power.on(0, 0)
	r.checkProvisioned("in one boot")
}

// TestRecord: what is kept can be read again, and the secret does not show by itself.
func TestRecord(t *testing.T) {
	r := &Record{Format: format, Product: product, Lockout: Secret("lockout authorisation")}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ReadRecord(text)
	if err != nil || !reflect.DeepEqual(r, again) {
		t.Errorf("%+v, %v", again, err)
	}
	if s := fmt.Sprintf("%v %+v %#v %s", r, *r, *r, r.Lockout); strings.Contains(s, "lockout auth") || strings.Contains(s, "108") || strings.Contains(s, "0x6c") {
		t.Error("the secret shows: ", s)
	}
	for _, bad := range []string{`{"format":2}`, `{"format":1,"other":1}`, `{}`, ``} {
		if _, err := ReadRecord([]byte(bad)); err == nil {
			t.Errorf("%q is a record", bad)
		}
	}
}
