package pool

import (
	"context"
	"fmt"

	"nitro/nvme/volume"
)

// piece is how much is written under one lock and, where it is new, in one record.
const piece = 32 * ExtentSize

// A Volume is an open volume of a pool.
type Volume struct {
	p      *Pool
	v      *vol
	slot   uint8
	size   int
	blocks uint64
	closed bool // under the pool's lock
}

var _ volume.Volume = (*Volume)(nil)

// Volume opens a volume, which is open once at a time.
func (p *Pool) Volume(name string) (*Volume, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	v, err := p.idle(name)
	if err != nil {
		return nil, err
	}
	v.open = &Volume{p: p, v: v, slot: uint8(v.slot), size: 1 << v.shift, blocks: v.blocks}
	return v.open, nil
}

// BlockSize implements volume.Volume.
func (v *Volume) BlockSize() int { return v.size }

// Blocks implements volume.Volume.
func (v *Volume) Blocks() uint64 { return v.blocks }

// ReadsZero implements volume.Volume: no, since parts of extents keep what they hold.
func (v *Volume) ReadsZero() bool { return false }

// Close implements volume.Volume. Deallocations that wait are made durable.
func (v *Volume) Close() error {
	v.p.mu.Lock()
	defer v.p.mu.Unlock()
	if v.closed || v.p.closed {
		return nil
	}
	v.closed, v.v.open = true, nil
	return v.p.commit(nil)
}

// usable is asked with the pool's lock held.
func (v *Volume) usable() error {
	if v.closed || v.p.closed {
		return ErrClosed
	}
	return nil
}

// writable is usable, of what is written: an extent that one copy of the table may have as
// free keeps nothing.
func (v *Volume) writable() error {
	if err := v.usable(); err != nil {
		return err
	}
	if v.v.gone {
		return fmt.Errorf("volume %s was erased: %w", v.v.name, ErrFailed)
	}
	return nil
}

// run gives the longest piece of n bytes at an offset that lies in one row on the device,
// or nowhere.
func (v *Volume) run(off uint64, n int) (sector uint64, length int, mapped bool) {
	at := off / ExtentSize
	first, mapped := v.p.table.find(v.slot, uint32(at))
	length = int(ExtentSize - off%ExtentSize)
	for next := uint32(1); length < n; next++ {
		e, ok := v.p.table.find(v.slot, uint32(at)+next)
		if ok != mapped || ok && e != first+next {
			break
		}
		length += ExtentSize
	}
	return v.p.geo.extentPlace(first) + off%ExtentSize/sectorSize, min(length, n), mapped
}

// ReadAt implements volume.Volume.
func (v *Volume) ReadAt(ctx context.Context, lba uint64, b []byte) error {
	if err := volume.CheckData(v, lba, b); err != nil {
		return err
	}
	for off := lba * uint64(v.size); len(b) > 0; {
		n := min(len(b), piece)
		if err := v.read(ctx, off, b[:n]); err != nil {
			return err
		}
		off, b = off+uint64(n), b[n:]
	}
	return nil
}

// read reads a piece under one lock, so that no extent changes hands meanwhile.
func (v *Volume) read(ctx context.Context, off uint64, b []byte) error {
	v.p.mu.RLock()
	defer v.p.mu.RUnlock()
	if err := v.usable(); err != nil {
		return err
	}
	for len(b) > 0 {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		sector, n, mapped := v.run(off, len(b))
		if !mapped {
			clear(b[:n])
		} else if err := v.p.dev.ReadBlocks(sector, b[:n]); err != nil {
			return medium("read of "+v.v.name, sector, err)
		}
		off, b = off+uint64(n), b[n:]
	}
	return nil
}

// WriteAt implements volume.Volume. What it has written is on the medium when it returns.
func (v *Volume) WriteAt(ctx context.Context, lba uint64, b []byte) error {
	if err := volume.CheckData(v, lba, b); err != nil {
		return err
	}
	for off := lba * uint64(v.size); len(b) > 0; {
		n := min(len(b), piece-int(off%ExtentSize))
		if done, err := v.overwrite(ctx, off, b[:n]); err != nil {
			return err
		} else if !done {
			if err := v.fill(ctx, off, b[:n]); err != nil {
				return err
			}
		}
		off, b = off+uint64(n), b[n:]
	}
	return nil
}

// overwrite writes a piece in place if all of it is mapped. Others may do so at the same
// time.
func (v *Volume) overwrite(ctx context.Context, off uint64, b []byte) (done bool, err error) {
	v.p.mu.RLock()
	defer v.p.mu.RUnlock()
	if err := v.writable(); err != nil {
		return false, err
	}
	for o, n := off, len(b); n > 0; {
		_, k, mapped := v.run(o, n)
		if !mapped {
			return false, nil
		}
		o, n = o+uint64(k), n-k
	}
	for len(b) > 0 {
		if ctx.Err() != nil {
			return false, context.Cause(ctx)
		}
		sector, n, _ := v.run(off, len(b))
		if err := v.p.dev.WriteBlocks(sector, b[:n]); err != nil {
			return false, medium("write of "+v.v.name, sector, err)
		}
		off, b = off+uint64(n), b[n:]
	}
	return true, nil
}

// fill writes a piece of which some lies in no extent yet: first all data, then one record
// that maps what is new.
func (v *Volume) fill(ctx context.Context, off uint64, b []byte) error {
	p := v.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := v.writable(); err != nil {
		return err
	}
	if err := v.room(off, len(b)); err != nil {
		return err
	}
	var maps []mapping
	for len(b) > 0 && ctx.Err() == nil {
		n := min(len(b), int(ExtentSize-off%ExtentSize))
		at := uint32(off / ExtentSize)
		e, mapped := p.table.find(v.slot, at)
		var err error
		if mapped {
			err = p.dev.WriteBlocks(p.geo.extentPlace(e)+off%ExtentSize/sectorSize, b[:n])
		} else {
			e = p.table.take()
			maps = append(maps, mapping{e, uint16(v.slot), at})
			err = p.fresh(e, off%ExtentSize, b[:n])
		}
		if err != nil {
			p.giveBack(maps)
			return medium("write of "+v.v.name, p.geo.extentPlace(e), err)
		}
		off, b = off+uint64(n), b[n:]
	}
	if len(b) > 0 {
		p.giveBack(maps)
		return context.Cause(ctx)
	}
	return p.commit(maps)
}

// room says whether what a piece needs is free, with frees that wait made durable if it
// takes them.
func (v *Volume) room(off uint64, n int) error {
	p, need := v.p, 0
	if p.failed != nil {
		return p.failed
	}
	for at := off / ExtentSize; at <= (off+uint64(n)-1)/ExtentSize; at++ {
		if _, mapped := p.table.find(v.slot, uint32(at)); !mapped {
			need++
		}
	}
	if need > p.table.free {
		if err := p.commit(nil); err != nil {
			return err
		}
	}
	if need > p.table.free {
		return fmt.Errorf("%w: %d extents of %d KiB for volume %s, %d are free: delete volumes or trim them", volume.ErrFull, need, ExtentSize>>10, v.v.name, p.table.free)
	}
	return nil
}

// fresh writes all of a new extent: data, and zeros around.
func (p *Pool) fresh(e uint32, within uint64, b []byte) error {
	if len(b) < ExtentSize {
		clear(p.extent)
		copy(p.extent[within:], b)
		b = p.extent
	}
	return p.dev.WriteBlocks(p.geo.extentPlace(e), b)
}

// giveBack frees extents that were taken and not mapped.
func (p *Pool) giveBack(maps []mapping) {
	for _, m := range maps {
		p.table.release(m.extent)
	}
}

// Flush implements volume.Volume: writes are on the medium already, deallocations are after
// it.
func (v *Volume) Flush(context.Context) error {
	p := v.p
	p.mu.RLock()
	err, idle := v.usable(), len(p.pending) == 0
	p.mu.RUnlock()
	if err != nil || idle {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.commit(nil)
}

// Zero implements volume.Volume. It is durable when it returns, and takes no space.
func (v *Volume) Zero(ctx context.Context, lba, blocks uint64) error {
	return v.discard(ctx, lba, blocks, true)
}

// Deallocate implements volume.Volume. Whole extents are freed, and read as zeros; parts
// of extents stay as they are.
func (v *Volume) Deallocate(ctx context.Context, lba, blocks uint64) error {
	return v.discard(ctx, lba, blocks, false)
}

// discard frees the whole extents of a range and, where it must, makes the rest zero.
func (v *Volume) discard(ctx context.Context, lba, blocks uint64, zeros bool) error {
	if err := volume.Check(v, lba, blocks); err != nil {
		return err
	}
	p := v.p
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := v.usable(); err != nil {
		return err
	}
	from, to := lba*uint64(v.size), (lba+blocks)*uint64(v.size)
	first, end := (from+ExtentSize-1)/ExtentSize, to/ExtentSize
	if to == v.blocks*uint64(v.size) {
		end = (to + ExtentSize - 1) / ExtentSize // what is behind the volume's end is nobody's
	}
	if err := v.free(ctx, first, end); err != nil || !zeros {
		return err
	}
	head := min(to, first*ExtentSize)
	if err := v.zero(from, head); err != nil {
		return err
	}
	if err := v.zero(max(head, end*ExtentSize), to); err != nil {
		return err
	}
	return p.commit(nil)
}

// zero writes zeros to part of an extent, if it is mapped.
func (v *Volume) zero(from, to uint64) error {
	if from >= to {
		return nil
	}
	e, mapped := v.p.table.find(v.slot, uint32(from/ExtentSize))
	if !mapped {
		return nil
	}
	b := v.p.extent[:to-from]
	clear(b)
	sector := v.p.geo.extentPlace(e) + from%ExtentSize/sectorSize
	if err := v.p.dev.WriteBlocks(sector, b); err != nil {
		return medium("zeros for "+v.v.name, sector, err)
	}
	return nil
}

// free takes extents from the volume. They wait for the next record, or for Flush. Where
// the range is wider than the pool, it is the pool that is searched.
func (v *Volume) free(ctx context.Context, first, end uint64) error {
	t := v.p.table
	if first >= end {
		return v.p.failed
	}
	if end-first > uint64(len(t.slot)) {
		for e := range t.slot {
			if at := uint64(t.at[e]); t.slot[e] == v.slot && at >= first && at < end {
				if err := v.drop(uint32(e)); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for at := first; at < end; at++ {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if e, mapped := t.find(v.slot, uint32(at)); mapped {
			if err := v.drop(e); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *Volume) drop(e uint32) error {
	p := v.p
	if p.failed != nil {
		return p.failed
	}
	p.table.drop(e)
	v.v.used--
	p.pending = append(p.pending, mapping{extent: e})
	if len(p.pending) == maxMap {
		return p.commit(nil)
	}
	return nil
}

// clearTail makes zero what lies behind the volume's end in its last extent.
func (p *Pool) clearTail(v *vol) error {
	o := Volume{p: p, v: v, slot: uint8(v.slot)}
	end := v.blocks << v.shift
	return o.zero(end, (end+ExtentSize-1)/ExtentSize*ExtentSize)
}
