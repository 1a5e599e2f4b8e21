package caam

import (
	"bytes"
	"errors"
	"testing"

	"nitro/board/imx6ul/mmio/mmiotest"
)

// entropy is a read of 64 bytes, each word by one more than the one before.
func entropy(r *mmiotest.Block, first uint32) (steps []*mmiotest.Step) {
	steps = append(steps, r.Reads(regRTMCTL, mctlAccess), r.Reads(regRTMCTL, mctlAccess|mctlValid))
	for i := range uint32(16) {
		steps = append(steps, r.Reads(regRTENT+i*4, first+i))
	}
	return steps
}

func start(t *testing.T) (*mmiotest.Script, *mmiotest.Block, *TRNG) {
	s := mmiotest.New(t)
	r := s.Block("caam")
	s.Expect(
		r.Writes(regRTMCTL, 0x11040), r.Writes(regRTSDCTL, 0x0c8009c4), r.Writes(regRTFRQMIN, 800), r.Writes(regRTFRQMAX, 51200),
		r.Writes(regRTMCTL, 0x1021),
	)
	return s, r, NewTRNG(r)
}

func TestRead(t *testing.T) {
	s, r, g := start(t)
	s.Expect(entropy(r, 0x03020100)...)
	// The checks fail once: that is forgiven.
	s.Expect(r.Reads(regRTMCTL, mctlError), r.Reads(regRTSTATUS, 4), r.Writes(regRTMCTL, 0x1021))
	s.Expect(entropy(r, 0xa)...)
	p := make([]byte, 66)
	if n, err := g.Read(p); n != 66 || err != nil || !bytes.Equal(p[:6], []byte{0, 1, 2, 3, 1, 1}) || p[64] != 0xa {
		t.Errorf("%d bytes, %x, %v", n, p, err)
	}
}

func TestStuck(t *testing.T) {
	s, r, g := start(t)
	s.Expect(entropy(r, 7)...)
	s.Expect(entropy(r, 7)...)
	p := bytes.Repeat([]byte{1}, 128)
	if n, err := g.Read(p); n != 0 || !errors.Is(err, ErrRandom) || !bytes.Equal(p, make([]byte, 128)) {
		t.Errorf("%d bytes, %x, %v", n, p, err)
	}
}

func TestZero(t *testing.T) {
	s, r, g := start(t)
	s.Expect(r.Reads(regRTMCTL, mctlValid))
	for i := range uint32(16) {
		s.Expect(r.Reads(regRTENT+i*4, 0))
	}
	if _, err := g.Read(make([]byte, 1)); !errors.Is(err, ErrRandom) {
		t.Errorf("zeros: %v", err)
	}
}

func TestFails(t *testing.T) {
	s, r, g := start(t)
	for range tries {
		s.Expect(r.Reads(regRTMCTL, mctlError), r.Reads(regRTSTATUS, 4), r.Writes(regRTMCTL, 0x1021))
	}
	if _, err := g.Read(make([]byte, 1)); !errors.Is(err, ErrRandom) {
		t.Errorf("checks that always fail: %v", err)
	}
}

func TestSilent(t *testing.T) {
	s, r, g := start(t)
	s.Expect(r.Polls(regRTMCTL, mctlAccess))
	if _, err := g.Read(make([]byte, 1)); !errors.Is(err, ErrRandom) {
		t.Errorf("no entropy: %v", err)
	}
}
