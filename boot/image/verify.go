package image

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"nitro/attest/sha256"
	"nitro/boot/code"
)

// A Want is what the caller will accept. It comes from the firmware itself, the TPM and
// what has been verified before, never from the image.
type Want struct {
	// Where says in messages what is verified: "slot B".
	Where string

	// Component and Product are what the image must be for. An image that is good
	// elsewhere is not good here: bootloader and controller, or two boards, must not be
	// exchangeable.
	Component Component
	Product   string

	// Development allows development images: only where the anchor block says that the
	// board is a development board. A development image that was signed by the release
	// keys by mistake must not run in production.
	Development bool

	// Floor is the lowest security version allowed, from the TPM. It answers who puts
	// back an older image that is properly signed and has a known hole.
	Floor uint32

	// Authorities are tried in order. None at all is a refusal, never a verification
	// that is left out.
	Authorities []Authority
}

// An Image is one whose header has been verified.
type Image struct {
	Header
	// Authority is the one that signed, by its place in Want.Authorities.
	Authority int

	where   string
	payload io.Reader // nil once read, or where there is none
}

// Open reads a header from r and verifies it. The payload follows it in r:
// [Image.Load] reads it.
func Open(r io.Reader, w Want) (*Image, error) {
	var b [HeaderSize]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return nil, code.ImageUnreadable.Errorf("boot: %s: header: %w", w.Where, err)
	}
	i, err := Verify(&b, w)
	if err != nil {
		return nil, err
	}
	i.payload = r
	return i, nil
}

// Verify checks structure, both signatures and what the header says, in this order.
// Errors have a code (package code).
func Verify(b *[HeaderSize]byte, w Want) (*Image, error) {
	h, err := parse(b)
	if err != nil {
		return nil, code.ImageMalformed.Errorf("boot: %s: header: %w", w.Where, err)
	}
	n, err := authority(&h, w)
	if err != nil {
		return nil, err
	}
	if err := w.Authorities[n].verify(b); err != nil {
		return nil, code.ImageSignature.Errorf("boot: %s: %w (%v authority %d of %d)", w.Where, err, w.Authorities[n].Purpose, n+1, len(w.Authorities))
	}
	if err := allowed(&h, w); err != nil {
		return nil, err
	}
	return &Image{Header: h, Authority: n, where: w.Where}, nil
}

// authority finds the first authority that may sign the component and has both keys that
// the header names. Two keys of two authorities do not make one: each may have been
// stolen from its own place.
func authority(h *Header, w Want) (int, error) {
	purpose, usable := h.Component.Purpose(), 0
	for n := range w.Authorities {
		a := &w.Authorities[n]
		if a.Purpose != purpose || a.blank() {
			continue
		}
		usable++
		if e, m := a.Keys(); e == h.Ed25519Key && m == h.MLDSA65Key {
			return n, nil
		}
	}
	if usable == 0 {
		c := code.AuthorityUnknown
		if purpose == Release {
			c = code.ReleaseKeyMissing
		}
		return 0, c.Errorf("boot: %s: there is no %v authority to verify it with", w.Where, purpose)
	}
	return 0, code.AuthorityUnknown.Errorf("boot: %s: signed by keys %x (Ed25519) and %x (ML-DSA-65), which none of the %d %v authorities has together",
		w.Where, h.Ed25519Key[:8], h.MLDSA65Key[:8], usable, purpose)
}

// allowed judges what an authentic header says.
func allowed(h *Header, w Want) error {
	if h.Component != w.Component {
		return code.WrongComponent.Errorf("boot: %s: is a %v, not a %v", w.Where, h.Component, w.Component)
	}
	if h.Product != w.Product {
		return code.WrongProduct.Errorf("boot: %s: is for product %q; this is %q", w.Where, h.Product, w.Product)
	}
	if err := h.placed(); err != nil {
		return code.WrongProduct.Errorf("boot: %s: %w", w.Where, err)
	}
	if h.Development && !w.Development {
		return code.DevelopmentImage.Errorf("boot: %s: version %s is a development image, and this is no development board", w.Where, h.Version)
	}
	if h.SecurityVersion < w.Floor {
		return code.BelowFloor.Errorf("boot: %s: version %s has security version %d, below the floor of %d", w.Where, h.Version, h.SecurityVersion, w.Floor)
	}
	return nil
}

// placed checks that code begins at its component's address and is entered, at a whole
// word, within itself; and that what is no code has no address.
func (h *Header) placed() error {
	load := h.Component.Load()
	if h.Load != load {
		return fmt.Errorf("load address %#x, not %#x", h.Load, load)
	}
	if load == 0 && h.Entry != 0 || load != 0 && (h.Entry < load || uint64(h.Entry-load) >= h.Length || h.Entry%4 != 0) {
		return fmt.Errorf("entry address %#x is not in the %d bytes from %#x on", h.Entry, h.Length, load)
	}
	return nil
}

// chunk is how much of a payload is read at a time: large enough for a card to be fast,
// small enough for the data to be in the cache when it is hashed.
const chunk = 64 << 10

// Load reads the payload into dst, which has its Length, and compares its digest. It is
// hashed where it lies, after it was read for the only time. After an error dst is zero:
// nothing that was not verified stays where code is run. Load works once.
func (i *Image) Load(dst []byte) error {
	if uint64(len(dst)) != i.Length {
		return fmt.Errorf("image: %d bytes of room for a payload of %d", len(dst), i.Length)
	}
	err := i.hash(func(at, n int) []byte { return dst[at : at+n] })
	if err != nil {
		clear(dst)
	}
	return err
}

// Check reads the payload, keeps nothing of it, and compares its digest: for an image that
// is to run later, when it will be verified again. It works once, instead of Load.
func (i *Image) Check() error {
	part := make([]byte, min(chunk, i.Length))
	return i.hash(func(_, n int) []byte { return part[:n] })
}

// hash reads the payload into what place gives for each part of it, and compares its
// digest.
func (i *Image) hash(place func(at, n int) []byte) error {
	if i.payload == nil {
		return errors.New("image: there is no payload to read, or it was read already")
	}
	r, length := i.payload, int(i.Length)
	i.payload = nil
	hash := sha256.New()
	for at := 0; at < length; at += chunk {
		part := place(at, min(chunk, length-at))
		if _, err := io.ReadFull(r, part); err != nil {
			return code.ImageUnreadable.Errorf("boot: %s: payload: byte %d of %d: %w", i.where, at, length, err)
		}
		hash.Write(part)
	}
	if sum := hash.Sum(nil); subtle.ConstantTimeCompare(sum, i.Digest[:]) != 1 {
		return code.ImageDigest.Errorf("boot: %s: payload: SHA-256 is %x, signed was %x", i.where, sum, i.Digest)
	}
	return nil
}
