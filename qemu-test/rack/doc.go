// Package rack is the whole set-up of a controller on the bench: the emulated board
// (package emulator) with a TPM, SD cards, an expander and an EEPROM on its I2C bus,
// cables in its Ethernet ports, and the nets between its pins. Every end-to-end test
// stands on it, and `make run` too (cmd/rack).
//
// A [Rack] is one time of power: Start switches it on, Close or Cut off. What is to
// last, a card's file or the TPM's folder, is the caller's; start the next one with the
// same names, or with others.
//
// # What is real and what is not
//
// The TPM is swtpm 0.7 or later, a TPM 2.0, behind QEMU's TIS on I2C (address 0x2e of
// I2C1, DID_VID 14 10 01 00). A reset of the board resets it, as on a board where both
// share a line; [TPM.Reset] resets it alone, but leaves the locality and the state of
// QEMU's interface to it as they were.
//
// Pins are GPIO's registers and what QEMU's GPIO block tells. A line's level is known
// exactly and in order when the board changes it as an output of GPIO1. That a line
// becomes an input, or an output of the level that QEMU told last, QEMU does not tell:
// direction is sampled every 2 ms, and a shorter pulse of that kind is not seen. Pads
// (IOMUXC) are not emulated, so neither are their pulls, nor a pad that is not given to
// GPIO at all: a line counts as GPIO's whenever GDIR says output.
//
// A [Wire] is copied to its sense pins by this process: about 0.1 ms pass (a round trip to
// the emulator took 0.08 ms on a busy machine), and more under load, before the
// board sees what it has done, where on a real board it is nanoseconds.
//
// A reset that the board asks for by its watchdog stops the emulator first. Then the
// pins fall back to their pulls, and inputs, which QEMU forgets at a reset, get their
// levels again before the first instruction runs. It shows as the events WATCHDOG, STOP,
// RESET and RESUME; RESET's reason is always the rack's order. The expander, which QEMU
// resets with the board, gets its registers back before the first instruction too: on the
// reference board it has the host's supply, and is reset when the host loses its power
// (board/evk). The rack speaks to it over the board's I2C block while the board stands still.
//
// The [Host] is QEMU's q35 (TCG). Its processor runs only while the nets let it, and from a
// copy of the flash on the second card, made when the multiplexer gives the host the flash,
// which nothing can write. What the host writes is in that copy's place nowhere: its variables are
// gone with its power. Its BMC is a net and firmware in a flash, and nobody who runs it. A
// reset that the host makes by itself is not seen at its net.
//
// No cache is emulated: a RAM dump shows what the processor would see, not what lies in
// the chips.
//
// Nothing waits without a limit. Programs end with the process that started them, and
// what a killed process leaves of folders, the next rack removes.
package rack
