package chained

import (
	"bytes"
	"errors"
	"sync"

	"nitro/boot/card"
	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/release"
	"nitro/boot/release/releasetest"
	"nitro/qemu-test/factory"
)

// Security versions of the releases, and with Security the rollback floor of a new board.
const (
	OldSecurity  = 1
	Security     = 2
	NextSecurity = 3
)

// A Maker makes cards: it has the keys and the releases, all of which are signed and
// approved for the bootloader and the anchor block of First.
type Maker struct {
	*factory.Factory
	First, Second *release.Release // in slot A and B, of the same security version
	Old           *release.Release // below the floor of a board that has these two
	Next          *release.Release // above it
}

// Product is the Maker that the boards of a run share: RSA keys take their time.
var Product = sync.OnceValue(func() *Maker {
	m, err := NewMaker()
	if err != nil {
		panic(err) // there is no input that could be wrong
	}
	return m
})

// NewMaker makes another one, with keys of its own.
func NewMaker() (*Maker, error) {
	f, err := factory.New()
	if err != nil {
		return nil, err
	}
	m := &Maker{Factory: f}
	for _, r := range []struct {
		to       **release.Release
		version  string
		security uint32
	}{{&m.First, "1.0", Security}, {&m.Second, "1.1", Security}, {&m.Old, "0.9", OldSecurity}, {&m.Next, "2.0", NextSecurity}} {
		bootloader, err1 := program(image.Bootloader, "bootloader "+r.version)
		controller, err2 := program(image.Controller, "controller "+r.version)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		o := release.Options{
			Product: factory.Product, Version: r.version, SecurityVersion: r.security, Built: releasetest.Built,
			Bootloader: bootloader, Controller: controller,
		}
		if m.First != nil {
			o.Also = []*release.Release{m.First}
		}
		if *r.to, err = release.Build(f.Keys, o); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// releases are those that a board is provisioned for. Old is among them: what must not run
// any more was good once.
func (m *Maker) releases() []*release.Release {
	return []*release.Release{m.First, m.Second, m.Old}
}

// write writes a new card.
func (m *Maker) write(d *mediumtest.Card, slots [2]*release.Release, change func(*config.Config)) error {
	configuration, err := m.Configuration(1, change)
	if err != nil {
		return err
	}
	return card.Write(d, card.Content{Configuration: configuration, Slots: slots}, nil)
}

// Genuine finds the release whose controller has a payload's digest; nil where there is
// none.
func (m *Maker) Genuine(h image.Header) *release.Release {
	for _, r := range append(m.releases(), m.Next) {
		if r.Controller.Digest == h.Digest {
			return r
		}
	}
	return nil
}

// headers is how much of a program its ELF headers take: 52 bytes and 32 for the segment
// (ELF specification 1.2).
const headers = 52 + 32

// program makes a program that is as the linker writes the firmware: its first segment
// begins with the file's own headers, and code lies behind the first page.
func program(c image.Component, text string) (release.Payload, error) {
	load := c.Load()
	data := append(make([]byte, 0x1000), bytes.Repeat([]byte(text), 1+0x3000/len(text))...)
	copy(data, releasetest.ELF(load+0x1000, releasetest.Segment{Addr: load, Data: data})[:headers])
	return release.ParsePayload(bytes.NewReader(releasetest.ELF(load+0x1000, releasetest.Segment{Addr: load, Data: data})))
}
