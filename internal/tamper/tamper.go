// Package tamper is the campaign against the boot chain: a table of what an attacker, or an
// accident, does to a provisioned board, and of what has to come of it. The regions are
// those of docs/medium.md, docs/attestation.md and the hand-over; in each something is
// flipped, truncated, swapped, replayed, or another's. One table is for the native rig
// (package chained), which runs all cases, and for the emulated board, which runs those
// that are done with the power off and marked so.
//
// # What has to be so in every case
//
//   - Nothing runs but a controller that was signed and is not below the floor, whole.
//   - The store does not open in a boot that is not as it should be. If it opens, it has what
//     was last committed, or says of a record that it is damaged.
//   - In quarantine the code is the documented one, the secrets are zero, the store is
//     closed, and nothing unseals any more in that boot, not even for who has the SoC's
//     secret.
//   - A code of the latched class is still there when the attack is over and all is as it
//     was, until the owner's ticket; any other one is gone then.
package tamper

import (
	"slices"

	"nitro/boot/code"
	"nitro/internal/chained"
)

// A Case is one attack.
type Case struct {
	Region, Name string
	// Do is done to card and TPM, with the power off.
	Do func(*Target)
	// Live puts somebody onto the wires, or makes the board another one. Such cases run
	// natively only.
	Live func(*chained.Lived)
	Want
	// Board: it runs on the emulated board too.
	Board bool
}

// A Want is what has to come of a case.
type Want struct {
	// Code is that of the first boot; None if the board is in service.
	Code code.Code
	// Rests: the bootloader shows the code, and starts no controller.
	Rests bool
	// Version is that of the controller which is in service in the end, when the board has
	// restarted by itself as often as it does; "" if none is.
	Version string
	// Forgotten: the code is of the latched class, and the TPM is not there to keep it.
	Forgotten bool
	// Unprovisioned: the board boots as one that never was provisioned.
	Unprovisioned bool
	// Ruined: the TPM is not what it was any more, and the board wants to be provisioned.
	Ruined bool
	// Damaged: records of the store may be damaged, and say so.
	Damaged bool
}

// Releases in the slots of a chained.Lived.
const (
	slotA = "1.0"
	slotB = "1.1"
)

// What comes of cases.
func inService(version string) Want { return Want{Version: version} }
func rests(c code.Code) Want        { return Want{Code: c, Rests: true} }
func quarantine(c code.Code) Want   { return Want{Code: c} }

// unprovisioned: a card without a pin is that of a board whose provisioning has not come to
// its end, and that is all that it offers. No secret is asked for.
var unprovisioned = Want{Unprovisioned: true}

// otherSlot: a transient quarantine, and when the slot's attempts are used up the other one.
func otherSlot(c code.Code) Want { return Want{Code: c, Version: slotB} }

// Cases is the table.
func Cases() []Case {
	return slices.Concat(bootArea(), configurations(), journals(), slots(), knownGood(), boardParts(), sealedObjects(),
		tickets(), stores(), chips(), buses(), handovers(), evilCards(), unreadable())
}

// on marks cases for the emulated board.
func on(c Case) Case { c.Board = true; return c }

// A spot is a byte of a region, by what it belongs to.
type spot struct {
	name string
	at   int64
	want Want
}
