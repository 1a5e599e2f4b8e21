// Package kms is the wire format of a key service's second face, by which an unmodified
// SDK of AWS brings a volume's key to a board: the operation Decrypt of the AWS KMS API
// (protocol AWS JSON 1.1), whose answer is a CMS envelope for the recipient key in an
// attestation document, under AWS Signature Version 4. docs/keyservice.md, "The KMS face",
// fixes what is taken of it, version 1; package nitro/net/keyservice/server serves it.
//
// [Client] is a small client of it, for tools that should not carry an SDK. Left out are
// all other operations, session tokens, signatures in queries, of chunks and of several
// regions.
package kms

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	"nitro/nvme/key"
)

// What an operation is asked for by.
const (
	Target      = "TrentService.Decrypt"
	ContentType = "application/x-amz-json-1.1"

	HeaderTarget  = "X-Amz-Target"
	HeaderRequest = "X-Amzn-Requestid"

	// MaxBody is that of a request in bytes: the longest document and a reference have 11
	// KiB in base64.
	MaxBody = 32 << 10
	// Mechanism is the one KeyEncryptionAlgorithm.
	Mechanism = "RSAES_OAEP_SHA_256"
	// Algorithm is the one EncryptionAlgorithm.
	Algorithm = "SYMMETRIC_DEFAULT"
)

// A Recipient is who the answer is encrypted to.
type Recipient struct {
	KeyEncryptionAlgorithm string
	AttestationDocument    []byte
}

// A DecryptInput is a request.
type DecryptInput struct {
	CiphertextBlob      []byte
	Recipient           *Recipient        `json:",omitempty"`
	KeyID               string            `json:"KeyId,omitempty"`
	EncryptionAlgorithm string            `json:",omitempty"`
	EncryptionContext   map[string]string `json:",omitempty"`
	GrantTokens         []string          `json:",omitempty"`
	DryRun              bool              `json:",omitempty"`
	DryRunModifiers     []string          `json:",omitempty"`
}

// A DecryptOutput is the answer. It has no Plaintext: there never is any.
type DecryptOutput struct {
	KeyID                  string `json:"KeyId"` // the volume's identity
	EncryptionAlgorithm    string
	CiphertextForRecipient []byte
}

// ReadDecrypt reads a request's body and holds it to what is served. Members that it does
// not know are refused, since one could restrict what is asked for. (Of names that differ
// in case alone the last one counts; nobody but this reader reads them.)
func ReadDecrypt(body []byte) (*DecryptInput, *Error) {
	in := &DecryptInput{}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(in)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = fmt.Errorf("something behind the value")
		}
	}
	if err != nil {
		return nil, Refuse(Serialization, "%.200v", err)
	}
	switch r := in.Recipient; {
	case r == nil:
		return nil, Refuse(AccessDenied, "this service gives no plaintext to anybody: name a Recipient, with the attestation document of the board")
	case r.KeyEncryptionAlgorithm != Mechanism:
		return nil, Refuse(Validation, "KeyEncryptionAlgorithm %.40q: it can be %s", r.KeyEncryptionAlgorithm, Mechanism)
	case in.EncryptionAlgorithm != "" && in.EncryptionAlgorithm != Algorithm:
		return nil, Refuse(Validation, "EncryptionAlgorithm %.40q: it can be %s", in.EncryptionAlgorithm, Algorithm)
	case len(in.EncryptionContext) > 0:
		return nil, Refuse(InvalidCiphertext, "a key of this service has no encryption context")
	case len(in.GrantTokens)+len(in.DryRunModifiers) > 0:
		return nil, Refuse(Validation, "this service takes no GrantTokens and no DryRunModifiers")
	}
	return in, nil
}

// A Reference names a volume's key, and is what a CiphertextBlob has here.
type Reference struct {
	Volume     [key.VolumeSize]byte
	Commitment [32]byte
}

// The reference's format.
const (
	referenceMagic   = "NCKMSREF"
	referenceVersion = 1
	// ReferenceSize is that of an encoded Reference, in bytes.
	ReferenceSize = 64
)

// Encode writes a reference.
func (r Reference) Encode() []byte {
	b := binary.LittleEndian.AppendUint64([]byte(referenceMagic), referenceVersion) // and what is reserved
	return append(append(b, r.Volume[:]...), r.Commitment[:]...)
}

// ParseReference reads what Encode writes.
func ParseReference(b []byte) (Reference, *Error) {
	if len(b) != ReferenceSize || string(b[:8]) != referenceMagic || binary.LittleEndian.Uint64(b[8:]) != referenceVersion {
		return Reference{}, Refuse(InvalidCiphertext, "%d bytes are no reference to a key, version %d: give the ciphertext of a grant", len(b), referenceVersion)
	}
	return Reference{[key.VolumeSize]byte(b[16:]), [32]byte(b[32:])}, nil
}

// A Type says what is wrong, as AWS spells it.
type Type string

// The types of docs/keyservice.md, "The KMS face", Errors.
const (
	MissingAuthentication Type = "MissingAuthenticationTokenException"
	IncompleteSignature   Type = "IncompleteSignatureException"
	UnrecognizedClient    Type = "UnrecognizedClientException"
	InvalidSignature      Type = "InvalidSignatureException"
	UnknownOperation      Type = "UnknownOperationException"
	Serialization         Type = "SerializationException"
	TooLarge              Type = "RequestEntityTooLargeException"
	Validation            Type = "ValidationException"
	InvalidCiphertext     Type = "InvalidCiphertextException"
	IncorrectKey          Type = "IncorrectKeyException"
	AccessDenied          Type = "AccessDeniedException"
	NotFound              Type = "NotFoundException"
	DryRun                Type = "DryRunOperationException"
	Throttling            Type = "ThrottlingException"
	Internal              Type = "KMSInternalException"
)

// Status is an error's in HTTP.
func (t Type) Status() int {
	switch t {
	case Internal:
		return http.StatusInternalServerError
	case TooLarge:
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusBadRequest
}

// An Error is a refusal.
type Error struct {
	Type    Type   `json:"__type"`
	Message string `json:"message"`
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("key service: %s: %s", e.Type, e.Message) }

// Refuse makes an error.
func Refuse(t Type, format string, args ...any) *Error {
	return &Error{t, fmt.Sprintf(format, args...)}
}
