package kernel

// An image whose board allows it may start another one: the bootloader starts the
// controller so. The program maps the window through /dev/mem, fills it with what it
// has verified, and writes to /dev/next. Nothing of this image runs afterwards.

// writeNext takes three words: the entry of the image that is to start, and the window
// that is its own, first address and first after. It returns only if it refuses.
func (k *kernel) writeNext(addr, n uint32) uint32 {
	if n != 12 {
		return eINVAL
	}
	if !k.canRead(addr, n) {
		return eFAULT
	}
	entry, start, end := load(addr), load(addr+4), load(addr+8)
	if (start|end)&(pageSize-1) != 0 || start < k.next.Start || end > k.next.End || entry&3 != 0 || entry < start || entry >= end {
		return eINVAL
	}
	k.startNext(entry, start, end)
	return 0
}

// startNext stops what runs beside the processor, zeroes what this image has written
// but for the window and the hand-over block, and leaves. The page tables of User mode
// go with its pages, so from there on only the kernel's own mappings are used. Nobody
// is left to wait for interrupts: they stay masked.
func (k *kernel) startNext(entry, start, end uint32) {
	k.console.flush(k.clock.hz)
	writeAll(k.stop[:])
	loadFPU(&k.thread[idleThread].vfp) // zeros
	for i := range k.frames.fresh {
		r := &k.frames.fresh[i]
		wipe(r.start+directOffset, r.next+directOffset)
	}
	wipe(k.next.Start+directOffset, start+directOffset)
	wipe(end+directOffset, k.next.End+directOffset)
	wipe(DMAStart+directOffset, DMAEnd+directOffset)
	wipe(k.image.dataStart, roundUp(k.image.fileEnd))
	k.watchdog.service()
	leaveFor(entry)
}
