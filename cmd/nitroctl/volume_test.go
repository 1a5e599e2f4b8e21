package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/akcert"
	"nitro/attest/identity"
	"nitro/attest/sanitisation"
	"nitro/net/audit"
	"nitro/net/https"
	"nitro/net/keyservice"
	"nitro/net/keyservice/kms"
	"nitro/net/policy"
	"nitro/net/redfish"
	"nitro/nvme/key"
	"nitro/qemu-test/factory"
)

// A volumeBoard is a board's API with volumes, with real keys and an attestation key in
// memory. It holds nothing of their data.
type volumeBoard struct {
	ring      *key.Ring
	recipient *key.Recipient
	ak        *ecdsa.PrivateKey
	public    []byte // TPMT_PUBLIC
	name      []byte // TPM name
	vols      []redfish.VolumeState
	full      bool
	forge     func(*sanitisation.Statement)
	clients   *factory.Clients
	issuer    []byte // of the attestation key's certificate, DER
	cert      []byte
}

// Sign signs a text as the attestation key does.
func (b *volumeBoard) Sign(text []byte) ([]byte, error) {
	d := sha256.Sum256(text)
	return ecdsa.SignASN1(rand.Reader, b.ak, d[:])
}

// Clock implements key.Clock.
func (b *volumeBoard) Clock() (uint64, error) { return 1_000_000, nil }

func (b *volumeBoard) Host() redfish.HostState             { return redfish.HostState{Powered: true, Cycle: 1} }
func (b *volumeBoard) Reset(context.Context, string) error { return nil }

func (b *volumeBoard) Storage() redfish.StorageState {
	return redfish.StorageState{CapacityBytes: 1 << 30}
}
func (b *volumeBoard) Volumes() []redfish.VolumeState       { return b.vols }
func (b *volumeBoard) ErasedByHost(redfish.VolumeID) []byte { return nil }
func (b *volumeBoard) Create(_ context.Context, v redfish.VolumeSpec) error {
	if b.full {
		e := redfish.Refuse(http.StatusInsufficientStorage, "ResourceExhaustion", "pool")
		e.Next = "Delete\x1b[2J volumes."
		return e
	}
	b.vols = append(b.vols, redfish.VolumeState{VolumeSpec: v})
	return nil
}
func (b *volumeBoard) volume(id redfish.VolumeID) *redfish.VolumeState {
	for i := range b.vols {
		if b.vols[i].ID == id {
			return &b.vols[i]
		}
	}
	panic("the engine asks for what is not there")
}
func (b *volumeBoard) Delete(_ context.Context, id redfish.VolumeID) error {
	for i := range b.vols {
		if b.vols[i].ID == id {
			b.vols = append(b.vols[:i:i], b.vols[i+1:]...)
			break
		}
	}
	return nil
}
func (b *volumeBoard) Request(_ context.Context, id redfish.VolumeID, challenge [redfish.ChallengeSize]byte) ([]byte, []byte, error) {
	q, err := b.ring.Request(id)
	if err != nil {
		return nil, nil, err
	}
	request := q.Encode()
	return request, fmt.Appendf(nil, `{"nonce":"%x"}`, key.EvidenceNonce(challenge, request)), nil
}
func (b *volumeBoard) Attach(_ context.Context, id redfish.VolumeID, form string, grant, wrapped []byte) ([]byte, error) {
	v := b.volume(id)
	l, confirmation, err := b.ring.Accept(grant, wrapped, key.Volume{ID: id, Commitment: v.Commitment, Salt: make([]byte, 32)})
	if err != nil {
		e := redfish.Refuse(http.StatusForbidden, "GeneralError")
		e.Next = err.Error()
		return nil, e
	}
	v.Attached, v.Namespace, v.Standing = true, 1, l != nil
	v.Left = time.Duration(l.Term().Expires-1_000_000) * time.Millisecond
	return confirmation, nil
}
func (b *volumeBoard) Detach(_ context.Context, id redfish.VolumeID) error {
	v := b.volume(id)
	v.Attached, v.Namespace = false, 0
	return b.ring.Detach(id)
}
func (b *volumeBoard) Erase(_ context.Context, id redfish.VolumeID, who string) ([]byte, error) {
	v := b.volume(id)
	s := sanitisation.Statement{Product: "imx6ul-evk", UniqueID: "0000000000000abc", AKName: hex.EncodeToString(b.name), MediumType: "SD card", MediumModel: "-", MediumSerial: "-",
		Volume: id.String(), Name: v.Name, Kind: v.Kind, Bytes: v.Capacity, Commitment: hex.EncodeToString(v.Commitment[:]), MethodType: "Purge", MethodUsed: "Cryptographic Erase",
		MethodDetails: "d", VerificationMethod: "v", Tool: "test", ToolVersion: "1", Time: sanitisation.When(time.Now()), RequestedBy: who}
	if b.forge != nil {
		b.forge(&s)
	}
	return sanitisation.Make(s, b, b.public, b.cert)
}
func (b *volumeBoard) ErasePool(context.Context, string) ([][]byte, error) { return nil, nil }

// A mute records nothing.
type mute struct{}

func (mute) Begin(audit.Entry, bool) (*audit.Token, error) {
	return audit.NewToken(func(audit.Outcome) error { return nil }), nil
}
func (mute) Deny(audit.Entry) error      { return nil }
func (mute) Count(func(*audit.Counters)) {}

// A keyHolder is a key service that judges nothing but that evidence answers a challenge.
type keyHolder struct {
	mu        sync.Mutex
	signer    *ecdsa.PrivateKey
	board     *volumeBoard
	keys      map[string][]byte
	challenge [key.ChallengeSize]byte
	grants    map[string]bool // waits for its confirmation
	confirmed int
	other     bool // wraps another key than it committed to
	access    kms.Access
	decrypted int
}

func (k *keyHolder) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	k.mu.Lock()
	defer k.mu.Unlock()
	refuse := func(status int, code keyservice.Code) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(keyservice.ErrorAnswer{Error: keyservice.Error{Code: code, Message: "it is so", Next: "Do something else."}})
	}
	answer := func(status int, v any) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	var grant keyservice.GrantBody
	var ask keyservice.KeyBody
	var confirmation keyservice.ConfirmationBody
	switch path := r.Method + " " + r.URL.Path; {
	case path == "POST "+keyservice.PathChallenges:
		rand.Read(k.challenge[:])
		answer(201, keyservice.ChallengeAnswer{Challenge: k.challenge[:]})
	case path == "POST "+keyservice.PathKeys && json.NewDecoder(r.Body).Decode(&ask) == nil:
		if k.keys[ask.Volume] != nil {
			refuse(409, keyservice.Exists)
			return
		}
		secret := make([]byte, key.Size)
		rand.Read(secret)
		k.keys[ask.Volume] = secret
		answer(201, keyservice.KeyAnswer{Volume: ask.Volume, Commitment: key.Commitment(secret)})
	case path == "POST "+keyservice.PathGrants && json.NewDecoder(r.Body).Decode(&grant) == nil:
		q, err := key.ParseRequest(grant.Request)
		var evidence struct{ Nonce string }
		nonce := key.EvidenceNonce(k.challenge, grant.Request)
		if err != nil || json.Unmarshal(grant.Evidence, &evidence) != nil || evidence.Nonce != hex.EncodeToString(nonce[:]) {
			refuse(403, keyservice.BadEvidence)
			return
		}
		secret := k.keys[grant.Volume]
		if k.other {
			secret = append([]byte{secret[0] ^ 1}, secret[1:]...)
		}
		board, _ := hpke.MLKEM768X25519().NewPublicKey(q.Wrapping)
		g := key.Grant{Standing: grant.Standing, Volume: q.Volume, Commitment: key.Commitment(k.keys[grant.Volume]), AK: [key.NameSize]byte(k.board.name),
			Wrapping: key.WrappingHash(board), Nonce: q.Nonce, Cycle: q.Cycle, Expires: q.Clock + grant.Lease*1000}
		if grant.Form == keyservice.CMS {
			g.CMS = true
			g.Wrapping, _ = k.board.recipient.Made()
		}
		signed, _ := g.Sign(k.signer)
		if g.CMS {
			k.grants[string(signed)] = true
			answer(201, keyservice.GrantAnswer{Grant: signed, Ciphertext: kms.Reference{Volume: g.Volume, Commitment: g.Commitment}.Encode()})
			return
		}
		wrapped, _ := key.Wrap(board, signed, secret)
		k.grants[string(signed)] = true
		answer(201, keyservice.GrantAnswer{Grant: signed, Wrapped: wrapped})
	case path == "POST "+keyservice.PathConfirmations && json.NewDecoder(r.Body).Decode(&confirmation) == nil:
		_, err := key.OpenConfirmation(confirmation.Confirmation, confirmation.Grant, func(d [32]byte, sig []byte) error {
			if !ecdsa.VerifyASN1(&k.board.ak.PublicKey, d[:], sig) {
				return fmt.Errorf("not the board's")
			}
			return nil
		})
		if err != nil || !k.grants[string(confirmation.Grant)] {
			refuse(403, keyservice.BadConfirmation)
			return
		}
		k.confirmed++
		answer(200, struct{}{})
	case path == "POST /":
		k.decrypt(w, r)
	case r.Method == "DELETE":
		id := strings.TrimPrefix(r.URL.Path, keyservice.PathKeys+"/")
		if k.keys[id] == nil {
			refuse(404, keyservice.NoKey)
			return
		}
		delete(k.keys, id)
		w.WriteHeader(204)
	default:
		refuse(400, keyservice.Malformed)
	}
}

// newVolumeBoard makes a board whose owner has certified its attestation key.
func newVolumeBoard(t *testing.T, service *ecdsa.PublicKey) *volumeBoard {
	t.Helper()
	b := &volumeBoard{}
	var err error
	b.ak, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	point, err := b.ak.PublicKey.Bytes()
	must(t, err)
	ak := identity.AKTemplate()
	ak.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
	name, err := tpm2.ObjectName(&ak)
	must(t, err)
	b.public, b.name = tpm2.Marshal(ak), name.Buffer
	owner, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "the owner"}, NotBefore: time.Unix(1, 0), NotAfter: akcert.Forever,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	b.issuer, err = x509.CreateCertificate(rand.Reader, template, template, owner.Public(), owner)
	must(t, err)
	ca, err := x509.ParseCertificate(b.issuer)
	must(t, err)
	b.cert, err = akcert.New(akcert.Request{AK: b.public, EKCertificate: b.issuer, Product: "imx6ul-evk", UniqueID: 0xabc, NotBefore: time.Unix(1, 0), NotAfter: akcert.Forever}, ca, owner)
	must(t, err)
	wrapping, err := hpke.MLKEM768X25519().GenerateKey()
	must(t, err)
	b.recipient = key.NewRecipient(func([32]byte) error { return nil })
	var arena *key.Arena
	memory := make([]byte, key.ArenaSize(2)+key.PageSize)
	for i := 0; i < key.PageSize && arena == nil; i++ {
		arena, _ = key.NewArena(memory[i : i+key.ArenaSize(2)])
	}
	b.ring, err = key.NewRing(key.Config{Arena: arena, Service: service, AK: b.name, Wrapping: wrapping, Recipient: b.recipient, Clock: b, Signer: b, MaxLease: 24 * time.Hour})
	must(t, err)
	b.ring.Begin(1)
	return b
}

// serve serves the board's API, and gives its address and the SHA-256 of its key.
func (b *volumeBoard) serve(t *testing.T) (address, pin string) {
	t.Helper()
	var err error
	b.clients, err = factory.NewClients()
	must(t, err)
	set, err := policy.Compile(&policy.Payload{Epoch: 1, Policies: policy.Default, Issuers: []policy.Issuer{b.clients.Issuer()}}, "board-1")
	must(t, err)
	gate := &redfish.Gatekeeper{Policy: func() *policy.Set { return set }, Mode: func() policy.Mode { return policy.Mode{ClockKnown: true} }, Audit: mute{}}
	service := redfish.New(redfish.Config{UUID: "8f4f0c1e-9d2b-5e0a-8c55-2f6f2f0a1b2c", Product: "b", Gate: gate, Host: b, Storage: b})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	own := selfSigned(t)
	id := &https.Identity{Certificate: own, CAs: []*x509.Certificate{b.clients.CA}}
	go https.Serve(l, https.Config{Identity: func() *https.Identity { return id }, Routes: []https.Route{
		{Pattern: "/redfish/", Handler: service, Body: redfish.MaxBody}, {Pattern: documentPath, Handler: http.HandlerFunc(b.document), Body: redfish.MaxBody},
	}})
	return l.Addr().String(), hexOf(sha256.Sum256(own.Leaf.RawSubjectPublicKeyInfo))
}

// A volumeBench is board, key service, and the flags that lead to both.
type volumeBench struct {
	*bench
	board          *volumeBoard
	holder         *keyHolder
	flags, service string
}

func newVolumeBench(t *testing.T) *volumeBench {
	t.Helper()
	b := &volumeBench{bench: newBench(t)}
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	b.board = newVolumeBoard(t, &signer.PublicKey)
	b.holder = &keyHolder{signer: signer, board: b.board, keys: map[string][]byte{}, grants: map[string]bool{}}
	s := httptest.NewUnstartedServer(b.holder)
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	s.StartTLS()
	t.Cleanup(s.Close)
	must(t, os.WriteFile(b.path("keys.pem"), encodePEM("CERTIFICATE", s.Certificate().Raw), 0o644))
	address, pin := b.board.serve(t)
	for _, role := range []policy.Role{policy.StorageControlPlane, policy.Operator} {
		pair, err := b.board.clients.Certificate(role, "x")
		must(t, err)
		der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
		must(t, err)
		must(t, os.WriteFile(b.path(string(role)+".pem"), encodePEM("CERTIFICATE", pair.Certificate[0]), 0o644))
		must(t, os.WriteFile(b.path(string(role)+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	}
	must(t, os.WriteFile(b.path("issuer.pem"), encodePEM("CERTIFICATE", b.board.issuer), 0o644))
	b.flags = " -board " + address + " -pin " + pin + " -cert @storage-control-plane.pem -key @storage-control-plane.key"
	b.service = " -keyservice " + s.URL + " -keyservice-ca @keys.pem"
	return b
}

// TestVolume goes a volume's whole way.
func TestVolume(t *testing.T) {
	b := newVolumeBench(t)
	var v volumeResult
	b.json("volume create"+b.flags+b.service+" -name data -size 1MiB", exitOK, &v)
	if v.Name != "data" || v.Size != 1<<20 || v.Attached || len(v.Volume) != 32 || v.Commitment != hexOf(key.Commitment(b.holder.keys[v.Volume])) || !v.Connection.Verified {
		t.Errorf("create: %+v", v)
	}
	id := v.Volume
	b.json("volume attach"+b.flags+b.service+" -lease 90s -standing data", exitOK, &v)
	if !v.Attached || v.LeaseSeconds != 90 || !v.Standing || v.Namespace != "0x1" || b.holder.confirmed != 1 {
		t.Errorf("attach: %+v, %d confirmed", v, b.holder.confirmed)
	}
	_, _, said := b.run("volume attach" + b.flags + b.service + " " + id)
	for _, step := range []string{"1/4", "2/4", "3/4", "4/4"} {
		if !strings.Contains(said, step) {
			t.Errorf("on the way it did not say %s:\n%s", step, said)
		}
	}
	var list volumesInfo
	b.json("volume list"+b.flags, exitOK, &list)
	if len(list.Volumes) != 1 || list.Volumes[0].Volume != id || list.Volumes[0].LeaseSeconds != 3600 {
		t.Errorf("list: %+v", list)
	}
	if out := b.ok("volume list" + b.flags); !strings.Contains(out, id+"  data  Pool  1048576") || !strings.Contains(out, "namespace 0x1") {
		t.Errorf("people see\n%s", out)
	}
	b.json("volume detach"+b.flags+" data", exitOK, &v)
	if v.Attached {
		t.Errorf("detach: %+v", v)
	}
	var e erasedInfo
	b.json("volume erase"+b.flags+" -issuer @issuer.pem -out @data.json data", exitOK, &e)
	if e.Volume != id || e.MethodType != "Purge" || e.By != "spiffe://"+factory.Owner+"/storage-control-plane/x" {
		t.Errorf("erase: %+v", e)
	}
	kept, err := os.ReadFile(b.path("data.json"))
	must(t, err)
	if s, err := sanitisation.Verify(kept, sanitisation.Trust{Names: [][]byte{b.board.name}}); err != nil || s.Volume != id {
		t.Errorf("%+v, %v", s, err)
	}
	var d deletedInfo
	b.json("volume delete"+b.flags+b.service+" data", exitOK, &d)
	if !d.KeyDeleted || len(b.board.vols)+len(b.holder.keys) != 0 {
		t.Errorf("delete: %+v, %d volumes, %d keys", d, len(b.board.vols), len(b.holder.keys))
	}
}

// TestVolumeRefused: what goes wrong on the way says what to do, and nothing is half done.
func TestVolumeRefused(t *testing.T) {
	b := newVolumeBench(t)
	refused := func(line string, exit int, says ...string) {
		t.Helper()
		got, out, errs := b.run(line)
		for _, s := range says {
			if got != exit || !strings.Contains(errs, s) || strings.Contains(out+errs, "\x1b") {
				t.Errorf("nitroctl %s: exit code %d, want %d and %q:\n%q", line, got, exit, s, errs)
			}
		}
	}
	create := "volume create" + b.flags + b.service + " -name data -size 1MiB"
	b.board.full = true
	refused(create, exitRefused, "HTTP 507, ResourceExhaustion", "next: Delete [2J volumes.")
	if len(b.holder.keys) != 0 {
		t.Error("the key of a volume that was not made stays")
	}
	b.board.full = false
	const id = "000102030405060708090a0b0c0d0e0f"
	b.done(create + " -identity " + id)
	refused(create+" -identity "+id, exitRefused, "key service refuses (exists)", "next: Do something else.")
	refused(strings.Replace(create, "storage-control-plane.", "operator.", 2), exitRefused, "InsufficientPrivilege", "policy why")

	b.holder.other = true
	refused("volume attach"+b.flags+b.service+" data", exitRefused, "not the one that the volume was made with")
	if b.holder.other = false; b.holder.confirmed != 0 {
		t.Error("confirmed")
	}
	refused("volume attach"+b.flags+b.service+" -lease 48h data", exitRefused, "longer than allowed")
	refused("volume attach"+b.flags+b.service+" other", exitRefused, "has no volume other", "volume list")
	refused("volume attach"+b.flags+" data", exitUsage, "-keyservice and -keyservice-ca")
	refused("volume attach"+b.flags+b.service+" -lease 500ms data", exitUsage, "whole seconds")
	refused("volume create"+b.flags+b.service+" -name data -size 1MiB -identity 00", exitUsage, "32 hexadecimal digits")
	refused("volume list -board x -cert a -key b", exitUsage, "-pin is missing")

	erase := "volume erase" + b.flags + " data -out @c.json "
	refused(erase, exitUsage, "-issuer or -ak-name")
	refused("volume erase"+b.flags+" data -out @issuer.pem -issuer @issuer.pem", exitIO, "nothing is overwritten")
	refused(erase+"-ak-name "+strings.Repeat("00", 34), exitRefused, "nobody vouches", "next: The board says that the volume is erased, but")
	for name, forge := range map[string]func(*sanitisation.Statement){
		"another volume's":     func(s *sanitisation.Statement) { s.Volume = strings.Repeat("ff", 16) },
		"another commitment's": func(s *sanitisation.Statement) { s.Commitment = strings.Repeat("ff", 32) },
		"another board's":      func(s *sanitisation.Statement) { s.UniqueID = "0000000000000abd" },
	} {
		b.board.forge = forge
		refused(erase+"-issuer @issuer.pem", exitRefused, "not proved")
		if _, err := os.Stat(b.path("c.json")); err == nil {
			t.Fatalf("%s certificate was kept", name)
		}
	}
	b.board.forge = nil
	b.done("volume delete" + b.flags + " data")
	if len(b.holder.keys) != 1 {
		t.Error("a key was deleted without being asked for")
	}
	refused("volume delete"+b.flags+b.service+" data", exitRefused, "has no volume data")
	var d deletedInfo
	b.json("volume delete"+b.flags+b.service+" "+id, exitOK, &d) // once more, for the key
	if !d.KeyDeleted {
		t.Errorf("%+v", d)
	}
}

// done runs what must go well, and may say something on the way.
func (b *volumeBench) done(line string) {
	b.Helper()
	if exit, _, errs := b.run(line); exit != exitOK {
		b.Fatalf("nitroctl %s: exit code %d\n%s", line, exit, errs)
	}
}
