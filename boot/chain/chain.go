// Package chain is the boot chain of trust: what the bootloader does from the reset to
// the jump into the controller (Loader), and what the controller does from there until
// its store is open and its slot proven (Unlock, Running). The formats and decisions are
// those of the other packages of boot and attest; here they are put in order, once, for
// the firmware and for the tests that attack it.
//
// # The order, and why
//
// The bootloader reads the anchor block from the card, finds out that it is the bootloader
// which the release authority has signed, and measures both and the board before it
// believes anything else. Then it finds out whether the TPM is the one that the board was
// provisioned with (package pin), reads floor and epoch in an authenticated session,
// measures the configuration, and has decide.Step choose a slot. What it runs it has
// verified whole, and measured, before it jumps.
//
// The controller takes the hand-over, takes the TPM over in the same boot, and compares
// the event log with the TPM's PCRs and with the known-good set. Only if all agrees does
// it ask for the two secrets; the cap follows whatever happened, so no later code of this
// boot asks again. Everything that is wrong is an error with a code (package code), and
// Unlock's result is then what quarantine has to serve with.
//
// # A board that is not provisioned
//
// It has no pin on its card, whatever is in its TPM: provisioning may have been cut, and
// goes on only on a board that boots. It boots as any other, and the controller offers
// provisioning and nothing else. Floor and epoch are the TPM's if it has an attestation
// key. If it has none the floor is the bootloader's own security version: somebody who
// wipes the pin and makes the TPM look empty gets no secret unsealed, but what runs is
// handed the SoC's derived secret, and must not be an old image with a known hole.
package chain

import (
	"fmt"

	"github.com/google/go-tpm/tpm2/transport"

	"nitro/attest/eventlog"
	"nitro/boot/handover"
	"nitro/boot/medium"
)

// A Machine is the board as the chain sees it.
type Machine struct {
	Product string // what images are signed for: "imx6ul-evk"
	Card    medium.Device
	TPM     transport.TPM
}

// socSecret is the strength of the SoC's secret as events have it.
func socSecret(s handover.Strength) (eventlog.SoCSecret, error) {
	switch s {
	case handover.NoSecret:
		return eventlog.NoSecret, nil
	case handover.SharedSecret:
		return eventlog.SharedSecret, nil
	case handover.OwnSecret:
		return eventlog.OwnSecret, nil
	}
	return "", fmt.Errorf("chain: strength %d of the SoC's secret is not known", s)
}
