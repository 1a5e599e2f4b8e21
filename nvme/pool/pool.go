// Package pool keeps volumes on a card: thin, many, and whole after any power cut.
// docs/pool.md fixes the format, version 1, and has the argument for each order of
// writes; doc comments here name what they rely on.
//
// A volume of the pool is what lies beneath [volume.Encrypted]: the pool sees ciphertext
// and has no key of it. Its own table is authenticated under a key that the encrypted
// store keeps, and cannot be rolled back behind the last volume operation. What an extent
// holds has no tag: who holds the card can put back older ciphertext of the same volume
// and block, which XTS does not notice.
//
// It also keeps each volume's erase salt, wrapped under a secret in the TPM: [Pool.Erase]
// makes all that was written unreadable for good.
//
// Left out: snapshots, a cache, moving extents, growing with the card.
package pool

import (
	"errors"
	"fmt"
	"hash"
	"sync"

	"nitro/nvme/volume"
)

// A Device is a medium in blocks of 512 bytes, as package medium of the boot chain has it.
type Device interface {
	BlockSize() int
	Blocks() uint64
	ReadBlocks(first uint64, p []byte) error
	// WriteBlocks returns when the blocks are on the medium.
	WriteBlocks(first uint64, p []byte) error
}

// A Witness remembers the pool's era where whoever holds the card cannot set it back: the
// encrypted store.
type Witness interface {
	Era() (uint64, error) // 0 before the first SetEra
	SetEra(uint64) error
}

// An EraseSecret is the TPM's secret for salts, as package nv of attest has it.
type EraseSecret interface {
	// EraseSecret gives 32 bytes, which the pool zeroes.
	EraseSecret() ([]byte, error)
	// EraseAll overwrites the secret and reads it back.
	EraseAll(secret [32]byte) error
}

// KeySize is the length of the pool's key in bytes.
const KeySize = 32

// A Config says where a pool lies, and what it rests on.
type Config struct {
	Device       Device
	Offset, Size int64 // of the pool, in bytes; the offset is whole extents
	Key          []byte
	Witness      Witness
	Erase        EraseSecret
	// Records is the length of the log's ring, for Format: 0 means 2048, otherwise a
	// power of two from 64 on, and twice as many as a checkpoint has chunks.
	Records int
}

// Errors. A pool that has no room gives [volume.ErrFull], a device that fails
// [volume.ErrMedium].
var (
	ErrNotFormatted = errors.New("pool: no pool here: format it, which loses what is on it")
	ErrKey          = errors.New("pool: the pool was made with another key: it is another board's card, or the store was made anew")
	ErrRolledBack   = errors.New("pool: the card holds an older or another pool than the store remembers: put the right card in, or format it")
	ErrDamaged      = errors.New("pool: the pool's table is damaged in all copies: format it and restore its volumes")
	ErrFailed       = fmt.Errorf("pool: a write of the table failed: open the pool again: %w", volume.ErrMedium)
	ErrNoVolume     = errors.New("pool: no such volume")
	ErrExists       = errors.New("pool: there is a volume of this name or identity")
	ErrBusy         = errors.New("pool: the volume is open: detach it first")
	ErrTooMany      = errors.New("pool: 254 volumes are there: delete one first")
	ErrErased       = errors.New("pool: the volume's salt does not open under the TPM's secret: what it held is gone; erase it to use it again")
	ErrClosed       = fmt.Errorf("pool: %w", volume.ErrClosed)
)

// A Spec is what a volume is made of.
type Spec struct {
	// ID is the volume's for life. Nobody else's in the pool; zero has Create make a
	// random one.
	ID         [16]byte
	Name       string // 1 to 64 printable ASCII characters without space
	BlockSize  int    // 512 or 4096
	Blocks     uint64
	Commitment [32]byte // to the key that will be delivered; package key says how
}

// An Info is what is known of a volume.
type Info struct {
	Spec
	Extents int // in use, of ExtentSize bytes
	Open    bool
}

// A Space is what a pool has, in extents of ExtentSize bytes.
type Space struct{ Total, Free int }

// A Pool is one that is open. Its methods may run at the same time.
type Pool struct {
	dev     Device
	witness Witness
	erase   EraseSecret
	geo     geometry
	mac     hash.Hash

	mu      sync.RWMutex // read-held during reads and writes in place
	closed  bool
	failed  error // what stopped the table's writes
	vols    [maxSlot + 1]*vol
	table   *table
	pending []mapping // frees that no record has yet
	root    root
	seq     uint64 // number of the last record
	tag     [tagSize]byte
	ck      *checkpoint // under way, or nil
	sector  [sectorSize]byte
	extent  []byte // ExtentSize, for what is written in part
}

// vol is a volume that exists.
type vol struct {
	descriptor
	used int
	open *Volume
	gone bool // it is erased, and the table does not say yet that its extents are free
}

// Close gives up the pool and its volumes. Deallocations that wait are made durable.
func (p *Pool) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	err := p.commit(nil)
	p.closed = true
	return err
}

// Space tells how full the pool is.
func (p *Pool) Space() Space {
	p.mu.RLock()
	defer p.mu.RUnlock()
	return Space{Total: len(p.table.slot), Free: p.table.free + len(p.pending)}
}

// List gives all volumes, in the order of their places.
func (p *Pool) List() (all []Info) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	for _, v := range p.vols {
		if v != nil {
			all = append(all, v.info())
		}
	}
	return all
}

func (v *vol) info() Info {
	return Info{
		Spec:    Spec{ID: v.id, Name: v.name, BlockSize: 1 << v.shift, Blocks: v.blocks, Commitment: v.commitment},
		Extents: v.used, Open: v.open != nil,
	}
}

// Find gives one volume.
func (p *Pool) Find(name string) (Info, error) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	v, err := p.find(name)
	if err != nil {
		return Info{}, err
	}
	return v.info(), nil
}

func (p *Pool) find(name string) (*vol, error) {
	if p.closed {
		return nil, ErrClosed
	}
	for _, v := range p.vols {
		if v != nil && v.name == name {
			return v, nil
		}
	}
	return nil, fmt.Errorf("%w: %.64q", ErrNoVolume, name)
}

// idle finds a volume that is not open, for operations on it.
func (p *Pool) idle(name string) (*vol, error) {
	v, err := p.find(name)
	if err == nil && v.open != nil {
		err = fmt.Errorf("%w: %s", ErrBusy, name)
	}
	return v, err
}

// Check refuses what no volume can be, whatever the pool has.
func (s *Spec) Check() error {
	if err := checkName(s.Name); err != nil {
		return err
	}
	if err := volume.CheckBlockSize(s.BlockSize); err != nil {
		return err
	}
	if s.Blocks == 0 || s.Blocks > maxVolume/uint64(s.BlockSize) {
		return fmt.Errorf("pool: volume %s: %d blocks of %d bytes: 1 to %d", s.Name, s.Blocks, s.BlockSize, maxVolume/uint64(s.BlockSize))
	}
	return nil
}

// Create makes a volume, which takes no space until it is written.
func (p *Pool) Create(s Spec) (Info, error) {
	if err := s.Check(); err != nil {
		return Info{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.find(s.Name); !errors.Is(err, ErrNoVolume) {
		if err == nil {
			err = fmt.Errorf("%w: %s", ErrExists, s.Name)
		}
		return Info{}, err
	}
	for _, v := range p.vols {
		if v != nil && v.id == s.ID {
			return Info{}, fmt.Errorf("%w: %x", ErrExists, s.ID)
		}
	}
	slot := uint16(1)
	for slot <= maxSlot && p.vols[slot] != nil {
		slot++
	}
	if slot > maxSlot {
		return Info{}, ErrTooMany
	}
	d, err := p.newDescriptor(slot, s)
	if err != nil {
		return Info{}, err
	}
	if err := p.operate(record{kind: kindVolume, desc: d}); err != nil {
		return Info{}, err
	}
	return p.vols[slot].info(), nil
}

// Resize changes a volume's size, in blocks, while it is not open. What lies behind a
// smaller size is gone.
func (p *Pool) Resize(name string, blocks uint64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.idle(name)
	if err != nil {
		return err
	}
	s := v.info().Spec
	s.Blocks = blocks
	if err := s.Check(); err != nil {
		return err
	}
	if blocks > v.blocks {
		if err := p.clearTail(v); err != nil {
			return err
		}
	}
	d := v.descriptor
	d.blocks = blocks
	return p.operate(record{kind: kindVolume, desc: d})
}

// Delete removes a volume while it is not open, and frees its space. It leaves the data's
// ciphertext on the card; Erase makes that worthless.
func (p *Pool) Delete(name string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.idle(name)
	if err != nil {
		return err
	}
	return p.operate(record{kind: kindDelete, arg: v.slot})
}

// operate does a volume operation and has the witness know of it.
func (p *Pool) operate(r record) error {
	if err := p.write(r); err != nil {
		return err
	}
	return p.seal()
}
