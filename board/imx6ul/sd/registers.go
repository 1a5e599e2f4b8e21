package sd

import "fmt"

// bits gives bits hi to lo, at most 32, of a register whose first byte on the wire
// holds its highest bits.
func bits(register []byte, hi, lo int) uint32 {
	var v uint32
	for i := hi; i >= lo; i-- {
		b := register[len(register)-1-i/8] >> (i % 8) & 1
		v = v<<1 | uint32(b)
	}
	return v
}

// A CID identifies a card (5.2).
type CID [16]byte

// Serial gives the product's serial number (PSN).
func (c CID) Serial() uint32 { return bits(c[:], 55, 24) }

// String gives maker (MID, OID), product (PNM), revision (PRV), serial number and
// the month of making (MDT).
func (c CID) String() string {
	revision, date := bits(c[:], 63, 56), bits(c[:], 19, 8)
	return fmt.Sprintf("%q %d.%d of %#02x/%q, serial %08x, made %d-%02d", c[3:8], revision>>4, revision&0xf,
		c[0], c[1:3], c.Serial(), 2000+date>>4, date&0xf)
}

// A CSD is what the firmware wants of the card-specific data (5.3).
type CSD struct {
	Blocks    uint64 // of 512 bytes
	ByteAddr  bool   // addresses are in bytes: version 1.0, SDSC
	HasSwitch bool   // CMD6: command class 10
	Protected bool   // PERM_WRITE_PROTECT or TMP_WRITE_PROTECT
}

// ParseCSD reads versions 1.0 (SDSC) and 2.0 (SDHC, SDXC). Its last byte, the CRC,
// has been checked by the controller.
func ParseCSD(r [16]byte) (CSD, error) {
	c := CSD{
		HasSwitch: bits(r[:], 95, 84)>>10&1 != 0,
		Protected: bits(r[:], 13, 12) != 0,
	}
	switch version := bits(r[:], 127, 126); version {
	case 0: // 5.3.2
		size, mult, length := bits(r[:], 73, 62), bits(r[:], 49, 47), bits(r[:], 83, 80)
		if length < 9 || length > 11 {
			return CSD{}, fmt.Errorf("sd: CSD %x: blocks of 2^%d bytes, not 2^9 to 2^11: %w", r, length, ErrNonsense)
		}
		c.Blocks = (uint64(size) + 1) << (mult + 2 + length - 9)
		c.ByteAddr = true
	case 1: // 5.3.3: units of 512 KiB
		c.Blocks = (uint64(bits(r[:], 69, 48)) + 1) * 1024
	default:
		return CSD{}, fmt.Errorf("sd: CSD %x: structure %d, not 0 or 1 (SDUC is not supported): %w", r, version, ErrNonsense)
	}
	return c, nil
}

// An SCR is what the firmware wants of the SD configuration register (5.6).
type SCR struct {
	Wide          bool // four data lines
	HasBlockCount bool // CMD23
	HasSwitch     bool // version 1.10 or later
}

// ParseSCR reads the register's eight bytes.
func ParseSCR(r [8]byte) (SCR, error) {
	if structure := bits(r[:], 63, 60); structure != 0 {
		return SCR{}, fmt.Errorf("sd: SCR %x: structure %d, not 0: %w", r, structure, ErrNonsense)
	}
	widths := bits(r[:], 51, 48)
	if widths&1 == 0 {
		return SCR{}, fmt.Errorf("sd: SCR %x: no bus of one line: %w", r, ErrNonsense)
	}
	return SCR{
		Wide:          widths>>2&1 != 0,
		HasBlockCount: bits(r[:], 33, 33) != 0,
		HasSwitch:     bits(r[:], 59, 56) != 0,
	}, nil
}

// switchSize is that of CMD6's answer in bytes (4.3.10.4).
const switchSize = 64

// highSpeed is function 1 of group 1 (4.3.10.2).
const highSpeed = 1

// offersHighSpeed reads bits 415 to 400: the functions that group 1 has.
func offersHighSpeed(status []byte) bool { return bits(status, 415, 400)>>highSpeed&1 != 0 }

// choseHighSpeed reads bits 379 to 376: the function that group 1 has now.
func choseHighSpeed(status []byte) bool { return bits(status, 379, 376) == highSpeed }

// OCR (5.1) and the argument of ACMD41 (4.2.3.1).
const (
	ocrReady    = 1 << 31 // power-up is over
	ocrHigh     = 1 << 30 // CCS in the answer, HCS in the argument: more than 2 GiB
	ocrVoltages = 0x00ff8000
)

// Card status (4.10.1).
const (
	statusOutOfRange = 1 << 31
	statusViolation  = 1 << 26 // WP_VIOLATION
	statusLocked     = 1 << 25
	statusReady      = 1 << 8 // READY_FOR_DATA
	statusAppCommand = 1 << 5
	statusState      = 9 // four bits

	// statusErrors are those of the command or of the data. COM_CRC_ERROR and
	// ILLEGAL_COMMAND speak of an earlier command, whose missing answer was seen.
	statusErrors = 1<<31 | 1<<30 | 1<<29 | 1<<28 | 1<<27 | 1<<26 | 1<<24 | 1<<21 | 1<<20 | 1<<19 | 1<<16
)

// CURRENT_STATE.
const (
	stateTransfer  = 4
	stateSending   = 5
	stateReceiving = 6
)

func state(status uint32) uint32 { return status >> statusState & 0xf }
