package main

import (
	"crypto/rand"
	"encoding/base64"
	"flag"
	"fmt"
	"io"
	"net/http"

	"nitro/attest/document"
	"nitro/attest/evidence"
	"nitro/attest/verify"
)

var documentCommand = &command{
	name:    "document",
	summary: "fetch a board's attestation document, and judge it",
	about: `
Has a board make an attestation document in the format of AWS Nitro Enclaves with a new
random nonce (docs/document.md), with evidence beside it, judges both as attest verify does,
and writes the document to a file if it is accepted. With -recipient it has the board's key
for CMS envelopes, which the board makes when it is asked for first: that takes it a while.
`,
	example: `nitroctl attest document -board 192.0.2.10 -cert me.pem -key me.key -pin 6f1c... -policy policy.json -recipient -out board.cose`,
	setup:   attestDocument,
}

const documentPath = "/redfish/v1/ComponentIntegrity/tpm/Actions/Oem/NitroDocument.Get"

// A documentInfo is a document that was judged.
type documentInfo struct {
	verdict
	ModuleID  string `json:"module_id,omitempty"`
	Recipient string `json:"recipient,omitempty"` // SHA-256 of the recipient key
}

func (d documentInfo) print(w io.Writer) {
	d.verdict.print(w)
	table(w, [2]string{"module", d.ModuleID}, [2]string{"recipient key", d.Recipient})
}

func attestDocument(f *flag.FlagSet) func(*call) (result, error) {
	board, policy := apiFlags(f), policyFlags(f)
	recipient := f.Bool("recipient", false, "with the board's key for CMS envelopes")
	out := f.String("out", "", "`file` to write to")
	return func(*call) (result, error) {
		if err := need(map[string]string{"out": *out}); err != nil {
			return nil, err
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		p, err := policy(r.context.Policy)
		if err != nil {
			return nil, err
		}
		p.Nonce = make([]byte, nonceSize)
		rand.Read(p.Nonce)
		if err := p.Check(); err != nil {
			return nil, usage("%v", err)
		}
		return fetchDocument(r, p, *recipient, *out)
	}
}

// fetchDocument has a board make a document, and evidence of the same state after it.
func fetchDocument(r *remote, p *verify.Policy, recipient bool, out string) (result, error) {
	var made struct{ Document []byte }
	ask := map[string]any{"Nonce": base64.StdEncoding.EncodeToString(p.Nonce), "Recipient": recipient}
	if _, err := r.call(http.MethodPost, documentPath, ask, &made, http.StatusOK); err != nil {
		return nil, err
	}
	a, err := fetchEvidence(r, p.Nonce)
	if err != nil {
		return nil, err
	}
	beside, err := evidence.Decode(a.body)
	if err != nil {
		return nil, fmt.Errorf("the board at %s answers with no evidence: %w", r.address, err)
	}
	p.TLSKey = &a.key
	d, judged, err := document.Verify(made.Document, beside, *p)
	if judged == nil { // it did not come to the quote
		return nil, err
	}
	v, err := describeVerdict(judged, err, p, verdict{File: out, Connection: &a.connection})
	v.Connection.Verified = err == nil
	info := documentInfo{verdict: v}
	if err != nil {
		return info, err
	}
	if info.ModuleID = d.ModuleID; d.PublicKey != nil {
		info.Recipient = hexOf(d.Recipient)
	}
	return info, writeNew(out, made.Document)
}
