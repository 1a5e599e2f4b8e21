//go:build arm.7

package sha256

import (
	"encoding/binary"
	"errors"
	"hash"
)

// digest is a hash under way.
type digest struct {
	state  [8]uint32
	buf    [BlockSize]byte // what there is of the next block
	length uint64          // of the message so far, in bytes
}

func newHash() hash.Hash {
	d := new(digest)
	d.Reset()
	return d
}

func sum(data []byte) (out [Size]byte) {
	var d digest
	d.Reset()
	d.Write(data)
	d.finish(&out)
	return out
}

// Reset begins a new message.
func (d *digest) Reset() { d.state, d.length = initial, 0 }

// Size is the length of a digest in bytes.
func (d *digest) Size() int { return Size }

// BlockSize is the length of a block in bytes.
func (d *digest) BlockSize() int { return BlockSize }

// Write adds data to the message. It never fails.
func (d *digest) Write(data []byte) (int, error) {
	held, n := int(d.length%BlockSize), len(data)
	d.length += uint64(n)
	if held > 0 {
		took := copy(d.buf[held:], data)
		if held+took < BlockSize {
			return n, nil
		}
		d.blocks(d.buf[:])
		data = data[took:]
	}
	whole := len(data) &^ (BlockSize - 1)
	d.blocks(data[:whole])
	copy(d.buf[:], data[whole:])
	return n, nil
}

// blocks takes whole blocks into the state.
func (d *digest) blocks(p []byte) {
	for len(p) > 0 {
		n := min(len(p), batch)
		compress(&d.state[0], &p[0], n/BlockSize, &roundConstants[0])
		p = p[n:]
	}
}

// Sum appends the digest of the message so far to in. The message can go on.
func (d *digest) Sum(in []byte) []byte {
	last := *d
	var out [Size]byte
	last.finish(&out)
	return append(in, out[:]...)
}

// finish pads the message (FIPS 180-4, 5.1.1): a bit 1, zeros, and the length in
// bits, 64 of them, at the end of a block.
func (d *digest) finish(out *[Size]byte) {
	const room = BlockSize - 8
	held := int(d.length % BlockSize)
	d.buf[held] = 0x80
	clear(d.buf[held+1:])
	if held >= room {
		d.blocks(d.buf[:])
		clear(d.buf[:])
	}
	binary.BigEndian.PutUint64(d.buf[room:], d.length*8)
	d.blocks(d.buf[:])
	for i, w := range d.state {
		binary.BigEndian.PutUint32(out[4*i:], w)
	}
}

// Clone returns a copy that goes on by itself.
func (d *digest) Clone() (hash.Cloner, error) {
	c := *d
	return &c, nil
}

// The saved state, as crypto/sha256 has it: a name, the state, the block under way
// with zeros after it, and the length, all big-endian.
const (
	magic     = "sha\x03"
	stateSize = len(magic) + Size + BlockSize + 8
)

// AppendBinary appends the saved state to b.
func (d *digest) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, magic...)
	for _, w := range d.state {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	held := d.length % BlockSize
	b = append(b, d.buf[:held]...)
	b = append(b, make([]byte, BlockSize-held)...)
	return binary.BigEndian.AppendUint64(b, d.length), nil
}

// MarshalBinary returns the saved state.
func (d *digest) MarshalBinary() ([]byte, error) {
	return d.AppendBinary(make([]byte, 0, stateSize))
}

// UnmarshalBinary goes on from a saved state. After an error d is as it was.
func (d *digest) UnmarshalBinary(b []byte) error {
	if len(b) < len(magic) || string(b[:len(magic)]) != magic {
		return errors.New("sha256: saved state does not begin as one of SHA-256's does")
	}
	if len(b) != stateSize {
		return errors.New("sha256: saved state has the wrong length")
	}
	b = b[len(magic):]
	for i := range d.state {
		d.state[i] = binary.BigEndian.Uint32(b[4*i:])
	}
	copy(d.buf[:], b[Size:])
	d.length = binary.BigEndian.Uint64(b[Size+BlockSize:])
	return nil
}
