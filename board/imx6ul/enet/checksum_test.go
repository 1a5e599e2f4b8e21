package enet

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// build makes a frame of an IP packet without checksums. Options are words of an IPv4
// header's; extensions are IPv6 headers of 8 bytes, given by their numbers.
func build(v6 bool, protocol byte, options int, extensions []byte, payload []byte) []byte {
	f := append(append([]byte{}, ours...), 2, 0, 0, 0, 0, 1)
	if !v6 {
		length := 20 + 4*options
		f = append(f, 0x08, 0x00, 0x40|byte(length/4), 0)
		f = binary.BigEndian.AppendUint16(f, uint16(length+len(payload)))
		f = append(f, 0x12, 0x34, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 1, 192, 0, 2, 77)
		f = append(f, bytes.Repeat([]byte{1}, 4*options)...)
		return append(f, payload...)
	}
	f = append(f, 0x86, 0xdd, 0x60, 0, 0, 0)
	f = binary.BigEndian.AppendUint16(f, uint16(8*len(extensions)+len(payload)))
	next := append(append([]byte{}, extensions...), protocol)
	f = append(f, next[0], 64)
	f = append(f, bytes.Repeat([]byte{0xfe, 0x80, 3}, 10)...)
	f = append(f, 9, 7)
	for i := range extensions {
		f = append(f, next[i+1], 0, 1, 4, 0, 0, 0, 0)
	}
	return append(f, payload...)
}

// right gives the transport's one's complement sum with its pseudo header, 0xffff if the
// checksum is right, computed by the test's own means.
func right(f []byte, v6 bool, protocol byte, start, end int) bool {
	var all []byte
	if v6 {
		all = append(all, f[22:54]...)
	} else if protocol != 1 {
		all = append(all, f[26:34]...)
	}
	if v6 || protocol != 1 {
		all = append(all, byte((end-start)>>8), byte(end-start), 0, protocol)
	}
	return ones(append(all, f[start:end]...)) == 0xffff
}

var packets = []struct {
	name       string
	v6         bool
	protocol   byte
	options    int
	extensions []byte
	plain      bool // the block sees to the transport's checksum
}{
	{"TCP over IPv4", false, 6, 0, nil, true},
	{"UDP over IPv4", false, 17, 0, nil, true},
	{"ICMP", false, 1, 0, nil, false},
	{"TCP with options", false, 6, 3, nil, false},
	{"ICMP with options", false, 1, 10, nil, false},
	{"TCP over IPv6", true, 6, 0, nil, true},
	{"UDP over IPv6", true, 17, 0, nil, true},
	{"ICMPv6", true, 58, 0, nil, false},
	{"MLD", true, 58, 0, []byte{0}, false},
	{"TCP behind headers", true, 6, 0, []byte{0, 43, 60}, false},
	{"UDP behind a header", true, 17, 0, []byte{60}, false},
}

// TestSums: with what the block inserts, or QEMU's does, all checksums are right on the
// wire, whatever stood in the fields, in one piece or many; and what is sent is
// vouched for on receive, while a changed bit is not, where it is the driver's to see.
func TestSums(t *testing.T) {
	for _, emulated := range []bool{false, true} {
		for _, k := range packets {
			bubble(t, func(c *Config) { c.Emulated = emulated }, func(r *rig) {
				for length := 20; length < 1300; length += 1 + length/7 {
					f := build(k.v6, k.protocol, k.options, k.extensions, frame(length, nil))
					end := len(f)
					start := end - length
					whole := append(append([]byte{}, f...), 0xee, 0xee, 0xee) // padding is no part of the packet
					for _, pieces := range [][][]byte{{whole}, {whole[:14], whole[14:]}, {whole[:54], whole[54:]}, {whole[:1], whole[1:30], whole[30:]}} {
						if err := errors.Join(r.Queue(pieces), r.Flush()); err != nil {
							t.Fatal(err)
						}
						sent := r.block.sent[len(r.block.sent)-1]
						if !right(sent, k.v6, k.protocol, start, end) {
							t.Errorf("%s, emulated %v, %d bytes: the transport's checksum is wrong", k.name, emulated, length)
						}
						if !k.v6 && ones(sent[14:14+20+4*k.options]) != 0xffff {
							t.Errorf("%s, emulated %v: the header's checksum is wrong", k.name, emulated)
						}
						if !vouched(sent) {
							t.Errorf("%s: a right checksum is refused", k.name)
						}
						if sent[end-1] ^= 4; vouched(sent) != k.plain {
							t.Errorf("%s: a wrong checksum: vouched for %v", k.name, !k.plain)
						}
					}
				}
			})
		}
	}
}

// TestInsertion: who inserts what.
func TestInsertion(t *testing.T) {
	for _, k := range packets {
		f := build(k.v6, k.protocol, k.options, k.extensions, make([]byte, 40))
		for _, emulated := range []bool{false, true} {
			p := &Port{c: Config{Emulated: emulated}}
			want := uint32(0)
			if !k.v6 {
				want = txHeaderSum
			}
			if k.plain && !(emulated && k.v6) { // QEMU's block knows IPv4 only
				want |= txProtocolSum
			}
			if got := p.sums(bytes.Clone(f), f); got != want {
				t.Errorf("%s, emulated %v: %#x, not %#x", k.name, emulated, got, want)
			}
		}
	}
}

// TestUDPZero: a UDP checksum that comes out as 0 is sent as 0xffff (RFC 768, 8200).
func TestUDPZero(t *testing.T) {
	p := &Port{c: Config{Emulated: true}}
	f := build(true, 17, 0, nil, make([]byte, 20))
	p.sums(f, f)
	v := binary.BigEndian.Uint16(f[60:])
	f[60], f[61] = 0, 0
	binary.BigEndian.PutUint16(f[62:], v) // now the rest sums to 0xffff
	p.sums(f, f)
	if f[60] != 0xff || f[61] != 0xff {
		t.Errorf("% x", f[60:62])
	}
}

// TestFragments: nobody can vouch for one, nor fill its payload's checksum in.
func TestFragments(t *testing.T) {
	for name, f := range map[string][]byte{
		"first":  build(false, 6, 0, nil, make([]byte, 64)),
		"middle": build(false, 17, 0, nil, make([]byte, 64)),
		"IPv6":   build(true, 17, 0, []byte{44}, make([]byte, 64)),
	} {
		switch name {
		case "first":
			f[20] = 0x20
		case "middle":
			f[21] = 9
		}
		if vouched(f) {
			t.Errorf("%s was vouched for", name)
		}
		before := bytes.Clone(f)
		p := &Port{}
		if flags := p.sums(f, f); flags&txProtocolSum != 0 || !bytes.Equal(f[34:], before[34:]) {
			t.Errorf("%s: %#x", name, flags)
		}
	}
}

// TestNotIP: frames that are no IP packets, or broken ones, are left as they are.
func TestNotIP(t *testing.T) {
	whole := build(false, 6, 0, nil, make([]byte, 40))
	for name, change := range map[string]func(f []byte) []byte{
		"ARP":                 func(f []byte) []byte { f[13] = 6; return f },
		"another version":     func(f []byte) []byte { f[14] = 0x55; return f },
		"a short header":      func(f []byte) []byte { f[14] = 0x44; return f },
		"longer than it is":   func(f []byte) []byte { f[17]++; return f },
		"shorter than itself": func(f []byte) []byte { f[16], f[17] = 0, 19; return f },
		"cut":                 func(f []byte) []byte { return f[:33] },
		"bare":                func(f []byte) []byte { return f[:14] },
	} {
		f := change(bytes.Clone(whole))
		notIP(t, name, f)
	}
	f := build(true, 58, 0, nil, make([]byte, 40))
	f[19]++
	notIP(t, "IPv6 longer than it is", f)
	notIP(t, "IPv6 cut", f[:53])
}

func notIP(t *testing.T, name string, f []byte) {
	t.Helper()
	before := bytes.Clone(f)
	p := &Port{}
	if flags := p.sums(f, f); flags != 0 || !bytes.Equal(f, before) || !vouched(f) {
		t.Errorf("%s: %#x", name, flags)
	}
}

// FuzzSums: no frame is read or written beyond its end.
func FuzzSums(f *testing.F) {
	for _, k := range packets {
		f.Add(build(k.v6, k.protocol, k.options, k.extensions, make([]byte, 24)), 54, true)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut int, emulated bool) {
		if len(b) < MinFrame || len(b) > MaxFrame {
			return
		}
		exact := append(make([]byte, 0, len(b)), b...)
		vouched(exact)
		cached := exact
		if cut >= plainHeader && cut < len(b) {
			cached = bytes.Clone(b[:cut])
		}
		p := &Port{c: Config{Emulated: emulated}}
		p.sums(exact, cached)
		if !vouched(exact) {
			if k := (packet{}); k.parse(exact, len(exact)) && !k.fragment {
				t.Errorf("the driver does not vouch for what it made: % x", exact)
			}
		}
	})
}
