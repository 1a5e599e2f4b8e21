package kernel

import (
	ieee "hash/crc32"
	"strings"
	"testing"
	"unsafe"
)

func TestCRC(t *testing.T) {
	p := make([]byte, 0, 600)
	for i := range 600 {
		if got, want := crc32(p), ieee.ChecksumIEEE(p); got != want {
			t.Fatalf("%d bytes: %#x, not %#x", i, got, want)
		}
		p = append(p, byte(i*i>>3))
	}
}

// check does what readCrash does.
func (r *crashRecord) check() bool {
	size := uint32(unsafe.Sizeof(*r))
	all := unsafe.Slice((*byte)(unsafe.Pointer(r)), size)
	return r.valid(size, crc32(all[crashHeader:]))
}

// seal does what sealRecord does.
func (r *crashRecord) seal() {
	size := uint32(unsafe.Sizeof(*r))
	r.magic[0], r.magic[1], r.size = crashMagic0, crashMagic1, size
	r.crc = crc32(unsafe.Slice((*byte)(unsafe.Pointer(r)), size)[crashHeader:])
}

// TestCrashRecord: no record with any byte changed is taken for one, nor one that
// says it holds more than it can.
func TestCrashRecord(t *testing.T) {
	r := &crashRecord{reason: diedSignal, code: 11, traceLen: 2, textLen: 5}
	copy(r.text[:], "hello")
	if r.check() {
		t.Error("a record that is not sealed is valid")
	}
	if r.seal(); !r.check() {
		t.Fatal("a sealed record is not valid")
	}
	all := unsafe.Slice((*byte)(unsafe.Pointer(r)), unsafe.Sizeof(*r))
	for i := range all {
		for _, change := range []byte{1, 0x80, 0xff} {
			all[i] ^= change
			if r.check() {
				t.Errorf("valid with byte %d changed", i)
			}
			all[i] ^= change
		}
	}
	for _, f := range []struct {
		field *uint32
		most  int
	}{{&r.traceLen, len(r.trace)}, {&r.textLen, len(r.text)}} {
		was := *f.field
		*f.field = uint32(f.most)
		if r.seal(); !r.check() {
			t.Error("a full record is not valid")
		}
		*f.field++
		if r.seal(); r.check() {
			t.Error("a record that says it holds more than it can is valid")
		}
		*f.field = was
	}
}

func TestDescribe(t *testing.T) {
	r := &crashRecord{reason: diedSignal, code: 11, tid: 3, uptime: 90, pc: 0x80012345, traceLen: 1}
	r.trace[0] = 0x8001abcd
	var txt text
	txt.describe(r)
	got := string(txt.b[:txt.n])
	for _, want := range []string{"unhandled signal, code 11, thread 3, after 90 s, pc 0x80012345", "called from 0x8001abcd\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q does not say %q", got, want)
		}
	}
	for reason := uint32(1); reason <= diedWatchdog; reason++ {
		if reasonName(reason) == "unknown" {
			t.Errorf("reason %d has no name", reason)
		}
	}
}

// TestTextFull: what does not fit is lost, and nothing else.
func TestTextFull(t *testing.T) {
	var txt text
	for range len(txt.b) {
		txt.str("abc").dec(4294967295).hex(0)
	}
	if txt.n != uint32(len(txt.b)) || !strings.HasPrefix(string(txt.b[:]), "abc42949672950x00000000abc") {
		t.Errorf("%d bytes: %q", txt.n, txt.b[:30])
	}
}

// TestStateFits: the state and the crash record lie within their parts of the
// kernel's region.
func TestStateFits(t *testing.T) {
	if n := unsafe.Sizeof(kernel{}); n > stateLimit {
		t.Errorf("the state is %d bytes, there is room for %d", n, stateLimit)
	}
	if n := unsafe.Sizeof(crashRecord{}); n > crashSize {
		t.Errorf("a crash record is %d bytes, there is room for %d", n, crashSize)
	}
	parts := []struct{ start, size uint32 }{
		{offL1, 0x4000}, {offImageL2, imageSpan >> 20 << 10}, {offDevL2, numDeviceMiB << 10},
		{offSelfL2, 1024}, {offVectors, pageSize}, {offFault, faultSize}, {offClock, pageSize},
		{offStack, stackSize}, {offState, stateLimit}, {offCrash, crashSize},
	}
	for i, p := range parts[1:] {
		if end := parts[i].start + parts[i].size; end > p.start {
			t.Errorf("part %d of the region ends at %#x, the next begins at %#x", i, end, p.start)
		}
	}
	if offCrash+crashSize > mib {
		t.Error("the region is larger than a MiB")
	}
}
