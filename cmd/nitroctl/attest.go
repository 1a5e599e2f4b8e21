package main

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"nitro/attest/akcert"
	"nitro/attest/evidence"
	"nitro/attest/golden"
	"nitro/attest/verify"
)

var attestGroup = &group{"attest", "boards' evidence", []*command{
	{
		name:    "fetch",
		summary: "have a board prove itself, and keep what it answers",
		about: `
Asks a board for evidence with a new random nonce, and writes it to a file. It verifies
nothing. To verify it later, give attest verify the nonce and the TLS key that are shown:
the nonce makes the evidence new, the key ties it to the connection.
`,
		example: "nitroctl attest fetch -board 192.0.2.10 -out evidence.json",
		setup:   attestFetch,
	},
	{
		name:    "verify",
		summary: "judge a board's evidence",
		about: `
Has a board prove itself and judges the evidence, with a nonce of its own and the key of the
connection; or judges a file by -in with the -nonce that it was asked for with. All checks of
docs/attestation.md are made and shown, and what evidence cannot prove is listed. Evidence
is accepted only if all checks that the policy wants are ok: then the exit code is 0, and
the TLS key shown may be pinned (-pin) for other commands until the board boots again.
The policy is a file by -policy, or flags: at least one -release, and how the attestation
key is known: -issuer, -board-part with -board-key, or -ak-name. What is weaker than the
best is refused unless it is accepted by name.
`,
		example: `nitroctl attest verify -board 192.0.2.10 -release release -issuer board.issuer.pem
nitroctl attest verify -board 192.0.2.10 -policy policy.json
nitroctl attest verify -in evidence.json -nonce 6f1c0b7d5e2a49c8 -release release -issuer board.issuer.pem`,
		setup: attestVerify,
	},
	documentCommand,
	{
		name:    "export",
		summary: "write evidence as files that stock tools take",
		about: `
Takes evidence apart into a new folder: quote (TPMS_ATTEST), signature (TPMT_SIGNATURE),
pcrs (as tpm2_quote writes them), log (TCG crypto-agile event log) and ak.pem. It verifies
nothing; whose key ak.pem is, attest verify tells. With NONCE the nonce that was asked for:
  tpm2_checkquote -u ak.pem -m quote -s signature -f pcrs -e log -g sha256 -q NONCE
  tpm2_eventlog log
`,
		example: "nitroctl attest export -in evidence.json -out evidence",
		setup:   attestExport,
	},
}}

// nonceSize is that of a nonce that this tool makes, in bytes.
const nonceSize = 32

// fetchEvidence asks a board for evidence.
func fetchEvidence(r *remote, nonce []byte) (*reply, error) {
	a, err := r.ask(http.MethodPost, "/v1/evidence", "application/json", fmt.Appendf(nil, `{"nonce":"%x"}`, nonce))
	if err == nil {
		err = a.refusal(http.StatusOK)
	}
	return a, err
}

// nonceFlag reads a nonce; "" makes one.
func nonceFlag(s string) ([]byte, error) {
	if s == "" {
		nonce := make([]byte, nonceSize)
		rand.Read(nonce)
		return nonce, nil
	}
	nonce, err := hex.DecodeString(s)
	if err != nil || len(nonce) < evidence.MinNonce || len(nonce) > evidence.MaxNonce {
		return nil, usage("-nonce: %q is no %d to %d bytes in hexadecimal", s, evidence.MinNonce, evidence.MaxNonce)
	}
	return nonce, nil
}

// A fetchInfo is evidence that was written.
type fetchInfo struct {
	Nonce      string     `json:"nonce"`
	File       string     `json:"file"`
	Connection connection `json:"connection"`
}

func (f fetchInfo) print(w io.Writer) {
	table(w, [2]string{"nonce", f.Nonce}, [2]string{"written to", f.File})
	f.Connection.print(w)
}

func attestFetch(f *flag.FlagSet) func(*call) (result, error) {
	board := remoteFlags(f)
	nonceText := f.String("nonce", "", "nonce in `hexadecimal`, 8 to 64 bytes; without it a new random one, as is best")
	out := f.String("out", "", "`file` to write to")
	return func(*call) (result, error) {
		r, err := board()
		if err != nil {
			return nil, err
		}
		if err := need(map[string]string{"out": *out}); err != nil {
			return nil, err
		}
		nonce, err := nonceFlag(*nonceText)
		if err != nil {
			return nil, err
		}
		a, err := fetchEvidence(r, nonce)
		if err != nil {
			return nil, err
		}
		if _, err := evidence.Decode(a.body); err != nil {
			return nil, fmt.Errorf("the board at %s answers with no evidence: %w", r.address, err)
		}
		return fetchInfo{hex.EncodeToString(nonce), *out, a.connection}, writeNew(*out, a.body)
	}
}

func attestVerify(f *flag.FlagSet) func(*call) (result, error) {
	board, policy := remoteFlags(f), policyFlags(f)
	in := f.String("in", "", "`file` of evidence, in the place of -board")
	nonceText := f.String("nonce", "", "with -in: nonce that it was asked for with, in `hexadecimal`")
	out := f.String("out", "", "with -board: also keep the evidence in this new `file`")
	return func(*call) (result, error) {
		asks := *in == ""
		switch {
		case !asks && namesBoard(f):
			return nil, usage("give -board, or -in with -nonce")
		case asks && *nonceText != "":
			return nil, usage("-nonce goes with -in: a board is asked with a new random nonce each time")
		case *in != "" && *nonceText == "":
			return nil, usage("-nonce is missing: without the nonce that it was asked for with, evidence may be of any age")
		case *in != "" && *out != "":
			return nil, usage("-out goes with -board")
		}
		r := new(remote) // nobody, of a file
		var err error
		if asks {
			if r, err = board(); err != nil {
				return nil, err
			}
		}
		p, err := policy(r.context.Policy)
		if err != nil {
			return nil, err
		}
		if p.Nonce, err = nonceFlag(*nonceText); err != nil {
			return nil, err
		}
		if err := p.Check(); err != nil {
			return nil, usage("%v", err)
		}
		if *in != "" {
			if p.TLSKey, err = digestFlag("pin", f.Lookup("pin").Value.String()); err != nil {
				return nil, err
			}
			text, err := readFile(*in, evidence.MaxSize)
			if err != nil {
				return nil, err
			}
			return judge(text, p, verdict{File: *in})
		}
		if !r.pinGiven {
			r.pin = nil // the context's may be of an earlier boot, and this is what finds the next one
		}
		v, err := verifyBoard(r, p, *out)
		if v.Connection == nil { // it did not come to judging
			return nil, err
		}
		return v, err
	}
}

// verifyBoard has a board prove itself, over the connection that it is asked on.
func verifyBoard(r *remote, p *verify.Policy, out string) (v verdict, err error) {
	a, err := fetchEvidence(r, p.Nonce)
	if err != nil {
		return v, err
	}
	if out != "" {
		if err := writeNew(out, a.body); err != nil {
			return v, err
		}
	}
	p.TLSKey = &a.key
	v, err = judge(a.body, p, verdict{File: out, Connection: &a.connection})
	v.Connection.Verified = err == nil
	if err == nil && r.ofContext() {
		err = r.context.keepPin(hexOf(a.key))
	}
	return v, err
}

// A verdict is what came of judging evidence.
type verdict struct {
	Accepted   bool        `json:"accepted"`
	Nonce      string      `json:"nonce"`
	Checks     []checkLine `json:"checks"`
	Facts      *factsInfo  `json:"facts"`       // null if it is refused
	NotChecked []string    `json:"not_checked"` // by accepted evidence
	File       string      `json:"file,omitempty"`
	Connection *connection `json:"connection"` // null of a file
}

// A checkLine is one check.
type checkLine struct {
	Name     string `json:"name"`
	Outcome  string `json:"outcome"` // ok, failed, not made
	Wanted   bool   `json:"wanted"`  // by the policy
	Why      string `json:"why,omitempty"`
	Expected string `json:"expected,omitempty"`
	Actual   string `json:"actual,omitempty"`
}

// A factsInfo is what accepted evidence proves.
type factsInfo struct {
	Board       string        `json:"board"`
	UniqueID    string        `json:"unique_id"`
	AKName      string        `json:"ak_name"`
	LifeCycle   string        `json:"life_cycle"`
	SoCSecret   string        `json:"soc_secret"`
	Development bool          `json:"development"`
	Bootloader  componentInfo `json:"bootloader"`
	Controller  componentInfo `json:"controller"`
	TLSKey      string        `json:"tls_key"`
	WrapKey     string        `json:"wrap_key"`
}

type componentInfo struct {
	Version         string `json:"version"`
	SecurityVersion uint32 `json:"security_version"`
	SHA256          string `json:"sha256"`
}

func describeComponent(c golden.Component) componentInfo {
	return componentInfo{c.Version, c.SecurityVersion, hexOf(c.Digest)}
}

func (c componentInfo) String() string {
	return fmt.Sprintf("%s, security version %d, %s", c.Version, c.SecurityVersion, c.SHA256)
}

// judge judges evidence and completes a verdict.
func judge(text []byte, p *verify.Policy, v verdict) (verdict, error) {
	r, err := verify.Evidence(text, *p)
	return describeVerdict(r, err, p, v)
}

// describeVerdict completes a verdict by what came of judging.
func describeVerdict(r *verify.Result, err error, p *verify.Policy, v verdict) (verdict, error) {
	v.Accepted, v.Nonce, v.Checks, v.NotChecked = err == nil, hex.EncodeToString(p.Nonce), []checkLine{}, []string{}
	refused := []string{}
	for _, c := range r.Checks {
		v.Checks = append(v.Checks, checkLine{c.Name, c.Outcome.String(), c.Wanted, c.Why, c.Expected, c.Actual})
		if c.Wanted && c.Outcome != verify.OK {
			refused = append(refused, c.Name)
		}
	}
	if f := r.Facts; f != nil {
		v.Facts = &factsInfo{f.Board, f.UniqueID, hex.EncodeToString(f.AKName), string(f.LifeCycle), string(f.SoCSecret), f.Development,
			describeComponent(f.Bootloader), describeComponent(f.Controller), hexOf(f.TLSKey), hexOf(f.WrapKey)}
		v.NotChecked = f.NotChecked
	}
	if errors.Is(err, verify.ErrRefused) {
		err = advised{fmt.Errorf("%w: %s", verify.ErrRefused, strings.Join(refused, ", ")),
			"Do not trust the board, nor its connection. What failed is in the table, with what was expected."}
	}
	return v, err
}

func (v verdict) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range v.Checks {
		detail := c.Why
		for _, more := range [][2]string{{"expected ", c.Expected}, {"actual ", c.Actual}} {
			if more[1] != "" {
				detail = strings.TrimPrefix(detail+"; "+more[0]+more[1], "; ")
			}
		}
		if c.Outcome == verify.OK.String() {
			detail = c.Actual
		}
		if detail != "" {
			detail = "\t" + detail
		}
		fmt.Fprintf(t, "%s\t%s%s\n", c.Outcome, c.Name, detail)
	}
	t.Flush()
	if f := v.Facts; f != nil {
		table(w, [2]string{"board", f.Board}, [2]string{"unique number", f.UniqueID}, [2]string{"attestation key", f.AKName}, [2]string{"life cycle", f.LifeCycle},
			[2]string{"SoC secret", f.SoCSecret}, [2]string{"development", yes(f.Development)}, [2]string{"bootloader", f.Bootloader.String()},
			[2]string{"controller", f.Controller.String()}, [2]string{"TLS key", f.TLSKey}, [2]string{"wrapping key", f.WrapKey})
	}
	for _, n := range v.NotChecked {
		fmt.Fprintf(w, "not checked: %s\n", printable(n))
	}
	table(w, [2]string{"nonce", v.Nonce}, [2]string{"evidence", v.File})
	switch {
	case !v.Accepted:
		fmt.Fprintln(w, "refused")
	case v.Connection != nil:
		fmt.Fprintf(w, "accepted; the connection to %s ends at this board\n", v.Connection.Board)
	default:
		fmt.Fprintln(w, "accepted; no connection was looked at: the board is the one that has the TLS key above")
	}
}

// A exportInfo is evidence that was taken apart.
type exportInfo struct {
	Nonce  string   `json:"nonce"` // that it says it was asked for with
	Folder string   `json:"folder"`
	Files  []string `json:"files"`
}

func (e exportInfo) print(w io.Writer) {
	fmt.Fprintf(w, "written to %s: %s\nnothing is verified; in that folder, and with the nonce that you asked with:\n", e.Folder, strings.Join(e.Files, ", "))
	fmt.Fprintf(w, "tpm2_checkquote -u ak.pem -m quote -s signature -f pcrs -e log -g sha256 -q %s\n", e.Nonce)
}

func attestExport(f *flag.FlagSet) func(*call) (result, error) {
	in := f.String("in", "", "`file` of evidence")
	out := f.String("out", "", "new `folder` to write to")
	return func(*call) (result, error) {
		if err := need(map[string]string{"in": *in, "out": *out}); err != nil {
			return nil, err
		}
		text, err := readFile(*in, evidence.MaxSize)
		if err != nil {
			return nil, err
		}
		e, err := evidence.Decode(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", *in, err)
		}
		return export(e, *out)
	}
}

// export writes evidence's parts.
func export(e *evidence.Evidence, dir string) (result, error) {
	key, _, err := akcert.CheckKey(e.AKPublic)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, fmt.Errorf("nothing is overwritten: name a new folder: %w", err)
	}
	i := exportInfo{Nonce: hex.EncodeToString(e.Nonce), Folder: dir}
	for _, f := range []struct {
		name string
		data []byte
	}{{"quote", e.Quote}, {"signature", e.Signature}, {"pcrs", e.ToolPCRs()}, {"log", e.EventLog}, {"ak.pem", encodePEM("PUBLIC KEY", der)}} {
		if err := writeNew(filepath.Join(dir, f.name), f.data); err != nil {
			return nil, err
		}
		i.Files = append(i.Files, f.name)
	}
	return i, nil
}
