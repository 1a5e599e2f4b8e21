//go:build !arm

package qemutest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"nitro/attest/akcert"
	"nitro/attest/evidence"
	"nitro/attest/golden"
	"nitro/attest/sanitisation"
	"nitro/attest/verify"
	"nitro/net/keyservice"
	"nitro/net/policy"
	"nitro/nvme/key"
)

// A smallKeyService gives keys to boards of one release of the factory, and keeps
// everything in memory.
type smallKeyService struct {
	signer *ecdsa.PrivateKey
	policy verify.Policy // but for nonce and wrapping key

	mu        sync.Mutex
	challenge [key.ChallengeSize]byte
	keys      map[string][]byte
	ak        *ecdsa.PublicKey // of the board that the last grant was for
	confirmed int
	refused   error // why the last grant or confirmation was refused
}

// grant answers a request with the key, if the board's evidence is accepted.
func (s *smallKeyService) grant(b keyservice.GrantBody) (a keyservice.GrantAnswer, err error) {
	q, err := key.ParseRequest(b.Request)
	if err != nil {
		return a, err
	}
	p, nonce := s.policy, key.EvidenceNonce(s.challenge, b.Request)
	p.Nonce = nonce[:]
	r, err := verify.Evidence(b.Evidence, p)
	if err != nil {
		return a, err
	}
	board, err := q.WrappingKey(r.Facts.WrapKey)
	if err != nil {
		return a, err
	}
	e, err := evidence.Decode(b.Evidence)
	if err != nil {
		return a, err
	}
	if s.ak, _, err = akcert.CheckKey(e.AKPublic); err != nil {
		return a, err
	}
	g := key.Grant{Standing: b.Standing, Volume: q.Volume, Commitment: key.Commitment(s.keys[b.Volume]), AK: [key.NameSize]byte(r.Facts.AKName),
		Wrapping: r.Facts.WrapKey, Nonce: q.Nonce, Cycle: q.Cycle, Expires: q.Clock + 1000*b.Lease}
	if a.Grant, err = g.Sign(s.signer); err == nil {
		a.Wrapped, err = key.Wrap(board, a.Grant, s.keys[b.Volume])
	}
	return a, err
}

func (s *smallKeyService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	answer := func(status int, v any) {
		w.WriteHeader(status)
		json.NewEncoder(w).Encode(v)
	}
	var ask keyservice.KeyBody
	var grant keyservice.GrantBody
	var confirmation keyservice.ConfirmationBody
	switch path := r.Method + " " + r.URL.Path; {
	case path == "POST "+keyservice.PathChallenges:
		rand.Read(s.challenge[:])
		answer(201, keyservice.ChallengeAnswer{Challenge: s.challenge[:]})
	case path == "POST "+keyservice.PathKeys && json.NewDecoder(r.Body).Decode(&ask) == nil:
		s.keys[ask.Volume] = make([]byte, key.Size)
		rand.Read(s.keys[ask.Volume])
		answer(201, keyservice.KeyAnswer{Volume: ask.Volume, Commitment: key.Commitment(s.keys[ask.Volume])})
	case path == "POST "+keyservice.PathGrants && json.NewDecoder(r.Body).Decode(&grant) == nil:
		var a keyservice.GrantAnswer
		if a, s.refused = s.grant(grant); s.refused != nil {
			answer(403, keyservice.ErrorAnswer{Error: keyservice.Error{Code: keyservice.BadEvidence, Message: "refused", Next: "-"}})
			return
		}
		answer(201, a)
	case path == "POST "+keyservice.PathConfirmations && json.NewDecoder(r.Body).Decode(&confirmation) == nil:
		_, s.refused = key.OpenConfirmation(confirmation.Confirmation, confirmation.Grant, func(d [32]byte, signature []byte) error {
			if !ecdsa.VerifyASN1(s.ak, d[:], signature) {
				return errors.New("not the board's")
			}
			return nil
		})
		if s.refused != nil {
			answer(403, keyservice.ErrorAnswer{Error: keyservice.Error{Code: keyservice.BadConfirmation, Message: "refused", Next: "-"}})
			return
		}
		s.confirmed++
		answer(200, struct{}{})
	case r.Method == "DELETE":
		delete(s.keys, strings.TrimPrefix(r.URL.Path, keyservice.PathKeys+"/"))
		w.WriteHeader(204)
	default:
		w.WriteHeader(400)
	}
}

// writePEM writes files in PEM.
func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// TestVolumesByTool: nitroctl creates, attaches, lists, detaches, erases and deletes a
// volume of a board that guards a host, whose key comes from a key service that judges the
// board's evidence; each is in the audit log, and the wrong role is refused.
func TestVolumesByTool(t *testing.T) {
	b := newGuarded(t)
	b.on(nil)
	b.says(`(?s)controller: (host: cycle 2: running\r\n.*controller: ready|ready\r\n.*controller: host: cycle 2: running)`)
	tool := newTool(b)
	issuer, _, err := b.factory.Keys.Issuer()
	must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(issuer)
	service := &smallKeyService{signer: b.factory.KeyService, keys: map[string][]byte{},
		policy: verify.Policy{Issuers: roots, Releases: []*golden.Release{b.release.Golden}, Development: true, OpenLifeCycle: true, WeakSecret: true}}
	s := httptest.NewUnstartedServer(service)
	s.TLS = &tls.Config{MinVersion: tls.VersionTLS13}
	s.StartTLS()
	t.Cleanup(s.Close)
	writePEM(t, filepath.Join(tool.folder, "keys.pem"), "CERTIFICATE", s.Certificate().Raw)
	writePEM(t, filepath.Join(tool.folder, "issuer.pem"), "CERTIFICATE", issuer.Raw)
	pair, err := b.factory.Clients.Certificate(policy.StorageControlPlane, "tool")
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	must(t, err)
	writePEM(t, filepath.Join(tool.folder, "storage.pem"), "CERTIFICATE", pair.Certificate[0])
	writePEM(t, filepath.Join(tool.folder, "storage.key"), "PRIVATE KEY", der)

	address, err := b.Address(443)
	must(t, err)
	var verdict struct {
		Facts struct {
			TLSKey string `json:"tls_key"`
			AKName string `json:"ak_name"`
		}
	}
	tool.run(&verdict, "attest verify -release release -issuer issuer.pem -accept-development -accept-open-life-cycle -accept-weak-secret", "-board", address)
	volume := func(result any, line string) {
		t.Helper()
		tool.run(result, "volume "+line+" -cert storage.pem -key storage.key", "-board", address, "-pin", verdict.Facts.TLSKey)
	}
	keys := " -keyservice " + s.URL + " -keyservice-ca keys.pem"
	type state struct {
		Volume, Name, Kind, Commitment string
		Size                           uint64
		Attached                       bool
		LeaseSeconds                   int64 `json:"lease_seconds"`
	}
	var v state
	for _, kind := range []string{"Pool", "RAM"} {
		volume(&v, "create -name "+strings.ToLower(kind)+" -size 4MiB -kind "+kind+keys)
		if v.Kind != kind || v.Attached || v.Size != 4<<20 {
			t.Errorf("created: %+v", v)
		}
	}
	volume(&v, "attach -lease 10m pool"+keys)
	if !v.Attached || v.LeaseSeconds > 600 || v.LeaseSeconds < 60 || service.confirmed != 1 || service.refused != nil {
		t.Errorf("attached: %+v, %d confirmed, %v", v, service.confirmed, service.refused)
	}
	var all struct{ Volumes []state }
	volume(&all, "list")
	if len(all.Volumes) != 2 || !all.Volumes[0].Attached || all.Volumes[1].Attached {
		t.Errorf("%+v", all)
	}
	volume(&v, "detach pool")
	if v.Attached {
		t.Errorf("detached: %+v", v)
	}
	for name, method := range map[string]string{"pool": "Purge", "ram": "Clear"} {
		volume(nil, "erase -issuer issuer.pem -out "+name+".json "+name)
		text, err := os.ReadFile(filepath.Join(tool.folder, name+".json"))
		must(t, err)
		ak, err := hex.DecodeString(verdict.Facts.AKName)
		must(t, err)
		if c, err := sanitisation.Verify(text, sanitisation.Trust{Issuers: roots, Names: [][]byte{ak}}); err != nil || c.MethodType != method || c.Name != name {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		volume(nil, "delete "+name+keys)
	}
	if len(service.keys) != 0 {
		t.Errorf("%d keys stay", len(service.keys))
	}
	c := newClients(b)
	c.want(policy.Operator, "POST", "/redfish/v1/Systems/host/Storage/pool/Volumes", "{}", 403)
	text, err := json.Marshal(c.want(policy.Auditor, "GET", auditPath+"/Entries", "", 200))
	must(t, err)
	for _, action := range []string{"createVolume", "requestGrant", "attachVolume", "detachVolume", "eraseVolume", "deleteVolume"} {
		if !strings.Contains(string(text), action) {
			t.Errorf("the audit log has no %s", action)
		}
	}
}
