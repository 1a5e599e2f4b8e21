package image

import "fmt"

// A Component is what an image is for.
type Component uint32

// The components (docs/medium.md, "Image").
const (
	Bootloader Component = 1 + iota
	Controller
	Configuration
	KnownGood // release part of the known-good set
	HostFirmware
	BMCFirmware
	CardFirmware
	PolicySet
)

// A Purpose is what an authority may sign.
type Purpose uint32

const (
	Release   Purpose = 1 // components that run, and what they are compared with
	Configure Purpose = 2 // the configuration and the policy set
)

func (p Purpose) String() string {
	switch p {
	case Release:
		return "release"
	case Configure:
		return "configuration"
	}
	return fmt.Sprintf("purpose %d", uint32(p))
}

// kind is what a header must say of one component.
type kind struct {
	name    string
	purpose Purpose
	max     uint64 // longest payload in bytes
	load    uint32 // physical address where the code's payload begins; 0: no code
}

// The maxima and addresses are those of docs/medium.md. Firmware of the host and its
// cards is at most as large as the largest SPI NOR flash that such parts have, 512 Mbit.
var kinds = [...]kind{
	Bootloader:    {"bootloader", Release, 5 << 20, 0x9800f000},
	Controller:    {"controller", Release, 32<<20 - HeaderSize, 0x8000f000},
	Configuration: {"configuration", Configure, 504 << 10, 0},
	KnownGood:     {"known-good set", Release, 60 << 10, 0},
	HostFirmware:  {"host firmware", Release, 64 << 20, 0},
	BMCFirmware:   {"BMC firmware", Release, 64 << 20, 0},
	CardFirmware:  {"card firmware", Release, 64 << 20, 0},
	PolicySet:     {"policy set", Configure, 504 << 10, 0},
}

func (c Component) kind() (kind, bool) {
	if c == 0 || int64(c) >= int64(len(kinds)) {
		return kind{}, false
	}
	return kinds[c], true
}

func (c Component) String() string {
	if k, ok := c.kind(); ok {
		return k.name
	}
	return fmt.Sprintf("component %d", uint32(c))
}

// Purpose is that of the authorities that may sign the component; 0 where the component
// is not known.
func (c Component) Purpose() Purpose {
	k, _ := c.kind()
	return k.purpose
}

// MaxLength is the length of the component's longest payload in bytes.
func (c Component) MaxLength() uint64 {
	k, _ := c.kind()
	return k.max
}

// Load is the physical address where the payload of a component that is code begins; 0
// where it is none.
func (c Component) Load() uint32 {
	k, _ := c.kind()
	return k.load
}
