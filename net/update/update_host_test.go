//go:build !arm

package update

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"nitro/attest/eventlog"
	"nitro/attest/seal"
	"nitro/boot/bundle"
	"nitro/boot/code"
	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/release"
	"nitro/internal/chained"
	"nitro/net/policy"
	"nitro/net/redfish"
	"nitro/resetctl/firmware"
)

const boardName = "0123456789abcdef"

// A rig is a board with the service of its boot.
type rig struct {
	t *testing.T
	*chained.Board
	x          *chained.Boot
	s          *Service
	policy     *policy.Set
	config     *config.Signed
	golden     map[firmware.Part]*firmware.Golden
	quarantine bool
	restarts   chan string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, Board: chained.NewLived(t).Board, restarts: make(chan string, 1)}
	r.boot()
	return r
}

// boot boots the board, and opens the service.
func (r *rig) boot() {
	r.t.Helper()
	r.start()
	r.x.Stand()
	r.s.Open(r.x.Slots)
}

// start boots it up to the service.
func (r *rig) start() {
	r.t.Helper()
	if r.x = r.Start(); !r.x.InService() {
		r.t.Fatalf("%v %q", r.x.Err, r.x.Said)
	}
	r.policy, r.config = nil, nil
	set, err := LoadPolicy(r.x.C, boardName)
	if err == nil {
		r.policy = set
	} else if code.Of(err) != code.None {
		r.t.Fatal(err)
	}
	r.s, err = New(Config{
		Chain: r.x.C, Board: boardName,
		Golden: func(p firmware.Part) *firmware.Golden { return r.golden[p] },
		Policy: func() *policy.Set { return r.policy }, Adopt: func(s *policy.Set) { r.policy = s },
		Reconfigured: func(c *config.Signed) { r.config = c }, InService: func() bool { return !r.quarantine },
		Restart: func(why string) { r.restarts <- why },
		Now:     func() (time.Time, bool) { return time.Unix(1800000000, 0), true },
	})
	must(r.t, err)
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// pack makes a release's bundle.
func pack(r *release.Release, approvals []seal.Approval) []byte {
	set, err := (&seal.Set{Revision: 1, Approvals: approvals}).Encode()
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	if err := bundle.Write(&b, r.KnownGood.Bytes, set, r.Controller.Bytes); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// push uploads, and gives how it ended.
func (r *rig) push(b []byte, apply string) (redfish.TaskState, error) {
	r.t.Helper()
	id, err := r.s.Push(context.Background(), redfish.Upload{Name: "package", Apply: apply}, bytes.NewReader(b))
	if err != nil {
		return redfish.TaskState{}, err
	}
	return r.task(id), nil
}

func (r *rig) task(id string) redfish.TaskState {
	r.t.Helper()
	all := r.s.Tasks()
	i := slices.IndexFunc(all, func(t redfish.TaskState) bool { return t.ID == id })
	if i < 0 {
		r.t.Fatalf("task %s is not among %+v", id, all)
	}
	return all[i]
}

// done pushes what has to be taken.
func (r *rig) done(b []byte) {
	r.t.Helper()
	if task, err := r.push(b, ""); err != nil || task.State != completed || !task.Ended || task.Percent != 100 || task.Failure != nil || task.Note == "" {
		r.t.Fatalf("%+v, %v", task, err)
	}
}

// refuses wants a refusal with a status whose next step has a text.
func (r *rig) refuses(what string, err error, status int, next string) {
	r.t.Helper()
	var e *redfish.Error
	if !errors.As(err, &e) || e.Status != status || !strings.Contains(e.Next, next) {
		r.t.Errorf("%s: %v %+v, not %d with %q", what, err, e, status, next)
	}
}

// entry is one of the inventory.
func (r *rig) entry(id string) redfish.Component {
	r.t.Helper()
	for _, f := range r.s.Inventory() {
		if f.ID == id {
			return f
		}
	}
	r.t.Errorf("the inventory has no %s: %+v", id, r.s.Inventory())
	return redfish.Component{}
}

// awaitRestart waits until the board wants to restart.
func (r *rig) awaitRestart() {
	r.t.Helper()
	select {
	case <-r.restarts:
	case <-time.After(time.Minute):
		r.t.Fatalf("it does not restart: %+v", r.s.Tasks())
	}
}

// TestController: a release is staged, activated, and runs after the restart, which ends
// its task; one that does not come into service is told; a rollback goes back.
func TestController(t *testing.T) {
	r := newRig(t)
	next := r.Maker.Next
	if f := r.entry("slot-a"); f.Version != "1.0" || f.Slot != redfish.SlotActive || f.Lowest != "security-version-2" || !f.Healthy || f.SHA256 != r.Maker.First.Controller.Digest {
		t.Errorf("%+v", f)
	}
	_, err := r.s.Start(t.Context())
	r.refuses("nothing staged", err, 409, "Nothing is staged")
	r.done(pack(next, next.Approvals))
	if f := r.entry("slot-b"); f.Version != "2.0" || f.Slot != redfish.SlotBackup || !f.Updatable {
		t.Errorf("%+v", f)
	}
	if f := r.entry("controller-running"); f.Version != "1.0" {
		t.Errorf("%+v", f)
	}
	_, err = r.s.Rollback(t.Context())
	r.refuses("a rollback to what is staged", err, 409, "The other slot is empty")
	for n, healthy := range []bool{false, true} {
		id, err := r.s.Start(t.Context())
		must(t, err)
		r.awaitRestart()
		_, err = r.push(pack(next, next.Approvals), "")
		r.refuses("about to restart", err, 409, "about to restart")
		if !healthy {
			if x := r.Start(); x.Header.Version != "2.0" { // and dies
				t.Fatalf("version %s was tried", x.Header.Version)
			}
		}
		r.boot()
		task := r.task(id)
		switch {
		case !healthy && (r.x.Header.Version != "1.0" || task.State != exception || !strings.Contains(task.Failure.Next, "211")):
			t.Fatalf("version %s, %+v %+v", r.x.Header.Version, task, task.Failure)
		case healthy && (r.x.Header.Version != "2.0" || task.State != completed || !task.Ended):
			t.Fatalf("version %s, %+v", r.x.Header.Version, task)
		}
		if n == 0 {
			r.done(pack(next, next.Approvals))
		}
	}
	if active, all := r.s.Slots(); active != "slot-b" || !slices.Equal(all, []string{"slot-a", "slot-b"}) {
		t.Errorf("%s of %v runs", active, all)
	}
	if f := r.entry("slot-b"); f.Slot != redfish.SlotActive || f.Version != "2.0" {
		t.Errorf("%+v", f)
	}
	id, err := r.s.Rollback(t.Context())
	must(t, err)
	r.awaitRestart()
	if task := r.task(id); task.State != running || task.Ended {
		t.Errorf("before the restart: %+v", task)
	}
	r.boot()
	if task := r.task(id); r.x.Header.Version != "1.0" || task.State != completed {
		t.Errorf("version %s, %+v", r.x.Header.Version, task)
	}
	// At once.
	if _, err := r.push(pack(r.Maker.Second, r.Maker.Second.Approvals), redfish.ApplyNow); err != nil {
		t.Fatal(err)
	}
	r.awaitRestart()
	if r.boot(); r.x.Header.Version != "1.1" {
		t.Errorf("version %s", r.x.Header.Version)
	}
}

// TestRefused: what may not be taken is refused with its code and next step, and what
// runs and boots next is the same.
func TestRefused(t *testing.T) {
	r := newRig(t)
	next, old := r.Maker.Next, r.Maker.Old
	whole := pack(next, next.Approvals)
	flip := func(b []byte, at int) []byte { b = bytes.Clone(b); b[at] ^= 1; return b }
	configuration, err := r.Maker.Configuration(chained.SecondEpoch, nil)
	must(t, err)
	damaged, err := r.Maker.Configuration(7, nil)
	must(t, err)
	set, err := r.Maker.Policy(1, nil)
	must(t, err)
	for _, c := range []struct {
		name  string
		b     []byte
		apply string
		want  int
		next  string
	}{
		{"nothing", nil, "", 400, "Code 202"},
		{"something", bytes.Repeat([]byte("x"), 5000), "", 400, "Code 203"},
		{"a bootloader", next.Bootloader.Bytes, "", 400, "Code 210"},
		{"a controller alone", next.Controller.Bytes, "", 400, "Code 210"},
		{"a damaged bundle", flip(whole, 600), "", 400, "Code 405"},
		{"an older release", pack(old, old.Approvals), "", 400, "Code 207"},
		{"a release with another's approvals", pack(next, r.Maker.Second.Approvals), "", 400, "Code 216"},
		{"a configuration of the same epoch", configuration, "", 400, "Code 303"},
		{"a damaged configuration", flip(damaged, len(damaged)-1), "", 400, "Code 206"},
		{"a configuration that is longer than any", append(damaged, make([]byte, config.MaxSize)...), "", 400, "Code 203"},
		{"a damaged policy set", flip(set, len(set)-1), "", 400, "Code 206"},
		{"something behind a policy set", append(bytes.Clone(set), 0), "", 400, "Code 203"},
		{"host firmware", append([]byte("NCIMAGE1\x00\x10\x00\x00\x05\x00\x00\x00"), make([]byte, 5000)...), "", 409, "guards no such part"},
		{"BMC firmware", append([]byte("NCIMAGE1\x00\x10\x00\x00\x06\x00\x00\x00"), make([]byte, 5000)...), "", 409, "guards no such part"},
		{"a policy set, later", set, redfish.ApplyOnStart, 400, "Leave the apply time out"},
	} {
		_, err := r.push(c.b, c.apply)
		r.refuses(c.name, err, c.want, c.next)
		if c.name == "a damaged bundle" {
			all := r.s.Tasks()
			if last := all[len(all)-1]; last.State != exception || !strings.Contains(last.Failure.Next, c.next) {
				t.Errorf("its task is %+v", last)
			}
		}
	}
	if n := len(r.s.Tasks()); n != maxTasks {
		t.Errorf("%d tasks are kept", n)
	}
	if _, err := r.push(flip(whole, len(whole)-1), ""); err == nil {
		t.Error("a payload that is not the signed one is taken")
	}
	_, err = r.s.Start(t.Context())
	r.refuses("nothing whole is staged", err, 409, "Nothing is staged")
	if r.policy != nil || r.config != nil || r.x.C.Configuration().Epoch != chained.SecondEpoch {
		t.Error("something is in force that was refused")
	}
	if r.boot(); r.x.Header.Version != "1.0" || r.x.C.Config.Epoch != chained.SecondEpoch {
		t.Errorf("version %s, epoch %d", r.x.Header.Version, r.x.C.Config.Epoch)
	}
}

// TestBusy: one update at a time, none before the boot is healthy, none in quarantine.
func TestBusy(t *testing.T) {
	r := newRig(t)
	whole := pack(r.Maker.Next, r.Maker.Next.Approvals)
	slow, feed := io.Pipe()
	ended := make(chan error)
	go func() {
		_, err := r.s.Push(context.Background(), redfish.Upload{}, slow)
		ended <- err
	}()
	if _, err := feed.Write(whole[:len(whole)-100]); err != nil {
		t.Fatal(err)
	}
	_, err := r.push(whole, "")
	r.refuses("another one", err, 503, "Another update is under way")
	_, err = r.s.Start(t.Context())
	r.refuses("a start", err, 503, "Another update is under way")
	all := r.s.Tasks()
	if last := all[len(all)-1]; last.State != running || last.Ended || last.Percent >= 100 {
		t.Errorf("%+v", last)
	}
	r.entry("slot-b") // is answered meanwhile
	feed.CloseWithError(&http.MaxBytesError{Limit: 1})
	if err := <-ended; !errors.As(err, new(*http.MaxBytesError)) {
		t.Errorf("a body that is too large: %v", err)
	}
	r.done(whole)
	r.quarantine = true
	_, err = r.push(whole, "")
	r.refuses("in quarantine", err, 409, "quarantine")
	r.quarantine = false
	r.start()
	_, err = r.push(whole, "")
	r.refuses("not healthy yet", err, 503, "healthy")
}

// TestPolicy: a newer set is on the card, measured and in force at once, and an older one is
// not taken.
func TestPolicy(t *testing.T) {
	r := newRig(t)
	make := func(epoch uint64) []byte {
		b, err := r.Maker.Policy(epoch, nil)
		must(t, err)
		return b
	}
	for _, epoch := range []uint64{3, 4} {
		b := make(epoch)
		r.done(b)
		if r.policy == nil || r.policy.Epoch != epoch {
			t.Fatalf("in force is %+v", r.policy)
		}
		events := r.x.C.Log.Events()
		if e := events[len(events)-1]; e != eventlog.Policy(r.policy.Digest, epoch) {
			t.Errorf("measured last is %v", e)
		}
		if f := r.entry("policy"); f.Version != fmt.Sprint(epoch) || !f.Updatable {
			t.Errorf("%+v", f)
		}
	}
	for _, epoch := range []uint64{3, 4} {
		_, err := r.push(make(epoch), "")
		r.refuses("an old set", err, 409, "higher epoch")
	}
	if r.boot(); r.policy == nil || r.policy.Epoch != 4 {
		t.Fatalf("after a restart %+v is in force", r.policy)
	}
	// Cut behind the card's writing: the next boot makes up for it.
	must(t, policy.Save(r.Card, make(5), wantPolicy(r.x.C, boardName, 4)))
	if r.boot(); r.policy == nil || r.policy.Epoch != 5 {
		t.Fatalf("after a cut %+v is in force", r.policy)
	}
	if had, err := readEpoch(r.x.Store()); had != 5 || err != nil {
		t.Errorf("the store has had epoch %d, %v", had, err)
	}
}

// TestConfiguration: a newer one is in force at once, and says what waits for a restart.
func TestConfiguration(t *testing.T) {
	r := newRig(t)
	b, err := r.Maker.Configuration(9, func(c *config.Config) {
		c.Revoked = []config.Revoked{{Key: [32]byte{1}}}
		c.Host = &config.Host{Product: "other"}
	})
	must(t, err)
	task, err := r.push(b, "")
	if err != nil || task.State != completed || !strings.Contains(task.Note, "[host]") {
		t.Fatalf("%+v, %v", task, err)
	}
	if r.config == nil || r.config.Epoch != 9 || len(r.config.Revoked) != 1 || r.x.C.Configuration() != r.config {
		t.Errorf("in force is %+v", r.config)
	}
	if f := r.entry("configuration"); f.Version != "9" {
		t.Errorf("%+v", f)
	}
	if epoch, err := r.x.C.NV.Epoch(); err != nil || epoch != 9 {
		t.Errorf("NV has epoch %d, %v", epoch, err)
	}
}

// TestCutOff: what a reset cuts off is told after it, by what the board is then.
func TestCutOff(t *testing.T) {
	r := newRig(t)
	b, err := r.Maker.Configuration(9, nil)
	must(t, err)
	set, err := r.Maker.Policy(3, nil)
	must(t, err)
	r.done(b)
	r.done(set)
	keep := func(all ...task) {
		text, err := json.Marshal(all)
		must(t, err, r.x.Store().Put(tasksName, text))
		r.boot()
	}
	digest := func(b []byte) string { return digestText(([32]byte)(b[24:56])) } // docs/medium.md, "Image"
	keep(task{Number: 4, Kind: string(kindController), Stage: stageTake, State: running, Start: 1},
		task{Number: 5, Kind: string(kindConfiguration), Stage: stageTake, State: running, Digest: digest(b), Version: "epoch-9"},
		task{Number: 6, Kind: string(kindPolicy), Stage: stageTake, State: running, Digest: digest(set)},
		task{Number: 7, Kind: string(kindPolicy), Stage: stageTake, State: running, Digest: digest(b)},
		task{Number: 8, Kind: string(kindHost), Stage: stageTake, State: completed, Percent: 100})
	want := []string{exception, completed, completed, exception, completed}
	for i, got := range r.s.Tasks() {
		if got.State != want[i] || !got.Ended || (got.Failure != nil) != (want[i] == exception) {
			t.Errorf("task %s: %+v", got.ID, got)
		}
	}
	id, err := r.s.Push(t.Context(), redfish.Upload{}, bytes.NewReader(pack(r.Maker.Next, r.Maker.Next.Approvals)))
	if must(t, err); id != "9" {
		t.Errorf("the next task is %s", id)
	}
	must(t, r.x.Store().Put(tasksName, []byte("another version's")))
	if r.boot(); len(r.s.Tasks()) != 0 {
		t.Errorf("%+v", r.s.Tasks())
	}
}

// TestHost: firmware becomes the golden copy.
func TestHost(t *testing.T) {
	r := newRig(t)
	c := r.x.C
	r.golden = map[firmware.Part]*firmware.Golden{firmware.Host: firmware.New(firmware.Config{Part: firmware.Host, Host: "q35",
		Product: c.Product, Development: true, Authorities: c.Config.Authorities(c.Anchors), Store: c.Store})}
	if f := r.entry("host-golden"); !f.Empty || !f.Updatable {
		t.Errorf("%+v", f)
	}
	signer, err := r.Maker.Keys.ImageSigner(image.Release)
	must(t, err)
	m := &firmware.Manifest{Part: firmware.Host, Host: "q35", Version: "7.1", SecurityVersion: 3, Size: 128 << 10, Erase: 4096, Regions: []firmware.Region{
		{Name: "code", Length: 64 << 10, Kind: firmware.Static}, {Name: "settings", Offset: 64 << 10, Length: 64 << 10, Kind: firmware.Mutable}}}
	var b bytes.Buffer
	must(t, firmware.Package(&b, m, image.Header{Product: c.Product, Development: true}, bytes.Repeat([]byte("firmware"), 16<<10), signer))
	_, err = r.push(b.Bytes()[:b.Len()-1], "")
	r.refuses("cut short", err, 400, "Code 202")
	r.done(b.Bytes())
	if f := r.entry("host-golden"); f.Version != "7.1" || f.Empty || !f.Healthy || f.SHA256 != m.Measurement() {
		t.Errorf("%+v", f)
	}
}

// TestQuarantine: a board in quarantine has an inventory, and takes nothing.
func TestQuarantine(t *testing.T) {
	l := chained.NewLived(t)
	must(t, medium.WritePlace(l.Card, medium.SealedObjects[0], make([]byte, 4096)), medium.WritePlace(l.Card, medium.SealedObjects[1], make([]byte, 4096)))
	x := l.Boot()
	if x.InService() {
		t.Fatal("it is in service")
	}
	s, err := New(Config{Chain: x.C, Golden: func(firmware.Part) *firmware.Golden { return nil }, InService: func() bool { return false }, Now: func() (time.Time, bool) { return time.Time{}, false }})
	must(t, err)
	s.Open(x.Slots)
	if all := s.Inventory(); len(all) != 5 { // bootloader, controller, configuration, two slots
		t.Errorf("%+v", all)
	}
	r := rig{t: t, s: s}
	_, err = r.push(pack(l.Maker.Next, l.Maker.Next.Approvals), "")
	r.refuses("in quarantine", err, 409, "quarantine")
}

// TestCut: the power goes in the middle of a policy set or a configuration, at any write
// and any command of the TPM. The board comes back with the old or the new one, whole, and
// takes the new one if it has not.
func TestCut(t *testing.T) {
	made := newRig(t)
	old, err := made.Maker.Policy(3, nil)
	must(t, err)
	made.done(old)
	set, err := made.Maker.Policy(4, nil)
	must(t, err)
	configuration, err := made.Maker.Configuration(9, nil)
	must(t, err)
	for _, c := range []struct {
		name string
		b    []byte
		is   func(r *rig) (first, second bool)
	}{
		{"policy set", set, func(r *rig) (bool, bool) {
			return r.policy != nil && r.policy.Epoch == 3, r.policy != nil && r.policy.Epoch == 4
		}},
		{"configuration", configuration, func(r *rig) (bool, bool) {
			now := r.x.C.Configuration().Epoch
			return now == chained.SecondEpoch, now == 9
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			begin := func(n int) (*rig, *chained.Power) {
				r := &rig{t: t, Board: made.Clone(t), restarts: make(chan string, 1)}
				p := r.Hang(n, rand.IntN(len(mediumtest.Tears)+1))
				r.boot()
				return r, p
			}
			r, p := begin(0)
			first := p.Events()
			r.done(c.b)
			last := p.Events()
			cuts, seen := 0, [2]int{}
			for n := first + 2; n <= last; n++ { // boots differ by an event
				r, p := begin(n)
				if _, err := r.push(c.b, ""); !p.Off() {
					t.Logf("event %d comes later in this boot: %v", n, err)
					continue
				}
				cuts++
				r.On()
				r.boot()
				was, is := c.is(r)
				if was == is {
					t.Fatalf("event %d: neither the old one nor the new one is in force: policy %+v, configuration of epoch %d", n, r.policy, r.x.C.Configuration().Epoch)
				}
				if is {
					seen[1]++
					continue
				}
				seen[0]++
				r.done(c.b)
				if r.boot(); !second(c.is(r)) {
					t.Errorf("event %d: sent again, and not in force", n)
				}
			}
			if cuts == 0 {
				t.Error("the power never went")
			}
			t.Logf("%d cuts in %d events: %d times the old one, %d times the new one", cuts, last-first, seen[0], seen[1])
		})
	}
}

func second(_, b bool) bool { return b }
