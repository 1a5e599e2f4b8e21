// Package armory is the wiring of the USB armory Mk II LAN, with an i.MX 6UltraLite or
// i.MX 6ULL and one Ethernet port. A program that imports it, and is linked with its
// entry symbol cpuentry, runs on the bare board. It has not run on one yet.
//
// The board has no header: there is no line to hold a host with, and no bus for a TPM
// of its own beside the parts that are soldered. So it runs the firmware, and cannot
// guard a host.
//
// Sources: the board's device trees (imx6ul-512M-usbarmory-lan.dts and its ULL
// sibling, by its maker), whose settings of pads are these.
package armory

import (
	_ "nitro/board/cpu" // entered from cpuentry
	"nitro/board/imx6ul"
	"nitro/board/kernel"
)

// config is what the kernel is told before any Go code runs.
var config = kernel.Config{
	Name: "USB armory Mk II LAN",

	// UART2 is on the test pads TP8 and TP9.
	UART:     imx6ul.UART2,
	UARTLine: imx6ul.UART2Line,

	Watchdog:        imx6ul.WDOG1,
	WatchdogLine:    imx6ul.WDOG1Line,
	WatchdogSeconds: 60,

	ResetController: imx6ul.SRC,

	CounterHz: imx6ul.CounterHz,
	Counter:   imx6ul.SystemCounter,

	BlockUntilSeeded: true,

	Env: [8]string{"GOTRACEBACK=all"},

	Devices: [32]kernel.DeviceRange{
		{Start: 0x0209c000, End: 0x020b0000}, // GPIO1 to GPIO5
		{Start: 0x020b4000, End: 0x020b8000}, // ENET2
		{Start: 0x020c4000, End: 0x020c9000}, // CCM, and its analog part without the USB PHYs
		{Start: 0x020cc000, End: 0x020d0000}, // SNVS
		{Start: 0x020e0000, End: 0x020e4000}, // IOMUXC, without the general purpose registers
		{Start: 0x02140000, End: 0x02141000}, // CAAM's versions and its TRNG
		{Start: 0x02190000, End: 0x02194000}, // uSDHC1
		{Start: 0x021a0000, End: 0x021a4000}, // I2C1
		{Start: 0x021bc000, End: 0x021bd000}, // OCOTP
		{Start: 0x02284000, End: 0x02285000}, // RNGB
	},

	Setup: [32]kernel.RegisterWrite{
		// UART2_TX_DATA carries UART2's transmitter: mux ALT0, a pad with a 100 kOhm
		// pull-up (IMX6ULRM 32.6).
		{Address: 0x020e0094, Value: 0},
		{Address: 0x020e0320, Value: 0x1b0b1},
		// GPR1: the reference clocks of the Ethernet ports come from the chip.
		{Address: 0x020e4004, Value: 1<<17 | 1<<18, Keep: ^uint32(1<<13 | 1<<14)},
	},

	Wipe: imx6ul.Bootloader,
	Next: kernel.DeviceRange{Start: imx6ul.NextStart, End: imx6ul.NextEnd},
	Stop: [8]kernel.RegisterWrite{
		// The clocks of what is to be written to: ENET (the ULL's gate, then the UL's) and
		// uSDHC1 (IMX6ULLRM 18.6.23, 18.6.24, 18.6.29).
		{Address: 0x020c4068, Value: 3 << 12, Keep: ^uint32(3 << 12)},
		{Address: 0x020c406c, Value: 3 << 10, Keep: ^uint32(3 << 10)},
		{Address: 0x020c4080, Value: 3 << 2, Keep: ^uint32(3 << 2)},
		{Address: 0x020b4024, Value: 1},                     // ENET2, ECR: RESET (chapter 22)
		{Address: 0x0219002c, Value: 1 << 24, Keep: 0xffff}, // uSDHC1, SYS_CTRL: RSTA (58.8.12)
	},

	ChipID: imx6ul.DIGPROG,
	SiliconSetup: [16]kernel.RegisterWrite{
		// The peripheral bridges AIPSTZ1 to AIPSTZ3 let User mode through to all blocks
		// (IMX6ULLRM 14.7.2): which of them a program reaches is the MMU's to say.
		{Address: 0x0207c040, Value: 0},
		{Address: 0x0207c044, Value: 0},
		{Address: 0x0207c048, Value: 0},
		{Address: 0x0207c04c, Value: 0},
		{Address: 0x0207c050, Value: 0},
		{Address: 0x0217c040, Value: 0},
		{Address: 0x0217c044, Value: 0},
		{Address: 0x0217c048, Value: 0},
		{Address: 0x0217c04c, Value: 0},
		{Address: 0x0217c050, Value: 0},
		{Address: 0x0227c040, Value: 0},
		{Address: 0x0227c044, Value: 0},
		{Address: 0x0227c048, Value: 0},
		{Address: 0x0227c04c, Value: 0},
		{Address: 0x0227c050, Value: 0},
	},
}
