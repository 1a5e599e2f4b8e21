package kernel

// The watchdog (IMX6ULRM 59) runs from the first instructions on and cannot be
// stopped. The kernel services it until a program opens /dev/watchdog; from then
// on only that program's writes do. A second before it resets the system it
// raises an interrupt, with which the firmware dies in good order.
type watchdog struct {
	base uint32
	line uint32
	open bool // a program services it; stays so
}

// 16-bit registers.
const (
	wdogWCR  = 0x0
	wdogWSR  = 0x2
	wdogWICR = 0x6
	wdogWMCR = 0x8

	wcrWT  = 8      // timeout: (WT+1) half seconds
	wcrWDA = 1 << 5 // do not assert WDOG_B
	wcrSRS = 1 << 4 // do not reset now
	wcrWDT = 1 << 3 // assert WDOG_B on a timeout
	wcrWDE = 1 << 2 // enable

	wicrWIE  = 1 << 15
	wicrWTIS = 1 << 14
	preReset = 2 // half seconds

	maxWatchdogSeconds = 128
)

// start starts the watchdog. One that an image before has started, with the same time,
// is left as it is: its enable bit can be written once (IMX6ULRM 59.8.1), and QEMU clears
// it at the second time.
func (w *watchdog) start(seconds uint32) {
	seconds = min(max(seconds, 2), maxWatchdogSeconds)
	writeReg16(w.base+wdogWMCR, 0) // or the power-down counter resets after 16 s
	writeReg16(w.base+wdogWICR, wicrWIE|wicrWTIS|preReset)
	control := uint16((seconds*2-1)<<wcrWT | wcrWDA | wcrSRS | wcrWDT | wcrWDE)
	if readReg16(w.base+wdogWCR) != control {
		writeReg16(w.base+wdogWCR, control)
	}
	w.service()
}

func (w *watchdog) service() {
	writeReg16(w.base+wdogWSR, 0x5555)
	writeReg16(w.base+wdogWSR, 0xaaaa)
}
