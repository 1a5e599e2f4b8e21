// Package evk is the wiring of NXP's MCIMX6UL-EVK and MCIMX6ULL-EVK, and of their
// emulation by QEMU (mcimx6ul-evk). A program that imports it, and is linked with
// its entry symbol cpuentry, runs on the bare board.
package evk

import (
	_ "nitro/board/cpu" // entered from cpuentry
	"nitro/board/kernel"
)

// config is what the kernel is told before any Go code runs.
var config = kernel.Config{
	Name: "MCIMX6UL-EVK",

	// The USB serial adapter of the base board is on UART1.
	UART:     0x02020000,
	UARTLine: 32 + 26,

	Watchdog:        0x020bc000, // WDOG1
	WatchdogLine:    32 + 80,
	WatchdogSeconds: 60,

	CounterHz: 8000000,
	Counter:   0x021dc000,

	Env: [8]string{"GOTRACEBACK=all"},

	Devices: [32]kernel.DeviceRange{
		{Start: 0x02098000, End: 0x0209c000}, // GPT1
		{Start: 0x0209c000, End: 0x020b0000}, // GPIO1 to GPIO5
		{Start: 0x020b4000, End: 0x020b8000}, // ENET2
		{Start: 0x020d0000, End: 0x020d4000}, // EPIT1
		{Start: 0x02188000, End: 0x0218c000}, // ENET1
		{Start: 0x02190000, End: 0x02198000}, // uSDHC1, uSDHC2
		{Start: 0x021a0000, End: 0x021ac000}, // I2C1 to I2C3
	},

	Setup: [32]kernel.RegisterWrite{
		// UART1_TX_DATA carries UART1's transmitter (IMX6ULRM 32.6: mux ALT0,
		// pad with a 100 kOhm pull-up and medium drive).
		{Address: 0x020e0084, Value: 0},
		{Address: 0x020e0310, Value: 0x1b0b1},
	},
}
