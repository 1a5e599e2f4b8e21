//go:build !arm

package qemutest

import (
	"bytes"
	"encoding/binary"
	"testing"

	"nitro/qemu-test/rack"
)

// Form of an AES-256 key schedule in the board's memory (nvme/xts, schedule_arm.go): for
// each round key, row and bit, four columns, each a word of zeros or ones. Where the rows
// lie is rowAt.
const (
	roundKeys     = 15
	planeSize     = 16
	scheduleSize  = roundKeys * 32 * planeSize
	secretWindow  = 16  // bytes of a key of which none may stay together
	planesWindow  = 128 // bytes of the schedule, which are 32 bits of a round key
	schedulesOfXT = 2   // data, tweak
)

var rowAt = [4]int{0, 2, 1, 3}

// secrets are windows of what must not be in memory.
type secrets struct {
	windows map[[secretWindow]byte]string
	planes  [][]byte // of schedules
}

// keyMemory finds the key schedules of the one volume that is attached, which is the
// positive control: the key is there, and it can be found. The key that was delivered is
// there too, once: beside the schedules, for an erase by the host (docs/grant.md, "Memory").
func keyMemory(t *testing.T, b *trustedBoard, delivered []byte) *secrets {
	t.Helper()
	d, err := b.Dump()
	must(t, err)
	s := &secrets{windows: map[[secretWindow]byte]string{}}
	s.add("delivered key", delivered)
	if hits := s.find(d); len(hits) != len(delivered)-secretWindow+1 {
		t.Errorf("the delivered key is not in memory once: %v", hits)
	}
	found := 0
	d.Each(func(_ rack.Hit, memory []byte) {
		for _, planes := range schedules(memory) {
			key, ok := keyOf(planes)
			if !ok {
				continue
			}
			found++
			s.planes = append(s.planes, bytes.Clone(planes))
			rounds := expand(key)
			s.add("effective key", key)
			for _, k := range rounds {
				s.add("round key", k[:])
			}
		}
	})
	if found != schedulesOfXT {
		t.Fatalf("%d key schedules are in memory, not %d", found, schedulesOfXT)
	}
	return s
}

// add has all windows of a secret looked for.
func (s *secrets) add(what string, secret []byte) {
	for i := 0; i+secretWindow <= len(secret); i++ {
		s.windows[[secretWindow]byte(secret[i:])] = what
	}
}

// find says which windows are in a dump.
func (s *secrets) find(d *rack.Dump) (hits []string) {
	var begins [1 << 16]bool
	for w := range s.windows {
		begins[binary.LittleEndian.Uint16(w[:])] = true
	}
	d.Each(func(at rack.Hit, memory []byte) {
		for i := 0; i+secretWindow <= len(memory); i++ {
			if !begins[binary.LittleEndian.Uint16(memory[i:])] {
				continue
			}
			if what, is := s.windows[[secretWindow]byte(memory[i:])]; is {
				hits = append(hits, what+" at "+rack.Hit{Space: at.Space, Addr: at.Addr + uint32(i)}.String())
			}
		}
	})
	return hits
}

// gone looks for what must not be there any more.
func (s *secrets) gone(t *testing.T, b *trustedBoard) {
	t.Helper()
	d, err := b.Dump()
	must(t, err)
	if hits := s.find(d); len(hits) != 0 {
		t.Errorf("after the detachment there are: %v", hits)
	}
	for _, planes := range s.planes {
		for i := 0; i+planesWindow <= len(planes); i += planesWindow {
			if hits := d.Find(planes[i : i+planesWindow]); len(hits) != 0 {
				t.Errorf("after the detachment there is a part of the schedule, from %d on, at %v", i, hits)
			}
		}
	}
}

// schedules gives all places in memory that may be a schedule: words of zeros or ones, of
// which some are either, with the round keys' relation between them.
func schedules(memory []byte) (places [][]byte) {
	run, ones := 0, 0 // words that go on; those of ones in the last schedule's length
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(memory[4*i:]) }
	for i := range len(memory) / 4 {
		w := word(i)
		if w != 0 && w != 1<<32-1 {
			run, ones = 0, 0
			continue
		}
		run++
		ones += int(w & 1)
		if run > scheduleSize/4 {
			ones -= int(word(i-scheduleSize/4) & 1)
		}
		if run < scheduleSize/4 || ones < scheduleSize/4/4 || ones > scheduleSize/4*3/4 {
			continue
		}
		if place := memory[4*(i+1)-scheduleSize : 4*(i+1)]; related(place) {
			places = append(places, place)
		}
	}
	return places
}

// related reports whether words of a round key that no S-box is between are the sum of
// those before and eight before (FIPS 197, 5.2), but for a mask.
func related(planes []byte) bool {
	for r := 2; r < roundKeys; r++ {
		k, before := roundKey(planes, r), roundKey(planes, r-2)
		mask := k[4] ^ k[0] ^ before[4]
		for i := 4; i < 16; i++ {
			if k[i]^k[i-4]^before[i] != mask {
				return false
			}
		}
	}
	return true
}

// roundKey gives a round key, masked as it is.
func roundKey(planes []byte, r int) (k [16]byte) {
	for slot, row := range rowAt {
		for bit := range 8 {
			for col := range 4 {
				k[row+4*col] |= planes[(r*32+slot*8+bit)*planeSize+col*4] & 1 << bit
			}
		}
	}
	return k
}

// keyOf gives the key whose schedule this is. The round keys are masked by constants, each
// the same for all bytes of its key, which are tried: only the right ones make a schedule.
func keyOf(planes []byte) (key []byte, ok bool) {
	var masked [roundKeys][16]byte
	for r := range masked {
		masked[r] = roundKey(planes, r)
	}
	key = make([]byte, 32)
	for masks := range 1 << 16 {
		for i := range 16 {
			key[i], key[16+i] = masked[0][i]^byte(masks), masked[1][i]^byte(masks>>8)
		}
		if sameButMasks(expand(key), masked) {
			return key, true
		}
	}
	return nil, false
}

func sameButMasks(a, b [roundKeys][16]byte) bool {
	for r := range a {
		for i := range a[r] {
			if a[r][i]^b[r][i] != a[r][0]^b[r][0] {
				return false
			}
		}
	}
	return true
}

// expand makes the round keys of an AES-256 key (FIPS 197, 5.2).
func expand(key []byte) (rk [roundKeys][16]byte) {
	var w [4 * roundKeys][4]byte
	for i := range w {
		if i < 8 {
			w[i] = [4]byte(key[4*i:])
			continue
		}
		t := w[i-1]
		switch i % 8 {
		case 0:
			t = [4]byte{sbox[t[1]], sbox[t[2]], sbox[t[3]], sbox[t[0]]}
			t[0] ^= 1 << (i/8 - 1)
		case 4:
			t = [4]byte{sbox[t[0]], sbox[t[1]], sbox[t[2]], sbox[t[3]]}
		}
		for j := range t {
			w[i][j] = w[i-8][j] ^ t[j]
		}
	}
	for i := range w {
		copy(rk[i/4][i%4*4:], w[i][:])
	}
	return rk
}

// sbox is that of FIPS 197, 5.1.1: the inverse in GF(2^8), then an affine map.
var sbox = func() (s [256]byte) {
	p, q := byte(1), byte(1)
	for {
		p ^= p<<1 ^ p>>7*0x1b // times 3
		q ^= q << 1           // divided by 3
		q ^= q << 2
		q ^= q << 4
		q ^= q >> 7 * 0x09
		s[p] = q ^ (q<<1 | q>>7) ^ (q<<2 | q>>6) ^ (q<<3 | q>>5) ^ (q<<4 | q>>4) ^ 0x63
		if p == 1 {
			break
		}
	}
	s[0] = 0x63
	return s
}()

// TestKeyOf: a schedule is found in memory and its key is recovered, whatever the masks
// are; what only looks like one is not.
func TestKeyOf(t *testing.T) {
	if sbox[0x53] != 0xed || sbox[1] != 0x7c {
		t.Fatalf("the S-box of 53 is %x", sbox[0x53])
	}
	key := []byte("0123456789abcdef-an-AES-256-key-")
	memory := make([]byte, 3*scheduleSize)
	planes := memory[scheduleSize/2+4:][:scheduleSize]
	for r, k := range expand(key) {
		for slot, row := range rowAt {
			for bit := range 8 {
				for col := range 4 {
					if (k[row+4*col]^byte(0x63*(r%3)))>>bit&1 != 0 {
						binary.LittleEndian.PutUint32(planes[(r*32+slot*8+bit)*planeSize+col*4:], 1<<32-1)
					}
				}
			}
		}
	}
	if all := schedules(memory); len(all) != 1 || &all[0][0] != &planes[0] {
		t.Fatalf("%d schedules are found", len(all))
	}
	got, ok := keyOf(planes)
	if !ok || !bytes.Equal(got, key) {
		t.Fatalf("recovered %q, %t", got, ok)
	}
	planes[5000] ^= 0xff
	if _, ok := keyOf(planes); ok {
		t.Error("a schedule with one wrong bit is taken for one")
	}
}
