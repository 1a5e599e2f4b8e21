package audit

import (
	"encoding/json"
	"fmt"
	"time"

	"nitro/attest/ijson"
)

// Format is the version of a record.
const Format = 1

// Limits of a record in bytes.
const (
	MaxRecord   = 1000
	MaxWho      = 352 // spiffe://, an owner of 255, a role, a name of 64
	MaxResource = 256
	MaxText     = 96 // of Why and Detail
	MaxWord     = 24 // of Action, Type, Method, Reset
)

// A Kind says what a record is of.
type Kind string

// The kinds.
const (
	KindBoot     Kind = "boot"     // a boot's first record
	KindIntent   Kind = "intent"   // of a request that is allowed, before it is carried out
	KindOutcome  Kind = "outcome"  // of one that was
	KindDenied   Kind = "denied"   // of a request that is not allowed
	KindDenials  Kind = "denials"  // of a principal's that were counted: docs/audit.md, "Rations"
	KindGap      Kind = "gap"      // of records that are missing
	KindCounters Kind = "counters" // of failures before authentication
	KindEvent    Kind = "event"    // of what the board does by itself
)

// A Record is a line of the log: docs/audit.md, "Record".
type Record struct {
	V        int       `json:"v"`
	N        uint64    `json:"n"`
	T        string    `json:"t,omitempty"`
	Up       int64     `json:"up"`
	Boot     uint64    `json:"boot"`
	Kind     Kind      `json:"kind"`
	Who      string    `json:"who,omitempty"`
	Action   string    `json:"action,omitempty"`
	Type     string    `json:"type,omitempty"`
	Resource string    `json:"resource,omitempty"`
	Method   string    `json:"method,omitempty"`
	Reset    string    `json:"reset,omitempty"`
	Why      string    `json:"why,omitempty"`
	Of       uint64    `json:"of,omitempty"`
	Status   int       `json:"status,omitempty"`
	Count    uint64    `json:"count,omitempty"`
	From     int64     `json:"from,omitempty"`
	To       int64     `json:"to,omitempty"`
	Rationed bool      `json:"rationed,omitempty"`
	Counters *Counters `json:"counters,omitempty"`
	Detail   string    `json:"detail,omitempty"`
}

// Counters count, since the boot, what failed before it was known who asked.
type Counters struct {
	TLS         uint64 `json:"tls"`         // handshakes
	Certificate uint64 `json:"certificate"` // that lead to no CA, are revoked or out of date
	Principal   uint64 `json:"principal"`   // certificates without a principal
	Request     uint64 `json:"request"`     // that are no HTTP, or too large
	Busy        uint64 `json:"busy"`        // connections beyond the limit
}

// timeFormat is RFC 3339 with milliseconds.
const timeFormat = "2006-01-02T15:04:05.000Z07:00"

// encode makes the bytes that are hashed and kept. Text that is too long is cut, and what
// is not plain becomes "?".
func (r *Record) encode() ([]byte, error) {
	for _, t := range []struct {
		text  *string
		limit int
	}{
		{&r.Who, MaxWho}, {&r.Action, MaxWord}, {&r.Type, MaxWord}, {&r.Resource, MaxResource}, {&r.Method, MaxWord},
		{&r.Reset, MaxWord}, {&r.Why, MaxText}, {&r.Detail, MaxText},
	} {
		*t.text = plain(*t.text, t.limit)
	}
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("audit: record %d: %w", r.N, err)
	}
	if len(b) > MaxRecord {
		return nil, fmt.Errorf("audit: record %d has %d bytes: at most %d", r.N, len(b), MaxRecord)
	}
	return b, nil
}

// plain cuts a text and makes each byte that JSON or a terminal would take as something
// else a question mark. So a record is never longer than its texts, and a name in a log
// never moves a reader's cursor.
func plain(s string, limit int) string {
	b := []byte(s)
	b = b[:min(len(b), limit)]
	for i, c := range b {
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			b[i] = '?'
		}
	}
	return string(b)
}

// DecodeRecord reads a record.
func DecodeRecord(b []byte) (*Record, error) {
	r := new(Record)
	if err := ijson.Decode(b, ijson.Limit{Size: MaxRecord, Depth: 2}, r); err != nil {
		return nil, fmt.Errorf("audit: record: %w", err)
	}
	if r.V != Format {
		return nil, fmt.Errorf("audit: record %d: version %d: use a tool that knows it", r.N, r.V)
	}
	switch r.Kind {
	case KindBoot, KindIntent, KindOutcome, KindDenied, KindDenials, KindGap, KindCounters, KindEvent:
	default:
		return nil, fmt.Errorf("audit: record %d: kind %.32q: use a tool that knows it", r.N, string(r.Kind))
	}
	if r.T != "" {
		if _, err := time.Parse(timeFormat, r.T); err != nil {
			return nil, fmt.Errorf("audit: record %d: time: %w", r.N, err)
		}
	}
	return r, nil
}
