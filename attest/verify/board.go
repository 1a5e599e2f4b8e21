package verify

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
)

// events are those of a name.
func (v *verification) events(name string) (all []eventlog.Event) {
	for _, e := range v.log.Events() {
		if e.Name() == name {
			all = append(all, e)
		}
	}
	return all
}

// only is the one event of a name.
func (v *verification) only(name string) (eventlog.Event, error) {
	all := v.events(name)
	if len(all) != 1 {
		return eventlog.Event{}, differ(fmt.Sprintf("the log has not one event %q", name), 1, len(all))
	}
	return all[0], nil
}

// capped answers firmware that can still unseal the store's secrets, and hand them out,
// after it has been taken over: the cap must be the last event of its PCR.
func (v *verification) capped() (string, error) {
	last := ""
	for _, e := range v.log.Events() {
		if e.PCR == eventlog.Cap().PCR {
			last = e.Text
		}
	}
	if last != eventlog.Cap().Text {
		return "", differ("secrets can still be unsealed in this boot: the last event of PCR 7 is not the cap", eventlog.Cap().Text, last)
	}
	return "", nil
}

// securityVersion answers a release that was good once and has a known hole.
func (v *verification) securityVersion() (string, error) {
	e, err := v.only("security-version")
	if err != nil {
		return "", err
	}
	n, err := strconv.ParseUint(e.Value("value"), 10, 32)
	if err != nil {
		return "", err
	}
	if uint32(n) < v.policy.SecurityVersion {
		return "", differ("the release is too old: update the board", fmt.Sprintf("%d or more", v.policy.SecurityVersion), n)
	}
	return e.Value("value"), nil
}

// configuration answers a configuration of somebody else's, and one that was withdrawn:
// each that was in force in this boot counts.
func (v *verification) configuration() (string, error) {
	return v.inForce("configuration", v.policy.Configurations)
}

// policySet answers in the same way who may do what by a set that is not the owner's.
func (v *verification) policySet() (string, error) { return v.inForce("policy", v.policy.PolicySets) }

// inForce judges all events of a name, each with digest and epoch: of a list of accepted
// ones, where there is one, and in the order of their epochs.
func (v *verification) inForce(name string, accepted []eventlog.Digest) (string, error) {
	all := v.events(name)
	var before uint64
	for _, e := range all {
		epoch, err := strconv.ParseUint(e.Value("epoch"), 10, 64)
		if err != nil {
			return "", err
		}
		if epoch < before {
			return "", differ("the "+name+"'s epoch fell", fmt.Sprintf("%d or more", before), epoch)
		}
		before = epoch
		if accepted == nil {
			continue
		}
		if !slices.ContainsFunc(accepted, func(d eventlog.Digest) bool { return hex.EncodeToString(d[:]) == e.Value("sha256") }) {
			return "", differ("the "+name+" is not among the accepted ones", fmt.Sprintf("one of %d", len(accepted)), e.Value("sha256"))
		}
	}
	if len(all) == 0 {
		if accepted != nil {
			return "", fmt.Errorf("no %s was measured", name)
		}
		return "none", nil
	}
	return fmt.Sprintf("epoch %d", before), nil
}

// service: a board in quarantine boots known good software as well, and may say so.
func (v *verification) service() (string, error) {
	for _, e := range v.log.Events() {
		if e.Name() == "quarantine" {
			return v.accept("the board is in quarantine: docs/codes.md has its code", "code "+e.Value("code"), "in service", v.policy.Quarantine)
		}
	}
	return "in service", nil
}

func (v *verification) development() (string, error) {
	e, err := v.only("anchors")
	if err != nil {
		return "", err
	}
	return v.accept("the board takes development keys, which everybody may have", e.Value("development"), "0", v.policy.Development)
}

func (v *verification) lifeCycle() (string, error) {
	e, err := v.only("board")
	if err != nil {
		return "", err
	}
	return v.accept("the boot ROM verifies nothing: close the chip", e.Value("life-cycle"), string(eventlog.Closed), v.policy.OpenLifeCycle)
}

func (v *verification) socSecret() (string, error) {
	e, err := v.only("board")
	if err != nil {
		return "", err
	}
	return v.accept("the SoC's secret is not the chip's own", e.Value("soc-secret"), string(eventlog.OwnSecret), v.policy.WeakSecret)
}

// accept takes the best value, and others where the policy does.
func (v *verification) accept(why, value, best string, others bool) (string, error) {
	if value != best && !others {
		return "", differ(why, best, value)
	}
	return value, nil
}

// hostCycles answers who moves an event of the host from one cycle to another.
func (v *verification) hostCycles() (string, error) {
	c, err := golden.LastHostCycle(v.log)
	if err != nil || c == nil {
		return "none", err
	}
	v.host = c
	if c.Adopted {
		return fmt.Sprintf("%d, adopted", c.Number), nil
	}
	return fmt.Sprint(c.Number), nil
}

// hostFirmware judges what the host was released with in its last cycle.
func (v *verification) hostFirmware() (string, error) {
	c, err := golden.CompareHost(v.log, *v.policy.Host)
	if err != nil {
		return "", err
	}
	return c.Firmware.Value("version"), nil
}

// tlsKey answers who relays the evidence of a good board over a connection of his own.
func (v *verification) tlsKey() (string, error) {
	return bound(*v.policy.TLSKey, v.evidence.TLSKey, "the connection's key is not the board's: somebody is between")
}

func (v *verification) wrapKey() (string, error) {
	return bound(*v.policy.WrapKey, v.evidence.WrapKey, "the wrapping key is not the board's")
}

func bound(want, got eventlog.Digest, why string) (string, error) {
	if want != got {
		return "", differ(why, hex.EncodeToString(want[:]), hex.EncodeToString(got[:]))
	}
	return hex.EncodeToString(got[:]), nil
}
