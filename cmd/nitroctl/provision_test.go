package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nitro/attest/eventlog"
	"nitro/attest/evidence"
	"nitro/attest/identity"
	"nitro/attest/tpm"
	"nitro/boot/card"
	"nitro/boot/code"
	"nitro/boot/handover"
	"nitro/boot/release"
	"nitro/internal/swtpm"
	"nitro/net/provisioning"
	"nitro/net/standing"
)

// A tpmBoard is a board in this process, with a real TPM and the bench's card.
type tpmBoard struct {
	*bench
	chip        *swtpm.TPM
	soc         []byte
	certificate tls.Certificate // of this boot
	log         *eventlog.Log
}

// newTPMBoard makes one, and the file of its TPM's maker.
func newTPMBoard(b *bench) *tpmBoard {
	b.Helper()
	folder := b.TempDir()
	root, err := swtpm.Make(folder)
	must(b, err)
	must(b, os.WriteFile(b.path("makers.pem"), encodePEM("CERTIFICATE", root.Raw), 0o644))
	return &tpmBoard{bench: b, chip: swtpm.Open(b, folder), soc: bytes.Repeat([]byte{9}, 32)}
}

// A measurer extends PCRs; without a session on a board that has no pin yet.
type measurer struct {
	t *tpm.TPM
	s *tpm.Session
}

func (m measurer) Extend(pcr int, d eventlog.Digest) error { return m.t.Extend(m.s, uint(pcr), d) }

// measure measures a boot of the bench's release with a new TLS key.
func (b *tpmBoard) measure(m measurer, more ...eventlog.Event) {
	b.Helper()
	r, err := release.Read(b.path("release"))
	must(b, err)
	b.certificate, b.log = selfSigned(b.T), eventlog.New()
	for _, e := range slices.Concat(r.Golden.Events(), []eventlog.Event{board(7), eventlog.Configuration(sha256.Sum256(nil), 2), eventlog.Slot(0, 1)}, more,
		[]eventlog.Event{eventlog.Identity(provisioning.KeyDigest(b.certificate.Leaf), sha256.Sum256(nil))}) {
		must(b, b.log.Measure(m, e))
	}
}

// offer boots an unprovisioned board. off ends its boot; what came of its provisioning is
// on the channel.
func (b *tpmBoard) offer() (address string, off func(), ended <-chan error) {
	b.Helper()
	b.chip.Cycle()
	t, err := tpm.Start(b.chip)
	must(b, err)
	b.measure(measurer{t, nil})
	signed, err := findConfig(b.path("card.img"), nil)
	must(b, err)
	d, err := card.Open(b.path("card.img"), true)
	must(b, err)
	s, err := provisioning.New(provisioning.Board{TPM: t, Device: d, SoC: b.soc, Strength: handover.NoSecret, Development: true,
		Config: signed.Config, Log: b.log, Certificate: b.certificate, Floor: 3})
	must(b, err)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(b, err)
	c := make(chan error, 1)
	ctx, cancel := context.WithCancel(b.Context())
	go func() {
		r, err := s.Serve(ctx, l)
		if err == nil && r == nil {
			err = errors.New("nothing came of it")
		}
		c <- errors.Join(err, d.Close())
	}()
	b.Cleanup(cancel)
	return l.Addr().String(), cancel, c
}

// boot boots the provisioned board as far as evidence needs, and serves.
func (b *tpmBoard) boot(r *provisioning.Record) (address, key string) {
	b.Helper()
	b.chip.Cycle()
	t, err := tpm.Start(b.chip)
	must(b, err)
	must(b, t.Pin(r.StorageName))
	ak, public, err := identity.AK(t, b.soc)
	must(b, err)
	s, err := t.NewSession(ak)
	must(b, err)
	b.measure(measurer{t, s}, eventlog.Cap())
	source := evidence.Source{TPM: t, Session: s, AK: ak, AKPublic: public, AKCertificate: r.AKCertificate, EKCertificates: [][]byte{r.EKCertificate}, Log: b.log}
	return serve(b.T, b.certificate, standing.Handler(&fakeBoard{status: standing.Status{State: standing.InService}, evidence: source.Make}))
}

// TestProvision provisions a board with a real TPM by way of an enemy, a cut and a
// mistake, and then has it prove itself.
func TestProvision(t *testing.T) {
	b := newBench(t)
	b.card()
	m := newTPMBoard(b)
	line := "provision -keys @keys -release @release -anchors @release/anchors.bin -makers @makers.pem -record @board.json -timeout 5m -board "

	// Nobody is there: nothing is left behind.
	if p := b.json(line+nobody(t)+" -timeout 300ms", exitIO, nil); !strings.Contains(p.Next, "give the command again") {
		t.Errorf("nobody: %+v", p)
	}
	// The TPM is of another maker, the board another one than is meant.
	address, off, ended := m.offer()
	other, err := swtpm.Make(t.TempDir())
	must(t, err)
	must(t, os.WriteFile(b.path("others.pem"), encodePEM("CERTIFICATE", other.Raw), 0o644))
	p := b.json(strings.ReplaceAll(line, "@makers.pem", "@others.pem")+address, exitRefused, nil)
	if !strings.Contains(p.Message, "hello") || !strings.Contains(p.Next, "-makers") {
		t.Errorf("another maker: %+v", p)
	}
	if p := b.json(line+address+" -unique-id 0000000000000008", exitRefused, nil); !strings.Contains(p.Message, "not the board that was expected") || p.Next == "" {
		t.Errorf("another board: %+v", p)
	}
	foreign, err := json.Marshal(provisioning.Record{Format: 1, EKCertificate: other.Raw})
	must(t, err)
	must(t, os.WriteFile(b.path("foreign.json"), foreign, 0o600))
	if p := b.json(line+address+" -record @foreign.json", exitRefused, nil); !strings.Contains(p.Message, "of another TPM") {
		t.Errorf("another board's record: %+v", p)
	}
	b.ok("keys new -development -out @strangers")
	if p := b.json(strings.ReplaceAll(line, "@keys", "@strangers")+address, exitRefused, nil); p.Code != code.FactoryUnknown || p.Next == "" {
		t.Errorf("another factory: %+v", p)
	}
	for more, says := range map[string]string{" -lockout @keys/owner.pem": "nothing is overwritten", " -record @nowhere/board.json": "no such file"} {
		if p := b.json(line+address+more, exitIO, nil); !strings.Contains(p.Message, says) {
			t.Errorf("%s: %+v", more, p)
		}
	}
	if _, err := os.Stat(b.path("board.json")); err == nil {
		t.Error("a board that was refused has a record")
	}

	// The run is cut before the board is provisioned, and so is the board's power; the same
	// command goes on.
	must(t, os.Mkdir(b.path("board.part.new"), 0o700))
	if p := b.json(line+address, exitIO, nil); !strings.Contains(p.Message, "commit") {
		t.Errorf("the disk is full: %+v", p)
	}
	if r, err := readRecord(b.path("board.json")); err != nil || r.Complete || len(r.Lockout) != 32 {
		t.Errorf("behind a cut the record is %+v, %v", r, err)
	}
	must(t, os.Remove(b.path("board.part.new")))
	off()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	address, _, ended = m.offer()
	exit, out, errs := b.run(line + address + " -lockout @lockout")
	if exit != exitOK {
		t.Fatalf("exit code %d\n%s%s", exit, out, errs)
	}
	must(t, <-ended)
	for i, p := range purposes {
		if !strings.Contains(errs, string(p.step)+": "+p.purpose) || strings.Count(errs, "\n") != len(purposes) {
			t.Errorf("step %d is not told once in\n%s", i, errs)
		}
	}
	r, err := readRecord(b.path("board.json"))
	must(t, err)
	lockout, err := os.ReadFile(b.path("lockout"))
	must(t, err)
	if !r.Complete || strings.TrimSpace(string(lockout)) != hex.EncodeToString(r.Lockout) || len(r.Lockout) != 32 {
		t.Errorf("the record is %+v", r)
	}
	for _, name := range []string{"board.json", "lockout"} {
		if info, err := os.Stat(b.path(name)); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if p := b.json(line+address, exitRefused, nil); !strings.Contains(p.Message, "is complete") {
		t.Errorf("with a complete record: %+v", p)
	}
	if p := b.json(strings.ReplaceAll(line, "@board.json", "@board.record")+address, exitIO, nil); !strings.Contains(p.Message, "name another record") {
		t.Errorf("beside another board's files: %+v", p)
	}
	for _, secret := range []string{hex.EncodeToString(r.Lockout), base64.StdEncoding.EncodeToString(r.Lockout)} {
		if strings.Contains(b.printed.String(), secret) {
			t.Error("the lockout authorisation was printed")
		}
	}
	b.noSecrets()

	// What lies beside the record is what other commands take.
	b.ok("card inspect -anchors @release/anchors.bin -board-key @board.board-key.pem @card.img")
	b.ok("seal check -card @card.img -board-key @board.board-key.pem")
	must(t, os.WriteFile(b.path("boot.log"), m.log.Bytes(), 0o644))
	b.ok("golden check -known-good @release -board-part @board.part -board-key @board.board-key.pem @boot.log")
	m.attest(r)
}

// byPolicy has commands prove the board by the policy of a context when its key is not the one
// that is kept there, and go on only if it is accepted.
func (b *tpmBoard) byPolicy(address, key string) {
	b.Helper()
	const weak = `"accept_development":true,"accept_open_life_cycle":true,"accept_weak_secret":true,`
	for name, accepts := range map[string]string{"good.policy": weak, "strict.policy": ""} {
		must(b, os.WriteFile(b.path(name), []byte(`{"format":1,`+accepts+`"releases":["release"],"issuers":["board.issuer.pem"]}`), 0o644))
	}
	stale := strings.Repeat("0", 64)
	b.ok("context add proves -policy @good.policy -pin " + stale + " -board " + address)
	b.ok("context add refuses -policy @strict.policy -pin " + stale + " -board " + address)
	var s statusInfo
	if b.json("status -context proves", exitOK, &s); !s.Connection.Verified || s.Connection.TLSKey != key {
		b.Errorf("%+v", s.Connection)
	}
	if p := b.json("status -context refuses", exitRefused, nil); !strings.Contains(p.Message, "shows another key") || !strings.Contains(p.Message, "life cycle") || !strings.Contains(p.Next, "attest verify -context refuses") {
		b.Errorf("%+v", p)
	}
	if p := b.json("status -context proves -pin "+stale, exitRefused, nil); !strings.Contains(p.Message, "is not the pinned one") {
		b.Errorf("a pin that is given does not win: %+v", p)
	}
	var shown, refused certInfo
	if b.json("cert show -context proves", exitOK, &shown); shown.Bound != boundByEvidence || shown.Certificates[0].Key != key || !shown.Connection.Verified {
		b.Errorf("%+v", shown)
	}
	if p := b.json("cert show -context refuses", exitRefused, &refused); !strings.Contains(p.Message, "is not bound") || refused.Bound != "" || refused.Connection.Verified {
		b.Errorf("%+v, %+v", p, refused)
	}
	b.ok("attest verify -context proves") // its policy, where no flag gives one
	c, err := readContexts()
	if err != nil || c.find("proves").Pin != key || c.find("refuses").Pin != stale {
		b.Errorf("kept is %+v, %v", c, err)
	}
}

// attest has the provisioned board prove itself.
func (b *tpmBoard) attest(r *provisioning.Record) {
	b.Helper()
	address, key := b.boot(r)
	known := " -issuer @board.issuer.pem -board-part @board.part -board-key @board.board-key.pem -makers @makers.pem -ak-name " + hex.EncodeToString(r.AKName)
	policy := " -release @release -anchors @release/anchors.bin -security-version 3 -accept-development -accept-open-life-cycle -accept-weak-secret" + known
	var v verdict
	b.json("attest verify -board "+address+" -out @evidence.json"+policy, exitOK, &v)
	if !v.Accepted || v.Facts.UniqueID != r.UniqueID || v.Facts.TLSKey != key || *v.Connection != (connection{address, key, true}) || len(v.NotChecked) == 0 || v.Facts.Controller.Version != "1.0" {
		b.Errorf("%+v", v)
	}
	for _, c := range v.Checks {
		if unwanted := c.Name == "wrapping key" || c.Name == "host firmware"; (c.Outcome == "ok") == unwanted {
			b.Errorf("%+v", c)
		}
	}
	b.Setenv("XDG_CONFIG_HOME", b.path("config"))
	b.ok("context add earlier -pin " + strings.Repeat("0", 64) + " -board " + address)
	b.json("attest verify -context earlier"+policy, exitOK, &v)
	b.ok("status") // by the pin that is kept now
	if c, err := readContexts(); err != nil || c.find("earlier").Pin != key {
		b.Errorf("proved, and the context has %+v, %v", c, err)
	}
	b.byPolicy(address, key)
	out := b.ok("attest verify -board " + address + policy)
	for _, want := range []string{"ok        replay", "not checked: ", "ends at this board", key} {
		if !strings.Contains(out, want) {
			b.Errorf("people do not see %q in\n%s", want, out)
		}
	}

	// What is not accepted by name is refused, and said.
	b.json("attest verify -board "+address+" -release @release -issuer @board.issuer.pem", exitRefused, &v)
	bad := slices.DeleteFunc(v.Checks, func(c checkLine) bool { return !c.Wanted || c.Outcome == "ok" })
	if len(bad) != 3 || bad[0].Name != "development" || bad[1].Name != "life cycle" || bad[2].Name != "SoC secret" || v.Facts != nil || v.Connection.Verified {
		b.Errorf("refused are %+v", bad)
	}
	// Somebody relays the board's evidence from a connection of his own.
	var evidenceOf fetchInfo
	b.json("attest fetch -board "+address+" -out @fetched.json", exitOK, &evidenceOf)
	relay, _ := serve(b.T, selfSigned(b.T), standing.Handler(&fakeBoard{evidence: func(nonce []byte) ([]byte, error) {
		a, err := fetchEvidence(&remote{address: address, limit: provisioningLimit}, nonce)
		if err != nil {
			return nil, err
		}
		return a.body, nil
	}}))
	b.json("attest verify -board "+relay+policy, exitRefused, &v)
	if bad := slices.DeleteFunc(v.Checks, func(c checkLine) bool { return !c.Wanted || c.Outcome == "ok" }); len(bad) != 1 || bad[0].Name != "TLS key" {
		b.Errorf("relayed: %+v", bad)
	}

	// A file is judged by its nonce, and by the key of the connection it came over.
	file := "attest verify -in @fetched.json -nonce " + evidenceOf.Nonce + policy
	b.json(file+" -pin "+evidenceOf.Connection.TLSKey, exitOK, &v)
	if v.Connection != nil || !strings.Contains(b.ok(file), "no connection was looked at") {
		b.Errorf("of a file: %+v", v.Connection)
	}
	b.json(file+" -pin "+strings.Repeat("0", 64), exitRefused, nil)
	b.json("attest verify -in @fetched.json -nonce 0001020304050607"+policy, exitRefused, nil)
	b.ok("golden check -known-good @release @fetched.json")
	if p := b.json("attest verify -in @fetched.json -nonce "+evidenceOf.Nonce+" -release @release -issuer @board.issuer.pem -makers @board.ak.pem", exitRefused, nil); !strings.Contains(p.Message, "signs itself") {
		b.Errorf("makers without a root: %+v", p)
	}

	b.stock(evidenceOf.Nonce)
}

// stock has tpm2-tools verify what attest export writes.
func (b *tpmBoard) stock(nonce string) {
	b.Helper()
	var e exportInfo
	b.json("attest export -in @fetched.json -out @parts", exitOK, &e)
	if e.Nonce != nonce || len(e.Files) != 5 {
		b.Errorf("%+v", e)
	}
	if exit, _, errs := b.run("attest export -in @fetched.json -out @parts"); exit != exitIO || !strings.Contains(errs, "new folder") {
		b.Errorf("twice: exit code %d, %s", exit, errs)
	}
	// The command line is the one in the help.
	var command string
	for line := range strings.Lines(attestGroup.find("export").about) {
		if strings.Contains(line, "tpm2_checkquote") {
			command = strings.TrimSpace(line)
		}
	}
	check := func(nonce string) ([]byte, error) {
		words := strings.Fields(strings.ReplaceAll(command, "NONCE", nonce))
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Dir = e.Folder
		return cmd.CombinedOutput()
	}
	if out, err := check(e.Nonce); err != nil {
		b.Errorf("%s (Debian's tpm2-tools, which internal/deps/install.sh installs): %v\n%s", command, err, out)
	}
	if out, err := check("00" + e.Nonce[2:]); err == nil {
		b.Errorf("another nonce: tpm2_checkquote accepts\n%s", out)
	}
	if out, err := exec.Command("tpm2_eventlog", filepath.Join(e.Folder, "log")).CombinedOutput(); err != nil || !strings.Contains(string(out), "EventNum: 0") {
		b.Errorf("tpm2_eventlog: %v\n%s", err, out)
	}
}

// TestRecordFile: the record is private from its first byte, replaced at once, and never
// another's.
func TestRecordFile(t *testing.T) {
	b := newBench(t)
	f := &recordFile{path: b.path("board.json")}
	if r, err := f.open(); r != nil || err != nil {
		t.Fatalf("%v, %v", r, err)
	}
	if files, _ := filepath.Glob(b.path("board*")); len(files) != 0 {
		t.Errorf("looking leaves %v", files)
	}
	must(t, os.WriteFile(f.path+".new", []byte("of a run that was cut, and readable"), 0o644))
	must(t, f.keep(provisioning.Record{Format: 1, UniqueID: "7", Lockout: []byte("secret")}))
	if info, err := os.Stat(f.path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	r, err := f.open()
	must(t, err)
	if r.UniqueID != "7" || string(r.Lockout) != "secret" {
		t.Errorf("%+v", r)
	}
	text, err := json.Marshal(describeRecord(r, f.path, ""))
	must(t, err)
	if bytes.Contains(text, []byte("secret_lockout")) || r.Lockout == nil {
		t.Errorf("%s", text)
	}
	must(t, os.WriteFile(f.path, []byte("{}"), 0o600))
	if _, err := f.open(); err == nil {
		t.Error("what is no record was taken for one")
	}
	nowhere := &recordFile{path: filepath.Join(b.dir, "nowhere", "board.json")}
	if _, err := nowhere.open(); exitOf(err) != exitIO {
		t.Errorf("a folder that is not there: %v", err)
	}
}
