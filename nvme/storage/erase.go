package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"nitro/nvme/target"
)

// Methods of sanitisation (NIST SP 800-88 Rev. 1, 2.5 and 2.6).
const (
	MethodCryptographicErase = "Cryptographic Erase"
	MethodOverwrite          = "Overwrite"
)

// A Sanitised is what a certificate of sanitisation says of a volume (NIST SP 800-88 Rev.
// 1, appendix G).
type Sanitised struct {
	Spec
	Technique string // as the standard has it: Purge; Clear
	Method    string
	// What was done, and how the board knows, in a sentence each.
	Details, Verification string
}

func sanitised(of Spec) Sanitised {
	if of.Kind == RAM {
		return Sanitised{Spec: of, Technique: "Clear", Method: MethodOverwrite,
			Details:      "The volume's memory was overwritten with zeros, and the salt of its key with a random one.",
			Verification: "The memory is the board's own; nothing of it was ever on a medium."}
	}
	return Sanitised{Spec: of, Technique: "Purge", Method: MethodCryptographicErase,
		Details: "The volume's data was encrypted with AES-256-XTS under HKDF-SHA-256 of the delivered key and an erase salt. " +
			"The only secret that opened that salt, in the TPM's NV index 0x01800005, was overwritten with a random one.",
		Verification: "The index was read back and held the new secret; the volume has no extents and a new salt."}
}

// Erase makes all that a volume ever held unreadable for good, whoever has its key. It is
// detached first, and it is empty afterwards. One that failed is to be done again.
func (s *Service) Erase(ctx context.Context, id [16]byte) (Sanitised, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b, err := s.find(id)
	if err != nil {
		return Sanitised{}, err
	}
	if _, waits := s.pending[id]; waits || s.attached[id] != nil {
		s.detach(ctx, id)
		s.admitIfDone()
	}
	s.void(id)
	err = s.erase([]backing{b})
	s.notify(EventErased, id, err)
	if err == nil {
		err = s.settle()
	}
	if err != nil {
		return Sanitised{}, err
	}
	return sanitised(b.spec()), nil
}

// erase gives volumes other salts, and empties them: all those that are in the pool, or
// none of them.
func (s *Service) erase(all []backing) error {
	var pooled []string
	for _, b := range all {
		if _, inMemory := b.(*memoryVolume); !inMemory {
			pooled = append(pooled, b.spec().Name)
		}
	}
	if len(pooled) > 0 {
		if err := s.conf.Pool.Erase(pooled...); err != nil {
			return err
		}
	}
	for _, b := range all {
		if m, inMemory := b.(*memoryVolume); inMemory {
			if err := m.erase(); err != nil {
				return err
			}
		}
	}
	return nil
}

// A shown volume is one that the host sees, with what is beneath it.
type shown struct {
	*attachment
	backing
	salt []byte // before the erase
}

// eraseForHost does what a Format or Sanitize of the host's asks for (docs/volumes.md, "By
// the host"). The volumes stay attached: their keys become those of their new salts, of the
// keys that were delivered.
func (s *Service) eraseForHost(ctx context.Context, namespaces []target.Namespace) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	all, err := s.shown(ctx, namespaces)
	defer func() {
		for _, v := range all {
			clear(v.salt)
		}
	}()
	if err != nil {
		return err
	}
	var backings []backing
	for _, v := range all {
		backings = append(backings, v.backing)
	}
	err = s.erase(backings)
	for _, v := range all { // whatever the error: some salts may be new
		err = errors.Join(err, s.rekey(ctx, v))
	}
	if err == nil {
		err = s.settle()
	}
	for _, b := range backings {
		s.erased(b.spec(), err)
	}
	return err
}

// shown finds the volumes of namespaces. One may have been detached meanwhile, and another
// one be in its place.
func (s *Service) shown(ctx context.Context, namespaces []target.Namespace) (all []shown, err error) {
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if s.conf.MayErase != nil && !s.conf.MayErase() {
		return nil, target.ErrLater
	}
	for _, n := range namespaces {
		b, err := s.find(n.UUID)
		if err != nil {
			return all, err
		}
		a := s.attached[n.UUID]
		if a == nil || a.volume != n.Volume || !a.lease.Held() {
			return all, fmt.Errorf("%w: %x", ErrDetached, n.UUID)
		}
		salt, err := b.salt()
		if err != nil {
			return all, err
		}
		all = append(all, shown{a, b, salt})
	}
	return all, nil
}

// rekey has a volume use the key of the salt that counts now. Where nobody can tell which
// that is, it is taken from the host: what was written under a salt that is gone could
// never be read again.
func (s *Service) rekey(ctx context.Context, v shown) error {
	salt, err := v.backing.salt()
	defer clear(salt)
	if err == nil && bytes.Equal(salt, v.salt) {
		return nil
	}
	if err == nil {
		err = v.lease.Rekey(salt)
	}
	if err != nil {
		id := v.spec().ID
		s.drop(ctx, id, v.attachment)
		s.notify(EventDetached, id, err)
		s.keep()
	}
	return err
}

// erased tells what became of an erase of the host's.
func (s *Service) erased(of Spec, err error) {
	if s.conf.Notify == nil {
		return
	}
	e := Event{Kind: EventHostErased, Volume: of.ID, Cycle: s.cycle, Err: err}
	if err == nil {
		done := sanitised(of)
		e.Sanitised = &done
	}
	s.conf.Notify(e)
}
