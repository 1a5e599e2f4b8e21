package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"nitro/boot/bundle"
	"nitro/net/https"
	"nitro/net/policy"
	"nitro/net/provisioning"
	"nitro/qemu-test/factory"
)

// savePair writes a client's certificate and key into the folder.
func (b *bench) savePair(name string, pair tls.Certificate) {
	b.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	must(b, err)
	must(b, os.WriteFile(b.path(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600))
	must(b, os.WriteFile(b.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
}

// TestPack: a release's bundle has its parts, and is the same each time; one that lacks an
// approval is not packed.
func TestPack(t *testing.T) {
	b := newBench(t)
	b.release("1.0", "release", "")
	var info bundleInfo
	b.json("release pack -release @release -out @one.bundle", exitOK, &info)
	b.ok("release pack -release @release -out @two.bundle")
	one, err := os.ReadFile(b.path("one.bundle"))
	must(t, err)
	two, err := os.ReadFile(b.path("two.bundle"))
	must(t, err)
	h, err := bundle.Parse((*[bundle.HeaderSize]byte)(one))
	must(t, err)
	controller, err := os.ReadFile(b.path("release/controller.img"))
	must(t, err)
	if string(one) != string(two) || info.Version != "1.0" || info.Length != len(one) || h.Controller != int64(len(controller)) || !strings.HasSuffix(string(one), string(controller)) {
		t.Errorf("%+v, %+v", info, h)
	}
	if exit, _, _ := b.run("release pack -release @release -out @one.bundle"); exit != exitIO {
		t.Errorf("a file is overwritten: %d", exit)
	}
	if exit, _, _ := b.run("release pack -release @release"); exit != exitUsage {
		t.Errorf("without -out: %d", exit)
	}
}

// TestRevoke: a configuration lists what its command revokes.
func TestRevoke(t *testing.T) {
	b := newBench(t)
	clients, err := factory.NewClients()
	must(t, err)
	others, err := factory.NewClients()
	must(t, err)
	for name, c := range map[string]*factory.Clients{"mallory": clients, "stranger": others} {
		pair, err := c.Certificate(policy.Operator, name)
		must(t, err)
		b.savePair(name, pair)
	}
	must(t, os.WriteFile(b.path("ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: clients.CA.Raw}), 0o644))
	const sign = "config sign -keys @keys -product imx6ul-evk -epoch 2 -operator @ca.pem "
	var info configInfo
	b.json(sign+"-revoke @mallory.pem -revoke-key @stranger.pem -out @configuration.img", exitOK, &info)
	if len(info.Revoked) != 2 || !strings.HasPrefix(info.Revoked[0], "key ") || !strings.HasPrefix(info.Revoked[1], "serial ") {
		t.Errorf("%q", info.Revoked)
	}
	if exit, _, errs := b.run(sign + "-revoke @stranger.pem -out @other.img"); exit != exitRefused || !strings.Contains(errs, "-revoke-key") {
		t.Errorf("of another CA: %d %s", exit, errs)
	}
}

// TestUpdate: a package goes to the board as it is, what the board says is shown, and its
// refusals are this tool's.
func TestUpdate(t *testing.T) {
	b := newBench(t)
	own := selfSigned(t)
	clients, err := factory.NewClients()
	must(t, err)
	pair, err := clients.Certificate(policy.ReleaseManager, "mona")
	must(t, err)
	b.savePair("client", pair)
	const task = `{"Id":"3","Name":"Update: policy set","TaskState":%q,"PercentComplete":100,"Messages":[{"Message":"m","Resolution":"Epoch 2 is in \u001b[31mforce."}]}`
	var got, parameters string
	var refuse bool
	state := "Completed"
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, text string) { w.WriteHeader(status); io.WriteString(w, text) }
	mux.HandleFunc("POST /redfish/v1/UpdateService/upload", func(w http.ResponseWriter, r *http.Request) {
		if refuse {
			answer(w, 400, `{"error":{"code":"Base.1.18.GeneralError","message":"x","@Message.ExtendedInfo":[{"Message":"no","Resolution":"Code 207: sign a newer one."}]}}`)
			return
		}
		must(t, r.ParseMultipartForm(1<<20))
		parameters = r.FormValue("UpdateParameters")
		f, h, err := r.FormFile("UpdateFile")
		must(t, err)
		text, err := io.ReadAll(f)
		must(t, err)
		got = h.Filename + " " + string(text)
		answer(w, 202, fmt.Sprintf(task, state))
	})
	for _, action := range []string{"UpdateService.StartUpdate", "Oem/NitroUpdate.Rollback"} {
		mux.HandleFunc("POST /redfish/v1/UpdateService/Actions/"+action, func(w http.ResponseWriter, r *http.Request) {
			got = action
			answer(w, 202, fmt.Sprintf(task, "Running"))
		})
	}
	mux.HandleFunc("GET /redfish/v1/UpdateService/FirmwareInventory", func(w http.ResponseWriter, r *http.Request) {
		answer(w, 200, `{"Members":[{"Id":"slot-b","Name":"n","Version":null,"Updateable":true,"LowestSupportedVersion":"security-version-1","Status":{"State":"Absent","Health":"OK"},"Oem":{"Nitro":{"Slot":"Backup"}}}]}`)
	})
	mux.HandleFunc("GET /redfish/v1/TaskService/Tasks", func(w http.ResponseWriter, r *http.Request) {
		answer(w, 200, `{"Members":[`+fmt.Sprintf(task, state)+`]}`)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	identity := &https.Identity{Certificate: own, CAs: []*x509.Certificate{clients.CA}}
	go https.Serve(l, https.Config{Identity: func() *https.Identity { return identity }, Routes: []https.Route{{Pattern: "/", Handler: mux}}})
	as := " -cert @client.pem -key @client.key -board " + l.Addr().String() + " -pin " + hexOf(provisioning.KeyDigest(own.Leaf))

	must(t, os.WriteFile(b.path("policy.img"), []byte(strings.Repeat("package ", 9000)), 0o644))
	text := b.ok("update push -package @policy.img" + as)
	if got != "policy.img "+strings.Repeat("package ", 9000) || parameters != "{}" || !strings.Contains(text, "Completed") || strings.Contains(text, "\x1b") {
		t.Errorf("%.40q, %s, %s", got, parameters, text)
	}
	b.ok("update push -now -package @policy.img" + as)
	if !strings.Contains(parameters, `"Immediate"`) {
		t.Errorf("-now: %s", parameters)
	}
	refuse = true
	if exit, _, errs := b.run("update push -package @policy.img" + as); exit != exitRefused || !strings.Contains(errs, "next: Code 207: sign a newer one.") {
		t.Errorf("a refusal: %d %s", exit, errs)
	}
	b.ok("update activate" + as)
	if got != "UpdateService.StartUpdate" {
		t.Error(got)
	}
	b.ok("update rollback" + as)
	if got != "Oem/NitroUpdate.Rollback" {
		t.Error(got)
	}
	var all struct {
		Firmware   []map[string]any
		Tasks      []json.RawMessage
		Connection connection
	}
	b.json("update status"+as, exitOK, &all)
	if len(all.Firmware) != 1 || len(all.Tasks) != 1 || !all.Connection.Verified ||
		fmt.Sprint(all.Firmware[0]) != "map[id:slot-b lowest:security-version-1 name:n slot:Backup state:Absent updateable:true version:]" {
		t.Errorf("%+v", all)
	}
	state = "Exception"
	if exit, _, errs := b.run("update status" + as); exit != exitRefused || !strings.Contains(errs, "has failed") {
		t.Errorf("a failed update: %d %s", exit, errs)
	}
	for line, exit := range map[string]int{
		"update push" + as: exitUsage, "update push -package @nothing" + as: exitIO,
		"update status -board x -cert @client.pem -key @client.key": exitUsage, // no pin
	} {
		if got, _, errs := b.run(line); got != exit {
			t.Errorf("%s: exit code %d, not %d: %s", line, got, exit, errs)
		}
	}
}
