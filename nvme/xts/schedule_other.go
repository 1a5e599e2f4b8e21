//go:build !arm

package xts

// schedule is the key schedule of this machine's cipher.
type schedule = fixsliced
