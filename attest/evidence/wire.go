package evidence

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"nitro/attest/eventlog"
	"nitro/attest/ijson"
)

// wire is the JSON object of docs/attestation.md, "Evidence".
type wire struct {
	Format      int      `json:"format"`
	Nonce       blob     `json:"nonce"`
	Quote       blob     `json:"quote"`
	Signature   blob     `json:"signature"`
	PCRs        pcrs     `json:"pcrs"`
	EventLog    blob     `json:"event_log"`
	AK          ak       `json:"ak"`
	EK          ek       `json:"ek"`
	Board       string   `json:"board"`
	Development *bool    `json:"development"`
	TLSKey      digits   `json:"tls_key"`
	WrapKey     digits   `json:"wrap_key"`
	NotChecked  []string `json:"not_checked"`
}

type pcrs struct {
	SHA256 map[string]digits `json:"sha256"`
}

type ak struct {
	Public      blob   `json:"public"`
	Name        digits `json:"name"`
	Certificate blob   `json:"certificate,omitempty"`
}

type ek struct {
	Certificates []blob `json:"certificates"`
}

// A blob is in base64, of which there is one text only: encoding/json by itself takes
// line breaks and bits behind the last byte.
type blob []byte

func (b blob) MarshalJSON() ([]byte, error) { return json.Marshal([]byte(b)) }

func (b *blob) UnmarshalJSON(text []byte) error {
	return decode(text, (*[]byte)(b), base64.StdEncoding.Strict().DecodeString, base64.StdEncoding.EncodeToString)
}

// digits are in hexadecimal, in lower case.
type digits []byte

func (d digits) MarshalJSON() ([]byte, error) { return json.Marshal(hex.EncodeToString(d)) }

func (d *digits) UnmarshalJSON(text []byte) error {
	return decode(text, (*[]byte)(d), hex.DecodeString, hex.EncodeToString)
}

// decode reads a string in an encoding of which there is one text only.
func decode(text []byte, to *[]byte, from func(string) ([]byte, error), back func([]byte) string) error {
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	b, err := from(s)
	if err != nil {
		return err
	}
	if back(b) != s {
		return fmt.Errorf("%d characters are not the one text of their bytes", len(s))
	}
	*to = b
	return nil
}

// limit: the deepest value is a PCR.
var limit = ijson.Limit{Size: MaxSize, Depth: 3}

// Decode reads evidence from somebody who may be an enemy.
func Decode(text []byte) (*Evidence, error) {
	var w wire
	if err := ijson.Decode(text, limit, &w); err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	if w.Format != Format {
		return nil, fmt.Errorf("evidence: format %d; known is %d: ask with a newer verifier", w.Format, Format)
	}
	if len(w.PCRs.SHA256) != PCRs {
		return nil, fmt.Errorf("evidence: values of %d PCRs, not %d", len(w.PCRs.SHA256), PCRs)
	}
	if w.Development == nil || w.EK.Certificates == nil || w.NotChecked == nil { // all others have a least size
		return nil, errors.New("evidence: development, ek.certificates or not_checked is missing")
	}
	e := &Evidence{
		Nonce: w.Nonce, Quote: w.Quote, Signature: w.Signature, EventLog: w.EventLog,
		AKPublic: w.AK.Public, AKName: w.AK.Name, AKCertificate: w.AK.Certificate,
		Board: w.Board, Development: *w.Development, NotChecked: w.NotChecked,
	}
	for i := range e.PCRs {
		name := strconv.Itoa(i)
		if err := digest("pcrs.sha256."+name, w.PCRs.SHA256[name], &e.PCRs[i]); err != nil {
			return nil, err
		}
	}
	if err := digest("tls_key", w.TLSKey, &e.TLSKey); err != nil {
		return nil, err
	}
	if err := digest("wrap_key", w.WrapKey, &e.WrapKey); err != nil {
		return nil, err
	}
	for _, c := range w.EK.Certificates {
		e.EKCertificates = append(e.EKCertificates, c)
	}
	return e, e.check()
}

// digest takes what must have the size of a digest.
func digest(name string, from []byte, to *eventlog.Digest) error {
	if len(from) != len(to) {
		return fmt.Errorf("evidence: %s: %d bytes, not %d", name, len(from), len(to))
	}
	copy(to[:], from)
	return nil
}

// check holds it to the format's limits.
func (e *Evidence) check() error {
	type part struct {
		name        string
		size        int
		least, most int
	}
	parts := []part{
		{"nonce", len(e.Nonce), MinNonce, MaxNonce},
		{"quote", len(e.Quote), 1, MaxQuote},
		{"signature", len(e.Signature), 1, MaxSignature},
		{"event_log", len(e.EventLog), 1, eventlog.MaxSize},
		{"ak.public", len(e.AKPublic), 1, MaxPublic},
		{"ak.name", len(e.AKName), NameSize, NameSize},
		{"ak.certificate", len(e.AKCertificate), 0, MaxCertificate},
	}
	for i, c := range e.EKCertificates {
		parts = append(parts, part{fmt.Sprintf("ek.certificates, %d", i+1), len(c), 1, MaxCertificate})
	}
	for _, p := range parts {
		if p.size < p.least || p.size > p.most {
			return fmt.Errorf("evidence: %s: %d bytes, not %d to %d", p.name, p.size, p.least, p.most)
		}
	}
	if n := len(e.EKCertificates); n > MaxCertificates {
		return fmt.Errorf("evidence: ek.certificates: %d, at most %d", n, MaxCertificates)
	}
	if !printable(e.Board, maxBoard) || bytes.ContainsRune([]byte(e.Board), ' ') {
		return fmt.Errorf("evidence: board %q: 1 to %d printable characters without space", e.Board, maxBoard)
	}
	if n := len(e.NotChecked); n > MaxWords {
		return fmt.Errorf("evidence: not_checked: %d entries, at most %d", n, MaxWords)
	}
	for _, words := range e.NotChecked {
		if !printable(words, MaxText) {
			return fmt.Errorf("evidence: not_checked: %.40q: 1 to %d printable characters", words, MaxText)
		}
	}
	return nil
}

// printable: a terminal that shows such text does nothing else with it.
func printable(s string, most int) bool {
	for _, c := range []byte(s) {
		if c < ' ' || c > '~' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= most
}

// Encode makes the text. What is beyond a limit is refused here already.
func (e *Evidence) Encode() ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	w := wire{
		Format: Format, Nonce: e.Nonce, Quote: e.Quote, Signature: e.Signature, EventLog: e.EventLog,
		PCRs: pcrs{map[string]digits{}}, AK: ak{e.AKPublic, e.AKName, e.AKCertificate}, EK: ek{[]blob{}},
		Board: e.Board, Development: &e.Development, TLSKey: e.TLSKey[:], WrapKey: e.WrapKey[:],
		NotChecked: append([]string{}, e.NotChecked...),
	}
	for i, v := range e.PCRs {
		w.PCRs.SHA256[strconv.Itoa(i)] = v[:]
	}
	for _, c := range e.EKCertificates {
		w.EK.Certificates = append(w.EK.Certificates, c)
	}
	text, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	if len(text) > MaxSize {
		return nil, fmt.Errorf("evidence: %d bytes, at most %d", len(text), MaxSize)
	}
	return text, nil
}
