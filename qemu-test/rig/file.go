package rig

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"

	"nitro/attest/ijson"
)

// Bounds of a description (docs/hil.md).
const (
	Version = 1

	maxFile  = 64 << 10
	maxDepth = 4
	maxName  = 64
	maxWords = 32   // of a command
	maxText  = 4096 // of a path or a word
)

// Kinds of rigs.
const (
	KindEmulator = "emulator"
	KindBench    = "bench"
)

// A Description is a rig's file.
type Description struct {
	Version      int      `json:"version"`
	Name         string   `json:"name"`
	Kind         string   `json:"kind"`
	LimitSeconds int      `json:"limit_seconds"`
	Console      *Serial  `json:"console"`
	Network      *Network `json:"network"`
	Power        *Power   `json:"power"`
	Materials    string   `json:"materials"`
}

// A Serial is the device that the console comes from.
type Serial struct {
	Device string `json:"device"`
	Baud   int    `json:"baud"`
}

// A Network is where the board's ports are, each as host and port.
type Network struct {
	Service      string `json:"service"`
	Provisioning string `json:"provisioning"` // "": the rig does not provision
}

// Power is how the board's is switched.
type Power struct {
	On           []string `json:"on"`
	Off          []string `json:"off"`
	LimitSeconds int      `json:"limit_seconds"` // of a command
	OffSeconds   *int     `json:"off_seconds"`   // that the board stays off
}

// What is left out is this.
const (
	defaultLimit      = 600
	defaultBaud       = 115200
	defaultPowerLimit = 10
	defaultOff        = 5
)

// Parse reads a description, and fills in what was left out. It takes nothing that it does not
// know, and nothing out of bounds.
func Parse(text []byte) (*Description, error) {
	d := &Description{}
	if err := ijson.Decode(text, ijson.Limit{Size: maxFile, Depth: maxDepth}, d); err != nil {
		return nil, fmt.Errorf("rig: %w: see docs/hil.md", err)
	}
	if err := d.complete(); err != nil {
		return nil, fmt.Errorf("rig: %w: see docs/hil.md", err)
	}
	return d, nil
}

func (d *Description) complete() error {
	if d.Version != Version {
		return fmt.Errorf("version %d, not %d", d.Version, Version)
	}
	if !printable(d.Name, maxName) {
		return fmt.Errorf("name has 1 to %d printable characters", maxName)
	}
	if err := number("limit_seconds", &d.LimitSeconds, defaultLimit, 10, 3600); err != nil {
		return err
	}
	switch d.Kind {
	case KindEmulator:
		if d.Console != nil || d.Network != nil || d.Power != nil || d.Materials != "" {
			return errors.New("an emulator has no console, network, power and materials of its own")
		}
		return nil
	case KindBench:
		return d.completeBench()
	}
	return fmt.Errorf("kind %q is neither %s nor %s", d.Kind, KindEmulator, KindBench)
}

func (d *Description) completeBench() error {
	if d.Console == nil || d.Network == nil || d.Power == nil || !text(d.Materials) {
		return errors.New("a bench needs console, network, power and materials")
	}
	if !text(d.Console.Device) {
		return errors.New("console.device is missing")
	}
	if d.Console.Baud == 0 {
		d.Console.Baud = defaultBaud
	}
	if !slices.Contains(Bauds(), d.Console.Baud) {
		return fmt.Errorf("console.baud %d: use one of %v", d.Console.Baud, Bauds())
	}
	if err := address("network.service", d.Network.Service); err != nil {
		return err
	}
	if d.Network.Provisioning != "" {
		if err := address("network.provisioning", d.Network.Provisioning); err != nil {
			return err
		}
	}
	return d.Power.complete()
}

func (p *Power) complete() error {
	for name, command := range map[string][]string{"power.on": p.On, "power.off": p.Off} {
		if len(command) < 1 || len(command) > maxWords || !text(command[0]) {
			return fmt.Errorf("%s has a program and at most %d words in all", name, maxWords)
		}
		for _, word := range command {
			if len(word) > maxText || slices.Contains([]byte(word), 0) {
				return fmt.Errorf("%s: a word has at most %d bytes, and no NUL", name, maxText)
			}
		}
	}
	if p.OffSeconds == nil {
		p.OffSeconds = new(int)
		*p.OffSeconds = defaultOff
	}
	if *p.OffSeconds < 0 || *p.OffSeconds > 60 {
		return errors.New("power.off_seconds is 0 to 60")
	}
	return number("power.limit_seconds", &p.LimitSeconds, defaultPowerLimit, 1, 120)
}

// number fills a number in, and holds it to its bounds.
func number(name string, n *int, usual, low, high int) error {
	if *n == 0 {
		*n = usual
	}
	if *n < low || *n > high {
		return fmt.Errorf("%s is %d to %d", name, low, high)
	}
	return nil
}

// address checks a host with a port.
func address(name, s string) error {
	host, port, err := net.SplitHostPort(s)
	if err == nil && (!printable(host, 253) || len(s) > maxText) { // RFC 1035, 2.3.4
		err = errors.New("no host")
	}
	if n, numberErr := strconv.ParseUint(port, 10, 16); err == nil && (numberErr != nil || n == 0) {
		err = errors.New("the port is 1 to 65535")
	}
	if err != nil {
		return fmt.Errorf("%s: %w: write 192.0.2.10:443", name, err)
	}
	return nil
}

// text tells whether a path is there and no longer than paths are.
func text(s string) bool { return s != "" && len(s) <= maxText && !slices.Contains([]byte(s), 0) }

// printable tells whether a text is there, has at most so many characters, and they are ASCII
// that shows.
func printable(s string, most int) bool {
	return s != "" && len(s) <= most && !slices.ContainsFunc([]byte(s), func(b byte) bool { return b < ' ' || b > '~' })
}
