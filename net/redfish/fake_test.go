package redfish

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"nitro/net/audit"
	"nitro/net/policy"
)

const uuid = "8f4f0c1e-9d2b-5e0a-8c55-2f6f2f0a1b2c"

// A machine is all backends, and remembers what was done.
type machine struct {
	done  []string
	fail  error
	broke error // of an export that has begun
	tasks []TaskState
	state HostState
	log   []string
	clear int
	now   int64
	vols  []VolumeState
	pool  StorageState
}

func (m *machine) do(format string, args ...any) error {
	if m.fail != nil {
		return m.fail
	}
	m.done = append(m.done, fmt.Sprintf(format, args...))
	return nil
}

func (m *machine) Host() HostState                            { return m.state }
func (m *machine) Reset(_ context.Context, kind string) error { return m.do("reset %s", kind) }

func (m *machine) Controller() ControllerState {
	m.now++
	return ControllerState{Version: "1.0", Serial: "C1", Time: time.Unix(1800000000+m.now, 0)}
}
func (m *machine) Restart(context.Context) error { return m.do("restart") }
func (m *machine) SetTime(_ context.Context, t time.Time) error {
	return m.do("time %d", t.Unix())
}

func (m *machine) Inventory() []Component {
	return []Component{{ID: "controller", Name: "Controller", Version: "1.0", SHA256: [32]byte{1}, Lowest: "0.9", Updatable: true, Healthy: true, Slot: SlotActive},
		{ID: "backup", Name: "Backup", Version: "0.9", SHA256: [32]byte{2}, Healthy: true, Slot: SlotBackup}, {ID: "empty", Name: "Backup", Slot: SlotBackup, Empty: true, Updatable: true},
		{ID: "host", Name: "Host firmware", Version: "7"}}
}
func (m *machine) Slots() (string, []string) { return "controller", []string{"controller", "backup"} }
func (m *machine) Push(_ context.Context, u Upload, r io.Reader) (string, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return "", err
	}
	return "t1", m.do("push %s %s%d", u.Name, u.Apply, len(b))
}
func (m *machine) Start(context.Context) (string, error)    { return "t2", m.do("start") }
func (m *machine) Rollback(context.Context) (string, error) { return "t2", m.do("rollback") }

func (m *machine) Evidence() EvidenceState {
	return EvidenceState{Manufacturer: "IBM", Firmware: "8.1", Serial: "T1", Updated: time.Unix(1800000000, 0), PCRs: map[int][32]byte{0: {1}, 8: {2}},
		Certificates: []Certificate{{"ak", "Attestation key", "-----BEGIN CERTIFICATE-----\n", []string{"LAK"}}, {"ek", "Endorsement key", "-----BEGIN CERTIFICATE-----\n", nil}}}
}
func (m *machine) Quote(_ context.Context, certificate string, nonce, scheme, selection []byte) ([]byte, []byte, error) {
	return []byte("quoted"), []byte("signature"), m.do("quote %s %x %x %x", certificate, nonce, scheme, selection)
}

func (m *machine) Document(_ context.Context, nonce []byte, recipient bool) ([]byte, error) {
	return []byte("document"), m.do("document %x %v", nonce, recipient)
}

func (m *machine) Stats() audit.Stats {
	return audit.Stats{Size: uint64(len(m.log)), Room: 1000, First: uint64(m.clear)}
}
func (m *machine) Records(from uint64, n int) ([][]byte, error) {
	if from < uint64(m.clear) {
		return nil, audit.ErrGone
	}
	var all [][]byte
	for i := from; i < uint64(len(m.log)) && len(all) < n; i++ {
		all = append(all, []byte(m.log[i]))
	}
	return all, nil
}
func (m *machine) Compact() (int, error) { return m.clear, m.do("clear") }

func (m *machine) Export(from uint64, older []byte) (func(io.Writer) error, error) {
	return func(w io.Writer) error {
		_, err := io.WriteString(w, `{"format":1}`)
		return errors.Join(err, m.broke)
	}, m.do("export %d %s", from, older)
}
func (m *machine) Inclusion(n, size uint64) ([]audit.Hash, error) {
	return []audit.Hash{{1}}, m.do("prove %d %d", n, size)
}
func (m *machine) Ring() ([]byte, error)    { return []byte(`{"records":[]}`), m.fail }
func (m *machine) Metrics() ([]byte, error) { return []byte("up 1\n"), m.fail }
func (m *machine) Witness(b []byte) error   { return m.do("witness %s", b) }

func (m *machine) Certificates() []Certificate {
	return []Certificate{{"1", "API", "-----BEGIN CERTIFICATE-----\n", []string{"Web"}}}
}
func (m *machine) Request(_ context.Context, certificate string, subject pkix.Name, names []string) (string, error) {
	return "-----BEGIN CERTIFICATE REQUEST-----\n", m.do("request %s %s %v", certificate, subject, names)
}
func (m *machine) Replace(_ context.Context, certificate, chain string) error {
	return m.do("replace %s %s", certificate, chain)
}
func (m *machine) PolicyEpoch() uint64 { return 7 }

func (m *machine) Storage() StorageState  { return m.pool }
func (m *machine) Volumes() []VolumeState { return m.vols }
func (m *machine) ErasedByHost(id VolumeID) []byte {
	if id[0] == 0xbb {
		return []byte(`{"format":1}`)
	}
	return nil
}
func (m *machine) Create(_ context.Context, v VolumeSpec) error {
	err := m.do("create %s %s %s %d %d %x", v.ID, v.Name, v.Kind, v.Capacity, v.BlockSize, v.Commitment[:2])
	if err == nil {
		m.vols = append(m.vols, VolumeState{VolumeSpec: v})
	}
	return err
}
func (m *machine) Delete(_ context.Context, id VolumeID) error { return m.do("delete %s", id) }

// A volumeBackend is the machine's volumes: certificates have a Request, too.
type volumeBackend struct{ *machine }

func (m volumeBackend) Request(_ context.Context, id VolumeID, challenge [ChallengeSize]byte) ([]byte, []byte, error) {
	return []byte("request"), []byte(`{"format":2}`), m.do("request %s %x", id, challenge[:2])
}
func (m *machine) Attach(_ context.Context, id VolumeID, form string, grant, wrapped []byte) ([]byte, error) {
	return []byte("confirmation"), m.do("attach %s %s %s %s", id, form, grant, wrapped)
}
func (m *machine) Detach(_ context.Context, id VolumeID) error { return m.do("detach %s", id) }
func (m *machine) Erase(_ context.Context, id VolumeID, who string) ([]byte, error) {
	return []byte(`{"format":1}`), m.do("erase %s %s", id, who)
}
func (m *machine) ErasePool(_ context.Context, who string) ([][]byte, error) {
	return [][]byte{[]byte(`{"format":1}`), []byte(`{"format":1}`)}, m.do("erase all %s", who)
}

// taskList is the machine's tasks, which have a method of the same name as their field.
type taskList struct{ *machine }

func (l taskList) Tasks() []TaskState { return l.tasks }

func newMachine() *machine {
	m := &machine{state: HostState{Powered: true, Cycle: 3, Serial: "S1"}, clear: 2}
	m.pool = StorageState{CapacityBytes: 1 << 30, FreeBytes: 1 << 29, Serial: "0x1234", Model: "SD08G"}
	m.vols = []VolumeState{
		{VolumeSpec: VolumeSpec{ID: VolumeID{0xaa, 1}, Name: "root", Kind: "Pool", Capacity: 1 << 20, BlockSize: 4096, Commitment: [32]byte{7}}, Used: 1 << 17, Attached: true, Namespace: 0x1f, Left: 99 * time.Second},
		{VolumeSpec: VolumeSpec{ID: VolumeID{0xbb, 2}, Name: "scratch", Kind: "RAM", Capacity: 1 << 20, BlockSize: 512}},
	}
	for n := range 450 {
		m.log = append(m.log, fmt.Sprintf(`{"v":1,"n":%d,"t":"2027-01-15T08:00:00.000Z","up":1,"boot":0,"kind":"denied"}`, n))
	}
	m.tasks = []TaskState{{ID: "t1", Name: "Update", State: "Running", Percent: 30, Start: time.Unix(1800000000, 0)},
		{ID: "t3", Name: "Update", State: "Completed", Percent: 100, Start: time.Unix(1800000000, 0), End: time.Unix(1800000060, 0), Ended: true, Note: "Restart the board."},
		{ID: "t2", Name: "Update", State: "Exception", Percent: 30, Start: time.Unix(1800000000, 0), End: time.Unix(1800000060, 0), Ended: true, Failure: Refuse(400, "UnrecognizedRequestBody")}}
	return m
}

// A journal records in memory, as a log does.
type journal struct {
	lines  []string
	full   bool
	counts audit.Counters
}

func (j *journal) Begin(e audit.Entry, safe bool) (*audit.Token, error) {
	if j.full && !safe && !e.Relief {
		return nil, audit.ErrUnrecorded
	}
	j.lines = append(j.lines, fmt.Sprintf("intent %s %s %s", e.Who, e.Action, e.Resource))
	return audit.NewToken(func(o audit.Outcome) error {
		j.lines = append(j.lines, fmt.Sprintf("outcome %d %s", o.Status, o.Detail))
		return nil
	}), nil
}

func (j *journal) Deny(e audit.Entry) error {
	j.lines = append(j.lines, fmt.Sprintf("denied %s %s %s", e.Who, e.Action, e.Resource))
	return nil
}
func (j *journal) Count(add func(*audit.Counters)) { add(&j.counts) }

// A bench is a whole service, with its policy and clients of each role.
type bench struct {
	*machine
	*journal
	service *Service
	mode    policy.Mode
	chains  map[policy.Role][][]*x509.Certificate
}

// clients are certificates of each role, from one CA; they take long to make.
var clients struct {
	sync.Once
	ca     *x509.Certificate
	chains map[policy.Role][][]*x509.Certificate
}

func makeClients(t testing.TB) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	clients.ca = issue(t, key, &x509.Certificate{IsCA: true}, nil)
	clients.chains = map[policy.Role][][]*x509.Certificate{}
	for _, r := range policy.Roles {
		clients.chains[r] = [][]*x509.Certificate{{issue(t, key, &x509.Certificate{KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
			URIs: []*url.URL{{Scheme: "spiffe", Host: "owner.example", Path: "/" + string(r) + "/x"}}}, clients.ca), clients.ca}}
	}
}

func newBench(t testing.TB) *bench {
	t.Helper()
	clients.Do(func() { makeClients(t) })
	b := &bench{machine: newMachine(), journal: &journal{}, mode: policy.Mode{ClockKnown: true}, chains: clients.chains}
	set, err := policy.Compile(&policy.Payload{Epoch: 1, Policies: policy.Default,
		Issuers: []policy.Issuer{{Owner: "owner.example", CA: sha256.Sum256(clients.ca.RawSubjectPublicKeyInfo), Roles: policy.Roles}}}, "board-1")
	if err != nil {
		t.Fatal(err)
	}
	gate := &Gatekeeper{Policy: func() *policy.Set { return set }, Mode: func() policy.Mode { return b.mode }, Audit: b.journal}
	m := b.machine
	b.service = New(Config{UUID: uuid, Product: "MCIMX6UL-EVK", Gate: gate,
		Host: m, Controller: m, Firmware: m, Evidence: m, Log: m, Ring: m, Metrics: m, Access: m, Tasks: taskList{m}, Storage: volumeBackend{m}})
	return b
}

func issue(t testing.TB, key *ecdsa.PrivateKey, template, parent *x509.Certificate) *x509.Certificate {
	t.Helper()
	template.SerialNumber, template.NotAfter, template.BasicConstraintsValid = big.NewInt(1), time.Unix(4e9, 0), true
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// state is that of a connection of a role.
func (b *bench) state(role policy.Role) *tls.ConnectionState {
	return &tls.ConnectionState{VerifiedChains: b.chains[role]}
}

// ask sends a request of a role; of nobody if it is empty.
func (b *bench) ask(role policy.Role, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "https://board/", strings.NewReader(body))
	u, err := url.ParseRequestURI(path)
	if err != nil {
		panic(err) // a test's own
	}
	r.URL.Path, r.URL.RawPath, r.URL.RawQuery = u.Path, u.RawPath, u.RawQuery
	r.TLS = b.state(role)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	b.service.ServeHTTP(w, r)
	return w
}

func decode(t testing.TB, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	var o map[string]any
	d := json.NewDecoder(strings.NewReader(w.Body.String()))
	d.UseNumber()
	if err := d.Decode(&o); err != nil || w.Result().Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return o
}

// refused checks a refusal: its status, its message, its form.
func refused(t testing.TB, what string, w *httptest.ResponseRecorder, status int, id string) {
	t.Helper()
	o := decode(t, w)
	e, _ := o["error"].(map[string]any)
	if w.Code != status || e["code"] != baseRegistry+"."+id {
		t.Errorf("%s: %d %s, not %d %s", what, w.Code, w.Body, status, id)
	}
	if wrong := valid("Error", what, o); len(wrong) > 0 {
		t.Error(wrong)
	}
	if strings.Contains(w.Body.String(), "%1") {
		t.Errorf("%s: an argument is missing: %s", what, w.Body)
	}
}

var errSecret = errors.New("a secret detail")

var (
	_ http.Handler   = (*Service)(nil)
	_ Log            = (*audit.Log)(nil)
	_ audit.Recorder = (*audit.Log)(nil)
	_ audit.Recorder = (*audit.Ring)(nil)
)
