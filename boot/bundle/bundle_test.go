package bundle

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"testing"

	"nitro/boot/code"
	"nitro/internal/corpus"
)

// TestWrite: what is written is read, part by part.
func TestWrite(t *testing.T) {
	var b bytes.Buffer
	if err := Write(&b, []byte("known"), []byte("app"), []byte("controller")); err != nil {
		t.Fatal(err)
	}
	h, err := Read(&b)
	if err != nil || h != (Header{5, 3, 10}) || b.String() != "knownappcontroller" {
		t.Errorf("%+v, %v, %q", h, err, b.String())
	}
	for _, h := range []Header{{0, 1, 1}, {1, MaxApprovals + 1, 1}, {1, 1, MaxController + 1}, {1, -1, 1}} {
		if _, err := h.Encode(); err == nil {
			t.Errorf("%+v is encoded", h)
		}
	}
}

// TestParse: a header that differs anywhere is refused.
func TestParse(t *testing.T) {
	good, err := Header{100, 200, 300}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	for at := range good {
		bad := good
		bad[at] ^= 1
		if _, err := Parse(&bad); code.Of(err) != code.ImageMalformed {
			t.Errorf("byte %d: %v", at, err)
		}
		if at < offDigest { // also with a digest that fits
			sum := sha256.Sum256(bad[:offDigest])
			copy(bad[offDigest:], sum[:])
			if h, err := Parse(&bad); err == nil && (h == Header{100, 200, 300}) {
				t.Errorf("byte %d: it is taken for nothing", at)
			}
		}
	}
	if _, err := Read(bytes.NewReader(good[:511])); code.Of(err) != code.ImageUnreadable {
		t.Error(err)
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/headers.hex
var keptHeaders string

func FuzzParse(f *testing.F) {
	good, _ := Header{100, 200, 300}.Encode()
	f.Add(good[:])
	corpus.Add(f, keptHeaders)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != HeaderSize {
			return
		}
		h, err := Parse((*[HeaderSize]byte)(b))
		if err != nil {
			return
		}
		if again, err := h.Encode(); err != nil || !bytes.Equal(again[:], b) {
			t.Errorf("%+v, %v: another spelling of %x", h, err, b)
		}
	})
}
