package golden

import (
	"errors"
	"strings"
	"testing"

	"nitro/attest/eventlog"
)

var (
	bios1 = eventlog.Firmware{Digest: d(60), Manifest: d(61), Version: "F.30", SecurityVersion: 3}
	bios2 = eventlog.Firmware{Digest: d(62), Manifest: d(63), Version: "F.31", SecurityVersion: 3}
	bmc   = eventlog.Firmware{Digest: d(64), Manifest: d(65), Version: "2.14", SecurityVersion: 1}
)

// cycleOf is a whole cycle.
func cycleOf(n uint64, how eventlog.How, host, bmc eventlog.Firmware) []eventlog.Event {
	return []eventlog.Event{eventlog.HostCycle(n, how), eventlog.Recovery(n, "bios", d(70), d(71)),
		eventlog.HostFirmware(n, host), eventlog.BMCFirmware(n, bmc), eventlog.Component(n, "signers", d(72), "1")}
}

func join(parts ...[]eventlog.Event) (all []eventlog.Event) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func TestCompareHost(t *testing.T) {
	one := cycleOf(7, eventlog.Verified, bios1, bmc)
	set := HostSet{Host: []eventlog.Firmware{bios1, bios2}, BMC: []eventlog.Firmware{bmc}}
	other := bios1
	other.Manifest[0]++
	for _, c := range []struct {
		name   string
		events []eventlog.Event
		number uint64
		say    string
	}{
		{"good", join(good(), one), 7, ""},
		{"adopted", cycleOf(7, eventlog.Adopted, bios1, bmc), 7, ""},
		{"the last one counts", join(cycleOf(7, eventlog.Verified, other, bmc), cycleOf(9, eventlog.Verified, bios2, bmc)), 9, ""},
		{"the last one is bad", join(one, cycleOf(8, eventlog.Verified, bios1, bios1)), 8, "PCR 5: bmc-firmware: measured event"},
		{"other manifest", cycleOf(7, eventlog.Verified, other, bmc), 7, "PCR 4: host-firmware: measured event"},
		{"began and did not go on", join(one, []eventlog.Event{eventlog.HostCycle(8, eventlog.Verified)}), 8, "PCR 4: host-firmware: was not measured"},
		{"no cycle", good(), 0, "no cycle of the host"},
		{"twice", join(one, one[2:3]), 0, "has this event already"},
		{"the BMC's twice", join(one, one[3:4]), 0, "has this event already"},
		{"of an earlier cycle", join(one, cycleOf(8, eventlog.Verified, bios1, bmc), one[3:4]), 0, "is not in cycle 7"},
		{"without its cycle", one[1:], 0, "is not in cycle 7"},
		{"number again", join(one, one), 0, "cannot follow cycle 7"},
		{"number falls", join(one, cycleOf(6, eventlog.Verified, bios1, bmc)), 0, "cannot follow cycle 7"},
		{"adopted behind another", join(one, cycleOf(8, eventlog.Adopted, bios1, bmc)), 0, "cannot follow cycle 7"},
	} {
		got, err := CompareHost(logOf(t, c.events...), set)
		if (err == nil) != (c.say == "") || err != nil && !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want %q", c.name, err, c.say)
		}
		if (got == nil) != (c.number == 0) || got != nil && got.Number != c.number {
			t.Errorf("%s: %+v; want cycle %d", c.name, got, c.number)
		}
		if got != nil && got.Adopted != (c.name == "adopted") {
			t.Errorf("%s: adopted: %v", c.name, got.Adopted)
		}
	}
	got, err := CompareHost(logOf(t, one...), set)
	if err != nil || len(got.Recoveries) != 1 || len(got.Components) != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	var m *Mismatch
	if _, err := CompareHost(logOf(t, one...), HostSet{Host: set.Host}); !errors.As(err, &m) || m.PCR != bmcPCR {
		t.Errorf("firmware that no set knows: %v", err)
	}
	if _, err := CompareHost(logOf(t, one[0], one[2]), HostSet{Host: set.Host}); err != nil {
		t.Errorf("a host without BMC: %v", err)
	}
}
