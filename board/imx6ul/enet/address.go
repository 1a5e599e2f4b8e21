package enet

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// An Address is a station's: 6 bytes (IEEE 802, 8.2). Package net's type is not used,
// since that package would come into every image with the driver.
type Address []byte

// String gives the address as IEEE 802 writes it, with colons.
func (a Address) String() string {
	var b []byte
	for i, v := range a {
		if i > 0 {
			b = append(b, ':')
		}
		b = fmt.Appendf(b, "%02x", v)
	}
	return string(b)
}

// Fuses are the chip's; ocotp.OCOTP is them.
type Fuses interface {
	Read(bank, word int) (uint32, error)
	UniqueID() (uint64, error)
}

// The fuses of the two ports' addresses: MAC_ADDR0 to MAC_ADDR2 (IMX6ULLRM 5.1, fuse
// map, 0x620 to 0x640). The lower 48 bits are port 1's, the upper 48 port 2's.
const (
	fuseBank = 4
	fuseWord = 2
)

// ErrNoAddress tells that nothing makes an address for the port.
var ErrNoAddress = errors.New("neither the address's fuses nor the chip's number are there: configure an address")

// usable tells whether an address can be a port's own: six bytes, not all zero, and
// no group's.
func usable(a Address) bool {
	return len(a) == 6 && a[0]&1 == 0 && string(a) != "\x00\x00\x00\x00\x00\x00"
}

// FusedAddress gives the address of port 1 or 2 that the chip's fuses hold. Where none
// was burnt it is a locally administered one (IEEE 802, 8.4), made from the chip's
// number, so it stays the same and no two chips share it but by chance.
func FusedAddress(port int, f Fuses) (Address, error) {
	if port != 1 && port != 2 {
		return nil, fmt.Errorf("enet: address of port %d: there are 1 and 2", port)
	}
	var all []byte // the address bits, highest first
	for word := fuseWord + 2; word >= fuseWord; word-- {
		v, err := f.Read(fuseBank, word)
		if err != nil {
			return nil, fmt.Errorf("enet: address of port %d: %w", port, err)
		}
		all = binary.BigEndian.AppendUint32(all, v)
	}
	a := Address(all[6*(2-port):][:6])
	if usable(a) {
		return a, nil
	}
	id, err := f.UniqueID()
	if err == nil && id == 0 {
		err = ErrNoAddress
	}
	if err != nil {
		return nil, fmt.Errorf("enet: address of port %d: %w", port, err)
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "Ethernet port %d of chip %#016x", port, id))
	a = Address(sum[:6])
	a[0] = a[0]&^1 | 2 // an individual's, locally administered
	return a, nil
}
