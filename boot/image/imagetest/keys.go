// Package imagetest makes keys and images for tests. Its keys are known to everybody who
// has read this file, so nothing that they sign is worth anything.
package imagetest

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"

	"filippo.io/mldsa"

	"nitro/boot/image"
)

// Signer makes a pair of keys from a name: the same ones each time.
func Signer(p image.Purpose, name string) image.Signer {
	seed := sha256.Sum256([]byte(fmt.Sprintf("nitro test keys: %v %s", p, name)))
	m, err := mldsa.NewPrivateKey(mldsa.MLDSA65(), seed[:])
	if err != nil {
		panic(err) // 32 bytes are a seed
	}
	return image.Signer{Purpose: p, Ed25519: ed25519.NewKeyFromSeed(seed[:]), MLDSA65: m}
}

// Authority is the public half of [Signer].
func Authority(p image.Purpose, name string) image.Authority {
	a, err := Signer(p, name).Authority()
	if err != nil {
		panic(err) // the keys are of the right kinds
	}
	return a
}

// Header is one that a board of the product "imx6ul-evk" accepts: what a test does not
// care about has been filled in.
func Header(c image.Component, version string, securityVersion uint32) image.Header {
	h := image.Header{Component: c, Version: version, SecurityVersion: securityVersion, Product: Product, Built: 1767225600}
	if load := c.Load(); load != 0 {
		h.Load, h.Entry = load, load+4
	}
	return h
}

// Product is that of [Header].
const Product = "imx6ul-evk"

// Image is a whole signed image: header, then payload.
func Image(h image.Header, payload []byte, s image.Signer) []byte {
	b, err := image.Sign(h, payload, s)
	if err != nil {
		panic(err) // the test's header is not one
	}
	return append(b[:], payload...)
}
