// Package board holds the tests of the board's drivers on the board: they run as an
// image, on the emulated MCIMX6UL-EVK with the devices of testdata/qemu.args on its
// I2C bus.
package board
