package kernel

// resetCause keeps what the hardware says of the last reset (IMX6ULLRM 51.7.3 and
// 59.8.3): User mode has no access to the reset controller and the watchdog.
type resetCause struct{ srsr, wrsr uint32 }

const (
	srcSRSR   = 0x08
	srsrClear = 0x1fd // the bits that writing 1 clears
	wdogWRSR  = 0x4
)

// read reads the cause, and clears it, so that the next boot sees its own only. An
// image that starts another leaves it to that one.
func (r *resetCause) read(c *Config) {
	r.wrsr = uint32(readReg16(c.Watchdog + wdogWRSR))
	if c.ResetController != 0 {
		r.srsr = readReg(c.ResetController + srcSRSR)
		if c.Next.End == 0 {
			writeReg(c.ResetController+srcSRSR, r.srsr&srsrClear)
		}
	}
}
