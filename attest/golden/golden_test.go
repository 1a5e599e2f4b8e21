package golden

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strings"
	"testing"

	"nitro/attest/eventlog"
)

func d(n int) eventlog.Digest { return sha256.Sum256([]byte{byte(n)}) }

var manifestOf = Manifest{
	Anchors:     []Anchors{{d(1), false}, {d(2), true}},
	Bootloaders: []Component{{d(3), "1.0", 1}, {d(4), "1.1", 2}},
	Controller:  Component{d(5), "2.0", 7},
	Authorities: []Authority{{d(6), d(7)}, {d(8), d(9)}},
}

func build(t testing.TB) *Release {
	t.Helper()
	r, err := Build(manifestOf)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var boardEvent = eventlog.Board("imx6ul-evk", 0xabc, eventlog.Open, eventlog.NoSecret)

func board() *Board {
	return &Board{Board: "imx6ul-evk", StorageName: append([]byte{0, 11}, bytes.Repeat([]byte{2}, 32)...), AKName: append([]byte{0, 11}, make([]byte, 32)...), EKName: append([]byte{0, 11}, bytes.Repeat([]byte{1}, 32)...),
		UniqueID: 0xabc, Development: true, PCR1: eventlog.Extend(eventlog.Digest{}, boardEvent.Digest()), Events: []eventlog.Event{boardEvent}}
}

// good is what a boot with the second of each alternative measures.
func good() []eventlog.Event {
	return []eventlog.Event{
		eventlog.Anchors(d(2), true), eventlog.Bootloader(d(4), "1.1", 2), boardEvent, eventlog.Configuration(d(50), 3),
		eventlog.Authority(d(8), d(9)), eventlog.SecurityVersion(7), eventlog.Controller(d(5), "2.0", 7), eventlog.Slot(1, 0),
	}
}

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

func TestCompare(t *testing.T) {
	r := build(t)
	replace := func(i int, e eventlog.Event) []eventlog.Event {
		l := good()
		l[i] = e
		return l
	}
	wrong := eventlog.Controller(d(55), "2.0", 7)
	short := func(e eventlog.Event) string { d := e.Digest(); return hex.EncodeToString(d[:8]) }
	for _, c := range []struct {
		name   string
		events []eventlog.Event
		say    []string // one for each mismatch
	}{
		{"good", good(), nil},
		{"good, capped", append(good(), eventlog.Cap()), nil},
		{"other controller", replace(6, wrong), []string{
			fmt.Sprintf("golden: PCR 2: controller: measured event %s (sha256=%x version=2.0 security-version=7); known good: event %s (sha256=%x", short(wrong), d(55), short(good()[6]), d(5))}},
		{"other version", replace(6, eventlog.Controller(d(5), "2.1", 7)), []string{"PCR 2: controller: measured event"}},
		{"other bootloader", replace(1, eventlog.Bootloader(d(5), "1.1", 2)), []string{"PCR 0: bootloader: measured"}},
		{"other anchors", replace(0, eventlog.Anchors(d(2), false)), []string{"PCR 0: anchors: measured"}},
		{"other authority", replace(4, eventlog.Authority(d(6), d(9))), []string{"PCR 7: authority: measured"}},
		{"other security version", replace(5, eventlog.SecurityVersion(6)), []string{"PCR 7: security-version: measured"}},
		{"other board", replace(2, eventlog.Board("imx6ul-evk", 0xabd, eventlog.Open, eventlog.NoSecret)), []string{"PCR 1: board: measured"}},
		{"other configuration is none of it", replace(3, eventlog.Configuration(d(51), 4)), nil},
		{"no controller", slices.Delete(good(), 6, 7), []string{"PCR 2: controller: was not measured; known good: event"}},
		{"controller twice", append(good(), good()[6]), []string{"PCR 2: controller: measured event"}},
		{"both bootloaders", slices.Insert(good(), 1, eventlog.Bootloader(d(3), "1.0", 1)), []string{"PCR 0: bootloader: measured event " + short(good()[1])}},
		{"order", func() []eventlog.Event { l := good(); l[0], l[1] = l[1], l[0]; return l }(), []string{"PCR 0: anchors: measured", "PCR 0: bootloader: measured"}},
		{"capped twice", append(good(), eventlog.Cap(), eventlog.Cap()), []string{"PCR 7: cap: measured event"}},
		{"capped early", slices.Insert(good(), 4, eventlog.Cap()), []string{"PCR 7: authority: measured", "PCR 7: security-version: measured", "PCR 7: security-version: measured"}},
		{"nothing", nil, []string{"PCR 0: anchors: was not", "PCR 0: bootloader: was not", "PCR 2: controller: was not", "PCR 7: authority: was not", "PCR 7: security-version: was not", "PCR 1: board: was not"}},
	} {
		err := Compare(logOf(t, c.events...), r, board())
		var lines []string
		if err != nil {
			lines = strings.Split(err.Error(), "\n")
			var m *Mismatch
			if !errors.As(err, &m) {
				t.Errorf("%s: no Mismatch", c.name)
			}
		}
		ok := len(lines) == len(c.say)
		for i := range c.say {
			ok = ok && strings.Contains(lines[i], c.say[i])
		}
		if !ok {
			t.Errorf("%s: %q; want %q", c.name, lines, c.say)
		}
	}
}

// TestPredict: what is predicted is what a boot's log replays to.
func TestPredict(t *testing.T) {
	r := build(t)
	got, err := r.Predict(manifestOf.Anchors[1], manifestOf.Bootloaders[1], manifestOf.Authorities[1])
	if err != nil {
		t.Fatal(err)
	}
	pcrs := logOf(t, good()...).Replay()
	if want := (Values{pcrs[0], pcrs[2], pcrs[7]}); got != want {
		t.Errorf("%x; the log replays to %x", got, want)
	}
	all := map[Values]bool{}
	for _, a := range manifestOf.Anchors {
		for _, b := range manifestOf.Bootloaders {
			for _, y := range manifestOf.Authorities {
				v, err := r.Predict(a, b, y)
				if err != nil {
					t.Fatal(err)
				}
				all[v] = true
			}
		}
	}
	if len(all) != 8 {
		t.Errorf("%d different values of 8 alternatives", len(all))
	}
	if _, err := r.Predict(Anchors{d(1), true}, manifestOf.Bootloaders[0], manifestOf.Authorities[0]); err == nil {
		t.Error("predicts for an anchor block that the release does not know")
	}
}

func TestRelease(t *testing.T) {
	b, err := build(t).Encode()
	if err != nil {
		t.Fatal(err)
	}
	r, err := DecodeRelease(b)
	if err != nil || !reflect.DeepEqual(r, build(t)) {
		t.Fatalf("%v\n%+v", err, r)
	}
	hex5, hex6 := fmt.Sprintf("%x", d(5)), fmt.Sprintf("%x", d(6))
	for _, c := range []struct{ name, old, new, say string }{
		{"format", `"format":1`, `"format":2`, "format 2"},
		{"unknown member", `"format":1`, `"format":1,"x":1`, "unknown field"},
		{"version", `"version":"2.0"`, `"version":"2.1"`, "do not agree"},
		{"security version", `"security_version":7`, `"security_version":8`, "do not agree"},
		{"controller", `"controller":"` + hex5, `"controller":"` + hex6, "do not agree"},
		{"authority", `{"ed25519":"` + hex6, `{"ed25519":"` + hex5, "do not agree"},
		{"bootloader", `"bootloader":["`, `"bootloader":["00","`, "do not agree"},
		{"PCR", `"pcr":2`, `"pcr":4`, "it belongs in PCR 2"},
		{"text and digest", `version=2.0 security-version=7"`, `version=2.0 security-version=6"`, "has digest"},
		{"other event", `nitro security-version value=7`, `nitro cap`, "has digest"},
		{"trailing", `}]}`, `}]} {}`, "behind the value"},
	} {
		s := strings.Replace(string(b), c.old, c.new, 1)
		if s == string(b) {
			t.Errorf("%s: nothing to replace", c.name)
		}
		if _, err := DecodeRelease([]byte(s)); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want %q", c.name, err, c.say)
		}
	}
	// An event that no boot measures, in good form.
	extra := build(t)
	extra.events = append(extra.events, eventlog.Cap())
	b, err = extra.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeRelease(b); err == nil || !strings.Contains(err.Error(), "in order") {
		t.Errorf("one event too many: %v", err)
	}
	for _, m := range []Manifest{
		{},
		{Anchors: make([]Anchors, 9), Bootloaders: manifestOf.Bootloaders, Controller: manifestOf.Controller, Authorities: manifestOf.Authorities},
		{Anchors: make([]Anchors, 2), Bootloaders: manifestOf.Bootloaders, Controller: manifestOf.Controller, Authorities: manifestOf.Authorities},
		{Anchors: manifestOf.Anchors, Bootloaders: manifestOf.Bootloaders, Controller: Component{Version: "two words"}, Authorities: manifestOf.Authorities},
	} {
		if _, err := Build(m); err == nil {
			t.Errorf("%+v can be built", m)
		}
	}
}

var key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)

// sign makes a TPMT_SIGNATURE, by hand.
func sign(digest [32]byte) ([]byte, error) {
	der, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		return nil, err
	}
	var n struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &n); err != nil {
		return nil, err
	}
	b := []byte{0, 0x18, 0, 0xb}
	for _, x := range []*big.Int{n.R, n.S} {
		b = append(b, 0, byte(len(x.Bytes())))
		b = append(b, x.Bytes()...)
	}
	return b, nil
}

func seal(t testing.TB) []byte {
	t.Helper()
	draft, err := NewDraft(board(), 77)
	if err != nil {
		t.Fatal(err)
	}
	signature, err := sign(draft.Digest())
	if err != nil {
		t.Fatal(err)
	}
	env, err := draft.Envelope(signature)
	if err != nil {
		t.Fatal(err)
	}
	return env
}

func TestBoard(t *testing.T) {
	env := seal(t)
	if string(env[:8]) != "NCBOARD1" || le.Uint32(env[12:]) != 77 || env[16] != '{' {
		t.Error("not as docs/medium.md has it")
	}
	place := append(bytes.Clone(env), make([]byte, 100)...)
	b, revision, err := OpenBoard(place, &key.PublicKey)
	if err != nil || revision != 77 || !reflect.DeepEqual(b, board()) {
		t.Fatalf("%v: %d %+v", err, revision, b)
	}
	for n := range len(env) * 8 {
		if testing.Short() && n%(8*5) != n/8%8 {
			continue // a bit of each fifth byte
		}
		place[n/8] ^= 1 << (n % 8)
		if _, _, err := OpenBoard(place, &key.PublicKey); err == nil {
			t.Errorf("byte %d, bit %d flipped: opens", n/8, n%8)
		}
		place[n/8] ^= 1 << (n % 8)
	}
	for n := range env {
		if _, _, err := OpenBoard(env[:n], &key.PublicKey); err == nil {
			t.Errorf("opens when cut to %d bytes", n)
		}
	}
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range []*ecdsa.PublicKey{&other.PublicKey, &p384.PublicKey, nil} {
		if _, _, err := OpenBoard(env, k); err == nil {
			t.Error("opens with another key")
		}
	}
}

func TestBoardRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b *Board)
		say    string
	}{
		{"name", func(b *Board) { b.AKName = b.AKName[1:] }, "name of 33 bytes"},
		{"no storage primary", func(b *Board) { b.StorageName = nil }, "name of 0 bytes"},
		{"PCR 1", func(b *Board) { b.PCR1[0]++ }, "give PCR 1"},
		{"number", func(b *Board) { b.UniqueID++ }, "first event"},
		{"product", func(b *Board) { b.Board = "x" }, "first event"},
		{"no event", func(b *Board) { b.Events, b.PCR1 = nil, eventlog.Digest{} }, "first event"},
		{"event of another PCR", func(b *Board) { b.Events = append(b.Events, eventlog.Cap()) }, "not in PCR 1"},
	} {
		b := board()
		c.change(b)
		if _, err := NewDraft(b, 1); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want %q", c.name, err, c.say)
		}
	}
	draft, err := NewDraft(board(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for _, signature := range [][]byte{nil, {0, 0x14, 0, 0xb, 0, 0, 0, 0}, {0, 0x18, 0, 0xc, 0, 0, 0, 0}, {0, 0x18, 0, 0xb, 0, 33}, {0, 0x18, 0, 0xb, 0, 1, 1}, {0, 0x18, 0, 0xb, 0, 1, 1, 0, 1, 1, 0}} {
		if _, err := draft.Envelope(signature); err == nil {
			t.Errorf("signature %x is taken", signature)
		}
	}
	payload, err := board().encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new string }{
		{`"format":1`, `"format":3`}, {`"unique_id":"0000000000000abc"`, `"unique_id":"0000000000000ABC"`},
		{`"unique_id":"0000000000000abc"`, `"unique_id":"abc"`}, {`"ak_name":"000b`, `"ak_name":"zz0b`}, {`"pcr1":"`, `"pcr1":"00`},
	} {
		s := strings.Replace(string(payload), c.old, c.new, 1)
		if _, err := decodeBoard([]byte(s)); err == nil || s == string(payload) {
			t.Errorf("%s decodes", c.new)
		}
	}
}

func FuzzOpenBoard(f *testing.F) {
	env := seal(f)
	f.Add(env)
	f.Add([]byte("NCBOARD1\xff\xff\xff\xff\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, env []byte) {
		if _, _, err := OpenBoard(env, &key.PublicKey); err == nil && !bytes.HasPrefix(env, seal(t)[:8]) {
			t.Error("opens what has no magic")
		}
		// What is behind the signature: the payload's own parser.
		if len(env) < boardHeader {
			return
		}
		b, err := decodeBoard(env[boardHeader:])
		if err != nil {
			return
		}
		again, err := b.encode()
		if err != nil {
			t.Fatal(err)
		}
		if c, err := decodeBoard(again); err != nil || !reflect.DeepEqual(b, c) {
			t.Errorf("again: %v", err)
		}
	})
}

func FuzzRelease(f *testing.F) {
	b, err := build(f).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := DecodeRelease(b)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if s, err := DecodeRelease(again); err != nil || !reflect.DeepEqual(r, s) {
			t.Errorf("again: %v", err)
		}
	})
}
