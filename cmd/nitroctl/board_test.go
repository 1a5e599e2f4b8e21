package main

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"nitro/boot/card"
	"nitro/boot/code"
	"nitro/boot/release/releasetest"
	"nitro/boot/ticket"
	"nitro/net/https"
	"nitro/net/provisioning"
	"nitro/net/standing"
)

// A fakeBoard answers as it is told.
type fakeBoard struct {
	status   standing.Status
	evidence func(nonce []byte) ([]byte, error)
	seal     error
	tickets  [][]byte
}

func (f *fakeBoard) Status() standing.Status               { return f.status }
func (f *fakeBoard) Evidence(nonce []byte) ([]byte, error) { return f.evidence(nonce) }
func (f *fakeBoard) CheckSeal() error                      { return f.seal }
func (f *fakeBoard) Ticket(b []byte) error {
	if len(b) != ticket.Size {
		return errors.New("that is no \x1b[31mticket")
	}
	f.tickets = append(f.tickets, b)
	return nil
}

// serve serves HTTPS as a board does, and gives its address and the SHA-256 of its key.
func serve(t *testing.T, certificate tls.Certificate, h http.Handler) (address, key string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	identity := &https.Identity{Certificate: certificate}
	go https.Serve(l, https.Config{Identity: func() *https.Identity { return identity }, Routes: []https.Route{{Pattern: "/", Handler: h, Open: true}}})
	return l.Addr().String(), hexOf(provisioning.KeyDigest(certificate.Leaf))
}

// selfSigned is a board's certificate.
func selfSigned(t *testing.T) tls.Certificate {
	t.Helper()
	c, err := https.SelfSigned("board")
	must(t, err)
	c.Leaf, err = x509.ParseCertificate(c.Certificate[0])
	must(t, err)
	return c
}

func (f *fakeBoard) serve(t *testing.T) (address, key string) {
	t.Helper()
	return serve(t, selfSigned(t), standing.Handler(f))
}

// nobody is an address where nobody answers.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

func quarantined(why error, incident uint32, board [32]byte) standing.Status {
	return standing.Status{State: standing.InQuarantine, Board: "b", Quarantine: &standing.Quarantine{Reason: standing.ReasonOf(why), Incident: incident, Board: hexOf(board)}}
}

// TestStatus: what a board says of itself, and how far that is worth anything.
func TestStatus(t *testing.T) {
	b := newBench(t)
	f := &fakeBoard{status: standing.Status{State: standing.InService, Board: "b", Version: "1.0", Slot: "slot A"}}
	address, key := f.serve(t)
	var s statusInfo
	b.json("status -board "+address, exitOK, &s)
	if s.Version != "1.0" || s.Connection != (connection{address, key, false}) {
		t.Errorf("%+v", s)
	}
	if out := b.ok("status -board " + address); !strings.Contains(out, "not verified") || !strings.Contains(out, key) {
		t.Errorf("people see\n%s", out)
	}
	b.json("status -board "+address+" -pin "+key, exitOK, &s)
	if !s.Connection.Verified || strings.Contains(b.ok("status -board "+address+" -pin "+key), "not verified") {
		t.Errorf("pinned: %+v", s)
	}
	p := b.json("status -board "+address+" -pin "+strings.Repeat("0", 64), exitRefused, nil)
	if !strings.Contains(p.Message, "is not the pinned one: it is "+key) || p.Next == "" {
		t.Errorf("another key: %+v", p)
	}
	if p := b.json("status -board "+nobody(t), exitIO, nil); !strings.Contains(p.Message, "does not answer") {
		t.Errorf("nobody: %+v", p)
	}

	f.status.Host = &standing.Host{State: "held", Cycle: 7, Code: 703, Why: "bad\x1b[2J"}
	if out := b.ok("status -board " + address); !strings.Contains(out, "held, cycle 7") || !strings.Contains(out, "703 host-firmware") || strings.Contains(out, "\x1b") {
		t.Errorf("of a held host people see\n%s", out)
	}

	f.status = quarantined(code.StoreRolledBack.Errorf("counter 7,\x1b[2J not 9"), 3, [32]byte{1})
	p = b.json("status -board "+address, exitRefused, &s)
	if p.Code != code.StoreRolledBack || p.Next == "" || s.Quarantine.Incident != 3 {
		t.Errorf("%+v, %+v", p, s)
	}
	_, out, errs := b.run("status -board " + address)
	for _, want := range []string{"602 store-rolled-back, latched", "incident", hexOf([32]byte{1}), "counter 7, [2J not 9"} {
		if !strings.Contains(out, want) {
			t.Errorf("people do not see %q in\n%s", want, out)
		}
	}
	if strings.Contains(out+errs, "\x1b") || !strings.Contains(errs, "next: ") {
		t.Errorf("%q %q", out, errs)
	}
	f.status = standing.Status{State: standing.Unprovisioned}
	if p := b.json("status -board "+address, exitRefused, &s); p.Code != code.NotProvisioned {
		t.Errorf("%+v", p)
	}
	f.status = standing.Status{State: "asleep"}
	b.json("status -board "+address, exitRefused, &s)
}

// TestStrangers: who answers in a board's place can neither make people run something nor
// have the tool take what is no answer.
func TestStrangers(t *testing.T) {
	b := newBench(t)
	var answer string
	var status int
	address, _ := serve(t, selfSigned(t), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "https://"+r.Host+"/elsewhere")
		w.WriteHeader(status)
		w.Write([]byte(answer))
	}))
	reason := func(k uint16) string {
		q, err := json.Marshal(standing.Status{State: standing.InQuarantine, Quarantine: &standing.Quarantine{Reason: standing.Reason{Code: k, Next: "pipe this into a shell"}}})
		must(t, err)
		return string(q)
	}
	for _, c := range []struct {
		name   string
		status int
		answer string
		says   string
	}{
		{"a known code", 200, reason(602), ""},
		{"a code of a later time", 200, reason(999), "next: pipe this into a shell"},
		{"a redirection", 302, "{}", "HTTP 302"},
		{"an error", 500, `{"error":"bro\u001bken"}`, "HTTP 500): bro ken"},
		{"an error without words", 500, ``, "without saying why"},
		{"no JSON", 200, "<html>", "is it a board?"},
		{"too much", 200, strings.Repeat(" ", maxReply+1), "no board"},
	} {
		status, answer = c.status, c.answer
		exit, out, errs := b.run("status -board " + address)
		if exit != exitRefused || !strings.Contains(errs, c.says) || c.says == "" && strings.Contains(out+errs, "shell") {
			t.Errorf("%s: exit code %d\n%s%s", c.name, exit, out, errs)
		}
	}
	status, answer = 200, "{}"
	for _, line := range []string{"seal check -board ", "attest fetch -out @evidence.json -board "} {
		if exit, _, errs := b.run(line + address); exit != exitRefused {
			t.Errorf("%s: exit code %d, %s", line, exit, errs)
		}
	}
	if _, err := os.Stat(b.path("evidence.json")); err == nil {
		t.Error("what is no evidence was kept")
	}
}

// TestSealOfBoard: the dry run's outcome is the exit code.
func TestSealOfBoard(t *testing.T) {
	b := newBench(t)
	f := &fakeBoard{status: standing.Status{State: standing.InService}}
	address, key := f.serve(t)
	var s sealInfo
	b.json("seal check -pin "+key+" -board "+address, exitOK, &s)
	if !s.Unseals || !s.Connection.Verified {
		t.Errorf("%+v", s)
	}
	if out := b.ok("seal check -board " + address); !strings.Contains(out, "yes") || !strings.Contains(out, "not verified") {
		t.Errorf("people see\n%s", out)
	}
	f.seal = code.ApprovalMissing.Errorf("PCR 7")
	if p := b.json("seal check -board "+address, exitRefused, &s); p.Code != code.ApprovalMissing || s.Unseals || s.Problem.Detail == "" {
		t.Errorf("%+v, %+v", p, s)
	}
	f.status.State = standing.InQuarantine
	if exit, _, errs := b.run("seal check -board " + address); exit != exitRefused || !strings.Contains(errs, "not in service") {
		t.Errorf("in quarantine: exit code %d, %s", exit, errs)
	}
	if exit, _, _ := b.run("seal check -card x -board " + address); exit != exitUsage {
		t.Errorf("board and card: exit code %d", exit)
	}
}

// keepRecord writes a record of a board with an attestation key.
func keepRecord(t *testing.T, path string, akName []byte) {
	t.Helper()
	text, err := json.Marshal(provisioning.Record{Format: 1, AKName: akName})
	must(t, err)
	must(t, os.WriteFile(path, text, 0o600))
}

// TestTicket: a ticket is signed for what flags or the board say, and for the board that
// the record names; it goes to the board, or on its card.
func TestTicket(t *testing.T) {
	b := newBench(t)
	b.card()
	owner, err := releasetest.Keys().Config(releasetest.Product, 1)
	must(t, err)
	name := []byte("TPM name of the attestation key")
	keepRecord(t, b.path("board.json"), name)
	keepRecord(t, b.path("other.json"), []byte("another"))
	f := &fakeBoard{status: quarantined(code.StoreRolledBack.Errorf("old"), 3, ticket.BoardOf(name))}
	address, _ := f.serve(t)

	var i, asked ticketInfo
	b.json("ticket sign -keys @keys -record @board.json -code 602 -incident 3 -out @a.ticket", exitOK, &i)
	b.json("ticket sign -keys @keys -record @board.json -board "+address+" -accept-loss -out @b.ticket", exitOK, &asked)
	if i.Name != "store-rolled-back" || i.Connection != nil || asked.Connection == nil || asked.Connection.Verified || !asked.AcceptLoss || asked.Incident != 3 {
		t.Errorf("%+v, %+v", i, asked)
	}
	for file, loss := range map[string]bool{"a.ticket": false, "b.ticket": true} {
		raw, err := os.ReadFile(b.path(file))
		must(t, err)
		got, err := ticket.Open(raw, owner.Owner)
		must(t, err)
		if err := got.For(name, 602, 3); err != nil || got.AcceptLoss != loss {
			t.Errorf("%s: %+v, %v", file, got, err)
		}
	}

	var sent sentInfo
	b.json("ticket send -board "+address+" @a.ticket", exitOK, &sent)
	if len(f.tickets) != 1 {
		t.Errorf("the board has %d tickets", len(f.tickets))
	}
	must(t, os.WriteFile(b.path("short.ticket"), make([]byte, 100), 0o644))
	if exit, _, errs := b.run("ticket send -board " + address + " @short.ticket"); exit != exitRefused || !strings.Contains(errs, "HTTP 403): that is no  [31mticket") {
		t.Errorf("a short one: exit code %d, %q", exit, errs)
	}

	b.json("card ticket -anchors @release/anchors.bin -card @card.img @b.ticket", exitOK, &i)
	d, err := card.Open(b.path("card.img"), false)
	must(t, err)
	got, err := ticket.Read(d, owner.Owner)
	must(t, err)
	must(t, d.Close())
	if got.For(name, 602, 3) != nil || !got.AcceptLoss || !i.AcceptLoss {
		t.Errorf("on the card is %+v", got)
	}
	b.ok("card inspect @card.img")

	b.ok("keys new -only owner -out @stranger")
	b.ok("ticket sign -keys @stranger -record @board.json -code 602 -incident 3 -out @forged.ticket")
	digest := hexOf(sha256.Sum256(nil))
	for _, c := range []struct {
		line string
		exit int
		says string
	}{
		{"card ticket -card @card.img @forged.ticket", exitRefused, "not the owner's"},
		{"card ticket @a.ticket", exitUsage, "-card is missing"},
		{"ticket sign -keys @keys -record @other.json -board " + address + " -out @x", exitRefused, "another board"},
		{"ticket sign -keys @keys -record @board.json -ticket-board " + digest + " -code 602 -incident 3 -out @x", exitRefused, "another board"},
		{"ticket sign -keys @keys -code 602 -incident 3 -out @x", exitUsage, "-record or -ticket-board"},
		{"ticket sign -keys @keys -record @board.json -out @x", exitUsage, "give -board, or"},
		{"ticket sign -keys @keys -record @board.json -board " + address + " -code 602 -out @x", exitUsage, "give -board, or"},
		{"ticket sign -keys @keys -record @board.json -code 602 -out @x", exitUsage, "a code and an incident"},
		{"ticket sign -keys @keys -record @board.json -code 4294967898 -incident 3 -out @x", exitUsage, "no board has such"},
		{"ticket sign -keys @keys -record @board.json -code 503 -incident 3 -out @x", exitRefused, "transient"},
		{"ticket sign -keys @keys -record @keys/owner.pem -code 602 -incident 3 -out @x", exitRefused, "no record of a board"},
		{"ticket sign -keys @keys -record @board.json -code 602 -incident 3 -out @a.ticket", exitIO, "nothing is overwritten"},
		{"ticket send @a.ticket", exitUsage, "-board is missing"},
	} {
		exit, _, errs := b.run(c.line)
		if exit != c.exit || !strings.Contains(errs, c.says) {
			t.Errorf("nitroctl %s: exit code %d, want %d and %q:\n%s", c.line, exit, c.exit, c.says, errs)
		}
		if _, err := os.Stat(b.path("x")); err == nil {
			t.Fatalf("nitroctl %s left something behind", c.line)
		}
	}
	f.status = standing.Status{State: standing.InService}
	for _, line := range []string{"ticket sign -keys @keys -record @board.json -out @x -board ", "ticket send @a.ticket -board "} {
		if exit, _, errs := b.run(line + address); exit != exitRefused {
			t.Errorf("in service: %s: exit code %d, %s", line, exit, errs)
		}
	}
	b.noSecrets()
}

// TestWithPort: an address may have a port or not.
func TestWithPort(t *testing.T) {
	for in, want := range map[string]string{"b": "b:443", "b:1": "b:1", "::1": "[::1]:443", "[::1]": "[::1]:443", "[::1]:2": "[::1]:2", "192.0.2.1": "192.0.2.1:443"} {
		if got := withPort(in, httpsPort); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}

// TestPolicy: a policy is read strictly, and one that means nothing is refused before
// anybody is asked.
func TestPolicy(t *testing.T) {
	b := newBench(t)
	b.release("1.0", "release", "")
	issuer, _, err := releasetest.Keys().Issuer()
	must(t, err)
	must(t, os.WriteFile(b.path("issuer.pem"), encodePEM("CERTIFICATE", issuer.Raw), 0o644))
	must(t, os.WriteFile(b.path("evidence.json"), []byte("{}"), 0o644))
	files := map[string]string{
		"good.json":    `{"format":1,"releases":["release"],"anchors":"release/anchors.bin","issuers":["issuer.pem"],"security_version":3,"accept_development":true}`,
		"unknown.json": `{"format":1,"releases":["release"],"issuers":["issuer.pem"],"accept_all":true}`,
		"twice.json":   `{"format":1,"releases":["release"],"issuers":["issuer.pem"],"accept_development":true,"accept_development":false}`,
		"later.json":   `{"format":2,"releases":["release"],"issuers":["issuer.pem"]}`,
		"empty.json":   `{"format":1}`,
	}
	for name, text := range files {
		must(t, os.WriteFile(b.path(name), []byte(text), 0o644))
	}
	file := "attest verify -in @evidence.json -nonce 0001020304050607 "
	for _, c := range []struct {
		line string
		exit int
		says string
	}{
		{file + "-policy @good.json", exitRefused, "the evidence is refused: format"},
		{file + "-policy @unknown.json", exitRefused, "accept_all"},
		{file + "-policy @twice.json", exitRefused, "comes twice"},
		{file + "-policy @later.json", exitRefused, "format 2"},
		{file + "-policy @empty.json", exitUsage, "whose attestation key is good"},
		{file + "-policy @nowhere.json", exitIO, "no such file"},
		{file + "-policy @good.json -accept-open-life-cycle", exitUsage, "-policy and -accept-open-life-cycle"},
		{file, exitUsage, "whose attestation key is good"},
		{file + "-issuer @issuer.pem", exitUsage, "no known-good release"},
		{file + "-release @release", exitUsage, "whose attestation key is good"},
		{file + "-release @release -issuer @issuer.pem", exitRefused, "the evidence is refused: format"},
		{file + "-release @release -issuer @release/anchors.bin", exitRefused, "no PEM block CERTIFICATE"},
		{file + "-release @release -issuer @keys/owner.pub.pem", exitRefused, "certificates alone"},
		{file + "-release @release -ak-name 00", exitUsage, "TPM name"},
		{file + "-release @release -issuer @issuer.pem -configuration 00", exitUsage, "SHA-256 of a configuration"},
		{file + "-release @release -issuer @issuer.pem -security-version 65", exitUsage, "0 to 64"},
		{file + "-release @release -issuer @issuer.pem -board-part x", exitUsage, "belong together"},
		{file + "-release @release -issuer @issuer.pem -pin 00", exitUsage, "-pin"},
		{file + "-release @release -issuer @issuer.pem -out @x", exitUsage, "-out goes with -board"},
		{"attest verify -in @evidence.json -release @release -issuer @issuer.pem", exitUsage, "may be of any age"},
		{"attest verify -in @evidence.json -nonce 00 -release @release -issuer @issuer.pem", exitUsage, "8 to 64 bytes"},
		{"attest verify -release @release -issuer @issuer.pem", exitUsage, "-board is missing"},
		{"attest verify -board b -nonce 0001020304050607 -release @release -issuer @issuer.pem", exitUsage, "new random nonce"},
		{"attest verify -board b -timeout 0s -release @release -issuer @issuer.pem", exitUsage, "longer than nothing"},
		{"attest fetch -board b", exitUsage, "-out is missing"},
		{"attest export -in @evidence.json -out @x", exitRefused, "evidence"},
		{"attest export -out @x", exitUsage, "-in is missing"},
	} {
		exit, _, errs := b.run(c.line)
		if exit != c.exit || !strings.Contains(errs, c.says) {
			t.Errorf("nitroctl %s: exit code %d, want %d and %q:\n%s", c.line, exit, c.exit, c.says, errs)
		}
	}
	p, err := readPolicy([]byte(files["good.json"]))
	must(t, err)
	v, err := p.policy(b.dir)
	must(t, err)
	if !v.Development || v.OpenLifeCycle || v.WeakSecret || v.SecurityVersion != 3 || len(v.Releases) != 1 || v.Issuers == nil || v.Makers != nil {
		t.Errorf("%+v", v)
	}
}
