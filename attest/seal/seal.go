// Package seal keeps the secrets of the store's key in the TPM, and gives them out to
// firmware that two authorities have approved (docs/attestation.md, "Sealing").
//
// There are two secrets, each a sealed object with a policy of its own:
//
//	PolicyPCR(0, 2, 7) ; PolicyNV(floor <= security version) ; PolicyAuthorize(authority, policyRef)
//	; PolicyPCR(1) ; PolicyAuthValue
//
// What each part answers:
//   - Two secrets, two authorities (ECDSA P-384 and RSASSA-3072, in separate custody):
//     one stolen key approves nothing. Two PolicyAuthorize in one policy would not do:
//     each replaces the digest so far, so that only the last one counts.
//   - PolicyPCR 0, 2, 7 and PolicyNV before PolicyAuthorize: what runs must be what the
//     authorities have signed, and not below the rollback floor. They change with each
//     release without sealing anew.
//   - PolicyPCR 1 after it: the secrets open on this board in its life cycle alone, not
//     on a board with other strength of the SoC's secret.
//   - PolicyAuthValue: the good measurements replayed into a TPM that was reset are not
//     enough; the authorisation comes from the SoC's secret.
//   - The cap, an event extended into PCR 7 right after unsealing: firmware that is taken
//     over later in this boot cannot unseal again.
//   - The canary, a third object whose approved PCR 7 has the cap in it, so that the
//     running board can prove that its next boot will unseal. Its policyRef is its own,
//     or its approval would open the secrets behind the cap.
//
// All this stands on classical cryptography alone: TPMs verify neither Ed25519 nor
// ML-DSA.
package seal

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/eventlog"
	"nitro/attest/nv"
	"nitro/attest/tpm"
)

// Errors.
var (
	// ErrNotApproved: no approval is for what runs.
	ErrNotApproved = errors.New("no approval is for these measurements: install the release's approvals")
	// ErrFloor: what runs is older than the TPM allows.
	ErrFloor = errors.New("security version is below the TPM's rollback floor: install a newer release")
	// ErrAuthority: the object was sealed for another authority, or another board state.
	ErrAuthority = errors.New("no sealed object is for a known authority and this PCR 1: seal again")
	// ErrSignature: an approval's signature is not the authority's.
	ErrSignature = errors.New("the approval's signature does not verify")
	// ErrNotLoaded: the TPM does not load a sealed object: it is not its own, or changed.
	ErrNotLoaded = errors.New("the TPM does not load the sealed object: put the board's own card and TPM together, or provision again")
	// ErrRefused: the TPM does not give the secret out.
	ErrRefused = errors.New("the TPM refuses")
	// ErrCapped: the secrets were unsealed in this boot already.
	ErrCapped = errors.New("PCR 7 is capped: this boot has unsealed already: restart the board")
	// ErrUncapped: the cap is not known to be in PCR 7.
	ErrUncapped = errors.New("PCR 7 could not be capped")
)

// A Kind is one of the sealed objects and of its approvals. The numbers are the medium's.
type Kind uint32

// Kinds.
const (
	P384    Kind = 1 // first secret: authority ECDSA P-384 with SHA-384
	RSA3072 Kind = 2 // second secret: authority RSASSA-PKCS1-v1_5, 3,072 bits, with SHA-256
	Canary  Kind = 3 // opens behind the cap, under the P-384 authority
)

var kindNames = map[Kind]string{P384: "p384", RSA3072: "rsa3072", Canary: "canary"}

func (k Kind) String() string {
	if n, ok := kindNames[k]; ok {
		return n
	}
	return fmt.Sprintf("kind %d", uint32(k))
}

// Ref is the kind's policyRef: what is signed for one kind is for no other.
func (k Kind) Ref() tpm.Digest { return sha256.Sum256([]byte("nitro seal v1 " + k.String())) }

// SecretSize is that of a secret and of the store's key, in bytes.
const SecretSize = 32

// pcrs of the two selections.
var (
	approvedPCRs = []uint{0, 2, 7}
	boardPCRs    = []uint{1}
)

// capPCR is the PCR that the cap goes into.
const capPCR = 7

// capDigest is what the cap extends into PCR 7.
var capDigest = eventlog.Cap().Digest()

// A Release is what a boot of a release measures, and its security version.
type Release struct {
	PCR0, PCR2, PCR7 tpm.Digest // PCR 7 before the cap
	SecurityVersion  uint32
}

// Policy is the digest that an authority approves. It is the same on every board, so it
// can be computed and signed where the release is built.
func (r Release) Policy(k Kind) (tpm.Digest, error) {
	pcr7 := r.PCR7
	if k == Canary {
		pcr7 = tpm.Extended(pcr7, capDigest)
	}
	floor, err := floorOperand(r.SecurityVersion)
	if err != nil {
		return tpm.Digest{}, err
	}
	name, err := nv.Floor.PublicName()
	if err != nil {
		return tpm.Digest{}, err
	}
	return policy(
		pcrPolicy(approvedPCRs, r.PCR0, r.PCR2, pcr7),
		tpm2.PolicyNV{NVIndex: tpm2.NamedHandle{Handle: nv.Floor.Handle, Name: name}, OperandB: floor, Operation: tpm2.TPMEOUnsignedLE},
	)
}

// floorOperand is the highest floor that a security version satisfies.
func floorOperand(securityVersion uint32) (tpm2.TPM2BOperand, error) {
	if securityVersion > nv.MaxSecurityVersion {
		return tpm2.TPM2BOperand{}, fmt.Errorf("seal: security version %d: the highest is %d: %w", securityVersion, nv.MaxSecurityVersion, ErrFloor)
	}
	return tpm2.TPM2BOperand{Buffer: binary.BigEndian.AppendUint64(nil, nv.FloorBits(securityVersion))}, nil
}

func pcrPolicy(pcrs []uint, values ...tpm.Digest) tpm2.PolicyPCR {
	h := sha256.New()
	for _, v := range values {
		h.Write(v[:])
	}
	return tpm2.PolicyPCR{PcrDigest: tpm2.TPM2BDigest{Buffer: h.Sum(nil)}, Pcrs: tpm.PCRSelection(pcrs...)}
}

// policy computes the digest that a policy session has after some commands.
func policy(commands ...tpm2.PolicyCommand) (tpm.Digest, error) {
	c, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return tpm.Digest{}, err
	}
	for _, command := range commands {
		if err := command.Update(c); err != nil {
			return tpm.Digest{}, fmt.Errorf("seal: policy: %w", err)
		}
	}
	return tpm.Digest(c.Hash().Digest), nil
}

// An Approval is an authority's signature for one kind and release.
type Approval struct {
	Kind            Kind
	SecurityVersion uint32
	Policy          tpm.Digest
	Ref             tpm.Digest
	Signature       []byte // TPMT_SIGNATURE
}

// signed is the hash that an authority signs: the key's own name algorithm over the
// policy and its reference (part 3, 23.16.1, aHash).
func signed(h crypto.Hash, policy, ref tpm.Digest) []byte {
	d := h.New()
	d.Write(policy[:])
	d.Write(ref[:])
	return d.Sum(nil)
}

// Approve signs for a release, where the authority's key is; no TPM takes part.
func Approve(authority crypto.Signer, k Kind, r Release) (Approval, error) {
	a := Approval{Kind: k, SecurityVersion: r.SecurityVersion, Ref: k.Ref()}
	key, err := newAuthority(authority.Public(), k)
	if err != nil {
		return a, err
	}
	if a.Policy, err = r.Policy(k); err != nil {
		return a, err
	}
	raw, err := authority.Sign(rand.Reader, signed(key.hash, a.Policy, a.Ref), key.hash)
	if err != nil {
		return a, fmt.Errorf("seal: approval %v: %w", k, err)
	}
	a.Signature, err = key.marshal(raw)
	return a, err
}

// VerifyApproval verifies, without a TPM, that an approval is this authority's and is for
// this release: before an update activates, its next boot must be certain to unseal.
func VerifyApproval(authority crypto.PublicKey, a Approval, r Release) error {
	key, err := newAuthority(authority, a.Kind)
	if err != nil {
		return err
	}
	want, err := r.Policy(a.Kind)
	if err != nil {
		return err
	}
	if want != a.Policy || a.Ref != a.Kind.Ref() || a.SecurityVersion != r.SecurityVersion {
		return fmt.Errorf("seal: approval %v is for policy %x, security version %d; the release has %x, %d: %w",
			a.Kind, a.Policy, a.SecurityVersion, want, r.SecurityVersion, ErrNotApproved)
	}
	if !key.verify(signed(key.hash, a.Policy, a.Ref), a.Signature) {
		return fmt.Errorf("seal: approval %v: %w", a.Kind, ErrSignature)
	}
	return nil
}

// An authority is a key that approves, as the TPM has it.
type authority struct {
	key    crypto.PublicKey
	hash   crypto.Hash
	public tpm2.TPMTPublic
	name   tpm2.TPM2BName
}

func newAuthority(key crypto.PublicKey, k Kind) (*authority, error) {
	a := &authority{key: key}
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil || key.Curve != elliptic.P384() || k == RSA3072 {
			return nil, fmt.Errorf("seal: an ECDSA key of %s does not approve %v: %w", key.Params().Name, k, ErrAuthority)
		}
		a.hash, a.public = crypto.SHA384, ecPublic(point[1:])
	case *rsa.PublicKey:
		if key.N.BitLen() != 3072 || key.E != 65537 || k != RSA3072 {
			return nil, fmt.Errorf("seal: an RSA key of %d bits, exponent %d, does not approve %v: %w", key.N.BitLen(), key.E, k, ErrAuthority)
		}
		a.hash, a.public = crypto.SHA256, rsaPublic(key.N.Bytes())
	default:
		return nil, fmt.Errorf("seal: a %T does not approve %v: %w", key, k, ErrAuthority)
	}
	name, err := tpm2.ObjectName(&a.public)
	if err != nil {
		return nil, fmt.Errorf("seal: authority: %w", err)
	}
	a.name = *name
	return a, nil
}

// verifies are the attributes of a key that the TPM only verifies with.
var verifies = tpm2.TPMAObject{UserWithAuth: true, SignEncrypt: true}

func ecPublic(point []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA384, ObjectAttributes: verifies,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Scheme: tpm2.TPMTECCScheme{
				Scheme:  tpm2.TPMAlgECDSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA384}),
			},
			CurveID: tpm2.TPMECCNistP384,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[:len(point)/2]}, Y: tpm2.TPM2BECCParameter{Buffer: point[len(point)/2:]},
		}),
	}
}

func rsaPublic(n []byte) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: verifies,
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{
			Scheme: tpm2.TPMTRSAScheme{
				Scheme:  tpm2.TPMAlgRSASSA,
				Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
			KeyBits: 3072,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: n}),
	}
}

// marshal makes a TPMT_SIGNATURE of what the crypto packages give.
func (a *authority) marshal(raw []byte) ([]byte, error) {
	if _, ok := a.key.(*rsa.PublicKey); ok {
		return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgRSASSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgRSASSA,
			&tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA256, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: raw}})}), nil
	}
	var sig struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(raw, &sig); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("seal: ECDSA signature of %d bytes: %w", len(raw), errors.Join(ErrSignature, err))
	}
	return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash:       tpm2.TPMAlgSHA384,
		SignatureR: tpm2.TPM2BECCParameter{Buffer: sig.R.Bytes()}, SignatureS: tpm2.TPM2BECCParameter{Buffer: sig.S.Bytes()},
	})}), nil
}

// verify verifies a TPMT_SIGNATURE of a digest.
func (a *authority) verify(digest, signature []byte) bool {
	sig, err := tpm2.Unmarshal[tpm2.TPMTSignature](signature)
	if err != nil {
		return false
	}
	switch key := a.key.(type) {
	case *rsa.PublicKey:
		s, err := sig.Signature.RSASSA()
		return err == nil && s.Hash == tpm2.TPMAlgSHA256 && rsa.VerifyPKCS1v15(key, a.hash, digest, s.Sig.Buffer) == nil
	case *ecdsa.PublicKey:
		s, err := sig.Signature.ECDSA()
		return err == nil && s.Hash == tpm2.TPMAlgSHA384 &&
			ecdsa.Verify(key, digest, new(big.Int).SetBytes(s.SignatureR.Buffer), new(big.Int).SetBytes(s.SignatureS.Buffer))
	}
	return false
}

// objectPolicy is the policy of a sealed object: fixed for the board.
func (a *authority) objectPolicy(k Kind, pcr1 tpm.Digest) (tpm.Digest, error) {
	ref := k.Ref()
	return policy(
		tpm2.PolicyAuthorize{KeySign: a.name, PolicyRef: tpm2.TPM2BDigest{Buffer: ref[:]}},
		pcrPolicy(boardPCRs, pcr1),
		tpm2.PolicyAuthValue{},
	)
}

// StoreKey makes the store's key: HKDF-SHA-256 of both secrets, the derived secret of the
// SoC, and what the removable security key gives, nil where the board has none. Each but
// the last has 32 bytes, so nothing can move from one to the next. The caller zeroes all.
func StoreKey(first, second, soc, removable []byte) ([]byte, error) {
	if len(first) != SecretSize || len(second) != SecretSize || len(soc) != SecretSize {
		return nil, fmt.Errorf("seal: store key: secrets of %d, %d and %d bytes, each has %d", len(first), len(second), len(soc), SecretSize)
	}
	all := make([]byte, 0, 3*SecretSize+len(removable))
	for _, s := range [][]byte{first, second, soc, removable} {
		all = append(all, s...)
	}
	defer clear(all)
	key, err := hkdf.Key(sha256.New, all, nil, "nitro store key v1", SecretSize)
	if err != nil {
		return nil, fmt.Errorf("seal: store key: %w", err)
	}
	return key, nil
}

// same compares digests.
func same(a []byte, b tpm.Digest) bool { return subtle.ConstantTimeCompare(a, b[:]) == 1 }
