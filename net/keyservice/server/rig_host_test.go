//go:build !arm

package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/akcert"
	"nitro/attest/eventlog"
	"nitro/attest/evidence"
	"nitro/attest/golden"
	"nitro/attest/verify"
	"nitro/internal/provisioned"
	"nitro/net/audit/tpmkey"
	"nitro/net/keyservice"
	"nitro/nvme/key"
)

const (
	product = "imx6ul-evk"
	number  = 0xabc
	owner   = "owner.example"
	cycle   = 7 // of the host
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

// A chip measures into a TPM.
type chip struct{ *provisioned.Boot }

func (c chip) Extend(pcr int, digest eventlog.Digest) error {
	return c.T.Extend(c.S, uint(pcr), digest)
}

func d(n byte) eventlog.Digest { return sha256.Sum256([]byte{n}) }

// A ca issues certificates.
type ca struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newCA(t testing.TB) *ca {
	t.Helper()
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a CA"}, NotBefore: time.Unix(1, 0), NotAfter: akcert.Forever,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der := must(x509.CreateCertificate(rand.Reader, template, template, k.Public(), k))(t)
	return &ca{must(x509.ParseCertificate(der))(t), k}
}

func (c *ca) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(c.certificate)
	return p
}

func (c *ca) issue(t testing.TB, uri string) tls.Certificate {
	t.Helper()
	k := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotBefore: time.Unix(1, 0), NotAfter: akcert.Forever, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if uri != "" {
		template.URIs = []*url.URL{must(url.Parse(uri))(t)}
	}
	der := must(x509.CreateCertificate(rand.Reader, template, c.certificate, k.Public(), c.key))(t)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: k}
}

// A board has a TPM, a log, and keys of its boot.
type board struct {
	boot      *provisioned.Boot
	ring      *key.Ring
	source    *evidence.Source
	recipient *key.Recipient
	memory    []byte
	config    key.Config
}

// A tpmClock is the TPM's.
type tpmClock struct{ b *board }

func (c tpmClock) Clock() (uint64, error) {
	r, err := tpm2.ReadClock{}.Execute(c.b.boot.T)
	if err != nil {
		return 0, err
	}
	return r.CurrentTime.ClockInfo.Clock, nil
}

// A signer signs with the AK.
type signer struct{ *tpmkey.Key }

// A rig is a service, a control plane, and boards.
type rig struct {
	*Service
	t       *testing.T
	folder  string
	http    *httptest.Server
	tls     *ca // of the service and its clients
	issuer  *ca // of attestation keys
	grants  *ecdsa.PrivateKey
	release *golden.Release
	now     time.Time
	mu      sync.Mutex
	control *keyservice.Client
	alone   *keyservice.Client // without a certificate
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{t: t, folder: filepath.Join(t.TempDir(), "service"), tls: newCA(t), issuer: newCA(t),
		grants: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(t), now: time.Now()}
	r.release = must(golden.Build(golden.Manifest{Anchors: []golden.Anchors{{Digest: d(1)}}, Bootloaders: []golden.Component{{Digest: d(2), Version: "1", SecurityVersion: 1}},
		Controller: golden.Component{Digest: d(3), Version: "1", SecurityVersion: 1}, Authorities: []golden.Authority{{Ed25519: d(4), MLDSA65: d(5)}}}))(t)
	if err := Init(r.folder); err != nil {
		t.Fatal(err)
	}
	r.open()
	r.http = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) { r.Service.ServeHTTP(w, q) }))
	r.http.TLS = TLS(r.tls.issue(t, ""), r.tls.pool())
	r.http.StartTLS()
	t.Cleanup(r.http.Close)
	certificate := r.tls.issue(t, "spiffe://"+owner+"/storage-control-plane/one")
	r.control, r.alone = r.client(&certificate), r.client(nil)
	return r
}

func (r *rig) client(c *tls.Certificate) *keyservice.Client {
	r.t.Helper()
	client := must(keyservice.New(keyservice.Setup{URL: r.http.URL, Roots: r.tls.pool(), Certificate: c}))(r.t)
	r.t.Cleanup(client.Close)
	return client
}

// open opens the service, as after a restart.
func (r *rig) open() {
	r.t.Helper()
	if r.Service != nil {
		r.Service.Close()
	}
	r.Service = must(Open(Config{
		Folder: r.folder, Signer: r.grants, MaxLease: time.Hour, Owner: owner,
		Now:    func() time.Time { r.mu.Lock(); defer r.mu.Unlock(); return r.now },
		Policy: verify.Policy{Issuers: r.issuer.pool(), Releases: []*golden.Release{r.release}, Configurations: []eventlog.Digest{d(6)}},
	}))(r.t)
	r.t.Cleanup(func() { r.Service.Close() })
}

func (r *rig) pass(by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(by)
}

// board makes a board that boots with a configuration.
func (r *rig) board(configuration byte) *board {
	r.t.Helper()
	p := provisioned.New(r.t)
	b := &board{boot: p.Boot(r.t, nil)}
	wrapping := must(hpke.MLKEM768X25519().GenerateKey())(r.t)
	log := eventlog.New()
	events := []eventlog.Event{
		eventlog.Anchors(d(1), false), eventlog.Bootloader(d(2), "1", 1), eventlog.Board(product, number, eventlog.Closed, eventlog.OwnSecret),
		eventlog.Configuration(d(configuration), 1), eventlog.Controller(d(3), "1", 1), eventlog.Authority(d(4), d(5)), eventlog.SecurityVersion(1),
		eventlog.Cap(), eventlog.Identity(d(9), key.WrappingHash(wrapping.PublicKey())), eventlog.HostCycle(cycle, eventlog.Verified),
	}
	for _, e := range events {
		if err := log.Measure(chip{b.boot}, e); err != nil {
			r.t.Fatal(err)
		}
	}
	certificate := must(akcert.New(akcert.Request{AK: tpm2.Marshal(p.Result.AK), EKCertificate: p.Result.EKCertificate.Raw, Product: product, UniqueID: number,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: akcert.Forever}, r.issuer.certificate, r.issuer.key))(r.t)
	b.source = &evidence.Source{TPM: b.boot.T, Session: b.boot.S, AK: b.boot.AK, AKPublic: p.Result.AK, AKCertificate: certificate, Log: log}
	b.recipient = key.NewRecipient(func(hash [32]byte) error { return log.Measure(chip{b.boot}, eventlog.Recipient(hash)) })
	ak := must(tpmkey.New(b.boot.T, b.boot.S, b.boot.AK, p.Result.AK))(r.t)
	b.config = key.Config{Service: &r.grants.PublicKey, AK: p.Result.AKName, Wrapping: wrapping, Recipient: b.recipient, Clock: tpmClock{b}, Signer: signer{ak}, MaxLease: time.Hour}
	b.restart(r.t)
	return b
}

// restart makes a new ring, as after a restart with the same keys.
func (b *board) restart(t *testing.T) {
	t.Helper()
	buffer := make([]byte, key.ArenaSize(4)+key.PageSize)
	for i := range key.PageSize {
		if a, err := key.NewArena(buffer[i : i+key.ArenaSize(4)]); err == nil {
			b.config.Arena, b.memory = a, buffer[i:i+key.ArenaSize(4)]
			break
		}
	}
	b.ring = must(key.NewRing(b.config))(t)
	b.ring.Begin(cycle)
}

// prove makes request and evidence, as the board's API does.
func (b *board) prove(volume [16]byte) func(context.Context, [32]byte) ([]byte, []byte, error) {
	return func(_ context.Context, challenge [32]byte) ([]byte, []byte, error) {
		q, err := b.ring.Request(volume)
		if err != nil {
			return nil, nil, err
		}
		request := q.Encode()
		nonce := key.EvidenceNonce(challenge, request)
		text, err := b.source.Make(nonce[:])
		return request, text, err
	}
}

// lines are the log's of an event.
func (r *rig) lines(event string) (all []record) {
	r.t.Helper()
	for line := range bytes.Lines(must(os.ReadFile(filepath.Join(r.folder, logFile)))(r.t)) {
		var l record
		if err := json.Unmarshal(line, &l); err != nil {
			r.t.Fatal(err)
		}
		if l.Event == event {
			all = append(all, l)
		}
	}
	return all
}
