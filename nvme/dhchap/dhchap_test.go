package dhchap

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"testing"
)

// example is a secret that nvme gen-dhchap-key made.
const example = "DHHC-1:01:27vup6MiNIrRNURxNQBW6Uee719bsCNAposWDyO20PyLLMUQ:"

func TestSecret(t *testing.T) {
	var s Secret
	if err := s.Set([]byte(example)); err != nil {
		t.Fatal(err)
	}
	if got := s.Reveal(); got != example {
		t.Errorf("%s, want %s", got, example)
	}
	if got := fmt.Sprint(&s) + fmt.Sprintf("%#v", &s); strings.Contains(got, "27vu") || len(got) > 40 {
		t.Errorf("printed as %s", got)
	}
	s.Zero()
	if !s.Empty() || s.key != [MaxHash]byte{} {
		t.Error("not overwritten")
	}
	for _, h := range []Hash{SHA256, SHA384, SHA512} {
		var other Secret
		if err := s.Generate(h); err != nil {
			t.Fatal(err)
		}
		if err := other.Set([]byte(s.Reveal())); err != nil || !other.Same(&s) {
			t.Errorf("%d: %v", h, err)
		}
		other.key[0] ^= 1
		if other.Same(&s) {
			t.Errorf("%d: secrets that differ are the same", h)
		}
	}
	if err := s.Generate(4); err == nil || !s.Empty() {
		t.Error("a secret for hash function 4")
	}
}

func TestSecretRefused(t *testing.T) {
	for _, text := range []string{
		"", "DHHC-1:", "DHHC-1:01::", "DHHC-1:01:27vup6MiNIrRNURxNQBW6Uee719bsCNAposWDyO20PyLLMUQ",
		strings.Replace(example, "DHHC-1", "DHHC-2", 1), strings.Replace(example, ":01:", ":02:", 1),
		strings.Replace(example, ":01:", ":04:", 1), strings.Replace(example, ":01:", ":11:", 1),
		strings.Replace(example, "27v", "28v", 1), strings.Replace(example, "27v", "2:v", 1),
		"DHHC-1:01:" + strings.Repeat("A", 300) + ":",
	} {
		var s Secret
		if err := s.Set([]byte(text)); err == nil || !s.Empty() {
			t.Errorf("%q accepted", text)
		}
	}
}

// TestPrimes holds each prime to what RFC 7919 says of it: its length, its first and last
// 64 bits set, and that it and (p-1)/2 are prime.
func TestPrimes(t *testing.T) {
	for g := FFDHE2048; g <= FFDHE8192; g++ {
		p := g.known().prime()
		ones := new(big.Int).SetUint64(^uint64(0))
		if p.BitLen() != 8*g.Size() || new(big.Int).And(p, ones).Cmp(ones) != 0 || new(big.Int).Rsh(p, uint(p.BitLen()-64)).Cmp(ones) != 0 {
			t.Errorf("group %d: %x", g, p)
		}
		if g > FFDHE2048 && testing.Short() {
			continue
		}
		if !p.ProbablyPrime(0) || !new(big.Int).Rsh(p, 1).ProbablyPrime(0) {
			t.Errorf("group %d: not a safe prime", g)
		}
	}
	// The first words of the groups' common middle, from RFC 7919, section A.1.
	if got := groups[FFDHE2048].prime().Text(16)[:64]; got != "ffffffffffffffffadf85458a2bb4a9aafdc5620273d3cf1d8b9c583ce2d3695" {
		t.Error(got)
	}
	if got := groups[FFDHE2048].prime().Text(16)[480:]; got != "886b423861285c97ffffffffffffffff" {
		t.Error(got)
	}
}

func TestExchange(t *testing.T) {
	for g := FFDHE2048; g <= FFDHE8192; g++ {
		if g > FFDHE3072 && testing.Short() {
			break
		}
		a, err := NewExchange(g)
		if err != nil {
			t.Fatal(err)
		}
		b, _ := NewExchange(g)
		one, err1 := a.Shared(b.Public)
		two, err2 := b.Shared(a.Public)
		if err1 != nil || err2 != nil || !bytes.Equal(one, two) || len(one) != g.Size() {
			t.Errorf("group %d: %v, %v", g, err1, err2)
		}
		p := g.known().prime()
		for _, bad := range []*big.Int{big.NewInt(0), big.NewInt(1), new(big.Int).Sub(p, big.NewInt(1)), p} {
			if _, err := a.Shared(bad.FillBytes(make([]byte, g.Size()))); err != ErrPublic {
				t.Errorf("group %d: public value %x: %v", g, bad, err)
			}
		}
		if _, err := a.Shared(b.Public[1:]); err != ErrPublic {
			t.Errorf("group %d: a short public value: %v", g, err)
		}
		a.Zero()
		if !bytes.Equal(a.exponent, make([]byte, len(a.exponent))) {
			t.Errorf("group %d: exponent not overwritten", g)
		}
	}
	for _, g := range []Group{0, 6, 255} {
		if _, err := NewExchange(g); err != ErrGroup || g.Size() != 0 {
			t.Errorf("group %d: %v", g, err)
		}
	}
}

// TestResponse pins the formula down: the value was computed by hand from the text of the
// specification with another implementation of HMAC, and Linux agrees with it
// (qemu-test/nvme).
func TestResponse(t *testing.T) {
	var s Secret
	if err := s.Set([]byte(example)); err != nil {
		t.Fatal(err)
	}
	challenge := bytes.Repeat([]byte{0x5a}, 32)
	base := Transaction{SHA256, 7, 9, "nqn.2014-08.org.nvmexpress:uuid:h1", "nqn.2026-01.test:ctl", []byte("session")}
	got := base.Response(Host, &s, challenge)
	if hex.EncodeToString(got) != wantResponse {
		t.Errorf("response %x", got)
	}
	if !base.Verify(Host, &s, challenge, got) {
		t.Error("the right response is refused")
	}
	for name, change := range map[string]func(x *Transaction){
		"hash": func(x *Transaction) { x.Hash = SHA384 }, "transaction": func(x *Transaction) { x.ID++ },
		"sequence": func(x *Transaction) { x.Sequence++ }, "host": func(x *Transaction) { x.HostNQN += "x" },
		"controller": func(x *Transaction) { x.ControllerNQN += "x" }, "session": func(x *Transaction) { x.Session = nil },
	} {
		x := base
		change(&x)
		if x.Verify(Host, &s, challenge, got) {
			t.Errorf("another %s: the same response", name)
		}
	}
	if base.Verify(Controller, &s, challenge, got) {
		t.Error("the host's response is good for the controller")
	}
	if base.Verify(Host, &Secret{}, challenge, base.Response(Host, &Secret{}, challenge)) {
		t.Error("an empty secret has a right response")
	}
}

const wantResponse = "2ebb4f98eec528a0c2feff6b9ff087eec125f0488d4c47bab6c951585998ba41"
