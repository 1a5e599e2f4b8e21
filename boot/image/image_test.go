package image_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"strings"
	"testing"

	"filippo.io/mldsa"

	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/image/imagetest"
)

var (
	signer  = imagetest.Signer(image.Release, "one")
	other   = imagetest.Signer(image.Release, "two")
	payload = bytes.Repeat([]byte("What a controller is made of. "), 5000) // more than two chunks
)

// good is a controller's image, and what accepts it.
func good() ([]byte, image.Want) {
	return imagetest.Image(imagetest.Header(image.Controller, "1.2.3", 5), payload, signer), want()
}

func want() image.Want {
	return image.Want{Where: "slot B", Component: image.Controller, Product: imagetest.Product, Floor: 5,
		Authorities: []image.Authority{imagetest.Authority(image.Configure, "one"), imagetest.Authority(image.Release, "two"), imagetest.Authority(image.Release, "one")}}
}

// open verifies a whole image, payload and all.
func open(b []byte, w image.Want) (*image.Image, []byte, error) {
	i, err := image.Open(bytes.NewReader(b), w)
	if err != nil {
		return nil, nil, err
	}
	dst := make([]byte, i.Length)
	err = i.Load(dst)
	return i, dst, err
}

func TestOpen(t *testing.T) {
	b, w := good()
	i, got, err := open(b, w)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, payload) {
		t.Error("the payload is not the one that was signed")
	}
	if i.Authority != 2 || i.Version != "1.2.3" || i.SecurityVersion != 5 || i.Digest != sha256.Sum256(payload) {
		t.Errorf("%+v", i)
	}
	if err := i.Load(got); err == nil {
		t.Error("a payload can be loaded twice")
	}
}

// TestLayout checks offsets against the table in docs/medium.md, by hand: the code's own
// constants are not used.
func TestLayout(t *testing.T) {
	b, _ := good()
	le := binary.LittleEndian
	a, err := signer.Authority()
	if err != nil {
		t.Fatal(err)
	}
	e, m, sum := sha256.Sum256(a.Ed25519[:]), sha256.Sum256(a.MLDSA65[:]), sha256.Sum256(payload)
	for _, c := range []struct {
		what string
		ok   bool
	}{
		{"magic", string(b[:8]) == "NCIMAGE1"},
		{"size", le.Uint32(b[8:]) == 4096},
		{"component", le.Uint32(b[12:]) == 2},
		{"length", le.Uint64(b[16:]) == uint64(len(payload))},
		{"digest", bytes.Equal(b[24:56], sum[:])},
		{"security version", le.Uint32(b[56:]) == 5},
		{"flags", le.Uint32(b[60:]) == 0},
		{"version", string(b[64:96]) == "1.2.3"+strings.Repeat("\x00", 27)},
		{"product", string(b[96:128]) == "imx6ul-evk"+strings.Repeat("\x00", 22)},
		{"load", le.Uint32(b[128:]) == 0x8000f000},
		{"entry", le.Uint32(b[132:]) == 0x8000f004},
		{"built", le.Uint64(b[136:]) == 1767225600},
		{"Ed25519 key", bytes.Equal(b[144:176], e[:])},
		{"ML-DSA-65 key", bytes.Equal(b[176:208], m[:])},
		{"Ed25519 signature", ed25519.Verify(a.Ed25519[:], append([]byte("nitro image v1\x00"), b[:512]...), b[512:576])},
		{"payload", bytes.Equal(b[4096:], payload)},
	} {
		if !c.ok {
			t.Errorf("%s is not where docs/medium.md has it", c.what)
		}
	}
	pk, err := mldsa.NewPublicKey(mldsa.MLDSA65(), a.MLDSA65[:])
	if err != nil {
		t.Fatal(err)
	}
	if err := mldsa.Verify(pk, b[:512], b[576:3885], &mldsa.Options{Context: "nitro image v1"}); err != nil {
		t.Errorf("ML-DSA-65 signature: %v", err)
	}
	for _, r := range [][2]int{{208, 512}, {3885, 4096}} {
		if !bytes.Equal(b[r[0]:r[1]], make([]byte, r[1]-r[0])) {
			t.Errorf("bytes %d to %d are not zero", r[0], r[1])
		}
	}
}

// TestEveryBit flips each bit of the header, signed or not; one bit of each byte with
// -short.
func TestEveryBit(t *testing.T) {
	b, w := good()
	head := (*[image.HeaderSize]byte)(b)
	if _, err := image.Verify(head, w); err != nil {
		t.Fatal(err)
	}
	for n := range image.HeaderSize * 8 {
		if testing.Short() && n%8 != n/8%8 {
			continue
		}
		head[n/8] ^= 1 << (n % 8)
		if _, err := image.Verify(head, w); err == nil {
			t.Errorf("byte %d, bit %d flipped: verifies", n/8, n%8)
		}
		head[n/8] ^= 1 << (n % 8)
	}
}

// resigned changes the signed part and signs it again, as an authority would that makes
// what image.Sign refuses to.
func resigned(b []byte, change func([]byte)) []byte {
	b = bytes.Clone(b)
	change(b)
	return sign(b)
}

func sign(b []byte) []byte {
	one, _ := signer.Ed25519.Sign(nil, append([]byte("nitro image v1\x00"), b[:512]...), &ed25519.Options{})
	two, _ := signer.MLDSA65.Sign(nil, b[:512], &mldsa.Options{Context: "nitro image v1"})
	copy(b[512:], one)
	copy(b[576:], two)
	return b
}

func TestRefusals(t *testing.T) {
	b, _ := good()
	le := binary.LittleEndian
	make := func(h image.Header, s image.Signer) []byte { return imagetest.Image(h, payload, s) }
	development := imagetest.Header(image.Controller, "1.2.3", 5)
	development.Development = true
	elsewhere := imagetest.Header(image.Controller, "1.2.3", 5)
	elsewhere.Product = "imx6ul-armory"
	mixed := image.Signer{Purpose: image.Release, Ed25519: signer.Ed25519, MLDSA65: other.MLDSA65}
	stranger := imagetest.Signer(image.Release, "three")
	for _, c := range []struct {
		name string
		b    []byte
		want func(*image.Want)
		code code.Code
		say  string
	}{
		{"empty", nil, nil, code.ImageUnreadable, "slot B: header: EOF"},
		{"truncated header", b[:4095], nil, code.ImageUnreadable, "unexpected EOF"},
		{"truncated payload", b[:len(b)-1], nil, code.ImageUnreadable, "slot B: payload: byte 131072 of 150000"},
		{"no payload", b[:4096], nil, code.ImageUnreadable, "payload: byte 0"},
		{"blank", bytes.Repeat([]byte{0xff}, 8192), nil, code.ImageMalformed, "there is no image here"},
		{"magic", flip(b, 0), nil, code.ImageMalformed, "magic"},
		{"size", flip(b, 8), nil, code.ImageMalformed, "size 4097"},
		{"Ed25519", flip(b, 512), nil, code.ImageSignature, "slot B: signature 1 of 2 (Ed25519) does not verify (release authority 3 of 3)"},
		{"ML-DSA-65", flip(b, 576), nil, code.ImageSignature, "slot B: signature 2 of 2 (ML-DSA-65) does not verify"},
		{"first payload byte", flip(b, 4096), nil, code.ImageDigest, "slot B: payload: SHA-256 is"},
		{"last payload byte", flip(b, len(b)-1), nil, code.ImageDigest, "SHA-256"},
		{"other component wanted", b, func(w *image.Want) { w.Component = image.Bootloader }, code.WrongComponent, "is a controller, not a bootloader"},
		{"other product", make(elsewhere, signer), nil, code.WrongProduct, `is for product "imx6ul-armory"`},
		{"product not known", b, func(w *image.Want) { w.Product = "" }, code.WrongProduct, "product"},
		{"below the floor", make(imagetest.Header(image.Controller, "1.2.2", 4), signer), nil, code.BelowFloor, "security version 4, below the floor of 5"},
		{"development", make(development, signer), nil, code.DevelopmentImage, "development image"},
		{"no authorities", b, func(w *image.Want) { w.Authorities = nil }, code.ReleaseKeyMissing, "no release authority"},
		{"authorities of another purpose", b, func(w *image.Want) { w.Authorities = w.Authorities[:1] }, code.ReleaseKeyMissing, "no release authority"},
		{"blank authority", b, func(w *image.Want) { w.Authorities = []image.Authority{{Purpose: image.Release}} }, code.ReleaseKeyMissing, "no release authority"},
		{"unknown authority", make(imagetest.Header(image.Controller, "1.2.3", 5), stranger), nil, code.AuthorityUnknown, "none of the 2 release authorities"},
		{"keys of two authorities", make(imagetest.Header(image.Controller, "1.2.3", 5), mixed), nil, code.AuthorityUnknown, "has together"},
		{"configuration's authority", resigned(b, func(b []byte) { le.PutUint32(b[12:], 3); le.PutUint64(b[16:], 100) }),
			func(w *image.Want) { w.Component = image.Configuration }, code.AuthorityUnknown, "configuration authorities"},
		{"component 0", resigned(b, func(b []byte) { b[12] = 0 }), nil, code.ImageMalformed, "component 0"},
		{"component 9", resigned(b, func(b []byte) { b[12] = 9 }), nil, code.ImageMalformed, "component 9"},
		{"component 2^32-1", resigned(b, func(b []byte) { le.PutUint32(b[12:], 1<<32-1) }), nil, code.ImageMalformed, "component 4294967295"},
		{"no length", resigned(b, func(b []byte) { le.PutUint64(b[16:], 0) }), nil, code.ImageMalformed, "payload of 0 bytes"},
		{"too long", resigned(b, func(b []byte) { le.PutUint64(b[16:], 32<<20-4096+1) }), nil, code.ImageMalformed, "payload of 33550337 bytes"},
		{"longest length", resigned(b, func(b []byte) { le.PutUint64(b[16:], 1<<64-1) }), nil, code.ImageMalformed, "payload of"},
		{"security version 65", resigned(b, func(b []byte) { b[56] = 65 }), nil, code.ImageMalformed, "security version 65"},
		{"unknown flag", resigned(b, func(b []byte) { b[60] = 2 }), nil, code.ImageMalformed, "flags 0x2"},
		{"version with a space", resigned(b, func(b []byte) { b[65] = ' ' }), nil, code.ImageMalformed, "not printable"},
		{"version with a gap", resigned(b, func(b []byte) { b[80] = 'x' }), nil, code.ImageMalformed, "behind its end"},
		{"no version", resigned(b, func(b []byte) { clear(b[64:96]) }), nil, code.ImageMalformed, "version: is empty"},
		{"product not ASCII", resigned(b, func(b []byte) { b[96] = 0xe9 }), nil, code.ImageMalformed, "product: byte 0xe9"},
		{"reserved, signed", resigned(b, func(b []byte) { b[300] = 1 }), nil, code.ImageMalformed, "reserved byte 300"},
		{"reserved, not signed", flip(b, 4000), nil, code.ImageMalformed, "reserved byte 4000"},
		{"load address", resigned(b, func(b []byte) { b[129]++ }), nil, code.WrongProduct, "load address 0x8000f100"},
		{"entry below", resigned(b, func(b []byte) { le.PutUint32(b[132:], 0x8000effc) }), nil, code.WrongProduct, "entry address"},
		{"entry behind", resigned(b, func(b []byte) { le.PutUint32(b[132:], 0x8000f000+150000) }), nil, code.WrongProduct, "entry address"},
		{"entry in Thumb state", resigned(b, func(b []byte) { b[132]++ }), nil, code.WrongProduct, "entry address"},
	} {
		w := want()
		if c.want != nil {
			c.want(&w)
		}
		_, dst, err := open(c.b, w)
		if err == nil || code.Of(err) != c.code || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want %v and %q", c.name, err, c.code, c.say)
		}
		if !bytes.Equal(dst, bytes.Repeat([]byte{0}, len(dst))) {
			t.Errorf("%s: the payload was left in memory", c.name)
		}
	}
}

// flip is b with a bit of one byte changed.
func flip(b []byte, at int) []byte {
	b = bytes.Clone(b)
	b[at] ^= 1
	return b
}

// TestSwapped exchanges parts of two images of the same authority.
func TestSwapped(t *testing.T) {
	a, w := good()
	b := imagetest.Image(imagetest.Header(image.Controller, "1.2.4", 6), append([]byte("x"), payload[1:]...), signer)
	for _, c := range []struct {
		name     string
		from, to int
		code     code.Code
	}{
		{"signed part", 0, 512, code.ImageSignature},
		{"Ed25519 signature", 512, 576, code.ImageSignature},
		{"ML-DSA-65 signature", 576, 3885, code.ImageSignature},
		{"both signatures", 512, 3885, code.ImageSignature},
		{"payload", 4096, len(a), code.ImageDigest},
	} {
		mixed := bytes.Clone(a)
		copy(mixed[c.from:c.to], b[c.from:c.to])
		if _, _, err := open(mixed, w); code.Of(err) != c.code {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	// A whole image in the other slot is fine: slots are places, not identities.
	w.Where = "slot A"
	if _, _, err := open(b, w); err != nil {
		t.Error(err)
	}
}

// TestDevelopment: where they are allowed, they run.
func TestDevelopment(t *testing.T) {
	h := imagetest.Header(image.Controller, "1.2.3", 5)
	h.Development = true
	w := want()
	w.Development = true
	if i, _, err := open(imagetest.Image(h, payload, signer), w); err != nil || !i.Development {
		t.Error(err)
	}
}

// TestLoadRoom: a payload goes into its own length and nothing else, and a card that
// fails half-way leaves nothing.
func TestLoadRoom(t *testing.T) {
	b, w := good()
	i, err := image.Open(bytes.NewReader(b), w)
	if err != nil {
		t.Fatal(err)
	}
	if err := i.Load(make([]byte, i.Length+1)); err == nil {
		t.Error("loads into more room than its length")
	}
	i, err = image.Open(io.MultiReader(bytes.NewReader(b[:4096+70000]), failing{}), w)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, i.Length)
	if err := i.Load(dst); !errors.Is(err, errCard) || code.Of(err) != code.ImageUnreadable {
		t.Error(err)
	}
	if !bytes.Equal(dst, make([]byte, len(dst))) {
		t.Error("half a payload was left in memory")
	}
}

var errCard = errors.New("card gone")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errCard }

func TestSignRefuses(t *testing.T) {
	for _, c := range []struct {
		name    string
		h       image.Header
		payload []byte
		s       image.Signer
		say     string
	}{
		{"purpose", imagetest.Header(image.Configuration, "1", 1), payload, signer, "a release authority does not sign a configuration"},
		{"component", image.Header{Component: 77}, payload, signer, "does not sign a component 77"},
		{"no payload", imagetest.Header(image.Controller, "1", 1), nil, signer, "payload of 0 bytes"},
		{"long version", imagetest.Header(image.Controller, strings.Repeat("9", 33), 1), payload, signer, "longer than 32"},
		{"security version", imagetest.Header(image.Controller, "1", 65), payload, signer, "above 64"},
		{"keys exchanged", imagetest.Header(image.Controller, "1", 1), payload, image.Signer{Purpose: image.Release, Ed25519: signer.MLDSA65, MLDSA65: signer.Ed25519}, "not Ed25519"},
	} {
		if _, err := image.Sign(c.h, c.payload, c.s); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestWrittenDown holds the code to docs/medium.md where both state a number.
func TestWrittenDown(t *testing.T) {
	doc, err := os.ReadFile("../../docs/medium.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"its payload begins at\n0x9800f000, the controller's at 0x8000f000", "`nitro image v1`", "`NCIMAGE1`"} {
		if !strings.Contains(string(doc), s) {
			t.Errorf("docs/medium.md does not say %q", s)
		}
	}
}

func FuzzHeader(f *testing.F) {
	b, _ := good()
	f.Add(b[:4096])
	f.Add(make([]byte, 4096))
	f.Add(flip(b, 70)[:4096])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < image.HeaderSize {
			return
		}
		head := (*[image.HeaderSize]byte)(b)
		h, err := image.Parse(head)
		if err != nil {
			return
		}
		if h.Length == 0 || h.Length > h.Component.MaxLength() || h.SecurityVersion > image.MaxSecurityVersion || h.Component.Purpose() == 0 {
			t.Errorf("out of bounds: %+v", h)
		}
		w := want()
		w.Component = h.Component
		if _, err := image.Verify(head, w); err == nil && !bytes.Equal(b[:512], good512) {
			t.Error("verifies what nobody signed")
		}
	})
}

var good512 = func() []byte { b, _ := good(); return b[:512] }()
