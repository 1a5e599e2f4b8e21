package evidence

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nitro/attest/eventlog"
	"nitro/internal/corpus"
)

func d(n byte) eventlog.Digest { return sha256.Sum256([]byte{n}) }

func logOf(t testing.TB, events ...eventlog.Event) *eventlog.Log {
	t.Helper()
	l := eventlog.New()
	for _, e := range events {
		if err := l.Append(e); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func sample() *Evidence {
	e := &Evidence{
		Nonce: bytes.Repeat([]byte{1}, MinNonce), Quote: []byte("quote"), Signature: []byte("signature"), EventLog: []byte("log"),
		AKPublic: []byte("public"), AKName: make([]byte, NameSize), AKCertificate: []byte("certificate"), EKCertificates: [][]byte{{1}, {2, 3}},
		Board: "imx6ul-evk", Development: true, TLSKey: d(1), WrapKey: d(2), NotChecked: []string{"a < b & c", "d"},
	}
	for i := range e.PCRs {
		e.PCRs[i] = d(byte(i))
	}
	return e
}

func text(t testing.TB, e *Evidence) []byte {
	t.Helper()
	b, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	least := sample()
	least.AKCertificate, least.EKCertificates, least.NotChecked = nil, nil, []string{}
	most := sample()
	most.Nonce, most.Quote, most.Signature, most.EventLog = make([]byte, MaxNonce), make([]byte, MaxQuote), make([]byte, MaxSignature), make([]byte, eventlog.MaxSize)
	most.AKPublic, most.AKCertificate = make([]byte, MaxPublic), make([]byte, MaxCertificate)
	most.EKCertificates = slices.Repeat([][]byte{make([]byte, MaxCertificate)}, MaxCertificates)
	most.Board, most.NotChecked = strings.Repeat("x", maxBoard), slices.Repeat([]string{strings.Repeat("&", MaxText)}, MaxWords)
	for name, e := range map[string]*Evidence{"sample": sample(), "least": least, "most": most} {
		b := text(t, e)
		got, err := Decode(b)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("%s: %v\n%+v", name, err, got)
		}
		if len(b) > MaxSize {
			t.Errorf("%s: %d bytes", name, len(b))
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := string(text(t, sample()))
	pcr := func(n byte) string { return fmt.Sprintf(`"%d":"%x"`, n, d(n)) }
	for _, c := range []struct{ name, old, new, say string }{
		{"format", `"format":2`, `"format":1`, "known is 2"},
		{"no format", `"format":2,`, ``, "format 0"},
		{"unknown member", `"format":2`, `"format":2,"extra":1`, "unknown field"},
		{"member twice", `"format":2`, `"format":2,"format":2`, "twice"},
		{"member in capitals", `"nonce"`, `"Nonce"`, "lower-case"},
		{"null", `"development":true`, `"development":null`, "null"},
		{"no development", `"development":true,`, ``, "missing"},
		{"no certificates", `"certificates":["AQ==","AgM="]`, ``, "missing"},
		{"no words", `,"not_checked":["a \u003c b \u0026 c","d"]`, ``, "missing"},
		{"something behind", `"d"]}`, `"d"]} {}`, "behind the value"},
		{"short nonce", `"nonce":"AQEBAQEBAQE="`, `"nonce":"AQEBAQEBAQ=="`, "nonce: 7 bytes"},
		{"bits behind the last byte", `"AgM="`, `"AgN="`, "illegal base64"},
		{"line break", `"AgM="`, `"Ag\nM="`, "not the one text"},
		{"no padding", `"AgM="`, `"AgM"`, "illegal base64"},
		{"other alphabet", `"AgM="`, `"_-M="`, "illegal base64"},
		{"blob is a number", `"AgM="`, `5`, "cannot unmarshal"},
		{"no quote", `"quote":"cXVvdGU="`, `"quote":""`, "quote: 0 bytes"},
		{"upper case", fmt.Sprintf(`"%x"`, d(1)), fmt.Sprintf(`"%X"`, d(1)), "not the one text"},
		{"PCR missing", pcr(3) + ",", ``, "values of 8 PCRs"},
		{"PCR too many", pcr(3), pcr(3) + `,"9":"00"`, "values of 10 PCRs"},
		{"another PCR", `"3":`, `"03":`, "pcrs.sha256.3: 0 bytes"},
		{"short PCR", fmt.Sprintf(`"3":"%x`, d(3)), fmt.Sprintf(`"3":"%x`, d(3))[:len(`"3":"`)+62], "pcrs.sha256.3: 31 bytes"},
		{"another bank", `"sha256":{`, `"sha1":{`, "unknown field"},
		{"short name", `"name":"0000`, `"name":"00`, "ak.name: 33 bytes"},
		{"empty certificate", `["AQ==",`, `["",`, "ek.certificates, 1: 0 bytes"},
		{"five certificates", `["AQ==",`, `["AQ==","AQ==","AQ==","AQ==",`, "5, at most 4"},
		{"board with a space", `"imx6ul-evk"`, `"imx6ul evk"`, "without space"},
		{"no board", `"imx6ul-evk"`, `""`, "without space"},
		{"escape in words", `"d"]`, `"\u001b[2J"]`, "printable"},
		{"word that is not ASCII", `"d"]`, `"é"]`, "printable"},
		{"empty words", `"d"]`, `""]`, "printable"},
		{"long words", `"d"]`, `"` + strings.Repeat("x", MaxText+1) + `"]`, "printable"},
		{"many words", `"d"]`, strings.Repeat(`"d",`, MaxWords-1) + `"d"]`, "33 entries"},
		{"long", `"d"]`, `"d"]` + strings.Repeat(" ", MaxSize), "at most 262144"},
	} {
		s := strings.Replace(good, c.old, c.new, 1)
		if s == good {
			t.Errorf("%s: nothing to replace in %s", c.name, good)
		}
		if _, err := Decode([]byte(s)); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want %q", c.name, err, c.say)
		}
	}
	e := sample()
	e.AKName = nil
	if _, err := e.Encode(); err == nil {
		t.Error("what cannot be decoded is encoded")
	}
}

func TestClaims(t *testing.T) {
	anchors, board, identity := eventlog.Anchors(d(1), true), eventlog.Board("b", 1, eventlog.Open, eventlog.OwnSecret), eventlog.Identity(d(3), d(4))
	if c, err := ClaimsOf(logOf(t, anchors, board, identity)); err != nil || c != (Claims{"b", true, d(3), d(4)}) {
		t.Errorf("%+v, %v", c, err)
	}
	for _, events := range [][]eventlog.Event{{}, {anchors, board}, {anchors, identity}, {board, identity}, {anchors, anchors, board, identity},
		{anchors, board, board, identity}, {anchors, board, identity, eventlog.Identity(d(5), d(6))}} {
		if c, err := ClaimsOf(logOf(t, events...)); !errors.Is(err, ErrIncomplete) || c != (Claims{}) {
			t.Errorf("%v: %+v, %v", events, c, err)
		}
	}
}

func TestLimits(t *testing.T) {
	always := []string{limitHost, limitMedium, limitProbes}
	configured := eventlog.Configuration(d(1), 1)
	board := func(l eventlog.LifeCycle, s eventlog.SoCSecret) eventlog.Event { return eventlog.Board("b", 1, l, s) }
	for _, c := range []struct {
		events []eventlog.Event
		more   []string
	}{
		{[]eventlog.Event{eventlog.Anchors(d(1), false), board(eventlog.Closed, eventlog.OwnSecret), configured}, nil},
		{[]eventlog.Event{board(eventlog.Closed, eventlog.OwnSecret)}, []string{limitConfigured}},
		{[]eventlog.Event{eventlog.Anchors(d(1), true), configured}, []string{limitDevelopment}},
		{[]eventlog.Event{board(eventlog.Open, eventlog.NoSecret), configured}, []string{limitOpen, limitNoSecret}},
		{[]eventlog.Event{board(eventlog.Open, eventlog.SharedSecret), configured}, []string{limitOpen, limitShared}},
	} {
		if got := Limits(logOf(t, c.events...)); !slices.Equal(got, append(slices.Clone(always), c.more...)) {
			t.Errorf("%v: %q", c.events, got)
		}
	}
	all := []eventlog.Event{eventlog.Anchors(d(1), false), board(eventlog.Closed, eventlog.OwnSecret), configured}
	f := eventlog.Firmware{Version: "1", SecurityVersion: 1}
	for _, c := range []struct {
		name   string
		events []eventlog.Event
		host   []string
	}{
		{"begun", []eventlog.Event{eventlog.HostCycle(1, eventlog.Verified)}, []string{limitHost}},
		{"verified", []eventlog.Event{eventlog.HostCycle(1, eventlog.Verified), eventlog.HostFirmware(1, f), eventlog.BMCFirmware(1, f)}, []string{limitMutable, limitChip}},
		{"no BMC", []eventlog.Event{eventlog.HostCycle(1, eventlog.Verified), eventlog.HostFirmware(1, f)}, []string{limitMutable, limitChip, limitBMC}},
		{"adopted", []eventlog.Event{eventlog.HostCycle(1, eventlog.Adopted), eventlog.HostFirmware(1, f), eventlog.BMCFirmware(1, f)}, []string{limitMutable, limitChip, limitAdopted}},
		{"begun again", []eventlog.Event{eventlog.HostCycle(1, eventlog.Verified), eventlog.HostFirmware(1, f), eventlog.HostCycle(2, eventlog.Verified)}, []string{limitHost}},
		{"out of order", []eventlog.Event{eventlog.HostFirmware(1, f)}, []string{limitHost}},
	} {
		if got := Limits(logOf(t, append(slices.Clone(all), c.events...)...)); !slices.Equal(got, append(c.host, limitMedium, limitProbes)) {
			t.Errorf("%s: %q", c.name, got)
		}
	}
	for _, words := range append(always, limitMutable, limitChip, limitBMC, limitAdopted, limitOpen, limitNoSecret, limitShared, limitDevelopment, limitConfigured) {
		if !printable(words, MaxText) {
			t.Errorf("%q does not fit", words)
		}
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/texts.hex
var keptTexts string

func FuzzDecode(f *testing.F) {
	corpus.Add(f, keptTexts)
	f.Add(text(f, sample()))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(text(t, e))
		if err != nil || !reflect.DeepEqual(normal(again), normal(e)) {
			t.Errorf("%v: %+v, again %+v", err, e, again)
		}
	})
}

// normal has one form for what is empty.
func normal(e *Evidence) Evidence {
	n := *e
	if len(n.AKCertificate) == 0 {
		n.AKCertificate = nil
	}
	return n
}
