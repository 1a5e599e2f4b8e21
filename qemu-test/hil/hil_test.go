//go:build !arm

package hil

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nitro/internal/tied"
	"nitro/net/policy"
	"nitro/qemu-test/rig"
)

var rigFile = flag.String("rig", "", "`file` of the rig (docs/hil.md); without it an emulated bench is made")

// Paths of the API.
const (
	managerPath = "/redfish/v1/Managers/controller"
	hostPath    = "/redfish/v1/Systems/host"
	entriesPath = managerPath + "/LogServices/audit/Entries?$top=0"
)

// askLimit is how long an answer may take.
const askLimit = 2 * time.Minute

// TestBoard takes one board through its life, in this order: docs/hil.md, "What is tested".
func TestBoard(t *testing.T) {
	r := open(t)
	b := &board{Rig: r, t: t, tool: buildTool(t), folder: t.TempDir()}
	steps := []step{{"boot", (*board).boot}, {"evidence", (*board).evidence}, {"API", (*board).api}, {"power cut", (*board).powerCut}}
	switch {
	case testing.Short():
	case r.Has("release-next"):
		steps = append(steps, step{"update", (*board).update})
	default:
		t.Log("no update: the materials have no release-next")
	}
	for _, s := range steps {
		if !t.Run(s.name, func(t *testing.T) {
			with := *b
			with.t = t
			s.test(&with)
			with.t = b.t
			*b = with
		}) {
			t.Fatalf("the console ends in\n%s", r.Console().Tail()) // what follows stands on it
		}
	}
}

// A step is a test of the board as the one before has left it.
type step struct {
	name string
	test func(*board)
}

// open opens the rig, without power.
func open(t *testing.T) *rig.Rig {
	t.Helper()
	file := *rigFile
	if file == "" {
		file = emulatedBench(t)
	}
	r, err := rig.Open(t.Context(), file, nil)
	must(t, err)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Logf("rig %q", r.Name)
	return r
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// A board is the rig's, with what has been learned of it.
type board struct {
	*rig.Rig
	t      *testing.T
	tool   string // nitroctl
	folder string // for files of the run

	release string // name among the materials of what runs
	ak      string // name of its attestation key
	pin     string // hash of this boot's TLS key
}

// says waits for a line of the console.
func (b *board) says(pattern string) []string {
	b.t.Helper()
	m, err := b.Console().Expect(pattern+`\r\n`, b.Limit)
	must(b.t, err)
	return m
}

// address is that of the board's HTTPS.
func (b *board) address() string {
	b.t.Helper()
	a, err := b.Address(rig.Service)
	must(b.t, err)
	return a
}

// powerOn gives power, and waits until the bootloader has started the controller.
func (b *board) powerOn() {
	b.t.Helper()
	b.Console().Skip()
	must(b.t, b.On(b.t.Context()))
	if m := b.says(`bootloader: (quarantine: [^\r]*|starting the controller, version [^\r,]*)[^\r]*`); strings.HasPrefix(m[1], "quarantine") {
		b.t.Fatal(m[1])
	}
}

// inService waits until the board serves from a proven slot.
func (b *board) inService() {
	b.t.Helper()
	if m := b.says(`controller: (ready|quarantine:[^\r]*)`); m[1] != "ready" {
		b.t.Fatal(m[1])
	}
	b.says(`controller: slot [AB] is proven; [^\r]*`)
}

// boot switches the board off and on, provisions it if it is new, and waits until it is in
// service.
func (b *board) boot() {
	must(b.t, b.Off(b.t.Context()))
	b.powerOn()
	b.release = "release"
	m := b.says(`controller: (provisioning is offered on port|the store is open|quarantine:)[^\r]*`)
	switch m[1] {
	case "quarantine:":
		b.t.Fatal(m[0])
	case "provisioning is offered on port":
		b.provision()
	}
	b.inService()
}

func (b *board) provision() {
	b.t.Helper()
	to, err := b.Address(rig.Provisioning)
	if errors.Is(err, rig.ErrNoPort) {
		b.t.Fatal("the board is new, and the rig does not provision: give it network.provisioning, or a board that is provisioned (docs/hil.md)")
	}
	must(b.t, err)
	b.nitroctl(nil, "provision", "-keys", b.Material("keys"), "-release", b.Material("release"), "-makers", b.Material("maker.pem"),
		"-record", filepath.Join(b.folder, "board.json"), "-timeout", "5m", "-board", to)
}

// prove has the board prove what it runs, and gives its TLS key and its attestation key's name.
func (b *board) prove() (pin, ak string) {
	b.t.Helper()
	var verdict struct {
		Facts struct {
			TLSKey string `json:"tls_key"`
			AKName string `json:"ak_name"`
		}
	}
	b.nitroctl(&verdict, "attest", "verify", "-release", b.Material(b.release), "-issuer", b.Material("issuer.pem"),
		"-accept-development", "-accept-open-life-cycle", "-accept-weak-secret", "-board", b.address())
	return verdict.Facts.TLSKey, verdict.Facts.AKName
}

func (b *board) evidence() {
	b.pin, b.ak = b.prove()
	b.nitroctl(nil, "status", "-board", b.address(), "-pin", b.pin)
}

// api is who may do what.
func (b *board) api() {
	for _, c := range []struct {
		role   policy.Role
		path   string
		status []int
	}{
		{policy.Operator, managerPath, []int{200}}, {policy.FleetVerifier, hostPath, []int{403}}, {"", managerPath, []int{401, 403}}, {"", "/v1/status", []int{200}},
	} {
		status, text, err := b.get(c.role, c.path)
		must(b.t, err)
		if status != c.status[0] && status != c.status[len(c.status)-1] {
			b.t.Errorf("%q: GET %s: %d, not one of %v: %.200s", c.role, c.path, status, c.status, text)
		}
	}
}

// records is how many records the audit log has.
func (b *board) records() (n int) {
	b.t.Helper()
	status, text, err := b.get(policy.Auditor, entriesPath)
	must(b.t, err)
	var o struct {
		Count *int `json:"Members@odata.count"`
	}
	if err := json.Unmarshal(text, &o); err != nil || status != 200 || o.Count == nil {
		b.t.Fatalf("the audit log's entries: %d %.200s, %v", status, text, err)
	}
	return *o.Count
}

// powerCut takes the power away while the board works, and expects it to come back by itself as
// what it was.
func (b *board) powerCut() {
	before := b.records()
	stop, busy := make(chan struct{}), make(chan error, 1)
	first := make(chan struct{})
	go func() { // each request is two records, which the board writes to its card
		for n := 0; ; n++ {
			select {
			case <-stop:
				busy <- nil
				return
			default:
			}
			if _, _, err := b.get(policy.Operator, managerPath); n == 0 {
				close(first)
				if err != nil {
					busy <- fmt.Errorf("the first request: %w", err)
					return
				}
			} // the rest fails when the power goes
		}
	}()
	<-first // a request has a limit
	off := b.Off(b.t.Context())
	close(stop)
	must(b.t, off, <-busy)
	b.powerOn()
	b.inService()
	pin, ak := b.prove()
	if ak != b.ak {
		b.t.Errorf("the attestation key is %s, and was %s", ak, b.ak)
	}
	if pin == b.pin {
		b.t.Error("the TLS key is that of the boot before")
	}
	b.pin = pin
	if after := b.records(); after < before {
		b.t.Errorf("the audit log has %d records, and had %d", after, before)
	}
}

// update takes the board to the next release, as an operator would.
func (b *board) update() {
	b.nitroctl(nil, "release", "pack", "-release", b.Material("release-next"), "-out", filepath.Join(b.folder, "next.bundle"))
	as := []string{"-board", b.address(), "-pin", b.pin, "-cert", b.Material("clients/release-manager.pem"), "-key", b.Material("clients/release-manager.key")}
	b.nitroctl(nil, append([]string{"update", "push", "-timeout", "10m", "-package", filepath.Join(b.folder, "next.bundle")}, as...)...)
	b.Console().Skip()
	b.nitroctl(nil, append([]string{"update", "activate"}, as...)...)
	b.inService()
	b.release = "release-next"
	as[3], _ = b.prove()
	b.nitroctl(nil, append([]string{"update", "status"}, as...)...) // fails if the update has
	b.pin = as[3]
}

// get asks the board, whose TLS key evidence has named, as a role; "" has no certificate.
func (b *board) get(role policy.Role, path string) (status int, text []byte, err error) {
	c := &tls.Config{InsecureSkipVerify: true, VerifyConnection: func(s tls.ConnectionState) error {
		if key := sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo); hex.EncodeToString(key[:]) != b.pin {
			return errors.New("the board shows another TLS key than its evidence names")
		}
		return nil
	}}
	if role != "" {
		pair, err := tls.LoadX509KeyPair(b.Material("clients/"+string(role)+".pem"), b.Material("clients/"+string(role)+".key"))
		if err != nil {
			return 0, nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	client := &http.Client{Timeout: askLimit, Transport: &http.Transport{TLSClientConfig: c, DisableKeepAlives: true}}
	address, err := b.Address(rig.Service)
	if err != nil {
		return 0, nil, err
	}
	a, err := client.Get("https://" + address + path)
	if err != nil {
		return 0, nil, err
	}
	defer a.Body.Close()
	text, err = io.ReadAll(io.LimitReader(a.Body, 1<<20))
	return a.StatusCode, text, err
}

// buildTool builds nitroctl.
func buildTool(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nitroctl")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	if said, err := exec.CommandContext(ctx, "go", "build", "-o", file, "nitro/cmd/nitroctl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return file
}

// nitroctl runs it, which must end with exit code 0, and decodes the result of its JSON.
func (b *board) nitroctl(result any, args ...string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.tool, append(args, "-o", "json")...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := tied.Run(cmd); err != nil {
		b.t.Fatalf("nitroctl %q: %v\n%s%s", args, err, &out, &errs)
	}
	must(b.t, json.Unmarshal(out.Bytes(), &struct{ Result any }{result}))
}
