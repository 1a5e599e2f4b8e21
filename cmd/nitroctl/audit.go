package main

import (
	"bytes"
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"nitro/net/audit"
	"nitro/net/audit/verify"
	"nitro/net/redfish"
)

// The client's flags as the examples have them.
const auditClient = " -board 192.0.2.10 -pin 5f2a4d0c9e1b7a3384c6d5e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4 -cert auditor.pem -key auditor.key"

var auditGroup = &group{"audit", "what was asked of a board, and what it did", []*command{
	{
		name: "tail", summary: "show a board's last audit records",
		about: `
Shows records of a board's audit log, oldest first: the last ones, or those from an index on.
They are what the board says now: audit export and verify prove them. With -follow it goes on
to show what comes, until Ctrl-C: over lost connections, and over a restart of the board if it
is asked by a context that has a policy (nitroctl context add -policy), since the board has
another TLS key then. It says when records were cleared before they were seen, and when the log
begins anew. What asks for records is recorded: it asks only when the metrics, which the
principal must be allowed to read, say that there are more than its own.
`,
		example: "nitroctl audit tail -n 50 -follow" + auditClient, setup: auditTail,
	},
	{
		name: "export", summary: "take a board's audit log away",
		about: `
Writes an export to a new file: the records up to the board's last signed checkpoint, and what
proves them. With -older, a checkpoint that was kept (audit verify -keep writes it), the board
also proves that its log continues that one. With -ring it is the records of a board in
quarantine.
`,
		example: "nitroctl audit export -out log.json -older kept.checkpoint" + auditClient, setup: auditExport,
	},
	{
		name: "verify", summary: "verify an export, without a board", args: "FILE",
		about: `
Verifies an export by the board's attestation key: each record is one of the tree that the TPM
has signed, the tree continues the older checkpoint, and the records fit together. The key
is -log-key, or that of the certificate -ak, which -issuer must have issued. Keep the
checkpoint with -keep, and give it to the next export as -older. With -ring it verifies a
ring: that its records give the digest that the board says its TPM has.
`,
		example: "nitroctl audit verify -ak board.ak.pem -issuer board.issuer.pem -keep kept.checkpoint log.json", setup: auditVerify,
	},
	{
		name: "witness", summary: "have a board's checkpoint cosigned by a witness",
		about: `
Takes the board's last checkpoint to a witness (C2SP tlog-witness, add-checkpoint) and its
cosignature back to the board, which then lets the records below it be cleared. The witness
must know the log's origin and key. -older is the checkpoint that the witness has seen last;
without it the witness sees this log for the first time.
`,
		example: "nitroctl audit witness -witness https://witness.example -older kept.checkpoint" + auditClient, setup: auditWitness,
	},
	{
		name: "clear", summary: "clear what is witnessed",
		about: `
Deletes the segments of the board's log that a witness has cosigned as a whole. Export them
first: the board cannot give them any more.
`,
		example: "nitroctl audit clear" + auditClient, setup: auditClear,
	},
}}

// Paths of the log's resource.
const (
	logPath    = redfish.Root + "Managers/controller/LogServices/audit"
	logActions = logPath + "/Actions/Oem/NitroLog."
)

// witnessed is how long a witness's answer may be, in bytes.
const witnessed = 64 << 10

// An logExportInfo is an export that was written.
type logExportInfo struct {
	File       string     `json:"file"`
	Bytes      int        `json:"bytes"`
	Connection connection `json:"connection"`
}

func (e logExportInfo) print(w io.Writer) {
	table(w, [2]string{"written to", e.File}, [2]string{"bytes", fmt.Sprint(e.Bytes)})
	e.Connection.print(w)
}

// export asks a board for an export.
func (r *remote) export(from uint64, older []byte) ([]byte, connection, error) {
	r.most = audit.MaxExport * 3 / 2
	ask := map[string]any{"From": from}
	if older != nil {
		ask["Older"] = string(older)
	}
	var answer struct{ Export json.RawMessage }
	c, err := r.call(http.MethodPost, logActions+"Export", ask, &answer, http.StatusOK)
	return answer.Export, c, err
}

// readOlder reads a checkpoint that was kept; "" gives nil.
func readOlder(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	return readFile(path, audit.MaxNote)
}

func auditExport(f *flag.FlagSet) func(*call) (result, error) {
	board := apiFlags(f)
	from := f.Uint64("from", 0, "`index` of the first record")
	older := f.String("older", "", "`file` of a checkpoint that was kept")
	ring := f.Bool("ring", false, "the ring of a board in quarantine")
	out := f.String("out", "", "`file` to write the export to")
	return func(*call) (result, error) {
		if err := need(map[string]string{"out": *out}); err != nil {
			return nil, err
		}
		if *ring && (*from != 0 || *older != "") {
			return nil, usage("-ring is all of the ring: leave -from and -older away")
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		kept, err := readOlder(*older)
		if err != nil {
			return nil, err
		}
		var b json.RawMessage
		var c connection
		if *ring {
			c, err = r.call(http.MethodGet, redfish.RingPath, nil, &b, http.StatusOK)
		} else {
			b, c, err = r.export(*from, kept)
		}
		if err != nil {
			return nil, err
		}
		return logExportInfo{*out, len(b), c}, writeNew(*out, b)
	}
}

// A verifyInfo is what was found in an export.
type verifyInfo struct {
	Origin    string   `json:"origin,omitempty"`
	First     uint64   `json:"first"`
	Records   int      `json:"records"`
	Root      string   `json:"root,omitempty"`
	Cosigned  int      `json:"cosigned"`
	Continues bool     `json:"continues"` // the older checkpoint
	Cut       []uint64 `json:"cut"`       // intents that a reset has cut off
	Open      []uint64 `json:"open"`      // without an outcome so far
	Missing   uint64   `json:"missing"`   // records that the log says are missing
	Boots     int      `json:"boots"`
	Denied    uint64   `json:"denied"`          // records of their own, and counted ones
	Uncounted []uint64 `json:"uncounted"`       // denials behind which a reset may have cut off a count
	Index     string   `json:"index,omitempty"` // of a ring: what the TPM must have
}

func (v verifyInfo) print(w io.Writer) {
	last := v.First + uint64(v.Records)
	table(w, [2]string{"log", printable(v.Origin)}, [2]string{"records", fmt.Sprintf("%d to %d: all are as signed", v.First, max(last, 1)-1)}, [2]string{"root", v.Root},
		[2]string{"continues the older one", yes(v.Continues)}, [2]string{"witnesses", fmt.Sprint(v.Cosigned)}, [2]string{"boots", fmt.Sprint(v.Boots)}, [2]string{"denied", fmt.Sprint(v.Denied)},
		[2]string{"cut off by a reset", fmt.Sprint(v.Cut)}, [2]string{"under way", fmt.Sprint(v.Open)}, [2]string{"missing", fmt.Sprint(v.Missing)}, [2]string{"denials perhaps not counted behind", fmt.Sprint(v.Uncounted)}, [2]string{"TPM's index", v.Index})
}

func auditVerify(f *flag.FlagSet) func(*call) (result, error) {
	ak := f.String("ak", "", "`file` of the attestation key's certificate, PEM")
	issuer := f.String("issuer", "", "`file` of its issuer's certificate, PEM")
	logKey := f.String("log-key", "", "the log's `key` as verifiers have it (docs/audit.md), instead of -ak")
	var witnesses list
	f.Var(&witnesses, "witness", "`key` of a witness (C2SP, type 0x04); may be repeated")
	quorum := f.Int("quorum", 0, "how `many` witnesses must have cosigned")
	keep := f.String("keep", "", "`file` to write the checkpoint to")
	ring := f.Bool("ring", false, "it is a ring of quarantine")
	return func(c *call) (result, error) {
		path, err := c.one("export")
		if err != nil {
			return nil, err
		}
		b, err := readFile(path, audit.MaxExport)
		if err != nil {
			return nil, err
		}
		if *ring {
			return verifyRing(b)
		}
		if *logKey == "" && (*ak == "" || *issuer == "") {
			return nil, usage("give -ak and -issuer, or -log-key: whose log is it to be?")
		}
		if *logKey == "" {
			if *logKey, err = logKeyOf(b, *ak, *issuer); err != nil {
				return nil, err
			}
		}
		r, err := verify.Export(b, verify.Keys{Log: *logKey, Witnesses: witnesses, Quorum: *quorum})
		if err != nil {
			return nil, err
		}
		if *keep != "" {
			var x struct{ Checkpoint string }
			if err := json.Unmarshal(b, &x); err != nil {
				return nil, err
			}
			if err := writeNew(*keep, []byte(x.Checkpoint)); err != nil {
				return nil, err
			}
		}
		return describeReport(r), nil
	}
}

func describeReport(r *verify.Report) verifyInfo {
	v := verifyInfo{Origin: r.Head.Origin, First: r.First, Records: len(r.Records), Root: hexOf(r.Head.Root), Cosigned: r.Cosigned,
		Continues: r.Continues, Cut: r.Cut, Open: r.Open, Missing: r.Missing, Denied: r.Counted, Uncounted: r.Uncounted}
	for _, rec := range r.Records {
		switch rec.Kind {
		case audit.KindBoot:
			v.Boots++
		case audit.KindDenied:
			v.Denied++
		}
	}
	return v
}

// verifyRing verifies a ring by its own word for the TPM's digest.
func verifyRing(b []byte) (result, error) {
	x, err := audit.DecodeRing(b)
	if err != nil {
		return nil, err
	}
	if err := x.Verify(x.End.Index); err != nil {
		return nil, err
	}
	v := verifyInfo{First: x.First, Records: len(x.Records), Index: hexOf(x.End.Index)}
	for _, text := range x.Records {
		switch r, err := audit.DecodeRecord(text); {
		case err != nil:
			return nil, err
		case r.Kind == audit.KindDenied:
			v.Denied++
		case r.Kind == audit.KindDenials:
			v.Denied += r.Count
		}
	}
	return v, nil
}

// logKeyOf makes the key of the export's log of the attestation key's certificate.
func logKeyOf(b []byte, ak, issuer string) (string, error) {
	certificate, err := readCertificate(ak)
	if err != nil {
		return "", err
	}
	authority, err := readCertificate(issuer)
	if err != nil {
		return "", err
	}
	if err := certificate.CheckSignatureFrom(authority); err != nil {
		return "", fmt.Errorf("%s was not issued by %s: %w", ak, issuer, err)
	}
	key, ok := certificate.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return "", fmt.Errorf("%s is for a %T: an attestation key is ECDSA's", ak, certificate.PublicKey)
	}
	var x struct{ Origin string }
	if err := json.Unmarshal(b, &x); err != nil {
		return "", fmt.Errorf("the export is no JSON: %w", err)
	}
	return audit.VerifierKey(x.Origin, key)
}

// A witnessInfo is a checkpoint that came back cosigned.
type witnessInfo struct {
	Size       uint64     `json:"size"`
	File       string     `json:"file,omitempty"`
	Connection connection `json:"connection"`
}

func (v witnessInfo) print(w io.Writer) {
	table(w, [2]string{"witnessed", fmt.Sprintf("%d records", v.Size)}, [2]string{"written to", v.File})
	v.Connection.print(w)
}

func auditWitness(f *flag.FlagSet) func(*call) (result, error) {
	board := apiFlags(f)
	where := f.String("witness", "", "`URL` of the witness, https")
	older := f.String("older", "", "`file` of the checkpoint that it has seen last")
	keep := f.String("keep", "", "`file` to write the cosigned checkpoint to")
	return func(*call) (result, error) {
		if err := need(map[string]string{"witness": *where}); err != nil {
			return nil, err
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		kept, err := readOlder(*older)
		if err != nil {
			return nil, err
		}
		x, err := r.newest(kept)
		if err != nil {
			return nil, err
		}
		lines, err := addCheckpoint(*where, r.limit, x)
		if err != nil {
			return nil, err
		}
		cosigned := x.Checkpoint + lines
		c, err := r.call(http.MethodPost, logActions+"Witness", map[string]string{"Checkpoint": cosigned}, nil, http.StatusNoContent)
		if err == nil && *keep != "" {
			err = writeNew(*keep, []byte(cosigned))
		}
		size, _ := checkpointSize(cosigned)
		return witnessInfo{size, *keep, c}, err
	}
}

// newest is the board's last checkpoint with the proof from an older one. Of the records it
// takes those behind the older one; without one all that are kept.
func (r *remote) newest(older []byte) (x audit.Export, err error) {
	var from uint64
	if older != nil {
		from, err = checkpointSize(string(older))
	} else {
		var e entries
		if _, err = r.call(http.MethodGet, logPath+"/Entries?$top=1", nil, &e, http.StatusOK); err == nil && len(e.Members) > 0 {
			from, err = strconv.ParseUint(e.Members[0].ID, 10, 63)
		}
	}
	if err != nil {
		return x, err
	}
	b, _, err := r.export(from, older)
	if err != nil {
		return x, err
	}
	if err := json.Unmarshal(b, &x); err != nil {
		return x, fmt.Errorf("the board at %s gives no export: is it a board? %w", r.address, err)
	}
	return x, nil
}

// checkpointSize reads the second line (C2SP tlog-checkpoint).
func checkpointSize(note string) (uint64, error) {
	lines := strings.SplitN(note, "\n", 3)
	if len(lines) < 3 {
		return 0, errors.New("the checkpoint has no size")
	}
	return strconv.ParseUint(lines[1], 10, 63)
}

// addCheckpoint asks a witness (C2SP tlog-witness) for its cosignature lines.
func addCheckpoint(where string, limit time.Duration, x audit.Export) (string, error) {
	old := uint64(0)
	if x.Older != "" {
		var err error
		if old, err = checkpointSize(x.Older); err != nil {
			return "", err
		}
	}
	var body bytes.Buffer
	fmt.Fprintf(&body, "old %d\n", old)
	if old > 0 {
		for _, h := range x.Consistency {
			fmt.Fprintln(&body, base64.StdEncoding.EncodeToString(h))
		}
	}
	fmt.Fprintf(&body, "\n%s", x.Checkpoint)
	client := &http.Client{Timeout: limit, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	a, err := client.Post(strings.TrimSuffix(where, "/")+"/add-checkpoint", "text/plain", &body)
	if err != nil {
		return "", &unreachableError{where, err}
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(a.Body, witnessed))
	switch {
	case err != nil:
		return "", &unreachableError{where, err}
	case a.StatusCode == http.StatusConflict:
		return "", advised{fmt.Errorf("the witness has seen %s records of this log, not %d", printable(strings.TrimSpace(string(text))), old),
			"Give the checkpoint of that size by -older; if it is larger than the board's, have the board's card inspected: its log was taken back."}
	case a.StatusCode != http.StatusOK:
		return "", fmt.Errorf("the witness refuses (HTTP %d): %s", a.StatusCode, printable(string(text)))
	}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "— ") || !strings.HasSuffix(line, "\n") {
			return "", fmt.Errorf("the witness answers with no cosignature line: %q", printable(line))
		}
	}
	return string(text), nil
}

func auditClear(f *flag.FlagSet) func(*call) (result, error) {
	board := apiFlags(f)
	return func(*call) (result, error) {
		r, err := board()
		if err != nil {
			return nil, err
		}
		c, err := r.call(http.MethodPost, logPath+"/Actions/LogService.ClearLog", map[string]any{}, nil, http.StatusNoContent)
		return clearInfo{c}, err
	}
}

// A clearInfo says where it was done.
type clearInfo struct {
	Connection connection `json:"connection"`
}

func (c clearInfo) print(w io.Writer) { c.Connection.print(w) }
