// Package kernel answers, on a bare Cortex-A7, the Linux/arm system calls that
// the unmodified Go runtime makes.
//
// A firmware image is an ordinary linux/arm Go program that imports a board
// package (such as board/evk). The board's entry symbol brings the processor up
// (board/cpu) and calls this package, which builds page tables, starts thread 1
// at the Go runtime's own entry point in User mode, and from then on runs only
// on exceptions: system calls, interrupts, aborts. It is a small preemptive
// kernel with threads, futexes, demand-paged memory, epoll, signals, a clock
// with a vDSO, a random generator, and interrupts as files.
//
// What a program finds:
//
//   - memory: anonymous private mappings between 0x10000000 and 0x80000000,
//     paged in on demand, strictly accounted (mmap fails, a page fault never
//     does); W^X always; page 0 never mapped;
//   - files: /dev/null, /dev/irq/N (an interrupt line, with the ABI of Linux's
//     UIO), /dev/mem (the device pages that the board allows, and DMA memory),
//     /dev/urandom, /dev/seed, /dev/watchdog, /dev/kernel (statistics),
//     /dev/crash (the previous boot's crash record), /dev/next (starts another
//     image, where the board allows it); eventfd and epoll;
//     descriptor 0 is always at its end, 1 and 2 are the console;
//   - threads: up to [MaxThreads], first come first served with time slices,
//     signals as in Linux, two processors reported (there is one).
//
// All kernel state lies in a reserved megabyte at the top of RAM that User mode
// cannot reach. Kernel code runs with interrupts masked, on a stack of its own,
// never allocates, stores no Go pointers, and uses no floating-point register;
// a test holds its machine code to that.
//
// The kernel, its ABI and its limits are described in docs/kernel.md. The ABI is
// that of Linux 5.10 for ARM EABI (include/uapi, arch/arm/include/uapi); the
// machine is described in the ARM Architecture Reference Manual, ARMv7-A and
// ARMv7-R edition (DDI 0406C, here "ARM ARM"), in the ARM Generic Interrupt
// Controller v2 specification (IHI 0048B) and in the i.MX 6UltraLite reference
// manual (IMX6ULRM Rev. 2).
package kernel
