// Benchstore counts what the encrypted store needs: instructions on an emulated
// Cortex-A7, sectors read and written, and steps of the counter. It prints a line for
// each figure,
//
//	name value unit peer peer_value ratio
//
// where there is no peer, and writes the same as JSON. Run it in the module's directory.
// It needs Debian's qemu-user and gcc.
//
// Each work runs twice with different numbers of passes and the difference is what counts,
// so that starting up cancels out. Instructions are exact but for what Go's runtime does by
// the clock and for garbage, a percent or two.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

var (
	dir  = flag.String("dir", "build/benchstore", "directory for what is built")
	file = flag.String("json", "build/bench-store.json", "file for the figures as JSON")
)

// A figure is a line of output.
type figure struct {
	Name      string  `json:"name"`
	Value     float64 `json:"value"`
	Unit      string  `json:"unit"`
	Peer      string  `json:"peer"`
	PeerValue float64 `json:"peer_value"`
	Ratio     float64 `json:"ratio"`
}

// works are those of boot/store/internal/subject.
var works = []struct {
	name     string
	few      int // passes, and three times as many
	payload  float64
	unit     string
	perBytes bool
}{
	{"put1m", 2, 1 << 20, "insn/B", true},
	{"get1m", 2, 1 << 20, "insn/B", true},
	{"put256", 512, 256, "insn", false},
	{"put256full", 128, 256, "insn", false},
	{"get256full", 500, 256, "insn", false},
	{"checkpoint", 20, 256, "insn", false},
	{"checkpointfull", 5, 256, "insn", false},
	{"mount", 2, 1, "insn", false},
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("benchstore: ")
	flag.Parse()
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		log.Fatal(err)
	}
	at := func(name string) string { return filepath.Join(*dir, name) }
	run([]string{"GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0"}, "go", "build", "-o", at("arm"), "./boot/store/internal/subject")
	run(nil, "go", "build", "-o", at("native"), "./boot/store/internal/subject")
	run(nil, "gcc", "-O2", "-shared", "-fPIC", "-o", at("count.so"), "internal/insncount/user/count.c")
	run(nil, at("native"), "fill", at("full"))
	var all []figure
	for _, w := range works {
		few, many := measure(at, w.name, w.few), measure(at, w.name, 3*w.few)
		each := func(i int) float64 { return (many[i] - few[i]) / float64(2*w.few) }
		insns := each(0)
		if w.perBytes {
			insns /= w.payload
		}
		name := "store." + w.name
		all = append(all, figure{Name: name, Value: insns, Unit: w.unit},
			figure{Name: name + ".read", Value: each(1), Unit: "sectors"},
			figure{Name: name + ".written", Value: each(2), Unit: "sectors"},
			figure{Name: name + ".steps", Value: each(3), Unit: "steps"})
		if w.payload > 1 && strings.HasPrefix(w.name, "put") {
			all = append(all, figure{Name: name + ".amplification", Value: each(2) * 512 / w.payload, Unit: "B/B"})
		}
	}
	for _, f := range all {
		fmt.Printf("%s %.3f %s - 0 0\n", f.Name, f.Value, f.Unit)
	}
	text, err := json.MarshalIndent(all, "", "\t")
	if err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(*file, append(text, '\n'), 0o644); err != nil {
		log.Fatal(err)
	}
}

// measure does a work so many times: instructions, sectors read, sectors written, steps.
func measure(at func(string) string, work string, times int) (m [4]float64) {
	out := run([]string{"GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=1"}, "qemu-arm", "-cpu", "cortex-a7", "-plugin", at("count.so")+",out="+at("counts"),
		at("arm"), work, at("full"), fmt.Sprint(times))
	if _, err := fmt.Sscan(string(out), &m[1], &m[2], &m[3]); err != nil {
		log.Fatalf("%s: %q: %v", work, out, err)
	}
	text, err := os.ReadFile(at("counts"))
	if err != nil {
		log.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		if n, found := bytes.CutPrefix(line, []byte("total ")); found {
			if _, err := fmt.Sscan(string(n), &m[0]); err != nil {
				log.Fatal(err)
			}
		}
	}
	return m
}

// run runs a program to its end and gives its output.
func run(env []string, name string, args ...string) []byte {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		log.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return out
}
