package kernel

// A Config is what a board tells the kernel about itself. The board's entry
// symbol passes its address; the kernel reads it once, before any Go code runs.
type Config struct {
	// Name of the board, for the first line on the console.
	Name string

	// UART is the address of the console's UART, UARTLine its interrupt
	// (IMX6ULRM 55), as the GIC numbers it (32 and up).
	UART, UARTLine uint32

	// Watchdog is the address of the WDOG block that guards the firmware,
	// WatchdogLine the interrupt that comes a second before it resets
	// (IMX6ULRM 59).
	Watchdog, WatchdogLine uint32

	// WatchdogSeconds is its timeout, 2 to 128.
	WatchdogSeconds uint32

	// ResetController is the address of the SRC block (IMX6ULRM 51), which knows
	// what reset the chip; 0 if it is not to be asked.
	ResetController uint32

	// CounterHz is the system counter's frequency, used where the boot ROM has
	// not set CNTFRQ. Counter is then the address of the counter's control block,
	// which is switched on.
	CounterHz, Counter uint32

	// BlockUntilSeeded makes getrandom wait, on silicon, until /dev/seed has been
	// written: set where the chip has a source of entropy, which a driver will feed to
	// it. An emulated chip has none.
	BlockUntilSeeded bool

	// Env is the environment that the program starts with.
	Env [8]string

	// Devices are the device pages that /dev/mem maps. Everything else, such as
	// the interrupt controller, is out of User mode's reach.
	Devices [maxDeviceRanges]DeviceRange

	// Setup are register writes to be made first of all, in order, such as the pads of
	// the console. Lines that keep their level over a reset of the SoC are not among them.
	Setup [32]RegisterWrite

	// Wipe has the kernel zero all RAM at its start, but its own image and the crash
	// record: for the first image after a reset.
	Wipe bool

	// Next is the window of RAM, below this image, in which the program may place
	// another image and start it (/dev/next): whole pages. Empty: it may not. An image
	// that starts another leaves the crash record and the reset's cause to that one.
	Next DeviceRange

	// Stop are register writes that stop what could write to memory by itself, made
	// before the next image is started, in order.
	Stop [maxStops]RegisterWrite

	// SiliconSetup are those that follow on silicon only: QEMU does not map every
	// block, and an access would be an abort. ChipID is the address of the register
	// that tells the two apart (IMX6ULRM 18.7, DIGPROG): QEMU's chip has revision 0,
	// as no chip that was sold.
	SiliconSetup [16]RegisterWrite
	ChipID       uint32
}

const (
	maxDeviceRanges = 32
	maxStops        = 8
)

// A DeviceRange is a run of pages, of devices or of RAM: addresses, multiples of 4096;
// End is the first address after.
type DeviceRange struct{ Start, End uint32 }

// A RegisterWrite is one 32-bit write to a device register. The bits of Keep stay as
// they are; if there are any, the register is read first. Address 0 ends a list.
type RegisterWrite struct{ Address, Value, Keep uint32 }
