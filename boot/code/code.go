// Package code is the list of the codes that a board in quarantine shows, and that its
// journal, its evidence and its events name: for each one a number, a name, a class, a
// sentence that says what happened, and the next step. docs/codes.md is the list for
// people; a test compares the two.
//
// In quarantine the board holds its host, has zeroed its secrets and attaches no volume.
// What it takes to leave is the class of the code:
//
//   - Transient: nothing is kept. The board tries again by itself at most [Retries]
//     times, and afresh whenever it is powered on.
//   - Latched: the code stays in NV memory of the TPM. Leaving takes a ticket that the
//     board's owner has signed for this board and this incident. Something happened that
//     does not happen by itself, and switching the power off and on must not hide it.
//   - Reprovision: what the board needs is not there and cannot be had from within it.
//     The factory's procedure has to run again.
//
// A code is never given a new meaning and a number is never used again.
package code

import (
	"errors"
	"fmt"
)

// A Code is a reason to refuse something. Its number has at most 16 bits, since the slot
// journal has no more room. None, 0, is no reason.
type Code uint16

// Retries is how often the board tries again by itself what ended in a transient code,
// without a power cycle.
const Retries = 3

// A Class says what it takes to leave quarantine.
type Class uint8

const (
	Transient Class = 1 + iota
	Latched
	Reprovision
)

func (c Class) String() string {
	switch c {
	case Transient:
		return "transient"
	case Latched:
		return "latched"
	case Reprovision:
		return "reprovision"
	}
	return fmt.Sprintf("class %d", uint8(c))
}

// An Entry is a line of the list.
type Entry struct {
	Code     Code
	Name     string // lower case, for programs
	Class    Class
	Sentence string // what happened
	Next     string // what to do
}

// Lookup finds the entry of a code.
func Lookup(c Code) (Entry, bool) {
	for _, e := range entries {
		if e.Code == c {
			return e, true
		}
	}
	return Entry{}, false
}

// All lists the entries by number.
func All() []Entry { return append([]Entry(nil), entries...) }

// String gives number and name.
func (c Code) String() string {
	if e, ok := Lookup(c); ok {
		return fmt.Sprintf("%d %s", c, e.Name)
	}
	return fmt.Sprintf("%d", uint16(c))
}

// Class is the code's. A number that is not in the list is latched: what is not known
// must not go away by itself.
func (c Code) Class() Class {
	if e, ok := Lookup(c); ok {
		return e.Class
	}
	return Latched
}

// An Error is an error that has a code.
type Error struct {
	Code Code
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%v [code %v]", e.Err, e.Code) }

// Unwrap gives the error without its code.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an error with this code, formatted as by fmt.Errorf.
func (c Code) Errorf(format string, args ...any) error {
	return &Error{c, fmt.Errorf(format, args...)}
}

// Of gives the code of an error: that of the outermost [Error] in its chain, or None.
func Of(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return None
}
