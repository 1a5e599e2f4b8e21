//go:build !arm

package qemutest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"nitro/boot/ticket"
	"nitro/net/provisioning"
)

// nitroctl is the operator's tool, built once.
var nitroctl = sync.OnceValues(func() (string, error) {
	folder, err := os.MkdirTemp("", "nitro-tool-")
	if err != nil {
		return "", err
	}
	program := filepath.Join(folder, "nitroctl")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", program, "nitro/cmd/nitroctl")
	cmd.Stderr = os.Stderr
	return program, cmd.Run()
})

// A tool is nitroctl in a folder that has the board's keys and release.
type tool struct {
	*trustedBoard
	program, folder string
}

func newTool(b *trustedBoard) *tool {
	b.t.Helper()
	program, err := nitroctl()
	must(b.t, err)
	t := &tool{b, program, b.t.TempDir()}
	must(b.t, b.factory.Keys.Save(filepath.Join(t.folder, "keys")), b.release.Write(filepath.Join(t.folder, "release")))
	return t
}

// run runs it, which must end with exit code 0, and decodes the result of its JSON.
func (t *tool) run(result any, line string, args ...string) {
	t.t.Helper()
	ctx, cancel := context.WithTimeout(t.t.Context(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.program, append(append(strings.Fields(line), args...), "-o", "json")...)
	cmd.Dir = t.folder
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.t.Fatalf("nitroctl %s %q: %v\n%s%s", line, args, err, &out, &errs)
	}
	answer := struct{ Result any }{result}
	must(t.t, json.Unmarshal(out.Bytes(), &answer))
}

// provision provisions the board, and gives the record.
func (t *tool) provision() *provisioning.Record {
	t.t.Helper()
	t.says(`controller: provisioning is offered on port 4430`)
	address, err := t.Address(4430)
	must(t.t, err)
	t.run(nil, "provision -keys keys -release release -record board.json -timeout 5m", "-board", address, "-makers", filepath.Join(t.tpm, "maker.pem"))
	text, err := os.ReadFile(filepath.Join(t.folder, "board.json"))
	must(t.t, err)
	record, err := provisioning.ReadRecord(text)
	must(t.t, err)
	return record
}

// look has the board in service prove itself, and asks it over the connection that this
// proves how it stands and whether its next boot will unseal.
func (t *tool) look() {
	t.t.Helper()
	address, err := t.Address(443)
	must(t.t, err)
	var verdict struct {
		Accepted bool
		Facts    struct {
			TLSKey     string `json:"tls_key"`
			Controller struct{ Version string }
		}
	}
	t.run(&verdict, "attest verify -release release -issuer board.issuer.pem -board-part board.part -board-key board.board-key.pem -accept-development -accept-open-life-cycle -accept-weak-secret",
		"-board", address, "-makers", filepath.Join(t.tpm, "maker.pem"))
	if !verdict.Accepted || verdict.Facts.Controller.Version != firstVersion {
		t.t.Errorf("the verdict is %+v", verdict)
	}
	var status struct {
		State      string
		Connection struct{ Verified bool }
	}
	t.run(&status, "status", "-board", address, "-pin", verdict.Facts.TLSKey)
	if status.State != "in service" || !status.Connection.Verified {
		t.t.Errorf("the status is %+v", status)
	}
	var seal struct{ Unseals bool }
	t.run(&seal, "seal check", "-board", address, "-pin", verdict.Facts.TLSKey)
	if !seal.Unseals {
		t.t.Error("the board's next boot would not unseal")
	}
}

// leave has the owner sign a ticket for what the board says has happened, and sends it.
func (t *tool) leave(code int, incident uint32, acceptLoss bool) {
	t.t.Helper()
	address, err := t.Address(443)
	must(t.t, err)
	type signedTicket struct {
		Code       int
		Incident   uint32
		Board      string `json:"ticket_board"`
		AcceptLoss bool   `json:"accept_loss"`
	}
	want := signedTicket{code, incident, fmt.Sprintf("%x", ticket.BoardOf(provisionedAs.record.AKName)), acceptLoss}
	var signed signedTicket
	t.run(&signed, fmt.Sprintf("ticket sign -keys keys -accept-loss=%v -out board.ticket", acceptLoss), "-board", address)
	if signed != want {
		t.t.Fatalf("the ticket is %+v, not %+v", signed, want)
	}
	t.run(nil, "ticket send board.ticket", "-board", address)
}
