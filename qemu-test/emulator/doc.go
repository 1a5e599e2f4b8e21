// Package emulator starts the emulated board with an image, for tests that watch
// and torment it from outside: they follow its console through all its boots,
// stop it, look into its memory and registers, and change them.
//
// The board is QEMU's mcimx6ul-evk (QEMU 10) with 512 MiB of RAM and the console
// on UART1. Unlike the runs of internal/metal, which end where the board would
// reset, a board of this package goes on: the watchdog's reset boots it again,
// RAM is kept but for the image's own segments, which are loaded anew.
//
// [GDB] speaks as much of the GDB remote protocol as that takes (GDB's manual,
// appendix E; QEMU's gdbstub.rst for physical addresses). [QMP] gives the emulator
// orders and hears of its events; [QTest] moves the board's inputs and sees its
// outputs. What belongs to the set-up around the board (TPM, cards, networks, nets
// between pins) is package rack's.
//
// Nothing waits without a limit, and no emulator outlives the process that
// started it.
package emulator
