// Benchverify counts the instructions that the boot chain's verification takes on an
// emulated Cortex-A7. It prints a line for each figure,
//
//	name value unit peer peer_value ratio
//
// with "-" for the peer, since there is none, and writes the same as JSON. Run it in the
// module's directory. It needs Debian's qemu-user and gcc. Each operation runs twice with
// different numbers of passes and the difference is what counts, so starting up cancels
// out.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/boot/image/imagetest"
	"nitro/boot/medium"
)

var (
	dir  = flag.String("dir", "build/benchverify", "directory for what is built")
	file = flag.String("json", "build/bench-verify.json", "file for the figures as JSON")
)

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
	log.SetPrefix("benchverify: ")
	flag.Parse()
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		log.Fatal(err)
	}
	command([]string{"GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0"}, "go", "build", "-o", at("subject"), "./internal/benchverify/subject")
	command(nil, "gcc", "-O2", "-shared", "-fPIC", "-o", at("count.so"), "internal/insncount/user/count.c")
	medium := inputs()
	var all []figure
	for _, o := range []struct {
		name, operation, unit string
		scale                 float64
	}{
		{"verify.header", "header", "Minsn", 1e-6},
		{"verify.hash_10MiB", "hash", "Minsn", 10e-6},
		{"verify.configuration", "configuration", "Minsn", 1e-6},
		{"verify.decode_configuration", "decode", "Minsn", 1e-6},
		{"verify.decode_anchors", "anchors", "Minsn", 1e-6},
		{"verify.event_log", "log", "Minsn", 1e-6},
	} {
		const few, many = 2, 12
		n := run(o.operation, many, medium) - run(o.operation, few, medium)
		f := figure{Name: o.name, Value: float64(n) / (many - few) * o.scale, Unit: o.unit, Peer: "-"}
		fmt.Printf("%s %.3f %s %s %.3f %.3f\n", f.Name, f.Value, f.Unit, f.Peer, f.PeerValue, f.Ratio)
		all = append(all, f)
	}
	text, err := json.MarshalIndent(all, "", "\t")
	if err == nil {
		err = os.WriteFile(*file, append(text, '\n'), 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func at(name string) string { return filepath.Join(*dir, name) }

// inputs makes what lies on a medium: an anchor block with an authority of each purpose, a
// controller's image, and a configuration with two authorities and a key in each place.
func inputs() []string {
	owner := imagetest.Signer(image.Configure, "owner")
	anchors := &medium.Anchors{Authorities: []image.Authority{imagetest.Authority(image.Release, "maker"), imagetest.Authority(image.Configure, "owner")}}
	block, err := anchors.Encode()
	if err != nil {
		log.Fatal(err)
	}
	p256, err1 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err2 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	r, err3 := rsa.GenerateKey(rand.Reader, 3072)
	if err1 != nil || err2 != nil || err3 != nil {
		log.Fatal(err1, err2, err3)
	}
	conf, err := config.Sign(&config.Config{Epoch: 1, Product: imagetest.Product,
		Release: []image.Authority{imagetest.Authority(image.Release, "one"), imagetest.Authority(image.Release, "two")},
		P384:    []*ecdsa.PublicKey{&p384.PublicKey}, RSA3072: []*rsa.PublicKey{&r.PublicKey}, Owner: &p256.PublicKey}, 1, owner)
	if err != nil {
		log.Fatal(err)
	}
	controller := imagetest.Image(imagetest.Header(image.Controller, "1.0", 1), make([]byte, 1<<20), imagetest.Signer(image.Release, "maker"))
	files := []string{at("anchors"), at("image"), at("configuration")}
	for i, b := range [][]byte{block[:], controller[:image.HeaderSize], conf} {
		if err := os.WriteFile(files[i], b, 0o644); err != nil {
			log.Fatal(err)
		}
	}
	return files
}

// run is one run of the subject: instructions.
func run(operation string, passes int, medium []string) int64 {
	args := []string{"-cpu", "cortex-a7", "-plugin", at("count.so") + ",out=" + at("counts"), at("subject"), operation, fmt.Sprint(passes)}
	command([]string{"GODEBUG=asyncpreemptoff=1", "GOMAXPROCS=1"}, "qemu-arm", append(args, medium...)...)
	text, err := os.ReadFile(at("counts"))
	if err != nil {
		log.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		var n int64
		if _, err := fmt.Sscanf(line, "total %d", &n); err == nil {
			return n
		}
	}
	log.Fatalf("%s: no total in %q", at("counts"), text)
	return 0
}

// command runs a program to its end.
func command(env []string, name string, args ...string) {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), env...)
	if out, err := c.CombinedOutput(); err != nil {
		log.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
}
