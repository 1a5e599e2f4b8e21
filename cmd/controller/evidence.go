package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/document"
	"nitro/attest/evidence"
	"nitro/attest/identity"
	"nitro/net/audit/tpmkey"
	"nitro/net/redfish"
	"nitro/net/standing"
	"nitro/nvme/key"
)

// An evidenceAPI is the TPM, as Redfish shows it.
type evidenceAPI struct {
	f                      *firmware
	manufacturer, firmware string
}

// newEvidenceAPI asks the TPM what it is.
func newEvidenceAPI(f *firmware) evidenceAPI {
	a := evidenceAPI{f: f}
	c := &f.chain
	c.Bus.Lock()
	defer c.Bus.Unlock()
	if maker, err := c.T.Property(tpm2.TPMPTManufacturer); err == nil { // four characters
		a.manufacturer = strings.TrimRight(string([]byte{byte(maker >> 24), byte(maker >> 16), byte(maker >> 8), byte(maker)}), " \x00")
	}
	if v, err := c.T.Property(tpm2.TPMPTFirmwareVersion1); err == nil { // major and minor, 16 bits each
		a.firmware = fmt.Sprintf("%d.%d", v>>16, v&0xffff)
	}
	return a
}

// Evidence implements redfish.Evidence.
func (a evidenceAPI) Evidence() redfish.EvidenceState {
	f, c := a.f, &a.f.chain
	s := redfish.EvidenceState{Manufacturer: a.manufacturer, Firmware: a.firmware, PCRs: map[int][32]byte{}}
	if now, known := f.now(); known {
		s.Updated = now
	}
	if f.akCertificate != nil {
		s.Certificates = append(s.Certificates, certificate("ak", "Attestation key", f.akCertificate, "LAK"))
	}
	if f.ekCertificate != nil {
		s.Certificates = append(s.Certificates, certificate("ek", "Endorsement key", f.ekCertificate))
	}
	c.Bus.Lock()
	defer c.Bus.Unlock()
	if c.T.Lost() != nil {
		return s
	}
	pcrs := make([]uint, evidence.PCRs)
	for i := range pcrs {
		pcrs[i] = uint(i)
	}
	values, err := c.T.ReadPCRs(pcrs...)
	if err != nil {
		log.Printf("%v", err)
		return s
	}
	for i, v := range values {
		s.PCRs[i] = v
	}
	return s
}

// certificate shows one. The schema of 2024.1 has no usage for an endorsement key.
func certificate(id, name string, der []byte, usage ...string) redfish.Certificate {
	return redfish.Certificate{ID: id, Name: name, Usage: usage, PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
}

// Quote implements redfish.Evidence, with the attestation key alone.
func (a evidenceAPI) Quote(_ context.Context, id string, nonce, scheme, selection []byte) (quoted, signature []byte, err error) {
	const action = "ComponentIntegrity.TPMGetSignedMeasurements"
	if id != "ak" {
		return nil, nil, refuseParameter("Certificate", action, "Name the certificate of the attestation key: no other key quotes.")
	}
	if !ecdsaScheme(scheme) {
		return nil, nil, refuseParameter("Scheme", action, "Give a TPMT_SIG_SCHEME of ECDSA with SHA-256 (0018000b in hexadecimal), or none (0010), in base64.")
	}
	pcrs, ok := selected(selection)
	if !ok {
		return nil, nil, refuseParameter("PCRSelection", action, fmt.Sprintf("Give a TPML_PCR_SELECTION in base64 with one selection, of the bank SHA-256, of one PCR at least, from 0 to %d.", maxPCR))
	}
	if len(nonce) == 0 { // DSP2046: the service then makes one
		nonce = make([]byte, 32)
		rand.Read(nonce)
	}
	c := &a.f.chain
	c.Bus.Lock()
	defer c.Bus.Unlock()
	if c.T.Lost() != nil {
		return nil, nil, standing.ErrUnavailable
	}
	q, err := identity.NewQuote(c.T, c.Session, c.AK, nonce, pcrs...)
	if err != nil {
		return nil, nil, err
	}
	return q.Attest, q.Signature, nil
}

// How long a request waits for this boot's recipient key, which takes the board's
// processor seconds, and when to ask again, in seconds.
const (
	recipientWait  = 5 * time.Second
	retryRecipient = 30
)

// Document implements redfish.Evidence.
func (a evidenceAPI) Document(ctx context.Context, nonce []byte, recipient bool) ([]byte, error) {
	f := a.f
	q := document.Question{Nonce: nonce}
	if recipient {
		if f.reason() != nil || f.recipient == nil {
			return nil, refuseDocument("A board in quarantine takes no keys: ask without Recipient.")
		}
		ctx, cancel := context.WithTimeout(ctx, recipientWait)
		defer cancel()
		public, err := f.recipient.Public(ctx)
		if errors.Is(err, key.ErrMaking) {
			e := redfish.Refuse(http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", strconv.Itoa(retryRecipient))
			e.RetryAfter, e.Next = retryRecipient, sentence(err)
			return nil, e
		}
		if errors.Is(err, key.ErrUnmeasured) {
			log.Printf("%v", err)
			return nil, refuseDocument(sentence(key.ErrUnmeasured))
		}
		if err != nil {
			return nil, err
		}
		q.PublicKey = public
	}
	if now, known := f.now(); known {
		q.Time = now
	}
	text, err := f.prove(func(s *evidence.Source) ([]byte, error) {
		signer, err := tpmkey.New(s.TPM, s.Session, s.AK, s.AKPublic)
		if err != nil {
			return nil, err
		}
		return document.Make(s, signer, q)
	})
	if errors.Is(err, document.ErrCertificate) {
		return nil, refuseDocument(sentence(document.ErrCertificate))
	}
	return text, err
}

// refuseDocument says what stands against a document.
func refuseDocument(next string) error {
	e := redfish.Refuse(http.StatusConflict, "GeneralError")
	e.Next = next
	return e
}

// ecdsaScheme tells whether a TPMT_SIG_SCHEME is what the attestation key signs with, or
// leaves that to the key.
func ecdsaScheme(b []byte) bool {
	null := tpm2.Marshal(tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull})
	own := tpm2.Marshal(tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUSigScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSchemeHash{HashAlg: tpm2.TPMAlgSHA256})})
	return bytes.Equal(b, null) || bytes.Equal(b, own)
}

// maxPCR is the last one that a TPM of the PC client's kind has.
const maxPCR = 23

// selected reads a TPML_PCR_SELECTION: one of the SHA-256 bank, with one PCR at least. A
// quote over nothing would verify, and prove nothing.
func selected(b []byte) (pcrs []uint, ok bool) {
	s, err := tpm2.Unmarshal[tpm2.TPMLPCRSelection](b)
	if err != nil || !bytes.Equal(tpm2.Marshal(s), b) || len(s.PCRSelections) != 1 || s.PCRSelections[0].Hash != tpm2.TPMAlgSHA256 {
		return nil, false
	}
	for i, bits := range s.PCRSelections[0].PCRSelect {
		for bit := range 8 {
			if bits>>bit&1 != 0 {
				pcrs = append(pcrs, uint(8*i+bit))
			}
		}
	}
	return pcrs, len(pcrs) > 0 && pcrs[len(pcrs)-1] <= maxPCR
}
