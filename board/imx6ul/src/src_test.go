package src

import (
	"errors"
	"strings"
	"testing"
	"testing/iotest"
)

func TestParse(t *testing.T) {
	const head = "pages.used 12\n"
	for text, want := range map[string]Reset{
		head + "reset.srsr 16\nreset.wrsr 1\nseeded 0\n":       {16, 1},
		head + "reset.wrsr 65535\nreset.srsr 4294967295\n":     {0xffffffff, 0xffff},
		head + "xreset.srsr 5\nreset.srsr 1\nreset.wrsr 16\n":  {1, 16},
		head + "reset.srsr 1\nreset.srsr 2\nreset.wrsr 3":      {1, 3},
		"reset.srsrx 9\nreset.srsr 00001\nreset.wrsr 0\nend\n": {1, 0},
	} {
		if got, err := parse(strings.NewReader(text)); got != want || err != nil {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"", head, "reset.srsr 1\n", "reset.wrsr 1\n", "reset.srsr x\nreset.wrsr 1\n", "reset.srsr 1\nreset.wrsr 65536\n",
		"reset.srsr -1\nreset.wrsr 1\n", "reset.srsr \nreset.wrsr 1\n",
	} {
		if got, err := parse(strings.NewReader(text)); err == nil {
			t.Errorf("%q: %+v", text, got)
		}
	}
	broken := errors.New("broken")
	if _, err := parse(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Error(err)
	}
}

func TestCauses(t *testing.T) {
	for _, c := range []struct {
		reset             Reset
		powerOn, watchdog bool
		want              string
	}{
		{Reset{0x1, 0x10}, true, false, "power on (SRSR 0x1, WRSR 0x10)"},
		{Reset{0x10, 0x1}, false, false, "software (SRSR 0x10, WRSR 0x1)"},
		{Reset{0x10, 0x2}, false, true, "watchdog 1 timeout (SRSR 0x10, WRSR 0x2)"},
		{Reset{0x10, 0}, false, true, "watchdog 2 (SRSR 0x10, WRSR 0x0)"},
		{Reset{0x80, 0}, false, true, "watchdog 3 timeout (SRSR 0x80, WRSR 0x0)"},
		{Reset{0x108, 0}, false, false, "reset button, overheating (SRSR 0x108, WRSR 0x0)"},
		{Reset{0x10064, 0}, false, false, "security violation, JTAG, warm boot (SRSR 0x10064, WRSR 0x0)"},
		{Reset{0, 2}, false, false, "unknown cause (SRSR 0x0, WRSR 0x2)"},
	} {
		if got := c.reset.String(); got != c.want || c.reset.PowerOn() != c.powerOn || c.reset.Watchdog() != c.watchdog {
			t.Errorf("%q, power on %v, watchdog %v; want %q", got, c.reset.PowerOn(), c.reset.Watchdog(), c.want)
		}
	}
}
