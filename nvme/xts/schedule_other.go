//go:build !arm || xts_portable

package xts

// schedule is the key schedule of this machine's cipher.
type schedule = fixsliced

// tweakSchedule is the key schedule for tweaks.
type tweakSchedule = fixsliced
