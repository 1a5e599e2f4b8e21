//go:build boardtest

package kernel

// chunk is how many bytes of a pipe lie together from position pos on.
func chunk(pos, n uint32) uint32 { return min(n, pageSize-pos%pageSize) }

func (p *pipe) addr(pos uint32) uint32 {
	return p.page[pos/pageSize%pipePages] + directOffset + pos%pageSize
}

func (k *kernel) readPipe(t *thread, f *file, addr, n uint32) uint32 {
	p := &k.pipe[f.which]
	switch {
	case n == 0:
		return 0
	case p.held() == 0 && p.writer == 0:
		return 0
	case p.held() == 0:
		return k.block(t, f, uint32(f.fd))
	}
	n = min(n, p.held())
	if !k.canWrite(addr, n) {
		return eFAULT
	}
	for done := uint32(0); done < n; {
		c := chunk(p.read, n-done)
		copy(bytesAt(addr+done, c), bytesAt(p.addr(p.read), c))
		p.read += c
		done += c
	}
	if p.writer != 0 {
		k.notify(&k.file[p.writer-1], epollOut)
	}
	return n
}

func (k *kernel) writePipe(t *thread, f *file, addr, n uint32) uint32 {
	p := &k.pipe[f.which]
	if !t.resumed {
		t.done = 0
	}
	room := pipeSize - p.held()
	left := n - t.done
	switch {
	case n == 0:
		return 0
	case p.reader == 0:
		k.post(k.current, sigPIPE, false)
		return ePIPE
	case room == 0 || n <= pageSize && room < n:
		if t.done > 0 && (!f.blocks() || k.deliverable(t)) {
			return t.done
		}
		return k.block(t, f, uint32(f.fd))
	}
	left = min(left, room)
	if !k.canRead(addr+t.done, left) {
		return eFAULT
	}
	for left > 0 {
		c := chunk(p.written, left)
		copy(bytesAt(p.addr(p.written), c), bytesAt(addr+t.done, c))
		p.written += c
		t.done += c
		left -= c
	}
	k.notify(&k.file[p.reader-1], epollIn)
	if t.done < n {
		return again
	}
	return n
}

func callPipe2(k *kernel, t *thread) uint32 {
	addr, flags := t.regs.r[0], t.regs.r[1]
	if flags&^(oNonblock|oCloexec) != 0 {
		return eINVAL
	}
	if !k.canWrite(addr, 8) {
		return eFAULT
	}
	n := 0
	for ; n < maxPipes && k.pipe[n].page[0] != 0; n++ {
	}
	if n == maxPipes || k.mem.committed+pipePages > k.mem.limit {
		return eMFILE
	}
	r := k.newFile(filePipeRead, flags|oRdonly)
	if isError(r) {
		return r
	}
	w := k.newFile(filePipeWrite, flags|oWronly)
	if isError(w) {
		k.file[r].kind = fileFree
		return w
	}
	p := &k.pipe[n]
	p.read, p.written, p.reader, p.writer = 0, 0, r+1, w+1
	for i := range p.page {
		p.page[i], _ = k.frames.take() // committed above: there is one
	}
	k.mem.committed += pipePages
	k.file[r].which, k.file[w].which = uint8(n), uint8(n)
	store(addr, r)
	store(addr+4, w)
	return 0
}

func (k *kernel) closePipe(f *file) {
	p := &k.pipe[f.which]
	if f.kind == filePipeRead {
		p.reader = 0
		if p.writer != 0 {
			k.notify(&k.file[p.writer-1], epollErr)
		}
	} else {
		p.writer = 0
		if p.reader != 0 {
			k.notify(&k.file[p.reader-1], epollHup)
		}
	}
	if p.reader == 0 && p.writer == 0 {
		for i := range p.page {
			k.frames.give(p.page[i])
			p.page[i] = 0
		}
		k.mem.committed -= pipePages
	}
}
