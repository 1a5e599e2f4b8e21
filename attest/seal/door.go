package seal

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/nv"
	"nitro/attest/tpm"
)

// An Object is a sealed object as the medium keeps it. The TPM keeps it secret and whole.
type Object struct {
	Kind    Kind
	Public  []byte // TPMT_PUBLIC
	Private []byte // what is in the TPM2B_PRIVATE
}

// Authorities are the keys that approve, each list in order of preference: a rotation
// has the new one before the old one for a while.
type Authorities struct{ P384, RSA3072 []crypto.PublicKey }

func (a Authorities) of(k Kind) []crypto.PublicKey {
	if k == RSA3072 {
		return a.RSA3072
	}
	return a.P384
}

// canarySecret is what the canary holds. It is no secret.
var canarySecret = Canary.Ref()

// A Door is the way to the secrets in one boot.
type Door struct {
	T   *tpm.TPM
	S   *tpm.Session // HMAC session
	AK  tpm.Entity   // what the policy session is bound to
	NV  *nv.NV
	SoC []byte // derived secret
}

func (d *Door) auth(k Kind) ([]byte, error) { return tpm.AuthValue(d.SoC, "sealed "+k.String()) }

// Seal seals a secret under an authority, for this board's present PCR 1.
func (d *Door) Seal(k Kind, key crypto.PublicKey, secret [SecretSize]byte) (Object, error) {
	defer clear(secret[:])
	a, err := newAuthority(key, k)
	if err != nil {
		return Object{}, err
	}
	pcr1, err := d.T.ReadPCRs(boardPCRs...)
	if err != nil {
		return Object{}, err
	}
	objectPolicy, err := a.objectPolicy(k, pcr1[0])
	if err != nil {
		return Object{}, err
	}
	auth, err := d.auth(k)
	if err != nil {
		return Object{}, err
	}
	defer clear(auth)
	r, err := tpm2.Create{
		ParentHandle: tpm2.AuthHandle{Handle: tpm.StorageHandle, Name: d.T.StorageName(), Auth: d.S.With(nil).In()},
		InSensitive: tpm2.TPM2BSensitiveCreate{Sensitive: &tpm2.TPMSSensitiveCreate{
			UserAuth: tpm2.TPM2BAuth{Buffer: auth},
			Data:     tpm2.NewTPMUSensitiveCreate(&tpm2.TPM2BSensitiveData{Buffer: secret[:]}),
		}},
		InPublic: tpm2.New2B(sealedTemplate(objectPolicy)),
	}.Execute(d.T)
	if err != nil {
		return Object{}, fmt.Errorf("seal: %v: TPM2_Create: %w", k, err)
	}
	return Object{k, r.OutPublic.Bytes(), r.OutPrivate.Buffer}, nil
}

// sealedTemplate has no UserWithAuth: the policy is the only way in.
func sealedTemplate(policy tpm.Digest) tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, AdminWithPolicy: true, NoDA: true},
		AuthPolicy:       tpm2.TPM2BDigest{Buffer: policy[:]},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{
			Scheme: tpm2.TPMTKeyedHashScheme{Scheme: tpm2.TPMAlgNull},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{}),
	}
}

// SealNew makes new secrets and seals them and the canary, each for every authority in
// its list: so a rotation can begin before the next release is approved by the new key.
// The caller zeroes the secrets.
func (d *Door) SealNew(keys Authorities) (objects []Object, first, second [SecretSize]byte, err error) {
	rand.Read(first[:])
	rand.Read(second[:])
	for _, s := range []struct {
		kind   Kind
		secret [SecretSize]byte
	}{{P384, first}, {RSA3072, second}, {Canary, canarySecret}} {
		for _, key := range keys.of(s.kind) {
			o, err := d.Seal(s.kind, key, s.secret)
			if err != nil {
				return nil, first, second, err
			}
			objects = append(objects, o)
		}
	}
	return objects, first, second, nil
}

// Unseal gives the two secrets out, to firmware that both authorities have approved, and
// caps PCR 7 whatever comes of it, so that nothing can try again in this boot. ErrUncapped
// tells that it could not. The caller zeroes them.
func (d *Door) Unseal(set *Set, keys Authorities) (first, second []byte, err error) {
	first, second, err = d.unsealBoth(set, keys)
	e := d.Cap()
	if e != nil {
		e = fmt.Errorf("%w: %w", ErrUncapped, e)
	}
	if e != nil || err != nil {
		clear(first)
		clear(second)
		return nil, nil, errors.Join(err, e)
	}
	return first, second, nil
}

func (d *Door) unsealBoth(set *Set, keys Authorities) (first, second []byte, err error) {
	s, err := d.T.NewPolicySession(d.AK)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if first, err = d.unseal(s, set, keys, P384); err != nil {
		return nil, nil, err
	}
	if second, err = d.unseal(s, set, keys, RSA3072); err != nil {
		clear(first)
		return nil, nil, err
	}
	return first, second, nil
}

// Cap extends the cap into PCR 7.
func (d *Door) Cap() error { return d.T.Extend(d.S, capPCR, capDigest) }

// A way is what may unseal one object: its authority, and an approval of what runs.
// Nothing says whose approval it is; the signature shows it.
type way struct {
	object    Object
	public    tpm2.TPM2BPublic
	authority *authority
	approval  Approval
}

// ways finds the ways to a kind's secret for measurements, those of the authority that
// comes first, first.
func (set *Set) ways(k Kind, keys Authorities, r Release, pcr1 tpm.Digest) (all []way, err error) {
	objects, err := set.objects(k, keys, pcr1)
	if err != nil {
		return nil, err
	}
	for _, w := range objects {
		for _, a := range set.Approvals {
			if a.Kind != k || a.Ref != k.Ref() {
				continue
			}
			r.SecurityVersion = a.SecurityVersion
			want, err := r.Policy(k)
			if err != nil {
				return nil, err
			}
			if want == a.Policy {
				w.approval = a
				all = append(all, w)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("seal: %v: PCR 0 %x, PCR 2 %x, PCR 7 %x: %w", k, r.PCR0, r.PCR2, r.PCR7, ErrNotApproved)
	}
	return all, nil
}

// objects finds a kind's objects that are sealed for one of the authorities, in their
// order.
func (set *Set) objects(k Kind, keys Authorities, pcr1 tpm.Digest) (all []way, err error) {
	for _, key := range keys.of(k) {
		a, err := newAuthority(key, k)
		if err != nil {
			return nil, err
		}
		want, err := a.objectPolicy(k, pcr1)
		if err != nil {
			return nil, err
		}
		for _, o := range set.Objects {
			if o.Kind != k {
				continue
			}
			public, err := tpm2.Unmarshal[tpm2.TPMTPublic](o.Public)
			if err == nil && same(public.AuthPolicy.Buffer, want) {
				all = append(all, way{object: o, public: tpm2.New2B(*public), authority: a})
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("seal: %v: PCR 1 %x, %d authorities: %w", k, pcr1, len(keys.of(k)), ErrAuthority)
	}
	return all, nil
}

// A permit is a way whose approval the TPM has verified.
type permit struct {
	way
	ticket tpm2.TPMTTKVerified
}

// permit has the TPM verify approvals until one is good.
func (d *Door) permit(ways []way) (p permit, err error) {
	var bad []error
	for _, w := range ways {
		ticket, err := d.ticket(&w)
		if err == nil {
			return permit{w, ticket}, nil
		}
		if !errors.Is(err, ErrSignature) {
			return p, err
		}
		bad = append(bad, err)
	}
	return p, errors.Join(bad...)
}

// measured is what this boot has measured, as the TPM says it. Nobody vouches for it
// here; it only chooses what is tried.
func (d *Door) measured() (r Release, pcr1 tpm.Digest, err error) {
	v, err := d.T.ReadPCRs(0, 1, 2, 7)
	if err != nil {
		return r, pcr1, err
	}
	return Release{PCR0: v[0], PCR2: v[2], PCR7: v[3]}, v[1], nil
}

func (d *Door) unseal(s *tpm.Session, set *Set, keys Authorities, k Kind) ([]byte, error) {
	r, pcr1, err := d.measured()
	if err != nil {
		return nil, err
	}
	ways, err := set.ways(k, keys, r, pcr1)
	if err != nil {
		return nil, err
	}
	return d.open(s, ways)
}

// open satisfies a policy and unseals.
func (d *Door) open(s *tpm.Session, ways []way) (secret []byte, err error) {
	k := ways[0].object.Kind
	w, err := d.permit(ways)
	if err == nil {
		err = d.satisfy(s, &w)
	}
	if err != nil {
		return nil, fmt.Errorf("seal: %v: %w", k, err)
	}
	o, err := d.T.Load(d.S, tpm2.TPM2BPrivate{Buffer: w.object.Private}, w.public)
	if err != nil {
		return nil, fmt.Errorf("seal: %v: %w", k, errors.Join(ErrNotLoaded, err))
	}
	defer func() { err = errors.Join(err, d.T.FlushHandle(o.Handle)) }()
	auth, err := d.auth(k)
	if err != nil {
		return nil, err
	}
	defer clear(auth)
	r, err := tpm2.Unseal{ItemHandle: o.In(s.With(auth).Out())}.Execute(d.T)
	if err != nil {
		return nil, fmt.Errorf("seal: %v: TPM2_Unseal: %w", k, errors.Join(ErrRefused, err))
	}
	if len(r.OutData.Buffer) != SecretSize {
		return nil, fmt.Errorf("seal: %v: secret of %d bytes: %w", k, len(r.OutData.Buffer), tpm.ErrAnswer)
	}
	return r.OutData.Buffer, nil
}

// satisfy executes the policy's commands.
func (d *Door) satisfy(s *tpm.Session, w *permit) error {
	if _, err := (tpm2.PolicyPCR{PolicySession: s.Handle(), Pcrs: tpm.PCRSelection(approvedPCRs...)}).Execute(d.T); err != nil {
		return fmt.Errorf("TPM2_PolicyPCR: %w", errors.Join(ErrRefused, err))
	}
	if err := d.policyFloor(s, w.approval.SecurityVersion); err != nil {
		return err
	}
	_, err := tpm2.PolicyAuthorize{
		PolicySession: s.Handle(), ApprovedPolicy: tpm2.TPM2BDigest{Buffer: w.approval.Policy[:]},
		PolicyRef: tpm2.TPM2BDigest{Buffer: w.approval.Ref[:]}, KeySign: w.authority.name, CheckTicket: w.ticket,
	}.Execute(d.T)
	if err != nil {
		return fmt.Errorf("TPM2_PolicyAuthorize: %w", errors.Join(ErrNotApproved, err))
	}
	if _, err := (tpm2.PolicyPCR{PolicySession: s.Handle(), Pcrs: tpm.PCRSelection(boardPCRs...)}).Execute(d.T); err != nil {
		return fmt.Errorf("TPM2_PolicyPCR of PCR 1: %w", errors.Join(ErrRefused, err))
	}
	if _, err := (tpm2.PolicyAuthValue{PolicySession: s.Handle()}).Execute(d.T); err != nil {
		return fmt.Errorf("TPM2_PolicyAuthValue: %w", errors.Join(ErrRefused, err))
	}
	return nil
}

// ticket has the TPM verify an approval's signature.
func (d *Door) ticket(w *way) (ticket tpm2.TPMTTKVerified, err error) {
	sig, err := tpm2.Unmarshal[tpm2.TPMTSignature](w.approval.Signature)
	if err != nil {
		return ticket, fmt.Errorf("signature of the approval: %w", errors.Join(ErrSignature, err))
	}
	key, err := d.T.LoadPublic(&w.authority.public)
	if err != nil {
		return ticket, err
	}
	defer func() { err = errors.Join(err, d.T.FlushHandle(key.Handle)) }()
	r, err := tpm2.VerifySignature{
		KeyHandle: key.Handle, Digest: tpm2.TPM2BDigest{Buffer: signed(w.authority.hash, w.approval.Policy, w.approval.Ref)}, Signature: *sig,
	}.Execute(d.T)
	if err != nil {
		return ticket, fmt.Errorf("TPM2_VerifySignature: %w", errors.Join(ErrSignature, err))
	}
	return r.Validation, nil
}

// policyFloor asserts that the rollback floor is not above a security version.
func (d *Door) policyFloor(s *tpm.Session, securityVersion uint32) error {
	operand, err := floorOperand(securityVersion)
	if err != nil {
		return err
	}
	floor, err := d.NV.Entity(nv.Floor)
	if err != nil {
		return err
	}
	defer clear(floor.Auth)
	_, err = tpm2.PolicyNV{
		AuthHandle: floor.In(d.S.With(floor.Auth)), NVIndex: floor.Named(), PolicySession: s.Handle(),
		OperandB: operand, Operation: tpm2.TPMEOUnsignedLE,
	}.Execute(d.T)
	if errors.Is(err, tpm2.TPMRCPolicy) {
		return fmt.Errorf("security version %d, TPM2_PolicyNV: %w", securityVersion, errors.Join(ErrFloor, err))
	}
	if err != nil {
		return fmt.Errorf("TPM2_PolicyNV: %w", errors.Join(ErrRefused, err))
	}
	return nil
}

// Check proves, in a boot that has unsealed and capped, that its like will unseal next
// time. uncapped is PCR 7 as it was before the cap, which the event log has. It opens the
// canary, whose policy differs from the secrets' in the cap alone; has the TPM load both
// secrets' objects; and has it verify both approvals.
func (d *Door) Check(set *Set, keys Authorities, uncapped tpm.Digest) (err error) {
	r, pcr1, err := d.measured()
	if err != nil {
		return err
	}
	if tpm.Extended(uncapped, capDigest) != r.PCR7 {
		return fmt.Errorf("seal: check: PCR 7 is %x, not %x and the cap: %w", r.PCR7, uncapped, ErrCapped)
	}
	r.PCR7 = uncapped
	for _, k := range []Kind{P384, RSA3072} {
		ways, err := set.ways(k, keys, r, pcr1)
		if err != nil {
			return err
		}
		if err := d.dryRun(ways); err != nil {
			return fmt.Errorf("seal: check: %v: %w", k, err)
		}
	}
	canary, err := set.ways(Canary, keys, r, pcr1)
	if err != nil {
		return err
	}
	s, err := d.T.NewPolicySession(d.AK)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	got, err := d.open(s, canary)
	if err != nil {
		return err
	}
	if subtle.ConstantTimeCompare(got, canarySecret[:]) != 1 {
		return fmt.Errorf("seal: check: the canary holds something else: %w", ErrRefused)
	}
	return nil
}

// dryRun does for a secret what can be done behind the cap.
func (d *Door) dryRun(ways []way) error {
	w, err := d.permit(ways)
	if err != nil {
		return err
	}
	o, err := d.T.Load(d.S, tpm2.TPM2BPrivate{Buffer: w.object.Private}, w.public)
	if err != nil {
		return errors.Join(ErrRefused, err)
	}
	return d.T.FlushHandle(o.Handle)
}

// Covers verifies, without the TPM, that a release which is to be activated will unseal:
// for each kind there is an object of a known authority and its approval of what the
// release will measure. pcr1 is the board's.
func (set *Set) Covers(keys Authorities, r Release, pcr1 tpm.Digest) error {
	for _, k := range []Kind{P384, RSA3072, Canary} {
		ways, err := set.ways(k, keys, r, pcr1)
		if err != nil {
			return err
		}
		var bad []error
		for _, w := range ways {
			if err = VerifyApproval(w.authority.key, w.approval, r); err == nil {
				break
			}
			bad = append(bad, err)
		}
		if err != nil {
			return errors.Join(bad...)
		}
	}
	return nil
}

// With gives the set that takes this one's place when a release comes: the same objects,
// and of this set's approvals and of those that came the ones that a known authority has
// signed for one of some releases. What nobody has signed, or is for another board's
// measurements, does not take up room.
func (set *Set) With(came []Approval, keys Authorities, releases ...Release) *Set {
	next := &Set{Revision: set.Revision + 1, Objects: set.Objects}
	for _, r := range releases {
		for _, k := range []Kind{P384, RSA3072, Canary} {
			for _, key := range keys.of(k) {
				for _, a := range slices.Concat(set.Approvals, came) {
					if a.Kind == k && !next.has(a) && VerifyApproval(key, a, r) == nil {
						next.Approvals = append(next.Approvals, a)
						break // one of each authority
					}
				}
			}
		}
	}
	return next
}

// has tells whether an approval is there already.
func (set *Set) has(a Approval) bool {
	return slices.ContainsFunc(set.Approvals, func(b Approval) bool {
		return a.Kind == b.Kind && a.Policy == b.Policy && a.SecurityVersion == b.SecurityVersion && bytes.Equal(a.Signature, b.Signature)
	})
}
