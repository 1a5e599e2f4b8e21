package ticket

import (
	"bytes"
	_ "embed"
	"os"
	"reflect"
	"strings"
	"testing"

	"nitro/attest/eventlog"
	"nitro/boot/code"
	"nitro/internal/corpus"
)

var key = Key{1, 2, 3}

// sample is a ticket, new each time.
func sample() *Ticket {
	return &Ticket{Cycle: 42, Nonce: 0x01020304, Lines: 31, Boot: [32]byte{9}, Events: []eventlog.Event{
		eventlog.Recovery(42, "bios", [32]byte{1}, [32]byte{2}),
		eventlog.HostFirmware(42, eventlog.Firmware{Digest: [32]byte{3}, Version: "F.30"}),
		eventlog.BMCFirmware(42, eventlog.Firmware{Digest: [32]byte{4}, Version: "2.14"}),
		eventlog.Component(42, "signers", [32]byte{5}, "1"),
	}}
}

func seal(t testing.TB, x *Ticket) []byte {
	t.Helper()
	b, err := x.Seal(&key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTicket(t *testing.T) {
	b := seal(t, sample())
	got, err := Open(b, &key)
	if err != nil || !reflect.DeepEqual(got, sample()) {
		t.Fatalf("%+v, %v", got, err)
	}
	if string(b[:8]) != "NCHTICK1" || b[8] != 42 || b[16] != 4 || b[20] != 31 || b[21] != 4 || b[24] != 9 {
		t.Errorf("not as docs/host.md has it: % x", b[:32])
	}
	for n := range len(b) * 8 {
		if testing.Short() && n%8 != n/8%8 {
			continue // a bit of each byte
		}
		b[n/8] ^= 1 << (n % 8)
		if _, err := Open(b, &key); code.Of(err) != code.HostNotAdopted {
			t.Fatalf("byte %d, bit %d flipped: %v", n/8, n%8, err)
		}
		b[n/8] ^= 1 << (n % 8)
	}
	for n := range b {
		if _, err := Open(b[:n], &key); err == nil {
			t.Errorf("opens when cut to %d bytes", n)
		}
	}
	if _, err := Open(b, &Key{1, 2}); err == nil {
		t.Error("opens under another key")
	}
	if _, err := Open(make([]byte, MaxSize+1), &key); err == nil {
		t.Error("opens what is too long")
	}
}

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		cycle uint64
		nonce uint32
		lines uint8
		why   code.Code
	}{
		{42, 0x01020304, 31, code.None},
		{43, 0x01020304, 31, code.HostNotAdopted},
		{42, 0x01020305, 31, code.HostLatchBroken},
		{42, 0, 31, code.HostLatchBroken},
		{42, 0x01020304, 28, code.HostNotAdopted},
	} {
		if err := sample().Check(c.cycle, c.nonce, c.lines); code.Of(err) != c.why || (err == nil) != (c.why == code.None) {
			t.Errorf("%+v: %v", c, err)
		}
	}
}

// TestRefuses: what is no ticket is neither made nor, if it were authentic, read.
func TestRefuses(t *testing.T) {
	for name, change := range map[string]func(x *Ticket){
		"no nonce":        func(x *Ticket) { x.Nonce = 0 },
		"no events":       func(x *Ticket) { x.Events = nil },
		"too many events": func(x *Ticket) { x.Events = append(x.Events, make([]eventlog.Event, MaxEvents)...) },
		"another cycle":   func(x *Ticket) { x.Cycle++ },
		"a cycle's event": func(x *Ticket) { x.Events[0] = eventlog.HostCycle(42, eventlog.Verified) },
		"another PCR":     func(x *Ticket) { x.Events[0] = eventlog.Cap() },
	} {
		x := sample()
		change(x)
		if b, err := x.Seal(&key); err == nil {
			t.Errorf("%s: %x", name, b)
		}
	}
	body := seal(t, sample())
	body = body[:len(body)-32]
	for name, change := range map[string]func(b []byte) []byte{
		"magic":      func(b []byte) []byte { b[7]++; return b },
		"reserved":   func(b []byte) []byte { b[23]++; return b },
		"more":       func(b []byte) []byte { b[21]++; return b },
		"fewer":      func(b []byte) []byte { b[21]--; return b },
		"most":       func(b []byte) []byte { b[21] = 255; return b },
		"trailing":   func(b []byte) []byte { return append(b, 0) },
		"length":     func(b []byte) []byte { b[fixed+1] = 0xff; return b },
		"text":       func(b []byte) []byte { b[fixed+2] = 'N'; return b },
		"zero nonce": func(b []byte) []byte { copy(b[16:], "\x00\x00\x00\x00"); return b },
	} {
		if x, err := decode(change(bytes.Clone(body))); err == nil {
			t.Errorf("%s: %+v", name, x)
		}
	}
}

func TestDeriveKey(t *testing.T) {
	a, err := DeriveKey(bytes.Repeat([]byte{1}, 32))
	if err != nil {
		t.Fatal(err)
	}
	b, err := DeriveKey(append(bytes.Repeat([]byte{1}, 31), 2))
	if err != nil || a == b || a == (Key{}) {
		t.Errorf("%x, %x, %v", a, b, err)
	}
	if _, err := DeriveKey(nil); err == nil {
		t.Error("no key is one")
	}
}

// TestWrittenDown: docs/host.md has the bounds.
func TestWrittenDown(t *testing.T) {
	doc, err := os.ReadFile("../../docs/host.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"`" + magic + "`", "nitro host ticket v1", "| 24 | 32 |", "1 to 16"} {
		if !strings.Contains(string(doc), s) {
			t.Errorf("docs/host.md does not say %q", s)
		}
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/tickets.hex
var kept string

// FuzzDecode reads what is behind the MAC. What it accepts is what Seal makes.
func FuzzDecode(f *testing.F) {
	corpus.Add(f, kept)
	b := seal(f, sample())
	f.Add(b[:len(b)-32])
	f.Fuzz(func(t *testing.T, b []byte) {
		x, err := decode(b)
		if err != nil {
			return
		}
		again, err := x.Seal(&key)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again[:len(again)-32], b) {
			t.Error("two encodings of the same ticket")
		}
	})
}
