package kernel

// /dev/mem hands out, at addresses that equal the physical ones, the device pages
// that the board allows; DMA memory and the hand-over block, which are normal memory
// that is not cached; and the next image's window, which is cached. What a device is
// told to read or write by DMA is beyond the kernel's control.

// devicePages reports whether all pages of a range may be mapped.
func (k *kernel) devicePages(page, n uint32) bool {
	start, end := page<<pageShift, (page+n)<<pageShift
	for _, own := range [2]uint32{k.console.uart, k.watchdog.base} {
		if own &^= pageSize - 1; own >= start && own < end {
			return false
		}
	}
	for i := range k.allowed {
		if r := &k.allowed[i]; start >= r.Start && end <= r.End && end > start {
			return true
		}
	}
	return false
}

func (k *kernel) mapDevice(t *thread, addr, length, prot, flags, fd, offset uint32) uint32 {
	f := k.openFile(fd)
	if f == nil {
		return eBADF
	}
	n, ok := pages(length)
	switch {
	case length == 0:
		return eINVAL
	case !ok || n > areaEnd>>pageShift:
		return eNOMEM
	case f.kind != fileMemory:
		return eNODEV
	case flags&mapTypeMask != mapShared:
		return eINVAL
	case prot&protExec != 0 || prot&protWrite != 0 && !f.writable() || prot&(protRead|protWrite) == 0:
		return eACCES
	case offset+n < offset || offset+n > 1<<20 || !k.devicePages(offset, n):
		return ePERM
	case flags&mapFixed != 0 && addr != offset<<pageShift:
		return eINVAL
	case !t.resumed && !k.mem.free(offset, offset+n):
		return eBUSY
	}
	if r := k.overPages(t, offset, offset+n, mapDevicePiece, prot&attrProt|attrDevice); r != 0 {
		return r
	}
	return offset << pageShift
}

// mapPass is how many pages one pass of mmap of /dev/mem maps: DMA memory is zeroed.
const mapPass = 16

// mapDevicePiece is a step of mmap of /dev/mem. It may be less than what it was asked
// for, so it notes itself how far it has come.
func mapDevicePiece(k *kernel, page, until, _, attr uint32) uint32 {
	until = min(until, page+mapPass)
	if !k.mem.set(page, until, attr) {
		return eNOMEM
	}
	for va := page << pageShift; va < until<<pageShift; va += pageSize {
		p, kind := k.makePTE(va), uint32(pteDevice)
		switch {
		case p == 0:
			return eNOMEM
		case va >= DMAEnd:
			kind = pteUncached
		case va >= DMAStart:
			kind = pteUncached
			wipe(va+directOffset, va+directOffset+pageSize)
		case va >= ramStart:
			kind = pteNormal
		}
		store(p, va|kind|access(attr))
		syncPage(va)
		k.mapped += va >> 31 // RAM begins where bit 31 does
	}
	k.thread[k.current].done = until
	return again
}

// unmapDevice takes device pages away from User mode.
func (k *kernel) unmapDevice(page, until uint32) {
	for ; page < until; page++ {
		va := page << pageShift
		if p := pte(va); p == 0 {
			continue
		} else if va >= ramStart {
			store(p, 0)
			k.mapped--
		} else {
			store(p, va|pteDevice|ptePage|pteXN|ptePriv)
		}
		syncPage(va)
	}
}
