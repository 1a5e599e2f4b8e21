// Package sha256 computes SHA-256 (FIPS 180-4) as fast as a Cortex-A7 can.
//
// It stands for crypto/sha256 wherever much is hashed: images, components, logs. On
// ARMv7 (GOARCH=arm, GOARM=7) the compression function is in assembly that
// internal/gen writes: the message schedule of two blocks at once in NEON, among
// scalar rounds. docs/sha256.md explains it and counts instructions. It takes NEON for
// granted, which every processor that this firmware runs on has. Elsewhere the
// package is crypto/sha256 by another name.
//
// SHA-224 is left out, and so are the checks of FIPS 140. As crypto/sha256 does, a
// hash leaves parts of the message in memory and on the stack when it is done.
package sha256

import "hash"

//go:generate go run ./internal/gen

const (
	// Size is the length of a digest in bytes.
	Size = 32
	// BlockSize is the length in bytes of what the function takes at a time.
	BlockSize = 64
)

// New returns a hash that computes SHA-256. It also implements hash.Cloner and
// encoding's BinaryMarshaler, BinaryAppender and BinaryUnmarshaler; the state has the
// form that crypto/sha256 gives it, and either package can go on with the other's.
func New() hash.Hash { return newHash() }

// Sum256 returns the SHA-256 digest of data.
func Sum256(data []byte) [Size]byte { return sum(data) }
