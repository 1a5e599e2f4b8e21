package eventlog

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"nitro/internal/corpus"
)

// d is a digest of a number.
func d(n int) Digest { return sha256.Sum256([]byte{byte(n)}) }

// boot is one event of each name, as docs/attestation.md has it.
var boot = []struct {
	e    Event
	pcr  int
	kind Type
	text string
}{
	{Anchors(d(1), true), 0, 0xa, fmt.Sprintf("nitro anchors sha256=%x development=1", d(1))},
	{Bootloader(d(2), "1.0", 4), 0, 1, fmt.Sprintf("nitro bootloader sha256=%x version=1.0 security-version=4", d(2))},
	{Board("imx6ul-evk", 0xabc, Closed, OwnSecret), 1, 0xa, "nitro board product=imx6ul-evk unique-id=0000000000000abc life-cycle=closed soc-secret=own"},
	{Controller(d(3), "1.2.3-rc1", 5), 2, 1, fmt.Sprintf("nitro controller sha256=%x version=1.2.3-rc1 security-version=5", d(3))},
	{Configuration(d(4), 1<<40), 3, 0xa, fmt.Sprintf("nitro configuration sha256=%x epoch=1099511627776", d(4))},
	{Policy(d(5), 1<<41), 3, 0xa, fmt.Sprintf("nitro policy sha256=%x epoch=2199023255552", d(5))},
	{Authority(d(5), d(6)), 7, 0xa, fmt.Sprintf("nitro authority ed25519=%x mldsa65=%x", d(5), d(6))},
	{SecurityVersion(5), 7, 0xa, "nitro security-version value=5"},
	{Slot(1, 2), 23, 3, "nitro slot slot=b attempt=2"},
	{Cap(), 7, 0xa, "nitro cap"},
	{HostCycle(1<<33, Verified), 4, 0xa, "nitro host-cycle cycle=8589934592 how=verified"},
	{Recovery(2, "bios-main", d(9), d(10)), 6, 0xa, fmt.Sprintf("nitro recovery cycle=2 what=bios-main was=%x sha256=%x", d(9), d(10))},
	{HostFirmware(2, Firmware{d(10), d(11), "F.30", 3}), 4, 1, fmt.Sprintf("nitro host-firmware cycle=2 sha256=%x manifest=%x version=F.30 security-version=3", d(10), d(11))},
	{BMCFirmware(2, Firmware{d(12), d(13), "2.14", 1}), 5, 1, fmt.Sprintf("nitro bmc-firmware cycle=2 sha256=%x manifest=%x version=2.14 security-version=1", d(12), d(13))},
	{Component(2, "nic", d(14), "7"), 6, 1, fmt.Sprintf("nitro component cycle=2 what=nic sha256=%x version=7", d(14))},
	{Recipient(d(9)), 8, 0xa, fmt.Sprintf("nitro recipient sha256=%x", d(9))},
	{Quarantine(602), 8, 0xa, "nitro quarantine code=602"},
	{Identity(d(7), d(8)), 8, 0xa, fmt.Sprintf("nitro identity tls=%x wrap=%x", d(7), d(8))},
}

func bootLog(t testing.TB) *Log {
	l := New()
	for _, b := range boot {
		if err := l.Append(b.e); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestEvents(t *testing.T) {
	for _, b := range boot {
		if b.e != (Event{b.pcr, b.kind, b.text}) {
			t.Errorf("%+v; want PCR %d, %v, %q", b.e, b.pcr, b.kind, b.text)
		}
		if b.e.Name() != strings.Fields(b.text)[1] {
			t.Errorf("%q has the name %q", b.text, b.e.Name())
		}
		want := sha256.Sum256(append([]byte{byte(b.kind), 0, 0, 0}, b.text...))
		if b.kind == NoAction {
			want = Digest{}
		}
		if b.e.Digest() != want {
			t.Errorf("%q: digest %x", b.text, b.e.Digest())
		}
	}
	e := boot[3].e
	if e.Value("version") != "1.2.3-rc1" || e.Value("security-version") != "5" || e.Value("sha") != "" {
		t.Error("values are not those of the text")
	}
	if len(forms) != len(boot) {
		t.Errorf("%d names, %d tested", len(forms), len(boot))
	}
}

// TestWrittenDown: docs/attestation.md lists the same names and keys.
func TestWrittenDown(t *testing.T) {
	doc, err := os.ReadFile("../../docs/attestation.md")
	if err != nil {
		t.Fatal(err)
	}
	for name, f := range forms {
		row := "`nitro " + name
		for _, k := range f.keys {
			row += " " + k + "=[^ ]*"
		}
		pcr := fmt.Sprint(f.pcr)
		if f.kind == NoAction {
			pcr = "none"
		}
		if !regexp.MustCompile(`(?m)^\| [A-Za-z ]+ \| ` + pcr + ` \| .*` + row + "`").Match(doc) {
			t.Errorf("docs/attestation.md has no row for %q with the keys %v in PCR %s", name, f.keys, pcr)
		}
	}
}

// TestText: an event's text is all of it.
func TestText(t *testing.T) {
	for _, b := range boot {
		if e, err := ParseText(b.text); e != b.e || err != nil {
			t.Errorf("%q: %+v, %v", b.text, e, err)
		}
	}
	for _, text := range []string{"", "nitro", "nitro hat", "nitro cap ", "nitro host-cycle cycle=01 how=verified"} {
		if e, err := ParseText(text); err == nil {
			t.Errorf("%q: %+v", text, e)
		}
	}
}

func TestParse(t *testing.T) {
	l := bootLog(t)
	got, err := Parse(l.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Events()) != len(boot) || got.Replay() != l.Replay() || !bytes.Equal(got.Bytes(), l.Bytes()) {
		t.Error("reads something else than was written")
	}
	if l, err := Parse(New().Bytes()); err != nil || len(l.Events()) != 0 {
		t.Error(err)
	}
	// Every bit counts, and so does every byte at the end.
	ends := map[int]bool{}
	l = New()
	for _, b := range boot {
		ends[len(l.Bytes())] = true
		if err := l.Append(b.e); err != nil {
			t.Fatal(err)
		}
	}
	b := bytes.Clone(l.Bytes())
	for n := range len(b) * 8 {
		if testing.Short() && n%8 != n/8%8 {
			continue // a bit of each byte
		}
		b[n/8] ^= 1 << (n % 8)
		if _, err := Parse(b); err == nil && !bytes.Contains(b[max(0, n/8-60):n/8+1], []byte("nitro slot")) {
			t.Errorf("byte %d, bit %d flipped: parses", n/8, n%8)
		}
		b[n/8] ^= 1 << (n % 8)
	}
	for n := range len(b) {
		if _, err := Parse(b[:n]); (err == nil) != ends[n] {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

// raw is a log with one event that need not be one.
func raw(pcr, kind, count uint32, alg uint16, text string, size uint32) []byte {
	b := New().Bytes()
	b = le.AppendUint32(b, pcr)
	b = le.AppendUint32(b, kind)
	b = le.AppendUint32(b, count)
	b = le.AppendUint16(b, alg)
	sum := Event{Type: Type(kind), Text: text}.Digest()
	b = append(b, sum[:]...)
	b = le.AppendUint32(b, size)
	return append(b, text...)
}

func TestRefusals(t *testing.T) {
	text := func(s string) []byte { return raw(7, 0xa, 1, 0xb, s, uint32(len(s))) }
	if _, err := Parse(text("nitro cap")); err != nil {
		t.Fatal(err)
	}
	sum := fmt.Sprintf("%x", d(1))
	for _, c := range []struct {
		name string
		b    []byte
		say  string
	}{
		{"empty", nil, "Spec ID"},
		{"long", make([]byte, MaxSize+1), "at most 49152"},
		{"PCR 8", raw(8, 0xa, 1, 0xb, "nitro cap", 9), "in PCR 8"},
		{"PCR 2^32-1", raw(1<<32-1, 0xa, 1, 0xb, "nitro cap", 9), "it belongs in PCR 7"},
		{"type", raw(7, 1, 1, 0xb, "nitro cap", 9), "EV_POST_CODE"},
		{"measured as told", raw(7, 3, 1, 0xb, "nitro cap", 9), "EV_NO_ACTION"},
		{"no digest", raw(7, 0xa, 0, 0xb, "nitro cap", 9), "0 digests"},
		{"two digests", raw(7, 0xa, 2, 0xb, "nitro cap", 9), "2 digests"},
		{"SHA-1", raw(7, 0xa, 1, 4, "nitro cap", 9), "0x4"},
		{"long text", raw(7, 0xa, 1, 0xb, "nitro cap", 513), "at most 512"},
		{"longest text", raw(7, 0xa, 1, 0xb, "nitro cap", 1<<32-1), "at most 512"},
		{"text behind the end", raw(7, 0xa, 1, 0xb, "nitro cap", 10), "9 are left"},
		{"other text", text("hello"), "is not `nitro"},
		{"no name", text("nitro"), "is not `nitro"},
		{"unknown name", text("nitro hat"), "no event of this name"},
		{"key too many", text("nitro cap x=1"), "the keys are"},
		{"key too few", text("nitro security-version"), "the keys are"},
		{"other key", text("nitro security-version version=1"), "value of value"},
		{"two spaces", text("nitro  cap"), "no event of this name"},
		{"space at the end", text("nitro cap "), "the keys are"},
		{"leading zero", text("nitro security-version value=01"), "value of value"},
		{"sign", text("nitro security-version value=+1"), "value of value"},
		{"large", text("nitro security-version value=4294967296"), "value of value"},
		{"upper case", text("nitro authority ed25519=" + strings.ToUpper(sum) + " mldsa65=" + sum), "value of ed25519"},
		{"short digest", text("nitro authority ed25519=" + sum[1:] + " mldsa65=" + sum), "value of ed25519"},
		{"version not ASCII", raw(2, 1, 1, 0xb, "nitro controller sha256="+sum+" version=1\x01 security-version=1", uint32(112)), "value of version"},
		{"digest of another text", append(raw(7, 0xa, 1, 0xb, "nitro cbp", 9)[:len(header)+50], "nitro cap"...), "has digest"},
	} {
		if _, err := Parse(c.b); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want %q", c.name, err, c.say)
		}
	}
	for _, e := range []Event{
		Controller(d(1), "two words", 1), Controller(d(1), "", 1), Controller(d(1), strings.Repeat("x", 33), 1),
		Board("imx6ul-evk", 1, "ajar", OwnSecret), Board("imx6ul-evk", 1, Open, "good"), Slot(2, 1),
		{7, ConfigFlags, "nitro cap" + strings.Repeat(" ", MaxText)},
		HostCycle(1, "guessed"), Component(1, "two words", d(1), "1"), Recovery(1, "", d(1), d(2)), BMCFirmware(1, Firmware{Version: ""}),
		{4, PostCode, "nitro host-cycle cycle=1 how=verified"}, {5, ConfigFlags, "nitro host-cycle cycle=1 how=verified"},
		{4, ConfigFlags, "nitro host-cycle cycle=18446744073709551616 how=verified"},
	} {
		if l := New(); l.Append(e) == nil || len(l.Events()) != 0 {
			t.Errorf("%+v can be appended", e)
		}
	}
}

// tpm extends PCRs, and fails where told.
type tpm struct {
	pcrs [PCRs]Digest
	err  error
}

func (t *tpm) Extend(pcr int, digest Digest) error {
	if t.err == nil {
		t.pcrs[pcr] = Extend(t.pcrs[pcr], digest)
	}
	return t.err
}

func TestMeasure(t *testing.T) {
	l, chip := New(), &tpm{}
	for _, b := range boot {
		if err := l.Measure(chip, b.e); err != nil {
			t.Fatal(err)
		}
	}
	if chip.pcrs != l.Replay() || !bytes.Equal(l.Bytes(), bootLog(t).Bytes()) {
		t.Error("the log does not replay")
	}
	n := 0
	for ; ; n++ {
		if err := l.Measure(chip, Cap()); err != nil {
			if err != ErrFull {
				t.Fatal(err)
			}
			break
		}
	}
	if chip.pcrs != l.Replay() || len(l.Bytes()) > MaxSize || len(l.Bytes())+eventFixed+len("nitro cap") <= MaxSize {
		t.Errorf("full after %d more, %d bytes: does not replay, or had room", n, len(l.Bytes()))
	}
	if _, err := Parse(l.Bytes()); err != nil {
		t.Error(err)
	}
	if err := l.Append(Cap()); err != ErrFull {
		t.Error(err)
	}
	before := chip.pcrs
	if l := New(); l.Measure(chip, Controller(d(1), "two words", 1)) == nil || chip.pcrs != before {
		t.Error("what is no event is extended")
	}
	chip.err = errors.New("no answer")
	if l := New(); !errors.Is(l.Measure(chip, Cap()), chip.err) || len(l.Events()) != 0 {
		t.Error("what was not extended is in the log")
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/logs.hex
var keptLogs string

func FuzzParse(f *testing.F) {
	corpus.Add(f, keptLogs)
	f.Add(bootLog(f).Bytes())
	f.Add(raw(7, 0xa, 1, 0xb, "nitro cap", 9))
	f.Add(raw(7, 0xa, 1, 0xb, "nitro cap", 1<<32-1))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := Parse(b)
		if err != nil {
			return
		}
		again := New()
		for _, e := range l.Events() {
			if err := again.Append(e); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(again.Bytes(), b) {
			t.Error("two encodings of the same events")
		}
	})
}
