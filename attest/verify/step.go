package verify

import (
	"cmp"
	"crypto/ecdsa"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/akcert"
	"nitro/attest/eventlog"
	"nitro/attest/evidence"
	"nitro/attest/golden"
)

// A verification is under way. What a check has established is nil until it has come out
// well, and so later ones cannot use it.
type verification struct {
	policy *Policy
	text   []byte

	evidence    *evidence.Evidence // format
	key         *ecdsa.PublicKey   // attestation key
	certificate *akcert.Verified   // key certificate
	named       bool               // board part
	attest      *tpm2.TPMSAttest   // quote
	info        *tpm2.TPMSQuoteInfo
	log         *eventlog.Log     // event log
	release     int               // release
	host        *golden.HostCycle // host cycles; nil where there was none
}

// A step makes one check. needs says what it stands on; nil is nothing.
type step struct {
	name   string
	wanted func(p *Policy) bool // nil: always
	needs  func(v *verification) (missing string)
	do     func(v *verification) (found string, err error)
}

// steps are all checks, in the order in which they are made.
var steps = []step{
	{"format", nil, nil, (*verification).format},
	{"attestation key", nil, hasEvidence, (*verification).attestationKey},
	{"known key", func(p *Policy) bool { return len(p.Names) > 0 }, hasKey, (*verification).knownKey},
	{"signature", nil, hasKey, (*verification).signature},
	{"quote", nil, hasEvidence, (*verification).quote},
	{"nonce", nil, hasQuote, (*verification).nonce},
	{"PCR selection", nil, hasQuote, (*verification).selection},
	{"PCR values", nil, hasQuote, (*verification).values},
	{"event log", nil, hasEvidence, (*verification).eventLog},
	{"replay", nil, hasLog, (*verification).replay},
	{"claims", nil, hasLog, (*verification).claims},
	{"key certificate", func(p *Policy) bool { return p.Issuers != nil }, hasKeyLog, (*verification).keyCertificate},
	{"board part", func(p *Policy) bool { return p.Board != nil }, hasAll, (*verification).boardPart},
	{"endorsement", func(p *Policy) bool { return p.Makers != nil }, hasTie, (*verification).endorsement},
	{"release", nil, hasLog, (*verification).releases},
	{"cap", nil, hasLog, (*verification).capped},
	{"security version", nil, hasLog, (*verification).securityVersion},
	{"configuration", nil, hasLog, (*verification).configuration},
	{"policy set", nil, hasLog, (*verification).policySet},
	{"service", nil, hasLog, (*verification).service},
	{"development", nil, hasLog, (*verification).development},
	{"life cycle", nil, hasLog, (*verification).lifeCycle},
	{"SoC secret", nil, hasLog, (*verification).socSecret},
	{"host cycles", nil, hasLog, (*verification).hostCycles},
	{"host firmware", func(p *Policy) bool { return p.Host != nil }, hasLog, (*verification).hostFirmware},
	{"TLS key", func(p *Policy) bool { return p.TLSKey != nil }, hasEvidence, (*verification).tlsKey},
	{"wrapping key", func(p *Policy) bool { return p.WrapKey != nil }, hasEvidence, (*verification).wrapKey},
}

func need(missing bool, what string) string {
	if missing {
		return what
	}
	return ""
}

func hasEvidence(v *verification) string { return need(v.evidence == nil, "format") }
func hasKey(v *verification) string      { return need(v.key == nil, "attestation key") }
func hasQuote(v *verification) string    { return need(v.attest == nil, "quote") }
func hasLog(v *verification) string      { return need(v.log == nil, "event log") }

func hasKeyLog(v *verification) string { return cmp.Or(hasKey(v), hasLog(v)) }
func hasAll(v *verification) string    { return cmp.Or(hasKeyLog(v), hasQuote(v)) }

// hasTie: without one of the two the endorsement key is any.
func hasTie(v *verification) string {
	tied := v.certificate != nil || v.named
	return cmp.Or(need(!tied && v.policy.Issuers != nil, "key certificate"), need(!tied, "board part"))
}

// make makes a check.
func (v *verification) make(s step) Check {
	c := Check{Name: s.name, Wanted: s.wanted == nil || s.wanted(v.policy)}
	if !c.Wanted {
		c.Why = "the policy does not ask for it"
		return c
	}
	if s.needs != nil {
		if missing := s.needs(v); missing != "" {
			c.Why = fmt.Sprintf("check %q has failed", missing)
			return c
		}
	}
	found, err := s.do(v)
	if err == nil {
		c.Outcome, c.Actual = OK, found
		return c
	}
	c.Outcome = Failed
	if d := (*difference)(nil); errors.As(err, &d) {
		c.Why, c.Expected, c.Actual = d.why, printable(d.expected), printable(d.actual)
		return c
	}
	c.Why = printable(err.Error())
	return c
}

// A difference is why a check failed, where something else was expected.
type difference struct{ why, expected, actual string }

func (d *difference) Error() string { return d.why }

func differ(why string, expected, actual any) error {
	return &difference{why, fmt.Sprint(expected), fmt.Sprint(actual)}
}

// printable leaves nothing in a text that a terminal would act on. What went wrong may
// quote the evidence.
func printable(s string) string {
	b := []byte(strings.ReplaceAll(s, "\n", ": "))
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = ' '
		}
	}
	return string(b)
}

// facts are for evidence that is accepted.
func (v *verification) facts() *Facts {
	f := &Facts{
		AKName: v.evidence.AKName, Board: v.evidence.Board, Development: v.evidence.Development, Release: v.release,
		TLSKey: v.evidence.TLSKey, WrapKey: v.evidence.WrapKey, AK: v.key, Log: v.log, Clock: v.attest.ClockInfo.Clock, Host: v.host, NotChecked: v.evidence.NotChecked,
	}
	for _, e := range v.log.Events() {
		switch e.Name() {
		case "board":
			f.UniqueID, f.LifeCycle, f.SoCSecret = e.Value("unique-id"), eventlog.LifeCycle(e.Value("life-cycle")), eventlog.SoCSecret(e.Value("soc-secret"))
		case "recipient":
			d := eventlog.Digest{}
			hex.Decode(d[:], []byte(e.Value("sha256"))) // the log has made sure that it is one
			f.Recipient = &d
		case "bootloader":
			f.Bootloader = golden.ComponentOf(e)
		case "controller":
			f.Controller = golden.ComponentOf(e)
		}
	}
	return f
}
