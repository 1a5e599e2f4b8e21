package config_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nitro/boot/code"
	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/boot/image/imagetest"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/internal/corpus"
)

var signer = imagetest.Signer(image.Configure, "owner")

// want accepts what sample makes.
func want(epoch uint64) config.Want {
	return config.Want{Product: imagetest.Product, Epoch: epoch, Anchors: &medium.Anchors{Development: true, Authorities: []image.Authority{
		imagetest.Authority(image.Release, "maker"), imagetest.Authority(image.Configure, "owner")}}}
}

// made are keys that take long to make.
var made = sync.OnceValue(func() (k struct {
	p256, p384 *ecdsa.PrivateKey
	rsa        *rsa.PrivateKey
	ca, leaf   *x509.Certificate
}) {
	k.p256, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.p384, _ = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	k.rsa, _ = rsa.GenerateKey(rand.Reader, 3072)
	k.ca, k.leaf = certificate(k.p256, true), certificate(k.p256, false)
	return k
})

func certificate(key crypto.Signer, isCA bool) *x509.Certificate {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Unix(4e9, 0), IsCA: isCA, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}

func sample(epoch uint64) *config.Config {
	k := made()
	return &config.Config{Epoch: epoch, Product: imagetest.Product, Development: true,
		Release: []image.Authority{imagetest.Authority(image.Release, "one"), imagetest.Authority(image.Release, "two")},
		P384:    []*ecdsa.PublicKey{&k.p384.PublicKey}, RSA3072: []*rsa.PublicKey{&k.rsa.PublicKey},
		Owner: &k.p256.PublicKey, Factory: k.leaf, Operators: []*x509.Certificate{k.ca}}
}

func signed(t testing.TB, c *config.Config) []byte {
	t.Helper()
	b, err := config.Sign(c, 1, signer)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	c := sample(7)
	s, err := config.Verify(signed(t, c), want(0))
	if err != nil {
		t.Fatal(err)
	}
	k := made()
	if s.Epoch != 7 || s.Product != c.Product || !s.Config.Development || len(s.Release) != 2 || s.Release[1] != c.Release[1] ||
		!s.P384[0].Equal(&k.p384.PublicKey) || !s.RSA3072[0].Equal(&k.rsa.PublicKey) || !s.Owner.Equal(&k.p256.PublicKey) ||
		!s.Factory.Equal(k.leaf) || len(s.Operators) != 1 || !s.Operators[0].Equal(k.ca) {
		t.Errorf("%+v", s.Config)
	}
	a := s.Authorities(want(0).Anchors)
	if len(a) != 4 || a[2] != c.Release[0] {
		t.Error("the authorities are not the anchor block's, then the configuration's")
	}
	if s.Host != nil || len(s.HostAuthorities(want(0).Anchors)) != 4 {
		t.Errorf("without a host: %+v", s.Host)
	}
	c.Witnesses = []string{"witness.example+01234567+BA=="}
	if s, err := config.Verify(signed(t, c), want(0)); err != nil || len(s.Witnesses) != 1 || s.Witnesses[0] != c.Witnesses[0] {
		t.Errorf("with a witness: %+v, %v", s, err)
	}
	c.TimeServers = []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:123"), netip.MustParseAddrPort("[2001:db8::1]:1123")}
	c.Collector = &config.Collector{Address: netip.MustParseAddrPort("192.0.2.2:6514"), Name: "log.example", CA: made().ca}
	if s, err := config.Verify(signed(t, c), want(0)); err != nil || !slices.Equal(s.TimeServers, c.TimeServers) ||
		s.Collector.Address != c.Collector.Address || s.Collector.Name != "log.example" || !s.Collector.CA.Equal(made().ca) {
		t.Errorf("with time servers and a collector: %+v, %v", s, err)
	}
	c.Host = &config.Host{Product: "q35", BMC: true}
	if s, err := config.Verify(signed(t, c), want(0)); err != nil || s.Host == nil || s.Host.Product != "q35" || !s.Host.BMC || len(s.HostAuthorities(want(0).Anchors)) != 4 {
		t.Errorf("with a host: %+v, %v", s, err)
	}
	c.Host = &config.Host{Product: "q35", Firmware: c.Release[1:]}
	if s, err := config.Verify(signed(t, c), want(0)); err != nil || s.Host.BMC || len(s.HostAuthorities(want(0).Anchors)) != 1 || s.Host.Firmware[0] != c.Release[1] {
		t.Errorf("with authorities of its own: %+v, %v", s, err)
	}
	key := sha256.Sum256(k.ca.RawSubjectPublicKeyInfo)
	c.Revoked = []config.Revoked{{Key: [32]byte{1}}, {CA: key, Serial: "\x01\x02"}}
	if s, err := config.Verify(signed(t, c), want(0)); err != nil || !slices.Equal(s.Revoked, c.Revoked) {
		t.Errorf("with what is revoked: %+v, %v", s, err)
	}
	if s.KeyService != nil {
		t.Errorf("without a key service: %+v", s.KeyService)
	}
	c.KeyService = &config.KeyService{Key: &k.p256.PublicKey}
	if s, err := config.Verify(signed(t, c), want(0)); err != nil || !s.KeyService.Key.Equal(&k.p256.PublicKey) || s.KeyService.URL != "" || s.KeyService.CA != nil {
		t.Errorf("with a key service: %+v, %v", s, err)
	}
	c.KeyService.URL, c.KeyService.CA = "https://keys.example:8443/v1", k.ca
	if s, err := config.Verify(signed(t, c), want(0)); err != nil || s.KeyService.URL != c.KeyService.URL || !s.KeyService.CA.Equal(k.ca) {
		t.Errorf("with a key service to ask: %+v, %v", s, err)
	}
	c.Factory, c.Operators = nil, nil
	if s, err := config.Verify(signed(t, c), want(0)); err != nil || s.Factory != nil || len(s.Operators) != 0 {
		t.Errorf("without factory and operators: %v", err)
	}
	c.StorageServers = []config.StorageServer{
		{Name: "west", Address: netip.MustParseAddrPort("10.1.2.3:4420"), SubsystemNQN: "nqn.2026-01.example:west"},
		{Name: "east", Address: netip.MustParseAddrPort("[2001:db8::1]:4420"), SubsystemNQN: "nqn.2026-01.example:east"},
	}
	if s, err := config.Verify(signed(t, c), want(0)); err != nil || !slices.Equal(s.StorageServers, c.StorageServers) {
		t.Errorf("storage servers: %+v, %v", s, err)
	}
}

// change decodes a payload into a map, changes it and encodes it again.
func change(t testing.TB, f func(m map[string]any)) []byte {
	t.Helper()
	payload, err := sample(7).Encode()
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(bytes.NewReader(payload))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	f(m)
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func der(t testing.TB, key any) string {
	b, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b)
}

func TestDecodeRefuses(t *testing.T) {
	k := made()
	short, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, p256 := der(t, &k.p384.PublicKey), der(t, &k.p256.PublicKey)
	rsa3072 := der(t, &k.rsa.PublicKey)
	odd := k.rsa.PublicKey
	odd.E = 3
	list := func(n int, v any) (l []any) {
		for range n {
			l = append(l, v)
		}
		return l
	}
	seal := func(p, r []any) map[string]any { return map[string]any{"p384": p, "rsa3072": r} }
	caText := base64.StdEncoding.EncodeToString(k.ca.Raw)
	service := func(url, ca string) func(m map[string]any) {
		return func(m map[string]any) { m["key_service"] = map[string]any{"key": p256, "url": url, "ca": ca} }
	}
	server := func(name, address, nqn string) map[string]any {
		return map[string]any{"name": name, "address": address, "subsystem_nqn": nqn}
	}
	servers := func(l []any) func(m map[string]any) { return func(m map[string]any) { m["storage_servers"] = l } }
	for _, c := range []struct {
		name string
		f    func(m map[string]any)
		say  string
	}{
		{"format", func(m map[string]any) { m["format"] = 2 }, "format 2"},
		{"no format", func(m map[string]any) { delete(m, "format") }, "format 0"},
		{"epoch 0", func(m map[string]any) { m["epoch"] = 0 }, "epoch 0"},
		{"no product", func(m map[string]any) { delete(m, "product") }, "product"},
		{"long product", func(m map[string]any) { m["product"] = strings.Repeat("x", 33) }, "product"},
		{"unknown member", func(m map[string]any) { m["shell"] = true }, "unknown field"},
		{"no release", func(m map[string]any) { m["release"] = []any{} }, "release: 0 elements"},
		{"five releases", func(m map[string]any) { m["release"] = list(5, m["release"].([]any)[0]) }, "release: 5 elements"},
		{"blank authority", func(m map[string]any) {
			m["release"].([]any)[1].(map[string]any)["ed25519"] = base64.StdEncoding.EncodeToString(make([]byte, 32))
		}, "release: element 2: image: authority: a key is all zero"},
		{"short key", func(m map[string]any) { m["release"].([]any)[0].(map[string]any)["mldsa65"] = "AAAA" }, "keys of 32 and 3 bytes"},
		{"no sealing", func(m map[string]any) { delete(m, "sealing") }, "sealing.p384: 0 elements"},
		{"no second sealing authority", func(m map[string]any) { m["sealing"] = seal(list(1, p384), nil) }, "null"},
		{"too many", func(m map[string]any) { m["sealing"] = seal(list(5, p384), list(1, rsa3072)) }, "sealing.p384: 5 elements"},
		{"P-256 for P-384", func(m map[string]any) { m["sealing"] = seal(list(1, p256), list(1, rsa3072)) }, "not an ECDSA key of P-384"},
		{"one kind for both", func(m map[string]any) { m["sealing"] = seal(list(1, p384), list(1, p384)) }, "not an RSA key"},
		{"RSA-2048", func(m map[string]any) { m["sealing"] = seal(list(1, p384), list(1, der(t, &short.PublicKey))) }, "3,072 bits"},
		{"exponent 3", func(m map[string]any) { m["sealing"] = seal(list(1, p384), list(1, der(t, &odd))) }, "65,537"},
		{"no owner", func(m map[string]any) { delete(m, "owner") }, "owner:"},
		{"owner of another curve", func(m map[string]any) { m["owner"] = p384 }, "owner: *ecdsa.PublicKey, not an ECDSA key of P-256"},
		{"factory", func(m map[string]any) { m["factory"] = "AAAA" }, "factory:"},
		{"operator that is no CA", func(m map[string]any) { m["operators"] = list(1, base64.StdEncoding.EncodeToString(k.leaf.Raw)) }, "no CA's certificate"},
		{"host without product", func(m map[string]any) { m["host"] = map[string]any{} }, "host.product"},
		{"host's product with a space", func(m map[string]any) { m["host"] = map[string]any{"product": "q 35"} }, "host.product"},
		{"unknown member of host", func(m map[string]any) { m["host"] = map[string]any{"product": "q35", "shell": true} }, "unknown field"},
		{"host that nobody signs for", func(m map[string]any) { m["host"] = map[string]any{"product": "q35", "firmware": []any{}} }, "host.firmware: 0 elements"},
		{"five signers for the host", func(m map[string]any) {
			m["host"] = map[string]any{"product": "q35", "firmware": list(5, m["release"].([]any)[0])}
		}, "host.firmware: 5 elements"},
		{"no host", func(m map[string]any) { m["host"] = nil }, "null"},
		{"key service without key", func(m map[string]any) { m["key_service"] = map[string]any{} }, "key_service.key"},
		{"key service on another curve", func(m map[string]any) { m["key_service"] = map[string]any{"key": p384} }, "key_service.key: *ecdsa.PublicKey, not an ECDSA key of P-256"},
		{"key service's URL without CA", func(m map[string]any) { m["key_service"] = map[string]any{"key": p256, "url": "https://k"} }, "go together"},
		{"key service's CA without URL", func(m map[string]any) { m["key_service"] = map[string]any{"key": p256, "ca": caText} }, "go together"},
		{"key service without TLS", service("http://k", caText), "key_service.url"},
		{"key service without host", service("https:///v1", caText), "key_service.url"},
		{"key service with a query", service("https://k/?a=b", caText), "key_service.url"},
		{"key service with a user", service("https://a@k/", caText), "key_service.url"},
		{"key service with a long URL", service("https://"+strings.Repeat("k", 249), caText), "key_service.url"},
		{"key service with no CA's certificate", service("https://k", base64.StdEncoding.EncodeToString(k.leaf.Raw)), "key_service.ca"},
		{"unknown member of key service", func(m map[string]any) { m["key_service"] = map[string]any{"key": p256, "token": "x"} }, "unknown field"},
		{"nine storage servers", servers(list(9, server("a", "10.0.0.1:4420", "nqn.a"))), "storage_servers: 9 elements"},
		{"storage server without a name", servers(list(1, server("", "10.0.0.1:4420", "nqn.a"))), "storage_servers: element 1: name"},
		{"storage server by name", servers(list(1, server("a", "store:4420", "nqn.a"))), "storage_servers: element 1: address"},
		{"storage server without a port", servers(list(1, server("a", "10.0.0.1", "nqn.a"))), "storage_servers: element 1: address"},
		{"storage server nowhere", servers(list(1, server("a", "0.0.0.0:4420", "nqn.a"))), "storage_servers: element 1: address"},
		{"storage server without a subsystem", servers(list(1, server("a", "10.0.0.1:4420", "a"))), "storage_servers: element 1: subsystem_nqn"},
		{"two storage servers of one name", servers(list(2, server("a", "10.0.0.1:4420", "nqn.a"))), "two are named a"},
		{"no key service", func(m map[string]any) { m["key_service"] = nil }, "null"},
		{"witness with a space", func(m map[string]any) { m["witnesses"] = []any{"key with space"} }, "witnesses: element 1"},
		{"nine witnesses", func(m map[string]any) { m["witnesses"] = list(9, "key") }, "witnesses: 9 elements"},
		{"one time server", func(m map[string]any) { m["time_servers"] = []any{"192.0.2.1:123"} }, "time_servers: 1 elements"},
		{"nine time servers", func(m map[string]any) { m["time_servers"] = list(9, "192.0.2.1:123") }, "time_servers: 9 elements"},
		{"a time server twice", func(m map[string]any) { m["time_servers"] = []any{"192.0.2.1:123", "192.0.2.1:123"} }, "comes twice"},
		{"a time server with a name", func(m map[string]any) { m["time_servers"] = list(2, "ntp.example:123") }, "time_servers: element 1"},
		{"a time server without port", func(m map[string]any) { m["time_servers"] = list(2, "192.0.2.1") }, "time_servers: element 1"},
		{"a time server spelt otherwise", func(m map[string]any) { m["time_servers"] = list(2, "[2001:DB8::1]:123") }, "time_servers: element 1"},
		{"a time server to all", func(m map[string]any) { m["time_servers"] = list(2, "224.0.1.1:123") }, "time_servers: element 1"},
		{"a collector without address", func(m map[string]any) {
			m["syslog"] = map[string]any{"name": "x", "ca": base64.StdEncoding.EncodeToString(k.ca.Raw)}
		}, "syslog.address"},
		{"a collector without name", func(m map[string]any) {
			m["syslog"] = map[string]any{"address": "192.0.2.1:6514", "name": "", "ca": base64.StdEncoding.EncodeToString(k.ca.Raw)}
		}, "syslog.name"},
		{"a collector whose CA is none", func(m map[string]any) {
			m["syslog"] = map[string]any{"address": "192.0.2.1:6514", "name": "x", "ca": base64.StdEncoding.EncodeToString(k.leaf.Raw)}
		}, "syslog.ca"},
		{"nine operators", func(m map[string]any) { m["operators"] = list(9, base64.StdEncoding.EncodeToString(k.ca.Raw)) }, "operators: 9 elements"},
	} {
		if _, err := config.Decode(change(t, c.f)); err == nil || !strings.Contains(err.Error(), c.say) {
			t.Errorf("%s: %v; want %q", c.name, err, c.say)
		}
	}
	good, err := sample(7).Encode()
	if err != nil {
		t.Fatal(err)
	}
	twice := bytes.Replace(good, []byte(`"epoch":7`), []byte(`"epoch":7,"epoch":8`), 1)
	if _, err := config.Decode(twice); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("repeated member: %v", err)
	}
	if _, err := config.Decode(append(good, bytes.Repeat([]byte(" "), config.MaxSize)...)); err == nil {
		t.Error("a payload beyond the bound")
	}
	if _, err := (&config.Config{Epoch: 1}).Encode(); err == nil {
		t.Error("encodes what it would refuse")
	}
}

// card is a medium with these copies; nil leaves a place empty.
func card(t *testing.T, copies ...[]byte) *mediumtest.Card {
	t.Helper()
	c := mediumtest.New(medium.MinSize / 512)
	for n, b := range copies {
		if b == nil {
			continue
		}
		if err := medium.WritePlace(c, medium.Configurations[n], b); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func TestRead(t *testing.T) {
	five, six := signed(t, sample(5)), signed(t, sample(6))
	torn := bytes.Clone(six)
	clear(torn[5000:])
	stranger, err := config.Sign(sample(9), 1, imagetest.Signer(image.Configure, "stranger"))
	if err != nil {
		t.Fatal(err)
	}
	release := func() []byte { // signed by the release authority's keys
		s := imagetest.Signer(image.Release, "maker")
		s.Purpose = image.Configure
		b, err := config.Sign(sample(9), 1, s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}()
	wrong := func(change func(h *image.Header)) []byte {
		payload, err := sample(9).Encode()
		if err != nil {
			t.Fatal(err)
		}
		h := imagetest.Header(image.Configuration, "x", 0)
		h.Development = true
		change(&h)
		return imagetest.Image(h, payload, signer)
	}
	for _, c := range []struct {
		name   string
		copies [][]byte
		floor  uint64
		epoch  uint64
		copy   int
		code   code.Code
	}{
		{"both", [][]byte{five, five}, 5, 5, 0, 0},
		{"second is newer", [][]byte{five, six}, 0, 6, 1, 0},
		{"first is newer", [][]byte{six, five}, 5, 6, 0, 0},
		{"newer is torn", [][]byte{torn, five}, 5, 5, 1, 0},
		{"one copy", [][]byte{nil, five}, 5, 5, 1, 0},
		{"newer is a stranger's", [][]byte{five, stranger}, 5, 5, 0, 0},
		{"newer is the release authority's", [][]byte{five, release}, 5, 5, 0, 0},
		{"newer says another product than its header", [][]byte{five, wrong(func(h *image.Header) { h.Development = false })}, 5, 5, 0, 0},
		{"none", nil, 0, 0, 0, code.ConfigurationMissing},
		{"torn and none", [][]byte{torn}, 0, 0, 0, code.ConfigurationBad},
		{"strangers", [][]byte{stranger, stranger}, 0, 0, 0, code.ConfigurationBad},
		{"old", [][]byte{five, five}, 6, 0, 0, code.ConfigurationOld},
		{"newer is torn, older is old", [][]byte{torn, five}, 6, 0, 0, code.ConfigurationOld},
	} {
		s, err := config.Read(card(t, c.copies...), want(c.floor))
		if code.Of(err) != c.code || (err == nil) != (c.code == 0) {
			t.Errorf("%s: %v", c.name, err)
		} else if err == nil && (s.Epoch != c.epoch || s.Copy != c.copy) {
			t.Errorf("%s: epoch %d of copy %d", c.name, s.Epoch, s.Copy)
		}
	}
	w := want(0)
	w.Anchors.Development = false
	if _, err := config.Read(card(t, five), w); code.Of(err) != code.ConfigurationBad {
		t.Errorf("development configuration on a product board: %v", err)
	}
}

func TestWrite(t *testing.T) {
	five, six := signed(t, sample(5)), signed(t, sample(6))
	c := card(t)
	for _, x := range []struct {
		name  string
		b     []byte
		floor uint64
		code  code.Code
		epoch uint64
	}{
		{"first", five, 0, 0, 5},
		{"next", six, 5, 0, 6},
		{"again", six, 6, 0, 6},
		{"another one of the same epoch", signed(t, sample(6)), 6, 0, 6},
		{"old", five, 6, code.ConfigurationOld, 6},
		{"old, and the TPM does not know", five, 0, 0, 6},
		{"not signed", five[4096:], 0, code.ImageMalformed, 6},
	} {
		err := config.Write(c, x.b, want(x.floor))
		if x.code != 0 && code.Of(err) != x.code {
			t.Errorf("%s: %v", x.name, err)
		}
		if fails := x.code != 0 || strings.HasPrefix(x.name, "another") || strings.HasPrefix(x.name, "old"); (err != nil) != fails {
			t.Errorf("%s: %v", x.name, err)
		}
		if s, err := config.Read(c, want(0)); err != nil || s.Epoch != x.epoch {
			t.Errorf("%s: then epoch %d, %v", x.name, s.Epoch, err)
		}
	}
}

// TestPowerCut cuts a write at some of its sectors: package medium's tests cut everywhere.
func TestPowerCut(t *testing.T) {
	five, six := signed(t, sample(5)), signed(t, sample(6))
	cuts, seen := 0, map[uint64]bool{}
	for sector := 0; ; sector += 97 {
		c := card(t, five, five)
		c.CutAfter(sector, mediumtest.Tears[cuts%len(mediumtest.Tears)])
		err := config.Write(c, six, want(5))
		if err == nil {
			break
		}
		cuts++
		c.PowerOn()
		got, err := config.Read(c, want(5))
		if err != nil {
			t.Fatalf("cut after %d sectors: %v", sector, err)
		}
		seen[got.Epoch] = true
	}
	if cuts != 22 || !seen[5] || !seen[6] {
		t.Errorf("%d cuts, epochs %v afterwards", cuts, seen)
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/configurations.hex
var keptConfigurations string

func FuzzDecode(f *testing.F) {
	corpus.Add(f, keptConfigurations)
	good, err := sample(7).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"format":1,"epoch":1,"product":"x","development":false,"release":[],"sealing":{"p384":[],"rsa3072":[]},"owner":"","operators":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := config.Decode(b)
		if err != nil {
			return
		}
		again, err := c.Encode()
		if err != nil {
			t.Fatalf("decodes, and does not encode: %v", err)
		}
		if d, err := config.Decode(again); err != nil || d.Epoch != c.Epoch || len(d.Release) != len(c.Release) {
			t.Errorf("again: %v", err)
		}
	})
}

// TestRevoked: each form has one spelling, and lists are bounded.
func TestRevoked(t *testing.T) {
	digest := strings.Repeat("0a", 32)
	for _, c := range []struct {
		list string
		good bool
	}{
		{`[]`, true},
		{`[{"key":"` + digest + `"}]`, true},
		{`[{"ca":"` + digest + `","serial":"01"}]`, true},
		{`[{"ca":"` + digest + `","serial":"` + strings.Repeat("ff", 20) + `"}]`, true},
		{`[{}]`, false},
		{`[{"ca":"` + digest + `"}]`, false},
		{`[{"serial":"01"}]`, false},
		{`[{"key":"` + digest + `","ca":"` + digest + `","serial":"01"}]`, false},
		{`[{"key":"` + strings.ToUpper(digest) + `"}]`, false},
		{`[{"key":"` + digest[2:] + `"}]`, false},
		{`[{"ca":"` + digest + `","serial":"0001"}]`, false},
		{`[{"ca":"` + digest + `","serial":"1"}]`, false},
		{`[{"ca":"` + digest + `","serial":"` + strings.Repeat("ff", 21) + `"}]`, false},
		{`[` + strings.Repeat(`{"key":"`+digest+`"},`, config.MaxRevoked) + `{"key":"` + digest + `"}]`, false},
	} {
		var list any
		if err := json.Unmarshal([]byte(c.list), &list); err != nil {
			t.Fatal(err)
		}
		_, err := config.Decode(change(t, func(m map[string]any) { m["revoked"] = list }))
		if (err == nil) != c.good {
			t.Errorf("%.120s: %v", c.list, err)
		}
	}
}

// TestRevokes: a chain is refused for any key in it, and for a number of its own issuer.
func TestRevokes(t *testing.T) {
	k := made()
	issuer := &x509.Certificate{RawSubjectPublicKeyInfo: k.ca.RawSubjectPublicKeyInfo, SerialNumber: big.NewInt(1)}
	middle := &x509.Certificate{RawSubjectPublicKeyInfo: []byte("middle"), SerialNumber: big.NewInt(0x0203)}
	leaf := &x509.Certificate{RawSubjectPublicKeyInfo: []byte("leaf"), SerialNumber: big.NewInt(7)}
	chain := []*x509.Certificate{leaf, middle, issuer}
	of := func(c *x509.Certificate) [32]byte { return sha256.Sum256(c.RawSubjectPublicKeyInfo) }
	for _, c := range []struct {
		revoked config.Revoked
		want    bool
	}{
		{config.Revoked{Key: of(leaf)}, true}, {config.Revoked{Key: of(middle)}, true}, {config.Revoked{Key: of(issuer)}, true},
		{config.Revoked{Key: [32]byte{1}}, false},
		{config.Revoked{CA: of(middle), Serial: "\x07"}, true}, {config.Revoked{CA: of(issuer), Serial: "\x02\x03"}, true},
		{config.Revoked{CA: of(issuer), Serial: "\x07"}, false}, {config.Revoked{CA: of(middle), Serial: "\x08"}, false},
		{config.Revoked{CA: of(issuer), Serial: "\x01"}, true}, // itself
	} {
		if got := (&config.Config{Revoked: []config.Revoked{{Key: [32]byte{9}}, c.revoked}}).Revokes(chain); got != c.want {
			t.Errorf("%s: %v", fmt.Sprint(c.revoked), got)
		}
	}
	if (&config.Config{}).Revokes(chain) {
		t.Error("nothing is revoked, and a chain is refused")
	}
}
