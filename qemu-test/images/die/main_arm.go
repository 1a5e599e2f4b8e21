// Command die is an image that dies at each boot in another way: it reads from
// /dev/crash how it died last, and picks the way that follows. What it reads it
// tells on the console, for the test that follows the boots.
//
// Every way is a function, and is called by its name: in what the image says, in
// the Go runtime's trace, and so in the record's end of the console, from which
// the next boot knows it. The last way is to wait for a death that comes from
// outside; when no record is found the first way is next.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"runtime/debug"

	_ "nitro/board/evk"
)

// secret stands for a word of user memory, such as a piece of a key. It must not
// be seen on the console nor in the record.
const secret = 0x5ec2e7a9

var ways = []struct {
	name string
	die  func()
}{
	{"panics", func() { panics(secret) }},
	{"dereferencesNil", func() { dereferencesNil(nil, secret) }},
	{"exhaustsMemory", exhaustsMemory},
	{"overflowsStack", func() {
		debug.SetMaxStack(8 << 20) // of 250 MB, which take ten seconds to fill
		overflowsStack(secret)
	}},
	{"deadlocks", func() { deadlocks(secret) }},
	{"touchesAbsentDevice", touchesAbsentDevice},
	{"smashesStack", smashesStack},
	{"isKilled", isKilled},
	{"leavesWatchdog", leavesWatchdog},
	{"exits", exits},
	{"waits", waits},
}

func main() {
	record, err := os.ReadFile("/dev/crash")
	if err != nil {
		fmt.Println("die: no record to read:", err)
		os.Exit(1)
	}
	next := ways[tell(record)]
	fmt.Printf("die: main.%s\n", next.name)
	next.die()
}

// tell tells what the record holds, and returns the way that follows.
func tell(record []byte) int {
	if len(record) == 0 {
		fmt.Println("die: no record")
		return 0
	}
	first, tail, _ := bytes.Cut(record, []byte("\n"))
	fmt.Printf("die: record: %s\n", first)
	fmt.Printf("die: end of the console: %d bytes, SHA-256 %x\n", len(tail), sha256.Sum256(tail))
	last, at := 0, -1
	for i, w := range ways {
		if found := bytes.LastIndex(tail, []byte("main."+w.name)); found > at {
			last, at = i, found
		}
	}
	return min(last+1, len(ways)-1)
}
