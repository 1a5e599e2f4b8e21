// Package hil holds the end-to-end tests that a real board on a bench takes as well as the
// emulator (docs/hil.md): they speak to a package rig's board and to nothing else. Without
// further word they run over an emulated bench: a rig of kind bench whose serial device is a
// pseudoterminal, and whose power command switches the emulator. With -rig they run over the
// rig of a file:
//
//	go test -count=1 -timeout 2h -v ./qemu-test/hil -rig bench-3.json
package hil
