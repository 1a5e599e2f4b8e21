package main

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"
)

const (
	windowStart = 0x8000f000
	windowEnd   = 0x82000000
)

// whole is an image header that is in order, but for what change does to it.
func whole(change func(b []byte)) []byte {
	b := make([]byte, headerSize)
	copy(b, "NCIMAGE1")
	put32(b, 8, headerSize)
	put32(b, 12, componentController)
	binary.LittleEndian.PutUint64(b[16:], 0x200000)
	put32(b, 128, windowStart)
	put32(b, 132, windowStart+0x1000)
	change(b)
	return b
}

func put32(b []byte, offset int, v uint32) { binary.LittleEndian.PutUint32(b[offset:], v) }

func TestParse(t *testing.T) {
	for _, c := range []struct {
		what   string
		ok     bool
		change func(b []byte)
	}{
		{"an image in order", true, func(b []byte) {}},
		{"another magic", false, func(b []byte) { b[7] = '2' }},
		{"nothing", false, func(b []byte) { clear(b) }},
		{"another size of header", false, func(b []byte) { put32(b, 8, 512) }},
		{"a bootloader", false, func(b []byte) { put32(b, 12, 1) }},
		{"no payload", false, func(b []byte) { put32(b, 16, 0) }},
		{"the longest payload", true, func(b []byte) { put32(b, 16, maxPayload) }},
		{"a longer payload", false, func(b []byte) { put32(b, 16, maxPayload+1) }},
		{"a payload of more than 4 GiB", false, func(b []byte) { put32(b, 20, 1) }},
		{"a payload before the window", false, func(b []byte) { put32(b, 128, windowStart-0x1000) }},
		{"a payload that ends with the window", true, func(b []byte) { at(b, windowEnd-0x200000) }},
		{"a payload that ends behind the window", false, func(b []byte) { at(b, windowEnd-0x1ff000) }},
		{"a payload behind the window", false, func(b []byte) { at(b, windowEnd+0x1000) }},
		{"a payload that wraps", false, func(b []byte) { at(b, 0xfffff000) }},
		{"a payload that is on no page", false, func(b []byte) { at(b, windowStart+0x800) }},
		{"an entry before the payload", false, func(b []byte) { put32(b, 132, windowStart-4) }},
		{"the first entry", true, func(b []byte) { put32(b, 132, windowStart) }},
		{"the last entry", true, func(b []byte) { put32(b, 132, windowStart+0x1ffffc) }},
		{"an entry behind the payload", false, func(b []byte) { put32(b, 132, windowStart+0x200000) }},
		{"an entry that is not aligned", false, func(b []byte) { put32(b, 132, windowStart+0x1002) }},
	} {
		h, err := parse(whole(c.change), windowStart, windowEnd)
		if c.ok != (err == nil) || err != nil && !errors.Is(err, errShape) {
			t.Errorf("%s: %+v, %v", c.what, h, err)
		}
	}
	if h, _ := parse(whole(func([]byte) {}), windowStart, windowEnd); h != (header{0x200000, windowStart, windowStart + 0x1000}) {
		t.Errorf("the header is read as %+v", h)
	}
}

func at(b []byte, load uint32) {
	put32(b, 128, load)
	put32(b, 132, load)
}

func TestHandover(t *testing.T) {
	b := handover{slot: 1, instructions: 0x01020304, microseconds: 0x1122334455}.encode()
	want := make([]byte, handoverSize)
	copy(want, "NCHANDO1")
	want[12] = 1
	copy(want[28:], []byte{4, 3, 2, 1})
	copy(want[128:], []byte{0x55, 0x44, 0x33, 0x22, 0x11})
	sum := sha256.Sum256(want[:224])
	copy(want[224:], sum[:])
	if string(b[:]) != string(want) {
		t.Errorf("% x, want % x", b, want)
	}
}
