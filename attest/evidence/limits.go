package evidence

import (
	"nitro/attest/eventlog"
	"nitro/attest/golden"
)

// What evidence does not prove. The words are part of the format.
const (
	limitHost   = "the host: no measurement of its firmware is in the log"
	limitMedium = "blocks of volumes can be replayed or exchanged by who holds the medium: XTS has no integrity"
	limitProbes = "memory and chips can be read and changed by who opens the board"

	limitOpen        = "the boot ROM did not verify the bootloader (life cycle open): who writes the medium chooses what measures first"
	limitNoSecret    = "the SoC's secret is a stand-in that everybody knows (emulation): who resets the TPM alone can forge the measurements"
	limitShared      = "the SoC's secret is the same on every chip: who resets the TPM alone can forge the measurements"
	limitDevelopment = "the board accepts development keys: whoever has them signs what runs"
	limitMutable     = "the host: what its firmware keeps in its flash (mutable regions) is not measured"
	limitChip        = "the host: a flash chip that is made to answer controller and host differently is not found by reading it"
	limitBMC         = "the host: no measurement of a BMC's firmware is in the log"
	limitAdopted     = "the host: this boot did not verify its firmware; an earlier boot of the board did, and left a ticket"

	limitConfigured = "no configuration was measured: who owns the board is not known"
)

// Limits says in words what a board with this log cannot prove: what is so on every board,
// and what follows from the log. A verifier computes it again, so that nobody on the way
// can leave any of it out.
func Limits(log *eventlog.Log) []string {
	words := append(hostLimits(log), limitMedium, limitProbes)
	configured := false
	for _, e := range log.Events() {
		switch e.Name() {
		case "anchors":
			if e.Value("development") == "1" {
				words = append(words, limitDevelopment)
			}
		case "board":
			if e.Value("life-cycle") != string(eventlog.Closed) {
				words = append(words, limitOpen)
			}
			switch eventlog.SoCSecret(e.Value("soc-secret")) {
			case eventlog.OwnSecret:
			case eventlog.SharedSecret:
				words = append(words, limitShared)
			default:
				words = append(words, limitNoSecret)
			}
		case "configuration":
			configured = true
		}
	}
	if !configured {
		words = append(words, limitConfigured)
	}
	return words
}

// hostLimits are those of the host, by its last cycle: before its firmware is measured in
// that, nothing is known of it.
func hostLimits(log *eventlog.Log) []string {
	c, err := golden.LastHostCycle(log)
	if err != nil || c == nil || c.Firmware == nil {
		return []string{limitHost}
	}
	words := []string{limitMutable, limitChip}
	if c.BMC == nil {
		words = append(words, limitBMC)
	}
	if c.Adopted {
		words = append(words, limitAdopted)
	}
	return words
}
