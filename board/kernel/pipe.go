//go:build boardtest

package kernel

// pipes are there in images that test only: the examples among Go's tests need them
// to catch what they print. A product has no use for them.
type pipes [maxPipes]pipe

const maxPipes = 8

// A pipe holds bytes in pages of its own between its two descriptors, each of
// which there is once.
type pipe struct {
	read, written uint32 // bytes so far; the difference is what it holds
	reader        uint32 // descriptors, plus one; 0 when closed
	writer        uint32
	page          [pipePages]uint32 // physical
}

const (
	pipePages = 4
	pipeSize  = pipePages * pageSize
)

func (p *pipe) held() uint32 { return p.written - p.read }

func (p *pipe) readReady() uint32 {
	ready := uint32(0)
	if p.held() > 0 {
		ready = epollIn
	}
	if p.writer == 0 {
		ready |= epollHup
	}
	return ready
}

func (p *pipe) writeReady() uint32 {
	ready := uint32(0)
	if p.reader == 0 {
		ready = epollErr
	}
	if pipeSize-p.held() >= pageSize {
		ready |= epollOut
	}
	return ready
}

func (k *kernel) pollPipe(f *file) uint32 {
	switch f.kind {
	case filePipeRead:
		return k.pipe[f.which].readReady()
	case filePipeWrite:
		return k.pipe[f.which].writeReady()
	}
	return 0
}
