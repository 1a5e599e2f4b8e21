package verify

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/akcert"
	"nitro/attest/eventlog"
	"nitro/attest/evidence"
	"nitro/attest/golden"
	"nitro/attest/identity"
	"nitro/attest/tpm"
)

// A soft board has keys in memory in the place of a TPM, so that tests can have it sign
// what no TPM would, and run where there is none. real_host_test.go has one with a TPM.
type soft struct {
	key            *ecdsa.PrivateKey
	public, name   []byte
	storage        []byte // name of the storage primary
	ek             *rsa.PrivateKey
	ekName         []byte
	ekChain        [][]byte
	certificate    []byte
	makers         *x509.CertPool
	issuers        *x509.CertPool
	owner          *ecdsa.PrivateKey
	ownerCA        *x509.Certificate
	makerCA, subCA *x509.Certificate
	subKey         *ecdsa.PrivateKey
}

const (
	product = "imx6ul-evk"
	number  = 0xabc
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// ca makes a CA, by itself or by another.
func ca(t testing.TB, name string, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Unix(1, 0), NotAfter: akcert.Forever,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if parent == nil {
		parent, by = template, key
	}
	der := must(x509.CreateCertificate(rand.Reader, template, parent, key.Public(), by))(t)
	return must(x509.ParseCertificate(der))(t), key
}

func pool(c *x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c)
	return p
}

// ekKey is made once: it takes long.
var ekKey = sync.OnceValue(func() *rsa.PrivateKey {
	k, _ := rsa.GenerateKey(rand.Reader, 2048)
	return k
})

func newSoft(t testing.TB) *soft {
	t.Helper()
	b := &soft{key: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t), ek: ekKey()}
	point := must(b.key.PublicKey.Bytes())(t)
	ak := identity.AKTemplate()
	ak.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
	b.public = tpm2.Marshal(ak)
	b.name = must(tpm2.ObjectName(&ak))(t).Buffer
	b.storage = append([]byte{0, 11}, make([]byte, 32)...)
	ek := identity.EKTemplate
	ek.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: b.ek.N.Bytes()})
	b.ekName = must(tpm2.ObjectName(&ek))(t).Buffer

	maker, makerKey := ca(t, "a maker of TPMs", nil, nil)
	sub, subKey := ca(t, "one of its factories", maker, makerKey)
	b.makers, b.makerCA, b.subCA, b.subKey = pool(maker), maker, sub, subKey
	b.ekChain = b.endorse(t, akcert.Forever)

	b.ownerCA, b.owner = ca(t, "the owner", nil, nil)
	b.issuers = pool(b.ownerCA)
	b.certificate = must(akcert.New(b.request(), b.ownerCA, b.owner))(t)
	return b
}

// endorse has the maker certify the endorsement key.
func (b *soft) endorse(t testing.TB, until time.Time) [][]byte {
	t.Helper()
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Unix(1, 0), NotAfter: until, KeyUsage: x509.KeyUsageKeyEncipherment}
	return [][]byte{must(x509.CreateCertificate(rand.Reader, leaf, b.subCA, b.ek.Public(), b.subKey))(t), b.subCA.Raw}
}

func (b *soft) request() akcert.Request {
	return akcert.Request{AK: b.public, EKCertificate: b.ekChain[0], Product: product, UniqueID: number, NotBefore: time.Unix(1, 0), NotAfter: akcert.Forever}
}

func d(n byte) eventlog.Digest { return sha256.Sum256([]byte{n}) }

func component(n byte, version string, security uint32) golden.Component {
	return golden.Component{Digest: d(n), Version: version, SecurityVersion: security}
}

// release is one that boot runs.
func release(t testing.TB, controller golden.Component) *golden.Release {
	t.Helper()
	return must(golden.Build(golden.Manifest{
		Anchors:     []golden.Anchors{{Digest: d(1)}, {Digest: d(2), Development: true}},
		Bootloaders: []golden.Component{component(3, "1.0", 1), component(4, "1.1", 2)},
		Controller:  controller,
		Authorities: []golden.Authority{{Ed25519: d(6), MLDSA65: d(7)}},
	}))(t)
}

var (
	newController = component(5, "2.0", 7)
	oldController = component(9, "1.9", 6)

	tls, wrap = d(20), d(21)
	boardOf   = eventlog.Board(product, number, eventlog.Closed, eventlog.OwnSecret)
)

// boot is what a boot measures.
func boot(controller golden.Component) []eventlog.Event {
	return []eventlog.Event{
		eventlog.Anchors(d(1), false), eventlog.Bootloader(d(4), "1.1", 2), boardOf, eventlog.Configuration(d(50), 3),
		eventlog.Controller(controller.Digest, controller.Version, controller.SecurityVersion), eventlog.Authority(d(6), d(7)),
		eventlog.SecurityVersion(controller.SecurityVersion), eventlog.Slot(0, 3), eventlog.Cap(), eventlog.Identity(tls, wrap),
	}
}

func logOf(t testing.TB, events []eventlog.Event) *eventlog.Log {
	t.Helper()
	l := eventlog.New()
	for _, e := range events {
		if err := l.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

// with replaces the event of a name.
func with(events []eventlog.Event, e eventlog.Event) []eventlog.Event {
	events = slices.Clone(events)
	for i := range events {
		if events[i].Name() == e.Name() {
			events[i] = e
		}
	}
	return events
}

// without leaves the events of a name out.
func without(events []eventlog.Event, name string) []eventlog.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e eventlog.Event) bool { return e.Name() == name })
}

func all() (pcrs []uint) {
	for i := range uint(evidence.PCRs) {
		pcrs = append(pcrs, i)
	}
	return pcrs
}

// attest is what a TPM with these PCRs says when asked for a quote.
func (b *soft) attest(pcrs [evidence.PCRs]eventlog.Digest, nonce []byte, selection ...uint) *tpm2.TPMSAttest {
	h := sha256.New()
	for _, i := range selection {
		h.Write(pcrs[i][:])
	}
	return &tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote, QualifiedSigner: tpm2.TPM2BName{Buffer: qualified(b.storage, b.name)},
		ExtraData: tpm2.TPM2BData{Buffer: nonce}, ClockInfo: tpm2.TPMSClockInfo{Clock: 1234, ResetCount: 5, Safe: true}, FirmwareVersion: 99,
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: tpm.PCRSelection(selection...), PCRDigest: tpm2.TPM2BDigest{Buffer: h.Sum(nil)},
		}),
	}
}

// sign puts a quote into evidence.
func (b *soft) sign(t testing.TB, e *evidence.Evidence, attest *tpm2.TPMSAttest) {
	t.Helper()
	e.Quote = tpm2.Marshal(attest)
	b.signRaw(t, e)
}

func (b *soft) signRaw(t testing.TB, e *evidence.Evidence) {
	t.Helper()
	digest := sha256.Sum256(e.Quote)
	var n struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(must(ecdsa.SignASN1(rand.Reader, b.key, digest[:]))(t), &n); err != nil {
		t.Fatal(err)
	}
	e.Signature = tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: n.R.FillBytes(make([]byte, 32))}, SignatureS: tpm2.TPM2BECCParameter{Buffer: n.S.FillBytes(make([]byte, 32))}})})
}

var nonceOf = []byte("a nonce of 32 random bytes, or so")

// evidence is that of a boot with these events.
func (b *soft) evidence(t testing.TB, events []eventlog.Event) *evidence.Evidence {
	t.Helper()
	log := logOf(t, events)
	e := &evidence.Evidence{
		Nonce: nonceOf, EventLog: log.Bytes(), AKPublic: b.public, AKName: b.name, AKCertificate: b.certificate, EKCertificates: b.ekChain,
		Board: product, TLSKey: tls, WrapKey: wrap, NotChecked: append(evidence.Limits(log), "the clock: it was not set yet"),
	}
	if c, err := evidence.ClaimsOf(log); err == nil {
		e.Board, e.Development, e.TLSKey, e.WrapKey = c.Board, c.Development, c.TLSKey, c.WrapKey
	}
	replayed := log.Replay()
	copy(e.PCRs[:], replayed[:])
	b.sign(t, e, b.attest(e.PCRs, nonceOf, all()...))
	return e
}

// boardPart is that of the known-good set.
func (b *soft) boardPart() *golden.Board {
	return &golden.Board{Board: product, StorageName: b.storage, AKName: b.name, EKName: b.ekName, UniqueID: number,
		PCR1: eventlog.Extend(eventlog.Digest{}, boardOf.Digest()), Events: []eventlog.Event{boardOf}}
}

// policy wants everything.
func (b *soft) policy(t testing.TB) Policy {
	return Policy{
		Nonce: nonceOf, Issuers: b.issuers, Names: [][]byte{{1}, b.name}, Board: b.boardPart(), Makers: b.makers,
		Releases: []*golden.Release{release(t, oldController), release(t, newController)}, SecurityVersion: 7,
		Configurations: []eventlog.Digest{d(50), d(51)}, TLSKey: &tls, WrapKey: &wrap,
	}
}

func encode(t testing.TB, e *evidence.Evidence) []byte {
	t.Helper()
	return must(e.Encode())(t)
}
