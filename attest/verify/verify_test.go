package verify

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/akcert"
	"nitro/attest/eventlog"
	"nitro/attest/evidence"
	"nitro/attest/golden"
	"nitro/attest/tpm"
)

// failed are the names of the checks that failed.
func failed(r *Result) (names []string) {
	for _, c := range r.Checks {
		if c.Outcome == Failed {
			names = append(names, c.Name)
		}
	}
	return names
}

func list(r *Result) string {
	s := ""
	for _, c := range r.Checks {
		s += c.String() + "\n"
	}
	return s
}

func TestAccepts(t *testing.T) {
	b := newSoft(t)
	text := encode(t, b.evidence(t, boot(newController)))
	r, err := Evidence(text, b.policy(t))
	if err != nil {
		t.Fatal(err)
	}
	f := r.Facts
	if f == nil || f.Board != product || f.UniqueID != "0000000000000abc" || f.LifeCycle != eventlog.Closed || f.SoCSecret != eventlog.OwnSecret ||
		f.Development || f.Release != 1 || f.Controller != newController || f.Bootloader != component(4, "1.1", 2) || f.TLSKey != tls || f.WrapKey != wrap ||
		!bytes.Equal(f.AKName, b.name) || len(f.Log.Events()) != len(boot(newController)) || !slices.Contains(f.NotChecked, "the clock: it was not set yet") {
		t.Errorf("%+v", f)
	}
	if len(r.Checks) != len(steps) {
		t.Errorf("%d checks, not %d", len(r.Checks), len(steps))
	}
	for _, c := range r.Checks {
		if c.Name == "host firmware" { // TestHost
			continue
		}
		if c.Outcome != OK || !c.Wanted || !strings.HasPrefix(c.String(), "ok        "+c.Name) {
			t.Error(c)
		}
	}

	// Each way to know the key is enough, and a check that is not wanted is not made.
	for name, p := range map[string]Policy{
		"issuers": {Issuers: b.issuers},
		"names":   {Names: [][]byte{b.name}},
		"board":   {Board: b.boardPart()},
	} {
		p.Nonce, p.Releases = nonceOf, []*golden.Release{release(t, newController)}
		r, err := Evidence(text, p)
		if err != nil || r.Facts == nil {
			t.Errorf("%s: %v", name, err)
		}
		not := 0
		for _, c := range r.Checks {
			if c.Outcome == NotMade && !c.Wanted {
				not++
			}
		}
		if not != 6 {
			t.Errorf("%s: %d checks not made\n%s", name, not, list(r))
		}
	}
}

// The host's firmware, and a cycle that has measured it.
var (
	biosIs     = eventlog.Firmware{Digest: d(60), Manifest: d(61), Version: "F.30", SecurityVersion: 1}
	bmcIs      = eventlog.Firmware{Digest: d(62), Manifest: d(63), Version: "2.14", SecurityVersion: 1}
	hosts      = &golden.HostSet{Host: []eventlog.Firmware{biosIs}, BMC: []eventlog.Firmware{bmcIs}}
	hostEvents = []eventlog.Event{eventlog.HostCycle(7, eventlog.Verified), eventlog.HostFirmware(7, biosIs), eventlog.BMCFirmware(7, bmcIs)}
)

// TestHost: evidence of a board whose host was released with known firmware, or adopted.
func TestHost(t *testing.T) {
	b := newSoft(t)
	for _, how := range []eventlog.How{eventlog.Verified, eventlog.Adopted} {
		p := b.policy(t)
		p.Host = hosts
		events := append(append(boot(newController), eventlog.HostCycle(7, how)), hostEvents[1:]...)
		r, err := Evidence(encode(t, b.evidence(t, events)), p)
		if err != nil || r.Facts.Host == nil || r.Facts.Host.Number != 7 || r.Facts.Host.Adopted != (how == eventlog.Adopted) || r.Facts.Host.Firmware.Value("version") != "F.30" {
			t.Errorf("%s: %+v, %v", how, r.Facts, err)
		}
	}
}

// TestRefuses: what is wrong, and which checks find it: these and no others.
func TestRefuses(t *testing.T) {
	b, other := newSoft(t), newSoft(t)
	good := boot(newController)
	measured := func(events []eventlog.Event) func(*evidence.Evidence, *Policy) {
		return func(e *evidence.Evidence, _ *Policy) { *e = *b.evidence(t, events) }
	}
	quoted := func(change func(*tpm2.TPMSAttest)) func(*evidence.Evidence, *Policy) {
		return func(e *evidence.Evidence, _ *Policy) {
			a := b.attest(e.PCRs, nonceOf, all()...)
			change(a)
			b.sign(t, e, a)
		}
	}
	selected := func(s tpm2.TPMLPCRSelection, pcrs ...uint) func(*evidence.Evidence, *Policy) {
		return func(e *evidence.Evidence, _ *Policy) {
			a := b.attest(e.PCRs, nonceOf, pcrs...)
			info := must(a.Attested.Quote())(t)
			info.PCRSelect = s
			a.Attested = tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, info)
			b.sign(t, e, a)
		}
	}
	board := func(life eventlog.LifeCycle, secret eventlog.SoCSecret) func(*evidence.Evidence, *Policy) {
		return func(e *evidence.Evidence, p *Policy) {
			ev := eventlog.Board(product, number, life, secret)
			*e = *b.evidence(t, with(good, ev))
			p.Board.Events, p.Board.PCR1 = []eventlog.Event{ev}, eventlog.Extend(eventlog.Digest{}, ev.Digest())
		}
	}
	hosted := func(events ...eventlog.Event) func(*evidence.Evidence, *Policy) {
		return func(e *evidence.Evidence, p *Policy) {
			*e, p.Host = *b.evidence(t, append(slices.Clone(good), events...)), hosts
		}
	}
	for _, c := range []struct {
		name   string
		change func(e *evidence.Evidence, p *Policy)
		failed string
		say    string
	}{
		{"another nonce is asked for", func(_ *evidence.Evidence, p *Policy) { p.Nonce = []byte("another nonce") }, "nonce", "ask again"},
		{"old evidence with a new nonce beside it", func(e *evidence.Evidence, p *Policy) { p.Nonce = []byte("another nonce"); e.Nonce = p.Nonce }, "nonce", "ask again"},
		{"the nonce beside the quote is another", func(e *evidence.Evidence, _ *Policy) { e.Nonce = []byte("another nonce") }, "nonce", ""},
		{"another board's key", func(e *evidence.Evidence, _ *Policy) { e.AKPublic, e.AKName = other.public, other.name },
			"known key, signature, key certificate, board part", "not among those"},
		{"another board altogether", func(e *evidence.Evidence, _ *Policy) { *e = *other.evidence(t, good) },
			"known key, key certificate, board part", ""},
		{"another board signs", func(e *evidence.Evidence, _ *Policy) { other.signRaw(t, e) }, "signature", "not of the attestation key"},
		{"name of another key", func(e *evidence.Evidence, _ *Policy) { e.AKName = other.name }, "attestation key", "not that of the public area"},
		{"a key that signs anything", func(e *evidence.Evidence, _ *Policy) { e.AKPublic = bytes.Clone(e.AKPublic); e.AKPublic[5] &^= 1 }, "attestation key", "not a restricted"},
		{"certificate of another's issuer", func(e *evidence.Evidence, _ *Policy) {
			e.AKCertificate = must(akcert.New(b.request(), other.ownerCA, other.owner))(t)
		}, "key certificate", "does not vouch"},
		{"no certificate", func(e *evidence.Evidence, p *Policy) { e.AKCertificate = nil }, "key certificate", "has no certificate"},
		{"certificate of another board", func(e *evidence.Evidence, _ *Policy) {
			r := b.request()
			r.UniqueID++
			e.AKCertificate = must(akcert.New(r, b.ownerCA, b.owner))(t)
		}, "key certificate", "another board"},
		{"certificate has run out", func(e *evidence.Evidence, _ *Policy) {
			r := b.request()
			r.NotAfter = time.Now().Add(-time.Hour)
			e.AKCertificate = must(akcert.New(r, b.ownerCA, b.owner))(t)
		}, "key certificate", "expired"},
		{"certificate for another endorsement key", func(e *evidence.Evidence, _ *Policy) {
			r := b.request()
			r.EKCertificate = other.ekChain[0]
			e.AKCertificate = must(akcert.New(r, b.ownerCA, b.owner))(t)
		}, "endorsement", "another EK certificate"},
		{"endorsement of another maker", func(_ *evidence.Evidence, p *Policy) { p.Makers = other.makers }, "endorsement", "no certificate of a known TPM maker"},
		{"endorsement has run out", func(e *evidence.Evidence, p *Policy) {
			e.EKCertificates, p.Issuers = b.endorse(t, time.Now().Add(-time.Hour)), nil
		}, "endorsement", "expired"},
		{"before all certificates", func(e *evidence.Evidence, p *Policy) { p.At = time.Unix(0, 0) }, "key certificate, endorsement", "not yet valid"},
		{"endorsement without the middle", func(e *evidence.Evidence, _ *Policy) { e.EKCertificates = e.EKCertificates[:1] }, "endorsement", ""},
		{"endorsement with a stranger in it", func(e *evidence.Evidence, _ *Policy) {
			e.EKCertificates = append(slices.Clone(e.EKCertificates), other.makerCA.Raw)
		},
			"endorsement", "not by the next one's key"},
		{"no endorsement", func(e *evidence.Evidence, _ *Policy) { e.EKCertificates = nil }, "endorsement", "has no certificate"},
		{"endorsement key of another board part", func(_ *evidence.Evidence, p *Policy) { p.Board.EKName = other.name }, "endorsement", "another board's"},
		{"key under another primary", func(_ *evidence.Evidence, p *Policy) { p.Board.StorageName = other.name }, "board part", "storage primary"},
		{"development other than provisioned", func(_ *evidence.Evidence, p *Policy) { p.Board.Development = true }, "board part", "as it was provisioned"},
		{"another number", func(e *evidence.Evidence, _ *Policy) {
			*e = *b.evidence(t, with(good, eventlog.Board(product, number+1, eventlog.Closed, eventlog.OwnSecret)))
		}, "key certificate, board part", "another board"},

		{"another attestation than a quote", quoted(func(a *tpm2.TPMSAttest) {
			a.Type, a.Attested = tpm2.TPMSTAttestTime, tpm2.NewTPMUAttest(tpm2.TPMSTAttestTime, &tpm2.TPMSTimeAttestInfo{})
		}), "quote", "not a quote"},
		{"another magic", quoted(func(a *tpm2.TPMSAttest) { a.Magic++ }), "quote", "not a quote"},
		{"something behind the quote", func(e *evidence.Evidence, _ *Policy) { e.Quote = append(e.Quote, 0); b.signRaw(t, e) }, "quote", "behind it"},
		{"half a quote", func(e *evidence.Evidence, _ *Policy) { e.Quote = e.Quote[:20]; b.signRaw(t, e) }, "quote", ""},
		{"four bytes of a quote", func(e *evidence.Evidence, _ *Policy) { e.Quote = e.Quote[:4]; b.signRaw(t, e) }, "quote", "4 bytes"},
		{"quote over no PCR", selected(tpm2.TPMLPCRSelection{}), "PCR selection, PCR values", "other PCRs"},
		{"quote without PCR 7", selected(tpm.PCRSelection(0, 1, 2, 3, 4, 5, 6, 8), 0, 1, 2, 3, 4, 5, 6, 8), "PCR selection, PCR values", ""},
		{"selection of another bank", selected(tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA1, PCRSelect: tpm2.PCClientCompatible.PCRs(all()...)}}}, all()...), "PCR selection", ""},
		{"two selections", selected(tpm2.TPMLPCRSelection{PCRSelections: append(tpm.PCRSelection(all()...).PCRSelections, tpm.PCRSelection().PCRSelections...)}, all()...), "PCR selection", ""},
		{"one PCR more", selected(tpm.PCRSelection(append(all(), 16)...), all()...), "PCR selection", ""},
		{"values that are not quoted", func(e *evidence.Evidence, _ *Policy) { e.PCRs[4][0] ^= 1 }, "PCR values, replay", "PCR 4"},

		{"log of another boot", func(e *evidence.Evidence, _ *Policy) { e.EventLog = logOf(t, boot(oldController)).Bytes() }, "replay, security version", "PCR 2"},
		{"event that was not measured", func(e *evidence.Evidence, _ *Policy) {
			e.EventLog = logOf(t, append(slices.Clone(good), eventlog.Configuration(d(51), 4))).Bytes()
		}, "replay", "PCR 3"},
		{"event left out", func(e *evidence.Evidence, _ *Policy) { e.EventLog = logOf(t, without(good, "configuration")).Bytes() }, "replay, claims, configuration", "PCR 3"},
		{"log cut", func(e *evidence.Evidence, _ *Policy) { e.EventLog = e.EventLog[:len(e.EventLog)-1] }, "event log", "event 9"},

		{"another board is claimed", func(e *evidence.Evidence, _ *Policy) { e.Board = "imx6ul-evl" }, "claims", "something else than its log"},
		{"no development is claimed", func(e *evidence.Evidence, p *Policy) {
			*e = *b.evidence(t, with(good, eventlog.Anchors(d(2), true)))
			e.Development, p.Development = false, true
		}, "claims", "something else"},
		{"another TLS key is claimed", func(e *evidence.Evidence, p *Policy) { e.TLSKey = d(99); p.TLSKey = &e.TLSKey }, "claims", "something else"},
		{"another wrapping key is claimed", func(e *evidence.Evidence, p *Policy) { e.WrapKey = d(99); p.WrapKey = &e.WrapKey }, "claims", "something else"},
		{"two identities", measured(append(slices.Clone(good), eventlog.Identity(d(30), d(31)))), "claims", "2 events"},
		{"no identity", measured(without(good, "identity")), "claims", "0 events"},
		{"no anchors", measured(without(good, "anchors")), "claims, release, development", "0 events"},
		{"not_checked is empty", func(e *evidence.Evidence, _ *Policy) { e.NotChecked = nil }, "claims", "leaves something out"},
		{"not_checked without its second", func(e *evidence.Evidence, _ *Policy) { e.NotChecked = slices.Delete(slices.Clone(e.NotChecked), 1, 2) }, "claims", "leaves something out"},

		{"another controller", measured(with(good, eventlog.Controller(d(66), "2.0", 7))), "release", "controller in PCR 2"},
		{"another bootloader", measured(with(good, eventlog.Bootloader(d(66), "1.1", 2))), "release", "bootloader in PCR 0"},
		{"another authority", measured(with(good, eventlog.Authority(d(6), d(8)))), "release", "authority in PCR 7"},
		{"two controllers", measured(append(slices.Clone(good), good[4])), "release", "controller in PCR 2"},
		{"in quarantine", measured(append(slices.Clone(good), eventlog.Quarantine(602))), "service", "in quarantine"},
		{"not capped", measured(without(good, "cap")), "cap", "can still be unsealed"},
		{"measured after the cap", measured(append(slices.Clone(good), eventlog.SecurityVersion(7))), "release, cap, security version", "last event of PCR 7"},
		{"capped twice", measured(append(slices.Clone(good), eventlog.Cap())), "release", "cap in PCR 7"},
		{"old release", measured(boot(oldController)), "security version", "too old"},
		{"older release's version under the new one", measured(with(good, eventlog.SecurityVersion(6))), "release, security version", "not known good"},
		{"two security versions", measured(append(slices.Clone(without(good, "cap")), eventlog.SecurityVersion(7), eventlog.Cap())), "release, security version", "not one event"},
		{"another configuration", measured(with(good, eventlog.Configuration(d(52), 3))), "configuration", "not among"},
		{"another configuration, put right later", measured(append(with(good, eventlog.Configuration(d(52), 3)), eventlog.Configuration(d(50), 3))), "configuration", "not among"},
		{"an older configuration later", measured(append(slices.Clone(good), eventlog.Configuration(d(51), 2))), "configuration", "epoch fell"},
		{"no configuration", measured(without(good, "configuration")), "configuration", "no configuration"},
		{"another policy set", func(e *evidence.Evidence, p *Policy) {
			*e, p.PolicySets = *b.evidence(t, append(slices.Clone(good), eventlog.Policy(d(61), 1))), []eventlog.Digest{d(60)}
		}, "policy set", "not among"},
		{"no policy set", func(_ *evidence.Evidence, p *Policy) { p.PolicySets = []eventlog.Digest{d(60)} }, "policy set", "no policy was measured"},
		{"an older policy set later", measured(append(slices.Clone(good), eventlog.Policy(d(60), 2), eventlog.Policy(d(61), 1))), "policy set", "epoch fell"},
		{"development", func(e *evidence.Evidence, p *Policy) {
			*e = *b.evidence(t, with(good, eventlog.Anchors(d(2), true)))
			p.Board.Development = true
		}, "development", "development keys"},
		{"open", board(eventlog.Open, eventlog.OwnSecret), "life cycle", "close the chip"},
		{"shared secret", board(eventlog.Closed, eventlog.SharedSecret), "SoC secret", "not the chip's own"},
		{"no secret", board(eventlog.Closed, eventlog.NoSecret), "SoC secret", "not the chip's own"},
		{"no host", func(_ *evidence.Evidence, p *Policy) { p.Host = hosts }, "host firmware", "no cycle of the host"},
		{"host was not released", hosted(eventlog.HostCycle(7, eventlog.Verified)), "host firmware", "PCR 4: host-firmware"},
		{"another host firmware", hosted(eventlog.HostCycle(7, eventlog.Verified), eventlog.HostFirmware(7, bmcIs), eventlog.BMCFirmware(7, bmcIs)), "host firmware", "PCR 4: host-firmware"},
		{"no BMC", hosted(eventlog.HostCycle(7, eventlog.Verified), eventlog.HostFirmware(7, biosIs)), "host firmware", "PCR 5: bmc-firmware"},
		{"a new cycle after the good one", hosted(append(slices.Clone(hostEvents), eventlog.HostCycle(8, eventlog.Verified))...), "host firmware", "PCR 4: host-firmware"},
		{"cycles out of order", hosted(hostEvents[1], hostEvents[0], hostEvents[2]), "host cycles, host firmware", "is not in cycle"},
		{"another TLS key", func(_ *evidence.Evidence, p *Policy) { k := d(99); p.TLSKey = &k }, "TLS key", "somebody is between"},
		{"another wrapping key", func(_ *evidence.Evidence, p *Policy) { k := d(99); p.WrapKey = &k }, "wrapping key", "wrapping key"},
	} {
		e, p := b.evidence(t, good), b.policy(t)
		c.change(e, &p)
		r, err := Evidence(encode(t, e), p)
		if got := strings.Join(failed(r), ", "); got != c.failed || !errors.Is(err, ErrRefused) || !strings.Contains(err.Error()+list(r), c.say) || r.Facts != nil {
			t.Errorf("%s: %v: failed are %q, not %q; want %q\n%s", c.name, err, got, c.failed, c.say, list(r))
		}
	}
}

// TestAccepted: what a policy accepts beside the best is accepted, and alone.
func TestAccepted(t *testing.T) {
	b := newSoft(t)
	weak := with(with(boot(newController), eventlog.Anchors(d(2), true)), eventlog.Board(product, number, eventlog.Open, eventlog.NoSecret))
	weak = append(weak, eventlog.Quarantine(501))
	text := encode(t, b.evidence(t, weak))
	for n := range 16 {
		p := b.policy(t)
		p.Board = nil
		p.Development, p.OpenLifeCycle, p.WeakSecret, p.Quarantine = n&1 != 0, n&2 != 0, n&4 != 0, n&8 != 0
		r, err := Evidence(text, p)
		if (err == nil) != (n == 15) || (r.Facts != nil) != (n == 15) || len(failed(r)) != 4-bits.OnesCount(uint(n)) {
			t.Errorf("%+v: %v\n%s", n, err, list(r))
		}
	}
}

// TestPolicy: there is no permissive mode.
func TestPolicy(t *testing.T) {
	b := newSoft(t)
	text := encode(t, b.evidence(t, boot(newController)))
	for name, change := range map[string]func(*Policy){
		"none":          func(p *Policy) { *p = Policy{} },
		"no nonce":      func(p *Policy) { p.Nonce = nil },
		"short nonce":   func(p *Policy) { p.Nonce = p.Nonce[:7] },
		"long nonce":    func(p *Policy) { p.Nonce = make([]byte, 65) },
		"no key":        func(p *Policy) { p.Issuers, p.Names, p.Board = nil, nil, nil },
		"no tie":        func(p *Policy) { p.Issuers, p.Board = nil, nil },
		"no release":    func(p *Policy) { p.Releases = nil },
		"nil release":   func(p *Policy) { p.Releases = append(p.Releases, nil) },
		"empty release": func(p *Policy) { p.Releases = append(p.Releases, &golden.Release{}) },
	} {
		p := b.policy(t)
		change(&p)
		if r, err := Evidence(text, p); !errors.Is(err, ErrPolicy) || r == nil || r.Facts != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	p := b.policy(t)
	p.Issuers, p.Names = x509.NewCertPool(), [][]byte{nil}
	if _, err := Evidence(text, p); !errors.Is(err, ErrRefused) {
		t.Errorf("empty lists: %v", err)
	}
}

// TestEveryByte: no byte of evidence can be changed but in the words that nobody signs.
func TestEveryByte(t *testing.T) {
	b := newSoft(t)
	p := b.policy(t)
	e := b.evidence(t, boot(newController))
	text := encode(t, e)
	const words, slot = "the clock: it was not set yet", "nitro slot slot=a attempt=3"
	clock := bytes.Index(text, []byte(words))
	told := bytes.Index(e.EventLog, []byte(slot)) // is not measured
	log := bytes.Index(text, []byte(`"event_log":"`)) + len(`"event_log":"`)
	free := func(i int) bool {
		return i >= clock && i < clock+len(words) || i >= log+told/3*4 && i < log+(told+len(slot)+2)/3*4
	}
	stride := 1
	if testing.Short() {
		stride = 7
		if runtime.GOARCH == "arm" { // emulated
			stride = 151
		}
	}
	changed := bytes.Clone(text)
	for i := 0; i < len(text); i += stride {
		bit := byte(1) << (i % 7)
		if changed[i] ^= bit; changed[i] == text[i]^0x20 && isHexLetter(text[i]) {
			bit ^= 0x21 // upper case would do as well
			changed[i] = text[i] ^ bit
		}
		if _, err := Evidence(changed, p); err == nil && !free(i) {
			t.Errorf("byte %d, %q to %q: accepted: ...%q...", i, text[i], changed[i], text[max(0, i-20):min(len(text), i+20)])
		}
		changed[i] = text[i]
	}
	for i := 0; i < len(text); i += 97 {
		if _, err := Evidence(text[:i], p); err == nil {
			t.Errorf("cut to %d bytes: accepted", i)
		}
	}

	// And the parts in themselves, with all else as it should be.
	for name, part := range map[string]*[]byte{
		"quote": &e.Quote, "signature": &e.Signature, "log": &e.EventLog, "public": &e.AKPublic, "name": &e.AKName, "certificate": &e.AKCertificate,
		"EK certificate": &e.EKCertificates[0], "its issuer's": &e.EKCertificates[1], "nonce": &e.Nonce,
	} {
		whole := *part
		for i := 0; i < len(whole); i += stride {
			if name == "log" && i >= told && i < told+len(slot) {
				continue
			}
			*part = bytes.Clone(whole)
			(*part)[i] ^= 1 << (i % 8)
			if _, err := Evidence(encode(t, e), p); err == nil {
				t.Errorf("%s, byte %d of %d: accepted", name, i, len(whole))
			}
		}
		*part = whole
	}
	if _, err := Evidence(encode(t, e), p); err != nil {
		t.Error(err)
	}
}

func isHexLetter(c byte) bool { return c >= 'a' && c <= 'f' }

// TestPrintable: nothing that a board says reaches a terminal as more than text.
func TestPrintable(t *testing.T) {
	b := newSoft(t)
	e := b.evidence(t, boot(newController))
	r := b.request()
	r.Product = "\x1b[2J\u009b"
	e.AKCertificate = must(akcert.New(r, b.ownerCA, b.owner))(t)
	garbage := make([]byte, 300)
	rand.Read(garbage)
	for _, text := range [][]byte{encode(t, e), garbage, []byte("{\"\x1b\":1}")} {
		r, err := Evidence(text, b.policy(t))
		if err == nil {
			t.Error("accepted")
		}
		for _, c := range strings.ReplaceAll(list(r)+strings.ReplaceAll(fmt.Sprint(err), "\n", ""), "\n", "") {
			if c < ' ' || c > '~' {
				t.Errorf("%q", list(r))
				break
			}
		}
	}
}

// TestWrittenDown: docs/attestation.md lists the same checks in the same order.
func TestWrittenDown(t *testing.T) {
	doc := string(must(os.ReadFile("../../docs/attestation.md"))(t))
	_, doc, _ = strings.Cut(doc, "### What a verifier checks")
	var got []string
	for line := range strings.Lines(doc) {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			got = append(got, strings.TrimSpace(cells[1]))
		}
	}
	want := []string{"check", "---"}
	for _, s := range steps {
		want = append(want, s.name)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the document has\n%q\nthe code\n%q", got, want)
	}
}
