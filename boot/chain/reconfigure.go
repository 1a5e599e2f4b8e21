package chain

import (
	"fmt"
	"reflect"

	"nitro/attest/eventlog"
	"nitro/boot/code"
	"nitro/boot/config"
	"nitro/boot/image"
)

// Configuration is the configuration in force: that of the boot, or one that has taken its
// place since. It may be asked at any time; nil where the board has none.
func (c *Controller) Configuration() *config.Signed {
	if now := c.reconfigured.Load(); now != nil {
		return now
	}
	return c.Config
}

// Reconfigure puts a newer configuration in force, on a board in service, and names the
// members of it that wait for the next boot: docs/update.md, "How each kind is taken". It
// is for one goroutine, that of the slots.
//
// It answers the configuration that locks the owner out: it is refused if what runs could
// not boot and unseal under it. The order is that of a boot's: on the card, then in NV, then
// measured, then in force; a cut before the first copy is whole changes nothing, and any
// later one is made up by the next boot. After an error behind the writing the configuration
// is on the card and comes into force with the next boot.
func (s *Slots) Reconfigure(b []byte) (next *config.Signed, waits []string, err error) {
	c, now := s.c, s.c.Configuration()
	want := config.Want{Product: c.Product, Anchors: c.Anchors, Epoch: now.Epoch}
	if next, err = config.Verify(b, want); err != nil {
		return nil, nil, err
	}
	switch {
	case int64(len(b)) != image.HeaderSize+int64(next.Header.Length):
		return nil, nil, code.ImageMalformed.Errorf("configuration: something follows it: send the file that config sign wrote")
	case next.Epoch <= now.Epoch:
		return nil, nil, code.ConfigurationOld.Errorf("configuration has epoch %d, and %d is in force", next.Epoch, now.Epoch)
	case next.SecurityKey != now.SecurityKey:
		return nil, nil, code.UpdateUnsafe.Errorf("configuration: security_key cannot change: the store's key depends on it")
	}
	if err := s.bootsUnder(next); err != nil {
		return nil, nil, err
	}
	event := eventlog.Configuration(next.Header.Digest, next.Epoch)
	if !c.Fits(event) {
		return nil, nil, code.LogFull.Errorf("configuration: the event log is full: restart the board first")
	}
	if err := config.Write(c.Card, b, want); err != nil {
		return nil, nil, coded(err, nil, code.ConfigurationBad)
	}
	c.Bus.Lock()
	err = c.NV.RaiseEpoch(next.Epoch)
	c.Bus.Unlock()
	if err == nil {
		err = c.Measure(event)
	}
	if err != nil {
		return nil, nil, tpmCoded(fmt.Errorf("configuration of epoch %d comes into force with the next boot: %w", next.Epoch, err))
	}
	c.reconfigured.Store(next)
	return next, c.Waiting(), nil
}

// Waiting names the members of the configuration in force that wait for the next boot: what
// runs took them from that of the boot. It may be asked at any time.
func (c *Controller) Waiting() (names []string) {
	boot, next := c.Config, c.Configuration()
	if boot == nil {
		return nil
	}
	for _, member := range []struct {
		name       string
		boot, next any
	}{
		{"host", boot.Host, next.Host},
		{"syslog", boot.Collector, next.Collector},
		{"key_service", boot.KeyService != nil, boot.KeyService != nil || next.KeyService != nil}, // another one, or none any more, does not wait
	} {
		if !reflect.DeepEqual(member.boot, member.next) {
			names = append(names, member.name)
		}
	}
	return names
}

// bootsUnder tells whether what runs would boot and unseal under a configuration.
func (s *Slots) bootsUnder(next *config.Signed) error {
	want := s.want()
	want.Authorities = next.Authorities(s.c.Anchors)
	own, err := openSlot(s.c.Card, s.state.Slot, want)
	if err != nil {
		return fmt.Errorf("configuration: what runs would not boot under it: %w", err)
	}
	running, err := s.predict(s.c.Release, own)
	if err != nil {
		return code.UnsealNotPredicted.Errorf("configuration: what runs: %w", err)
	}
	set, err := readSet(s.c.Card)
	if err != nil {
		return err
	}
	if err := set.Covers(next.Sealing(), running, s.c.Board.PCR1); err != nil {
		return code.UnsealNotPredicted.Errorf("configuration: the store would not open under its sealing authorities: provision the board again for others: %w", err)
	}
	return nil
}
