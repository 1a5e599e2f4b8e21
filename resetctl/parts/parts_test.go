package parts

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/image/imagetest"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/store"
	"nitro/resetctl"
	"nitro/resetctl/firmware"
	"nitro/resetctl/firmware/cardflash"
)

// counter is a TPM's.
type counter uint64

func (c *counter) Read() (uint64, error)      { return uint64(*c), nil }
func (c *counter) Increment() (uint64, error) { *c++; return uint64(*c), nil }

// A rig is a host with a BMC, whose flash is on a card, and their golden copies.
type rig struct {
	*Firmware
	card  *mediumtest.Card
	m     map[firmware.Part]*firmware.Manifest
	flash map[firmware.Part][]byte
	chips map[firmware.Part]*cardflash.Chip
}

const (
	block = 4 << 10
	size  = 8 * block // of a flash: settings, then six static regions, then a cache
)

// layout is a part's flash.
func layout(p firmware.Part) *firmware.Manifest {
	m := &firmware.Manifest{Part: p, Host: "h", Version: string(p) + "-1", SecurityVersion: 1, Size: size, Erase: block}
	m.Regions = append(m.Regions, firmware.Region{Name: "settings", Length: block, Kind: firmware.Mutable})
	for i := range 6 {
		m.Regions = append(m.Regions, firmware.Region{Name: fmt.Sprintf("code-%d", i), Offset: int64(i+1) * block, Length: block, Kind: firmware.Static})
	}
	m.Regions = append(m.Regions, firmware.Region{Name: "cache", Offset: 7 * block, Length: block, Kind: firmware.Erasable})
	return m
}

func newRig(t *testing.T) *rig {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	const storeSize = 1 << 20
	c := store.Config{Device: mediumtest.New(storeSize / 512), Place: medium.Place{Size: storeSize}, Key: make([]byte, store.KeySize), Counter: new(counter)}
	must(store.Format(c))
	c.Key = make([]byte, store.KeySize)
	s, err := store.Open(c)
	must(err)

	r := &rig{card: mediumtest.New(8 << 20 / 512), m: map[firmware.Part]*firmware.Manifest{}, flash: map[firmware.Part][]byte{}, chips: map[firmware.Part]*cardflash.Chip{}}
	all := map[firmware.Part]Part{}
	var contents []cardflash.Content
	for i, p := range []firmware.Part{firmware.Host, firmware.BMC} {
		m, flash := layout(p), bytes.Repeat([]byte{byte(0x11 * (i + 1))}, size)
		g := firmware.New(firmware.Config{Part: p, Host: "h", Product: imagetest.Product, Store: s,
			Authorities: []image.Authority{imagetest.Authority(image.Release, "one")}})
		var b bytes.Buffer
		must(firmware.Package(&b, m, imagetest.Header(0, "", 0), flash, imagetest.Signer(image.Release, "one")))
		_, err := g.Install(&b)
		must(err)
		contents = append(contents, cardflash.Content{Part: p, Erase: block, Data: flash})
		all[p] = Part{Golden: g, Open: func() (firmware.Flash, error) { return cardflash.Open(r.card, p) }}
		r.m[p], r.flash[p] = m, flash
	}
	must(cardflash.Write(r.card, contents...))
	for p := range all {
		r.chips[p], err = cardflash.Open(r.card, p)
		must(err)
	}
	bmc := all[firmware.BMC]
	r.Firmware = New(all[firmware.Host], &bmc)
	return r
}

// spoil changes a byte in static regions, by number, whatever is protected.
func (r *rig) spoil(t *testing.T, p firmware.Part, regions ...int) {
	t.Helper()
	for _, n := range regions {
		var b [512]byte
		at := uint64(r.chips[p].Offset()+int64(n+1)*block) / 512
		if err := r.card.ReadBlocks(at, b[:]); err != nil {
			t.Fatal(err)
		}
		b[7] ^= 1
		if err := r.card.WriteBlocks(at, b[:]); err != nil {
			t.Fatal(err)
		}
	}
}

// cycle does what a host cycle does.
func (r *rig) cycle(ctx context.Context) (recovered []resetctl.Recovery, m resetctl.Measurement, err error) {
	if err = r.Own(ctx); err != nil {
		return
	}
	if recovered, err = r.Recover(ctx); err != nil {
		return
	}
	if err = r.Protect(ctx); err != nil {
		return
	}
	if err = r.Protected(ctx); err != nil {
		return
	}
	if m, err = r.Measure(ctx); err != nil {
		return
	}
	return recovered, m, r.HandOver(ctx)
}

// TestCycle: what is measured is what the manifests say, with who signed them, and what was
// put right is told, region by region as long as they are few.
func TestCycle(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	for _, c := range []struct {
		name      string
		host, bmc []int
		what      []string
	}{
		{"first", nil, nil, nil},
		{"good", nil, nil, nil},
		{"one region each", []int{2}, []int{5}, []string{"host.code-2", "bmc.code-5"}},
		{"four", []int{0, 1, 2, 3}, nil, []string{"host.code-0", "host.code-1", "host.code-2", "host.code-3"}},
		{"all", []int{0, 1, 2, 3, 4, 5}, []int{0, 1, 2, 3, 4}, []string{"host.all", "bmc.all"}},
	} {
		r.spoil(t, firmware.Host, c.host...)
		r.spoil(t, firmware.BMC, c.bmc...)
		recovered, m, err := r.cycle(ctx)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if len(recovered) != len(c.what) {
			t.Fatalf("%s: recovered %v", c.name, recovered)
		}
		for i, x := range recovered {
			if x.What != c.what[i] || x.Was == x.Now || x.Was == [32]byte{} || x.Now == [32]byte{} {
				t.Errorf("%s: %+v; want %s", c.name, x, c.what[i])
			}
			if x.What == "host.all" && x.Now != r.m[firmware.Host].Measurement() {
				t.Errorf("%s: %+v", c.name, x)
			}
		}
		if m.Host.Digest != r.m[firmware.Host].Measurement() || m.BMC == nil || m.BMC.Digest != r.m[firmware.BMC].Measurement() ||
			m.Host.Version != "host-1" || m.BMC.Version != "bmc-1" || m.Host.Manifest == m.BMC.Manifest || m.Host.SecurityVersion != 1 {
			t.Errorf("%s: measured %+v, %+v", c.name, m.Host, m.BMC)
		}
		one := imagetest.Authority(image.Release, "one")
		ed25519Key, mldsa65Key := one.Keys()
		if len(m.Components) != 4 || m.Components[0].Digest != ed25519Key || m.Components[3].Digest != mldsa65Key || m.Components[3].What != "bmc.signer-mldsa65" {
			t.Errorf("%s: components %+v", c.name, m.Components)
		}
		for p, chip := range r.chips {
			is := make([]byte, 6*block)
			if _, err := chip.ReadAt(is, block); err != nil || !bytes.Equal(is, r.flash[p][block:7*block]) {
				t.Errorf("%s: the %s's flash is not what it should be (%v)", c.name, p, err)
			}
		}
	}
}

// TestOrder: nothing is read before the flash is owned, or behind its handing over, and
// what changes behind the recovery is refused.
func TestOrder(t *testing.T) {
	ctx := t.Context()
	r := newRig(t)
	if _, err := r.Recover(ctx); !errors.Is(err, errNotOwned) {
		t.Errorf("before Own: %v", err)
	}
	if _, _, err := r.cycle(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Measure(ctx); !errors.Is(err, errNotOwned) {
		t.Errorf("behind HandOver: %v", err)
	}
	if err := r.Own(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Recover(ctx); err != nil {
		t.Fatal(err)
	}
	r.spoil(t, firmware.BMC, 3)
	if _, err := r.Measure(ctx); code.Of(err) != code.HostFirmware {
		t.Errorf("changed behind the recovery: %v", err)
	}
	if err := r.chips[firmware.Host].Protect(nil); err != nil {
		t.Fatal(err)
	}
	if err := r.Protected(ctx); code.Of(err) != code.HostFlashUnprotected {
		t.Errorf("not protected: %v", err)
	}
}

// TestEnds: once the context has ended nothing is read or written any more.
func TestEnds(t *testing.T) {
	r := newRig(t)
	ctx, cancel := context.WithCancel(t.Context())
	if err := r.Own(ctx); err != nil {
		t.Fatal(err)
	}
	r.spoil(t, firmware.Host, 1)
	cancel()
	if _, err := r.Recover(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Recover: %v", err)
	}
	if _, err := r.Measure(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Measure: %v", err)
	}
	if err := r.Own(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Own: %v", err)
	}
}

// TestWithoutBMC: a host without one has one part.
func TestWithoutBMC(t *testing.T) {
	r := newRig(t)
	r.Firmware = New(r.all[0].Part, nil)
	if _, m, err := r.cycle(t.Context()); err != nil || m.BMC != nil || len(m.Components) != 2 {
		t.Errorf("%+v, %v", m, err)
	}
	r.all[0].Open = func() (firmware.Flash, error) { return nil, code.HostFlash.Errorf("gone") }
	if _, _, err := r.cycle(t.Context()); code.Of(err) != code.HostFlash {
		t.Errorf("a flash that is gone: %v", err)
	}
}
