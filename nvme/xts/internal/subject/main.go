// Subject is a program that does nothing but XTS, to be counted and traced
// under emulation. Built with the tag xts_portable it uses the portable cipher
// on every machine.
//
// Usage:
//
//	subject IMPLEMENTATION DIRECTION SIZE COUNT PASSES SEED
//
// IMPLEMENTATION is nitro, this repository's, or x, golang.org/x/crypto/xts
// over the standard library's AES, which looks things up in tables on arm.
// DIRECTION is enc or dec. A pass is COUNT sectors of SIZE bytes. Key and data
// come from SEED.
package main

import (
	"crypto/aes"
	"log"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"

	reference "golang.org/x/crypto/xts"

	"nitro/nvme/xts"
)

// What is worked on lies at fixed addresses, so that traces compare.
var (
	key  [xts.KeySize256]byte
	data [1 << 20]byte
	own  xts.Key
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 7 {
		log.Fatal("usage: subject IMPLEMENTATION DIRECTION SIZE COUNT PASSES SEED")
	}
	size, count, passes, seed := number(3), number(4), number(5), number(6)
	if size*count > len(data) {
		log.Fatal("subject: too many sectors")
	}
	debug.SetGCPercent(-1)
	rng := rand.New(rand.NewPCG(uint64(seed), 0))
	for i := range key {
		key[i] = byte(rng.Uint32())
	}
	for i := range data[:size*count] {
		data[i] = byte(rng.Uint32())
	}
	run := map[string]func(size, count, passes int, encrypt bool){"nitro": nitro, "x": x}[os.Args[1]]
	if run == nil {
		log.Fatal("subject: no such implementation")
	}
	run(size, count, passes, os.Args[2] == "enc")
}

// number is a numeric argument.
func number(i int) int {
	n, err := strconv.Atoi(os.Args[i])
	if err != nil || n < 0 {
		log.Fatalf("subject: argument %d: %q", i, os.Args[i])
	}
	return n
}

// nitro runs this repository's XTS.
func nitro(size, count, passes int, encrypt bool) {
	if err := own.Init(key[:]); err != nil {
		log.Fatal(err)
	}
	run := own.Decrypt
	if encrypt {
		run = own.Encrypt
	}
	for range passes {
		if err := run(data[:size*count], data[:size*count], size, 1); err != nil {
			log.Fatal(err)
		}
	}
}

// x runs golang.org/x/crypto/xts.
func x(size, count, passes int, encrypt bool) {
	c, err := reference.NewCipher(aes.NewCipher, key[:])
	if err != nil {
		log.Fatal(err)
	}
	run := c.Decrypt
	if encrypt {
		run = c.Encrypt
	}
	for range passes {
		for i := range count {
			sector := data[i*size : (i+1)*size]
			run(sector, sector, uint64(1+i))
		}
	}
}
