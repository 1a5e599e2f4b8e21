// Package counter reads the processor's virtual counter from User mode (ARM DDI 0406C,
// B8.1), to find out whether its time is a count of instructions.
package counter
