// Package evidence is what the board hands to who asks what runs on it: a TPM's quote,
// the event log that explains it, and the keys and certificates to verify both with
// (docs/attestation.md, "Evidence"). The quote is a plain TPM2_Quote (TPM 2.0 Library,
// part 3, 18.4) and the log the TCG's, so that tools which know neither this board nor
// this package verify them.
//
// [Source.Make] makes evidence on the board; [Decode] reads it anywhere. Package verify
// judges it.
//
// # What it answers
//
// Evidence comes to its reader over a network and by way of others, so nothing in it
// counts but what the quote signs. What it repeats in plain sight must agree with the
// log. [Limits] says what no evidence of such a board proves; what the firmware adds to it
// is for people's eyes and under no signature.
package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/eventlog"
	"nitro/attest/identity"
	"nitro/attest/tpm"
)

// Format is the version of the format.
const Format = 2

// Limits of the format, in bytes where nothing else is said.
const (
	MaxSize         = 256 << 10
	MinNonce        = 8
	MaxNonce        = identity.MaxNonce
	MaxQuote        = 1024             // a TPMS_ATTEST of a quote with the longest nonce has 177
	MaxSignature    = 2 + 2 + 2*(2+32) // TPMT_SIGNATURE of ECDSA P-256 (part 2, 11.3.4)
	MaxPublic       = 512              // TPMT_PUBLIC; that of a P-256 key has 88
	MaxCertificate  = 4096             // DER
	MaxCertificates = 4                // from the EK's up
	NameSize        = 2 + sha256.Size  // TPM name with SHA-256
	MaxWords        = 32               // entries of not_checked
	MaxText         = 256              // each
	maxBoard        = 32               // characters
)

// PCRs is how many are quoted, from 0 on: all that are measured into.
const PCRs = identity.BootPCR + 1

// ErrIncomplete: something that evidence needs was not measured.
var ErrIncomplete = errors.New("evidence needs the events anchors, board and identity: measure them before the network opens")

// An Evidence is what the format holds. Sizes are within limits and nothing more: what
// TPM structures and certificates hold is not looked at.
type Evidence struct {
	Nonce          []byte
	Quote          []byte // TPMS_ATTEST
	Signature      []byte // TPMT_SIGNATURE
	PCRs           [PCRs]eventlog.Digest
	EventLog       []byte
	AKPublic       []byte   // TPMT_PUBLIC
	AKName         []byte   // of NameSize bytes
	AKCertificate  []byte   // DER, or nil
	EKCertificates [][]byte // DER: the EK's, then each one's issuer's, without the root
	Board          string
	Development    bool
	TLSKey         eventlog.Digest
	WrapKey        eventlog.Digest
	NotChecked     []string
}

// A Source is what the board makes its evidence from. It is for who owns the TPM: between
// the quote and the values nothing may be measured.
type Source struct {
	TPM      *tpm.TPM
	Session  *tpm.Session // bound to the AK, as a reset of the TPM is noticed by it
	AK       tpm.Entity
	AKPublic *tpm2.TPMTPublic

	AKCertificate  []byte   // DER; nil where nobody has certified the AK
	EKCertificates [][]byte // DER, the EK's first; see identity.EKCertificate

	Log *eventlog.Log

	// NotChecked are words about this boot that go behind those of [Limits].
	NotChecked []string
}

// Make has the TPM quote PCR 0 to 8 with the caller's nonce of 8 to 64 bytes, and gives
// the evidence in its format. The values are what the TPM says they are, be the log right
// or not: a reader then sees which PCR the two differ in.
func (s *Source) Make(nonce []byte) ([]byte, error) {
	if len(nonce) < MinNonce || len(nonce) > MaxNonce {
		return nil, fmt.Errorf("evidence: nonce of %d bytes: give %d to %d", len(nonce), MinNonce, MaxNonce)
	}
	e := Evidence{
		Nonce: nonce, EventLog: s.Log.Bytes(), AKPublic: tpm2.Marshal(s.AKPublic), AKName: s.AK.Name.Buffer,
		AKCertificate: s.AKCertificate, EKCertificates: s.EKCertificates,
		NotChecked: append(Limits(s.Log), s.NotChecked...),
	}
	c, err := ClaimsOf(s.Log)
	if err != nil {
		return nil, err
	}
	e.Board, e.Development, e.TLSKey, e.WrapKey = c.Board, c.Development, c.TLSKey, c.WrapKey
	pcrs := make([]uint, PCRs)
	for i := range pcrs {
		pcrs[i] = uint(i)
	}
	values, err := s.TPM.ReadPCRs(pcrs...)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	copy(e.PCRs[:], values)
	q, err := identity.NewQuote(s.TPM, s.Session, s.AK, nonce, pcrs...)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	e.Quote, e.Signature = q.Attest, q.Signature
	return e.Encode()
}

// Claims are what evidence repeats of the log in plain sight.
type Claims struct {
	Board           string
	Development     bool
	TLSKey, WrapKey eventlog.Digest
}

// ClaimsOf reads them from a log, in which the events anchors, board and identity must
// come once each: a second one of a kind could be taken for the first.
func ClaimsOf(log *eventlog.Log) (c Claims, err error) {
	times := map[string]int{"anchors": 0, "board": 0, "identity": 0}
	for _, e := range log.Events() {
		switch name := e.Name(); name {
		case "anchors":
			c.Development = e.Value("development") == "1"
			times[name]++
		case "board":
			c.Board = e.Value("product")
			times[name]++
		case "identity":
			// The log has made sure that these are digests.
			hex.Decode(c.TLSKey[:], []byte(e.Value("tls")))
			hex.Decode(c.WrapKey[:], []byte(e.Value("wrap")))
			times[name]++
		}
	}
	for _, name := range []string{"anchors", "board", "identity"} {
		if times[name] != 1 {
			return Claims{}, fmt.Errorf("evidence: the log has %d events %q, not 1: %w", times[name], name, ErrIncomplete)
		}
	}
	return c, nil
}
