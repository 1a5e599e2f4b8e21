// Subject is a program that does nothing but SHA-256, to be counted under emulation.
//
// Usage:
//
//	subject IMPLEMENTATION SIZE COUNT PASSES SEED
//
// IMPLEMENTATION is nitro, this repository's, or go, the standard library's. A pass is
// COUNT messages of SIZE bytes each, which come from SEED.
package main

import (
	standard "crypto/sha256"
	"log"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"

	"nitro/attest/sha256"
)

var data [1 << 20]byte

func main() {
	log.SetFlags(0)
	if len(os.Args) != 6 {
		log.Fatal("usage: subject IMPLEMENTATION SIZE COUNT PASSES SEED")
	}
	size, count, passes, seed := number(2), number(3), number(4), number(5)
	if size > len(data) {
		log.Fatal("subject: message too long")
	}
	debug.SetGCPercent(-1)
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	for i := range data[:size] {
		data[i] = byte(rng.Uint32())
	}
	run := map[string]func([]byte) [sha256.Size]byte{"nitro": sha256.Sum256, "go": standard.Sum256}[os.Args[1]]
	if run == nil {
		log.Fatal("subject: no such implementation")
	}
	for range passes * count {
		digest := run(data[:size])
		data[0] ^= digest[0]
	}
}

// number is a numeric argument.
func number(i int) int {
	n, err := strconv.Atoi(os.Args[i])
	if err != nil || n < 0 {
		log.Fatalf("subject: argument %d: %q", i, os.Args[i])
	}
	return n
}
