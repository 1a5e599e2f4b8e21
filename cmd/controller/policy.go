package main

import (
	"crypto/sha256"
	"fmt"
	"log"

	"nitro/boot/code"
	"nitro/net/policy"
	"nitro/net/update"
)

// loadPolicy reads who may do what, once the store is open, and measures it. A board
// without a good set goes on: its API then shows evidence and status alone.
func (f *firmware) loadPolicy() error {
	id, err := f.board.UniqueID()
	if err != nil {
		return err
	}
	board := fmt.Sprintf("%016x", id)
	c := &f.chain
	if c.Config == nil || !c.Provisioned {
		return nil // nobody is known
	}
	f.knowInQuarantine(board)
	if f.reason() != nil {
		return nil
	}
	set, err := update.LoadPolicy(c, board)
	switch {
	case code.Of(err) != code.None: // of the TPM or the store
		f.enterQuarantine(err)
	case err != nil:
		log.Printf("%v", err)
		log.Print("the API serves evidence and status alone")
	default:
		log.Printf("policy set of epoch %d", set.Epoch)
		f.policy.Store(set)
	}
	return nil
}

// knowInQuarantine sets who is known where there is no good set.
func (f *firmware) knowInQuarantine(board string) {
	var cas [][sha256.Size]byte
	for _, ca := range f.chain.Configuration().Operators {
		cas = append(cas, sha256.Sum256(ca.RawSubjectPublicKeyInfo))
	}
	f.evidenceOnly.Store(policy.Quarantine(board, cas))
}

// policySet is the set in force. Nil is nobody: no client is known.
func (f *firmware) policySet() *policy.Set {
	set := f.policy.Load()
	if set == nil || f.reason() != nil {
		return f.evidenceOnly.Load()
	}
	return set
}

// mode is what the board can do at the moment.
func (f *firmware) mode() policy.Mode {
	return policy.Mode{Quarantined: f.policy.Load() == nil || f.reason() != nil, ClockKnown: f.clock.Known()}
}
