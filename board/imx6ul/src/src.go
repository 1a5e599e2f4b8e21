// Package src tells what reset the chip: the System Reset Controller's SRSR and the
// watchdog's WRSR (IMX6ULLRM Rev. 1 11/2017, 51.7.3 and 59.8.3). User mode has no
// access to either block, which could undo the firmware's guard: the kernel reads
// the registers at boot, before anything changes them, clears SRSR, so that the next
// boot sees its own cause only, and shows them in /dev/kernel.
//
// Under QEMU every reset reads as power-on.
package src

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// Bits of SRSR (51.7.3).
const (
	srsrPowerOn   = 1 << 0 // ipp_reset_b
	srsrCSU       = 1 << 2
	srsrUser      = 1 << 3 // ipp_user_reset_b
	srsrWatchdog  = 1 << 4 // WDOG1 or WDOG2: a timeout, or the software
	srsrJTAG      = 1 << 5
	srsrJTAGSoft  = 1 << 6
	srsrWatchdog3 = 1 << 7
	srsrTemp      = 1 << 8
	srsrWarm      = 1 << 16
)

// Bits of WRSR (59.8.3): what WDOG1 has to do with it.
const (
	wrsrSFTW = 1 << 0 // the software asked for the reset
	wrsrTOUT = 1 << 1 // nobody serviced the watchdog
)

// A Reset is what the hardware says of the last reset.
type Reset struct {
	SRSR uint32
	WRSR uint16
}

// The names that /dev/kernel has for the two.
const (
	lineSRSR = "reset.srsr"
	lineWRSR = "reset.wrsr"
)

// Read asks the kernel.
func Read() (Reset, error) {
	f, err := os.Open("/dev/kernel")
	if err != nil {
		return Reset{}, fmt.Errorf("src: %w", err)
	}
	defer f.Close()
	return parse(f)
}

func parse(r io.Reader) (Reset, error) {
	text, err := io.ReadAll(r)
	if err != nil {
		return Reset{}, fmt.Errorf("src: %w", err)
	}
	find := func(name string, bits int) uint64 {
		for line := range strings.Lines(string(text)) {
			if value, ok := strings.CutPrefix(line, name+" "); ok && err == nil {
				var v uint64
				v, err = strconv.ParseUint(strings.TrimSpace(value), 10, bits)
				return v
			}
		}
		if err == nil {
			err = fmt.Errorf("no line %s", name)
		}
		return 0
	}
	reset := Reset{SRSR: uint32(find(lineSRSR, 32)), WRSR: uint16(find(lineWRSR, 16))}
	if err != nil {
		return Reset{}, fmt.Errorf("src: /dev/kernel: %w: image and kernel do not fit together", err)
	}
	return reset, nil
}

// PowerOn tells whether power came on. Memory holds nothing from before then.
func (r Reset) PowerOn() bool { return r.SRSR&srsrPowerOn != 0 }

// Watchdog tells whether a watchdog's timeout was the cause.
func (r Reset) Watchdog() bool {
	return r.SRSR&srsrWatchdog3 != 0 || r.SRSR&srsrWatchdog != 0 && r.WRSR&wrsrSFTW == 0
}

// String names all causes that are set, and gives the registers.
func (r Reset) String() string {
	var causes []string
	for _, c := range []struct {
		set  bool
		name string
	}{
		{r.PowerOn(), "power on"},
		{r.SRSR&srsrWatchdog != 0 && r.WRSR&wrsrSFTW != 0, "software"},
		{r.SRSR&srsrWatchdog != 0 && r.WRSR&wrsrTOUT != 0, "watchdog 1 timeout"},
		{r.SRSR&srsrWatchdog != 0 && r.WRSR&(wrsrSFTW|wrsrTOUT) == 0, "watchdog 2"},
		{r.SRSR&srsrWatchdog3 != 0, "watchdog 3 timeout"},
		{r.SRSR&srsrUser != 0, "reset button"},
		{r.SRSR&srsrCSU != 0, "security violation"},
		{r.SRSR&srsrTemp != 0, "overheating"},
		{r.SRSR&(srsrJTAG|srsrJTAGSoft) != 0, "JTAG"},
		{r.SRSR&srsrWarm != 0, "warm boot"},
	} {
		if c.set {
			causes = append(causes, c.name)
		}
	}
	if len(causes) == 0 {
		causes = []string{"unknown cause"}
	}
	return fmt.Sprintf("%s (SRSR %#x, WRSR %#x)", strings.Join(causes, ", "), r.SRSR, r.WRSR)
}
