package usdhc

import (
	"encoding/binary"
	"testing"
)

// TestDescribe: descriptors cover the memory exactly, in order, none longer than the
// limit, and only the last one ends the transfer.
func TestDescribe(t *testing.T) {
	for _, c := range []struct {
		addr, n uint32
		room    int
		want    int // descriptors; 0 is an error
	}{
		{0x9f000000, 4, 1, 1}, {0x9f000000, 512, 1, 1}, {0x9f000040, 64, 4, 1},
		{0x9f000000, Segment - 4, 1, 1}, {0x9f000000, Segment, 1, 1}, {0x9f000000, Segment + 4, 2, 2},
		{0x9f000200, 128 << 10, 4, 4}, {0x9f000200, 64 << 10, 4, 2}, {0xfffffe00, 512, 1, 1}, {0xffff0000, 64 << 10, 4, 2},
		{0x9f000000, 0, 1, 0}, {0x9f000002, 512, 1, 0}, {0x9f000001, 4, 1, 0}, {0x9f000000, 510, 1, 0}, {0x9f000000, 511, 1, 0},
		{0xfffffe00, 516, 2, 0}, {0xfffffffc, 8, 2, 0},
		{0x9f000000, Segment + 4, 1, 0}, {0x9f000200, 128 << 10, 3, 0}, {0x9f000000, 4, 0, 0}, {0, 0xfffffffc, 4, 0},
	} {
		table := make([]byte, (c.room+1)*DescriptorSize)
		n, err := describe(table[:c.room*DescriptorSize], c.addr, c.n)
		if n != c.want || (err == nil) != (c.want > 0) {
			t.Errorf("%#x bytes at %#x, room for %d: %d, %v", c.n, c.addr, c.room, n, err)
		}
		addr := c.addr
		for i := range n {
			d := table[i*DescriptorSize:]
			attributes, length := binary.LittleEndian.Uint16(d), uint32(binary.LittleEndian.Uint16(d[2:]))
			want := uint16(0x21) // transfer, valid
			if i == n-1 {
				want = 0x27 // interrupt, end
			}
			if attributes != want || length == 0 || length%4 != 0 || binary.LittleEndian.Uint32(d[4:]) != addr {
				t.Errorf("%#x bytes at %#x: descriptor %d is %x", c.n, c.addr, i, d[:DescriptorSize])
			}
			addr += length
		}
		if n > 0 && addr-c.addr != c.n {
			t.Errorf("%#x bytes at %#x: %#x are described", c.n, c.addr, addr-c.addr)
		}
		if binary.LittleEndian.Uint64(table[c.room*DescriptorSize:]) != 0 {
			t.Errorf("%#x bytes at %#x: the table's end was overwritten", c.n, c.addr)
		}
	}
}
