package document

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/veraison/go-cose"

	"nitro/attest/eventlog"
	"nitro/attest/evidence"
)

// payload is the map of docs/document.md, "Form". All that is not there is null, and of
// that only public_key and nonce may be.
type payload struct {
	ModuleID    string            `cbor:"module_id"`
	Timestamp   uint64            `cbor:"timestamp"`
	Digest      string            `cbor:"digest"`
	PCRs        map[uint64][]byte `cbor:"pcrs"`
	Certificate []byte            `cbor:"certificate"`
	CABundle    [][]byte          `cbor:"cabundle"`
	PublicKey   []byte            `cbor:"public_key"`
	UserData    []byte            `cbor:"user_data"`
	Nonce       []byte            `cbor:"nonce"`
}

// Both ways of CBOR. The limits are the smallest that the library takes: nesting is 2 here,
// and maps and arrays have 9 members at most.
var (
	encMode = mode(cbor.CoreDetEncOptions().EncMode())
	decMode = mode(cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, TagsMd: cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField, MaxNestedLevels: 4, MaxArrayElements: 16, MaxMapPairs: 16,
	}.DecMode())
)

// mode panics at a misconfiguration, before main.
func mode[T any](m T, err error) T {
	if err != nil {
		panic(err)
	}
	return m
}

// encode makes the payload with this user_data. What is beyond a limit is refused here
// already.
func (d *Document) encode(userData []byte) ([]byte, error) {
	p := payload{ModuleID: d.ModuleID, Digest: digest, PCRs: map[uint64][]byte{}, Certificate: d.Certificate, CABundle: [][]byte{},
		PublicKey: d.PublicKey, UserData: userData, Nonce: d.Nonce}
	if !d.Time.IsZero() {
		p.Timestamp = uint64(d.Time.UnixMilli())
	}
	for i, v := range d.PCRs {
		p.PCRs[uint64(i)] = v[:]
	}
	if err := d.check(&p); err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	b, err := encMode.Marshal(p)
	if err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	return b, nil
}

// check holds a payload to the format's limits.
func (d *Document) check(p *payload) error {
	for _, part := range []struct {
		name        string
		size        int
		least, most int
		null        bool
	}{
		{"module_id", len(p.ModuleID), 1, maxModule, false},
		{"pcrs", len(p.PCRs), evidence.PCRs, evidence.PCRs, false},
		{"certificate", len(p.Certificate), 1, evidence.MaxCertificate, false},
		{"public_key", len(p.PublicKey), 1, maxPublicKey, p.PublicKey == nil},
		{"user_data", len(p.UserData), headSize, maxUserData, false},
		{"nonce", len(p.Nonce), evidence.MinNonce, evidence.MaxNonce, p.Nonce == nil},
	} {
		if !part.null && (part.size < part.least || part.size > part.most) {
			return fmt.Errorf("%s: %d, not %d to %d", part.name, part.size, part.least, part.most)
		}
	}
	for _, c := range []byte(p.ModuleID) {
		if c <= ' ' || c > '~' {
			return fmt.Errorf("module_id: %.80q: printable characters without space", p.ModuleID)
		}
	}
	if p.PublicKey != nil && sha256.Sum256(p.PublicKey) != d.Recipient {
		return fmt.Errorf("public_key: it is not the recipient key %x that was measured", d.Recipient)
	}
	if p.Digest != digest || len(p.CABundle) != 0 || p.CABundle == nil || p.Timestamp > math.MaxInt64 {
		return fmt.Errorf("digest %.10q, %d certificates in cabundle, timestamp %d: not those of version 1", p.Digest, len(p.CABundle), p.Timestamp)
	}
	return nil
}

// Decode reads a document from somebody who may be an enemy, and verifies nothing.
func Decode(text []byte) (*Document, error) {
	d := &Document{}
	if err := d.decode(text); err != nil {
		return nil, fmt.Errorf("document: %w: %w", ErrFormat, err)
	}
	return d, nil
}

func (d *Document) decode(text []byte) error {
	if len(text) > MaxSize {
		return fmt.Errorf("%d bytes, at most %d", len(text), MaxSize)
	}
	var m cose.UntaggedSign1Message
	if err := m.UnmarshalCBOR(text); err != nil {
		return err
	}
	// With these headers, whatever came: then the text is not the same again.
	d.message = cose.UntaggedSign1Message{Headers: headers(), Payload: m.Payload, Signature: m.Signature}
	if again, err := d.message.MarshalCBOR(); err != nil || !bytes.Equal(again, text) || len(m.Signature) != 64 {
		return fmt.Errorf("the message is not spelt as the format says (RFC 9052, 4.2): %w", err)
	}
	var p payload
	if err := decMode.Unmarshal(m.Payload, &p); err != nil {
		return err
	}
	if err := d.take(&p); err != nil {
		return err
	}
	again, err := d.encode(p.UserData)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, m.Payload) || !bytes.Equal(d.userData(), p.UserData) {
		return fmt.Errorf("the payload is not spelt as the format says (RFC 8949, 4.2.1)")
	}
	return nil
}

// take takes what a payload has.
func (d *Document) take(p *payload) error {
	if err := d.prove(p.UserData); err != nil {
		return err
	}
	if err := d.check(p); err != nil {
		return err
	}
	d.ModuleID, d.Certificate, d.PublicKey, d.Nonce = p.ModuleID, p.Certificate, p.PublicKey, p.Nonce
	if p.Timestamp != 0 {
		d.Time = time.UnixMilli(int64(p.Timestamp)).UTC()
	}
	for i := range d.PCRs {
		v, ok := p.PCRs[uint64(i)]
		if !ok || len(v) != len(eventlog.Digest{}) {
			return fmt.Errorf("pcrs: %d: %d bytes, not %d", i, len(v), len(eventlog.Digest{}))
		}
		copy(d.PCRs[i][:], v)
	}
	return nil
}
