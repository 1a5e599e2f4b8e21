// Gen writes the parts of package sha256 that are for ARM: constants_arm.go, the
// constants of FIPS 180-4 in the form that the assembly wants, and kernel_arm.s,
// the compression function in scalar and NEON instructions. Run it with go
// generate in the package's directory.
package main

import (
	"log"
	"os"
)

const (
	generator  = "nitro/attest/sha256/internal/gen"
	constraint = "arm.7"
)

func main() {
	log.SetFlags(0)
	files, err := generate()
	if err != nil {
		log.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(name, text, 0o644); err != nil {
			log.Fatal(err)
		}
	}
}

// generate makes the files, by name.
func generate() (map[string][]byte, error) {
	constants, err := constants()
	if err != nil {
		return nil, err
	}
	kernel, err := compression()
	return map[string][]byte{"constants_arm.go": constants, "kernel_arm.s": kernel}, err
}
