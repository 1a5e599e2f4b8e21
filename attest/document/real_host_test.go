//go:build !arm

package document

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/akcert"
	"nitro/attest/eventlog"
	"nitro/attest/evidence"
	"nitro/attest/golden"
	"nitro/attest/identity"
	"nitro/attest/verify"
	"nitro/internal/provisioned"
)

// A chip measures into a TPM.
type chip struct{ *provisioned.Boot }

func (c chip) Extend(pcr int, digest eventlog.Digest) error {
	return c.T.Extend(c.S, uint(pcr), digest)
}

// A tpmSigner signs with a TPM's attestation key digests of what the TPM has hashed, in as
// many pieces as that takes. (net/audit/tpmkey is the board's; this floor is below it.)
type tpmSigner struct{ *provisioned.Boot }

// Sign implements Signer.
func (s tpmSigner) Sign(text []byte) ([]byte, error) {
	start, err := tpm2.HashSequenceStart{HashAlg: tpm2.TPMAlgSHA256}.Execute(s.T)
	if err != nil {
		return nil, err
	}
	h := tpm2.AuthHandle{Handle: start.SequenceHandle, Auth: tpm2.PasswordAuth(nil)}
	for ; len(text) > 1024; text = text[1024:] {
		if _, err := (tpm2.SequenceUpdate{SequenceHandle: h, Buffer: tpm2.TPM2BMaxBuffer{Buffer: text[:1024]}}).Execute(s.T); err != nil {
			return nil, err
		}
	}
	done, err := tpm2.SequenceComplete{SequenceHandle: h, Buffer: tpm2.TPM2BMaxBuffer{Buffer: text}, Hierarchy: tpm2.TPMRHOwner}.Execute(s.T)
	if err != nil {
		return nil, err
	}
	r, err := tpm2.Sign{KeyHandle: s.AK.In(s.S.With(s.AK.Auth)), Digest: done.Result, InScheme: tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull}, Validation: done.Validation}.Execute(s.T)
	if err != nil {
		return nil, err
	}
	e, err := r.Signature.Signature.ECDSA()
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(e.SignatureR.Buffer), new(big.Int).SetBytes(e.SignatureS.Buffer)})
}

// TestTPM: a document of a real TPM is accepted, by the board's evidence, under a policy
// with the TPM's maker too; and OpenSSL verifies its COSE signature over a Sig_structure
// that this test puts together by hand.
func TestTPM(t *testing.T) {
	p := provisioned.New(t)
	b := p.Boot(t, nil)
	ca, key := owner(t)
	log := eventlog.New()
	for _, e := range events() {
		if err := log.Measure(chip{b}, e); err != nil {
			t.Fatal(err)
		}
	}
	s := &evidence.Source{TPM: b.T, Session: b.S, AK: b.AK, AKPublic: p.Result.AK, EKCertificates: [][]byte{must(identity.EKCertificate(b.T, b.S))(t)}, Log: log}
	if _, err := Make(s, tpmSigner{b}, Question{Nonce: nonce}); !errors.Is(err, ErrCertificate) {
		t.Errorf("without certificate: %v", err)
	}
	s.AKCertificate = must(akcert.New(akcert.Request{AK: tpm2.Marshal(p.Result.AK), EKCertificate: p.Result.EKCertificate.Raw, Product: product, UniqueID: number,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: akcert.Forever}, ca, key))(t)
	text := must(Make(s, tpmSigner{b}, Question{Nonce: nonce, PublicKey: publicKey, Time: when}))(t)
	beside := must(evidence.Decode(must(s.Make([]byte("another nonce")))(t)))(t)
	issuers := x509.NewCertPool()
	issuers.AddCert(ca)
	policy := verify.Policy{Nonce: nonce, Issuers: issuers, Makers: p.Config.Roots, Names: [][]byte{p.Result.AKName}, Releases: []*golden.Release{release(t)}}
	doc, _, err := Verify(text, beside, policy)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d bytes, quote %d, signature of it %d, user_data %d", len(text), len(doc.Quote), len(doc.QuoteSignature), len(doc.userData()))
	openssl(t, text, doc.Certificate)

	// What was measured meanwhile is in no document of before.
	if err := log.Measure(chip{b}, eventlog.Configuration(d(6), 2)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Verify(text, must(evidence.Decode(must(s.Make(nonce))(t)))(t), policy); !errors.Is(err, verify.ErrRefused) {
		t.Errorf("after a measurement: %v", err)
	}
}

// openssl verifies a document's signature, and sees that of a changed one fail.
func openssl(t *testing.T, text, certificate []byte) {
	t.Helper()
	// An array of four: a byte string {1: -7}, an empty map, a byte string with its size in
	// two bytes, and one of 64 bytes with its size in one.
	if !bytes.HasPrefix(text, []byte{0x84, 0x43, 0xa1, 0x01, 0x26, 0xa0, 0x59}) {
		t.Fatalf("it begins with %x", text[:7])
	}
	end := 9 + int(binary.BigEndian.Uint16(text[7:]))
	payload, signature := text[6:end], text[end+2:]
	if !bytes.Equal(text[end:end+2], []byte{0x58, 64}) || len(signature) != 64 {
		t.Fatalf("it ends with %x", text[end:])
	}
	// RFC 9052, 4.4: context, body_protected, external_aad, payload.
	signed := append([]byte{0x84, 0x6a}, "Signature1"...)
	signed = append(append(signed, 0x43, 0xa1, 0x01, 0x26, 0x40), payload...)
	folder := t.TempDir()
	write := func(name string, b []byte) string {
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c := must(x509.ParseCertificate(certificate))(t)
	public := write("ak.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: must(x509.MarshalPKIXPublicKey(c.PublicKey))(t)}))
	der := write("signature", must(asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])}))(t))
	verifies := func(file string) bool {
		out, err := exec.CommandContext(t.Context(), "openssl", "dgst", "-sha256", "-verify", public, "-signature", der, file).CombinedOutput()
		t.Logf("%x: %s", sha256.Sum256(must(os.ReadFile(file))(t)), out)
		return err == nil
	}
	if !verifies(write("signed", signed)) {
		t.Error("OpenSSL refuses the signature")
	}
	signed[len(signed)-1] ^= 1
	if verifies(write("changed", signed)) {
		t.Error("OpenSSL accepts a signature over something else")
	}
}
