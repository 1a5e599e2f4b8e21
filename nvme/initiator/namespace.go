package initiator

import (
	"context"
	"errors"
	"fmt"

	"nitro/nvme/volume"
	"nitro/nvme/wire"
)

// A Namespace is a volume on a controller.
type Namespace struct {
	c      *Controller
	id     uint32
	shift  uint8
	blocks uint64
	most   int // bytes of one command
	onces  uint16
	zero   bool
	fua    uint32 // bit of writes that go through the controller's cache; 0: they need not
}

var _ volume.Volume = (*Namespace)(nil)

// defaultTransfer is used where the controller names no limit, and is the most that is
// used where it names a higher one.
const defaultTransfer = 1 << 20

// Namespace opens a namespace of the NVM command set.
func (c *Controller) Namespace(ctx context.Context, id uint32) (*Namespace, error) {
	b := new([wire.IdentifySize]byte)
	if _, err := c.Admin(ctx, &wire.Command{Opcode: wire.AdminIdentify, NSID: id, CDW10: wire.CNSNamespace}, nil, b[:]); err != nil {
		return nil, fmt.Errorf("initiator: namespace %d: %w", id, err)
	}
	d := wire.DecodeNamespace(b)
	if d.Size == 0 {
		return nil, fmt.Errorf("initiator: namespace %d: there is none", id)
	}
	if d.BlockShift != 9 && d.BlockShift != 12 {
		return nil, fmt.Errorf("initiator: namespace %d: blocks of 2^%d bytes; only 512 and 4096 are used", id, d.BlockShift)
	}
	n := &Namespace{c: c, id: id, shift: d.BlockShift, blocks: d.Size, most: defaultTransfer, onces: c.identity.ONCS, zero: d.ReadsZero}
	if m := c.identity.MDTS; m != 0 && m < 8 {
		n.most = 4096 << m
	}
	return n, nil
}

// BlockSize implements volume.Volume.
func (n *Namespace) BlockSize() int { return 1 << n.shift }

// Blocks implements volume.Volume.
func (n *Namespace) Blocks() uint64 { return n.blocks }

// ReadsZero implements volume.Volume.
func (n *Namespace) ReadsZero() bool { return n.zero }

// forceUnitAccess is a bit of CDW12 of Write and Write Zeroes (NVM 1.0, sections 3.2.6 and
// 3.2.8).
const forceUnitAccess = 1 << 30

// WriteThrough has what is written from now on be durable when it is acknowledged, if the
// controller has a cache that is not. It is called before the namespace is used.
func (n *Namespace) WriteThrough() {
	if n.c.identity.VWC&wire.VWCPresent != 0 {
		n.fua = forceUnitAccess
	}
}

// command makes an I/O command.
func (n *Namespace) command(op uint8, lba, blocks uint64) wire.Command {
	c := wire.Command{Opcode: op, NSID: n.id, CDW10: uint32(lba), CDW11: uint32(lba >> 32), CDW12: uint32(blocks-1) & 0xffff}
	if op == wire.IOWrite || op == wire.IOWriteZeroes {
		c.CDW12 |= n.fua
	}
	return c
}

// ReadAt implements volume.Volume.
func (n *Namespace) ReadAt(ctx context.Context, lba uint64, p []byte) error {
	return n.transfer(ctx, wire.IORead, lba, p)
}

// WriteAt implements volume.Volume.
func (n *Namespace) WriteAt(ctx context.Context, lba uint64, p []byte) error {
	return n.transfer(ctx, wire.IOWrite, lba, p)
}

// Compare reports whether blocks hold p.
func (n *Namespace) Compare(ctx context.Context, lba uint64, p []byte) (bool, error) {
	err := n.transfer(ctx, wire.IOCompare, lba, p)
	var status wire.Status
	if errors.As(err, &status) && status.Code() == wire.CompareFailure {
		return false, nil
	}
	return err == nil, err
}

// transfer does a command for as much data at a time as the controller takes.
func (n *Namespace) transfer(ctx context.Context, op uint8, lba uint64, p []byte) error {
	if err := volume.CheckData(n, lba, p); err != nil {
		return err
	}
	for len(p) > 0 {
		part := p[:min(len(p), n.most)]
		blocks := uint64(len(part) >> n.shift)
		out, in := part, []byte(nil)
		if op == wire.IORead {
			out, in = nil, part
		}
		cmd := n.command(op, lba, blocks)
		if _, err := n.c.IO(ctx, &cmd, out, in); err != nil {
			return failure(err)
		}
		p, lba = p[len(part):], lba+blocks
	}
	return nil
}

// Flush implements volume.Volume.
func (n *Namespace) Flush(ctx context.Context) error {
	_, err := n.c.IO(ctx, &wire.Command{Opcode: wire.IOFlush, NSID: n.id}, nil, nil)
	return failure(err)
}

// Zero implements volume.Volume: by Write Zeroes, or by writing where the controller has
// no such command.
func (n *Namespace) Zero(ctx context.Context, lba, blocks uint64) error {
	if err := volume.Check(n, lba, blocks); err != nil {
		return err
	}
	var zeros []byte
	most := uint64(min(n.most, 128<<10) >> n.shift)
	if n.onces&wire.ONCSWriteZeroes == 0 {
		zeros = make([]byte, most<<n.shift)
	}
	for blocks > 0 {
		k := min(blocks, most)
		var err error
		if zeros != nil {
			err = n.WriteAt(ctx, lba, zeros[:k<<n.shift])
		} else {
			cmd := n.command(wire.IOWriteZeroes, lba, k)
			_, err = n.c.IO(ctx, &cmd, nil, nil)
		}
		if err != nil {
			return failure(err)
		}
		lba, blocks = lba+k, blocks-k
	}
	return nil
}

// Deallocate implements volume.Volume. A controller without that command keeps the blocks.
func (n *Namespace) Deallocate(ctx context.Context, lba, blocks uint64) error {
	if err := volume.Check(n, lba, blocks); err != nil {
		return err
	}
	if n.onces&wire.ONCSDeallocate == 0 {
		return nil
	}
	for blocks > 0 {
		k := min(blocks, 1<<32-1)
		b := new([wire.RangeSize]byte)
		wire.Range{Blocks: uint32(k), LBA: lba}.Encode(b)
		if _, err := n.c.IO(ctx, &wire.Command{Opcode: wire.IODatasetManagement, NSID: n.id, CDW11: 1 << 2}, b[:], nil); err != nil {
			return failure(err)
		}
		lba, blocks = lba+k, blocks-k
	}
	return nil
}

// Close implements volume.Volume: it closes the association, which is the volume's alone.
func (n *Namespace) Close() error { return n.c.Close() }

// failure makes a volume's error of a status; the status is still in it.
func failure(err error) error {
	var status wire.Status
	if !errors.As(err, &status) {
		return err
	}
	kind := volume.ErrUnavailable
	switch status.Code() {
	case wire.LBARange:
		kind = volume.ErrRange
	case wire.CapacityExceeded:
		kind = volume.ErrFull
	case wire.NamespaceWriteProtect:
		kind = volume.ErrReadOnly
	case wire.WriteFault, wire.UnrecoveredRead:
		kind = volume.ErrMedium
	case wire.CompareFailure:
		return err
	}
	return fmt.Errorf("%w: %w", kind, err)
}
