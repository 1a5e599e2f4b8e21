// Package parts is the firmware of a host as resetctl wants it: the golden copies of the
// host's and its BMC's flash (package firmware), step by step of a host cycle, with the
// events that follow from them (docs/firmware.md, "What is measured").
package parts

import (
	"context"
	"errors"

	"nitro/attest/eventlog"
	"nitro/resetctl"
	"nitro/resetctl/firmware"
)

// A Part is one flash and what it has to hold.
type Part struct {
	Golden *firmware.Golden

	// Open identifies the chip. It is called anew in each cycle, when the flash is the
	// controller's.
	Open func() (firmware.Flash, error)

	// Gated says that the wiring keeps the host from writing what the chip does not protect.
	Gated bool
}

// A Firmware satisfies resetctl.Firmware.
type Firmware struct {
	all []*owned // the host's first
}

var _ resetctl.Firmware = (*Firmware)(nil)

// owned is a part, and its chip between Own and HandOver.
type owned struct {
	Part
	name  string
	flash firmware.Flash // nil while the flash is the host's
}

// New makes the firmware of a host; bmc is nil where it has no BMC.
func New(host Part, bmc *Part) *Firmware {
	f := &Firmware{all: []*owned{{Part: host, name: "host"}}}
	if bmc != nil {
		f.all = append(f.all, &owned{Part: *bmc, name: "bmc"})
	}
	return f
}

// errNotOwned tells that a step came before Own.
var errNotOwned = errors.New("parts: the flash is not the controller's")

// each calls do for each part.
func (f *Firmware) each(ctx context.Context, do func(p *owned, flash firmware.Flash) error) error {
	for _, p := range f.all {
		if p.flash == nil {
			return errNotOwned
		}
		if err := do(p, bounded{ctx, p.flash}); err != nil {
			return err
		}
	}
	return nil
}

// Own implements resetctl.Firmware.
func (f *Firmware) Own(ctx context.Context) error {
	for _, p := range f.all {
		if err := ctx.Err(); err != nil {
			return err
		}
		flash, err := p.Open()
		if err != nil {
			return err
		}
		p.flash = flash
	}
	return nil
}

// Recover implements resetctl.Firmware.
func (f *Firmware) Recover(ctx context.Context) (all []resetctl.Recovery, err error) {
	err = f.each(ctx, func(p *owned, flash firmware.Flash) error {
		r, err := p.Golden.Verify(flash, firmware.Options{Gated: p.Gated})
		if r != nil {
			all = append(all, p.recoveries(r)...)
		}
		return err
	})
	return all, err
}

// maxRecoveries is how many regions of a part are told one by one: with two parts no more
// than a cycle may have.
const maxRecoveries = resetctl.MaxRecoveries / 2

// recoveries are what a part's verification has put right.
func (p *owned) recoveries(r *firmware.Result) (all []resetctl.Recovery) {
	if len(r.Recovered) > maxRecoveries {
		was := firmware.Manifest{Regions: r.Found}
		return []resetctl.Recovery{{What: p.name + ".all", Was: was.Measurement(), Now: r.Manifest.Measurement()}}
	}
	for _, name := range r.Recovered {
		x := resetctl.Recovery{What: p.name + "." + name}
		for _, region := range r.Found {
			if region.Name == name {
				x.Was = region.Digest
			}
		}
		for _, region := range r.Manifest.Regions {
			if region.Name == name {
				x.Now = region.Digest
			}
		}
		all = append(all, x)
	}
	return all
}

// Protect implements resetctl.Firmware.
func (f *Firmware) Protect(ctx context.Context) error {
	return f.each(ctx, func(p *owned, flash firmware.Flash) error { return p.Golden.Protect(flash) })
}

// Protected implements resetctl.Firmware.
func (f *Firmware) Protected(ctx context.Context) error {
	return f.each(ctx, func(p *owned, flash firmware.Flash) error {
		return p.Golden.CheckProtected(flash, firmware.Options{Gated: p.Gated})
	})
}

// Measure implements resetctl.Firmware.
func (f *Firmware) Measure(ctx context.Context) (m resetctl.Measurement, err error) {
	err = f.each(ctx, func(p *owned, flash firmware.Flash) error {
		r, err := p.Golden.Measure(flash, firmware.Options{Gated: p.Gated})
		if err != nil {
			return err
		}
		is := eventlog.Firmware{Digest: r.Measurement, Manifest: r.ManifestDigest, Version: r.Manifest.Version, SecurityVersion: r.Manifest.SecurityVersion}
		if p == f.all[0] {
			m.Host = is
		} else {
			m.BMC = &is
		}
		m.Components = append(m.Components,
			resetctl.Component{What: p.name + ".signer-ed25519", Digest: r.Ed25519Key, Version: is.Version},
			resetctl.Component{What: p.name + ".signer-mldsa65", Digest: r.MLDSA65Key, Version: is.Version})
		return nil
	})
	return m, err
}

// HandOver implements resetctl.Firmware.
func (f *Firmware) HandOver(context.Context) error {
	for _, p := range f.all {
		p.flash = nil
	}
	return nil
}

// bounded is a flash for as long as a context lasts.
type bounded struct {
	ctx context.Context
	firmware.Flash
}

func (b bounded) ReadAt(p []byte, offset int64) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.Flash.ReadAt(p, offset)
}

func (b bounded) WriteAt(p []byte, offset int64) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	return b.Flash.WriteAt(p, offset)
}

func (b bounded) Erase(offset, length int64) error {
	if err := b.ctx.Err(); err != nil {
		return err
	}
	return b.Flash.Erase(offset, length)
}
