// Package peer runs programs on Linux on the emulated reference board, beside
// which the project's own kernel is measured and tested.
//
// Setup (the command internal/peer/cmd, behind make peer) takes Debian's armhf
// kernel with apt, and some programs, and keeps them under build/peer. Run boots the
// kernel with an initramfs that holds one first process (internal/peer/init), one
// program, and the libraries, kernel modules and files that it needs, and gives the
// program's output and exit code. The program can have the first Ethernet port, on
// the emulator's own network.
//
// Three things differ from Debian's kernel as a distribution would boot it:
//
//   - The device tree's architected timer is enabled (enableTimer tells why).
//     Linux so has its best clock: with Debian's tree it has none in its vDSO.
//   - The kernel's tests of its own ciphers are off. They take the processor for
//     seconds after the boot, beside whatever is measured then.
//   - Nothing but the program runs in user mode.
//
// The guest answers on the board's second serial port, so that the kernel's
// messages on the first one never mix with the program's output. Package guest
// has the protocol.
package peer
