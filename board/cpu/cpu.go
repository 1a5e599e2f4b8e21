// Package cpu brings a Cortex-A7 up from whatever the boot ROM or a boot loader
// left, to the point where board/kernel takes over: SVC mode, interrupts masked,
// MMU and data cache off, caches, branch predictor and TLBs without stale
// entries, and the floating-point unit on.
//
// It follows the Cortex-A7 MPCore Technical Reference Manual (DDI 0464F) and the
// ARM Architecture Reference Manual, ARMv7-A (DDI 0406C). It supports one core in
// the Secure state, which is how the i.MX 6UltraLite starts; it does not leave
// HYP mode.
//
// A board's entry symbol branches to start with the address of its
// kernel.Config in R0.
package cpu
