package target

import (
	"bytes"
	"errors"

	"nitro/nvme/volume"
	"nitro/nvme/wire"
)

// Bits of I/O commands (NVM 1.0, sections 3.2 and 3.3).
const (
	forceUnitAccess  = 1 << 30 // CDW12
	deallocateZeroes = 1 << 25 // CDW12 of Write Zeroes, DEAC
	deallocate       = 1 << 2  // CDW11 of Dataset Management, AD
	allNamespaces    = 0xffffffff
)

// admit holds an I/O command to its namespace.
func (l *lane) admit(n *namespace) wire.Status {
	length := uint64(0)
	switch l.cmd.Opcode {
	case wire.IORead, wire.IOWrite, wire.IOCompare:
		length = uint64(l.cmd.Blocks()) << n.shift
		if length > uint64(l.c.t.cfg.MaxTransfer) {
			return wire.InvalidField | wire.DNR
		}
	case wire.IOWriteZeroes:
		if uint64(l.cmd.Blocks())<<n.shift > page<<maxZeroes {
			return wire.InvalidField | wire.DNR
		}
	case wire.IODatasetManagement:
		if length = uint64(l.cmd.CDW10&0xff+1) * wire.RangeSize; uint64(l.cmd.Length) < length || l.cmd.Length > page {
			return wire.DataSGLLength | wire.DNR
		}
		return wire.Success
	default:
		return wire.InvalidOpcode | wire.DNR
	}
	if first, blocks := l.cmd.LBA(), uint64(l.cmd.Blocks()); blocks > n.blocks || first > n.blocks-blocks {
		return wire.LBARange | wire.DNR
	}
	if length != 0 && uint64(l.cmd.Length) != length {
		return wire.DataSGLLength | wire.DNR
	}
	return wire.Success
}

// io does an I/O command.
func (l *lane) io() error {
	h := l.c.k.host
	if l.cmd.Opcode == wire.IOFlush {
		return l.finish(l.flush(h), 0)
	}
	n := h.find(l.cmd.NSID)
	if n == nil {
		return l.finish(wire.InvalidNamespace|wire.DNR, 0)
	}
	status := l.admit(n)
	if status == wire.Success {
		status = n.enter()
	}
	if status != wire.Success {
		return l.finish(status, 0)
	}
	status = l.perform(n, h)
	n.leave()
	if l.cmd.Opcode == wire.IORead && status == wire.Success {
		return l.reply(0, int(l.cmd.Length), true)
	}
	if status != wire.Success {
		l.c.k.logError(l, status)
	}
	return l.finish(status, 0)
}

// perform does an admitted command. The data of a Read is then in the lane's room.
func (l *lane) perform(n *namespace, h *host) wire.Status {
	if l.cmd.ToController() && len(l.data) != int(l.cmd.Length) {
		return wire.DataSGLLength | wire.DNR
	}
	switch l.cmd.Opcode {
	case wire.IORead:
		if l.cmd.SGL != wire.SGLTransport {
			return wire.SGLType | wire.DNR
		}
		h.reads.Add(1)
		h.readBytes.Add(uint64(l.cmd.Length))
		return h.status(n.Volume.ReadAt(n.ctx, l.cmd.LBA(), l.room()[:l.cmd.Length]), wire.UnrecoveredRead)
	case wire.IOWrite:
		h.writes.Add(1)
		h.writtenBytes.Add(uint64(l.cmd.Length))
		return l.settle(n, h, n.Volume.WriteAt(n.ctx, l.cmd.LBA(), l.data))
	case wire.IOCompare:
		return l.compare(n, h)
	case wire.IOWriteZeroes:
		return l.settle(n, h, l.zero(n))
	}
	return l.manage(n, h)
}

// settle ends a command that wrote: with a flush if the host asked for that, or has
// switched the write cache off.
func (l *lane) settle(n *namespace, h *host, err error) wire.Status {
	if err == nil && (l.cmd.CDW12&forceUnitAccess != 0 || l.c.k.writeThrough.Load()) {
		err = n.Volume.Flush(n.ctx)
	}
	return h.status(err, wire.WriteFault)
}

// zero may deallocate if the host lets it and that reads the same.
func (l *lane) zero(n *namespace) error {
	first, blocks := l.cmd.LBA(), uint64(l.cmd.Blocks())
	if l.cmd.CDW12&deallocateZeroes != 0 && n.Volume.ReadsZero() {
		return n.Volume.Deallocate(n.ctx, first, blocks)
	}
	return n.Volume.Zero(n.ctx, first, blocks)
}

// flush flushes one namespace, or all.
func (l *lane) flush(h *host) wire.Status {
	if l.cmd.NSID != allNamespaces {
		n := h.find(l.cmd.NSID)
		if n == nil {
			return wire.InvalidNamespace | wire.DNR
		}
		return n.flush(h)
	}
	for _, n := range h.table.Load() {
		if n == nil {
			continue
		}
		if status := n.flush(h); status != wire.Success {
			return status
		}
	}
	return wire.Success
}

func (n *namespace) flush(h *host) wire.Status {
	if status := n.enter(); status != wire.Success {
		return status
	}
	defer n.leave()
	return h.status(n.Volume.Flush(n.ctx), wire.WriteFault)
}

// compare reads the volume piece by piece into a buffer that all connections share.
func (l *lane) compare(n *namespace, h *host) wire.Status {
	s := &l.c.t.scratch
	s.Lock()
	defer s.Unlock()
	defer clear(s.b[:])
	lba := l.cmd.LBA()
	for rest := l.data; len(rest) > 0; {
		part := s.b[:min(len(rest), len(s.b))]
		if err := n.Volume.ReadAt(n.ctx, lba, part); err != nil {
			return h.status(err, wire.UnrecoveredRead)
		}
		if !bytes.Equal(part, rest[:len(part)]) {
			return wire.CompareFailure | wire.DNR
		}
		rest, lba = rest[len(part):], lba+uint64(len(part))>>n.shift
	}
	return wire.Success
}

// manage does a Dataset Management: of its attributes, only deallocation does anything.
// All ranges are checked before the first is deallocated.
func (l *lane) manage(n *namespace, h *host) wire.Status {
	count := int(l.cmd.CDW10&0xff) + 1
	rangeAt := func(i int) wire.Range {
		return wire.DecodeRange((*[wire.RangeSize]byte)(l.data[i*wire.RangeSize:]))
	}
	for i := range count {
		if r := rangeAt(i); uint64(r.Blocks) > n.blocks || r.LBA > n.blocks-uint64(r.Blocks) {
			return wire.LBARange | wire.DNR
		}
	}
	if l.cmd.CDW11&deallocate == 0 {
		return wire.Success
	}
	for i := range count {
		r := rangeAt(i)
		if r.Blocks == 0 {
			continue
		}
		if err := n.Volume.Deallocate(n.ctx, r.LBA, uint64(r.Blocks)); err != nil {
			return h.status(err, wire.WriteFault)
		}
	}
	return wire.Success
}

// status makes an NVMe status of a volume's error; medium is what its failure is called
// here. What may be better later is without DNR.
func (h *host) status(err error, medium wire.Status) wire.Status {
	switch {
	case err == nil:
		return wire.Success
	case errors.Is(err, volume.ErrRange):
		return wire.LBARange | wire.DNR
	case errors.Is(err, volume.ErrFull):
		return wire.CapacityExceeded | wire.DNR
	case errors.Is(err, volume.ErrReadOnly):
		return wire.NamespaceWriteProtect | wire.DNR
	case errors.Is(err, volume.ErrMedium):
		h.media.Add(1)
		return medium | wire.DNR
	case errors.Is(err, volume.ErrUnavailable), errors.Is(err, volume.ErrClosed):
		return wire.NamespaceNotReady
	}
	return wire.InternalError
}
