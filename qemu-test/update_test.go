//go:build !arm

package qemutest

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"nitro/boot/config"
	"nitro/boot/release"
	"nitro/net/policy"
	"nitro/qemu-test/factory"
)

const updatePath = "/redfish/v1/UpdateService"

// next builds a release that the board can be updated to.
func (b *trustedBoard) next(v factory.Version) *release.Release {
	b.t.Helper()
	p, err := programs()
	must(b.t, err)
	r, err := b.factory.Next(p[0], p[1], v, b.release)
	must(b.t, err)
	return r
}

// An updater is a client of one open connection.
type updater struct {
	*trustedBoard
	*http.Client
	dials int
}

// updater makes one with a client's certificate.
func (b *trustedBoard) updater(pair tls.Certificate) *updater {
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}, MaxConnsPerHost: 1}
	b.t.Cleanup(transport.CloseIdleConnections)
	return &updater{b, &http.Client{Timeout: 10 * time.Minute, Transport: transport}, 0}
}

// ask asks, by the connection that is open if there is one.
func (u *updater) ask(method, path, kind string, body io.Reader) (status int, o map[string]any, err error) {
	u.t.Helper()
	address, err := u.Address(443)
	must(u.t, err)
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if !i.Reused {
			u.dials++
		}
	}}
	r, err := http.NewRequestWithContext(httptrace.WithClientTrace(u.t.Context(), trace), method, "https://"+address+path, body)
	must(u.t, err)
	r.Header.Set("Content-Type", kind)
	answer, err := u.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err == nil && len(text) > 0 {
		err = json.Unmarshal(text, &o)
	}
	return answer.StatusCode, o, err
}

// get wants an answer.
func (u *updater) get(path string) map[string]any {
	u.t.Helper()
	status, o, err := u.ask("GET", path, "", nil)
	if err != nil || status != 200 {
		u.t.Fatalf("%s: %d %v %v", path, status, o, err)
	}
	return o
}

// upload makes a package the body of an upload.
func upload(t *testing.T, b []byte) (kind string, body []byte) {
	t.Helper()
	var all bytes.Buffer
	form := multipart.NewWriter(&all)
	parameters, err := form.CreateFormField("UpdateParameters")
	must(t, err)
	io.WriteString(parameters, "{}")
	file, err := form.CreateFormFile("UpdateFile", "package")
	must(t, err)
	file.Write(b)
	must(t, form.Close())
	return form.FormDataContentType(), all.Bytes()
}

// push uploads a package.
func (u *updater) push(b []byte) (int, map[string]any) {
	u.t.Helper()
	kind, body := upload(u.t, b)
	status, o, err := u.ask("POST", updatePath+"/upload", kind, bytes.NewReader(body))
	must(u.t, err)
	return status, o
}

// lastTask is the newest task.
func (u *updater) lastTask() map[string]any {
	u.t.Helper()
	all := u.get("/redfish/v1/TaskService/Tasks?$expand=.")["Members"].([]any)
	return all[len(all)-1].(map[string]any)
}

// cutOff switches the board off in the middle of an upload, and on again: the task must say
// so and what to do next, and what runs must be what ran.
func (b *trustedBoard) cutOff(manager tls.Certificate, bundle []byte) {
	t := b.t
	t.Helper()
	u, watcher := b.updater(manager), b.updater(manager)
	kind, body := upload(t, bundle)
	silent, end := io.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if status, o, err := u.ask("POST", updatePath+"/upload", kind, io.MultiReader(bytes.NewReader(body[:len(body)/2]), silent)); err == nil {
			t.Errorf("half a package is answered with %d %v", status, o)
		}
	}()
	waitFor(t, "the slot's first half", func() bool {
		task := watcher.lastTask()
		return task["TaskState"] == "Running" && task["PercentComplete"].(float64) >= 40
	})
	b.off()
	end.Close()
	<-ended
	b.on(nil)
	b.says(`controller: slot A is proven; .*`)
	task := watcher.lastTask()
	if task["TaskState"] != "Exception" || task["EndTime"] == nil || !strings.Contains(fmt.Sprint(task["Messages"]), "Send it again.") {
		t.Errorf("the task that was cut off: %v", task)
	}
	if got := watcher.inventory(); !strings.Contains(got, "controller-running 1.0") || !strings.Contains(got, "slot-a 1.0 Active Enabled") || strings.Contains(got, "slot-b 1.1") {
		t.Errorf("after an upload that was cut off:\n%s", got)
	}
}

// inventory is all firmware, a line each: ID, version, slot, state.
func (u *updater) inventory() string {
	var all []string
	for _, m := range u.get(updatePath + "/FirmwareInventory?$expand=.")["Members"].([]any) {
		o := m.(map[string]any)
		nitro := o["Oem"].(map[string]any)["Nitro"].(map[string]any)
		all = append(all, fmt.Sprint(o["Id"], " ", o["Version"], " ", nitro["Slot"], " ", o["Status"].(map[string]any)["State"]))
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

// savePEM writes a client's certificate and key.
func savePEM(t *testing.T, folder string, pair tls.Certificate) (cert, key string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	must(t, err)
	cert, key = filepath.Join(folder, "client.pem"), filepath.Join(folder, "client.key")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return cert, key
}

// TestUpdate: a board that runs takes policy set, configuration, revocation and CAs in the
// middle of connections, refuses what it must not take, and then a newer controller, which
// it runs after its restart.
func TestUpdate(t *testing.T) {
	b := newProvisioned(t)
	b.on(nil)
	b.says(`controller: slot A is proven; .*`)
	clients := b.factory.Clients
	manager, err := clients.Certificate(policy.ReleaseManager, "release")
	must(t, err)
	mallory, err := clients.Certificate(policy.FleetVerifier, "mallory")
	must(t, err)
	others, err := factory.NewClients()
	must(t, err)
	newcomer, err := others.Certificate(policy.Auditor, "newcomer")
	must(t, err)
	u, bad, other := b.updater(manager), b.updater(mallory), b.updater(newcomer)
	before := u.inventory()
	bad.get(integrityPath)
	if _, _, err := other.ask("GET", integrityPath, "", nil); err == nil {
		t.Error("a client of an unknown CA comes in")
	}

	next := b.next(factory.Version{Name: "1.1", Security: 1})
	bundle, err := next.Bundle()
	must(t, err)
	old, err := b.next(factory.Version{Name: "0.9", Security: 0}).Bundle()
	must(t, err)
	foreign := *next
	foreign.Approvals = slices.Clone(next.Approvals)
	for i := range foreign.Approvals { // signed for something else
		foreign.Approvals[i].Signature = foreign.Approvals[(i+1)%len(foreign.Approvals)].Signature
	}
	unfit, err := foreign.Bundle()
	must(t, err)
	damaged := bytes.Clone(bundle)
	damaged[5000] ^= 1
	for name, c := range map[string]struct {
		b    []byte
		next string
	}{"damaged": {damaged, "Code 405"}, "older": {old, "Code 207"}, "approvals that do not fit": {unfit, "Code 216"}, "no package": {make([]byte, 9000), "Code 203"}} {
		status, o := u.push(c.b)
		if status != 400 || !strings.Contains(fmt.Sprint(o), c.next) {
			t.Errorf("%s: %d %v", name, status, o)
		}
	}
	if after := u.inventory(); after != before {
		t.Errorf("what was refused has changed\n%s\nto\n%s", before, after)
	}

	dials := u.dials // a refusal ends a connection on which the rest of a package would come
	set, err := b.factory.Policy(2, func(p *policy.Payload) { p.Issuers = append(p.Issuers, others.Issuer()) })
	must(t, err)
	operator, err := clients.Certificate(policy.Operator, "operator")
	must(t, err)
	if status, _ := b.updater(operator).push(set); status != 403 {
		t.Errorf("an operator pushes: %d", status)
	}
	if status, o := u.push(set); status != 202 {
		t.Fatalf("policy set: %d %v", status, o)
	}
	configuration, err := b.factory.Configuration(2, func(c *config.Config) {
		c.Operators = append(c.Operators, others.CA)
		c.Revoked = []config.Revoked{{CA: sha256.Sum256(clients.CA.RawSubjectPublicKeyInfo), Serial: string(mallory.Leaf.SerialNumber.Bytes())}}
	})
	must(t, err)
	bad.get(integrityPath)
	if status, o := u.push(configuration); status != 202 {
		t.Fatalf("configuration: %d %v", status, o)
	}
	if status, _, err := bad.ask("GET", integrityPath, "", nil); err != nil || status != 401 {
		t.Errorf("a revoked client, on his open connection: %d %v", status, err)
	}
	if _, _, err := bad.ask("GET", integrityPath, "", nil); err == nil {
		t.Error("a revoked client comes in anew")
	}
	other.get(integrityPath)
	if got := u.inventory(); !strings.Contains(got, "policy 2") || !strings.Contains(got, "configuration 2") || u.dials != dials {
		t.Errorf("%d connections more, and\n%s", u.dials-dials, got)
	}
	b.cutOff(manager, bundle)
	if got := u.inventory(); !strings.Contains(got, "policy 2") || !strings.Contains(got, "configuration 2") {
		t.Errorf("after the power was cut:\n%s", got)
	}
	r, err := b.evidence(nil)
	must(t, err)

	// As people do it.
	tool := newTool(b)
	must(t, next.Write(filepath.Join(tool.folder, "release-1.1")))
	cert, key := savePEM(t, tool.folder, manager)
	address, err := b.Address(443)
	must(t, err)
	as := []string{"-board", address, "-pin", fmt.Sprintf("%x", r.Facts.TLSKey), "-cert", cert, "-key", key}
	tool.run(nil, "release pack -release release-1.1 -out 1.1.bundle")
	began := time.Now()
	tool.run(nil, "update push -timeout 5m -package 1.1.bundle", as...)
	t.Logf("%d bytes in %v", len(bundle), time.Since(began))
	if got := u.inventory(); !strings.Contains(got, "slot-b 1.1 Backup StandbySpare") || !strings.Contains(got, "controller-running 1.0") {
		t.Errorf("staged:\n%s", got)
	}
	tool.run(nil, "update activate", as...)
	b.says(`controller: slot B is proven; .*`)
	b.release = next
	if r, err = b.evidence(nil); err != nil {
		t.Fatal(err)
	}
	as[3] = fmt.Sprintf("%x", r.Facts.TLSKey)
	var is struct {
		Firmware []struct{ ID, Version, Slot string }
		Tasks    []struct{ State string }
	}
	tool.run(&is, "update status", as...)
	if last := is.Tasks[len(is.Tasks)-1]; last.State != "Completed" {
		t.Errorf("the activation is %+v", last)
	}
	u = b.updater(manager)
	if got := u.inventory(); !strings.Contains(got, "slot-b 1.1 Active Enabled") || !strings.Contains(got, "controller-running 1.1") || !strings.Contains(got, "configuration 2") {
		t.Errorf("after the update:\n%s", got)
	}
	if _, _, err := bad.ask("GET", integrityPath, "", nil); err == nil {
		t.Error("a restart has let a revoked client in")
	}
}
