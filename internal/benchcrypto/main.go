// Benchcrypto counts the instructions that this repository's ciphers and hashes need
// for a byte on an emulated Cortex-A7, by class, beside OpenSSL's and others', all in
// one run. Its argument is the area: xts, package nvme/xts, or sha256, package
// attest/sha256. It prints a line for each figure,
//
//	name value unit peer peer_value ratio
//
// and writes the same as JSON. Run it in the module's directory. It needs
// Debian's qemu-user, gcc, gcc-arm-linux-gnueabihf and libc6-dev-armhf-cross:
// OpenSSL comes from the libssl-dev of Debian 12's armhf, which it fetches.
//
// Each program runs twice with different numbers of passes and the difference
// is what counts, so that starting up cancels out. Counts are exact but for
// what Go's runtime does by the clock, a percent at most.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
)

var (
	dir  = flag.String("dir", "build/benchcrypto", "directory for what is built")
	file = flag.String("json", "", "file for the figures as JSON (default build/bench-AREA.json)")
)

// areas measure, and add a line for each figure.
var areas = map[string]func(add func(figure)){"xts": xts, "sha256": sha256}

// figure is a line of output.
type figure struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Peer      string  `json:"peer"`
	PeerValue float64 `json:"peer_value"`
	Ratio     float64 `json:"ratio"`
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("benchcrypto: ")
	flag.Parse()
	area := flag.Arg(0)
	measure := areas[area]
	if measure == nil || flag.NArg() != 1 {
		log.Fatal("which area is to be measured: xts or sha256?")
	}
	if *file == "" {
		*file = "build/bench-" + area + ".json"
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		log.Fatal(err)
	}
	var all []figure
	measure(func(f figure) {
		fmt.Printf("%s %.3f %s %s %.3f %.3f\n", f.Name, f.Value, f.Unit, f.Peer, f.PeerValue, f.Ratio)
		all = append(all, f)
	})
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(*file, append(text, '\n'), 0o644); err != nil {
		log.Fatal(err)
	}
}

// beside is a figure next to OpenSSL's.
func beside(name, unit string, value, peer float64) figure {
	f := figure{Name: name, Value: value, Unit: unit, Peer: "openssl", PeerValue: peer}
	if peer != 0 {
		f.Ratio = value / peer
	}
	return f
}

// details are the estimates of cycles and the classes of instructions.
func details(add func(figure), name string, own, openssl counts) {
	for _, m := range models {
		add(beside(name+"."+m.name, "cycles/B", m.cycles(own), m.cycles(openssl)))
	}
	for _, c := range classes {
		add(beside(name+"."+c, "insn/B", own[c], openssl[c]))
	}
	add(beside(name+".neon_words", "words/B", own["neon_words"], openssl["neon_words"]))
}
