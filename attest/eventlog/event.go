package eventlog

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// MaxText is the longest text of an event in bytes.
const MaxText = 512

// An Event is one measurement, or with [NoAction] something told. Events can be compared
// with ==.
type Event struct {
	PCR  int
	Type Type
	Text string
}

// Digest is what is extended: SHA-256 over the type, 4 bytes little endian, and the text.
// With the type in it, code cannot pass for data. It is zero where nothing is measured.
func (e Event) Digest() Digest {
	if e.Type == NoAction {
		return Digest{}
	}
	return sha256.Sum256(append(le.AppendUint32(nil, uint32(e.Type)), e.Text...))
}

// form is how the events of one name look.
type form struct {
	pcr  int
	kind Type
	keys []string
}

// forms are those of docs/attestation.md, "Event log".
var forms = map[string]form{
	"anchors":          {0, ConfigFlags, []string{"sha256", "development"}},
	"bootloader":       {0, PostCode, []string{"sha256", "version", "security-version"}},
	"board":            {1, ConfigFlags, []string{"product", "unique-id", "life-cycle", "soc-secret"}},
	"controller":       {2, PostCode, []string{"sha256", "version", "security-version"}},
	"configuration":    {3, ConfigFlags, []string{"sha256", "epoch"}},
	"policy":           {3, ConfigFlags, []string{"sha256", "epoch"}},
	"authority":        {7, ConfigFlags, []string{"ed25519", "mldsa65"}},
	"security-version": {7, ConfigFlags, []string{"value"}},
	"cap":              {7, ConfigFlags, nil},
	"identity":         {8, ConfigFlags, []string{"tls", "wrap"}},
	"recipient":        {8, ConfigFlags, []string{"sha256"}},
	"quarantine":       {8, ConfigFlags, []string{"code"}},
	"slot":             {toldPCR, NoAction, []string{"slot", "attempt"}},
	"host-cycle":       {4, ConfigFlags, []string{"cycle", "how"}},
	"host-firmware":    {4, PostCode, []string{"cycle", "sha256", "manifest", "version", "security-version"}},
	"bmc-firmware":     {5, PostCode, []string{"cycle", "sha256", "manifest", "version", "security-version"}},
	"recovery":         {6, ConfigFlags, []string{"cycle", "what", "was", "sha256"}},
	"component":        {6, PostCode, []string{"cycle", "what", "sha256", "version"}},
}

// toldPCR is the index that is written into events of type NoAction. Nothing is ever
// measured into that PCR. tpm2-tools up to 5.5 extends by these events too (its issue
// 3224): with an index in use, its PCRs would be wrong.
const toldPCR = 23

// event makes one of a known name.
func event(name string, values ...string) Event {
	f := forms[name]
	var text strings.Builder
	text.WriteString("nitro " + name)
	for i, key := range f.keys {
		text.WriteString(" " + key + "=" + values[i])
	}
	return Event{f.pcr, f.kind, text.String()}
}

func hex(d Digest) string                   { return fmt.Sprintf("%x", d) }
func decimal[N uint32 | uint64](n N) string { return strconv.FormatUint(uint64(n), 10) }

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// Anchors measures the anchor block: the SHA-256 of its bytes on the medium.
func Anchors(block Digest, development bool) Event {
	return event("anchors", hex(block), flag(development))
}

// Bootloader measures the bootloader: the SHA-256 of its payload, and what its header
// says.
func Bootloader(payload Digest, version string, securityVersion uint32) Event {
	return event("bootloader", hex(payload), version, decimal(securityVersion))
}

// A LifeCycle is whether a chip runs only what its maker's owner has signed.
type LifeCycle string

const (
	Open   LifeCycle = "open"   // the boot ROM runs anything; also under emulation
	Closed LifeCycle = "closed" // it runs what is signed
)

// A SoCSecret is the strength of the SoC's secret.
type SoCSecret string

const (
	NoSecret     SoCSecret = "none"   // under emulation
	SharedSecret SoCSecret = "shared" // the same on every chip
	OwnSecret    SoCSecret = "own"    // the chip's own
)

// Board measures the board itself.
func Board(product string, uniqueID uint64, life LifeCycle, secret SoCSecret) Event {
	return event("board", product, fmt.Sprintf("%016x", uniqueID), string(life), string(secret))
}

// Controller measures the controller: the SHA-256 of its payload, and what its header
// says.
func Controller(payload Digest, version string, securityVersion uint32) Event {
	return event("controller", hex(payload), version, decimal(securityVersion))
}

// Configuration measures the configuration: the SHA-256 of its payload.
func Configuration(payload Digest, epoch uint64) Event {
	return event("configuration", hex(payload), decimal(epoch))
}

// Policy measures the policy set, which says who may do what: the SHA-256 of its payload.
func Policy(payload Digest, epoch uint64) Event {
	return event("policy", hex(payload), decimal(epoch))
}

// Authority measures which keys the controller was verified with: their SHA-256.
func Authority(ed25519Key, mldsa65Key Digest) Event {
	return event("authority", hex(ed25519Key), hex(mldsa65Key))
}

// SecurityVersion measures the controller's security version, as the rollback floor is
// compared with it.
func SecurityVersion(v uint32) Event { return event("security-version", decimal(v)) }

// Cap ends the time in which this boot can unseal: the sealing policy's PCR 7 is one
// without it.
func Cap() Event { return event("cap") }

// Identity measures the hashes of this boot's TLS public key and key-wrapping public key,
// so that any plain quote binds them.
func Identity(tls, wrap Digest) Event { return event("identity", hex(tls), hex(wrap)) }

// Recipient measures this boot's recipient key (RSA), once it is made: the SHA-256 of its
// SubjectPublicKeyInfo.
func Recipient(key Digest) Event { return event("recipient", hex(key)) }

// Slot tells, unmeasured, which slot runs, 0 or 1, and how many attempts it had left.
// Measured it would make two PCR values of one release.
func Slot(slot int, attempt uint32) Event {
	return event("slot", string(rune('a'+slot)), decimal(attempt))
}

// How is how a cycle of the host came to run.
type How string

const (
	Verified How = "verified" // its firmware was verified, and then it was released
	Adopted  How = "adopted"  // it ran when the controller started, and a ticket vouched for it
)

// Quarantine measures that this boot has gone into quarantine, and its code: evidence of
// such a board must not pass for that of one in service.
func Quarantine(code uint32) Event { return event("quarantine", decimal(code)) }

// HostCycle begins a cycle of the host. It comes first; all other events of the cycle name
// it, since those of one PCR could else be read as another cycle's.
func HostCycle(cycle uint64, how How) Event { return event("host-cycle", decimal(cycle), string(how)) }

// A Firmware is what the host or its BMC runs.
type Firmware struct {
	Digest          Digest // SHA-256 of all that is static, as its manifest defines it
	Manifest        Digest // SHA-256 of the signed manifest
	Version         string
	SecurityVersion uint32
}

// HostFirmware measures the host's system firmware.
func HostFirmware(cycle uint64, f Firmware) Event { return f.event("host-firmware", cycle) }

// BMCFirmware measures the BMC's.
func BMCFirmware(cycle uint64, f Firmware) Event { return f.event("bmc-firmware", cycle) }

func (f Firmware) event(name string, cycle uint64) Event {
	return event(name, decimal(cycle), hex(f.Digest), hex(f.Manifest), f.Version, decimal(f.SecurityVersion))
}

// Recovery measures that something was found to be other than it should be (the SHA-256 of
// what was there), and was put right (of what is there now).
func Recovery(cycle uint64, what string, was, now Digest) Event {
	return event("recovery", decimal(cycle), what, hex(was), hex(now))
}

// Component measures another part of the host, or who signed its firmware (the SHA-256 of
// the keys).
func Component(cycle uint64, what string, digest Digest, version string) Event {
	return event("component", decimal(cycle), what, hex(digest), version)
}

// ParseText makes an event of its text, as kept outside of a log. It takes only what a
// constructor could have made.
func ParseText(text string) (Event, error) {
	e := Event{Text: text}
	if f, known := forms[e.Name()]; known {
		e.PCR, e.Type = f.pcr, f.kind
	}
	return e, e.check()
}

// Name is the event's, without "nitro".
func (e Event) Name() string {
	words := strings.Split(e.Text, " ")
	if len(words) < 2 {
		return ""
	}
	return words[1]
}

// Value is that of a key; "" where there is none.
func (e Event) Value(key string) string {
	for _, word := range strings.Split(e.Text, " ") {
		if v, ok := strings.CutPrefix(word, key+"="); ok {
			return v
		}
	}
	return ""
}

// check refuses what no constructor makes of words that its values may be.
func (e Event) check() error {
	if len(e.Text) > MaxText {
		return fmt.Errorf("eventlog: text of %d bytes, at most %d", len(e.Text), MaxText)
	}
	words := strings.Split(e.Text, " ")
	if len(words) < 2 || words[0] != "nitro" {
		return fmt.Errorf("eventlog: %q is not `nitro <name> key=value ...`", e.Text)
	}
	f, known := forms[words[1]]
	if !known {
		return fmt.Errorf("eventlog: %q: there is no event of this name", e.Text)
	}
	if e.PCR != f.pcr || e.Type != f.kind {
		return fmt.Errorf("eventlog: %q in PCR %d as %v: it belongs in PCR %d as %v", e.Text, e.PCR, e.Type, f.pcr, f.kind)
	}
	if len(words)-2 != len(f.keys) {
		return fmt.Errorf("eventlog: %q: the keys are %v", e.Text, f.keys)
	}
	for i, key := range f.keys {
		v, ok := strings.CutPrefix(words[2+i], key+"=")
		if !ok || !valid(key, v) {
			return fmt.Errorf("eventlog: %q: %q is not a value of %s", e.Text, words[2+i], key)
		}
	}
	return nil
}

// valid tells whether a value can be a key's. Each has one form only, so that there is one
// digest for one fact.
func valid(key, v string) bool {
	switch key {
	case "sha256", "ed25519", "mldsa65", "tls", "wrap", "manifest", "was":
		return lowerHex(v, 64)
	case "unique-id":
		return lowerHex(v, 16)
	case "development":
		return v == "0" || v == "1"
	case "slot":
		return v == "a" || v == "b"
	case "life-cycle":
		return slices.Contains([]LifeCycle{Open, Closed}, LifeCycle(v))
	case "soc-secret":
		return slices.Contains([]SoCSecret{NoSecret, SharedSecret, OwnSecret}, SoCSecret(v))
	case "security-version", "value", "attempt":
		return isDecimal(v, 32)
	case "how":
		return slices.Contains([]How{Verified, Adopted}, How(v))
	case "epoch", "cycle":
		return isDecimal(v, 64)
	}
	return word(v) // version, product, what
}

func lowerHex(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}

func isDecimal(s string, bits int) bool {
	n, err := strconv.ParseUint(s, 10, bits)
	return err == nil && decimal(n) == s
}

// word tells whether s is printable ASCII without a space, at most 32 characters: what a
// text field of an image's header can be.
func word(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= 32
}
