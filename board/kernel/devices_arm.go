package kernel

// /dev/mem hands out, at addresses that equal the physical ones, the device pages
// that the board allows, and DMA memory: normal memory that is not cached. What a
// device is told to read or write by DMA is beyond the kernel's control.

// devicePages reports whether all pages of a range may be mapped.
func (k *kernel) devicePages(page, n uint32) bool {
	start, end := page<<pageShift, (page+n)<<pageShift
	if start >= DMAStart && end <= DMAEnd && end > start {
		return true
	}
	for own := range 2 {
		addr := k.console.uart
		if own == 1 {
			addr = k.watchdog.base
		}
		if addr &^= pageSize - 1; addr >= start && addr < end {
			return false
		}
	}
	for i := range k.allowed {
		if r := &k.allowed[i]; start >= r.Start && end <= r.End && end > start {
			return deviceIndex(start) >= 0 && deviceIndex(end-1) >= 0
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

// mapDevicePiece is a step of mmap of /dev/mem.
func mapDevicePiece(k *kernel, page, until, _, attr uint32) uint32 {
	if !k.mem.set(page, until, attr) {
		return eNOMEM
	}
	for ; page < until; page++ {
		va := page << pageShift
		bits := access(attr)
		if va >= DMAStart {
			p := k.makePTE(va)
			if p == 0 {
				return eNOMEM
			}
			store(p, va|pteUncached|bits&^pteRO)
			syncPage(va)
			clearBytes(va, pageSize)
			store(p, va|pteUncached|bits)
			k.dmaPages++
		} else {
			store(pte(va), va|pteDevice|bits)
		}
		syncPage(va)
	}
	return 0
}

// unmapDevice takes device pages away from User mode.
func (k *kernel) unmapDevice(page, until uint32) {
	for ; page < until; page++ {
		va := page << pageShift
		if p := pte(va); p == 0 {
			continue
		} else if va >= DMAStart {
			store(p, 0)
			k.dmaPages--
		} else {
			store(p, va|pteDevice|ptePage|pteXN|ptePriv)
		}
		syncPage(va)
	}
}
