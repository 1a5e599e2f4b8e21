package kernel

// Short-descriptor page tables (ARM ARM B3.5). A page's descriptor that is 0 has
// no memory behind it; one that is not 0 but invalid holds a page whose access
// was taken away.
const (
	l1Table   = 1 // first level: points to a second-level table
	l1Section = 2 // first level: maps a MiB
	ptePage   = 1 << 1
	pteXN     = 1 << 0
	pteB      = 1 << 2
	pteC      = 1 << 3
	pteUser   = 2 << 4 // AP[1]: User mode too
	ptePriv   = 1 << 4 // AP[0]
	pteTEX0   = 1 << 6
	pteRO     = 1 << 9 // AP[2]

	pteNormal   = pteTEX0 | pteC | pteB // write-back, write-allocate
	pteUncached = pteTEX0               // normal memory, not cached
	pteDevice   = pteB                  // shareable device
)

// pte returns the address of the descriptor of the page at va, or 0 if there is
// no second-level table.
func pte(va uint32) uint32 {
	e := load(regionVA + offL1 + va>>20<<2)
	if e&3 != l1Table {
		return 0
	}
	return e&^0x3ff + directOffset + va>>pageShift&0xff<<2
}

// makePTE is pte, and makes the table if there is none. One page holds the tables
// of four MiB. It fails only if the frames that were set aside for tables are
// gone, which committing less memory than there is prevents.
func (k *kernel) makePTE(va uint32) uint32 {
	if p := pte(va); p != 0 {
		return p
	}
	pa, ok := k.frames.take()
	if !ok {
		return 0
	}
	wipe(pa+directOffset, pa+directOffset+pageSize)
	group := uint32(regionVA + offL1 + va>>22<<4)
	for i := uint32(0); i < 4; i++ {
		store(group+i*4, (pa+i*1024)|l1Table)
	}
	return pte(va)
}

// access turns a protection into a descriptor's permission bits.
func access(prot uint32) uint32 {
	bits := uint32(ptePage | pteXN | pteUser | ptePriv)
	if prot&protWrite == 0 {
		bits |= pteRO
	}
	return bits
}

// pageIn gives the page at va a frame of zeros, if it is anonymous memory that
// may be accessed and has none. It reports whether the access can be tried again.
func (k *kernel) pageIn(va uint32, write bool) bool {
	attr := k.mem.attrOf(va >> pageShift)
	if attr&attrAnonymous == 0 || attr&(protRead|protWrite) == 0 || write && attr&protWrite == 0 {
		return false
	}
	p := k.makePTE(va)
	if p == 0 || load(p) != 0 {
		return false
	}
	pa, ok := k.frames.take()
	if !ok {
		return false
	}
	wipe(pa+directOffset, pa+directOffset+pageSize)
	store(p, pa|pteNormal|access(attr))
	syncPage(va)
	k.count.faults++
	return true
}

// Checks of user memory ask the MMU itself, which also brings absent pages in.
// They hold until the kernel returns to User mode. What lies below the mmap area
// is device registers at most: those the kernel never reads or writes for a
// program, since an access that the device refuses, or that is not aligned, would
// be a fault in the kernel.

// inUserSpace reports whether n bytes at addr lie below the kernel and do not wrap.
func inUserSpace(addr, n uint32) bool {
	const top = ramStart + directOffset
	return n <= top && addr <= top-n
}

func (k *kernel) canRead(addr, n uint32) bool  { return k.canAccess(addr, n, false) }
func (k *kernel) canWrite(addr, n uint32) bool { return k.canAccess(addr, n, true) }

func (k *kernel) canAccess(addr, n uint32, write bool) bool {
	if n == 0 {
		return true
	}
	if addr < areaStart || !inUserSpace(addr, n) {
		return false
	}
	for page := addr &^ (pageSize - 1); page <= addr+n-1; page += pageSize {
		if userFault(page, write) != 0 && !k.pageIn(page, write) {
			return false
		}
	}
	return true
}

// sliceWork bounds the pages that one pass of a memory call touches. The call
// then goes back to its SWI, so that interrupts are taken, and goes on.
const sliceWork = 128

// overPages does work on the pages of a call's range, as many as one pass may,
// and remembers in t.done how far it has come. Each step treats a piece of one
// kind: with attributes attr, from page to until, and within one second-level
// table. It returns 0 at the end.
func (k *kernel) overPages(t *thread, start, end uint32, step func(k *kernel, page, until, attr, arg uint32) uint32, arg uint32) uint32 {
	if !t.resumed {
		t.done = start
	}
	for work := uint32(0); t.done < end; {
		if work >= sliceWork {
			return again
		}
		attr, until := k.mem.piece(t.done, end)
		until, cost := extent(t.done, until)
		work += cost
		if r := step(k, t.done, until, attr, arg); r != 0 {
			return r
		}
		t.done = until
	}
	return 0
}

// extent limits a piece of pages to what one step treats: those of one table, or
// of all that follow without one. It returns the work that they will be.
func extent(page, until uint32) (end, work uint32) {
	work = sliceWork / 4 // for the piece itself
	end = (page | 0xff) + 1
	if pte(page<<pageShift) != 0 {
		end = min(end, until, page+sliceWork)
		return end, work + end - page
	}
	for n := 0; n < 64 && end < until && pte(end<<pageShift) == 0; n++ {
		end += 256
	}
	return min(end, until), work
}

// dropPages gives the frames of anonymous pages back.
func (k *kernel) dropPages(page, until uint32) {
	p := pte(page << pageShift)
	if p == 0 {
		return
	}
	dropped := false
	for ; page < until; page++ {
		if d := load(p); d != 0 {
			store(p, 0)
			k.frames.give(d &^ (pageSize - 1))
			dropped = true
		}
		p += 4
	}
	if dropped {
		syncAll()
	}
}

// unmapPiece is a step of munmap, and of mmap over old mappings.
func unmapPiece(k *kernel, page, until, attr, newAttr uint32) uint32 {
	if attr&attrImage != 0 {
		return eINVAL
	}
	if attr != newAttr && !k.mem.set(page, until, newAttr) {
		return eNOMEM
	}
	switch {
	case attr&attrDevice != 0:
		k.unmapDevice(page, until)
	case attr != 0:
		k.dropPages(page, until)
	}
	return 0
}

// protectPiece is a step of mprotect.
func protectPiece(k *kernel, page, until, attr, prot uint32) uint32 {
	if attr == 0 {
		return eNOMEM
	}
	if attr&(attrImage|attrDevice) != 0 {
		return eACCES
	}
	newAttr := attr&^attrProt | prot
	if prot != 0 {
		newAttr |= attrCommitted
	}
	if newAttr != attr && !k.mem.set(page, until, newAttr) {
		return eNOMEM
	}
	if p := pte(page << pageShift); p != 0 {
		for ; page < until; page++ {
			if d := load(p); d != 0 {
				d &^= pageSize - 1
				if prot != 0 {
					d |= pteNormal | access(prot)
				} else {
					d |= pteNormal // kept, but invalid
				}
				store(p, d)
			}
			p += 4
		}
		syncAll()
	}
	return 0
}

// advisePiece is a step of madvise. Discarded pages read as zero afterwards.
func advisePiece(k *kernel, page, until, attr, discard uint32) uint32 {
	if attr == 0 {
		k.thread[k.current].holes = true
	}
	if attr&attrAnonymous != 0 && discard != 0 {
		k.dropPages(page, until)
	}
	return 0
}

// pages rounds a length up to pages; false if that wraps.
func pages(n uint32) (uint32, bool) {
	return (n + pageSize - 1) >> pageShift, n <= ^uint32(pageSize-1)
}

func callMmap(k *kernel, t *thread) uint32 {
	addr, length, prot, flags, fd, offset := t.regs.r[0], t.regs.r[1], t.regs.r[2], t.regs.r[3], t.regs.r[4], t.regs.r[5]
	if flags&mapAnonymous == 0 {
		return k.mapDevice(t, addr, length, prot, flags, fd, offset)
	}
	n, ok := pages(length)
	kind := flags & mapTypeMask
	switch {
	case length == 0:
		return eINVAL
	case !ok || n > areaEnd>>pageShift:
		return eNOMEM
	case kind != mapPrivate && kind != mapShared:
		return eINVAL
	case prot&protExec != 0:
		return eACCES // nothing but the image is ever executable
	}
	attr := prot&attrProt | attrAnonymous
	if prot&(protRead|protWrite) != 0 {
		attr |= attrCommitted
	}
	if flags&(mapFixed|mapFixedNoreplace) != 0 {
		return k.mapFixedAt(t, addr, n, attr, flags)
	}
	page := addr >> pageShift
	if page < areaStart>>pageShift || page >= areaEnd>>pageShift || areaEnd>>pageShift-page < n || !k.mem.free(page, page+n) {
		if page, ok = k.mem.gap(n); !ok {
			return eNOMEM
		}
	}
	if !k.mem.set(page, page+n, attr) {
		return eNOMEM
	}
	return page << pageShift
}

// mapFixedAt replaces what lies at addr, piece by piece.
func (k *kernel) mapFixedAt(t *thread, addr, n, attr, flags uint32) uint32 {
	page := addr >> pageShift
	switch {
	case addr < areaStart:
		return eINVAL
	case page >= areaEnd>>pageShift || areaEnd>>pageShift-page < n:
		return eNOMEM
	case addr&(pageSize-1) != 0:
		return eINVAL
	case flags&mapFixedNoreplace == 0:
		if r := k.overPages(t, page, page+n, unmapPiece, attr); r != 0 {
			return r
		}
	case !k.mem.free(page, page+n):
		return eEXIST
	case !k.mem.set(page, page+n, attr):
		return eNOMEM
	}
	return addr
}

func callMunmap(k *kernel, t *thread) uint32 {
	addr, length := t.regs.r[0], t.regs.r[1]
	n, ok := pages(length)
	page := addr >> pageShift
	if addr&(pageSize-1) != 0 || n == 0 || !ok || !inUserSpace(addr, n<<pageShift) {
		return eINVAL
	}
	return k.overPages(t, page, page+n, unmapPiece, 0)
}

func callMprotect(k *kernel, t *thread) uint32 {
	addr, length, prot := t.regs.r[0], t.regs.r[1], t.regs.r[2]
	n, ok := pages(length)
	page := addr >> pageShift
	switch {
	case addr&(pageSize-1) != 0:
		return eINVAL
	case length == 0:
		return 0
	case !ok || page+n < page || page+n > 1<<20:
		return eNOMEM
	case prot&^0xf != 0:
		return eINVAL
	case prot&protExec != 0:
		return eACCES
	}
	return k.overPages(t, page, page+n, protectPiece, prot&attrProt)
}

func callMadvise(k *kernel, t *thread) uint32 {
	addr, length, advice := t.regs.r[0], t.regs.r[1], t.regs.r[2]
	if advice > madvFree || advice > 4 && advice != madvFree {
		return eINVAL
	}
	n, ok := pages(length)
	page := addr >> pageShift
	switch {
	case addr&(pageSize-1) != 0 || !ok || page+n > 1<<20:
		return eINVAL
	case n == 0:
		return 0
	}
	if !t.resumed {
		t.holes = false
	}
	if r := k.overPages(t, page, page+n, advisePiece, b2u(advice == madvDontneed)); r != 0 {
		return r
	}
	if t.holes {
		return eNOMEM // the rest is done all the same, as Linux does
	}
	return 0
}
