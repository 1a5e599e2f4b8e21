//go:build !arm

package chain_test

import (
	"bytes"
	"io"
	"slices"
	"testing"

	"nitro/attest/eventlog"
	"nitro/attest/seal"
	"nitro/boot/bundle"
	"nitro/boot/code"
	"nitro/boot/config"
	"nitro/boot/journal"
	"nitro/boot/medium"
	"nitro/boot/release"
	"nitro/internal/chained"
)

// pack makes a bundle of parts.
func pack(knownGood []byte, approvals []seal.Approval, controller []byte) *bytes.Buffer {
	set, err := (&seal.Set{Revision: 1, Approvals: approvals}).Encode()
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	if err := bundle.Write(&b, knownGood, set, controller); err != nil {
		panic(err) // of releases that are not larger than a board takes
	}
	return &b
}

// bundleOf packs a release.
func bundleOf(r *release.Release) *bytes.Buffer {
	return pack(r.KnownGood.Bytes, r.Approvals, r.Controller.Bytes)
}

// changed tells what of slots, known-good sets, sealed objects, configuration and journal
// differs between two cards.
func changed(t *testing.T, a, b medium.Device) (what []string) {
	t.Helper()
	for name, p := range map[string]medium.Place{
		"slot A": {Offset: medium.Slots[0].Offset, Size: 1 << 20}, "slot B": {Offset: medium.Slots[1].Offset, Size: 1 << 20},
		"known-good A": medium.KnownGoodOf[0], "known-good B": medium.KnownGoodOf[1], "journal": medium.Journal,
		"sealed 0": medium.SealedObjects[0], "sealed 1": medium.SealedObjects[1],
		"configuration 0": medium.Configurations[0], "configuration 1": medium.Configurations[1],
	} {
		x, y := make([]byte, p.Size), make([]byte, p.Size)
		must(t, medium.ReadPlace(a, p, x), medium.ReadPlace(b, p, y))
		if !bytes.Equal(x, y) {
			what = append(what, name)
		}
	}
	slices.Sort(what)
	return what
}

// TestInstall: a bundle that this board cannot run is refused before anything changes; one
// that is damaged behind that leaves what runs and boots next; a good one boots.
func TestInstall(t *testing.T) {
	l := chained.NewLived(t)
	next, old := l.Maker.Next, l.Maker.Old
	x := is(t, l.Boot(), "1.0")
	before := l.Card.Clone()
	flip := func(at int) io.Reader {
		b := bundleOf(next).Bytes()
		b[at] ^= 1
		return bytes.NewReader(b)
	}
	whole := bundleOf(next).Bytes()
	controllerAt := len(whole) - len(next.Controller.Bytes)
	stranger := slices.Clone(next.Approvals)
	for i := range stranger {
		stranger[i].Signature = slices.Clone(stranger[i].Signature)
		stranger[i].Signature[len(stranger[i].Signature)-1] ^= 1
	}
	for _, c := range []struct {
		name string
		r    io.Reader
		want code.Code
	}{
		{"nothing", bytes.NewReader(nil), code.ImageUnreadable},
		{"no bundle", bytes.NewReader(next.Controller.Bytes), code.ImageMalformed},
		{"header", flip(20), code.ImageMalformed},
		{"known-good set's header", flip(bundle.HeaderSize + 100), code.KnownGoodBad},
		{"known-good set", flip(bundle.HeaderSize + 4100), code.KnownGoodBad},
		{"approvals", flip(bundle.HeaderSize + len(next.KnownGood.Bytes) + 50), code.ImageMalformed},
		{"controller's header", flip(controllerAt + 30), code.ImageSignature},
		{"ends early", bytes.NewReader(whole[:controllerAt+100]), code.ImageUnreadable},
		{"older", bundleOf(old), code.BelowFloor},
		{"another's known-good set", pack(l.Maker.Second.KnownGood.Bytes, next.Approvals, next.Controller.Bytes), code.KnownGoodBad},
		{"no approvals", pack(next.KnownGood.Bytes, nil, next.Controller.Bytes), code.UnsealNotPredicted},
		{"approvals of another release", pack(next.KnownGood.Bytes, l.Maker.Second.Approvals, next.Controller.Bytes), code.UnsealNotPredicted},
		{"approvals that nobody signed", pack(next.KnownGood.Bytes, stranger, next.Controller.Bytes), code.UnsealNotPredicted},
		{"no approval of a kind", pack(next.KnownGood.Bytes, slices.DeleteFunc(slices.Clone(next.Approvals), func(a seal.Approval) bool { return a.Kind == seal.Canary }), next.Controller.Bytes), code.UnsealNotPredicted},
		{"another maker's", bundleOf(l.Stranger.Next), code.AuthorityUnknown},
		{"a length that is not the controller's", pack(next.KnownGood.Bytes, next.Approvals, append(bytes.Clone(next.Controller.Bytes), 0)), code.ImageMalformed},
	} {
		if _, err := x.Slots.Install(c.r, nil); code.Of(err) != c.want {
			t.Errorf("%s: %v, not code %v", c.name, err, c.want)
		}
		if what := changed(t, before, l.Card); len(what) > 0 {
			t.Fatalf("%s has changed %v", c.name, what)
		}
	}
	for name, r := range map[string]io.Reader{
		"payload": flip(len(whole) - 1), "cut short": bytes.NewReader(whole[:len(whole)-1]), "more behind": bytes.NewReader(append(bytes.Clone(whole), 0)),
	} {
		if _, err := x.Slots.Install(r, nil); err == nil {
			t.Errorf("%s: it is taken", name)
		}
		if i := x.Slots.Staged(); i != nil {
			t.Errorf("%s: version %s is staged", name, i.Version)
		}
		if err := x.Slots.Activate(); err == nil {
			t.Errorf("%s: it is activated", name)
		}
		if s := x.Slots.State(); s.Preferred != journal.A || s.Slots[1].Status != journal.Empty {
			t.Errorf("%s: %+v", name, s)
		}
	}
	x = is(t, l.Boot(), "1.0")
	var told []int64
	i, err := x.Slots.Install(bundleOf(next), func(done, total int64) { told = append(told, done, total) })
	must(t, err)
	if i.Version != "2.0" || len(told) < 2 || told[len(told)-1] != int64(i.Length) || told[len(told)-2] != int64(i.Length) {
		t.Errorf("version %s, progress %v", i.Version, told)
	}
	x = is(t, l.Boot(), "1.0") // what is staged is not active
	if i := x.Slots.Staged(); i == nil || i.Version != "2.0" {
		t.Fatalf("staged is %+v", i)
	}
	if n := len(setOf(t, l.Card).Approvals); n != 6 {
		t.Errorf("%d approvals, not three of what runs and three of what came", n)
	}
	must(t, x.Slots.Activate())
	is(t, l.Boot(), "2.0")
}

// TestReconfigure: a newer configuration comes into force while the board runs; one under
// which it would not boot, or that is old, changes nothing.
func TestReconfigure(t *testing.T) {
	l := chained.NewLived(t)
	x := is(t, l.Boot(), "1.0")
	make := func(epoch uint64, change func(*config.Config)) []byte {
		b, err := l.Maker.Configuration(epoch, change)
		must(t, err)
		return b
	}
	strangers, err := l.Stranger.Configuration(9, nil)
	must(t, err)
	foreign, err := config.Verify(strangers, config.Want{Product: l.Stranger.First.Controller.Product, Anchors: l.Stranger.First.Anchors})
	must(t, err)
	before := l.Card.Clone()
	damaged := make(3, nil)
	damaged[len(damaged)-2] ^= 1
	for _, c := range []struct {
		name string
		b    []byte
		want code.Code
	}{
		{"damaged", damaged, code.ImageDigest},
		{"the same epoch", make(chained.SecondEpoch, nil), code.ConfigurationOld},
		{"older", make(chained.FirstEpoch, nil), code.ConfigurationOld},
		{"another maker's", strangers, code.AuthorityUnknown},
		{"more behind", append(make(3, nil), 0), code.ImageMalformed},
		{"other sealing authorities", make(3, func(c *config.Config) { c.P384, c.RSA3072 = foreign.P384, foreign.RSA3072 }), code.UnsealNotPredicted},
		{"a security key", make(3, func(c *config.Config) { c.SecurityKey = true }), code.UpdateUnsafe},
	} {
		if _, _, err := x.Slots.Reconfigure(c.b); code.Of(err) != c.want {
			t.Errorf("%s: %v, not code %v", c.name, err, c.want)
		}
		if what := changed(t, before, l.Card); len(what) > 0 || x.C.Configuration().Epoch != chained.SecondEpoch {
			t.Fatalf("%s has changed %v", c.name, what)
		}
	}
	good := make(5, func(c *config.Config) { c.Host = &config.Host{Product: "another"} })
	next, waits, err := x.Slots.Reconfigure(good)
	must(t, err)
	if x.C.Configuration() != next || next.Epoch != 5 || !slices.Equal(waits, []string{"host"}) {
		t.Errorf("epoch %d, waits for a restart: %v", x.C.Configuration().Epoch, waits)
	}
	if epoch, err := x.C.NV.Epoch(); err != nil || epoch != 5 {
		t.Errorf("NV has epoch %d, %v", epoch, err)
	}
	if events := x.C.Log.Events(); events[len(events)-1] != eventlog.Configuration(next.Header.Digest, 5) {
		t.Errorf("measured last is %v", events[len(events)-1])
	}
	if err := x.C.CheckSeal(); err != nil {
		t.Error(err)
	}
	x = is(t, l.Boot(), "1.0")
	if x.C.Config.Epoch != 5 {
		t.Errorf("the next boot has epoch %d", x.C.Config.Epoch)
	}
}
