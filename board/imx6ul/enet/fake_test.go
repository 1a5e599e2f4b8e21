package enet

import (
	"encoding/binary"
	"os"
	"sync"
	"testing"
	"time"

	"nitro/board/imx6ul/dma"
	"nitro/board/imx6ul/dma/dmatest"
	"nitro/board/imx6ul/phy"
)

// A block plays an ENET block: it takes descriptors from a fake memory and gives them
// back as the manual says, and raises a line.
type block struct {
	t      *testing.T
	memory *dmatest.Memory

	mu     sync.Mutex
	regs   map[uint32]uint32
	rx, tx uint32   // addresses of the next descriptors
	sent   [][]byte // with checksums inserted
	raised chan struct{}

	// What is wrong with it.
	deaf    bool                // it does not transmit
	ignores int                 // so many writes to TDAR have no effect (ERR006358)
	mute    bool                // management transfers do not end
	stuck   uint32              // events that cannot be cleared
	access  func(offset uint32) // called before each access, unlocked
	txExtra func(n int) uint32  // error flags of frame n
	phys    map[uint8][32]uint16
	writes  []uint32 // offsets, in order
}

func (b *block) Read16(uint32) uint16   { b.t.Error("16-bit read"); return 0 }
func (b *block) Write16(uint32, uint16) { b.t.Error("16-bit write") }

func (b *block) Read32(offset uint32) uint32 {
	if b.access != nil {
		b.access(offset)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.regs[offset]
}

func (b *block) Write32(offset, value uint32) {
	if b.access != nil {
		b.access(offset)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.writes = append(b.writes, offset)
	switch offset {
	case regEIR:
		b.regs[regEIR] &^= value &^ b.stuck
	case regECR:
		b.control(value)
	case regTCR:
		b.regs[regTCR] = value
		if value&tcrGTS != 0 {
			b.event(eirGRA)
		}
	case regTDAR:
		switch {
		case b.ignores > 0:
			b.ignores--
		case b.regs[regECR]&ecrETHEREN != 0:
			b.regs[regTDAR] = active
			b.transmit()
		}
	case regRDAR:
		if b.regs[regECR]&ecrETHEREN != 0 {
			b.regs[regRDAR] = active
		}
	case regMMFR:
		b.manage(value)
	default:
		b.regs[offset] = value
	}
	b.check()
}

func (b *block) control(value uint32) {
	if value&ecrRESET != 0 {
		b.regs = map[uint32]uint32{regPALR: b.regs[regPALR], regPAUR: b.regs[regPAUR]}
		return
	}
	b.regs[regECR] = value
	if value&ecrETHEREN == 0 {
		b.regs[regTDAR], b.regs[regRDAR] = 0, 0
		return
	}
	if value&ecrDBSWP == 0 || value&ecrEN1588 == 0 {
		b.t.Errorf("ECR %#x: descriptors are to be enhanced and little endian", value)
	}
	b.rx, b.tx = b.regs[regRDSR], b.regs[regTDSR]
	if b.rx%64 != 0 || b.tx%64 != 0 || b.regs[regMRBR]%64 != 0 || b.regs[regMRBR] < b.regs[regFTRL] {
		b.t.Errorf("RDSR %#x, TDSR %#x, MRBR %d, FTRL %d", b.rx, b.tx, b.regs[regMRBR], b.regs[regFTRL])
	}
}

// event sets events, check raises the line if one is let through. The lock is held.
func (b *block) event(e uint32) {
	b.regs[regEIR] |= e
	b.check()
}

func (b *block) check() {
	if b.regs[regEIR]&b.regs[regEIMR] != 0 {
		select {
		case b.raised <- struct{}{}:
		default:
		}
	}
}

func (b *block) level() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.regs[regEIR]&b.regs[regEIMR] != 0
}

func (b *block) manage(v uint32) {
	b.regs[regMMFR] = v
	if v == 0 || b.regs[regMSCR] == 0 || b.mute {
		return
	}
	regs, ok := b.phys[uint8(v>>23&31)]
	switch v >> 28 & 3 {
	case 2:
		answer := uint16(0xffff)
		if ok {
			answer = regs[v>>18&31]
		}
		b.regs[regMMFR] = v&^0xffff | uint32(answer)
	case 1:
		if v>>18&31 == 0 {
			v &^= 1 << 15 // a reset is over at once
		}
		if regs[v>>18&31] = uint16(v); ok {
			b.phys[uint8(v>>23&31)] = regs
		}
	}
	b.event(eirMII)
}

// A descriptor is one's words.
type descriptor []uint32

func (d descriptor) Load32(word int) uint32     { return dma.Load(&d[word]) }
func (d descriptor) Store32(word int, v uint32) { dma.Store(&d[word], v) }

func (b *block) descriptor(addr uint32) descriptor {
	return dma.Buffer{Bytes: b.memory.At(addr, descriptorSize), Addr: addr}.Words()
}

// arrive has a frame come from the wire, with an FCS of rubbish. It is false when the
// ring is full.
func (b *block) arrive(frame []byte, flags uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, status, ok := b.empty()
	if !ok {
		return false
	}
	whole := append(append([]byte{}, frame...), 0xfc, 0xfc, 0xfc, 0xfc)
	if limit := int(b.regs[regFTRL]); len(whole) > limit {
		whole, flags = whole[:limit], flags|rxTruncate
	}
	copy(b.memory.At(d.Load32(wordBuffer), len(whole)), whole)
	if d.Load32(wordExtra)&rxInterrupt == 0 {
		b.t.Error("a descriptor would not interrupt")
	}
	d.Store32(wordExtra, 0x00800004)
	b.giveBack(d, status&wrap|flags|uint32(len(whole)), &b.rx, regRDSR)
	b.event(eirRXF)
	return true
}

// put gives the next receive descriptor back with any status.
func (b *block) put(status uint32) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	d, old, ok := b.empty()
	if !ok {
		return false
	}
	b.giveBack(d, status&^rxEmpty&^wrap|old&wrap, &b.rx, regRDSR)
	b.event(eirRXF)
	return true
}

// empty gives the next receive descriptor, and its status. Once there was none the
// block looks again only when it is told to.
func (b *block) empty() (d descriptor, status uint32, ok bool) {
	if b.regs[regRDAR] == 0 {
		return nil, 0, false
	}
	d = b.descriptor(b.rx)
	if status = d.Load32(wordStatus); status&rxEmpty == 0 {
		b.regs[regRDAR] = 0
		return nil, 0, false
	}
	return d, status, true
}

// giveBack writes a descriptor's status, and goes on to the next one.
func (b *block) giveBack(d descriptor, status uint32, at *uint32, start uint32) {
	d.Store32(wordStatus, status)
	if *at += descriptorSize; status&wrap != 0 {
		*at = b.regs[start]
	}
}

// transmit sends all that is ready.
func (b *block) transmit() {
	for frame := []byte(nil); !b.deaf; {
		d := b.descriptor(b.tx)
		status := d.Load32(wordStatus)
		if status&txReady == 0 {
			b.regs[regTDAR] = 0
			if frame != nil {
				b.t.Error("the end of a frame is not ready when its beginning is")
			}
			return
		}
		frame = append(frame, b.memory.At(d.Load32(wordBuffer), int(status&lengthMask))...)
		if status&last != 0 {
			if len(frame) < padded || status&txCRC == 0 {
				b.t.Errorf("a frame of %d bytes, status %#x", len(frame), status)
			}
			insert(frame, d.Load32(wordExtra))
			if b.txExtra != nil {
				d.Store32(wordExtra, b.txExtra(len(b.sent)))
			}
			b.sent = append(b.sent, frame)
			frame = nil
		}
		b.giveBack(d, status&^txReady, &b.tx, regTDSR)
	}
}

// frames is how many were sent.
func (b *block) frames() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.sent)
}

// insert does what the block does for a descriptor's flags: it adds to what the fields
// hold, so they must be clear. It knows the plain packets only.
func insert(frame []byte, flags uint32) {
	v6 := frame[12] == 0x86
	if flags&txHeaderSum != 0 && !v6 {
		add(frame, 24, ^ones(frame[14:14+int(frame[14]&15)*4]))
	}
	if flags&txProtocolSum == 0 {
		return
	}
	start, protocol, pseudo := 34, frame[23], frame[26:34]
	end := 14 + int(binary.BigEndian.Uint16(frame[16:]))
	if v6 {
		start, protocol, pseudo = 54, frame[20], frame[22:54]
		end = 54 + int(binary.BigEndian.Uint16(frame[18:]))
	}
	at := start + 16
	if protocol == 17 {
		at = start + 6
	}
	all := append(append([]byte{}, pseudo...), 0, 0, byte((end-start)>>8), byte(end-start), 0, protocol)
	add(frame, at, ^ones(append(all, frame[start:end]...)))
}

func add(frame []byte, at int, v uint16) {
	binary.BigEndian.PutUint16(frame[at:], binary.BigEndian.Uint16(frame[at:])+v)
}

// ones is the one's complement sum, as RFC 1071 defines it, word by word.
func ones(b []byte) uint16 {
	if len(b)%2 == 1 {
		b = append(append([]byte{}, b...), 0)
	}
	v := uint32(0)
	for i := 0; i < len(b); i += 2 {
		if v += uint32(binary.BigEndian.Uint16(b[i:])); v > 0xffff {
			v -= 0xffff
		}
	}
	return uint16(v)
}

// A line is the block's interrupt line, as the kernel offers it: masked from an
// interrupt until Enable.
type line struct {
	b       *block
	mu      sync.Mutex
	enabled chan struct{}
	closed  chan struct{}
	waits   int
	broken  error
}

func newLine(b *block) *line {
	l := &line{b: b, enabled: make(chan struct{}, 1), closed: make(chan struct{})}
	l.enabled <- struct{}{}
	return l
}

func (l *line) Enable() error {
	select {
	case l.enabled <- struct{}{}:
	default:
	}
	return nil
}

func (l *line) Wait(limit time.Duration) (uint32, error) {
	if l.broken != nil {
		return 0, l.broken
	}
	var late <-chan time.Time
	if limit >= 0 {
		late = time.After(limit)
	}
	select {
	case <-l.enabled:
	case <-l.closed:
		return 0, os.ErrClosed
	}
	for !l.b.level() {
		select {
		case <-l.b.raised:
		case <-late:
			return 0, nil
		case <-l.closed:
			return 0, os.ErrClosed
		}
	}
	l.mu.Lock()
	l.waits++
	l.mu.Unlock()
	return 1, nil
}

func (l *line) Close() error { close(l.closed); return nil }

// A transceiver plays the PHY.
type transceiver struct {
	mu      sync.Mutex
	state   phy.State
	dropped bool
	err     error
	setUps  int
}

func (p *transceiver) set(f func(*transceiver)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(p)
}

func (p *transceiver) SetUp() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setUps++
	return p.err
}

func (p *transceiver) Link() (phy.State, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	dropped := p.dropped
	p.dropped = false
	return p.state, dropped, p.err
}

var full = phy.State{Up: true, Mbps: 100, FullDuplex: true}

var ours = Address{0x52, 0x54, 0, 0x12, 0x34, 0x56}

// A rig is a port with everything around it played.
type rig struct {
	*Port
	block *block
	line  *line
	phy   *transceiver
	arena *dma.Arena
}

func newBlock(t *testing.T, memory *dmatest.Memory) *block {
	return &block{t: t, memory: memory, raised: make(chan struct{}, 1), phys: map[uint8][32]uint16{}, regs: map[uint32]uint32{
		regPALR: 0x52540012, regPAUR: 0x34568808,
	}}
}

// newRig opens a port. Within a bubble of synctest the keeper has looked at the link
// once when it returns.
func newRig(t *testing.T, change func(*Config)) *rig {
	t.Helper()
	arena, memory := dmatest.New(t, 1<<20)
	b := newBlock(t, memory)
	r := &rig{block: b, line: newLine(b), phy: &transceiver{state: full}, arena: arena}
	c := Config{Registers: b, Line: r.line, Arena: arena, PHY: r.phy, Receive: 4, Transmit: 4}
	if change != nil {
		change(&c)
	}
	p, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	r.Port = p
	return r
}
