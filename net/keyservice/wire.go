package keyservice

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
)

// Paths of docs/keyservice.md, "Requests".
const (
	PathChallenges    = "/v1/challenges"
	PathKeys          = "/v1/keys"
	PathGrants        = "/v1/grants"
	PathConfirmations = "/v1/confirmations"
)

// A Form is how a key is wrapped.
type Form string

// The forms.
const (
	HPKE Form = "HPKE" // with the grant
	CMS  Form = "CMS"  // by the KMS face's Decrypt, to the board's recipient key
)

// The bodies of requests and answers.
type (
	ChallengeAnswer struct {
		Challenge []byte `json:"challenge"`
	}
	KeyBody struct {
		Volume string `json:"volume"`
	}
	KeyAnswer struct {
		Volume     string `json:"volume"`
		Commitment Digest `json:"commitment"`
	}
	GrantBody struct {
		Volume    string          `json:"volume"`
		Challenge []byte          `json:"challenge"`
		Request   []byte          `json:"request"`
		Evidence  json.RawMessage `json:"evidence"`
		Standing  bool            `json:"standing"`
		Lease     uint64          `json:"lease"` // seconds
		Form      Form            `json:"form"`
	}
	GrantAnswer struct {
		Grant      []byte `json:"grant"`
		Wrapped    []byte `json:"wrapped,omitempty"`    // of HPKE
		Ciphertext []byte `json:"ciphertext,omitempty"` // of CMS: a kms.Reference
	}
	ConfirmationBody struct {
		Grant        []byte `json:"grant"`
		Confirmation []byte `json:"confirmation"`
	}
	ErrorAnswer struct {
		Error Error `json:"error"`
	}
)

// A Digest is 32 bytes, in hexadecimal.
type Digest [32]byte

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(hex.EncodeToString(d[:])), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	b, err := hex.DecodeString(string(text))
	if err != nil || len(b) != len(d) || hex.EncodeToString(b) != string(text) {
		return fmt.Errorf("%.70q is no SHA-256 in lower-case hexadecimal", text)
	}
	copy(d[:], b)
	return nil
}

// A Code says why something is refused.
type Code string

// The codes of docs/keyservice.md, "Errors".
const (
	Malformed       Code = "malformed"
	Unauthenticated Code = "unauthenticated"
	Forbidden       Code = "forbidden"
	BadChallenge    Code = "challenge"
	BadEvidence     Code = "evidence"
	BadRequest      Code = "request"
	BadLease        Code = "lease"
	NoKey           Code = "no_key"
	Exists          Code = "exists"
	BadConfirmation Code = "confirmation"
	Busy            Code = "busy"
	Internal        Code = "internal"
)

// An Error is a refusal, with what to do next.
type Error struct {
	Code    Code   `json:"code"`
	Message string `json:"message"`
	Next    string `json:"next"`
	Status  int    `json:"-"` // of HTTP
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("key service: %s: %s: %s", e.Code, e.Message, e.Next)
}
