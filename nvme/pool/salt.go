package pool

import (
	"crypto/hkdf"
	"crypto/rand"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"nitro/attest/sha256"
)

// SaltSize is the length of an erase salt in bytes.
const SaltSize = 32

// wrap is a salt under an erase secret: nonce, ciphertext, tag.
type wrap [wrapSize]byte

const wrapInfo = "nitro erase salt v1"

// wrapKey derives the key of a volume's wrap.
func wrapKey(secret []byte, id *[16]byte) ([]byte, error) {
	k, err := hkdf.Key(sha256.New, secret, id[:], wrapInfo, chacha20poly1305.KeySize)
	if err != nil {
		return nil, fmt.Errorf("pool: %w", err)
	}
	return k, nil
}

// seal wraps a salt.
func (w *wrap) seal(secret []byte, id *[16]byte, salt []byte) error {
	k, err := wrapKey(secret, id)
	if err != nil {
		return err
	}
	defer clear(k)
	a, err := chacha20poly1305.NewX(k)
	if err != nil {
		return fmt.Errorf("pool: %w", err)
	}
	nonce := w[:chacha20poly1305.NonceSizeX]
	rand.Read(nonce)
	a.Seal(nonce, nonce, salt, id[:])
	return nil
}

// open gives the salt, if it is wrapped under this secret.
func (w *wrap) open(secret []byte, id *[16]byte) ([]byte, error) {
	k, err := wrapKey(secret, id)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	a, err := chacha20poly1305.NewX(k)
	if err != nil {
		return nil, fmt.Errorf("pool: %w", err)
	}
	return a.Open(nil, w[:chacha20poly1305.NonceSizeX], w[chacha20poly1305.NonceSizeX:], id[:])
}

// salt gives the salt, and which wrap has it.
func (d *descriptor) salt(secret []byte) (salt []byte, which int, err error) {
	for i := range d.wraps {
		if salt, err := d.wraps[i].open(secret, &d.id); err == nil {
			return salt, i, nil
		}
	}
	return nil, 0, fmt.Errorf("%w: %s", ErrErased, d.name)
}

// secret asks the TPM for the erase secret, which the caller zeroes.
func (p *Pool) secret() ([]byte, error) {
	s, err := p.erase.EraseSecret()
	if err == nil && len(s) != 32 {
		err = fmt.Errorf("%d bytes, not 32", len(s))
	}
	if err != nil {
		clear(s)
		return nil, fmt.Errorf("pool: the erase secret: %w", err)
	}
	return s, nil
}

// newDescriptor makes a volume with an identity and a salt of its own.
func (p *Pool) newDescriptor(slot uint16, s Spec) (descriptor, error) {
	d := descriptor{slot: slot, id: s.ID, shift: 9, name: s.Name, blocks: s.Blocks, commitment: s.Commitment}
	if s.BlockSize == 4096 {
		d.shift = 12
	}
	if d.id == [16]byte{} {
		rand.Read(d.id[:])
	}
	secret, err := p.secret()
	if err != nil {
		return d, err
	}
	defer clear(secret)
	return d, d.renew(0, secret)
}

// renew gives the volume a new salt.
func (d *descriptor) renew(which int, secret []byte) error {
	salt := make([]byte, SaltSize)
	defer clear(salt)
	rand.Read(salt)
	return d.wraps[which].seal(secret, &d.id, salt)
}

// Salt gives a volume's erase salt, which with the key that is delivered makes the key of
// its data (package key). The caller zeroes it.
func (p *Pool) Salt(name string) ([]byte, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	v, err := p.find(name)
	if err != nil {
		return nil, err
	}
	secret, err := p.secret()
	if err != nil {
		return nil, err
	}
	defer clear(secret)
	salt, _, err := v.salt(secret)
	return salt, err
}

// Erase makes all that volumes hold, and ever held, unreadable for good, whoever has their
// keys and whichever copies of the card: their salts' wraps are under a secret that is
// overwritten in the TPM, once for all of them. They are empty afterwards, and have new
// salts. docs/pool.md, "Salt and erase", has the order and why it survives a cut; an erase
// that fails, or is cut, is done again. After an error [Pool.Salt] tells whether the old
// salts still count: the new ones count for all of them or for none.
//
// An open volume stays open. Whoever has it open sees to it that nothing is read or written
// meanwhile, and afterwards under the new salt's key only.
func (p *Pool) Erase(names ...string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	erased := map[*vol]bool{}
	for _, name := range names {
		v, err := p.find(name)
		if err != nil {
			return err
		}
		erased[v] = true
	}
	if err := p.renewSalts(erased); err != nil {
		return err
	}
	for v := range erased {
		v.gone = true
	}
	for _, v := range p.vols {
		if !erased[v] {
			continue
		}
		if err := p.write(record{kind: kindEmpty, arg: v.slot}); err != nil {
			return err
		}
		v.gone = false
	}
	return p.seal()
}

// renewSalts wraps the salts of all volumes under a new secret, new ones where they are
// erased, and then overwrites the TPM's with it.
func (p *Pool) renewSalts(erased map[*vol]bool) error {
	old, err := p.secret()
	if err != nil {
		return err
	}
	defer clear(old)
	var next [32]byte
	defer clear(next[:])
	rand.Read(next[:])
	for _, v := range p.vols {
		if v == nil {
			continue
		}
		if err := p.rewrap(v, erased[v], old, next[:]); err != nil {
			return err
		}
	}
	if err := p.erase.EraseAll(next); err != nil {
		return fmt.Errorf("pool: the erase secret was not overwritten, so nothing is erased: %w", err)
	}
	return nil
}

// rewrap gives a volume a wrap under the next secret, beside the one that counts now. One
// whose salt is lost already stays so.
func (p *Pool) rewrap(v *vol, erased bool, old, next []byte) error {
	d := v.descriptor
	salt, which, err := d.salt(old)
	defer clear(salt)
	switch {
	case erased:
		err = d.renew(1-which, next)
	case err != nil:
		return nil
	default:
		err = d.wraps[1-which].seal(next, &d.id, salt)
	}
	if err != nil {
		return err
	}
	return p.write(record{kind: kindVolume, desc: d})
}
