// Package guest is what the peer's two halves say to each other: the host side
// (package peer) writes an Order into the initramfs; the guest side
// (internal/peer/init, the first process of the emulated Linux) carries it out
// and answers on a serial port that the kernel's own messages never use.
//
// The answer is a byte stream:
//
//	peer:NONCE:begin\n
//	what the program wrote, standard output and standard error in one
//	\npeer:NONCE:end STATUS\n
//
// STATUS is "exit N" (the program ended with code N) or "signal N" (signal N
// killed it). When the guest could not start the program there is only
//
//	\npeer:NONCE:fail MESSAGE\n
//
// The nonce is drawn anew for each run, so a program cannot print a marker by
// accident.
package guest

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// OrderPath is where the Order lies in the initramfs, encoded as JSON.
const OrderPath = "/peer/order.json"

// Port is the device on which the guest answers: the board's second UART. The
// first one carries the kernel's messages.
const Port = "/dev/ttymxc1"

// An Order is what the guest shall do.
type Order struct {
	Nonce   string   // marks the begin and the end of the output
	Program string   // the program's path in the guest
	Args    []string // its arguments, without the program's name
	Env     []string // its environment, KEY=value
	Modules []string // paths of kernel modules, loaded in this order before the program starts

	Address netip.Prefix // of the first Ethernet port, IPv4; zero: no network
}

// A Status is how the program ended: with an exit code, or by a signal.
type Status struct {
	Exit   int // exit code; -1 when a signal ended the program
	Signal int // number of the signal that ended it; 0 when it ended by itself
}

// String gives the status as the end marker spells it.
func (s Status) String() string {
	if s.Signal != 0 {
		return fmt.Sprintf("signal %d", s.Signal)
	}
	return fmt.Sprintf("exit %d", s.Exit)
}

// Begin is the marker before the program's output.
func Begin(nonce string) string { return "peer:" + nonce + ":begin\n" }

// End is the marker after the program's output.
func End(nonce string, s Status) string { return "\npeer:" + nonce + ":end " + s.String() + "\n" }

// Fail is the marker that takes the place of the output when the guest could
// not run the program. Line feeds in the message become spaces.
func Fail(nonce string, err error) string {
	return "\npeer:" + nonce + ":fail " + strings.ReplaceAll(err.Error(), "\n", " ") + "\n"
}

// ErrNoEnd says that the stream stops before its end marker: the guest died,
// or it was stopped.
var ErrNoEnd = errors.New("no end marker")

// Parse splits a stream into the program's output and its status. The error is
// ErrNoEnd (with what there is of the output) when the stream is cut, and the
// guest's own words when it could not run the program.
func Parse(stream []byte, nonce string) ([]byte, Status, error) {
	if _, said, ok := bytes.Cut(stream, []byte("\npeer:"+nonce+":fail ")); ok {
		line, _, _ := bytes.Cut(said, []byte("\n"))
		return nil, Status{}, errors.New(string(line))
	}
	_, body, ok := bytes.Cut(stream, []byte(Begin(nonce)))
	if !ok {
		return nil, Status{}, ErrNoEnd
	}
	output, said, ok := bytes.Cut(body, []byte("\npeer:"+nonce+":end "))
	if !ok {
		return body, Status{}, ErrNoEnd
	}
	line, _, ok := bytes.Cut(said, []byte("\n"))
	if !ok {
		return output, Status{}, ErrNoEnd
	}
	s, err := parseStatus(string(line))
	return output, s, err
}

// parseStatus reads what Status.String wrote.
func parseStatus(line string) (Status, error) {
	kind, number, _ := strings.Cut(line, " ")
	n, err := strconv.Atoi(number)
	switch {
	case err == nil && kind == "exit" && n >= 0:
		return Status{Exit: n}, nil
	case err == nil && kind == "signal" && n > 0:
		return Status{Exit: -1, Signal: n}, nil
	}
	return Status{}, fmt.Errorf("bad end marker %q", line)
}
