package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"nitro/attest/ijson"
	"nitro/boot/image"
)

// wire is the JSON object of docs/medium.md, "Configuration". Byte strings are base64.
type wire struct {
	Format      int           `json:"format"`
	Epoch       uint64        `json:"epoch"`
	Product     string        `json:"product"`
	Development bool          `json:"development"`
	Release     []keys        `json:"release"`
	Sealing     sealing       `json:"sealing"`
	Owner       []byte        `json:"owner"`
	Factory     []byte        `json:"factory,omitempty"`
	Operators   [][]byte      `json:"operators"`
	Witnesses   []string      `json:"witnesses,omitempty"`
	Revoked     []wireRevoked `json:"revoked,omitempty"`
	SecurityKey bool          `json:"security_key,omitempty"`
	TimeServers []string      `json:"time_servers,omitempty"`
	Syslog      *syslog       `json:"syslog,omitempty"`
	Host        *host         `json:"host,omitempty"`
	KeyService  *service      `json:"key_service,omitempty"`
	Servers     []target      `json:"storage_servers,omitempty"`
}

type target struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	NQN     string `json:"subsystem_nqn"`
}

type service struct {
	Key []byte `json:"key"`
	URL string `json:"url,omitempty"`
	CA  []byte `json:"ca,omitempty"`
}

type syslog struct {
	Address string `json:"address"`
	Name    string `json:"name"`
	CA      []byte `json:"ca"`
}

type host struct {
	Product  string  `json:"product"`
	BMC      bool    `json:"bmc,omitempty"`
	Firmware *[]keys `json:"firmware,omitempty"`
}

type keys struct {
	Ed25519 []byte `json:"ed25519"`
	MLDSA65 []byte `json:"mldsa65"`
}

type sealing struct {
	P384    [][]byte `json:"p384"`
	RSA3072 [][]byte `json:"rsa3072"`
}

// limit: the deepest value is a key in a list in the object of sealing.
var limit = ijson.Limit{Size: MaxSize, Depth: 4}

// Decode reads a payload that was verified, and validates it.
func Decode(payload []byte) (*Config, error) {
	var w wire
	if err := ijson.Decode(payload, limit, &w); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	c, err := w.config()
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	return c, nil
}

func (w *wire) config() (c *Config, err error) {
	if w.Format != Format {
		return nil, fmt.Errorf("format %d, not %d", w.Format, Format)
	}
	if w.Epoch < 1 {
		return nil, errors.New("epoch 0: the first one is 1")
	}
	if len(w.Product) < 1 || len(w.Product) > image.TextSize {
		return nil, fmt.Errorf("product %q: 1 to %d characters", w.Product, image.TextSize)
	}
	c = &Config{Epoch: w.Epoch, Product: w.Product, Development: w.Development, SecurityKey: w.SecurityKey}
	if c.Release, err = list("release", w.Release, 1, MaxAuthorities, authority); err != nil {
		return nil, err
	}
	if c.P384, err = list("sealing.p384", w.Sealing.P384, 1, MaxSealing, curve(elliptic.P384())); err != nil {
		return nil, err
	}
	if c.RSA3072, err = list("sealing.rsa3072", w.Sealing.RSA3072, 1, MaxSealing, rsa3072); err != nil {
		return nil, err
	}
	if c.Owner, err = curve(elliptic.P256())(w.Owner); err != nil {
		return nil, fmt.Errorf("owner: %w", err)
	}
	if len(w.Factory) > 0 {
		if c.Factory, err = x509.ParseCertificate(w.Factory); err != nil {
			return nil, fmt.Errorf("factory: %w", err)
		}
	}
	if c.Operators, err = list("operators", w.Operators, 0, MaxOperators, ca); err != nil {
		return nil, err
	}
	if c.Witnesses, err = list("witnesses", w.Witnesses, 0, MaxWitnesses, witness); err != nil {
		return nil, err
	}
	if c.Revoked, err = list("revoked", w.Revoked, 0, MaxRevoked, wireRevoked.revoked); err != nil {
		return nil, err
	}
	if len(w.TimeServers) > 0 {
		if c.TimeServers, err = list("time_servers", w.TimeServers, MinTimeServers, MaxTimeServers, server); err != nil {
			return nil, err
		}
		if again := repeated(c.TimeServers); again.IsValid() {
			return nil, fmt.Errorf("time_servers: %s comes twice: one server has one voice", again)
		}
	}
	if c.Collector, err = w.Syslog.collector(); err != nil {
		return nil, err
	}
	if c.Host, err = w.Host.host(); err != nil {
		return nil, err
	}
	if c.KeyService, err = w.KeyService.service(); err != nil {
		return nil, err
	}
	c.StorageServers, err = list("storage_servers", w.Servers, 0, MaxServers, target.server)
	for i, s := range c.StorageServers {
		if slices.ContainsFunc(c.StorageServers[:i], func(o StorageServer) bool { return o.Name == s.Name }) {
			return nil, fmt.Errorf("storage_servers: two are named %s", s.Name)
		}
	}
	return c, err
}

func (w target) server() (s StorageServer, err error) {
	s = StorageServer{Name: w.Name, SubsystemNQN: w.NQN}
	if !word(w.Name, MaxServerName) {
		return s, fmt.Errorf("name %.80q: 1 to %d printable characters without space", w.Name, MaxServerName)
	}
	if !word(w.NQN, MaxNQN) || !strings.HasPrefix(w.NQN, "nqn.") {
		return s, fmt.Errorf("subsystem_nqn %.240q: nqn. and more, at most %d printable characters", w.NQN, MaxNQN)
	}
	s.Address, err = netip.ParseAddrPort(w.Address)
	if err != nil || s.Address.Port() == 0 || s.Address.Addr().IsUnspecified() || s.Address.Addr().Zone() != "" {
		return s, fmt.Errorf("address %.80q: an IP address and a port", w.Address)
	}
	return s, nil
}

func (w *service) service() (s *KeyService, err error) {
	if w == nil {
		return nil, nil
	}
	s = &KeyService{URL: w.URL}
	if s.Key, err = curve(elliptic.P256())(w.Key); err != nil {
		return nil, fmt.Errorf("key_service.key: %w", err)
	}
	if (w.URL == "") != (len(w.CA) == 0) {
		return nil, errors.New("key_service: url and ca go together: without both the board cannot ask by itself")
	}
	if w.URL == "" {
		return s, nil
	}
	u, err := url.Parse(w.URL)
	if err != nil || !word(w.URL, MaxURL) || u.Scheme != "https" || u.Hostname() == "" ||
		u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("key_service.url %.300q: https://host, port and path, of at most %d characters", w.URL, MaxURL)
	}
	if s.CA, err = ca(w.CA); err != nil {
		return nil, fmt.Errorf("key_service.ca: %w", err)
	}
	return s, nil
}

func (w *host) host() (h *Host, err error) {
	if w == nil {
		return nil, nil
	}
	if !word(w.Product, image.TextSize) {
		return nil, fmt.Errorf("host.product %q: 1 to %d characters of printable ASCII without space", w.Product, image.TextSize)
	}
	h = &Host{Product: w.Product, BMC: w.BMC}
	if w.Firmware != nil {
		h.Firmware, err = list("host.firmware", *w.Firmware, 1, MaxAuthorities, authority)
	}
	return h, err
}

// server takes an IP address with a port: the board asks no DNS, whose answers nobody
// vouches for.
func server(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 || a.Addr().Zone() != "" || a.Addr().Is4In6() || a.Addr().IsUnspecified() || a.Addr().IsMulticast() || a.String() != s {
		return netip.AddrPort{}, fmt.Errorf("%.100q is no IP address with port, such as 192.0.2.1:123 or [2001:db8::1]:123", s)
	}
	return a, nil
}

// repeated gives an address that is there twice, or none.
func repeated(all []netip.AddrPort) netip.AddrPort {
	seen := map[netip.AddrPort]bool{}
	for _, a := range all {
		if seen[a] {
			return a
		}
		seen[a] = true
	}
	return netip.AddrPort{}
}

func (w *syslog) collector() (*Collector, error) {
	if w == nil {
		return nil, nil
	}
	address, err := server(w.Address)
	if err != nil {
		return nil, fmt.Errorf("syslog.address: %w", err)
	}
	if !word(w.Name, MaxName) {
		return nil, fmt.Errorf("syslog.name %.300q: 1 to %d characters of printable ASCII without space", w.Name, MaxName)
	}
	authority, err := ca(w.CA)
	if err != nil {
		return nil, fmt.Errorf("syslog.ca: %w", err)
	}
	return &Collector{address, w.Name, authority}, nil
}

// witness takes a key of C2SP signed-note: printable ASCII without space.
func witness(s string) (string, error) {
	if !word(s, MaxWitness) {
		return "", fmt.Errorf("%.300q: 1 to %d characters of printable ASCII without space", s, MaxWitness)
	}
	return s, nil
}

// word tells whether s is printable ASCII without space, of 1 to most characters.
func word(s string, most int) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c > '~' {
			return false
		}
	}
	return len(s) >= 1 && len(s) <= most
}

// list parses each element of a list of bounded length.
func list[W, T any](name string, from []W, least, most int, parse func(W) (T, error)) (to []T, err error) {
	if len(from) < least || len(from) > most {
		return nil, fmt.Errorf("%s: %d elements, not %d to %d", name, len(from), least, most)
	}
	for i, w := range from {
		v, err := parse(w)
		if err != nil {
			return nil, fmt.Errorf("%s: element %d: %w", name, i+1, err)
		}
		to = append(to, v)
	}
	return to, nil
}

func authority(k keys) (a image.Authority, err error) {
	a.Purpose = image.Release
	if len(k.Ed25519) != len(a.Ed25519) || len(k.MLDSA65) != len(a.MLDSA65) {
		return a, fmt.Errorf("keys of %d and %d bytes, not %d and %d", len(k.Ed25519), len(k.MLDSA65), len(a.Ed25519), len(a.MLDSA65))
	}
	copy(a.Ed25519[:], k.Ed25519)
	copy(a.MLDSA65[:], k.MLDSA65)
	return a, a.Check()
}

// curve parses ECDSA keys of one curve.
func curve(want elliptic.Curve) func(der []byte) (*ecdsa.PublicKey, error) {
	return func(der []byte) (*ecdsa.PublicKey, error) {
		k, err := x509.ParsePKIXPublicKey(der)
		if err != nil {
			return nil, err
		}
		e, ok := k.(*ecdsa.PublicKey)
		if !ok || e.Curve != want {
			return nil, fmt.Errorf("%T, not an ECDSA key of %s", k, want.Params().Name)
		}
		return e, nil
	}
}

func rsa3072(der []byte) (*rsa.PublicKey, error) {
	k, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, err
	}
	r, ok := k.(*rsa.PublicKey)
	if !ok || r.N.BitLen() != 3072 || r.E != 65537 {
		return nil, fmt.Errorf("%T, not an RSA key of 3,072 bits with exponent 65,537", k)
	}
	return r, nil
}

func ca(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if !c.BasicConstraintsValid || !c.IsCA {
		return nil, fmt.Errorf("%q is no CA's certificate", c.Subject)
	}
	return c, nil
}

// Encode makes the payload. It is decoded again, so nothing comes out that a board would
// refuse.
func (c *Config) Encode() ([]byte, error) {
	w := wire{Format: Format, Epoch: c.Epoch, Product: c.Product, Development: c.Development, Operators: [][]byte{}, Witnesses: c.Witnesses, SecurityKey: c.SecurityKey}
	w.Release = wireKeys(c.Release)
	for _, r := range c.Revoked {
		w.Revoked = append(w.Revoked, r.wire())
	}
	for _, s := range c.TimeServers {
		w.TimeServers = append(w.TimeServers, s.String())
	}
	if c.Collector != nil {
		w.Syslog = &syslog{Address: c.Collector.Address.String(), Name: c.Collector.Name, CA: c.Collector.CA.Raw}
	}
	if c.Host != nil {
		w.Host = &host{Product: c.Host.Product, BMC: c.Host.BMC}
		if len(c.Host.Firmware) > 0 {
			firmware := wireKeys(c.Host.Firmware)
			w.Host.Firmware = &firmware
		}
	}
	var err error
	if k := c.KeyService; k != nil {
		der, err := pkix(k.Key)
		if err != nil {
			return nil, err
		}
		w.KeyService = &service{Key: der[0], URL: k.URL}
		if k.CA != nil {
			w.KeyService.CA = k.CA.Raw
		}
	}
	for _, s := range c.StorageServers {
		w.Servers = append(w.Servers, target{s.Name, s.Address.String(), s.SubsystemNQN})
	}
	if w.Sealing.P384, err = pkix(c.P384...); err != nil {
		return nil, err
	}
	if w.Sealing.RSA3072, err = pkix(c.RSA3072...); err != nil {
		return nil, err
	}
	owner, err := pkix(c.Owner)
	if err != nil {
		return nil, err
	}
	w.Owner = owner[0]
	if c.Factory != nil {
		w.Factory = c.Factory.Raw
	}
	for _, o := range c.Operators {
		w.Operators = append(w.Operators, o.Raw)
	}
	payload, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if _, err := Decode(payload); err != nil {
		return nil, err
	}
	return payload, nil
}

func wireKeys(all []image.Authority) (w []keys) {
	for _, a := range all {
		w = append(w, keys{a.Ed25519[:], a.MLDSA65[:]})
	}
	return w
}

// pkix encodes public keys.
func pkix[K ecdsa.PublicKey | rsa.PublicKey](keys ...*K) (all [][]byte, err error) {
	for _, k := range keys {
		if k == nil {
			return nil, errors.New("config: a key is missing")
		}
		der, err := x509.MarshalPKIXPublicKey(k)
		if err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
		all = append(all, der)
	}
	return all, nil
}
