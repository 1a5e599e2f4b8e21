// Package qemutest holds tests of images on the emulated board that are watched
// and tormented from outside (see qemu-test/emulator). They run on the machine
// that builds, not on the board. Run them with -count=1: the go command does not
// know that an image has changed, and would show an old result.
package qemutest
