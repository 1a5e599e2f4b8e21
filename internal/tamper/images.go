package tamper

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"

	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/journal"
	"nitro/boot/medium"
	"nitro/boot/release"
	"nitro/internal/chained"
)

// header are the fields of an image's header (docs/medium.md, "Image"), and the code of
// each that is not what was signed.
var header = []struct {
	name string
	at   int64
	code code.Code
}{
	{"magic", 3, code.ImageMalformed}, {"size of the header", 9, code.ImageMalformed}, {"component", 12, code.ImageMalformed},
	{"length", 16, code.ImageSignature}, {"length, beyond all bounds", 22, code.ImageMalformed}, {"digest", 40, code.ImageSignature},
	{"security version", 56, code.ImageSignature}, {"flags", 61, code.ImageMalformed}, {"version", 64, code.ImageSignature},
	{"product", 98, code.ImageSignature}, {"load address", 129, code.ImageSignature}, {"entry address", 133, code.ImageSignature},
	{"build time", 137, code.ImageSignature}, {"Ed25519 key", 150, code.AuthorityUnknown}, {"ML-DSA-65 key", 190, code.AuthorityUnknown},
	{"reserved", 400, code.ImageMalformed}, {"Ed25519 signature", 530, code.ImageSignature}, {"ML-DSA-65 signature", 2000, code.ImageSignature},
	{"end of the ML-DSA-65 signature", 3884, code.ImageSignature}, {"reserved behind the signatures", 4000, code.ImageMalformed},
}

// payload are places in a program's payload.
var payload = []int64{0, 4095, 4096, 9000, 16383}

// bootArea: nothing of it may differ from what was signed, and from what runs.
func bootArea() (all []Case) {
	const region = "boot area"
	add := func(name string, w Want, do func(*Target)) *Case {
		all = append(all, Case{Region: region, Name: name, Do: do, Want: w})
		return &all[len(all)-1]
	}
	add("MBR", inService(slotA), func(t *Target) { t.flip(medium.MBR, 450, 510) }).Board = true
	for _, f := range header {
		add("header: "+f.name, rests(f.code), func(t *Target) { t.flip(medium.BootloaderHeader, f.at) }).Board = f.name == "ML-DSA-65 signature"
	}
	for _, at := range payload {
		add(fmt.Sprintf("payload: byte %d", at), rests(code.BootloaderDiffers), func(t *Target) { t.flip(medium.Bootloader, at) })
	}
	add("header: another component", rests(code.ImageSignature), func(t *Target) {
		t.change(medium.BootloaderHeader, func(b []byte) { b[12] = byte(image.Controller) })
	})
	add("header truncated", rests(code.ImageSignature), func(t *Target) { t.zero(medium.BootloaderHeader, 512) })
	add("payload truncated", rests(code.BootloaderDiffers), func(t *Target) { t.zero(medium.Bootloader, 8192) })
	add("header of another release", rests(code.BootloaderDiffers), func(t *Target) {
		t.write(medium.BootloaderHeader, t.Maker.Second.Bootloader.Bytes[:image.HeaderSize])
	})
	add("a controller in its place", rests(code.WrongComponent), func(t *Target) {
		t.write(medium.BootloaderHeader, t.Maker.First.Controller.Bytes[:image.HeaderSize])
		t.write(medium.Bootloader, t.Maker.First.Controller.Payload())
	})
	old := func(t *Target) { t.bootloader(t.Maker.Old) }
	add("an older bootloader", quarantine(code.PCRMismatch), old)
	add("an older bootloader on the card, and not in memory", rests(code.BootloaderDiffers), old).Live = func(l *chained.Lived) {
		l.Text = l.Maker.First.Bootloader.Payload()
	}
	add("another bootloader in memory", rests(code.BootloaderDiffers), func(*Target) {}).Live = func(l *chained.Lived) {
		text := append([]byte(nil), l.Maker.First.Bootloader.Payload()...)
		text[5000] ^= 1
		l.Text = text
	}
	add("a stranger's bootloader on the card", rests(code.AuthorityUnknown), func(t *Target) { t.bootloader(t.Stranger.First) })

	for _, s := range []spot{{name: "magic"}, {name: "flags", at: 8}, {name: "number", at: 12}, {name: "Ed25519 key", at: 60}, {name: "ML-DSA-65 key", at: 900},
		{name: "second authority", at: 2100}, {name: "unused", at: 8000}, {name: "digest", at: 8170}} {
		add("anchor block: "+s.name, rests(code.AnchorBlock), func(t *Target) { t.flip(medium.AnchorBlock, s.at) }).Board = s.name == "Ed25519 key"
	}
	add("anchor block truncated", rests(code.AnchorBlock), func(t *Target) { t.zero(medium.AnchorBlock, 4096) })
	add("a stranger's anchor block", rests(code.AuthorityUnknown), func(t *Target) { t.write(medium.AnchorBlock, t.Stranger.First.AnchorBlock[:]) })
	add("an authority more in the anchor block", quarantine(code.PCRMismatch), func(t *Target) {
		a := *t.Maker.First.Anchors
		a.Authorities = append(append([]image.Authority(nil), a.Authorities...), t.Stranger.First.Anchors.Authorities[0])
		b, err := a.Encode()
		t.do("anchors", err)
		if err == nil {
			t.write(medium.AnchorBlock, b[:])
		}
	})
	return all
}

// bootloader writes a release's.
func (t *Target) bootloader(r *release.Release) {
	t.write(medium.BootloaderHeader, r.Bootloader.Bytes[:image.HeaderSize])
	t.write(medium.Bootloader, r.Bootloader.Payload())
}

// configurations: of two copies one is enough, and an older one is none. The anchor block's
// authorities start a controller all the same, which then goes into quarantine.
func configurations() (all []Case) {
	add := func(name string, w Want, board bool, do func(*Target)) {
		all = append(all, Case{Region: "configuration", Name: name, Do: do, Want: w, Board: board})
	}
	both := medium.Configurations
	for _, f := range header {
		add("one copy: "+f.name, inService(slotA), f.name == "digest", func(t *Target) { t.flip(both[0], f.at) })
		add("both copies: "+f.name, quarantine(code.ConfigurationBad), f.name == "Ed25519 signature", func(t *Target) { t.flip(both[0], f.at); t.flip(both[1], f.at) })
	}
	for _, at := range []int64{image.HeaderSize, image.HeaderSize + 100, image.HeaderSize + 700} {
		add(fmt.Sprintf("both copies: byte %d of the payload", at-image.HeaderSize), quarantine(code.ConfigurationBad), false, func(t *Target) { t.flip(both[0], at); t.flip(both[1], at) })
	}
	add("both copies truncated", quarantine(code.ConfigurationBad), false, func(t *Target) { t.zero(both[0], 5000); t.zero(both[1], 5000) })
	add("none", quarantine(code.ConfigurationMissing), true, func(t *Target) { t.zero(both[0], 0); t.zero(both[1], 0) })
	add("swapped", inService(slotA), false, func(t *Target) { t.swap(both[0], both[1]) })
	add("an older one in one copy", inService(slotA), false, func(t *Target) { t.from(t.Past, both[0]) })
	add("an older one in both copies", quarantine(code.ConfigurationOld), false, func(t *Target) { t.from(t.Past, both[0], both[1]) })
	add("an older one, and the other copy damaged", quarantine(code.ConfigurationOld), false, func(t *Target) { t.from(t.Past, both[0]); t.flip(both[1], 5000) })
	add("a stranger's", quarantine(code.ConfigurationBad), false, func(t *Target) {
		b, err := t.Stranger.Configuration(chained.SecondEpoch+1, nil)
		t.do("configuration", err)
		t.write(both[0], b)
		t.write(both[1], b)
	})
	add("a known-good set in its place", quarantine(code.ConfigurationBad), false, func(t *Target) {
		t.write(both[0], t.Maker.First.KnownGood.Bytes)
		t.write(both[1], t.Maker.First.KnownGood.Bytes)
	})
	return all
}

// plant writes a journal's record as docs/medium.md has it: who can write the card can.
func plant(revision uint64, change func(b []byte)) []byte {
	b := make([]byte, 512)
	copy(b, "NCSLOTS1")
	binary.LittleEndian.PutUint64(b[8:], revision)
	b[17] = byte(journal.None)
	for _, at := range []int{32, 80} {
		b[at], b[at+1] = byte(journal.Proven), journal.MaxAttempts
	}
	if change != nil {
		change(b)
	}
	sum := sha256.Sum256(b[:480])
	copy(b[480:], sum[:])
	return b
}

// journals: who writes the journal chooses among what may run, and no more.
func journals() (all []Case) {
	add := func(name string, w Want, board bool, do func(*Target)) {
		all = append(all, Case{Region: "journal", Name: name, Do: do, Want: w, Board: board})
	}
	planted := func(revision uint64, change func(b []byte)) func(*Target) {
		return func(t *Target) {
			t.write(medium.Place{Offset: medium.Journal.Offset + int64(revision%8)*4096, Size: 4096}, plant(revision, change))
		}
	}
	const far = 1 << 40
	for n := range int64(8) {
		add(fmt.Sprintf("record %d flipped", n), inService(slotA), false, func(t *Target) { t.flip(medium.Journal, n*4096+40) })
	}
	add("all records flipped", inService(slotA), true, func(t *Target) {
		for n := range int64(8) {
			t.flip(medium.Journal, n*4096+100)
		}
	})
	add("truncated", inService(slotB), false, func(t *Target) { t.zero(medium.Journal, 512) }) // an older record is left
	add("zero", inService(slotA), false, func(t *Target) { t.zero(medium.Journal, 0) })
	add("an older one", inService(slotA), false, func(t *Target) { t.from(t.Past, medium.Journal) })
	add("planted: B is preferred", inService(slotB), false, planted(far, func(b []byte) { b[16] = 1 }))
	add("planted: A is bad", inService(slotB), false, planted(far, func(b []byte) { b[32], b[33] = byte(journal.Bad), 0 }))
	add("planted: no attempts", rests(code.SlotsExhausted), false, planted(far, func(b []byte) { b[33], b[81] = 0, 0 }))
	add("planted: both are bad", rests(code.SlotsExhausted), true, planted(far, func(b []byte) { b[32], b[80] = byte(journal.Bad), byte(journal.Bad) }))
	add("planted: both are empty", rests(code.SlotsExhausted), false, planted(far, func(b []byte) { b[32], b[80] = byte(journal.Empty), byte(journal.Empty) }))
	add("planted: the last revision", rests(code.JournalUnwritable), true, planted(1<<63-1, nil))
	add("planted: beyond the last revision", inService(slotA), false, planted(1<<63+7, func(b []byte) { b[16] = 1 }))
	add("planted: in another record's place", inService(slotA), false, func(t *Target) {
		t.write(medium.Place{Offset: medium.Journal.Offset, Size: 4096}, plant(far+1, func(b []byte) { b[16] = 1 }))
	})
	return all
}

// slots: what is not whole, not signed, not for here or below the floor does not run, and
// the other slot does.
func slots() (all []Case) {
	add := func(name string, w Want, board bool, do func(*Target)) {
		all = append(all, Case{Region: "slot", Name: name, Do: do, Want: w, Board: board})
	}
	a, b := medium.Slots[0], medium.Slots[1]
	for _, f := range header {
		add("A, header: "+f.name, inService(slotB), false, func(t *Target) { t.flip(a, f.at) })
	}
	// What no signature covers must not make a slot bad for ever.
	add("A, header: another component", inService(slotB), false, func(t *Target) { t.change(a, func(b []byte) { b[12] = byte(image.Configuration) }) })
	for _, at := range payload {
		add(fmt.Sprintf("A, payload: byte %d", at), inService(slotB), false, func(t *Target) { t.flip(a, image.HeaderSize+at) })
	}
	for _, from := range []int64{0, 512, 4096, 9216} {
		add(fmt.Sprintf("A truncated to %d bytes", from), inService(slotB), false, func(t *Target) { t.zero(a, from) })
	}
	add("A flipped behind its payload", inService(slotA), true, func(t *Target) { t.flip(a, a.Size-1) })
	add("A and B flipped", rests(code.ImageDigest), true, func(t *Target) { t.flip(a, 9000); t.flip(b, 9000) })
	add("A and B: signature", rests(code.ImageSignature), true, func(t *Target) { t.flip(a, 600); t.flip(b, 600) })
	add("A and B zero", rests(code.ImageMalformed), false, func(t *Target) { t.zero(a, 0); t.zero(b, 0) })
	add("A and B swapped", quarantine(code.PCRMismatch), false, func(t *Target) { t.swap(a, b) })
	add("A and B swapped, with their known-good sets", inService(slotB), false, func(t *Target) {
		t.swap(a, b)
		t.swap(medium.KnownGoodOf[0], medium.KnownGoodOf[1])
	})
	add("B's image in A", otherSlot(code.PCRMismatch), false, func(t *Target) { t.write(a, t.read(t.Card, b)) })
	install := func(slot int, of func(*Target) *release.Release) func(*Target) {
		return func(t *Target) { t.do("install", chained.Install(t.Card, slot, of(t))) }
	}
	old := func(t *Target) *release.Release { return t.Maker.Old }
	add("an image below the floor in A", inService(slotB), false, install(0, old))
	add("an image below the floor in A and B", rests(code.BelowFloor), false, func(t *Target) { install(0, old)(t); install(1, old)(t) })
	add("an image below the floor in A and B, and no journal", rests(code.BelowFloor), false, func(t *Target) {
		install(0, old)(t)
		install(1, old)(t)
		t.zero(medium.Journal, 0)
	})
	add("a release in A that nobody has approved", otherSlot(code.ApprovalMissing), false, install(0, func(t *Target) *release.Release { return t.Maker.Next }))
	add("a stranger's release in A", inService(slotB), false, install(0, func(t *Target) *release.Release { return t.Stranger.First }))
	add("a bootloader in A", inService(slotB), false, func(t *Target) { t.write(a, t.Maker.First.Bootloader.Bytes) })
	add("a known-good set in A", inService(slotB), false, func(t *Target) { t.write(a, t.Maker.First.KnownGood.Bytes) })
	add("a configuration in A", inService(slotB), false, func(t *Target) { t.write(a, t.read(t.Card, medium.Configurations[0])) })
	add("A's header with B's payload", inService(slotB), false, func(t *Target) {
		t.write(medium.Place{Offset: a.Offset + image.HeaderSize, Size: a.Size - image.HeaderSize}, t.Maker.Second.Controller.Payload())
	})
	add("A's payload under B's Ed25519 signature", inService(slotB), false, func(t *Target) {
		t.change(a, func(p []byte) { copy(p[512:576], t.Maker.Second.Controller.Bytes[512:576]) })
	})
	return all
}

// knownGood: the release part.
func knownGood() (all []Case) {
	add := func(name string, w Want, board bool, do func(*Target)) {
		all = append(all, Case{Region: "known-good set", Name: name, Do: do, Want: w, Board: board})
	}
	a := medium.KnownGoodOf[0]
	for _, f := range header {
		c := code.KnownGoodBad
		if f.code == code.ImageMalformed {
			c = code.KnownGoodMissing
		}
		add("header: "+f.name, otherSlot(c), false, func(t *Target) { t.flip(a, f.at) })
	}
	for _, at := range []int64{0, 200, 900} {
		add(fmt.Sprintf("payload: byte %d", at), otherSlot(code.KnownGoodBad), false, func(t *Target) { t.flip(a, image.HeaderSize+at) })
	}
	add("zero", otherSlot(code.KnownGoodMissing), false, func(t *Target) { t.zero(a, 0) })
	add("truncated", otherSlot(code.KnownGoodBad), false, func(t *Target) { t.zero(a, image.HeaderSize+512) })
	add("another release's", otherSlot(code.PCRMismatch), false, func(t *Target) { t.write(a, t.read(t.Card, medium.KnownGoodOf[1])) })
	add("an older release's", otherSlot(code.PCRMismatch), false, func(t *Target) { t.write(a, t.Maker.Old.KnownGood.Bytes) })
	add("a stranger's", otherSlot(code.KnownGoodBad), false, func(t *Target) { t.write(a, t.Stranger.First.KnownGood.Bytes) })
	add("a controller in its place", otherSlot(code.KnownGoodBad), false, func(t *Target) { t.write(a, t.Maker.First.Controller.Bytes) })
	return all
}
