//go:build !arm

package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nitro/boot/config"
	"nitro/net/policy"
	"nitro/qemu-test/service"
)

const (
	hostPath  = "/redfish/v1/Systems/host"
	resetPath = hostPath + "/Actions/ComputerSystem.Reset"
	auditPath = "/redfish/v1/Managers/controller/LogServices/audit"
	tpmPath   = "/redfish/v1/ComponentIntegrity/tpm"
	quotePath = tpmPath + "/Actions/ComponentIntegrity.TPMGetSignedMeasurements"
	akPath    = "/redfish/v1/Chassis/controller/TrustedComponents/tpm/Certificates/ak"
)

// A bench is the board with its clients, and a witness of its audit log.
type bench struct {
	*service.Board
	address string
	folder  string // for files of the run
	witness witness
	signer  *ecdsa.PublicKey // see ak

	mu      sync.Mutex
	clients map[policy.Role]*http.Client
}

// perClient is how many connections the client of a role keeps: all roles together stay
// below what one address may have open (net/https).
const perClient = 2

// newBench switches the board on.
func newBench(t *testing.T) *bench {
	t.Helper()
	w, err := newWitness()
	must(t, err)
	b := &bench{folder: t.TempDir(), witness: w, clients: map[policy.Role]*http.Client{}}
	b.Board, err = service.Start(t.Context(), service.Options{Configure: b.configure})
	must(t, err)
	t.Cleanup(b.Stop)
	b.address, err = b.Address(443)
	must(t, err)
	return b
}

// configure puts the witness into the board's configuration.
func (b *bench) configure(c *config.Config) { c.Witnesses = []string{b.witness.key} }

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// as is the client of a role, whose connections stay open; "" has no certificate.
func (b *bench) as(role policy.Role) (*http.Client, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if c, known := b.clients[role]; known {
		return c, nil
	}
	c, err := b.Client(role, perClient)
	if err == nil {
		b.clients[role] = c
	}
	return c, err
}

// leave closes the roles' connections.
func (b *bench) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.clients {
		c.CloseIdleConnections()
	}
}

// An answer is what the board has said.
type answer struct {
	status int
	header http.Header
	text   []byte
}

// object is the answer's JSON.
func (a *answer) object(t *testing.T) map[string]any {
	t.Helper()
	o := map[string]any{}
	if err := json.Unmarshal(a.text, &o); err != nil {
		t.Fatalf("%d %s: %v", a.status, a.text, err)
	}
	return o
}

// do asks as a role.
func (b *bench) do(role policy.Role, method, path, body string) (*answer, error) {
	c, err := b.as(role)
	if err != nil {
		return nil, err
	}
	return b.by(c, method, path, body)
}

// by asks by a client.
func (b *bench) by(c *http.Client, method, path, body string) (*answer, error) {
	r, err := http.NewRequest(method, "https://"+b.address+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	got, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer got.Body.Close()
	text, err := io.ReadAll(got.Body)
	return &answer{got.StatusCode, got.Header, text}, err
}

// want asks and compares the status.
func (b *bench) want(t *testing.T, role policy.Role, method, path, body string, status int) *answer {
	t.Helper()
	a, err := b.do(role, method, path, body)
	must(t, err)
	if a.status != status {
		t.Errorf("%q: %s %s: %d, not %d: %.300s", role, method, path, a.status, status, a.text)
	}
	return a
}

// unharmed sees that the board serves, and takes what is in the safe direction.
func (b *bench) unharmed(t *testing.T) {
	t.Helper()
	b.want(t, "", "GET", "/v1/status", "", 200)
	b.want(t, policy.Operator, "GET", hostPath, "", 200)
	b.want(t, policy.Operator, "POST", resetPath, `{"ResetType":"ForceOff"}`, 204)
}

// records is how many records the log has.
func (b *bench) records(t *testing.T) int {
	t.Helper()
	o := b.want(t, policy.Auditor, "GET", auditPath+"/Entries?$top=0", "", 200).object(t)
	n, ok := o["Members@odata.count"].(float64)
	if !ok {
		t.Fatalf("no count in %v", o)
	}
	return int(n)
}

// anyServer takes whatever certificate the board shows: it is of this boot.
func anyServer(c ...tls.Certificate) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, Certificates: c}
}

// program builds nitroctl.
func (b *bench) program(t *testing.T) string {
	t.Helper()
	file := filepath.Join(b.folder, "nitroctl")
	if _, err := os.Stat(file); err == nil {
		return file
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", file, "nitro/cmd/nitroctl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return file
}

// run runs somebody else's program to its end.
func run(t *testing.T, folder, name string, args ...string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = folder
	return cmd.CombinedOutput()
}

// TestService is everything that is asked of one board, in this order: the last one fills
// its log.
func TestService(t *testing.T) {
	b := newBench(t)
	slow := b.startSlow(t)
	t.Run("suites", func(t *testing.T) {
		for _, s := range []struct {
			name string
			test func(*testing.T)
		}{
			{"testssl", b.testssl}, {"sslscan", b.sslscan}, {"gateway", b.gateway}, {"curl", b.curl}, {"quote", b.quote},
		} {
			t.Run(s.name, func(t *testing.T) { t.Parallel(); s.test(t) })
		}
	})
	t.Run("certificates", b.certificates)
	t.Run("revoked", b.revoked)
	t.Run("matrix", b.matrix)
	t.Run("bad requests", b.badRequests)
	t.Run("slow", slow.ended) // before the flood, which counts records: they make some
	t.Run("flood", b.flood)
	t.Run("crowd", b.crowd)
	t.Run("counted", b.counted)
	t.Run("load", b.load)
	t.Run("full log", b.fullLog)
	if err := b.Err(); err != nil {
		t.Error(err)
	}
	if t.Failed() {
		c := b.Console()
		t.Logf("%s", c[max(0, len(c)-4000):])
	}
}
