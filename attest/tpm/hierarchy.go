package tpm

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// AuthsSet says which hierarchies have an authorisation (TPMA_PERMANENT, part 2, 8.6).
type AuthsSet struct {
	Owner, Endorsement, Lockout bool
	LockedOut                   bool // the TPM is in lockout after failed authorisations
}

// AuthsSet asks the TPM which hierarchies have an authorisation.
func (t *TPM) AuthsSet() (AuthsSet, error) {
	v, err := t.Property(tpm2.TPMPTPermanent)
	return AuthsSet{Owner: v&1 != 0, Endorsement: v&2 != 0, Lockout: v&4 != 0, LockedOut: v&(1<<9) != 0}, err
}

// SetAuth changes a hierarchy's authorisation; it is encrypted on the bus. Owner and
// endorsement have random ones, and lockout the owner's: with an empty one, whoever
// reaches the bus may define and remove what he likes, or clear the TPM.
func (t *TPM) SetAuth(s *Session, h tpm2.TPMHandle, old, auth []byte) error {
	_, err := tpm2.HierarchyChangeAuth{
		AuthHandle: Hierarchy(h, old).In(s.With(old).In().Becomes(auth)),
		NewAuth:    tpm2.TPM2BAuth{Buffer: auth},
	}.Execute(t)
	if err != nil {
		return failed(fmt.Sprintf("TPM2_HierarchyChangeAuth %#x", uint32(h)), err)
	}
	return nil
}

// ForgetPlatform gives the platform hierarchy a random authorisation that nobody keeps.
// The bootloader does so before it hands over, in every boot that finds an attestation
// key to bind its session to (the indices, which need the empty one, are made before that
// key), and provisioning at its end: with the empty one that a reset leaves, anyone may
// TPM2_Clear the TPM. (Who resets the TPM alone gets the empty one back. What he can
// clear then is the owner's hierarchy, with all that is sealed in it: he destroys, and
// learns nothing. The indices cannot be removed even so: see package nv.)
func (t *TPM) ForgetPlatform(s *Session) error {
	auth := random(AuthSize)
	defer clear(auth)
	return t.SetAuth(s, tpm2.TPMRHPlatform, nil, auth)
}
