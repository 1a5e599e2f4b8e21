package firmware

import (
	_ "embed"
	"os"
	"slices"
	"strings"
	"testing"

	"nitro/internal/corpus"
)

// text is a manifest as docs/firmware.md has it.
const text = `{"format":1,"part":"host","host":"acme-x1","version":"1.0","security_version":2,"size":131072,"erase":4096,"regions":[` +
	`{"name":"vars","offset":0,"length":8192,"kind":"mutable"},` +
	`{"name":"code","offset":8192,"length":118784,"kind":"static","sha256":"` + digits + `"},` +
	`{"name":"cache","offset":126976,"length":4096,"kind":"erasable"}]}`

const digits = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"

func TestDecode(t *testing.T) {
	m, err := Decode([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	code := Region{Name: "code", Offset: 8192, Length: 118784, Kind: Static}
	for i := range code.Digest {
		code.Digest[i] = byte(i)
	}
	want := []Region{{Name: "vars", Length: 8192, Kind: Mutable}, code, {Name: "cache", Offset: 126976, Length: 4096, Kind: Erasable}}
	if m.Part != Host || m.Host != "acme-x1" || m.Version != "1.0" || m.SecurityVersion != 2 || m.Size != 131072 || m.Erase != 4096 || !slices.Equal(m.Regions, want) {
		t.Errorf("%+v", m)
	}
	again, err := m.Encode()
	if err != nil || string(again) != text {
		t.Errorf("%s, %v", again, err)
	}
}

// TestRefusals: one thing wrong each.
func TestRefusals(t *testing.T) {
	for _, c := range []struct{ from, to, say string }{
		{`"format":1`, `"format":2`, "format 2"},
		{`"format":1,`, ``, "format 0"},
		{`"part":"host"`, `"part":"cpu"`, `part "cpu"`},
		{`"host":"acme-x1"`, `"host":""`, `host ""`},
		{`"host":"acme-x1"`, `"host":"acme x1"`, "without space"},
		{`"host":"acme-x1"`, `"host":"` + strings.Repeat("x", 33) + `"`, "1 to 32"},
		{`"version":"1.0"`, `"version":"\u00e9"`, "printable"},
		{`"security_version":2`, `"security_version":65`, "above 64"},
		{`"security_version":2`, `"security_version":-1`, "negative"},
		{`"erase":4096`, `"erase":2048`, "erase block of 2048"},
		{`"erase":4096`, `"erase":12288`, "erase block of 12288"},
		{`"erase":4096`, `"erase":524288`, "erase block of 524288"},
		{`"erase":4096`, `"erase":0`, "erase block of 0"},
		{`"size":131072`, `"size":131073`, "flash of 131073"},
		{`"size":131072`, `"size":0`, "flash of 0"},
		{`"size":131072`, `"size":134217728`, "flash of 134217728"},
		{`"size":131072`, `"size":126976`, `region "cache": 4096 bytes from 0x1f000 on run past`},
		{`"size":131072`, `"size":135168`, "nothing declares what is from 0x20000 to 0x21000"},
		{`"offset":8192`, `"offset":4096`, `region "code" begins at 0x1000, and the one before ends at 0x2000: they overlap`},
		{`"offset":126976`, `"offset":122880`, "they overlap"},
		{`"offset":0,"length":8192`, `"offset":0,"length":4096`, "nothing declares what is from 0x1000 on"},
		{`"offset":0,"length":8192`, `"offset":4096,"length":4096`, "nothing declares what is from 0x0 on"},
		{`"length":118784`, `"length":122880`, "they overlap"},
		{`"length":118784`, `"length":9223372036854775807`, "run past"},
		{`"length":118784`, `"length":18446744073709551615`, "json"},
		{`"length":118784`, `"length":0`, "run past"},
		{`"offset":8192`, `"offset":8191`, "not whole erase blocks"},
		{`"length":8192`, `"length":8191`, "not whole erase blocks"},
		{`"erase":4096`, `"erase":8192`, "not whole erase blocks"},
		{`"name":"vars"`, `"name":"code"`, `region "code" comes twice`},
		{`"name":"vars"`, `"name":""`, "a name has"},
		{`"name":"vars"`, `"name":"Vars"`, "a name has"},
		{`"name":"vars"`, `"name":"` + strings.Repeat("x", 33) + `"`, "a name has"},
		{`"kind":"mutable"`, `"kind":"secret"`, `kind "secret"`},
		{`"kind":"mutable"`, `"kind":"mutable","sha256":"` + digits + `"`, "sha256 of a mutable region"},
		{`"kind":"static"`, `"kind":"erasable"`, "sha256 of a erasable region"},
		{`"kind":"static","sha256":"` + digits + `"`, `"kind":"mutable"`, "static regions of 0 bytes"},
		{digits, digits[2:], "64 lower-case"},
		{digits, strings.ToUpper(digits), "64 lower-case"},
		{digits, digits[1:] + "x", "64 lower-case"},
		{`,"sha256":"` + digits + `"`, ``, "64 lower-case"},
		{`"host":"acme-x1"`, `"host":null`, "null"},
		{`"host":"acme-x1"`, `"host":"acme-x1","host":"acme-x2"`, "twice"},
		{`"host":"acme-x1"`, `"host":"acme-x1","Host":"acme-x2"`, "lower-case"},
		{`"host":"acme-x1"`, `"host":"acme-x1","note":""`, "note"},
		{`]}`, `]}{}`, "behind"},
		{`"regions":[`, `"regions":[[],`, "json"},
	} {
		changed := strings.Replace(text, c.from, c.to, 1)
		if changed == text {
			t.Errorf("%q is not in the manifest", c.from)
		}
		if _, err := Decode([]byte(changed)); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s for %s: %v; want %q", c.to, c.from, err, c.say)
		}
	}
	if _, err := Decode([]byte(text + strings.Repeat(" ", MaxManifest))); err == nil || !strings.Contains(err.Error(), "at most 16384") {
		t.Errorf("too long: %v", err)
	}
}

// TestMany: as many regions as there may be, and one more.
func TestMany(t *testing.T) {
	m := &Manifest{Part: BMC, Host: "h", Version: "1", Erase: MinErase}
	for i := range MaxRegions + 1 {
		m.Regions = append(m.Regions, Region{Name: strings.Repeat("r", i%maxName+1) + string("abc"[i/maxName]), Offset: m.Size, Length: MinErase, Kind: Static})
		if i%maxName+2 > maxName {
			m.Regions[i].Name = "last-" + string("abc"[i/maxName])
		}
		m.Size += MinErase
		if _, err := m.Encode(); (err == nil) != (i < MaxRegions) {
			t.Fatalf("%d regions: %v", i+1, err)
		}
	}
	big := &Manifest{Part: BMC, Host: "h", Version: "1", Size: MaxSize, Erase: MaxErase, Regions: []Region{{Name: "all", Length: MaxSize, Kind: Static}}}
	if _, err := big.Encode(); err == nil || !strings.Contains(err.Error(), "static regions of 67108864") {
		t.Errorf("static regions of 64 MiB: %v", err)
	}
}

// TestWrittenDown holds the code to docs/firmware.md where both state a number.
func TestWrittenDown(t *testing.T) {
	b, err := os.ReadFile("../../docs/firmware.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		ok   bool
		text string
	}{
		{MaxManifest == 16<<10 && MaxRegions == 64, "| manifest | 16 KiB of JSON, 64 regions |"},
		{MaxSize == 64<<20, "| flash | 64 MiB |"},
		{MaxStatic == 48<<20, "| static regions of a flash, together | 48 MiB,"},
		{MinErase == 4<<10 && MaxErase == 256<<10, "| erase block | 4 KiB to 256 KiB,"},
		{maxRecoveries == 2, "| recoveries in one cycle | 2 |"},
		{tries == 3 && window == 64<<10, "| tries to write a window of 64 KiB | 3 |"},
		{looks == 16 && lookSize == 4<<10, "at 16 places of 4 KiB"},
	} {
		if !row.ok || !strings.Contains(string(b), row.text) {
			t.Errorf("docs/firmware.md and the code do not agree on %q", row.text)
		}
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/manifests.hex
var keptManifests string

// FuzzDecode: whatever is taken obeys the rules, and comes out of Encode as one text.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(text))
	corpus.Add(f, keptManifests)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		sum := int64(0)
		for _, r := range m.Regions {
			if r.Offset != sum || r.Length <= 0 || r.Length%m.Erase != 0 {
				t.Fatalf("region %+v at %d", r, sum)
			}
			sum += r.Length
		}
		if sum != m.Size || sum > MaxSize || len(m.ranges()) == 0 {
			t.Fatalf("%+v", m)
		}
		one, err := m.Encode()
		if err != nil && len(one) <= MaxManifest {
			t.Fatal(err)
		}
		if err != nil {
			return // escapes that JSON writes longer than they were
		}
		same, err := Decode(one)
		if err != nil || !slices.Equal(same.Regions, m.Regions) || same.Host != m.Host {
			t.Fatalf("%+v, %v", same, err)
		}
	})
}
