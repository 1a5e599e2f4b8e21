package firmware

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"nitro/attest/ijson"
	"nitro/attest/sha256"
	"nitro/boot/image"
)

// Bounds of a manifest (docs/firmware.md).
const (
	Format      = 1
	MaxManifest = 16 << 10 // bytes of JSON
	MaxRegions  = 64
	MaxSize     = 64 << 20  // bytes of a flash
	MinErase    = 4 << 10   // bytes of an erase block
	MaxErase    = 256 << 10 // the same
	MaxStatic   = 48 << 20  // bytes of all static regions
	maxName     = 27        // characters: with a part before it, it is a word of the event log
)

// A Part is whose flash it is.
type Part string

const (
	Host Part = "host"
	BMC  Part = "bmc"
)

// component is that of the part's images; 0 where there is no such part.
func (p Part) component() image.Component {
	switch p {
	case Host:
		return image.HostFirmware
	case BMC:
		return image.BMCFirmware
	}
	return 0
}

// A Kind is what may become of a region.
type Kind string

const (
	Static   Kind = "static"   // verified, protected, recovered
	Mutable  Kind = "mutable"  // the host's; never touched
	Erasable Kind = "erasable" // erased on request and after a recovery
)

// A Region is a part of a flash.
type Region struct {
	Name           string
	Offset, Length int64 // bytes
	Kind           Kind
	Digest         [sha256.Size]byte // of a static region's content; else zero
}

// A Manifest says what a flash has to hold.
type Manifest struct {
	Part            Part
	Host            string // product of the host's board
	Version         string // as in the image's header
	SecurityVersion uint32
	Size            int64 // of the flash in bytes
	Erase           int64 // bytes of the erase blocks that regions are aligned to
	Regions         []Region
}

type manifestWire struct {
	Format          int          `json:"format"`
	Part            Part         `json:"part"`
	Host            string       `json:"host"`
	Version         string       `json:"version"`
	SecurityVersion uint32       `json:"security_version"`
	Size            int64        `json:"size"`
	Erase           int64        `json:"erase"`
	Regions         []regionWire `json:"regions"`
}

type regionWire struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Kind   Kind   `json:"kind"`
	SHA256 string `json:"sha256,omitempty"`
}

// limit: the deepest value is a region in the list of them.
var limit = ijson.Limit{Size: MaxManifest, Depth: 3}

// Decode reads a manifest that was verified (package image), and checks it.
func Decode(payload []byte) (*Manifest, error) {
	var w manifestWire
	if err := ijson.Decode(payload, limit, &w); err != nil {
		return nil, fmt.Errorf("firmware: manifest: %w", err)
	}
	if w.Format != Format {
		return nil, fmt.Errorf("firmware: manifest: format %d, not %d", w.Format, Format)
	}
	m := &Manifest{w.Part, w.Host, w.Version, w.SecurityVersion, w.Size, w.Erase, nil}
	for _, r := range w.Regions {
		digest, err := decodeDigest(r)
		if err != nil {
			return nil, fmt.Errorf("firmware: manifest: region %q: %w", r.Name, err)
		}
		m.Regions = append(m.Regions, Region{r.Name, r.Offset, r.Length, r.Kind, digest})
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("firmware: manifest: %w", err)
	}
	return m, nil
}

// decodeDigest: static regions have a digest, others none.
func decodeDigest(r regionWire) (d [sha256.Size]byte, err error) {
	if r.Kind != Static {
		if r.SHA256 != "" {
			return d, fmt.Errorf("sha256 of a %s region", r.Kind)
		}
		return d, nil
	}
	b, err := hex.DecodeString(r.SHA256)
	if err != nil || len(b) != len(d) || hex.EncodeToString(b) != r.SHA256 {
		return d, fmt.Errorf("sha256 %q is not 64 lower-case hexadecimal digits", r.SHA256)
	}
	return [sha256.Size]byte(b), nil
}

// Encode makes the payload. It is decoded again, so nothing comes out that a board would
// refuse.
func (m *Manifest) Encode() ([]byte, error) {
	w := manifestWire{Format, m.Part, m.Host, m.Version, m.SecurityVersion, m.Size, m.Erase, nil}
	for _, r := range m.Regions {
		x := regionWire{r.Name, r.Offset, r.Length, r.Kind, ""}
		if r.Kind == Static {
			x.SHA256 = hex.EncodeToString(r.Digest[:])
		}
		w.Regions = append(w.Regions, x)
	}
	payload, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("firmware: manifest: %w", err)
	}
	_, err = Decode(payload)
	return payload, err
}

// check holds a manifest to the rules of docs/firmware.md, "Manifest".
func (m *Manifest) check() error {
	if m.Part.component() == 0 {
		return fmt.Errorf("part %q: there are %q and %q", m.Part, Host, BMC)
	}
	if !word(m.Host) || !word(m.Version) {
		return fmt.Errorf("host %q, version %q: each is 1 to %d characters of printable ASCII without space", m.Host, m.Version, image.TextSize)
	}
	if m.SecurityVersion > image.MaxSecurityVersion {
		return fmt.Errorf("security version %d is above %d", m.SecurityVersion, image.MaxSecurityVersion)
	}
	if m.Erase < MinErase || m.Erase > MaxErase || m.Erase&(m.Erase-1) != 0 {
		return fmt.Errorf("erase block of %d bytes: a power of two from %d to %d", m.Erase, MinErase, MaxErase)
	}
	if m.Size <= 0 || m.Size > MaxSize || m.Size%m.Erase != 0 {
		return fmt.Errorf("flash of %d bytes: whole erase blocks of %d bytes, at most %d bytes", m.Size, m.Erase, MaxSize)
	}
	if len(m.Regions) < 1 || len(m.Regions) > MaxRegions {
		return fmt.Errorf("%d regions, not 1 to %d", len(m.Regions), MaxRegions)
	}
	return m.checkRegions()
}

func (m *Manifest) checkRegions() error {
	names := map[string]bool{}
	static, end := int64(0), int64(0)
	for _, r := range m.Regions {
		if err := r.check(m); err != nil {
			return fmt.Errorf("region %q: %w", r.Name, err)
		}
		if names[r.Name] {
			return fmt.Errorf("region %q comes twice", r.Name)
		}
		names[r.Name] = true
		if r.Offset < end {
			return fmt.Errorf("region %q begins at %#x, and the one before ends at %#x: they overlap", r.Name, r.Offset, end)
		}
		if r.Offset > end {
			return fmt.Errorf("region %q begins at %#x: nothing declares what is from %#x on", r.Name, r.Offset, end)
		}
		end = r.Offset + r.Length
		if r.Kind == Static {
			static += r.Length
		}
	}
	if end != m.Size {
		return fmt.Errorf("nothing declares what is from %#x to %#x", end, m.Size)
	}
	if static == 0 || static > MaxStatic {
		return fmt.Errorf("static regions of %d bytes, not 1 to %d", static, MaxStatic)
	}
	return nil
}

// check judges one region by itself. Size has been checked, so no sum overflows.
func (r *Region) check(m *Manifest) error {
	if r.Name == "" || len(r.Name) > maxName || strings.Trim(r.Name, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
		return fmt.Errorf("a name has 1 to %d of a-z, 0-9 and -", maxName)
	}
	if r.Kind != Static && r.Kind != Mutable && r.Kind != Erasable {
		return fmt.Errorf("kind %q: there are %q, %q and %q", r.Kind, Static, Mutable, Erasable)
	}
	if r.Offset < 0 || r.Offset >= m.Size || r.Length <= 0 || r.Length > m.Size-r.Offset {
		return fmt.Errorf("%d bytes from %#x on run past the %d of the flash", r.Length, r.Offset, m.Size)
	}
	if r.Offset%m.Erase != 0 || r.Length%m.Erase != 0 {
		return fmt.Errorf("%#x bytes at %#x are not whole erase blocks of %#x", r.Length, r.Offset, m.Erase)
	}
	return nil
}

// word tells whether s can be a text field of an image's header.
func word(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= image.TextSize
}

// fits refuses another flash than the manifest's.
func (m *Manifest) fits(f Flash) error {
	if f.Size() != m.Size {
		return fmt.Errorf("the flash has %d bytes, the manifest is for one of %d", f.Size(), m.Size)
	}
	if e := f.EraseSize(); e <= 0 || m.Erase%e != 0 {
		return fmt.Errorf("the flash has erase blocks of %d bytes, the manifest's of %d cannot be made of them", e, m.Erase)
	}
	return nil
}

// of lists the regions of one kind.
func (m *Manifest) of(k Kind) (all []Region) {
	for _, r := range m.Regions {
		if r.Kind == k {
			all = append(all, r)
		}
	}
	return all
}

// ranges are the static regions, those that touch each other as one.
func (m *Manifest) ranges() (all [][2]int64) {
	for _, r := range m.of(Static) {
		if n := len(all); n > 0 && all[n-1][0]+all[n-1][1] == r.Offset {
			all[n-1][1] += r.Length
			continue
		}
		all = append(all, [2]int64{r.Offset, r.Length})
	}
	return all
}

// Measurement is what [Result] has to hold: docs/firmware.md, "What is measured".
func (m *Manifest) Measurement() [sha256.Size]byte { return measurement(m.of(Static)) }

func measurement(static []Region) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, r := range static {
		b := append([]byte{byte(len(r.Name))}, r.Name...)
		b = le.AppendUint64(le.AppendUint64(b, uint64(r.Offset)), uint64(r.Length))
		h.Write(append(b, r.Digest[:]...))
	}
	h.Sum(sum[:0])
	return sum
}
