package firmware

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"nitro/attest/sha256"
	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/store"
)

var le = binary.LittleEndian

// ErrNoGolden tells that a part has no golden copy.
var ErrNoGolden = errors.New("there is no golden copy: install a firmware package")

// A Config says which firmware a board accepts for one part, and where it keeps it.
type Config struct {
	Part        Part
	Host        string // product of the host's board, from the configuration
	Product     string // of the controller's board: that of image headers
	Development bool   // as in [image.Want]
	Authorities []image.Authority
	Store       *store.Store
	Rand        io.Reader // chooses the places of the second look; nil means crypto/rand's
}

// A Golden is the golden copy of one part's firmware. Its methods may be called by
// several goroutines.
type Golden struct {
	c          Config
	installing sync.Mutex // held while a package comes, as long as that takes
	mu         sync.Mutex // held during a cycle, and while the golden copy is replaced
	// now is the copy that counts, once it has been verified.
	now *copyOf
}

// copyOf is a golden copy whose header and manifest have been verified.
type copyOf struct {
	Manifest
	digest   [sha256.Size]byte // of the manifest's JSON
	sequence uint64

	ed25519Key, mldsa65Key [sha256.Size]byte // who signed it
}

// New gives the golden copy of a part, which need not be there yet. It panics where
// there is no such part.
func New(c Config) *Golden {
	if c.Part.component() == 0 {
		panic(fmt.Sprintf("firmware: no such part: %q", c.Part))
	}
	return &Golden{c: c}
}

// Records of the store (docs/firmware.md, "Golden copy").
func (g *Golden) prefix() string     { return "firmware/" + string(g.c.Part) + "/" }
func (g *Golden) goldenName() string { return g.prefix() + "golden" }
func (g *Golden) stateName() string  { return g.prefix() + "state" }

func (g *Golden) contentsPrefix() string { return g.prefix() + "contents/" }
func (g *Golden) contentsName(sequence uint64, n int64) string {
	return fmt.Sprintf("%s%016x/%d", g.contentsPrefix(), sequence, n)
}

// partSize is how much of the contents a record has.
const partSize = store.MaxValue

const (
	sequenceSize = 8
	stateSize    = sha256.Size + 4
)

// Manifest gives the golden copy's manifest, verified. The error is ErrNoGolden where
// there is none.
func (g *Golden) Manifest() (*Manifest, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c, err := g.current()
	if err != nil {
		return nil, err
	}
	m := c.Manifest
	m.Regions = append([]Region(nil), m.Regions...)
	return &m, nil
}

// Floor is the security version below which no package is taken.
func (g *Golden) Floor() (uint32, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	s, err := g.state()
	return s.floor, err
}

// ErrBusy tells that a cycle is under way.
var ErrBusy = errors.New("firmware: a cycle of the host is under way")

// Glance gives manifest and floor without waiting for a cycle that is under way, which is
// ErrBusy: for who only shows them. The manifest is nil where there is no golden copy that
// verifies.
func (g *Golden) Glance() (m *Manifest, floor uint32, err error) {
	if !g.mu.TryLock() {
		return nil, 0, ErrBusy
	}
	defer g.mu.Unlock()
	if c, err := g.current(); err == nil {
		m = &Manifest{}
		*m = c.Manifest
	}
	s, err := g.state()
	return m, s.floor, err
}

// current reads and verifies the record of the golden copy.
func (g *Golden) current() (*copyOf, error) {
	if g.now != nil {
		return g.now, nil
	}
	sequence, b, err := g.record()
	if err != nil {
		return nil, err
	}
	s, err := g.state()
	if err != nil {
		return nil, err
	}
	r := bytes.NewReader(b)
	c, err := g.open(r, "golden copy", s.floor)
	if err == nil && r.Len() > 0 {
		err = fmt.Errorf("%d bytes behind the manifest", r.Len())
	}
	if err != nil {
		return nil, code.HostFirmware.Errorf("firmware: %s: golden copy: %w", g.c.Part, err)
	}
	c.sequence = sequence
	g.now = c
	return c, nil
}

// record reads the record: the sequence number, and header and manifest, which nobody
// has looked at.
func (g *Golden) record() (sequence uint64, b []byte, err error) {
	b, err = g.c.Store.Get(g.goldenName())
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil, code.HostFirmware.Errorf("firmware: %s: %w", g.c.Part, ErrNoGolden)
	}
	if err != nil {
		return 0, nil, fromStore(err)
	}
	if len(b) < sequenceSize {
		return 0, nil, code.HostFirmware.Errorf("firmware: %s: golden copy: %d bytes", g.c.Part, len(b))
	}
	return le.Uint64(b), b[sequenceSize:], nil
}

// open verifies header and manifest at the beginning of a package. Nothing of the
// manifest is parsed before both signatures and its digest have been verified.
func (g *Golden) open(r io.Reader, where string, floor uint32) (*copyOf, error) {
	i, err := image.Open(r, image.Want{
		Where: fmt.Sprintf("%s of %v", where, g.c.Part.component()), Component: g.c.Part.component(),
		Product: g.c.Product, Development: g.c.Development, Floor: floor, Authorities: g.c.Authorities,
	})
	if err != nil {
		return nil, err
	}
	if i.Length > MaxManifest {
		return nil, code.ImageMalformed.Errorf("firmware: manifest of %d bytes, at most %d", i.Length, MaxManifest)
	}
	payload := make([]byte, i.Length)
	if err := i.Load(payload); err != nil {
		return nil, err
	}
	m, err := Decode(payload)
	if err != nil {
		return nil, code.ImageMalformed.Errorf("%w", err)
	}
	if m.Part != g.c.Part || m.Version != i.Version || m.SecurityVersion != i.SecurityVersion {
		return nil, code.ImageMalformed.Errorf("firmware: manifest: part %s, version %s, security version %d, and the header has %v, %s, %d",
			m.Part, m.Version, m.SecurityVersion, i.Component, i.Version, i.SecurityVersion)
	}
	if m.Host != g.c.Host {
		return nil, code.WrongProduct.Errorf("firmware: manifest: is for host %q; this is %q", m.Host, g.c.Host)
	}
	return &copyOf{Manifest: *m, digest: i.Digest, ed25519Key: i.Ed25519Key, mldsa65Key: i.MLDSA65Key}, nil
}

// state is the record of that name.
type state struct {
	applied [sha256.Size]byte // manifest that the flash was last verified to hold
	floor   uint32
}

func (g *Golden) state() (s state, err error) {
	b, err := g.c.Store.Get(g.stateName())
	if errors.Is(err, store.ErrNotFound) {
		return s, nil
	}
	if err != nil {
		return s, fromStore(err)
	}
	if len(b) != stateSize {
		return s, code.StoreDamaged.Errorf("firmware: %s: state of %d bytes, not %d", g.c.Part, len(b), stateSize)
	}
	s.floor = le.Uint32(b[copy(s.applied[:], b):])
	return s, nil
}

// settle records that the flash was verified to hold the golden copy. From then on there
// is nothing older, so the floor rises.
func (g *Golden) settle(c *copyOf) error {
	old, err := g.state()
	if err != nil {
		return err
	}
	s := state{c.digest, max(old.floor, c.SecurityVersion)}
	if s == old {
		return nil
	}
	err = g.c.Store.Put(g.stateName(), le.AppendUint32(append([]byte(nil), s.applied[:]...), s.floor))
	if err == nil && s.floor != old.floor {
		err = g.c.Store.Checkpoint() // a floor that an older copy of the card takes back is none
	}
	return fromStore(err)
}

// Scrub reads the golden copy's contents and compares them with its manifest, so that a
// copy that has gone bad is found before it is needed.
func (g *Golden) Scrub() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	c, err := g.current()
	if err != nil {
		return err
	}
	return g.checkContents(c, c.of(Static))
}

// checkContents reads and hashes the contents of regions.
func (g *Golden) checkContents(c *copyOf, regions []Region) error {
	buffer := make([]byte, window)
	r := g.contents(c)
	defer r.close()
	for _, region := range regions {
		from, h := c.place(region), sha256.New()
		for at := int64(0); at < region.Length; at += window {
			p := buffer[:min(window, region.Length-at)]
			if err := r.readAt(p, from+at); err != nil {
				return code.HostFirmware.Errorf("firmware: %s: golden copy of region %q: %w", g.c.Part, region.Name, err)
			}
			h.Write(p)
		}
		if sum := h.Sum(nil); !bytes.Equal(sum, region.Digest[:]) {
			return code.HostFirmware.Errorf("firmware: %s: golden copy of region %q: SHA-256 is %x, the manifest has %x", g.c.Part, region.Name, sum, region.Digest)
		}
	}
	return nil
}

// place is where a static region begins in the contents.
func (m *Manifest) place(region Region) (at int64) {
	for _, r := range m.of(Static) {
		if r.Offset >= region.Offset {
			break
		}
		at += r.Length
	}
	return at
}

// contents reads the contents of a golden copy, which may be several records.
func (g *Golden) contents(c *copyOf) *contents { return &contents{g: g, sequence: c.sequence} }

type contents struct {
	g        *Golden
	sequence uint64
	open     *store.Reader // nil at first
	n        int64         // which record that is
}

// readAt fills p from a byte of the contents on.
func (c *contents) readAt(p []byte, at int64) error {
	for len(p) > 0 {
		n := at / partSize
		if c.open == nil || c.n != n {
			c.close()
			r, err := c.g.c.Store.Reader(c.g.contentsName(c.sequence, n))
			if err != nil {
				return err
			}
			c.open, c.n = r, n
		}
		part := p[:min(int64(len(p)), (n+1)*partSize-at)]
		if _, err := c.open.ReadAt(part, at%partSize); err != nil {
			return err
		}
		p, at = p[len(part):], at+int64(len(part))
	}
	return nil
}

func (c *contents) close() {
	if c.open != nil {
		c.open.Close()
		c.open = nil
	}
}

// sweep deletes contents of all sequence numbers but one: what a cut or a refusal left.
func (g *Golden) sweep(keep uint64) error {
	names, err := g.c.Store.List(g.contentsPrefix())
	if err != nil {
		return fromStore(err)
	}
	kept := fmt.Sprintf("%s%016x/", g.contentsPrefix(), keep)
	for _, name := range names {
		if strings.HasPrefix(name, kept) {
			continue
		}
		if err := g.c.Store.Delete(name); err != nil {
			return fromStore(err)
		}
	}
	return nil
}

// fromStore gives an error of the store its code.
func fromStore(err error) error {
	for _, e := range []struct {
		err  error
		code code.Code
	}{
		{store.ErrDamaged, code.StoreDamaged}, {store.ErrFull, code.StoreFull},
		{store.ErrWorn, code.StoreWorn}, {store.ErrUnreadable, code.StoreUnreadable},
	} {
		if errors.Is(err, e.err) {
			return e.code.Errorf("firmware: %w", err)
		}
	}
	return err
}
