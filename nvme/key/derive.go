package key

import (
	"crypto/hpke"
	"crypto/subtle"
	"fmt"

	"nitro/attest/sha256"
)

// hmac is HMAC-SHA-256 (RFC 2104) for keys of at most 64 bytes, within the slot: the
// library's leaves its padded key on the heap.
func (w *work) hmac(out *[32]byte, key []byte, message ...[]byte) {
	const block = 64
	b := w.message[:block]
	pad := func(x byte) {
		for i := range b {
			b[i] = x
		}
		subtle.XORBytes(b, b, key)
	}
	n := block
	for _, m := range message {
		n += copy(w.message[n:], m)
	}
	pad(0x36)
	w.inner = sha256.Sum256(w.message[:n])
	pad(0x5c)
	copy(w.message[block:], w.inner[:])
	*out = sha256.Sum256(w.message[:block+len(w.inner)])
}

// derive makes the effective key: HKDF-SHA-256 (RFC 5869) of the delivered one and the
// erase salt, for this volume.
func (w *work) derive(volume *[VolumeSize]byte) {
	const n = 32
	info := append([]byte(effectiveLabel), volume[:]...)
	w.hmac(&w.prk, w.salt[:], w.delivered[:])
	w.hmac((*[n]byte)(w.effective[:n]), w.prk[:], info, []byte{1})
	w.hmac((*[n]byte)(w.effective[n:]), w.prk[:], w.effective[:n], info, []byte{2})
}

// commitment is Commitment of the delivered key, within the slot.
func (w *work) commitment() [32]byte {
	clear(w.message[:])
	copy(w.message[:], commitDomain)
	copy(w.message[commitBlock:], w.delivered[:])
	return sha256.Sum256(w.message[:commitBlock+Size])
}

// An opener opens a wrapped key into the working area. good is 1, or 0 if what came out is
// to be refused like a key that is not the volume's: with the error other.
type opener struct {
	open  func(w *work) (good int, err error)
	other error
}

// load opens a wrapped key, which must have the volume's commitment, and puts it into a
// slot with the effective key's schedule, or, with none, looks whether it could. Nothing
// else is left in the arena.
func (a *Arena) load(o opener, v *Volume, into *slot) error {
	stack() // grow it now, so that it does not move, and leave a copy, when keys are on it
	defer stack()
	w := a.work
	defer func() { *w = work{} }()
	good, err := o.open(w)
	if err != nil {
		return err
	}
	c := w.commitment()
	if good&subtle.ConstantTimeCompare(c[:], v.Commitment[:]) != 1 {
		return o.other
	}
	if subtle.ConstantTimeCompare(w.delivered[:Size/2], w.delivered[Size/2:]) == 1 {
		return ErrKey
	}
	if into == nil {
		return nil
	}
	into.delivered = w.delivered
	return w.expand(v, into)
}

// expand makes the schedule of the effective key in a slot.
func (w *work) expand(v *Volume, into *slot) error {
	copy(w.salt[:], v.Salt)
	w.derive(&v.ID)
	return into.key.Init(w.effective[:])
}

// again expands the effective key of another erase salt, of the delivered key in the slot.
func (a *Arena) again(v *Volume, s *slot) error {
	stack()
	defer stack()
	w := a.work
	defer func() { *w = work{} }()
	w.delivered = s.delivered
	return w.expand(v, s)
}

// open opens a wrapped key into the slot.
func (w *work) open(board hpke.PrivateKey, grant, wrapped []byte) error {
	if len(wrapped) != WrappedSize {
		return fmt.Errorf("%d bytes, not %d: %w", len(wrapped), WrappedSize, ErrWrapped)
	}
	kdf, aead := suite()
	plain, err := hpke.Open(board, kdf, aead, grant, wrapped)
	if err != nil {
		return ErrWrapped
	}
	defer clear(plain)
	if copy(w.delivered[:], plain) != Size || len(plain) != Size {
		return ErrKey
	}
	return nil
}

// stackSize is more than HPKE and the hash take, in bytes.
const stackSize = 48 << 10

// stack overwrites the stack below its caller's frame.
//
//go:noinline
func stack() byte {
	var b [stackSize]byte
	return b[zeroIndex()]
}

// zeroIndex keeps the compiler from leaving the array out.
//
//go:noinline
func zeroIndex() int { return 0 }
