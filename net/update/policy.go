package update

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"nitro/attest/eventlog"
	"nitro/boot/chain"
	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/store"
	"nitro/net/policy"
)

// policyEpoch is the store's record of the highest epoch that a policy set has had: 8
// bytes, big endian.
const policyEpoch = "policy/epoch"

// LoadPolicy reads the card's set at boot, measures it, and notes its epoch. The
// measurement comes first: a set that was in force for a moment has to be in the log. An
// error without a code is of the set alone.
func LoadPolicy(c *chain.Controller, board string) (*policy.Set, error) {
	had, err := readEpoch(c.Store)
	if err != nil {
		return nil, err
	}
	set, err := policy.Load(c.Card, wantPolicy(c, board, had))
	if err != nil {
		return nil, errors.New(err.Error()) // what is wrong with a set puts no board into quarantine
	}
	if err := c.Measure(eventlog.Policy(set.Digest, set.Epoch)); err != nil {
		return nil, err
	}
	if set.Epoch == had {
		return set, nil
	}
	return set, noteEpoch(c.Store, set.Epoch)
}

func wantPolicy(c *chain.Controller, board string, had uint64) policy.Want {
	return policy.Want{Product: c.Product, Development: c.Anchors.Development, Authorities: c.Anchors.Authorities, Epoch: had, Board: board}
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

// noteEpoch has the store keep an epoch, and the TPM count it.
func noteEpoch(s *store.Store, epoch uint64) error {
	err := s.Put(policyEpoch, binary.BigEndian.AppendUint64(nil, epoch))
	if err == nil {
		err = s.Checkpoint()
	}
	if err != nil {
		return code.StoreDamaged.Errorf("policy: epoch %d: %w", epoch, err)
	}
	return nil
}

// takePolicy puts a policy set in force, in the order of docs/update.md: on the card, its
// epoch in the store, measured, then asked. The epoch is not noted before the set is on the
// card: a cut between the two would leave a board whose only set is too old.
func (s *Service) takePolicy(t *task, r io.Reader) (string, error) {
	b, err := readAll(r, image.HeaderSize+policy.MaxPayload)
	if err != nil {
		return "", err
	}
	s.expect(t, b)
	had, err := readEpoch(s.store)
	if err != nil {
		return "", err
	}
	c := s.c.Chain
	rest := bytes.NewReader(b)
	set, err := policy.Read(rest, wantPolicy(c, s.c.Board, 0))
	switch {
	case code.Of(err) != code.None:
		return "", err
	case err != nil:
		e := describe(code.ImageMalformed)
		e.Next = fmt.Sprintf("The policy set is not taken: %v", err)
		return "", e
	case rest.Len() > 0:
		return "", code.ImageMalformed.Errorf("policy: %d bytes behind the set", rest.Len())
	case set.Epoch <= had:
		return "", conflict(fmt.Sprintf("The set's epoch is %d, and the board has had %d: sign one with a higher epoch.", set.Epoch, had))
	}
	event := eventlog.Policy(set.Digest, set.Epoch)
	if !c.Fits(event) {
		return "", code.LogFull.Errorf("policy: the event log is full: restart the board first")
	}
	if err := policy.Save(c.Card, b, wantPolicy(c, s.c.Board, had)); err != nil {
		return "", code.ImageUnreadable.Errorf("%w", err)
	}
	if err := noteEpoch(s.store, set.Epoch); err != nil {
		return "", err
	}
	if err := c.Measure(event); err != nil {
		return "", fmt.Errorf("policy: epoch %d comes into force with the next boot: %w", set.Epoch, err)
	}
	s.c.Adopt(set)
	return fmt.Sprintf("Epoch %d is in force.", set.Epoch), nil
}
