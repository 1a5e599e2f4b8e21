package sd

import (
	"encoding/hex"
	"errors"
	"strings"
	"testing"
	"unicode"
)

func register[T [8]byte | [16]byte](t *testing.T, text string) (r T) {
	b, err := hex.DecodeString(text)
	if err != nil || len(b) != len(r) {
		t.Fatalf("%q: %v", text, err)
	}
	for i := range b {
		r[i] = b[i]
	}
	return r
}

// TestRegisters reads the registers of two SDHC cards and QEMU's, and some put
// together by hand after 5.3.2 and 5.6.
func TestRegisters(t *testing.T) {
	for text, want := range map[string]CSD{
		"400e00325b59000076b27f800a404000": {Blocks: 31116288, HasSwitch: true}, // 16 GB
		"400e00325b590000390f7f800a404000": {Blocks: 14958592, HasSwitch: true}, // 8 GB
		"400e00325b59000000007f800a400000": {Blocks: 1024, HasSwitch: true},
		"400e00325b5900ffffff7f800a400000": {Blocks: 1 << 32, HasSwitch: true}, // with reserved bits set
		"400e00325b59000076b27f800a402000": {Blocks: 31116288, HasSwitch: true, Protected: true},
		"400e00321b59000076b27f800a401000": {Blocks: 31116288, Protected: true},
		"002600325f5983c84ebecfff92404000": {Blocks: 3874 << 7, ByteAddr: true, HasSwitch: true},
		"005e00325f5a83d2f6dbff9f96400010": {Blocks: 3916 << 10, ByteAddr: true, HasSwitch: true},
		"000000325f590000000000000a400000": {Blocks: 4, ByteAddr: true, HasSwitch: true},
	} {
		if got, err := ParseCSD(register[[16]byte](t, text)); got != want || err != nil {
			t.Errorf("CSD %s: %+v, %v", text, got, err)
		}
	}
	for _, r := range [][16]byte{csd1(100, 7, 8), csd1(100, 7, 12), csd1(100, 7, 0)} {
		if got, err := ParseCSD(r); !errors.Is(err, ErrNonsense) || got != (CSD{}) {
			t.Errorf("CSD %x: %+v, %v", r, got, err)
		}
	}
	for text, want := range map[string]SCR{
		"0235800000000000": {Wide: true, HasSwitch: true},                      // QEMU 10
		"0235844300000000": {Wide: true, HasSwitch: true, HasBlockCount: true}, // SDHC, 3.0
		"00a5000000000000": {Wide: true},                                       // 1.0
		"0231000000000000": {HasSwitch: true},
	} {
		if got, err := ParseSCR(register[[8]byte](t, text)); got != want || err != nil {
			t.Errorf("SCR %s: %+v, %v", text, got, err)
		}
	}
	cid := CID(register[[16]byte](t, "035344535530384780126a2f3d00d96b"))
	if got := cid.String(); got != `"SU08G" 8.0 of 0x03/"SD", serial 126a2f3d, made 2013-09` || cid.Serial() != 0x126a2f3d {
		t.Error(got)
	}
}

func TestSwitchStatus(t *testing.T) {
	status := make([]byte, switchSize)
	if offersHighSpeed(status) || choseHighSpeed(status) {
		t.Error("nothing was taken for high speed")
	}
	status[13] = 1 << 1
	status[16] = 1
	if !offersHighSpeed(status) || !choseHighSpeed(status) {
		t.Error("high speed was not seen")
	}
	status[13] = ^byte(1 << 1)
	status[16] = 0xf // no such function, or not now
	if offersHighSpeed(status) || choseHighSpeed(status) {
		t.Error("other functions were taken for high speed")
	}
}

// FuzzRegisters: no register makes a parser panic, or gives a card without blocks or
// of more than commands can address.
func FuzzRegisters(f *testing.F) {
	f.Add([]byte("0123456789abcdef"))
	f.Add([]byte{0x40, 0x0e, 0, 0x32, 0x5b, 0x59, 0, 0, 0x76, 0xb2, 0x7f, 0x80, 0x0a, 0x40, 0x40, 0})
	f.Add([]byte{0, 0x26, 0, 0x32, 0x5f, 0x5a, 0xe3, 0xff, 0xff, 0xff, 0xff, 0x80, 0x10, 0x90, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) != 16 {
			return
		}
		csd, err := ParseCSD([16]byte(b))
		most := uint64(1) << 32
		if csd.ByteAddr {
			most = 1 << 23 // 4 GiB
		}
		if (err == nil) != (csd.Blocks > 0) || csd.Blocks > most {
			t.Errorf("CSD %x: %+v, %v", b, csd, err)
		}
		ParseSCR([8]byte(b))
		if s := CID(b).String(); strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("CID %x: %q", b, s)
		}
	})
}
