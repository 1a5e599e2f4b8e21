package rig

import (
	_ "embed"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"nitro/internal/corpus"
)

const goodBench = `{"version": 1, "name": "bench 3", "kind": "bench",
	"console": {"device": "/dev/ttyUSB0"}, "network": {"service": "192.0.2.10:443"},
	"power": {"on": ["relay", "1"], "off": ["relay", "0"]}, "materials": "board-3"}`

const goodEmulator = `{"version": 1, "name": "e", "kind": "emulator"}`

// TestParse: what is left out is filled in.
func TestParse(t *testing.T) {
	d, err := Parse([]byte(goodBench))
	if err != nil {
		t.Fatal(err)
	}
	if d.LimitSeconds != 600 || d.Console.Baud != 115200 || d.Power.LimitSeconds != 10 || *d.Power.OffSeconds != 5 || d.Network.Provisioning != "" {
		t.Errorf("%+v %+v %+v", d, d.Console, d.Power)
	}
	if d, err := Parse([]byte(strings.Replace(goodBench, `"off": [`, `"off_seconds": 0, "off": [`, 1))); err != nil || *d.Power.OffSeconds != 0 {
		t.Errorf("no time off: %v", err)
	}
	if _, err := Parse([]byte(goodEmulator)); err != nil {
		t.Error(err)
	}
}

// TestParseRefuses: each field wrong in turn.
func TestParseRefuses(t *testing.T) {
	for _, c := range []struct{ from, to, why string }{
		{`"version": 1`, `"version": 2`, "version 2, not 1"},
		{`"name": "bench 3"`, `"name": ""`, "name has"},
		{`"name": "bench 3"`, `"name": "` + strings.Repeat("x", 65) + `"`, "name has"},
		{`"name": "bench 3"`, `"name": "b\u0007"`, "name has"},
		{`"kind": "bench"`, `"kind": "rack"`, "neither"},
		{`"kind": "bench"`, `"kind": "emulator"`, "an emulator has no console"},
		{`"kind": "bench"`, `"kind": "bench", "kind": "emulator"`, "twice"},
		{`"kind": "bench"`, `"kind": "bench", "colour": "red"`, "colour"},
		{`"kind": "bench"`, `"kind": "bench", "limit_seconds": 9`, "limit_seconds is 10 to 3600"},
		{`"kind": "bench"`, `"kind": "bench", "limit_seconds": 3601`, "limit_seconds is 10 to 3600"},
		{`"console": {"device": "/dev/ttyUSB0"}, `, ``, "a bench needs"},
		{`"/dev/ttyUSB0"`, `""`, "console.device"},
		{`"/dev/ttyUSB0"`, `"/dev/ttyUSB0", "baud": 300`, "console.baud"},
		{`192.0.2.10:443`, `192.0.2.10`, "network.service"},
		{`192.0.2.10:443`, `:443`, "network.service"},
		{`192.0.2.10:443`, `192.0.2.10:0`, "network.service"},
		{`192.0.2.10:443`, `192.0.2.10:65536`, "network.service"},
		{`192.0.2.10:443`, `192.0.2.10:https`, "network.service"},
		{`192.0.2.10:443"`, `192.0.2.10:443", "provisioning": "x"`, "network.provisioning"},
		{`["relay", "1"]`, `[]`, "power.on"},
		{`["relay", "0"]`, `[""]`, "power.off"},
		{`["relay", "0"]`, `["relay"` + strings.Repeat(`, "x"`, 32) + `]`, "power.off"},
		{`["relay", "0"]`, `["relay", "\u0000"]`, "power.off"},
		{`["relay", "0"]`, `["relay", "` + strings.Repeat("x", 4097) + `"]`, "power.off"},
		{`["relay", "0"]`, `["relay", "0"], "off_seconds": 61`, "power.off_seconds"},
		{`["relay", "0"]`, `["relay", "0"], "off_seconds": -1`, "negative"},
		{`["relay", "0"]`, `["relay", "0"], "limit_seconds": 121`, "power.limit_seconds"},
		{`"board-3"`, `""`, "a bench needs"},
		{`"board-3"}`, `"board-3"} {}`, "behind"},
		{`"board-3"}`, `"board-3"` + strings.Repeat(" ", maxFile), "bytes, at most"},
	} {
		text := strings.Replace(goodBench, c.from, c.to, 1)
		if text == goodBench {
			t.Fatalf("%q is not in the description", c.from)
		}
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), c.why) {
			t.Errorf("%.60s: %v, and not %q", c.to, err, c.why)
		}
	}
}

// TestExample: the page's example and the emulator's own file are descriptions.
func TestExample(t *testing.T) {
	page, err := os.ReadFile("../../docs/hil.md")
	if err != nil {
		t.Fatal(err)
	}
	example := regexp.MustCompile(`(?m)^    \{\n(    .*\n)+?    \}\n`).Find(page)
	emulator, err := os.ReadFile("../hil/testdata/emulator.json")
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string][]byte{"docs/hil.md": example, "emulator.json": emulator} {
		if _, err := Parse(text); err != nil {
			t.Errorf("%s: %v in\n%s", what, err, text)
		}
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/descriptions.hex
var kept string

// FuzzParse: what is taken is within the bounds, and is taken again.
func FuzzParse(f *testing.F) {
	corpus.Add(f, kept)
	f.Add([]byte(goodBench))
	f.Add([]byte(goodEmulator))
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := Parse(text)
		if err != nil {
			return
		}
		if len(text) > maxFile || d.LimitSeconds < 10 || d.LimitSeconds > 3600 || d.Kind == KindBench && (len(d.Power.On) == 0 || len(d.Power.On) > maxWords || d.Materials == "") {
			t.Errorf("%s is taken as %+v", text, d)
		}
		if again := *d; again.complete() != nil || fmt.Sprint(again) != fmt.Sprint(*d) {
			t.Errorf("%+v completed is %+v", d, again)
		}
	})
}
