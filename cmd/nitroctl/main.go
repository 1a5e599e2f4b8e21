// Command nitroctl is the tool of factory and operator: it makes keys, signs images,
// builds releases and cards, and says what is in each; it provisions boards, asks them how
// they stand, verifies their evidence, and has them serve encrypted volumes.
// docs/nitroctl.md describes it.
//
// What has a flag -board speaks to one; all else works offline, on files. What prints a
// result prints it for people, or with -o json in a form that does not change
// (docs/nitroctl.md, "JSON").
//
// # Where to add a command
//
// A group of commands has a file of its own with a variable of type group; main.go lists
// the groups. One whose only command has no name is a command of one word. A command says its flags in setup, and gives its result as a value that is
// both JSON and text. Nothing else reads arguments, prints, or ends the program.
package main

import (
	"io"
	"os"
)

// groups are all commands, in the order of the help.
var groups = []*group{keysGroup, imageGroup, releaseGroup, sealGroup, cardGroup, goldenGroup, configGroup, policyGroup, provisionGroup, statusGroup, attestGroup, ticketGroup, hostGroup, certGroup, updateGroup, auditGroup, volumeGroup, gatewayGroup, keyserviceGroup, contextGroup}

func main() {
	os.Exit(run(os.Args[1:], streams{os.Stdout, os.Stderr, terminal(os.Stderr)}))
}

// streams are what the program writes to.
type streams struct {
	out, err io.Writer
	progress bool // err is a terminal: show how far long work is
}

// terminal tells whether a file is one.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && info.Mode()&os.ModeDevice != 0
}
