package tamper

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"nitro/attest/seal"
	"nitro/boot/code"
	"nitro/boot/medium"
)

// pinAt is where the pin begins in its place.
const pinAt = 60 << 10

// boardParts: envelope and pin. One copy is enough; another board's is told by the SoC's
// secret, or, where that is the same, by the TPM.
func boardParts() (all []Case) {
	add := func(name string, w Want, board bool, do func(*Target)) {
		all = append(all, Case{Region: "board part", Name: name, Do: do, Want: w, Board: board})
	}
	both := medium.BoardParts
	for _, s := range []spot{
		{"magic of the envelope", 0, rests(code.KnownGoodBad)}, {"length of the envelope", 8, rests(code.KnownGoodBad)},
		{"revision", 12, rests(code.KnownGoodBad)}, {"payload", 200, rests(code.KnownGoodBad)},
		{"magic of the pin", pinAt, rests(code.KnownGoodBad)}, {"version of the pin", pinAt + 8, rests(code.KnownGoodBad)},
		{"revision in the pin", pinAt + 12, rests(code.BoardMismatch)}, {"storage primary", pinAt + 30, rests(code.BoardMismatch)},
		{"AK", pinAt + 100, rests(code.BoardMismatch)}, {"EK", pinAt + 160, rests(code.BoardMismatch)}, {"board key", pinAt + 230, rests(code.BoardMismatch)},
		{"digest of the envelope", pinAt + 290, rests(code.BoardMismatch)}, {"length in the pin", pinAt + 320, rests(code.BoardMismatch)},
		{"reserved of the pin", pinAt + 1000, rests(code.BoardMismatch)}, {"MAC", pinAt + 4070, rests(code.BoardMismatch)},
	} {
		add("one copy: "+s.name, inService(slotA), s.name == "AK", func(t *Target) { t.flip(both[1], s.at) })
		add("both copies: "+s.name, s.want, s.name == "MAC" || s.name == "payload", func(t *Target) { t.flip(both[0], s.at); t.flip(both[1], s.at) })
	}
	add("none", unprovisioned, true, func(t *Target) { t.zero(both[0], 0); t.zero(both[1], 0) })
	add("pins zero", unprovisioned, false, func(t *Target) { t.zero(both[0], pinAt); t.zero(both[1], pinAt) })
	add("one zero, one torn", unprovisioned, false, func(t *Target) { t.zero(both[0], 0); t.zero(both[1], 16<<10) })
	add("truncated in front of the pins", rests(code.KnownGoodBad), false, func(t *Target) {
		for _, p := range both {
			t.write(p, make([]byte, 4096))
		}
	})
	add("another board's", rests(code.BoardMismatch), false, func(t *Target) { t.from(t.Other, both[0], both[1]) })
	w := rests(code.TPMSaltKey)
	w.Forgotten = true
	add("another board's with the same SoC's secret", w, true, func(t *Target) { t.from(t.Twin, both[0], both[1]) })
	add("another board's in one copy", inService(slotA), false, func(t *Target) { t.from(t.Other, both[0]) })
	add("another board's envelope beside the pin", rests(code.KnownGoodBad), false, func(t *Target) {
		for _, p := range both {
			t.write(p, t.read(t.Twin, p)[:pinAt])
		}
	})
	add("swapped", inService(slotA), false, func(t *Target) { t.swap(both[0], both[1]) })
	return all
}

// set changes both copies of the sealed objects, and computes their digest again: the
// medium's digest is no secret.
func (t *Target) set(change func(*seal.Set)) {
	s, err := seal.Decode(t.read(t.Card, medium.SealedObjects[0]))
	t.do("sealed objects", err)
	if err != nil {
		return
	}
	change(s)
	b, err := s.Encode()
	t.do("sealed objects", err)
	for _, p := range medium.SealedObjects {
		t.zero(p, 0)
		t.write(p, b)
	}
}

// setOf is another card's.
func (t *Target) setOf(d medium.Device) *seal.Set {
	s, err := seal.Decode(t.read(d, medium.SealedObjects[0]))
	t.do("sealed objects", err)
	if err != nil {
		return &seal.Set{}
	}
	return s
}

// sealedObjects are the TPM's, and nobody else opens or exchanges them.
func sealedObjects() (all []Case) {
	add := func(name string, w Want, board bool, do func(*Target)) {
		all = append(all, Case{Region: "sealed objects", Name: name, Do: do, Want: w, Board: board})
	}
	both := medium.SealedObjects
	for _, at := range []int64{0, 8, 17, 40, 300, 700} {
		add(fmt.Sprintf("one copy: byte %d", at), inService(slotA), at == 300, func(t *Target) { t.flip(both[0], at) })
		add(fmt.Sprintf("both copies: byte %d", at), quarantine(code.SealedObjectMissing), at == 300, func(t *Target) { t.flip(both[0], at); t.flip(both[1], at) })
	}
	add("none", quarantine(code.SealedObjectMissing), true, func(t *Target) { t.zero(both[0], 0); t.zero(both[1], 0) })
	add("truncated", quarantine(code.SealedObjectMissing), false, func(t *Target) { t.zero(both[0], 512); t.zero(both[1], 512) })
	changed := func(name string, w Want, change func(*Target, *seal.Set)) {
		add(name, w, false, func(t *Target) { t.set(func(s *seal.Set) { change(t, s) }) })
	}
	changed("approvals without objects", quarantine(code.SealedObjectMissing), func(_ *Target, s *seal.Set) { s.Objects = nil })
	changed("objects without approvals", quarantine(code.ApprovalMissing), func(_ *Target, s *seal.Set) { s.Approvals = nil })
	changed("approvals of one authority only", quarantine(code.ApprovalMissing), func(_ *Target, s *seal.Set) {
		s.Approvals = filter(s.Approvals, func(a seal.Approval) bool { return a.Kind != seal.RSA3072 })
	})
	changed("the canary's approval for the first secret", quarantine(code.ApprovalMissing), func(_ *Target, s *seal.Set) {
		s.Approvals = filter(s.Approvals, func(a seal.Approval) bool { return a.Kind != seal.P384 })
		for i := range s.Approvals {
			if s.Approvals[i].Kind == seal.Canary {
				s.Approvals[i].Kind, s.Approvals[i].Ref = seal.P384, seal.P384.Ref()
			}
		}
	})
	for _, k := range []seal.Kind{seal.P384, seal.RSA3072} {
		object := func(what string, w Want, change func(*Target, *seal.Object)) {
			changed(fmt.Sprintf("%v: %s", k, what), w, func(t *Target, s *seal.Set) {
				for i := range s.Objects {
					if s.Objects[i].Kind == k {
						change(t, &s.Objects[i])
					}
				}
			})
		}
		object("private part flipped", quarantine(code.SealedObjectMissing), func(_ *Target, o *seal.Object) { o.Private = flipped(o.Private, 40) })
		object("public part flipped", quarantine(code.SealedObjectMissing), func(_ *Target, o *seal.Object) { o.Public = flipped(o.Public, len(o.Public)-3) })
		object("policy flipped", quarantine(code.SealedObjectMissing), func(_ *Target, o *seal.Object) { o.Public = flipped(o.Public, 12) })
		object("another board's", quarantine(code.SealedObjectMissing), func(t *Target, o *seal.Object) {
			for _, theirs := range t.setOf(t.Other).Objects {
				if theirs.Kind == o.Kind {
					*o = theirs
				}
			}
		})
		changed(fmt.Sprintf("%v: signature of the approvals flipped", k), quarantine(code.ApprovalMissing), func(_ *Target, s *seal.Set) {
			for i, a := range s.Approvals {
				if a.Kind == k {
					s.Approvals[i].Signature = flipped(a.Signature, len(a.Signature)-5)
				}
			}
		})
		changed(fmt.Sprintf("%v: security version of the approvals", k), quarantine(code.ApprovalMissing), func(_ *Target, s *seal.Set) {
			for i, a := range s.Approvals {
				if a.Kind == k {
					s.Approvals[i].SecurityVersion++
				}
			}
		})
	}
	changed("another board's", quarantine(code.SealedObjectMissing), func(t *Target, s *seal.Set) { *s = *t.setOf(t.Other) })
	changed("objects under each other's kind", quarantine(code.SealedObjectMissing), func(_ *Target, s *seal.Set) {
		for i := range s.Objects {
			switch s.Objects[i].Kind {
			case seal.P384:
				s.Objects[i].Kind = seal.RSA3072
			case seal.RSA3072:
				s.Objects[i].Kind = seal.P384
			}
		}
	})
	changed("an older set", inService(slotA), func(t *Target, s *seal.Set) { *s = *t.setOf(t.Past) })
	return all
}

func flipped(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 0x10
	return b
}

func filter[T any](all []T, keep func(T) bool) (kept []T) {
	for _, x := range all {
		if keep(x) {
			kept = append(kept, x)
		}
	}
	return kept
}

// tickets: a ticket is looked at only if a code is latched.
func tickets() (all []Case) {
	add := func(name string, do func(*Target)) {
		all = append(all, Case{Region: "ticket", Name: name, Do: do, Want: inService(slotA), Board: name == "garbage"})
	}
	add("garbage", func(t *Target) { t.write(medium.Ticket, bytes.Repeat([]byte("ticket "), 500)) })
	add("unsigned", func(t *Target) {
		b := make([]byte, 512)
		copy(b, "NCTICKT1")
		binary.LittleEndian.PutUint32(b[8:], 1)
		t.write(medium.Ticket, b)
	})
	return all
}

// segment is a segment of the store, of 32 KiB.
func segment(n int64) medium.Place {
	const size = 32 << 10
	if n < 0 {
		n += medium.Store.Size / size
	}
	return medium.Place{Offset: medium.Store.Offset + n*size, Size: size}
}

// used are the segments with records that are not zero.
func (t *Target) used() (all []medium.Place) {
	for n := int64(2); n < medium.Store.Size/(32<<10)-2; n++ {
		if p := segment(n); !blank(t.read(t.Card, p)) {
			all = append(all, p)
		}
	}
	return all
}

func blank(b []byte) bool { return sha256.Sum256(b) == sha256.Sum256(make([]byte, len(b))) }

// stores: what is changed is found, what is older is told by the TPM's counter.
func stores() (all []Case) {
	add := func(name string, w Want, board bool, do func(*Target)) {
		all = append(all, Case{Region: "store", Name: name, Do: do, Want: w, Board: board})
	}
	super, ring := [2]medium.Place{segment(0), segment(-1)}, [2]medium.Place{segment(1), segment(-2)}
	for _, s := range []spot{{"magic", 1, quarantine(code.StoreMissing)}, {"version", 8, quarantine(code.StoreDamaged)}, {"number of segments", 13, quarantine(code.StoreDamaged)},
		{"identity", 20, quarantine(code.StoreDamaged)}, {"digest", 450, quarantine(code.StoreDamaged)}, {"key check", 485, quarantine(code.StoreKey)}} {
		add("one superblock: "+s.name, inService(slotA), s.name == "identity", func(t *Target) { t.flip(super[0], s.at) })
		add("both superblocks: "+s.name, s.want, s.name == "digest", func(t *Target) { t.flip(super[0], s.at); t.flip(super[1], s.at) })
	}
	add("zero", quarantine(code.StoreMissing), false, func(t *Target) { t.zero(medium.Store, 0) })
	add("truncated behind the superblock", quarantine(code.StoreDamaged), false, func(t *Target) { t.zero(medium.Store, 512) })
	add("one ring of roots", inService(slotA), false, func(t *Target) { t.zero(ring[0], 0) })
	add("both rings of roots", quarantine(code.StoreDamaged), true, func(t *Target) { t.zero(ring[0], 0); t.zero(ring[1], 0) })
	add("all roots flipped", quarantine(code.StoreDamaged), false, func(t *Target) {
		for _, p := range ring {
			for at := int64(0); at < p.Size; at += 512 {
				t.flip(p, at+100)
			}
		}
	})
	add("an older store", quarantine(code.StoreRolledBack), true, func(t *Target) { t.from(t.Past, medium.Store) })
	add("the older card", quarantine(code.ConfigurationOld), false, func(t *Target) {
		t.from(t.Past, medium.Place{Offset: 0, Size: medium.PoolOffset})
	})
	add("older roots", quarantine(code.StoreRolledBack), false, func(t *Target) { t.from(t.Past, ring[0], ring[1]) })
	add("older roots in one ring", inService(slotA), false, func(t *Target) { t.from(t.Past, ring[0]) })
	add("another board's store", quarantine(code.StoreKey), false, func(t *Target) { t.from(t.Other, medium.Store) })
	add("another board's superblocks", quarantine(code.StoreKey), false, func(t *Target) { t.from(t.Other, super[0], super[1]) })
	add("another board's roots", quarantine(code.StoreDamaged), false, func(t *Target) { t.from(t.Other, ring[0], ring[1]) })
	damaged := inService(slotA)
	damaged.Damaged = true
	for n := range 24 {
		for _, what := range []string{"flipped", "zero", "older"} {
			add(fmt.Sprintf("segment %d in use, %s", n, what), damaged, false, func(t *Target) {
				used := t.used()
				p := used[n%len(used)]
				switch what {
				case "flipped":
					for at := int64(0); at < p.Size; at += 512 {
						t.flip(p, at+(at/512*37)%512)
					}
				case "zero":
					t.zero(p, 0)
				case "older":
					t.from(t.Past, p)
				}
			})
		}
	}
	add("two segments swapped", damaged, false, func(t *Target) {
		used := t.used()
		t.swap(used[0], used[len(used)-1])
	})
	return all
}
