package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/identity"
	"nitro/boot/release"
	"nitro/boot/ticket"
	"nitro/net/provisioning"
)

var provisionGroup = &group{"provision", "give a new board its identity", []*command{{
	summary: "give a new board its identity",
	about: `
Provisions a board that waits for it (docs/provisioning.md): verifies its TPM by the maker's
certificate, has the TPM prove the board's keys, software and connection, has the board seal
its secrets, approves its board part and certifies its attestation key. -keys must have the
private keys of factory and owner, and no others.
-record is the file of the factory's record, which the board's lockout authorisation is in:
it is a secret, mode 0600, and on the disk before the board goes on. If the run is cut, give
the same command again: a record that is not complete is gone on with. Beside BOARD.json
come to be what other commands need: BOARD.part (board part), BOARD.board-key.pem,
BOARD.ak.pem (the attestation key's certificate) and BOARD.issuer.pem (its issuer's, for
attest verify). The board's own certificate is not verified and need not be: its TPM vouches
for the connection before anything secret moves.
`,
	example: "nitroctl provision -board 192.0.2.10 -keys keys -release release -makers tpm-makers.pem -record board.json",
	setup:   provision,
}}}

// provisioningLimit is how long a run takes at most, if nothing else is said: the board
// makes keys, an RSA one among them, and writes its store.
const provisioningLimit = 15 * time.Minute

// A provisioningCommand is its flags.
type provisioningCommand struct {
	board, record, anchors, uniqueID, lockout *string
	keys                                      *list
	releases, makers                          list
	limit                                     *time.Duration
}

func provision(f *flag.FlagSet) func(*call) (result, error) {
	p := &provisioningCommand{
		board:    f.String("board", "", "`address` of the board: host, or host:port"),
		keys:     keysFlag(f),
		record:   f.String("record", "board.json", "`file` of the factory's record of this board"),
		anchors:  f.String("anchors", "", anchorsUsage),
		uniqueID: f.String("unique-id", "", "number of the board that is meant, 16 `digits`; without it any board is"),
		lockout:  f.String("lockout", "", "also write the lockout authorisation to this new `file`, in hexadecimal, mode 0600"),
		limit:    f.Duration("timeout", provisioningLimit, "`time` that it may take, power cuts included"),
	}
	f.Var(&p.releases, "release", "`folder` of a release that the board may run; may be repeated")
	f.Var(&p.makers, "makers", "`file` of TPM makers' certificates, PEM: those that sign themselves are trusted roots; may be repeated")
	return p.run
}

func (p *provisioningCommand) run(c *call) (result, error) {
	o, keys, err := p.options()
	if err != nil {
		return nil, err
	}
	record := &recordFile{path: *p.record}
	if o.Record, err = record.open(); err != nil {
		return nil, err
	}
	if *p.lockout != "" {
		if _, err := os.Lstat(*p.lockout); err == nil {
			return nil, fmt.Errorf("-lockout %s: nothing is overwritten: name a new file: %w", *p.lockout, fs.ErrExist)
		}
	}
	issuer, key, err := keys.Issuer()
	if err != nil {
		return nil, err
	}
	record.issuer = issuer
	o.Certify, o.Keep, o.Progress = provisioning.CertifyBy(issuer, key), record.keep, progress(c.say)
	ctx, cancel := context.WithTimeout(context.Background(), *p.limit)
	defer cancel()
	r, err := provisioning.Provision(ctx, *o)
	defer clear(r.Lockout)
	if err != nil {
		return nil, explainProvisioning(*p.board, err)
	}
	if *p.lockout != "" {
		if err := writeSecret(*p.lockout, []byte(hex.EncodeToString(r.Lockout)+"\n")); err != nil {
			return nil, fmt.Errorf("the board is provisioned; its lockout authorisation is in %s alone: %w", *p.record, err)
		}
	}
	return describeRecord(r, *p.record, *p.lockout), nil
}

// options reads what the flags name.
func (p *provisioningCommand) options() (*provisioning.Options, *release.Keys, error) {
	if err := need(map[string]string{"board": *p.board, "record": *p.record, "release": p.releases.String(), "makers": p.makers.String()}); err != nil {
		return nil, nil, err
	}
	if *p.limit <= 0 {
		return nil, nil, usage("-timeout %v: it must be longer than nothing", *p.limit)
	}
	keys, err := p.keys.load()
	if err != nil {
		return nil, nil, err
	}
	o := &provisioning.Options{Address: withPort(*p.board, strings.TrimPrefix(provisioning.Port, ":")), UniqueID: *p.uniqueID}
	if o.Owner, err = keys.Signer(release.Owner); err != nil {
		return nil, nil, err
	}
	factory, err := keys.Signer(release.Factory)
	if err != nil {
		return nil, nil, err
	}
	if keys.FactoryCertificate() == nil {
		return nil, nil, fmt.Errorf("no key folder has the factory's certificate: give the folder that keys new made: %w", release.ErrKeyMissing)
	}
	o.Factory = tls.Certificate{Certificate: [][]byte{keys.FactoryCertificate().Raw}, PrivateKey: factory}
	makers, err := readMakers(p.makers)
	if err != nil {
		return nil, nil, err
	}
	o.Roots, o.Intermediates = makers.roots, makers.others
	for _, dir := range p.releases {
		r, err := readRelease(dir, *p.anchors)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", dir, err)
		}
		if len(o.Releases) > 0 && (r.Controller.Product != o.Product || r.Anchors.Development != o.Development) {
			return nil, nil, fmt.Errorf("%s is for %s, development %v, another release for %s, %v: give those of one product", dir, r.Controller.Product, r.Anchors.Development, o.Product, o.Development)
		}
		o.Product, o.Development = r.Controller.Product, r.Anchors.Development
		o.Releases, o.Approvals = append(o.Releases, r.Golden), append(o.Approvals, r.Approvals...)
	}
	return o, keys, nil
}

// makers are the certificates of TPM makers.
type makers struct{ roots, others *x509.CertPool }

// readMakers reads them. What does not sign itself is not trusted by itself.
func readMakers(paths list) (m makers, err error) {
	m.roots, m.others = x509.NewCertPool(), x509.NewCertPool()
	found := false
	for _, path := range paths {
		all, err := readCertificates(path)
		if err != nil {
			return m, err
		}
		for _, c := range all {
			if bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil {
				m.roots.AddCert(c)
				found = true
			} else {
				m.others.AddCert(c)
			}
		}
	}
	if !found {
		return m, fmt.Errorf("no certificate in %v signs itself: the TPM maker's root is missing", []string(paths))
	}
	return m, nil
}

// readCertificates reads a file of certificates, PEM.
func readCertificates(path string) (all []*x509.Certificate, err error) {
	rest, err := readFile(path, 1<<20)
	if err != nil {
		return nil, err
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("%s has a PEM block %q: it must hold certificates alone", path, printable(block.Type))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		all = append(all, c)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s holds no PEM block CERTIFICATE", path)
	}
	return all, nil
}

// purposes say what each step is for.
var purposes = []struct {
	step    provisioning.Step
	purpose string
}{
	{provisioning.Connect, "reach the board, and show it the factory's certificate"},
	{provisioning.Hello, "learn which board and TPM it is, and verify the TPM maker's certificate"},
	{provisioning.Prove, "have the TPM prove its keys, the software that runs, and this connection"},
	{provisioning.Seal, "have the board seal its secrets and make its store; get the lockout authorisation"},
	{provisioning.Close, "the record is kept: have the board set the TPM's authorisations"},
	{provisioning.BoardPart, "compute the board part, and compare what the board asks to be approved"},
	{provisioning.Sign, "approve the board part with the owner's key"},
	{provisioning.Commit, "certify the attestation key; from here on the board is provisioned"},
	{provisioning.Done, "the board restarts"},
}

// progress tells the steps. A connection that is tried again and again is told once.
func progress(say func(string, ...any)) func(provisioning.Step) {
	last := -1
	return func(s provisioning.Step) {
		for i, p := range purposes {
			if p.step == s && i != last {
				say("[%d/%d] %s: %s", i+1, len(purposes), s, p.purpose)
				last = i
			}
		}
	}
}

// explainProvisioning adds the next step to errors that have no code.
func explainProvisioning(address string, err error) error {
	for _, a := range []struct {
		is   error
		next string
	}{
		{provisioning.ErrUnconfirmed, "Give the command again; if the board offers no provisioning any more, it is provisioned: nitroctl attest verify -board shows it."},
		{provisioning.ErrChannel, "Find out who is between this machine and the board. Nothing secret was sent."},
		{provisioning.ErrBoard, "Compare board, release, keys and record with those that are meant."},
		{provisioning.ErrKeys, "Take the board aside: its firmware or TPM is not what it should be."},
		{provisioning.ErrLockout, "Give the record of the earlier run by -record. If it is lost, the TPM must be replaced."},
		{identity.ErrCertificate, "Give the certificates of this TPM's maker by -makers, root and intermediate. If they are given, the TPM is not genuine."},
		{identity.ErrCredential, "Take the board aside: its keys do not lie in the TPM that it shows."},
		{identity.ErrQuote, "Take the board aside: what it says of its boot is not what its TPM says."},
	} {
		if errors.Is(err, a.is) {
			return advised{err, a.next}
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return advised{&unreachableError{address, err}, "Check that the board has power and waits to be provisioned (nitroctl status), and give the command again: it goes on where it was cut."}
	}
	if errors.Is(err, provisioning.ErrOptions) {
		return usage("%v", err)
	}
	return err
}

// A recordFile is where the factory's record lasts, with what belongs beside it.
type recordFile struct {
	path   string
	issuer *x509.Certificate
}

// maxRecord is the longest record in bytes: half a dozen structures of at most 4 KiB, and
// the board part, in base64.
const maxRecord = 256 << 10

// readRecord reads a record.
func readRecord(path string) (*provisioning.Record, error) {
	text, err := readFile(path, maxRecord)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	r, err := provisioning.ReadRecord(text)
	if err != nil {
		return nil, fmt.Errorf("%s is no record of a board: %w", path, err)
	}
	return r, nil
}

// open reads the record of an earlier run; nil where there is none. Then nothing may be in
// the place of what comes beside it.
func (f *recordFile) open() (*provisioning.Record, error) {
	r, err := readRecord(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		for _, path := range f.beside() {
			if _, err := os.Lstat(path); err == nil {
				return nil, fmt.Errorf("%s belongs to a record that is not there: name another record by -record: %w", path, fs.ErrExist)
			}
		}
		return nil, f.writable()
	}
	if err == nil && r.Complete {
		err = fmt.Errorf("%s is complete: board %s is provisioned. Name a new file for another board by -record", f.path, r.UniqueID)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// writable finds out before the board does anything that the record can be kept.
func (f *recordFile) writable() error {
	probe := f.path + ".new"
	err := writeSecret(probe, nil)
	if errors.Is(err, fs.ErrExist) { // of a run that was cut
		return nil
	}
	if err != nil {
		return err
	}
	return os.Remove(probe)
}

// beside names the files beside the record: board part, board key, attestation key's
// certificate, its issuer's.
func (f *recordFile) beside() []string {
	base := strings.TrimSuffix(f.path, filepath.Ext(f.path))
	return []string{base + ".part", base + ".board-key.pem", base + ".ak.pem", base + ".issuer.pem"}
}

// keep writes the record to the disk, and beside it what it has.
func (f *recordFile) keep(r provisioning.Record) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	defer clear(text)
	if err := replaceFile(f.path, append(text, '\n'), 0o600); err != nil {
		return err
	}
	if r.AKCertificate == nil {
		return nil
	}
	public, err := tpm2.Unmarshal[tpm2.TPMTPublic](r.BoardKey)
	if err != nil {
		return fmt.Errorf("board key: %w", err)
	}
	key, err := identity.PublicKey(public, r.BoardKeyName)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err
	}
	for i, data := range [][]byte{r.BoardPart, encodePEM("PUBLIC KEY", der), encodePEM("CERTIFICATE", r.AKCertificate), encodePEM("CERTIFICATE", f.issuer.Raw)} {
		if err := replaceFile(f.beside()[i], data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// A recordInfo is a record without its secret.
type recordInfo struct {
	Record      provisioning.Record `json:"record"`
	TicketBoard string              `json:"ticket_board"`
	File        string              `json:"file"`
	Beside      []string            `json:"files"`
	Lockout     string              `json:"lockout_file,omitempty"`
}

func describeRecord(r *provisioning.Record, file, lockout string) recordInfo {
	i := recordInfo{*r, hexOf(ticket.BoardOf(r.AKName)), file, (&recordFile{path: file}).beside(), lockout}
	i.Record.Lockout = nil
	return i
}

func (i recordInfo) print(w io.Writer) {
	r := i.Record
	table(w, [2]string{"product", printable(r.Product)}, [2]string{"unique number", printable(r.UniqueID)}, [2]string{"development", yes(r.Development)},
		[2]string{"SoC secret", printable(r.SoCSecret)}, [2]string{"attestation key", hex.EncodeToString(r.AKName)}, [2]string{"board in tickets", i.TicketBoard},
		[2]string{"record", i.File + " (a secret: it holds the lockout authorisation)"}, [2]string{"lockout", i.Lockout})
	for _, path := range slices.Sorted(slices.Values(i.Beside)) {
		fmt.Fprintf(w, "written: %s\n", path)
	}
}
