// Package verify judges a board's evidence (docs/attestation.md, "What a verifier
// checks"). It needs no board, no TPM and no network, shares no state with the firmware,
// and is for anyone: the operator's tool, and services that give keys to boards.
//
//	nonce := make([]byte, 32)
//	rand.Read(nonce)
//	// ... fetch evidence with it ...
//	result, err := verify.Evidence(text, verify.Policy{Nonce: nonce, Issuers: issuers, Releases: releases, TLSKey: &peer})
//	for _, c := range result.Checks {
//		fmt.Println(c)
//	}
//	if err != nil {
//		return err // result.Facts is nil
//	}
//
// # What it answers
//
// Evidence is refused unless every check that the policy wants was made and came out well,
// and a policy that leaves out what the rest stands on is refused itself: there is no
// permissive mode that somebody could be left in. One policy check cannot stand in for
// another: what the policy has must all hold. The list of checks is complete
// each time, so a refusal shows all that is wrong and what could not be looked at.
//
// How old evidence is only the nonce tells: take a new random one each time.
package verify

import (
	"crypto/ecdsa"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"nitro/attest/eventlog"
	"nitro/attest/evidence"
	"nitro/attest/golden"
)

// Errors.
var (
	// ErrRefused: the evidence is not what the policy wants. The Result says why.
	ErrRefused = errors.New("the evidence is refused")
	// ErrPolicy: the policy lacks what a verdict stands on.
	ErrPolicy = errors.New("the policy is not complete")
)

// A Policy is what evidence is held to.
type Policy struct {
	// Nonce is the one that the evidence was asked for with: 8 to 64 bytes, random, used
	// once.
	Nonce []byte

	// How the attestation key is known: at least one of the three, and each that is there
	// must hold. Issuers are the CAs that certify attestation keys (package akcert), Names
	// are TPM names of keys, Board is the board part of the known-good set, which the
	// caller has verified (golden.OpenBoard).
	Issuers *x509.CertPool
	Names   [][]byte
	Board   *golden.Board

	// Makers are the roots of TPM makers, if their certificate is wanted as well. Issuers
	// or a board part must say whose endorsement key it is.
	Makers *x509.CertPool

	// At is when certificates must be valid; the zero time is now.
	At time.Time

	// Releases are the known-good ones, verified by the caller; at least one.
	Releases []*golden.Release
	// SecurityVersion is the least one of the controller.
	SecurityVersion uint32
	// Configurations are SHA-256 of the accepted ones; nil if any is.
	Configurations []eventlog.Digest
	// PolicySets are SHA-256 of the accepted ones; nil if any is, and none at all.
	PolicySets []eventlog.Digest

	// Host is the firmware that the board's host may run; nil asks for none: then the host
	// may be held, or run anything that its manifests' signers have signed.
	Host *golden.HostSet

	// What is accepted beside the best.
	Quarantine    bool // boards that are out of service, as they say themselves
	Development   bool // boards that take development keys
	OpenLifeCycle bool // chips whose boot ROM verifies nothing
	WeakSecret    bool // SoC secrets that are none or the same on every chip

	// TLSKey and WrapKey are the SHA-256 of the keys that the caller speaks to and encrypts
	// to, if he has them before the evidence; see evidence.Claims for what is hashed.
	TLSKey, WrapKey *eventlog.Digest
}

// Check refuses a policy under which a verdict would mean nothing, with ErrPolicy.
// [Evidence] does so by itself; who has yet to ask for evidence can know before.
func (p *Policy) Check() error {
	missing := func(what string) error { return fmt.Errorf("verify: %s: %w", what, ErrPolicy) }
	switch {
	case len(p.Nonce) < evidence.MinNonce || len(p.Nonce) > evidence.MaxNonce:
		return missing(fmt.Sprintf("a nonce of %d bytes: give %d to %d random ones", len(p.Nonce), evidence.MinNonce, evidence.MaxNonce))
	case p.Issuers == nil && len(p.Names) == 0 && p.Board == nil:
		return missing("nothing tells whose attestation key is good: give issuers, names or a board part")
	case p.Makers != nil && p.Issuers == nil && p.Board == nil:
		return missing("nothing ties an endorsement key to the attestation key: give issuers or a board part with the makers")
	case len(p.Releases) == 0:
		return missing("no known-good release")
	}
	for _, r := range p.Releases {
		if r == nil || len(r.Events()) == 0 {
			return missing("a known-good release is empty")
		}
	}
	return nil
}

// An Outcome is that of one check.
type Outcome int

const (
	NotMade Outcome = iota // not wanted, or something before it has failed
	OK
	Failed
)

func (o Outcome) String() string {
	switch o {
	case NotMade:
		return "not made"
	case OK:
		return "ok"
	case Failed:
		return "failed"
	}
	return fmt.Sprintf("outcome %d", int(o))
}

// A Check is one check and what came of it. Its text is printable.
type Check struct {
	Name     string
	Outcome  Outcome
	Wanted   bool   // by the policy: then nothing but OK will do
	Why      string // why it failed or was not made
	Expected string
	Actual   string
}

// String is a line for people.
func (c Check) String() string {
	s := fmt.Sprintf("%-9s %s", c.Outcome, c.Name)
	if c.Why != "" {
		s += ": " + c.Why
	}
	if c.Expected != "" {
		s += "; expected " + c.Expected
	}
	if c.Actual != "" {
		s += "; actual " + c.Actual
	}
	return s
}

// A Result is all that came of verifying.
type Result struct {
	Checks []Check
	Facts  *Facts // nil unless the evidence is accepted
}

// Facts are what accepted evidence proves.
type Facts struct {
	AKName          []byte
	Board           string
	UniqueID        string // 16 hexadecimal digits
	LifeCycle       eventlog.LifeCycle
	SoCSecret       eventlog.SoCSecret
	Development     bool
	Release         int // index into the policy's
	Bootloader      golden.Component
	Controller      golden.Component
	TLSKey, WrapKey eventlog.Digest
	// Recipient is the hash of this boot's recipient key; nil if it has made none.
	Recipient *eventlog.Digest
	AK        *ecdsa.PublicKey
	Log       *eventlog.Log
	// Clock is the TPM's when it made the quote, in milliseconds (TPMS_CLOCK_INFO.clock).
	Clock uint64

	// Host is the last cycle of the host; nil if there was none in this boot.
	Host *golden.HostCycle

	// NotChecked is what it does not prove. What is behind evidence.Limits of the log is the
	// board's word, which nobody signed.
	NotChecked []string
}

// Evidence judges a text. The error is nil only if it is accepted; the Result is never
// nil. It wraps ErrRefused, or ErrPolicy where the policy is at fault.
func Evidence(text []byte, p Policy) (*Result, error) {
	r := &Result{}
	if err := p.Check(); err != nil {
		return r, err
	}
	if p.At.IsZero() {
		p.At = time.Now()
	}
	v := &verification{policy: &p, text: text}
	var problems []error
	for _, step := range steps {
		c := v.make(step)
		if c.Wanted && c.Outcome != OK {
			problems = append(problems, errors.New(c.String()))
		}
		r.Checks = append(r.Checks, c)
	}
	if len(problems) > 0 {
		return r, fmt.Errorf("verify: %w: %w", ErrRefused, errors.Join(problems...))
	}
	r.Facts = v.facts()
	return r, nil
}
