//go:build !arm

package qemutest

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"nitro/attest/golden"
	"nitro/attest/verify"
	"nitro/boot/config"
	"nitro/boot/release"
	"nitro/boot/securitykey"
	"nitro/internal/metal"
	"nitro/internal/tied"
	"nitro/net/provisioning"
	"nitro/net/standing"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/rack"
)

// programs are the bootloader and the controller as the product has them, built once.
var programs = sync.OnceValues(func() (p [2]string, err error) {
	folder, err := tied.NewFolder("nitro-programs-")
	if err != nil {
		return p, err
	}
	p = [2]string{folder.Join("bootloader.elf"), folder.Join("controller.elf")}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	if err = (metal.Build{Bootloader: true}).Image(ctx, "nitro/cmd/bootloader", p[0]); err == nil {
		err = (metal.Build{}).Image(ctx, "nitro/cmd/controller", p[1])
	}
	return p, err
})

// A trustedBoard is an emulated board with card and TPM that last over its times of power.
type trustedBoard struct {
	t       *testing.T
	factory *factory.Factory
	release *release.Release
	card    string // file
	flash   string // file of the card that stands in for the host's flash; "" where no host is guarded
	tpm     string // folder
	*rack.Rack
}

const firstVersion = "1.0"

// newBoard makes a board as it comes to the factory's provisioning, with a configuration
// that change may change.
func newBoard(t *testing.T, change func(*config.Config)) *trustedBoard {
	t.Helper()
	p, err := programs()
	must(t, err)
	f, err := developmentKeys()
	must(t, err)
	folder := t.TempDir()
	b := &trustedBoard{t: t, factory: f, card: filepath.Join(folder, "card.img"), tpm: filepath.Join(folder, "tpm")}
	b.release, err = f.Release(p[0], p[1], factory.Version{Name: firstVersion, Security: 1})
	must(t, err)
	configuration, err := f.Configuration(1, change)
	must(t, err, f.Card(b.card, configuration, b.release), factory.MakeTPM(b.tpm))
	return b
}

// provisionedParts are a board's card and TPM as they leave the factory.
type provisionedParts struct {
	board  *trustedBoard
	record *provisioning.Record
}

var (
	provisionOnce sync.Once
	provisionedAs provisionedParts
)

// newProvisioned makes a board that has been provisioned: a copy of one that all tests of a
// run share.
func newProvisioned(t *testing.T) *trustedBoard {
	t.Helper()
	provisionOnce.Do(func() {
		b := newBoard(t, nil)
		folder, err := tied.NewFolder("nitro-board-")
		must(t, err)
		b.on(nil)
		record := b.provision()
		b.says(`controller: slot A is proven; .*`)
		b.off()
		kept := *b
		kept.card, kept.tpm = folder.Join("card.img"), folder.Join("tpm")
		must(t, rack.CopyCard(kept.card, b.card), os.CopyFS(kept.tpm, os.DirFS(b.tpm)))
		provisionedAs = provisionedParts{&kept, record}
	})
	if provisionedAs.board == nil {
		t.Fatal("the board that all tests share could not be provisioned")
	}
	folder, b := t.TempDir(), *provisionedAs.board
	b.t, b.card, b.tpm = t, filepath.Join(folder, "card.img"), filepath.Join(folder, "tpm")
	must(t, rack.CopyCard(b.card, provisionedAs.board.card), os.CopyFS(b.tpm, os.DirFS(provisionedAs.board.tpm)))
	return &b
}

// leave lets a board out of a latched quarantine, as its owner does.
func (b *trustedBoard) leave(code int, incident uint32, acceptLoss bool) {
	b.t.Helper()
	newTool(b).leave(code, incident, acceptLoss)
}

// ports are those of the board that the tests reach.
var ports = map[int]int{443: 0, 4430: 0}

// on switches the board on, in a rack that change may change.
func (b *trustedBoard) on(change func(*rack.Config)) {
	b.t.Helper()
	c := rack.Config{
		TPMState: b.tpm, Cards: [2]string{b.card}, Expander: true, Wires: rack.HostWires(),
		Nets: []rack.Net{{Cable: rack.User, Forward: ports}, {Cable: rack.User}},
	}
	if b.flash != "" {
		c.Cards[1], c.Host, c.Wires = b.flash, true, nil
	}
	if change != nil {
		change(&c)
	}
	r, err := rack.Start(c)
	must(b.t, err)
	b.t.Cleanup(r.Close)
	b.Rack = r
}

// off switches it off.
func (b *trustedBoard) off() { b.Cut() }

// says waits for a line of the console.
func (b *trustedBoard) says(pattern string) []string {
	b.t.Helper()
	m, err := b.Expect(pattern+`\r\n`, 3*time.Minute)
	must(b.t, err)
	return m
}

// provision provisions it.
func (b *trustedBoard) provision() *provisioning.Record {
	b.t.Helper()
	b.says(`controller: provisioning is offered on port 4430`)
	address, err := b.Address(4430)
	must(b.t, err)
	makers, err := factory.Makers(b.tpm)
	must(b.t, err)
	ctx, cancel := context.WithTimeout(b.t.Context(), 5*time.Minute)
	defer cancel()
	record, err := b.factory.Provision(ctx, factory.Provisioning{Address: address, Makers: makers, Releases: []*release.Release{b.release}})
	must(b.t, err)
	return record
}

// ask asks for JSON over HTTPS.
func (b *trustedBoard) ask(method, path, body string) (int, []byte) {
	b.t.Helper()
	address, err := b.Address(443)
	must(b.t, err)
	r, err := http.NewRequestWithContext(b.t.Context(), method, "https://"+address+path, bytes.NewReader([]byte(body)))
	must(b.t, err)
	answer, err := client().Do(r)
	must(b.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(b.t, err)
	return answer.StatusCode, text
}

// status is what the board says of itself.
func (b *trustedBoard) status() (s struct {
	State      string
	Host       standing.Host
	Quarantine struct {
		Code     int
		Incident uint32
	}
}) {
	b.t.Helper()
	code, text := b.ask("GET", "/v1/status", "")
	if code != http.StatusOK {
		b.t.Fatalf("status: %d %s", code, text)
	}
	must(b.t, json.Unmarshal(text, &s))
	return s
}

// evidence has the board prove itself, and judges that; host is what its host may run, or
// nil.
func (b *trustedBoard) evidence(host *golden.HostSet) (*verify.Result, error) {
	b.t.Helper()
	nonce := make([]byte, 32)
	rand.Read(nonce)
	code, text := b.ask("POST", "/v1/evidence", fmt.Sprintf(`{"nonce":"%x"}`, nonce))
	if code != http.StatusOK {
		b.t.Fatalf("evidence: %d %s", code, text)
	}
	issuer, _, err := b.factory.Keys.Issuer()
	must(b.t, err)
	pool := x509.NewCertPool()
	pool.AddCert(issuer)
	return verify.Evidence(text, verify.Policy{
		Nonce: nonce, Issuers: pool, Releases: []*golden.Release{b.release.Golden},
		Development: true, OpenLifeCycle: true, WeakSecret: true, Host: host,
	})
}

// TestChain: a board comes out of the factory's hands provisioned, by the factory's own
// tool, boots with its store open, proves itself, and keeps all of that over a reset and a
// power cut.
func TestChain(t *testing.T) {
	b := newBoard(t, nil)
	b.on(nil)
	tool := newTool(b)
	record := tool.provision()
	if !record.Complete || len(record.Lockout) != 32 || len(record.AKName) == 0 {
		t.Errorf("the factory's record is %+v", record)
	}
	b.says(`controller: the store is open: .*`)
	b.says(`controller: ready`)
	b.says(`controller: slot A is proven; the rollback floor is 1`)
	if s := b.status(); s.State != "in service" {
		t.Errorf("it is %+v", s)
	}
	if r, err := b.evidence(nil); err != nil {
		for _, c := range r.Checks {
			t.Log(c)
		}
		t.Error(err)
	}
	tool.look()
	must(t, b.Reset())
	b.says(`controller: slot A is proven; the rollback floor is 1`)
	b.off()
	b.on(nil)
	b.says(`controller: slot A is proven; the rollback floor is 1`)
}

// TestSecurityKey: a board whose configuration wants the removable security key opens its
// store with that one alone, and loses nothing while it is away.
func TestSecurityKey(t *testing.T) {
	b := newBoard(t, func(c *config.Config) { c.SecurityKey = true })
	key := func(secret byte) string {
		file := filepath.Join(t.TempDir(), "eeprom")
		rom := make([]byte, 4096)
		copy(rom, securitykey.Encode([securitykey.SecretSize]byte{secret}))
		must(t, os.WriteFile(file, rom, 0o600))
		return file
	}
	with := func(eeprom string) func(*rack.Config) { return func(c *rack.Config) { c.EEPROM = eeprom } }
	own := key(1)
	b.on(with(own))
	b.provision()
	b.says(`controller: slot A is proven; .*`)
	b.off()
	for _, c := range []struct{ eeprom, says string }{
		{"", `controller: quarantine: code 504 security-key-missing`},
		{key(2), `controller: quarantine: code 607 store-key`},
		{own, `controller: slot A is proven; .*`},
	} {
		b.on(with(c.eeprom))
		b.says(c.says)
		b.off()
	}
}

// TestNoTPM: without a TPM nothing of the card runs but the bootloader, which says why.
func TestNoTPM(t *testing.T) {
	b := newBoard(t, nil)
	b.on(func(c *rack.Config) { c.NoTPM = true })
	b.says(`bootloader: quarantine: code 101 tpm-absent`)
	b.says(`bootloader: Check that the TPM is fitted and has power, then switch the board off and on.`)
}
