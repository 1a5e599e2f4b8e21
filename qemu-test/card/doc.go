// Package card holds the tests of the SD cards on the board: they run as an image, on
// the emulated MCIMX6UL-EVK with a card of testdata/qemu.args in slot 1, and none in
// slot 2.
package card
