// Package rig is what end-to-end tests speak to, be it the emulator or a board on a bench: a
// serial console, two TCP ports of the board's service network, and its power. docs/hil.md has
// the file that describes one, the wiring, and what the tests need beside it.
//
// What only an emulator can do is not here: dumps of RAM, pins seen and moved, cards changed
// under a board. Tests that need that stand on package rack.
package rig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"nitro/qemu-test/console"
)

// A Port is one of the board's that a rig leads to.
type Port string

// The ports.
const (
	Service      Port = "service"      // HTTPS, 443
	Provisioning Port = "provisioning" // the board's end of provisioning, 4430
)

// ErrNoPort is why an address is not there: the rig does not lead to that port.
var ErrNoPort = errors.New("rig: it does not lead to this port of the board")

// A Board is a controller that can be switched on and off. One test has it at a time.
type Board interface {
	// Console is the same over all times of power.
	Console() *console.Console
	// Address gives host and port, over this machine's network, that lead to a port of the board.
	Address(p Port) (string, error)
	// On gives power. A board that has it stays on.
	On(ctx context.Context) error
	// Off takes the power away without warning, and returns when the board has none any more. A
	// board without power stays off.
	Off(ctx context.Context) error
	// Close leaves the board without power, and gives back what the rig holds.
	Close() error
}

// A Rig is a board, with what tests have to know of it.
type Rig struct {
	Board
	Name      string
	Limit     time.Duration // for a step of the board's
	Materials string        // folder: docs/hil.md, "Materials"
}

// Material gives the path of a file or folder among the materials.
func (r *Rig) Material(name string) string { return filepath.Join(r.Materials, name) }

// Has tells whether something is among the materials.
func (r *Rig) Has(name string) bool {
	_, err := os.Stat(r.Material(name))
	return err == nil
}

// Open makes the rig that a file describes, without power. What the console says also goes to
// a writer, unless that is nil. Who calls it must call Close.
func Open(ctx context.Context, path string, log io.Writer) (*Rig, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	d, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", err, path)
	}
	r := &Rig{Name: d.Name, Limit: time.Duration(d.LimitSeconds) * time.Second}
	if d.Kind == KindEmulator {
		e, err := newEmulated(ctx, log)
		if err != nil {
			return nil, err
		}
		r.Board, r.Materials = e, e.materials()
		return r, nil
	}
	folder, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("rig: %w", err)
	}
	r.Materials = within(folder, d.Materials)
	if !r.Has("release") || !r.Has("issuer.pem") {
		return nil, fmt.Errorf("rig: %s has no release/ and issuer.pem: put there what docs/hil.md, \"Materials\", lists", r.Materials)
	}
	b, err := newBench(d, folder, log)
	if err != nil {
		return nil, err
	}
	r.Board = b
	return r, nil
}

// within makes a path absolute that begins at a folder.
func within(folder, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(folder, path)
}

// readFile reads a description, and no more of it than may be.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("rig: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1)) // one more than Parse takes
	if err != nil {
		return nil, fmt.Errorf("rig: %s: %w", path, err)
	}
	return text, nil
}
