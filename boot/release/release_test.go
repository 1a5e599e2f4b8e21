//go:build !arm

package release_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "embed"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"filippo.io/mldsa"

	"nitro/attest/seal"
	"nitro/boot/code"
	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/boot/release"
	"nitro/boot/release/releasetest"
	"nitro/internal/corpus"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func build(t *testing.T, k *release.Keys, o release.Options) *release.Release {
	t.Helper()
	r, err := release.Build(k, o)
	must(t, err)
	return r
}

func TestPayload(t *testing.T) {
	const at = 0x8000f000
	two := releasetest.ELF(at+4, releasetest.Segment{Addr: at, Data: []byte("text")}, releasetest.Segment{Addr: at + 0x10, Data: []byte("data")})
	p, err := release.ParsePayload(bytes.NewReader(two))
	must(t, err)
	if want := "text\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00data"; string(p.Bytes) != want || p.Load != at || p.Entry != at+4 {
		t.Errorf("payload %q at %#x, entry %#x", p.Bytes, p.Load, p.Entry)
	}
	changed := func(do func(b []byte)) []byte {
		b := slices.Clone(two)
		do(b)
		return b
	}
	for _, c := range []struct {
		what, want string
		elf        []byte
	}{
		{"no ELF file", "no ELF file", []byte("NCIMAGE1")},
		{"an ELF file of another machine", "ARM", changed(func(b []byte) { b[18] = 3 })},
		{"a big endian one", "", changed(func(b []byte) { b[5] = 2 })},
		{"segments that fall", "must rise", releasetest.ELF(at, releasetest.Segment{Addr: at + 0x10, Data: []byte("data")}, releasetest.Segment{Addr: at, Data: []byte("text")})},
		{"segments that overlap", "must rise", releasetest.ELF(at, releasetest.Segment{Addr: at, Data: []byte("text")}, releasetest.Segment{Addr: at + 3, Data: []byte("data")})},
		{"a gap that no medium holds", "hold all", releasetest.ELF(at, releasetest.Segment{Addr: at, Data: []byte("text")}, releasetest.Segment{Addr: at + 32<<20, Data: []byte("data")})},
		{"a segment that is cut off", "of 4 bytes", two[:len(two)-2]},
		{"no segment", "without a segment", releasetest.ELF(at)},
	} {
		if p, err := release.ParsePayload(bytes.NewReader(c.elf)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %d bytes, %v", c.what, len(p.Bytes), err)
		}
	}
}

//go:embed testdata/payloads.hex
var payloads string

func FuzzPayload(f *testing.F) {
	corpus.Add(f, payloads)
	f.Add(releasetest.Program(image.Controller, "controller"))
	f.Add(releasetest.ELF(0))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := release.ParsePayload(bytes.NewReader(b))
		if err == nil && (len(p.Bytes) == 0 || uint64(len(p.Bytes)) > image.Controller.MaxLength()) {
			t.Errorf("a payload of %d bytes", len(p.Bytes))
		}
	})
}

// TestSeedForm: the example of RFC 9881, C.1.1.2 (ML-DSA-65, seed), is what a key file has.
func TestSeedForm(t *testing.T) {
	const example = "-----BEGIN PRIVATE KEY-----\nMDQCAQAwCwYJYIZIAWUDBAMSBCKAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZ\nGhscHR4f\n-----END PRIVATE KEY-----\n"
	seed := make([]byte, 32)
	for i := range seed {
		seed[i] = byte(i)
	}
	m, err := mldsa.NewPrivateKey(mldsa.MLDSA65(), seed)
	must(t, err)
	k, err := release.NewKeys(release.Owner)
	must(t, err)
	must(t, k.Add(release.ReleaseMLDSA65, m))
	dir := t.TempDir()
	must(t, k.Save(dir))
	b, err := os.ReadFile(filepath.Join(dir, "release-mldsa65.pem"))
	must(t, err)
	if string(b) != example {
		t.Errorf("the key file is\n%s", b)
	}
}

// TestKeyFiles: what is saved is loaded again, nobody else may read it, and nothing is
// overwritten.
func TestKeyFiles(t *testing.T) {
	k := releasetest.Keys()
	dir := filepath.Join(t.TempDir(), "keys")
	must(t, k.Save(dir))
	again, err := release.Load(dir)
	must(t, err)
	for _, n := range release.Names() {
		a, b := k.PublicKey(n), again.PublicKey(n)
		if !slices.Contains(again.Private(), n) || !a.(interface{ Equal(x crypto.PublicKey) bool }).Equal(b) {
			t.Errorf("%s came back as %v", n, b)
		}
		info, err := os.Stat(filepath.Join(dir, string(n)+".pem"))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", n, info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}
	if !again.Development() || !again.FactoryCertificate().Equal(k.FactoryCertificate()) {
		t.Error("the mark of development, or the factory's certificate, is lost")
	}
	other, err := release.NewKeys(release.Owner)
	must(t, err)
	if err := other.Save(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a key was overwritten: %v", err)
	}
	if left, err := release.Load(dir); err != nil || !left.Development() {
		t.Errorf("the refusal left something: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	development, production, second := t.TempDir(), t.TempDir(), t.TempDir()
	must(t, releasetest.Keys().Save(development))
	for _, dir := range []string{production, second} {
		k, err := release.NewKeys(release.Owner)
		must(t, err)
		must(t, k.Save(dir))
	}
	spoiled := func(name string, data []byte, mode fs.FileMode) string {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, name), data, mode))
		return dir
	}
	owner, err := os.ReadFile(filepath.Join(production, "owner.pem"))
	must(t, err)
	for _, c := range []struct {
		what, want string
		dirs       []string
	}{
		{"no folder", "not at hand", nil},
		{"a folder that is not there", "no such file", []string{filepath.Join(production, "x")}},
		{"development keys beside others", "use them apart", []string{development, production}},
		{"others beside development keys", "use them apart", []string{production, development}},
		{"two owners", "two different keys", []string{production, second}},
		{"one folder twice", "already", []string{production, production}},
		{"a private key for all to read", "chmod 600", []string{spoiled("owner.pem", owner, 0o644)}},
		{"a key of another algorithm", "must be ECDSA P-384", []string{spoiled("sealing-p384.pem", owner, 0o600)}},
		{"something behind the key", "nothing more", []string{spoiled("owner.pem", append(owner, owner...), 0o600)}},
		{"no PEM", "one PEM block", []string{spoiled("owner.pem", []byte("key"), 0o600)}},
		{"a private key where a public one belongs", "one PEM block", []string{spoiled("owner.pub.pem", owner, 0o600)}},
	} {
		if k, err := release.Load(c.dirs...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %v", c.what, k, err)
		}
	}
}

// secrets gives what of the private keys must never be printed, in hexadecimal and as key
// files have it.
func secrets(t *testing.T, k *release.Keys) (all []string) {
	t.Helper()
	dir := t.TempDir()
	must(t, k.Save(dir))
	for _, n := range release.Names() {
		b, err := os.ReadFile(filepath.Join(dir, string(n)+".pem"))
		must(t, err)
		block, _ := pem.Decode(b)
		tail := block.Bytes[len(block.Bytes)-24:]
		if n == release.SealingP384 || n == release.Owner || n == release.Factory {
			tail = block.Bytes[36:60] // of the private number; the public point is last
		}
		all = append(all, hex.EncodeToString(tail), fmt.Sprintf("%d", tail))
	}
	return all
}

// TestNeverPrinted: no verb prints a private key.
func TestNeverPrinted(t *testing.T) {
	k := releasetest.Keys()
	hidden := secrets(t, k)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		for _, v := range []any{k, struct{ K *release.Keys }{k}} {
			text := fmt.Sprintf(verb, v)
			for _, s := range hidden {
				if strings.Contains(text, s) {
					t.Errorf("%s prints a private key", verb)
				}
			}
		}
	}
	if got := fmt.Sprint(k); !strings.HasPrefix(got, "keys(release-ed25519 release-mldsa65") {
		t.Errorf("keys print as %q", got)
	}
	// The check itself finds a key that is printed.
	s, err := k.Signer(release.ReleaseEd25519)
	must(t, err)
	if text := fmt.Sprintf("%x", s.(ed25519.PrivateKey).Seed()); !slices.ContainsFunc(hidden, func(h string) bool { return strings.Contains(text, h) }) {
		t.Error("the test does not know what a printed key looks like")
	}
}

// TestReproducible: the same input makes the same files, by the same keys loaded anew.
func TestReproducible(t *testing.T) {
	dir := t.TempDir()
	must(t, releasetest.Keys().Save(dir))
	var folders [2]string
	for i := range folders {
		k, err := release.Load(dir)
		must(t, err)
		folders[i] = filepath.Join(t.TempDir(), "release")
		must(t, build(t, k, releasetest.Options("1.0", 3)).Write(folders[i]))
	}
	entries, err := os.ReadDir(folders[0])
	must(t, err)
	if len(entries) != 6 {
		t.Errorf("%d files, want 6", len(entries))
	}
	for _, e := range entries {
		a, err := os.ReadFile(filepath.Join(folders[0], e.Name()))
		must(t, err)
		b, err := os.ReadFile(filepath.Join(folders[1], e.Name()))
		must(t, err)
		if !bytes.Equal(a, b) {
			t.Errorf("%s differs from build to build", e.Name())
		}
	}
}

// TestTamperedFolder: a change of any file is noticed.
func TestTamperedFolder(t *testing.T) {
	r := build(t, releasetest.Keys(), releasetest.Options("1.0", 3))
	dir := filepath.Join(t.TempDir(), "release")
	must(t, r.Write(dir))
	again, err := release.Read(dir)
	must(t, err)
	if missing, err := again.Missing(); err != nil || len(missing) > 0 || len(again.Approvals) != 3 {
		t.Errorf("read back: %v are missing, %d are there, %v", missing, len(again.Approvals), err)
	}
	if err := r.Write(dir); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a release was overwritten: %v", err)
	}
	for _, name := range []string{release.AnchorsFile, release.BootloaderFile, release.ControllerFile, release.KnownGoodFile, release.ApprovalsFile, release.ManifestFile} {
		path := filepath.Join(dir, name)
		whole, err := os.ReadFile(path)
		must(t, err)
		for what, b := range map[string][]byte{"a bit": flipped(whole, len(whole)/2), "the first byte": flipped(whole, 0), "the end": whole[:len(whole)-1], "more": append(slices.Clone(whole), 0)} {
			must(t, os.WriteFile(path, b, 0o644))
			if _, err := release.Read(dir); err == nil {
				t.Errorf("%s: %s changed unnoticed", name, what)
			}
		}
		must(t, os.WriteFile(path, whole, 0o644))
	}
	_, err = release.Read(dir)
	must(t, err)
}

func flipped(b []byte, at int) []byte {
	b = slices.Clone(b)
	b[at] ^= 1
	return b
}

// TestMixedFolder: files of two good releases make none.
func TestMixedFolder(t *testing.T) {
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	must(t, build(t, releasetest.Keys(), releasetest.Options("1.0", 3)).Write(one))
	must(t, build(t, releasetest.Keys(), releasetest.Options("1.1", 3)).Write(two))
	for _, name := range []string{release.BootloaderFile, release.ControllerFile, release.KnownGoodFile} {
		path := filepath.Join(one, name)
		own, err := os.ReadFile(path)
		must(t, err)
		other, err := os.ReadFile(filepath.Join(two, name))
		must(t, err)
		must(t, os.WriteFile(path, other, 0o644))
		if _, err := release.Read(one); err == nil {
			t.Errorf("%s of another release was taken", name)
		}
		must(t, os.WriteFile(path, own, 0o644))
	}
}

// TestMixedRelease: the known-good set must be that of the images, also where the manifest
// agrees with both.
func TestMixedRelease(t *testing.T) {
	one, two := build(t, releasetest.Keys(), releasetest.Options("1.0", 3)), build(t, releasetest.Keys(), releasetest.Options("1.0", 3))
	o := releasetest.Options("1.0", 3)
	o.Bootloader.Bytes[0x100] ^= 1
	o.Controller.Bytes[0x100] ^= 1
	strange := build(t, releasetest.Keys(), o)
	one.Bootloader, two.Controller = strange.Bootloader, strange.Controller
	for what, r := range map[string]*release.Release{"bootloader": one, "controller": two} {
		dir := filepath.Join(t.TempDir(), "release")
		must(t, r.Write(dir))
		if _, err := release.Read(dir); err == nil || !strings.Contains(err.Error(), "known-good set") {
			t.Errorf("another %s: %v", what, err)
		}
	}
}

// TestCustody builds a release with each key in another folder, as custodians have them.
func TestCustody(t *testing.T) {
	root := t.TempDir()
	folder := func(n string) string { return filepath.Join(root, n) }
	for _, c := range [][]release.Name{{release.ReleaseEd25519}, {release.ReleaseMLDSA65}, {release.ConfigurationEd25519, release.ConfigurationMLDSA65},
		{release.SealingP384}, {release.SealingRSA3072}, {release.Owner}, {release.Factory}} {
		k, err := release.NewKeys(c...)
		must(t, err)
		must(t, k.Save(folder(string(c[0]))))
	}
	must(t, os.Mkdir(folder("public"), 0o755))
	all, err := filepath.Glob(filepath.Join(root, "*", "*.pub.pem"))
	must(t, err)
	if len(all) != len(release.Names()) {
		t.Fatalf("public keys: %v", all)
	}
	for _, path := range all {
		must(t, os.Rename(path, filepath.Join(folder("public"), filepath.Base(path))))
	}
	load := func(names ...string) *release.Keys {
		t.Helper()
		dirs := []string{folder("public")}
		for _, n := range names {
			dirs = append(dirs, folder(n))
		}
		k, err := release.Load(dirs...)
		must(t, err)
		return k
	}

	if _, err := release.Build(load("release-ed25519"), releasetest.Options("1.0", 3)); !errors.Is(err, release.ErrKeyMissing) {
		t.Errorf("one key of two signed: %v", err)
	}
	r := build(t, load("release-ed25519", "release-mldsa65"), releasetest.Options("1.0", 3))
	if missing, err := r.Missing(); err != nil || !slices.Equal(missing, release.Kinds()) {
		t.Errorf("missing %v, %v", missing, err)
	}
	if r.Controller.Development || r.Anchors.Development {
		t.Error("a production release is marked as development")
	}
	for _, by := range []string{"sealing-p384", "sealing-rsa3072"} {
		for _, kind := range release.Kinds() {
			if err := r.Approve(load(by), kind); (err == nil) != ((kind == seal.RSA3072) == (by == "sealing-rsa3072")) {
				t.Errorf("%s approves %v: %v", by, kind, err)
			}
		}
	}
	if missing, err := r.Missing(); err != nil || len(missing) > 0 {
		t.Errorf("missing %v, %v", missing, err)
	}
	if err := r.Approve(releasetest.Keys(), seal.P384); err == nil {
		t.Error("a development key approved a production release")
	}

	c, err := load().Config(releasetest.Product, 1)
	must(t, err)
	b, err := load("configuration-ed25519").SignConfig(c, releasetest.Built)
	must(t, err)
	_, err = config.Verify(b, config.Want{Product: releasetest.Product, Anchors: r.Anchors})
	must(t, err)
	values, err := r.Predict(r)
	must(t, err)
	for _, kind := range release.Kinds() {
		must(t, release.Approved(r.Approvals, c.Sealing(), kind, values))
		values := values
		values.PCR2[0] ^= 1
		if err := release.Approved(r.Approvals, c.Sealing(), kind, values); !errors.Is(err, seal.ErrNotApproved) {
			t.Errorf("%v approves what was not measured: %v", kind, err)
		}
	}
	strange, err := releasetest.Keys().Config(releasetest.Product, 1)
	must(t, err)
	if err := release.Approved(r.Approvals, strange.Sealing(), seal.P384, values); !errors.Is(err, seal.ErrSignature) {
		t.Errorf("another authority's approval counts: %v", err)
	}
}

// TestAlso: a release may run under an earlier bootloader only if it was built for that.
func TestAlso(t *testing.T) {
	k := releasetest.Keys()
	old := build(t, k, releasetest.Options("1.0", 3))
	alone := build(t, k, releasetest.Options("1.1", 4))
	if _, err := alone.Predict(old); err == nil {
		t.Error("a bootloader that the release does not know is predicted")
	}
	o := releasetest.Options("1.1", 4)
	o.Also = []*release.Release{old, old}
	r := build(t, k, o)
	all, err := release.Predictions(r.Golden)
	must(t, err)
	if len(all) != 2 || len(r.Approvals) != 6 {
		t.Errorf("%d predictions, %d approvals, want 2 and 6", len(all), len(r.Approvals))
	}
	for _, under := range []*release.Release{old, r} {
		v, err := r.Predict(under)
		must(t, err)
		if !slices.ContainsFunc(all, func(p release.Prediction) bool { return p.Values == v }) {
			t.Errorf("%x is not among the predictions", v.PCR0)
		}
	}
	// Six bootloaders and two anchor blocks are twelve ways.
	other, err := release.DevelopmentKeys()
	must(t, err)
	o.Also = []*release.Release{build(t, other, releasetest.Options("0.9", 0))}
	for n := range 4 {
		o.Also = append(o.Also, build(t, k, releasetest.Options(fmt.Sprintf("0.%d", n), 0)))
	}
	if _, err := release.Build(k, o); err == nil || !strings.Contains(err.Error(), "12 ways") {
		t.Errorf("more ways than a card has approvals for: %v", err)
	}
}

func TestBuildRefuses(t *testing.T) {
	k := releasetest.Keys()
	production, err := release.NewKeys(release.ReleaseEd25519, release.ReleaseMLDSA65, release.ConfigurationEd25519, release.ConfigurationMLDSA65)
	must(t, err)
	anchors, err := production.Anchors()
	must(t, err)
	for what, change := range map[string]func(o *release.Options){
		"a controller that is linked as a bootloader": func(o *release.Options) { o.Controller = o.Bootloader },
		"development keys with a production board":    func(o *release.Options) { o.Anchors = anchors },
		"a version with a space":                      func(o *release.Options) { o.Version = "1 0" },
		"no version":                                  func(o *release.Options) { o.Version = "" },
		"a security version that is too high":         func(o *release.Options) { o.SecurityVersion = 65 },
		"no bootloader":                               func(o *release.Options) { o.Bootloader.Bytes = nil },
		"an entry outside of the program":             func(o *release.Options) { o.Controller.Entry = 0 },
	} {
		o := releasetest.Options("1.0", 3)
		change(&o)
		if _, err := release.Build(k, o); err == nil {
			t.Errorf("%s was built", what)
		}
	}
	// Another's anchor block verifies nothing that these keys have signed.
	anchors.Development = true
	o := releasetest.Options("1.0", 3)
	o.Anchors = anchors
	if _, err := release.Build(k, o); code.Of(err) != code.AuthorityUnknown {
		t.Errorf("a release under another's anchor block: %v", err)
	}
}

// TestAlgorithms: what NewKeys makes is what docs/nitroctl.md says.
func TestAlgorithms(t *testing.T) {
	k := releasetest.Keys()
	for n, bits := range map[release.Name]int{release.SealingP384: 384, release.Owner: 256, release.Factory: 256} {
		if p := k.PublicKey(n).(*ecdsa.PublicKey); p.Params().BitSize != bits {
			t.Errorf("%s has %d bits", n, p.Params().BitSize)
		}
	}
	if p := k.PublicKey(release.SealingRSA3072).(*rsa.PublicKey); p.N.BitLen() != 3072 {
		t.Errorf("RSA key of %d bits", p.N.BitLen())
	}
	c := k.FactoryCertificate()
	if err := c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature); err != nil || c.IsCA {
		t.Errorf("factory's certificate: %v, CA %v", err, c.IsCA)
	}
	if _, err := release.NewKeys("root"); err == nil {
		t.Error("a key of no name was made")
	}
}
