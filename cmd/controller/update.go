package main

import (
	"crypto/ecdsa"
	"fmt"
	"log"

	"nitro/boot/config"
	"nitro/net/policy"
	"nitro/net/update"
	hostfw "nitro/resetctl/firmware"
)

// openUpdates makes the service that updates the board, where it has an API. It takes
// updates once this boot has reported itself healthy.
func (f *firmware) openUpdates(id uint64) (err error) {
	if !f.chain.Provisioned || f.chain.Config == nil {
		return nil
	}
	board := fmt.Sprintf("%016x", id)
	c := update.Config{
		Chain: &f.chain, Board: board,
		Golden:  func(p hostfw.Part) *hostfw.Golden { return f.golden[p] },
		Renewed: func() { f.hostRenewed.Store(true) },
		Policy:  f.policy.Load,
		Adopt: func(s *policy.Set) {
			f.policy.Store(s)
			log.Printf("policy set of epoch %d", s.Epoch)
		},
		Reconfigured: func(c *config.Signed) { f.reconfigured(c, board) },
		InService:    func() bool { return f.reason() == nil },
		Restart:      func(why string) { f.restartAfter(restartDelay, why) },
		Now:          f.now,
	}
	if f.updates, err = update.New(c); err != nil { // its tasks cannot be read
		f.enterQuarantine(err)
		f.updates, err = update.New(c)
	}
	return err
}

// reconfigured has a configuration that has come into force count for who is known, on open
// connections too, for who may witness the log, and for who gives keys. Time servers and
// storage servers are looked up when they are used.
func (f *firmware) reconfigured(c *config.Signed, board string) {
	f.show(f.know)
	f.knowInQuarantine(board)
	f.log.SetWitnesses(c.Witnesses)
	f.trustKeyService(c)
	log.Printf("configuration of epoch %d", c.Epoch)
}

// trustKeyService has keys come from the key service of a configuration that has come into
// force.
func (f *firmware) trustKeyService(c *config.Signed) {
	s := f.volumes.Load()
	if s == nil || f.chain.Config.KeyService == nil { // then it waits for the next boot, or there is none
		return
	}
	var k *ecdsa.PublicKey
	if c.KeyService != nil {
		k = c.KeyService.Key
	}
	if err := s.Trust(k); err != nil {
		log.Printf("volumes: %v", err)
	}
}
