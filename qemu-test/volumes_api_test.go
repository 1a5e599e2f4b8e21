//go:build !arm

package qemutest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nitro/attest/golden"
	"nitro/attest/sanitisation"
	"nitro/attest/verify"
	"nitro/boot/config"
	"nitro/net/keyservice/server"
	"nitro/net/policy"
	"nitro/net/stack"
	"nitro/nvme/dhchap"
	"nitro/nvme/target"
	"nitro/nvme/volume"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/rack"
)

// A keyService is a real one, on this machine, for boards of one release of the factory.
type keyService struct {
	url    string
	folder string
}

// newKeyService starts one.
func newKeyService(t *testing.T, b *trustedBoard, roots *x509.CertPool) (s *keyService, certificate []byte) {
	t.Helper()
	s = &keyService{folder: filepath.Join(t.TempDir(), "keys")}
	must(t, server.Init(s.folder))
	service, err := server.Open(server.Config{Folder: s.folder, Signer: b.factory.KeyService, MaxLease: time.Hour, Owner: factory.Owner,
		Policy: verify.Policy{Issuers: roots, Releases: []*golden.Release{b.release.Golden}, Development: true, OpenLifeCycle: true, WeakSecret: true}})
	must(t, err)
	planes := x509.NewCertPool()
	planes.AddCert(b.factory.Clients.CA)
	h := httptest.NewUnstartedServer(service)
	h.StartTLS()
	own := h.TLS.Certificates[0]
	h.Close()
	h = httptest.NewUnstartedServer(service)
	h.TLS = server.TLS(own, planes)
	h.StartTLS()
	t.Cleanup(func() { h.Close(); service.Close() })
	s.url = h.URL
	return s, h.Certificate().Raw
}

// key is the key of a volume, which the service keeps as docs/keyservice.md, "Store", has it.
func (s *keyService) key(t *testing.T, volume string) []byte {
	t.Helper()
	master, err := os.ReadFile(filepath.Join(s.folder, "master.key"))
	must(t, err)
	b, err := os.ReadFile(filepath.Join(s.folder, "keys", volume))
	must(t, err)
	id, err := hex.DecodeString(volume)
	must(t, err)
	k, err := hkdf.Key(sha256.New, master, nil, "nitro key service volume v1"+string(id), 32)
	must(t, err)
	block, err := aes.NewCipher(k)
	must(t, err)
	gcm, err := cipher.NewGCM(block)
	must(t, err)
	k, err = gcm.Open(nil, b[56:68], b[68:], b[:56])
	must(t, err)
	return k
}

// keys counts the keys that the service has.
func (s *keyService) keys(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir(filepath.Join(s.folder, "keys"))
	must(t, err)
	return len(all)
}

// writePEM writes files in PEM.
func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}

// Where the board finds a storage server.
const (
	storageServer = "10.0.2.2:4420"
	storageNQN    = "nqn.2026-01.example:west"
)

// A storage is a server with one namespace, 3, for one board.
type storage struct {
	secret, opposite dhchap.Secret
	came             chan struct{} // for each association
}

// serveStorage serves one on the gateway, for the board whose attestation key has a name.
func serveStorage(t *testing.T, at *stack.Stack, akName []byte) *storage {
	t.Helper()
	s := &storage{came: make(chan struct{}, 64)}
	must(t, s.secret.Generate(dhchap.SHA256), s.opposite.Generate(dhchap.SHA256))
	ram, err := volume.NewRAM(512, 4<<20/512)
	must(t, err)
	k, err := target.New(target.Config{SubsystemNQN: storageNQN, Notify: func(e target.Event) {
		if e.Kind == target.EventOpened {
			s.came <- struct{}{}
		}
	}})
	must(t, err)
	u := sha256.Sum256(append([]byte("nitro nvme initiator\x00"), akName...)) // docs/volumes.md, "Remote volumes"
	u[6], u[8] = u[6]&0x0f|0x80, u[8]&0x3f|0x80
	board := fmt.Sprintf("nqn.2014-08.org.nvmexpress:uuid:%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
	must(t, k.AddHost(board, &s.secret, &s.opposite), k.Attach(board, target.Namespace{ID: 3, Volume: ram, UUID: [16]byte{3}}))
	l, err := at.Listen("tcp", ":4420")
	must(t, err)
	go k.Serve(l)
	t.Cleanup(func() { k.Close() })
	return s
}

// await waits for the board to connect.
func (s *storage) await(t *testing.T) {
	t.Helper()
	select {
	case <-s.came:
	case <-time.After(3 * time.Minute):
		t.Fatal("the board does not connect to the storage server")
	}
}

// attachByCMS attaches a volume by the key service's KMS face, with an access key that its
// owner makes meanwhile.
func attachByCMS(t *testing.T, tool *tool, s *keyService, attach func(line string) bool) {
	t.Helper()
	tool.run(nil, "keyservice access -owner "+factory.Owner+" -out access.aws tool", "-dir", s.folder)
	if !attach("attach -form cms -access-key access.aws -lease 10m pool") {
		t.Error("it is not attached by CMS")
	}
	var log struct {
		Lines []struct{ Event, Result, Form, Access string }
	}
	tool.run(&log, "keyservice log", "-dir", s.folder)
	var got []string
	for _, l := range log.Lines[max(0, len(log.Lines)-3):] {
		got = append(got, l.Event+" "+l.Result+" "+l.Form)
	}
	if want := "grant done CMS, decrypt done CMS, confirmation done "; strings.Join(got, ", ") != want {
		t.Errorf("the service's log ends with %q, not %q", strings.Join(got, ", "), want)
	}
}

// A volumeBoard guards a host and gives it volumes: the board, with the storage control plane's
// nitroctl, and a key service that trusts it.
type volumeBoard struct {
	*trustedBoard
	tool    *tool
	service *keyService
	roots   *x509.CertPool // of attestation keys
	address string         // of its HTTPS
	pin     string         // hash of this boot's TLS key, of its evidence
	ak      []byte         // name of its attestation key
}

// newVolumeBoard makes one and switches it on; change may change the rack around it.
func newVolumeBoard(t *testing.T, change func(*rack.Config)) *volumeBoard {
	t.Helper()
	b := newGuarded(t)
	b.reconfigure(3, func(c *config.Config) {
		factory.Guard(c)
		c.StorageServers = []config.StorageServer{{Name: "west", Address: netip.MustParseAddrPort(storageServer), SubsystemNQN: storageNQN}}
	})
	b.on(change)
	b.says(`(?s)controller: (host: cycle 2: running\r\n.*controller: ready|ready\r\n.*controller: host: cycle 2: running)`)
	issuer, _, err := b.factory.Keys.Issuer()
	must(t, err)
	v := &volumeBoard{trustedBoard: b, tool: newTool(b), roots: x509.NewCertPool()}
	v.roots.AddCert(issuer)
	service, certificate := newKeyService(t, b, v.roots)
	v.service = service
	writePEM(t, filepath.Join(v.tool.folder, "keys.pem"), "CERTIFICATE", certificate)
	writePEM(t, filepath.Join(v.tool.folder, "issuer.pem"), "CERTIFICATE", issuer.Raw)
	pair, err := b.factory.Clients.Certificate(policy.StorageControlPlane, "tool")
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	must(t, err)
	writePEM(t, filepath.Join(v.tool.folder, "storage.pem"), "CERTIFICATE", pair.Certificate[0])
	writePEM(t, filepath.Join(v.tool.folder, "storage.key"), "PRIVATE KEY", der)
	v.address, err = b.Address(443)
	must(t, err)
	v.prove()
	return v
}

// prove takes the TLS key of the boot from evidence that was judged.
func (b *volumeBoard) prove() {
	b.t.Helper()
	var verdict struct {
		Facts struct {
			TLSKey string `json:"tls_key"`
			AKName string `json:"ak_name"`
		}
	}
	b.tool.run(&verdict, "attest verify -release release -issuer issuer.pem -accept-development -accept-open-life-cycle -accept-weak-secret", "-board", b.address)
	b.pin = verdict.Facts.TLSKey
	var err error
	b.ak, err = hex.DecodeString(verdict.Facts.AKName)
	must(b.t, err)
}

// volume runs nitroctl volume.
func (b *volumeBoard) volume(result any, line string) {
	b.t.Helper()
	b.tool.run(result, "volume "+line+" -cert storage.pem -key storage.key", "-board", b.address, "-pin", b.pin)
}

// keys are the options of nitroctl volume that lead to the key service.
func (b *volumeBoard) keys() string {
	return " -keyservice " + b.service.url + " -keyservice-ca keys.pem"
}

// TestVolumesByTool: nitroctl creates, attaches, lists, detaches, erases and deletes a
// volume of a board that guards a host, whose key comes from a key service that judges the
// board's evidence; each is in the audit log, and the wrong role is refused. While the volume
// is attached its key schedule is in the board's memory, once; afterwards nothing of it is. So
// it is with a key in an envelope, which comes by the service's KMS face.
func TestVolumesByTool(t *testing.T) {
	b := newVolumeBoard(t, nil)
	tool, service, volume, keys, ak := b.tool, b.service, b.volume, b.keys(), b.ak
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
	west := serveStorage(t, b.Gateway(), ak)
	must(t, os.WriteFile(filepath.Join(tool.folder, "secret"), []byte(west.secret.Reveal()+"\n"), 0o600),
		os.WriteFile(filepath.Join(tool.folder, "opposite"), []byte(west.opposite.Reveal()+"\n"), 0o600))
	volume(&v, "create -name remote -size 4MiB -block 512 -kind Remote -server west -namespace 3 -secret secret -opposite opposite"+keys)
	west.await(t) // the creation measures it
	volume(&v, "attach -lease 10m remote"+keys)
	if v.Kind != "Remote" || !v.Attached {
		t.Errorf("attached: %+v", v)
	}
	west.await(t)
	volume(&v, "detach remote")
	volume(nil, "erase -issuer issuer.pem -out remote.json remote")
	volume(nil, "delete remote"+keys)
	volume(&v, "attach -lease 10m pool"+keys)
	if !v.Attached || v.LeaseSeconds > 600 || v.LeaseSeconds < 60 {
		t.Errorf("attached: %+v", v)
	}
	journal, err := os.ReadFile(filepath.Join(service.folder, "log.jsonl"))
	if err != nil || !strings.Contains(string(journal), `"confirm`) {
		t.Errorf("the service's log has no confirmation: %v %s", err, journal)
	}
	secrets := keyMemory(t, b.trustedBoard, service.key(t, v.Volume))
	var all struct{ Volumes []state }
	volume(&all, "list")
	if len(all.Volumes) != 2 || !all.Volumes[0].Attached || all.Volumes[1].Attached {
		t.Errorf("%+v", all)
	}
	volume(&v, "detach pool")
	if v.Attached {
		t.Errorf("detached: %+v", v)
	}
	secrets.gone(t, b.trustedBoard)
	attachByCMS(t, tool, service, func(line string) bool {
		volume(&v, line+keys)
		return v.Attached
	})
	secrets = keyMemory(t, b.trustedBoard, service.key(t, v.Volume))
	volume(&v, "detach pool")
	secrets.gone(t, b.trustedBoard)
	for name, method := range map[string]string{"pool": "Purge", "ram": "Clear"} {
		volume(nil, "erase -issuer issuer.pem -out "+name+".json "+name)
		text, err := os.ReadFile(filepath.Join(tool.folder, name+".json"))
		must(t, err)
		if c, err := sanitisation.Verify(text, sanitisation.Trust{Issuers: b.roots, Names: [][]byte{ak}}); err != nil || c.MethodType != method || c.Name != name {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		volume(nil, "delete "+name+keys)
	}
	if n := service.keys(t); n != 0 {
		t.Errorf("%d keys stay", n)
	}
	c := newClients(b.trustedBoard)
	c.want(policy.Operator, "POST", "/redfish/v1/Systems/host/Storage/pool/Volumes", "{}", 403)
	text, err := json.Marshal(c.want(policy.Auditor, "GET", auditPath+"/Entries", "", 200))
	must(t, err)
	for _, action := range []string{"createVolume", "requestGrant", "attachVolume", "detachVolume", "eraseVolume", "deleteVolume"} {
		if !strings.Contains(string(text), action) {
			t.Errorf("the audit log has no %s", action)
		}
	}
}
