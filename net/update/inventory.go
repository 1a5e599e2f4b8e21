package update

import (
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"nitro/attest/eventlog"
	"nitro/boot/chain"
	"nitro/boot/code"
	"nitro/boot/journal"
	"nitro/net/redfish"
	"nitro/resetctl/firmware"
)

// Inventory implements redfish.Firmware: what was measured in this boot, the slots, and
// the golden copies.
func (s *Service) Inventory() []redfish.Component {
	all := s.measured()
	for i := range all {
		switch all[i].ID {
		case "configuration", "policy":
			all[i].Updatable = true
		}
	}
	return append(append(all, s.slotEntries()...), s.goldenEntries()...)
}

// events are those of the log.
func events(c *chain.Controller) []eventlog.Event {
	c.Bus.Lock()
	defer c.Bus.Unlock()
	if c.Log == nil {
		return nil
	}
	return c.Log.Events()
}

// measured is what was measured in this boot: of what was measured again, the last.
func (s *Service) measured() (all []redfish.Component) {
	add := func(f redfish.Component) {
		all = append(slices.DeleteFunc(all, func(old redfish.Component) bool { return old.ID == f.ID }), f)
	}
	for _, e := range events(s.c.Chain) {
		f := redfish.Component{ID: e.Name(), Version: e.Value("version"), SHA256: digestIn(e), Healthy: true}
		switch e.Name() {
		case "bootloader", "controller":
			f.ID, f.Name = e.Name()+"-running", "Running "+e.Name()
			if e.Name() == "controller" {
				f.Lowest = lowest(s.rollbackFloor())
			}
		case "configuration", "policy":
			f.Name, f.Version = "Signed "+e.Name(), e.Value("epoch")
		case "host-firmware", "bmc-firmware":
			f.ID, f.Name = e.Name()+"-running", "Measured "+e.Name()
		default:
			continue
		}
		add(f)
	}
	return all
}

// rollbackFloor is the security version below which nothing runs.
func (s *Service) rollbackFloor() uint32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.floor
}

// running is the digest of the controller that runs.
func (s *Service) running() (digest string) {
	for _, e := range events(s.c.Chain) {
		if e.Name() == "controller" {
			digest = e.Value("sha256")
		}
	}
	return digest
}

// slotEntries are the two slots. They are verified once, and again after an update: it
// takes a moment.
func (s *Service) slotEntries() (all []redfish.Component) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.entries != nil && !s.busy {
		return s.entries
	}
	own := s.c.Chain.Handover.Slot
	for _, slot := range []journal.Slot{journal.A, journal.B} {
		f := redfish.Component{ID: slotID(slot), Name: "Controller in " + slot.String(),
			Lowest: lowest(s.floor), Slot: redfish.SlotBackup, Updatable: true}
		if slot == own {
			f.Slot = redfish.SlotActive
		}
		switch i, err := s.c.Chain.SlotImage(slot); {
		case err == nil:
			f.Version, f.SHA256, f.Healthy = i.Version, i.Digest, true
		case code.Of(err) == code.ImageMalformed:
			f.Empty = true
		}
		all = append(all, f)
	}
	if !s.busy {
		s.entries = all
	}
	return all
}

// goldenEntries are the golden copies that there are. While a cycle of the host has one it
// is as it was seen last.
func (s *Service) goldenEntries() (all []redfish.Component) {
	for _, p := range []firmware.Part{firmware.Host, firmware.BMC} {
		g := s.c.Golden(p)
		if g == nil {
			continue
		}
		f := redfish.Component{ID: string(p) + "-golden", Name: "Golden copy of " + string(p) + " firmware", Updatable: true, Empty: true}
		m, floor, err := g.Glance()
		s.mu.Lock()
		if known, is := s.golden[p]; is && errors.Is(err, firmware.ErrBusy) {
			f = known
		} else if err == nil {
			f.Lowest = lowest(floor)
			if m != nil {
				f.Version, f.SHA256, f.Healthy, f.Empty = m.Version, m.Measurement(), true, false
			}
			s.golden[p] = f
		}
		s.mu.Unlock()
		all = append(all, f)
	}
	return all
}

// Slots implements redfish.Firmware.
func (s *Service) Slots() (active string, all []string) {
	for _, slot := range []journal.Slot{journal.A, journal.B} {
		all = append(all, slotID(slot))
	}
	return slotID(s.c.Chain.Handover.Slot), all
}

// slotID is a slot's in the inventory.
func slotID(slot journal.Slot) string {
	return "slot-" + strings.ToLower(strings.TrimPrefix(slot.String(), "slot "))
}

// lowest is the lowest version that is taken: a rollback floor.
func lowest(floor uint32) string { return fmt.Sprintf("security-version-%d", floor) }

// digestIn is what an event has measured: the log has made sure of its form.
func digestIn(e eventlog.Event) (d [32]byte) {
	hex.Decode(d[:], []byte(e.Value("sha256")))
	return d
}
