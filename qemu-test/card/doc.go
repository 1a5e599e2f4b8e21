// Package card holds the tests of the SD card slots on the board: they run as an image,
// on the emulated MCIMX6UL-EVK with the cards of testdata/qemu.args, one of them SDSC,
// the other SDHC. Cards that are taken out and changed are in qemu-test's TestCards.
package card
