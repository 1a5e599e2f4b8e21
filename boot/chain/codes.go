package chain

import (
	"errors"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/nv"
	"nitro/attest/seal"
	"nitro/attest/tis"
	"nitro/attest/tpm"
	"nitro/boot/code"
	"nitro/boot/store"
)

// A mapping is which code an error of another package has.
type mapping struct {
	err error
	is  code.Code
}

// tpmCodes are those of the TPM's errors. The first that fits counts: a lost TPM is lost
// whatever else the command wanted.
var tpmCodes = []mapping{
	{tpm.ErrLost, code.TPMSessionLost},
	{tpm.ErrNotFresh, code.TPMNotFresh},
	{tpm.ErrStartupType, code.TPMNotFresh},
	{tpm.ErrPCR, code.TPMNotFresh},
	{tpm.ErrName, code.TPMSaltKey},
	{nv.ErrDefinition, code.TPMFloorMissing},
	{nv.ErrValue, code.TPMFloorMissing},
	{tis.ErrBus, code.TPMAbsent},
	{tis.ErrTimeout, code.TPMUnanswered},
	{tis.ErrStatus, code.TPMUnanswered},
	{tis.ErrUnread, code.TPMUnanswered},
	{tpm2.TPMRCLockout, code.TPMLockedOut},
	{tpm2.TPMRCFailure, code.TPMFailed},
}

// sealCodes are those of sealing, behind the TPM's own.
var sealCodes = append(slices.Clone(tpmCodes), []mapping{
	{seal.ErrNotApproved, code.ApprovalMissing},
	{seal.ErrSignature, code.ApprovalMissing},
	{seal.ErrAuthority, code.SealedObjectMissing},
	{seal.ErrSet, code.SealedObjectMissing},
	{seal.ErrNotLoaded, code.SealedObjectMissing},
	{seal.ErrFloor, code.BelowFloor},
	{seal.ErrCapped, code.UnsealRefused},
	{seal.ErrRefused, code.UnsealRefused},
}...)

// storeCodes are those of the store, behind those of the TPM, which keeps its counter.
var storeCodes = append(slices.Clone(tpmCodes), []mapping{
	{store.ErrNotFormatted, code.StoreMissing},
	{store.ErrKey, code.StoreKey},
	{store.ErrVersion, code.StoreTooNew},
	{store.ErrCounter, code.StoreCounter},
	{store.ErrDamaged, code.StoreDamaged},
	{store.ErrRolledBack, code.StoreRolledBack},
	{store.ErrWorn, code.StoreWorn},
	{store.ErrFull, code.StoreFull},
	{store.ErrUnreadable, code.StoreUnreadable},
}...)

// coded gives an error the code that it has among some, or else another one. An error
// that has a code keeps it.
func coded(err error, codes []mapping, otherwise code.Code) error {
	if err == nil || code.Of(err) != code.None {
		return err
	}
	for _, m := range codes {
		if errors.Is(err, m.err) {
			return &code.Error{Code: m.is, Err: err}
		}
	}
	return &code.Error{Code: otherwise, Err: err}
}

func tpmCoded(err error) error { return coded(err, tpmCodes, code.TPMUnanswered) }
