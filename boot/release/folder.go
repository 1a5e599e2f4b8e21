package release

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"nitro/attest/golden"
	"nitro/attest/seal"
	"nitro/boot/image"
	"nitro/boot/medium"
)

// Files of a release folder (docs/nitroctl.md, "Release").
const (
	ManifestFile   = "release.json"
	AnchorsFile    = "anchors.bin"
	BootloaderFile = "bootloader.img"
	ControllerFile = "controller.img"
	KnownGoodFile  = "known-good.img"
	ApprovalsFile  = "approvals.bin"
)

// Format is the version of the manifest's format.
const Format = 1

// A Manifest describes a release to people and programs. Nothing trusts it: it is computed
// from the other files, and [Read] refuses one that does not agree with them.
type Manifest struct {
	Format          int                  `json:"format"`
	Product         string               `json:"product"`
	Version         string               `json:"version"`
	SecurityVersion uint32               `json:"security_version"`
	Development     bool                 `json:"development"`
	Built           uint64               `json:"built"` // seconds since 1970
	Bootloader      Code                 `json:"bootloader"`
	Controller      Code                 `json:"controller"`
	Authority       KeyDigests           `json:"authority"`
	Predictions     []ManifestPrediction `json:"predictions"`
	MissingKinds    []string             `json:"missing_approvals"`
	Files           []File               `json:"files"`
}

// Code is a payload that runs.
type Code struct {
	SHA256          string `json:"sha256"`
	Length          uint64 `json:"length"` // bytes
	Load            uint32 `json:"load"`
	Entry           uint32 `json:"entry"`
	Version         string `json:"version"`
	SecurityVersion uint32 `json:"security_version"`
}

// KeyDigests name an authority.
type KeyDigests struct {
	Ed25519 string `json:"ed25519"`
	MLDSA65 string `json:"mldsa65"`
}

// A ManifestPrediction is a Prediction as the manifest has it, in hexadecimal.
type ManifestPrediction struct {
	Anchors    string            `json:"anchors"`    // SHA-256 of the block
	Bootloader string            `json:"bootloader"` // SHA-256 of the payload
	PCR0       string            `json:"pcr0"`
	PCR2       string            `json:"pcr2"`
	PCR7       string            `json:"pcr7"`
	Policies   map[string]string `json:"policies"` // what is approved, by kind
}

// A File is one of the folder's.
type File struct {
	Name   string `json:"name"`
	Size   int    `json:"size"`
	SHA256 string `json:"sha256"`
}

// A named is a file and what it holds.
type named struct {
	name string
	data []byte
}

// contents gives all files but the manifest.
func (r *Release) contents() ([]named, error) {
	approvals, err := (&seal.Set{Revision: 1, Approvals: r.Approvals}).Encode()
	if err != nil {
		return nil, err
	}
	return []named{{AnchorsFile, r.AnchorBlock[:]}, {BootloaderFile, r.Bootloader.Bytes}, {ControllerFile, r.Controller.Bytes},
		{KnownGoodFile, r.KnownGood.Bytes}, {ApprovalsFile, approvals}}, nil
}

// Manifest computes the manifest.
func (r *Release) Manifest() (*Manifest, error) {
	c := &r.Controller
	m := &Manifest{Format: Format, Product: c.Product, Version: c.Version, SecurityVersion: c.SecurityVersion, Development: c.Development, Built: c.Built,
		Bootloader: r.Bootloader.code(), Controller: c.code(),
		Authority:    KeyDigests{hex.EncodeToString(c.Ed25519Key[:]), hex.EncodeToString(c.MLDSA65Key[:])},
		MissingKinds: []string{}}
	var err error
	if m.Predictions, err = DescribePredictions(r.Golden); err != nil {
		return nil, err
	}
	missing, err := r.Missing()
	if err != nil {
		return nil, err
	}
	for _, k := range missing {
		m.MissingKinds = append(m.MissingKinds, k.String())
	}
	files, err := r.contents()
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		sum := digestOf(f.data)
		m.Files = append(m.Files, File{f.name, len(f.data), hex.EncodeToString(sum[:])})
	}
	return m, nil
}

func (i *Image) code() Code {
	return Code{hex.EncodeToString(i.Digest[:]), i.Length, i.Load, i.Entry, i.Version, i.SecurityVersion}
}

// DescribePredictions gives the predictions of a known-good set as the manifest has them.
func DescribePredictions(g *golden.Release) (w []ManifestPrediction, err error) {
	all, err := Predictions(g)
	if err != nil {
		return nil, err
	}
	for _, p := range all {
		one, err := p.wire()
		if err != nil {
			return nil, err
		}
		w = append(w, one)
	}
	return w, nil
}

func (p *Prediction) wire() (ManifestPrediction, error) {
	v := &p.Values
	w := ManifestPrediction{hex.EncodeToString(p.Anchors.Digest[:]), hex.EncodeToString(p.Bootloader.Digest[:]),
		hex.EncodeToString(v.PCR0[:]), hex.EncodeToString(v.PCR2[:]), hex.EncodeToString(v.PCR7[:]), map[string]string{}}
	for _, k := range kinds {
		policy, err := v.Policy(k)
		if err != nil {
			return w, err
		}
		w.Policies[k.String()] = hex.EncodeToString(policy[:])
	}
	return w, nil
}

// encode makes the manifest's file.
func (m *Manifest) encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("release: manifest: %w", err)
	}
	return append(b, '\n'), nil
}

// files gives all files, the manifest last: a folder without one is not whole.
func (r *Release) files() ([]named, error) {
	m, err := r.Manifest()
	if err != nil {
		return nil, err
	}
	b, err := m.encode()
	if err != nil {
		return nil, err
	}
	files, err := r.contents()
	return append(files, named{ManifestFile, b}), err
}

// Write writes the release into a new folder.
func (r *Release) Write(dir string) error {
	files, err := r.files()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o777); err != nil {
		return fmt.Errorf("release: %w", err)
	}
	if err := os.Mkdir(dir, 0o777); err != nil {
		return fmt.Errorf("release: a release is written into a new folder: %w", err)
	}
	for _, f := range files {
		if err := create(filepath.Join(dir, f.name), f.data, 0o644); err != nil {
			return fmt.Errorf("release: %w", err)
		}
	}
	return nil
}

// WriteApprovals replaces approvals and manifest of the folder that the release was read
// from. Each is replaced at once; after a cut between the two Read says so.
func (r *Release) WriteApprovals(dir string) error {
	files, err := r.files()
	if err != nil {
		return err
	}
	for _, f := range files {
		if f.name != ApprovalsFile && f.name != ManifestFile {
			continue
		}
		path := filepath.Join(dir, f.name)
		if err := errors.Join(os.WriteFile(path+".new", f.data, 0o644), os.Rename(path+".new", path)); err != nil {
			return fmt.Errorf("release: %w", err)
		}
	}
	return nil
}

// maxManifest and maxApprovals bound files, in bytes.
const (
	maxManifest  = 64 << 10
	maxApprovals = 60 << 10 // docs/medium.md, "Sealed objects"
)

// Read reads a release folder and verifies all of it by its own anchor block. Whether that
// is the right one is for the caller to say.
func Read(dir string) (*Release, error) {
	r := &Release{}
	block, err := readFile(filepath.Join(dir, AnchorsFile), medium.AnchorSize)
	if err != nil {
		return nil, err
	}
	if r.Anchors, err = DecodeAnchors(block); err != nil {
		return nil, fmt.Errorf("release: %s: %w", filepath.Join(dir, AnchorsFile), err)
	}
	copy(r.AnchorBlock[:], block)
	for _, i := range []struct {
		to        *Image
		name      string
		component image.Component
	}{{&r.Bootloader, BootloaderFile, image.Bootloader}, {&r.Controller, ControllerFile, image.Controller}, {&r.KnownGood, KnownGoodFile, image.KnownGood}} {
		if *i.to, err = ReadImage(filepath.Join(dir, i.name), i.component.MaxLength()); err != nil {
			return nil, err
		}
	}
	if err := r.verify(); err != nil {
		return nil, err
	}
	return r, r.readApprovals(dir)
}

// readApprovals reads the approvals, and compares the manifest.
func (r *Release) readApprovals(dir string) error {
	b, err := readFile(filepath.Join(dir, ApprovalsFile), maxApprovals)
	if err != nil {
		return err
	}
	set, err := seal.Decode(b)
	if err != nil {
		return fmt.Errorf("release: %s: %w", filepath.Join(dir, ApprovalsFile), err)
	}
	r.Approvals = set.Approvals
	files, err := r.files()
	if err != nil {
		return err
	}
	m, err := readFile(filepath.Join(dir, ManifestFile), maxManifest)
	if err != nil {
		return err
	}
	if last := len(files) - 1; !bytes.Equal(m, files[last].data) || !bytes.Equal(b, files[last-1].data) {
		return fmt.Errorf("release: %s does not agree with the other files: the folder was changed, or a release is half written: build it again", filepath.Join(dir, ManifestFile))
	}
	return nil
}

// ReadImage reads an image's file, of at most some bytes of payload. The header has been
// parsed, and nothing verified.
func ReadImage(path string, max uint64) (Image, error) {
	b, err := readFile(path, image.HeaderSize+max)
	if err != nil {
		return Image{}, err
	}
	if len(b) < image.HeaderSize {
		return Image{}, fmt.Errorf("release: %s: %d bytes, and an image's header has %d: it is no image, or cut short", path, len(b), image.HeaderSize)
	}
	h, err := image.Parse((*[image.HeaderSize]byte)(b))
	if err != nil {
		return Image{}, fmt.Errorf("release: %s: %w", path, err)
	}
	return Image{h, b}, nil
}

// DecodeAnchors reads an anchor block's file.
func DecodeAnchors(b []byte) (*medium.Anchors, error) {
	if len(b) != medium.AnchorSize {
		return nil, fmt.Errorf("%d bytes, and an anchor block has %d: give the %s of a release", len(b), medium.AnchorSize, AnchorsFile)
	}
	return medium.DecodeAnchors((*[medium.AnchorSize]byte)(b))
}

// readFile reads a file of at most some bytes.
func readFile(path string, most uint64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("release: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, int64(most)+1))
	if err != nil {
		return nil, fmt.Errorf("release: %w", err)
	}
	if uint64(len(b)) > most {
		return nil, fmt.Errorf("release: %s: longer than the %d bytes that it may have", path, most)
	}
	return b, nil
}
