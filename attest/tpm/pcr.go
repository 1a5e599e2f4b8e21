package tpm

import (
	"crypto"
	"crypto/sha256"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// hash is that of the PCRs, of names, of policies and of sessions.
const hash = crypto.SHA256

// A Digest is a SHA-256.
type Digest = [sha256.Size]byte

// PCRSelection selects PCRs of the SHA-256 bank.
func PCRSelection(pcrs ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{
		Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...),
	}}}
}

// maxPCRs is how many one TPM2_PCR_Read gives at most.
const maxPCRs = 8

// ReadPCRs reads PCRs, which are in rising order. Without a session nobody vouches for
// the values; what counts is a policy or a quote.
func (t *TPM) ReadPCRs(pcrs ...uint) ([]Digest, error) {
	values := make([]Digest, 0, len(pcrs))
	for len(pcrs) > 0 {
		some := pcrs[:min(maxPCRs, len(pcrs))]
		r, err := tpm2.PCRRead{PCRSelectionIn: PCRSelection(some...)}.Execute(t)
		if err != nil {
			return nil, failed(fmt.Sprintf("TPM2_PCR_Read %v", some), err)
		}
		if len(r.PCRValues.Digests) != len(some) {
			return nil, failed(fmt.Sprintf("TPM2_PCR_Read %v: %d values: the SHA-256 bank is not on", some, len(r.PCRValues.Digests)), ErrAnswer)
		}
		for _, d := range r.PCRValues.Digests {
			if len(d.Buffer) != sha256.Size {
				return nil, failed("TPM2_PCR_Read", ErrAnswer)
			}
			values = append(values, Digest(d.Buffer))
		}
		pcrs = pcrs[len(some):]
	}
	return values, nil
}

// Extend extends a PCR. In a session it is certain that the TPM has done so: an
// interposer who swallows the command cannot forge the answer. The session is nil before
// the storage primary is there to salt one.
func (t *TPM) Extend(s *Session, pcr uint, d Digest) error {
	var auth tpm2.Session = tpm2.PasswordAuth(nil)
	if s != nil {
		auth = s.With(nil)
	}
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Name: tpm2.HandleName(tpm2.TPMHandle(pcr)), Auth: auth},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: d[:]}}},
	}.Execute(t)
	if err != nil {
		return failed(fmt.Sprintf("TPM2_PCR_Extend %d", pcr), err)
	}
	return nil
}

// Extended is what a PCR becomes when a digest is extended into it.
func Extended(pcr, d Digest) Digest { return sha256.Sum256(append(pcr[:], d[:]...)) }

// Random has the TPM give n random bytes, at most 32, encrypted on the bus, or, where the
// session is nil, for everybody on the bus to read. Mix them with other sources: the TPM
// is one of several.
func (t *TPM) Random(s *Session, n uint16) ([]byte, error) {
	var sessions []tpm2.Session
	if s != nil {
		sessions = []tpm2.Session{s.With(nil).Out()}
	}
	r, err := tpm2.GetRandom{BytesRequested: n}.Execute(t, sessions...)
	if err == nil && len(r.RandomBytes.Buffer) != int(n) {
		err = ErrAnswer
	}
	if err != nil {
		return nil, failed("TPM2_GetRandom", err)
	}
	return r.RandomBytes.Buffer, nil
}
