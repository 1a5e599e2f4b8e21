// Package evk is the wiring of NXP's MCIMX6UL-EVK and MCIMX6ULL-EVK, and of their
// emulation by QEMU (mcimx6ul-evk). A program that imports it, and is linked with
// its entry symbol cpuentry, runs on the bare board.
package evk

import (
	_ "nitro/board/cpu" // entered from cpuentry
	"nitro/board/imx6ul"
	"nitro/board/kernel"
)

// config is what the kernel is told before any Go code runs.
var config = kernel.Config{
	Name: "MCIMX6UL-EVK",

	// The USB serial adapter of the base board is on UART1.
	UART:     imx6ul.UART1,
	UARTLine: imx6ul.UART1Line,

	Watchdog:        imx6ul.WDOG1,
	WatchdogLine:    imx6ul.WDOG1Line,
	WatchdogSeconds: 60,

	ResetController: imx6ul.SRC,

	CounterHz: imx6ul.CounterHz,
	Counter:   imx6ul.SystemCounter,

	BlockUntilSeeded: true,

	Env: [8]string{"GOTRACEBACK=all"},

	Devices: [32]kernel.DeviceRange{
		{Start: 0x02098000, End: 0x0209c000}, // GPT1
		{Start: 0x0209c000, End: 0x020b0000}, // GPIO1 to GPIO5
		{Start: 0x020b4000, End: 0x020b8000}, // ENET2
		{Start: 0x020c4000, End: 0x020c9000}, // CCM, and its analog part without the USB PHYs
		{Start: 0x020cc000, End: 0x020d0000}, // SNVS
		{Start: 0x020d0000, End: 0x020d4000}, // EPIT1
		{Start: 0x020e0000, End: 0x020e4000}, // IOMUXC, without the general purpose registers
		{Start: 0x02140000, End: 0x02141000}, // CAAM's versions
		{Start: 0x02188000, End: 0x0218c000}, // ENET1
		{Start: 0x02190000, End: 0x02198000}, // uSDHC1, uSDHC2
		{Start: 0x021a0000, End: 0x021ac000}, // I2C1 to I2C3
		{Start: 0x021bc000, End: 0x021bd000}, // OCOTP
		{Start: 0x021f8000, End: 0x021fc000}, // I2C4
		{Start: 0x02284000, End: 0x02285000}, // RNGB
		{Start: 0x02290000, End: 0x02291000}, // IOMUXC_SNVS, on the ULL
	},

	Setup: [32]kernel.RegisterWrite{
		// UART1_TX_DATA carries UART1's transmitter (IMX6ULRM 32.6: mux ALT0,
		// pad with a 100 kOhm pull-up and medium drive).
		{Address: 0x020e0084, Value: 0},
		{Address: 0x020e0310, Value: 0x1b0b1},

		// The Ethernet ports' 50 MHz come from the chip's PLL and go out to the PHYs
		// (IMX6ULLRM 32.7.2, GPR1: ENETx_CLK_SEL clear, ENETx_TX_CLK_DIR set).
		{Address: 0x020e4004, Value: 1<<17 | 1<<18, Keep: ^uint32(1<<13 | 1<<14)},
	},

	Wipe: imx6ul.Bootloader,
	Next: kernel.DeviceRange{Start: imx6ul.NextStart, End: imx6ul.NextEnd},
	Stop: [8]kernel.RegisterWrite{
		// The clocks of what is to be written to: ENET (the ULL's gate, then the UL's) and
		// uSDHC (IMX6ULLRM 18.6.23, 18.6.24, 18.6.29).
		{Address: 0x020c4068, Value: 3 << 12, Keep: ^uint32(3 << 12)},
		{Address: 0x020c406c, Value: 3 << 10, Keep: ^uint32(3 << 10)},
		{Address: 0x020c4080, Value: 0xf << 2, Keep: ^uint32(0xf << 2)},
		{Address: 0x02188024, Value: 1},                     // ENET1, ECR: RESET (chapter 22)
		{Address: 0x020b4024, Value: 1},                     // ENET2
		{Address: 0x0219002c, Value: 1 << 24, Keep: 0xffff}, // uSDHC1, SYS_CTRL: RSTA (58.8.12)
		{Address: 0x0219402c, Value: 1 << 24, Keep: 0xffff}, // uSDHC2
	},

	ChipID: imx6ul.DIGPROG,
	SiliconSetup: [16]kernel.RegisterWrite{
		// The peripheral bridges AIPSTZ1 to AIPSTZ3 come out of reset refusing User
		// mode (IMX6ULLRM 14.7.2: OPACR's reset value sets SP for every block). All
		// blocks are opened here: which of them a program reaches is the MMU's to say.
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
