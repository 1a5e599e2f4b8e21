// Package conformance holds tests of the Linux/arm system calls that the Go
// runtime and the standard library make. One and the same test binary runs on
// Linux and on the firmware's own kernel and must give the same result on both:
// Linux is the reference, and what it answers is written down here as tables of
// errno values and as small models.
//
// The reference is Linux 6.12 on 32-bit ARM (EABI), its kernel source and the
// man-pages; the EABI register convention is that of arch/arm/kernel/entry-common.S.
//
// Left out, because the firmware leaves it out on purpose: file systems,
// sockets, fork and exec, other processes, user ids, shared mappings, and
// mappings that are writable and executable.
//
// Emulation by qemu-arm (user mode) answers a few calls unlike Linux. Those
// points carry a comment and look at underUserEmulation; everywhere else no
// allowance is made.
//
// Run it with
//
//	GOOS=linux GOARCH=arm GOARM=7 CGO_ENABLED=0 go test -exec 'qemu-arm -cpu cortex-a7' ./qemu-test/conformance/
//
// Setting the wall clock is opt-in: CONFORMANCE_SETTIME=1.
package conformance
