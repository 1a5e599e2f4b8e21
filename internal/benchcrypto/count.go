package main

import (
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// classes are the classes of instructions that the plugin tells apart.
var classes = []string{"neon_q", "neon_d", "permute_q", "permute_d", "neon_load", "neon_store",
	"scalar_mem", "branch", "scalar"}

// counts are instructions for a byte by class. "neon_words" are the 8-byte
// words that NEON loads and stores move.
type counts map[string]float64

// model estimates issue cycles on a Cortex-A7, in order and without stalls.
type model struct {
	name   string
	weight map[string]float64
}

// The models. Both follow GCC's pipeline description of the Cortex-A7, which
// ARM contributed (gcc/config/arm/cortex-a7.md): no dual issue with NEON, a
// cycle for a scalar instruction, a cycle for eight bytes of memory. That file
// gives every NEON instruction two cycles, whatever its width and whatever it
// moves: model cycles_gcc. Model cycles is the harder one for code that uses
// memory much: two cycles for 128 bits and one for 64, as a 64-bit data path
// suggests, and loads and stores by their eight bytes. docs/xts.md compares it
// with what has been published for OpenSSL's AES on silicon.
var models = []model{
	{"cycles", map[string]float64{"neon_q": 2, "permute_q": 2, "neon_d": 1, "permute_d": 1,
		"neon_words": 1, "scalar_mem": 1, "branch": 1, "scalar": 1}},
	{"cycles_gcc", map[string]float64{"neon_q": 2, "permute_q": 2, "neon_d": 2, "permute_d": 2,
		"neon_load": 2, "neon_store": 2, "scalar_mem": 1, "branch": 1, "scalar": 1}},
}

// cycles is the estimate for a byte.
func (m model) cycles(c counts) (sum float64) {
	for class, weight := range m.weight {
		sum += weight * c[class]
	}
	return sum
}

// least is the lowest of three counts: a busy machine lets Go's runtime, which
// goes by the clock, execute more instructions of its own.
func (b programs) least(program []string, size, count int) counts {
	c := b.count(program, size, count)
	for range 2 {
		if again := b.count(program, size, count); again["total"] < c["total"] {
			c = again
		}
	}
	return c
}

// count runs a program under the plugin, in passes of count pieces of size
// bytes.
func (b programs) count(program []string, size, count int) counts {
	// Passes enough for the noise of Go's runtime to be small.
	passes := max(2, 1<<18/(size*count))
	few, many := b.run(program, size, count, passes), b.run(program, size, count, 3*passes)
	c := counts{}
	for class := range many {
		c[class] = float64(many[class]-few[class]) / float64(2*passes*size*count)
	}
	return c
}

// run is one run of a program: instructions by class.
func (b programs) run(program []string, size, count, passes int) map[string]int64 {
	out := filepath.Join(*dir, "counts")
	args := append([]string{"-cpu", "cortex-a7", "-plugin", b.plugin + ",out=" + out}, program...)
	args = append(args, fmt.Sprint(size), fmt.Sprint(count), fmt.Sprint(passes))
	if program[0] != b.peer {
		args = append(args, "1") // the seed
	}
	command([]string{"GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=1"}, "qemu-arm", args...)
	text, err := os.ReadFile(out)
	if err != nil {
		log.Fatal(err)
	}
	c := map[string]int64{}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		var class string
		var n int64
		if _, err := fmt.Sscan(line, &class, &n); err != nil {
			log.Fatalf("%s: %q: %v", out, line, err)
		}
		c[class] = n
	}
	return c
}

// command runs a program to its end.
func command(env []string, name string, args ...string) {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		log.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
