// Package provisioning gives a new board its identity over the network: both ends of the
// procedure in docs/provisioning.md, which says what each step is for and why the power
// may go at any moment. [Server] is the board's end, [Provision] the factory's.
//
// What the steps do is other packages' work: provision (the TPM), seal, store, golden,
// pin. This one has their order, the messages, and who may.
//
// Left out: taking a provisioned board back (its card is written anew, and its TPM cleared
// with the lockout authorisation), and revoking a factory (a configuration with a higher
// epoch does).
package provisioning

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"nitro/attest/ijson"
	"nitro/boot/code"
)

// Limits of docs/provisioning.md.
const (
	maxMessage  = 256 << 10 // bytes
	maxError    = 1024      // bytes
	maxWaiting  = 8         // connections
	nonceSize   = 32        // bytes, of the quote
	maxAKCert   = 4096      // bytes
	handshake   = 30 * time.Second
	askLimit    = 5 * time.Minute  // for the factory to ask: its owner's key may want a person's hand
	answerLimit = 10 * time.Minute // for the board to answer: TPMs take long to make RSA keys
)

// format is the version of the messages and of the record.
const format = 1

// A Step is one of the procedure.
type Step string

// Steps, in their order. Connect is the factory's alone, and Done has no message.
const (
	Connect   Step = "connect"
	Hello     Step = "hello"
	Prove     Step = "prove"
	Seal      Step = "seal"
	Close     Step = "close"
	BoardPart Step = "board_part"
	Sign      Step = "sign"
	Commit    Step = "commit"
	Done      Step = "done"
)

// order is that in which a connection asks.
var order = []Step{Hello, Prove, Seal, Close, BoardPart, Sign, Commit}

var limit = ijson.Limit{Size: maxMessage, Depth: 4}

// A message is a question or an answer. The names are docs/provisioning.md's.
type message struct {
	Format int             `json:"format"`
	Step   Step            `json:"step"`
	Code   code.Code       `json:"code,omitempty"`
	Error  string          `json:"error,omitempty"`
	Body   json.RawMessage `json:"body,omitempty"`
}

type helloQuestion struct {
	Approvals []byte `json:"approvals,omitempty"`
}

type helloAnswer struct {
	Product       string `json:"product"`
	UniqueID      string `json:"unique_id"`
	Development   bool   `json:"development"`
	EKCertificate []byte `json:"ek_certificate"`
	EK            []byte `json:"ek"`
	Storage       []byte `json:"storage"`
	AK            []byte `json:"ak"`
	BoardKey      []byte `json:"board_key"`
	Resumed       bool   `json:"resumed"`
}

type proveQuestion struct {
	StorageBlob   []byte `json:"storage_blob"`
	StorageSecret []byte `json:"storage_secret"`
	AKBlob        []byte `json:"ak_blob"`
	AKSecret      []byte `json:"ak_secret"`
	Nonce         []byte `json:"nonce"`
}

type proveAnswer struct {
	StorageAnswer []byte `json:"storage_answer"`
	AKAnswer      []byte `json:"ak_answer"`
	Attest        []byte `json:"attest"`
	Signature     []byte `json:"signature"`
	Log           []byte `json:"log"`
}

type sealQuestion struct {
	StorageName  []byte `json:"storage_name"`
	AKName       []byte `json:"ak_name"`
	EKName       []byte `json:"ek_name"`
	BoardKeyName []byte `json:"board_key_name"`
}

type sealAnswer struct {
	Lockout       []byte `json:"lockout,omitempty"`
	LockoutSHA256 []byte `json:"lockout_sha256"`
}

type closeQuestion struct {
	LockoutSHA256 []byte `json:"lockout_sha256"`
}

type boardPartAnswer struct {
	Revision uint32 `json:"revision"`
	Approve  []byte `json:"approve"`
}

type signQuestion struct {
	Approval []byte `json:"approval"`
}

type signAnswer struct {
	Envelope []byte `json:"envelope"`
}

type commitQuestion struct {
	AKCertificate []byte `json:"ak_certificate"`
}

type nothing struct{}

// send writes a message.
func send(c net.Conn, within time.Duration, m message, body any) (err error) {
	m.Format = format
	if body != nil {
		if m.Body, err = json.Marshal(body); err != nil {
			return fmt.Errorf("provisioning: %s: %w", m.Step, err)
		}
		defer clear(m.Body) // one has a secret
	}
	text, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("provisioning: %s: %w", m.Step, err)
	}
	if len(text) > maxMessage {
		return fmt.Errorf("provisioning: %s: a message of %d bytes: at most %d", m.Step, len(text), maxMessage)
	}
	b := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(text)), uint32(len(text))), text...)
	defer clear(text)
	defer clear(b)
	if err := c.SetWriteDeadline(time.Now().Add(within)); err != nil {
		return err
	}
	_, err = c.Write(b)
	return err
}

// errMessage: what came is no message of the procedure.
var errMessage = errors.New("no message of this procedure, or out of order: use the factory tool of this release")

// receive reads a message.
func receive(c net.Conn, within time.Duration) (m message, err error) {
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		return m, err
	}
	var head [4]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return m, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if n > maxMessage {
		return m, fmt.Errorf("provisioning: a message of %d bytes, at most %d: %w", n, maxMessage, errMessage)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(c, text); err != nil {
		return m, err
	}
	defer clear(text)
	return m, decode(text, &m)
}

// decode reads a message, or the body of one.
func decode(text []byte, into any) error {
	if err := ijson.Decode(text, limit, into); err != nil {
		return fmt.Errorf("provisioning: %w", errors.Join(errMessage, err))
	}
	if m, ok := into.(*message); ok && m.Format != format {
		return fmt.Errorf("provisioning: format %d, not %d: %w", m.Format, format, errMessage)
	}
	return nil
}

// printable makes a text of the other end fit for a terminal.
func printable(s string) string {
	s = s[:min(len(s), maxError)]
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return ' '
		}
		return r
	}, s)
}

// KeyDigest is the SHA-256 of a certificate's SubjectPublicKeyInfo, as the event
// "identity" has it of this boot's TLS key.
func KeyDigest(c *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(c.RawSubjectPublicKeyInfo)
}
