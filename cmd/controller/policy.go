package main

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log"

	"nitro/attest/eventlog"
	"nitro/boot/code"
	"nitro/boot/store"
	"nitro/net/policy"
)

// policyEpoch is the store's record of the highest epoch that a policy set has had: 8
// bytes, big endian.
const policyEpoch = "policy/epoch"

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
	var cas [][sha256.Size]byte
	for _, ca := range c.Config.Operators {
		cas = append(cas, sha256.Sum256(ca.RawSubjectPublicKeyInfo))
	}
	f.evidenceOnly = policy.Quarantine(board, cas)
	if f.reason() != nil {
		return nil
	}
	set, err := f.readPolicy(board)
	switch {
	case code.Of(err) != code.None: // of the TPM or the store
		f.enterQuarantine(err)
	case err != nil:
		log.Printf("%v", err)
		log.Print("the API serves evidence and status alone")
	default:
		log.Printf("policy set of epoch %d", set.Epoch)
		f.policy = set
	}
	return nil
}

// readPolicy reads the card's set, measures it, and notes its epoch. The measurement comes
// first: a set that was in force for a moment has to be in the log.
func (f *firmware) readPolicy(board string) (*policy.Set, error) {
	c := &f.chain
	had, err := readEpoch(c.Store)
	if err != nil {
		return nil, err
	}
	set, err := policy.Load(c.Card, policy.Want{
		Product: c.Product, Development: c.Anchors.Development, Authorities: c.Anchors.Authorities, Epoch: had, Board: board,
	})
	if err != nil {
		return nil, uncoded(err) // what is wrong with a set puts no board into quarantine
	}
	if err := c.Measure(eventlog.Policy(set.Digest, set.Epoch)); err != nil {
		return nil, err
	}
	if set.Epoch == had {
		return set, nil
	}
	if err := c.Store.Put(policyEpoch, binary.BigEndian.AppendUint64(nil, set.Epoch)); err != nil {
		return nil, code.StoreDamaged.Errorf("policy: epoch %d: %w", set.Epoch, err)
	}
	if err := c.Store.Checkpoint(); err != nil {
		return nil, code.StoreDamaged.Errorf("policy: epoch %d: %w", set.Epoch, err)
	}
	return set, nil
}

// readEpoch is the highest epoch that the board has had; 0 if it has had no set.
func readEpoch(s *store.Store) (uint64, error) {
	b, err := s.Get(policyEpoch)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return 0, nil
	case err != nil:
		return 0, code.StoreDamaged.Errorf("policy: epoch: %w", err)
	case len(b) != 8:
		return 0, code.StoreDamaged.Errorf("policy: epoch: a record of %d bytes, not 8", len(b))
	}
	return binary.BigEndian.Uint64(b), nil
}

// uncoded takes an error's code from it.
func uncoded(err error) error { return errors.New(err.Error()) }

// policySet is the set in force. Nil is nobody: no client is known.
func (f *firmware) policySet() *policy.Set {
	if f.policy == nil || f.reason() != nil {
		return f.evidenceOnly
	}
	return f.policy
}

// mode is what the board can do at the moment.
func (f *firmware) mode() policy.Mode {
	return policy.Mode{Quarantined: f.policy == nil || f.reason() != nil, ClockKnown: f.clock.Known()}
}
