package provisioning

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/attest/identity"
	"nitro/attest/nv"
	"nitro/attest/seal"
	"nitro/attest/tpm"
	"nitro/boot/config"
	"nitro/boot/handover"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/pin"
	"nitro/boot/store"
	"nitro/internal/swtpm"
	"nitro/net/https"
)

const (
	product  = "imx6ul-evk"
	uniqueID = 0x0123456789abcdef
	security = 3
	patience = 5 * time.Minute
)

func digest(n int) tpm.Digest { return sha256.Sum256([]byte{byte(n)}) }

// keysOf are made once: RSA keys take their time.
var keysOf = sync.OnceValue(func() (k struct {
	p384    *ecdsa.PrivateKey
	rsa     *rsa.PrivateKey
	owner   *ecdsa.PrivateKey
	factory tls.Certificate
	other   tls.Certificate
}) {
	var errs [5]error
	k.p384, errs[0] = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	k.rsa, errs[1] = rsa.GenerateKey(rand.Reader, 3072)
	k.owner, errs[2] = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.factory, errs[3] = https.SelfSigned("factory")
	k.other, errs[4] = https.SelfSigned("factory")
	if err := errors.Join(errs[:]...); err != nil {
		panic(err)
	}
	return k
})

var manifest = golden.Manifest{
	Anchors:     []golden.Anchors{{Digest: digest(1)}},
	Bootloaders: []golden.Component{{Digest: digest(2), Version: "1.0", SecurityVersion: 1}},
	Controller:  golden.Component{Digest: digest(3), Version: "2.0", SecurityVersion: security},
	Authorities: []golden.Authority{{Ed25519: digest(4), MLDSA65: digest(5)}},
}

// A rig is a board and its factory.
type rig struct {
	tb      testing.TB
	chip    *swtpm.TPM
	card    *mediumtest.Card
	roots   *x509.CertPool
	soc     []byte
	config  *config.Config
	release *golden.Release
	power   *power
	record  *Record // what the factory's disk has

	development bool
	strength    handover.Strength
	options     func(*Options) // what is different in a test
}

// power is what card and TPM hang on: it goes after a number of events, of which each
// command of the TPM is one and each write of the card.
type power struct {
	*rig
	mu     sync.Mutex
	events int
	cutAt  int // 0 is never
	tear   int // of a write that is cut, in mediumtest.Tears; len of them is a whole write
	writes []write
	off    bool
}

// write is an event that is one, and its first block.
type write struct {
	event int
	first uint64
}

func (p *power) Send(command []byte) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return nil, swtpm.ErrPower
	}
	answer, err := p.chip.Send(command)
	p.events++
	if p.events == p.cutAt { // executed, and the answer does not come
		p.cut()
		return nil, swtpm.ErrPower
	}
	return answer, err
}

func (p *power) cut() {
	p.off = true
	p.chip.Cut()
}

func (p *power) BlockSize() int { return p.card.BlockSize() }
func (p *power) Blocks() uint64 { return p.card.Blocks() }

func (p *power) ReadBlocks(first uint64, b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return mediumtest.ErrPowerCut
	}
	return p.card.ReadBlocks(first, b)
}

// WriteBlocks is cut in the middle, torn, or behind its end.
func (p *power) WriteBlocks(first uint64, b []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.off {
		return mediumtest.ErrPowerCut
	}
	p.events++
	p.writes = append(p.writes, write{p.events, first})
	if p.events != p.cutAt {
		return p.card.WriteBlocks(first, b)
	}
	defer p.cut()
	if p.tear < len(mediumtest.Tears) {
		p.card.CutAfter(len(b)/mediumtest.SectorSize/2, mediumtest.Tears[p.tear])
	}
	return errors.Join(p.card.WriteBlocks(first, b), mediumtest.ErrPowerCut)
}

// on gives the power back; at the n-th event it goes again, tearing a write in some way.
func (p *power) on(n, tear int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.card.PowerOn()
	p.chip.Cycle()
	p.events, p.cutAt, p.tear, p.writes, p.off = 0, n, tear, nil, false
}

func newRig(tb testing.TB) *rig {
	tb.Helper()
	chip, roots := swtpm.Made(tb)
	k := keysOf()
	factory, err := x509.ParseCertificate(k.factory.Certificate[0])
	if err != nil {
		tb.Fatal(err)
	}
	release, err := golden.Build(manifest)
	if err != nil {
		tb.Fatal(err)
	}
	r := &rig{
		tb: tb, chip: chip, roots: roots, release: release, soc: bytes.Repeat([]byte{9}, 32), strength: handover.OwnSecret,
		card: mediumtest.New(medium.MinSize / mediumtest.SectorSize),
		config: &config.Config{Epoch: 5, Product: product, P384: []*ecdsa.PublicKey{&k.p384.PublicKey}, RSA3072: []*rsa.PublicKey{&k.rsa.PublicKey},
			Owner: &k.owner.PublicKey, Factory: factory},
	}
	r.power = &power{rig: r}
	return r
}

// clone is another board in the same state, as it is without power.
func (r *rig) clone() *rig {
	c := *r
	c.chip = r.chip.Clone()
	r.card.Settle()
	for _, s := range r.card.States() {
		c.card = s
		break
	}
	if r.record != nil {
		record := *r.record
		c.record = &record
	}
	c.power = &power{rig: &c}
	return &c
}

func (r *rig) approvals() (all []seal.Approval) {
	v, err := r.release.Predict(manifest.Anchors[0], manifest.Bootloaders[0], manifest.Authorities[0])
	if err != nil {
		r.tb.Fatal(err)
	}
	for kind, key := range map[seal.Kind]crypto.Signer{seal.P384: keysOf().p384, seal.RSA3072: keysOf().rsa, seal.Canary: keysOf().p384} {
		a, err := seal.Approve(key, kind, seal.Release{PCR0: v[0], PCR2: v[1], PCR7: v[2], SecurityVersion: security})
		if err != nil {
			r.tb.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

// extender measures without a session, as a board must that has no pin.
type extender struct {
	t *tpm.TPM
	s *tpm.Session
}

func (e extender) Extend(pcr int, d eventlog.Digest) error { return e.t.Extend(e.s, uint(pcr), d) }

// measure measures a boot of the release.
func (r *rig) measure(e extender, certificate tls.Certificate) (*eventlog.Log, error) {
	l := eventlog.New()
	secret := eventlog.OwnSecret
	if r.strength != handover.OwnSecret {
		secret = eventlog.SharedSecret
	}
	c, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return nil, err
	}
	for _, event := range append(r.release.Events(), eventlog.Board(product, uniqueID, eventlog.Closed, secret),
		eventlog.Configuration(digest(6), r.config.Epoch), eventlog.Slot(0, 1), eventlog.Identity(KeyDigest(c), digest(7))) {
		if err := l.Measure(e, event); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// begin is a boot up to provisioning.
func (r *rig) begin() (*Server, error) {
	certificate, err := https.SelfSigned("board")
	if err != nil {
		return nil, err
	}
	t, err := tpm.Start(r.power)
	if err != nil {
		return nil, err
	}
	l, err := r.measure(extender{t, nil}, certificate)
	if err != nil {
		return nil, err
	}
	return New(Board{TPM: t, Device: r.power, SoC: r.soc, Strength: r.strength, Development: r.development,
		Config: r.config, Log: l, Certificate: certificate, Floor: security - 1})
}

// served is what became of a server.
type served struct {
	result *Result
	err    error
}

// serve starts a server on the loopback. Its end comes on the channel.
func serve(ctx context.Context, s *Server) (address string, ended <-chan served, err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	c := make(chan served, 1)
	go func() {
		result, err := s.Serve(ctx, l)
		c <- served{result, err}
	}()
	return l.Addr().String(), c, nil
}

// factory are the options of a good run. What is kept goes to r.record.
func (r *rig) factory(address string) Options {
	o := Options{
		Address: address, Factory: keysOf().factory, Owner: keysOf().owner, Roots: r.roots, Releases: []*golden.Release{r.release},
		Approvals: r.approvals(), Product: product, Development: r.development, Record: r.record,
		Certify: func(Record) ([]byte, error) { return []byte("a certificate"), nil },
		Keep:    func(now Record) error { r.record = &now; return nil },
	}
	if r.options != nil {
		r.options(&o)
	}
	return o
}

// attempt is one boot of the board and one connection of the factory. Its errors are
// the factory's, and that of the boot if it does not come to the server.
func (r *rig) attempt() error {
	s, err := r.begin()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	address, ended, err := serve(ctx, s)
	if err != nil {
		return err
	}
	f := &factory{Options: r.factory(address), r: &Record{}}
	if f.Record != nil {
		*f.r = *f.Record
	}
	f.r.Format = format
	err = f.attempt(ctx)
	cancel()
	<-ended
	return err
}

// A running board is one that was provisioned and has booted as boards do.
type running struct {
	t     *tpm.TPM
	s     *tpm.Session
	store *store.Store
	nv    *nv.NV
}

// boot does what a boot of a provisioned board does, up to its open store.
func (r *rig) boot() (b running, err error) {
	p, envelope, err := pin.Read(r.card, r.soc)
	if err != nil {
		return b, err
	}
	if b.t, err = tpm.Start(r.chip); err != nil {
		return b, err
	}
	if err := b.t.Pin(p.Storage); err != nil {
		return b, err
	}
	ak, _, err := identity.AK(b.t, r.soc)
	if err != nil || !bytes.Equal(ak.Name.Buffer, p.AK) {
		return b, errors.Join(errors.New("AK is not the pinned one"), err)
	}
	if b.s, err = b.t.NewSession(ak); err != nil {
		return b, err
	}
	if err := b.t.ForgetPlatform(b.s); err != nil {
		return b, err
	}
	certificate, err := https.SelfSigned("board")
	if err != nil {
		return b, err
	}
	l, err := r.measure(extender{b.t, b.s}, certificate)
	if err != nil {
		return b, err
	}
	key, err := b.t.ReadPublicIn(b.s, tpm.BoardKeyHandle)
	if err != nil {
		return b, err
	}
	if name, err := tpm2.ObjectName(key); err != nil || !bytes.Equal(name.Buffer, p.BoardKey) {
		return b, errors.Join(errors.New("board key is not the pinned one"), err)
	}
	public, err := boardKey(key)
	if err != nil {
		return b, err
	}
	part, _, err := golden.OpenBoard(envelope, public)
	if err != nil {
		return b, err
	}
	if err := golden.Compare(l, r.release, part); err != nil {
		return b, err
	}
	b.nv = nv.New(b.t, b.s, r.soc)
	door := &seal.Door{T: b.t, S: b.s, AK: ak, NV: b.nv, SoC: r.soc}
	raw, _, err := medium.Pair(medium.SealedObjects).Read(r.card, rankSet)
	if err != nil {
		return b, err
	}
	set, err := seal.Decode(raw)
	if err != nil {
		return b, err
	}
	uncapped := l.Replay()[7]
	first, second, err := door.Unseal(set, r.config.Sealing())
	if err != nil {
		return b, err
	}
	if err := door.Check(set, r.config.Sealing(), uncapped); err != nil {
		return b, err
	}
	storeKey, err := seal.StoreKey(first, second, r.soc, nil)
	if err != nil {
		return b, err
	}
	b.store, err = store.Open(store.Config{Device: r.card, Place: medium.Store, Key: storeKey, Counter: freshness{b.nv}})
	return b, err
}

// checkProvisioned boots the board and looks whether all is as it must be.
func (r *rig) checkProvisioned(what string) {
	t := r.tb
	t.Helper()
	if _, err := r.begin(); err == nil {
		t.Fatalf("%s: a provisioned board offers provisioning", what)
	}
	r.chip.Cycle()
	b, err := r.boot()
	if err != nil {
		t.Fatalf("%s: the board does not boot: %v", what, err)
	}
	set, err := b.t.AuthsSet()
	if want := (tpm.AuthsSet{Owner: true, Endorsement: true, Lockout: true}); err != nil || set != want {
		t.Fatalf("%s: %+v, %v", what, set, err)
	}
	if failures, err := b.t.Property(tpm2.TPMPTLockoutCounter); failures != 0 || err != nil {
		t.Fatalf("%s: %d failures are counted, %v", what, failures, err)
	}
	if _, err := b.store.Get(lockoutRecord); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("%s: the lockout authorisation is in the store: %v", what, err)
	}
	if c, err := b.store.Get(AKCertRecord); err != nil || string(c) != "a certificate" {
		t.Fatalf("%s: the AK's certificate is %q, %v", what, c, err)
	}
	owner, err1 := b.store.Get(OwnerRecord)
	endorsement, err2 := b.store.Get(EndorsementRecord)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	for h, auth := range map[tpm2.TPMHandle][]byte{tpm2.TPMRHOwner: owner, tpm2.TPMRHEndorsement: endorsement, tpm2.TPMRHLockout: r.record.Lockout} {
		if err := b.t.SetAuth(b.s, h, auth, auth); err != nil {
			t.Fatalf("%s: the authorisation of %#x is lost: %v", what, uint32(h), err)
		}
	}
	epoch, err1 := b.nv.Epoch()
	floor, err2 := b.nv.SecurityVersion()
	if err := errors.Join(err1, err2); err != nil || epoch != r.config.Epoch || floor != security-1 {
		t.Fatalf("%s: epoch %d, floor %d, %v", what, epoch, floor, err)
	}
	r.chip.Cycle()
}
