package enet

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
)

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
func usable(a net.HardwareAddr) bool {
	return len(a) == 6 && a[0]&1 == 0 && string(a) != "\x00\x00\x00\x00\x00\x00"
}

// FusedAddress gives the address of port 1 or 2 that the chip's fuses hold. Where none
// was burnt it is a locally administered one (IEEE 802, 8.4), made from the chip's
// number, so it stays the same and no two chips share it but by chance.
func FusedAddress(port int, f Fuses) (net.HardwareAddr, error) {
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
	a := net.HardwareAddr(all[6*(2-port):][:6])
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
	a = net.HardwareAddr(sum[:6])
	a[0] = a[0]&^1 | 2 // an individual's, locally administered
	return a, nil
}

// allGroups is the hash that lets all groups through.
const allGroups = ^uint64(0)

// groupBit gives the bit of a group's address in GAUR and GALR: the upper six bits of
// the address's CRC (22.5.2.4), as the FCS is computed, not inverted.
func groupBit(a net.HardwareAddr) uint64 { return 1 << (^crc32.ChecksumIEEE(a) >> 26) }

// SetGroups has the block receive the frames for some groups (multicast addresses)
// only, and for broadcast. It goes by a hash of 64 values, so others may come too.
// Until it is called all groups are received, as they are under emulation always.
func (p *Port) SetGroups(groups ...net.HardwareAddr) error {
	var hash uint64
	for _, a := range groups {
		if len(a) != 6 || a[0]&1 == 0 {
			return fmt.Errorf("enet: %v is not a group's address", a)
		}
		hash |= groupBit(a)
	}
	p.rx.mu.Lock()
	defer p.rx.mu.Unlock()
	p.group = hash
	p.regs.Write32(regGAUR, uint32(hash>>32))
	p.regs.Write32(regGALR, uint32(hash))
	return nil
}
