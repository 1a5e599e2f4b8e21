package main

import "fmt"

// batch is the number of sectors in a call of Encrypt or Decrypt. OpenSSL and
// golang.org/x/crypto/xts take one sector in a call.
const batch = 32

// xts measures both directions and two sizes of sectors.
func xts(add func(figure)) {
	const pkg = "./nvme/xts"
	b := build("xts", pkg)
	portable := subject("xts-portable", pkg, "xts_portable")
	for _, size := range []struct {
		name  string
		bytes int
	}{{"512", 512}, {"4k", 4096}} {
		for _, direction := range []string{"enc", "dec"} {
			name := fmt.Sprintf("xts.%s_%s", direction, size.name)
			b.direction(add, name, portable, direction, size.bytes)
		}
	}
}

// direction measures one direction and sector size.
func (b programs) direction(add func(figure), name, portable, direction string, size int) {
	openssl := b.count([]string{b.peer, direction}, size, batch)
	own := b.least([]string{b.subject, "nitro", direction}, size, batch)
	add(beside(name, "insn/B", own["total"], openssl["total"]))
	for _, other := range []struct {
		name string
		counts
	}{
		{"one_sector_calls", b.least([]string{b.subject, "nitro", direction}, size, 1)},
		{"portable", b.count([]string{portable, "nitro", direction}, size, batch)},
		{"x_crypto", b.count([]string{b.subject, "x", direction}, size, batch)},
	} {
		add(beside(name+"."+other.name, "insn/B", other.counts["total"], openssl["total"]))
	}
	details(add, name, own, openssl)
}
