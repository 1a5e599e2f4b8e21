//go:build !arm.7

package sha256

import (
	"crypto/sha256"
	"hash"
)

func newHash() hash.Hash { return sha256.New() }

func sum(data []byte) [Size]byte { return sha256.Sum256(data) }
