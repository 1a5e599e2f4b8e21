package verify

import (
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/eventlog"
	"nitro/attest/evidence"
	"nitro/attest/golden"
	"nitro/attest/tpm"
)

// quote answers something else that the key signs, such as another attestation of the
// TPM's (TPM 2.0 Library, part 2, 10.12.8).
func (v *verification) quote() (string, error) {
	b := v.evidence.Quote
	if len(b) < 6 {
		return "", fmt.Errorf("a TPMS_ATTEST of %d bytes", len(b))
	}
	// First, so that nothing else is ever unmarshalled.
	if magic, kind := tpm2.TPMGenerated(binary.BigEndian.Uint32(b)), tpm2.TPMST(binary.BigEndian.Uint16(b[4:])); magic != tpm2.TPMGeneratedValue || kind != tpm2.TPMSTAttestQuote {
		return "", differ("it is not a quote that a TPM made", fmt.Sprintf("magic %#x, type %#x", uint32(tpm2.TPMGeneratedValue), uint16(tpm2.TPMSTAttestQuote)), fmt.Sprintf("magic %#x, type %#x", uint32(magic), uint16(kind)))
	}
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](b)
	if err != nil {
		return "", fmt.Errorf("TPMS_ATTEST: %w", err)
	}
	if !bytes.Equal(tpm2.Marshal(attest), b) {
		return "", errors.New("TPMS_ATTEST: something is behind it, or it has another form")
	}
	info, err := attest.Attested.Quote()
	if err != nil {
		return "", fmt.Errorf("TPMS_QUOTE_INFO: %w", err)
	}
	v.attest, v.info = attest, info
	return "", nil
}

// nonce answers old evidence.
func (v *verification) nonce() (string, error) {
	for _, n := range [][]byte{v.attest.ExtraData.Buffer, v.evidence.Nonce} {
		if subtle.ConstantTimeCompare(n, v.policy.Nonce) != 1 {
			return "", differ("the evidence is for another question, or an old one: ask again with a new nonce", hex.EncodeToString(v.policy.Nonce), hex.EncodeToString(n))
		}
	}
	return "", nil
}

// selection answers a quote that leaves out the PCR that would show the attack, down to
// one over none at all (CVE-2022-0317).
func (v *verification) selection() (string, error) {
	pcrs := make([]uint, evidence.PCRs)
	for i := range pcrs {
		pcrs[i] = uint(i)
	}
	want, got := tpm2.Marshal(tpm.PCRSelection(pcrs...)), tpm2.Marshal(v.info.PCRSelect)
	if !bytes.Equal(want, got) {
		return "", differ("other PCRs are quoted than 0 to 8 of SHA-256 (TPML_PCR_SELECTION)", hex.EncodeToString(want), hex.EncodeToString(got))
	}
	return "", nil
}

func (v *verification) values() (string, error) {
	h := sha256.New()
	for _, pcr := range v.evidence.PCRs {
		h.Write(pcr[:])
	}
	if want := h.Sum(nil); !bytes.Equal(want, v.info.PCRDigest.Buffer) {
		return "", differ("the PCRs' values are not the quoted ones (SHA-256 over them)", hex.EncodeToString(v.info.PCRDigest.Buffer), hex.EncodeToString(want))
	}
	return "", nil
}

func (v *verification) eventLog() (string, error) {
	log, err := eventlog.Parse(v.evidence.EventLog)
	if err != nil {
		return "", err
	}
	v.log = log
	return fmt.Sprintf("%d events", len(log.Events())), nil
}

// replay answers a log that tells another story than the PCRs.
func (v *verification) replay() (string, error) {
	replayed := v.log.Replay()
	var expected, actual []string
	for i, pcr := range replayed {
		want := eventlog.Digest{} // PCRs that are not quoted are not measured into
		if i < evidence.PCRs {
			want = v.evidence.PCRs[i]
		}
		if pcr != want {
			expected = append(expected, fmt.Sprintf("PCR %d %x", i, want))
			actual = append(actual, fmt.Sprintf("PCR %d %x", i, pcr))
		}
	}
	if len(actual) > 0 {
		return "", differ("the log does not replay to the PCRs' values", strings.Join(expected, ", "), strings.Join(actual, ", "))
	}
	return "", nil
}

// claims answers evidence that shows people something else than its log.
func (v *verification) claims() (string, error) {
	e := v.evidence
	c, err := evidence.ClaimsOf(v.log)
	if err != nil {
		return "", err
	}
	if got := (evidence.Claims{Board: e.Board, Development: e.Development, TLSKey: e.TLSKey, WrapKey: e.WrapKey}); got != c {
		say := func(c evidence.Claims) string {
			return fmt.Sprintf("board %s, development %v, TLS key %x, wrapping key %x", c.Board, c.Development, c.TLSKey, c.WrapKey)
		}
		return "", differ("the evidence says something else than its log", say(c), say(got))
	}
	if n := len(v.events("recipient")); n > 1 {
		return "", differ("one boot has one recipient key", 1, n)
	}
	limits := evidence.Limits(v.log)
	if len(e.NotChecked) < len(limits) {
		return "", differ("not_checked leaves something out", fmt.Sprintf("%d entries or more", len(limits)), len(e.NotChecked))
	}
	for i, words := range limits {
		if e.NotChecked[i] != words {
			return "", differ("not_checked leaves something out", words, e.NotChecked[i])
		}
	}
	return e.Board, nil
}

// releases answers software that is not what was released. Where no release fits, the one
// that differs in the fewest events tells what is wrong.
func (v *verification) releases() (string, error) {
	var nearest error
	least := 0
	for i, r := range v.policy.Releases {
		err := r.Compare(v.log)
		if err == nil {
			v.release = i
			return r.Controller.Version, nil
		}
		if n := len(mismatches(err)); nearest == nil || n < least {
			nearest, least = err, n
		}
	}
	return "", mismatch(nearest)
}

// mismatches are those that package golden has joined.
func mismatches(err error) []error {
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		return j.Unwrap()
	}
	return []error{err}
}

// mismatch says of each mismatch what was expected and what was measured.
func mismatch(err error) error {
	var why, expected, actual []string
	for _, err := range mismatches(err) {
		m := (*golden.Mismatch)(nil)
		if !errors.As(err, &m) {
			return err
		}
		why = append(why, fmt.Sprintf("%s in PCR %d", m.Name, m.PCR))
		want := []string{}
		for _, e := range m.Expected {
			want = append(want, fmt.Sprintf("%q", e.Text))
		}
		if len(want) == 0 {
			want = append(want, "nothing")
		}
		expected = append(expected, strings.Join(want, " or "))
		got := "nothing"
		if m.Actual != nil {
			got = fmt.Sprintf("%q", m.Actual.Text)
		}
		actual = append(actual, got)
	}
	return &difference{"not known good: " + strings.Join(why, ", "), strings.Join(expected, ", "), strings.Join(actual, ", ")}
}
