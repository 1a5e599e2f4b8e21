package golden

import (
	"errors"
	"fmt"
	"slices"
	"strconv"

	"nitro/attest/eventlog"
)

// A HostCycle is what a log says of one cycle of the host: its events in PCR 4, 5 and 6.
type HostCycle struct {
	Number     uint64
	Adopted    bool             // this boot did not verify it, a ticket of an earlier one vouched for it
	Firmware   *eventlog.Event  // the host's; nil if the cycle did not come to it
	BMC        *eventlog.Event  // the BMC's
	Recoveries []eventlog.Event // what was put right before
	Components []eventlog.Event
}

// The PCRs of the host's cycles.
const hostPCR, bmcPCR, componentPCR = 4, 5, 6

// LastHostCycle replays all cycles of a log and gives the last one; nil where there was
// none. A log whose cycles are not in order is an error: numbers rise; every event names the
// cycle that it is in; the firmware of host and BMC is measured once a cycle; a cycle is
// adopted only as the first one of a boot. That the log is the TPM's own, which its replay
// shows, is for the caller to check.
func LastHostCycle(log *eventlog.Log) (*HostCycle, error) {
	var last *HostCycle
	for _, e := range log.Events() {
		if e.Type == eventlog.NoAction || e.PCR < hostPCR || e.PCR > componentPCR {
			continue
		}
		n, err := strconv.ParseUint(e.Value("cycle"), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("golden: %q: %w", e.Text, err)
		}
		if e.Name() != "host-cycle" {
			if last == nil || n != last.Number {
				return nil, fmt.Errorf("golden: %q: is not in cycle %d", e.Text, n)
			}
			if err := last.add(e); err != nil {
				return nil, err
			}
			continue
		}
		adopted := e.Value("how") == string(eventlog.Adopted)
		if last != nil && (n <= last.Number || adopted) {
			return nil, fmt.Errorf("golden: %q: cannot follow cycle %d", e.Text, last.Number)
		}
		last = &HostCycle{Number: n, Adopted: adopted}
	}
	return last, nil
}

// add takes an event into its cycle.
func (c *HostCycle) add(e eventlog.Event) error {
	once := func(at **eventlog.Event) error {
		if *at != nil {
			return fmt.Errorf("golden: %q: the cycle has this event already", e.Text)
		}
		*at = &e
		return nil
	}
	switch e.Name() {
	case "host-firmware":
		return once(&c.Firmware)
	case "bmc-firmware":
		return once(&c.BMC)
	case "recovery":
		c.Recoveries = append(c.Recoveries, e)
	case "component":
		c.Components = append(c.Components, e)
	default:
		return fmt.Errorf("golden: %q: is no event of a cycle", e.Text)
	}
	return nil
}

// A HostSet is the firmware that a host may run: alternatives, at least one of each kind
// that the host has.
type HostSet struct{ Host, BMC []eventlog.Firmware }

// ErrNoHostCycle says that the log has no cycle of the host: it was not released in this
// boot.
var ErrNoHostCycle = errors.New("golden: the log has no cycle of the host: ask again once the host was released")

// CompareHost judges the last cycle of a log by the firmware that the host may run. The
// error joins every [Mismatch]; the cycle is given with it, if there is one.
func CompareHost(log *eventlog.Log, set HostSet) (*HostCycle, error) {
	c, err := LastHostCycle(log)
	if err != nil {
		return nil, err
	}
	if c == nil {
		return nil, ErrNoHostCycle
	}
	var problems []error
	for _, k := range []struct {
		pcr     int
		name    string
		allowed []eventlog.Firmware
		event   func(uint64, eventlog.Firmware) eventlog.Event
		actual  *eventlog.Event
	}{
		{hostPCR, "host-firmware", set.Host, eventlog.HostFirmware, c.Firmware},
		{bmcPCR, "bmc-firmware", set.BMC, eventlog.BMCFirmware, c.BMC},
	} {
		m := &Mismatch{PCR: k.pcr, Name: k.name, Actual: k.actual}
		for _, f := range k.allowed {
			m.Expected = append(m.Expected, k.event(c.Number, f))
		}
		nothing := k.actual == nil && len(k.allowed) == 0
		if !nothing && (k.actual == nil || !slices.Contains(m.Expected, *k.actual)) {
			problems = append(problems, m)
		}
	}
	return c, errors.Join(problems...)
}
