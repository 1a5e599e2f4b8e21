// Package qemutest holds tests of images on the emulated board that are watched
// and tormented from outside (see qemu-test/emulator). They run on the machine
// that builds, not on the board.
package qemutest
