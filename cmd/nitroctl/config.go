package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strings"

	"nitro/boot/card"
	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/boot/medium"
	"nitro/boot/release"
)

var configGroup = &group{"config", "configurations", []*command{
	{
		name:    "sign",
		summary: "sign a configuration",
		about: `
Signs a configuration by the configuration authority. Without -in it is made of the public
keys in the key folders: release authority, sealing authorities, owner and factory, and of
the CAs given by -operator; -revoke and -revoke-key let clients in no more, even if their
CA still is among them. -key-service names who gives keys of volumes,
-storage-server where they may lie. With -in it is JSON as docs/medium.md has it, decoded strictly.
A board takes only what has a higher epoch than it has had.
`,
		example: "nitroctl config sign -keys keys -product imx6ul-evk -epoch 1 -operator operators.pem -built 1767225600 -out configuration.img",
		setup:   configSign,
	},
	{
		name:    "show",
		summary: "show a configuration",
		args:    "FILE",
		about: `
Shows a signed configuration, of a file of its own or of a card, verified by -anchors or, on
a card, by the card's own anchor block.
`,
		example: "nitroctl config show -anchors release/anchors.bin configuration.img",
		setup:   configShow,
	},
}}

// A configInfo is a configuration.
type configInfo struct {
	Epoch       uint64               `json:"epoch"`
	Product     string               `json:"product"`
	Development bool                 `json:"development"`
	SHA256      string               `json:"sha256"` // of the payload, as PCR 3 has it
	Verified    bool                 `json:"verified"`
	Release     []release.KeyDigests `json:"release"`
	P384        []string             `json:"sealing_p384"` // SHA-256 of the PKIX forms
	RSA3072     []string             `json:"sealing_rsa3072"`
	Owner       string               `json:"owner"`
	Factory     string               `json:"factory,omitempty"` // SHA-256 of the certificate
	Operators   []operatorInfo       `json:"operators"`
	Revoked     []string             `json:"revoked,omitempty"`
	Witnesses   []string             `json:"witnesses,omitempty"`
	TimeServers []string             `json:"time_servers,omitempty"`
	Syslog      *syslogInfo          `json:"syslog,omitempty"`
	KeyService  string               `json:"key_service,omitempty"` // SHA-256 of the PKIX form
	KeyURL      string               `json:"key_service_url,omitempty"`
	Servers     []serverInfo         `json:"storage_servers,omitempty"`
	File        string               `json:"file,omitempty"`
}

type syslogInfo struct {
	Address string `json:"address"`
	Name    string `json:"name"`
	CA      string `json:"ca"` // SHA-256 of the certificate
}

type serverInfo struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	NQN     string `json:"subsystem_nqn"`
}

type operatorInfo struct {
	Subject string `json:"subject"`
	SHA256  string `json:"sha256"`
}

func (c configInfo) print(w io.Writer) {
	rows := [][2]string{{"epoch", fmt.Sprint(c.Epoch)}, {"product", c.Product}, {"development", yes(c.Development)}, {"sha256", c.SHA256}, {"verified", yes(c.Verified)}}
	for _, a := range c.Release {
		rows = append(rows, [2]string{"release authority", a.Ed25519 + " (Ed25519)"}, [2]string{"", a.MLDSA65 + " (ML-DSA-65)"})
	}
	for _, k := range c.P384 {
		rows = append(rows, [2]string{"sealing, P-384", k})
	}
	for _, k := range c.RSA3072 {
		rows = append(rows, [2]string{"sealing, RSA-3072", k})
	}
	rows = append(rows, [2]string{"owner", c.Owner}, [2]string{"factory", c.Factory})
	for _, o := range c.Operators {
		rows = append(rows, [2]string{"operators' CA", o.SHA256 + " " + o.Subject})
	}
	for _, r := range c.Revoked {
		rows = append(rows, [2]string{"revoked", r})
	}
	for _, key := range c.Witnesses {
		rows = append(rows, [2]string{"witness", key})
	}
	for _, a := range c.TimeServers {
		rows = append(rows, [2]string{"time server", a})
	}
	if s := c.Syslog; s != nil {
		rows = append(rows, [2]string{"syslog", s.Address + " " + s.Name}, [2]string{"", s.CA + " (CA)"})
	}
	if c.KeyService != "" {
		rows = append(rows, [2]string{"key service", strings.TrimSpace(c.KeyService + " " + c.KeyURL)})
	}
	for _, s := range c.Servers {
		rows = append(rows, [2]string{"storage server", s.Name + " " + s.Address + " " + s.NQN})
	}
	table(w, append(rows, [2]string{"written to", c.File})...)
}

// describeConfig describes what a payload says.
func describeConfig(c *config.Config, payloadDigest [32]byte, verified bool) (configInfo, error) {
	i := configInfo{Epoch: c.Epoch, Product: c.Product, Development: c.Development, SHA256: hexOf(payloadDigest), Verified: verified,
		P384: []string{}, RSA3072: []string{}, Operators: []operatorInfo{}, Witnesses: c.Witnesses}
	for _, a := range c.TimeServers {
		i.TimeServers = append(i.TimeServers, a.String())
	}
	if s := c.Collector; s != nil {
		i.Syslog = &syslogInfo{s.Address.String(), s.Name, hexOf(sha256.Sum256(s.CA.Raw))}
	}
	for _, a := range c.Release {
		e, m := a.Keys()
		i.Release = append(i.Release, release.KeyDigests{Ed25519: hexOf(e), MLDSA65: hexOf(m)})
	}
	var problems []error
	digest := func(key any) string {
		der, err := x509.MarshalPKIXPublicKey(key)
		problems = append(problems, err)
		return hexOf(sha256.Sum256(der))
	}
	for _, k := range c.P384 {
		i.P384 = append(i.P384, digest(k))
	}
	for _, k := range c.RSA3072 {
		i.RSA3072 = append(i.RSA3072, digest(k))
	}
	i.Owner = digest(c.Owner)
	if c.Factory != nil {
		i.Factory = hexOf(sha256.Sum256(c.Factory.Raw))
	}
	for _, o := range c.Operators {
		i.Operators = append(i.Operators, operatorInfo{o.Subject.String(), hexOf(sha256.Sum256(o.Raw))})
	}
	for _, r := range c.Revoked {
		i.Revoked = append(i.Revoked, r.String())
	}
	for _, s := range c.StorageServers {
		i.Servers = append(i.Servers, serverInfo{s.Name, s.Address.String(), s.SubsystemNQN})
	}
	if k := c.KeyService; k != nil {
		i.KeyService, i.KeyURL = digest(k.Key), k.URL
	}
	return i, errors.Join(problems...)
}

func configSign(f *flag.FlagSet) func(*call) (result, error) {
	keys, built := keysFlag(f), builtFlag(f)
	in := f.String("in", "", "`file` of the configuration in JSON; without it one is made of the keys")
	product := f.String("product", "", "`product` that it is for: imx6ul-evk, imx6ul-armory")
	epoch := f.Uint64("epoch", 0, "`epoch`: 1 or more, higher than that of any earlier configuration")
	var operators list
	f.Var(&operators, "operator", "`file` of a CA's certificate for clients of the API, PEM; may be repeated")
	var revoked, revokedKeys list
	f.Var(&revoked, "revoke", "`file` of a client's certificate that is revoked, PEM; its CA must be given by -operator; may be repeated")
	f.Var(&revokedKeys, "revoke-key", "`file` of a certificate whose key is revoked, whoever certifies it, PEM; may be repeated")
	var more services
	f.Var((*list)(&more.witnesses), "witness", "`key` of a witness of audit logs (C2SP, type 0x04); may be repeated")
	f.Var((*list)(&more.timeServers), "time-server", "`address` and port of an NTP server, such as 192.0.2.1:123: give 2 to 8")
	f.StringVar(&more.syslog, "syslog", "", "`address`,name,file of the collector of audit records: IP address and port, name in its certificate, its CA's certificate (PEM)")
	f.StringVar(&more.keys.key, "key-service", "", "`file` of the public key of the key service that gives keys of volumes: P-256, PEM")
	f.StringVar(&more.keys.url, "key-service-url", "", "https `URL` where boards ask it for standing leases after their own restart")
	f.StringVar(&more.keys.ca, "key-service-ca", "", "`file` of the CA's certificate for that URL, PEM")
	f.Var((*list)(&more.servers), "storage-server", "`NAME,ADDRESS:PORT,NQN` of an NVMe/TCP target on which volumes may lie; may be repeated")
	out := f.String("out", "", "`file` to write the signed configuration to")
	return func(*call) (result, error) {
		if err := need(map[string]string{"out": *out}); err != nil {
			return nil, err
		}
		if given := *product != "" || *epoch != 0 || len(operators)+len(revoked)+len(revokedKeys) > 0 || more.given(); (*in != "") == given {
			return nil, usage("give -in, or -product, -epoch and what goes with them")
		}
		time, err := built()
		if err != nil {
			return nil, err
		}
		k, err := keys.load()
		if err != nil {
			return nil, err
		}
		c, err := makeConfig(k, *in, *product, *epoch, operators, more)
		if err == nil {
			err = revoke(c, revoked, revokedKeys)
		}
		if err != nil {
			return nil, err
		}
		return signConfig(k, c, time, *out)
	}
}

// makeConfig reads a configuration, or makes one of the keys.
func makeConfig(k *release.Keys, in, product string, epoch uint64, operators list, more services) (*config.Config, error) {
	if in != "" {
		b, err := readFile(in, config.MaxSize)
		if err != nil {
			return nil, err
		}
		c, err := config.Decode(b)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", in, err)
		}
		return c, nil
	}
	if product == "" || epoch == 0 {
		return nil, usage("-product or -epoch is missing")
	}
	c, err := k.Config(product, epoch)
	if err != nil {
		return nil, err
	}
	for _, path := range operators {
		o, err := readCertificate(path)
		if err != nil {
			return nil, err
		}
		c.Operators = append(c.Operators, o)
	}
	return c, more.add(c)
}

// services are what a configuration names beside keys.
type services struct {
	witnesses, timeServers list
	servers                list // of storage
	syslog                 string
	keys                   keyServiceFlags
}

func (s services) given() bool {
	return len(s.witnesses)+len(s.timeServers)+len(s.servers) > 0 || s.syslog != "" || s.keys != keyServiceFlags{}
}

// add puts them into a configuration, which is validated when it is signed.
func (s services) add(c *config.Config) (err error) {
	c.Witnesses = s.witnesses
	if c.KeyService, err = s.keys.load(); err != nil {
		return err
	}
	if c.StorageServers, err = storageServers(s.servers); err != nil {
		return err
	}
	if c.Collector, err = collector(s.syslog); err != nil {
		return err
	}
	for _, text := range s.timeServers {
		a, err := netip.ParseAddrPort(text)
		if err != nil {
			return usage("-time-server %s: give an IP address and a port, such as 192.0.2.1:123", text)
		}
		c.TimeServers = append(c.TimeServers, a)
	}
	return nil
}

// collector reads who takes the audit records; nil if nobody is named.
func collector(text string) (*config.Collector, error) {
	if text == "" {
		return nil, nil
	}
	parts := strings.SplitN(text, ",", 3)
	if len(parts) != 3 {
		return nil, usage("-syslog %s: give address, name and file, such as 192.0.2.2:6514,log.example,log-ca.pem", text)
	}
	a, err := netip.ParseAddrPort(parts[0])
	if err != nil {
		return nil, usage("-syslog %s: give an IP address and a port, such as 192.0.2.2:6514", parts[0])
	}
	ca, err := readCertificate(parts[2])
	if err != nil {
		return nil, err
	}
	return &config.Collector{Address: a, Name: parts[1], CA: ca}, nil
}

// revoke adds what is revoked to a configuration.
func revoke(c *config.Config, certificates, keys list) error {
	for _, path := range keys {
		x, err := readCertificate(path)
		if err != nil {
			return err
		}
		c.Revoked = append(c.Revoked, config.Revoked{Key: sha256.Sum256(x.RawSubjectPublicKeyInfo)})
	}
	for _, path := range certificates {
		x, err := readCertificate(path)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(c.Operators, func(ca *x509.Certificate) bool { return x.CheckSignatureFrom(ca) == nil })
		if i < 0 {
			return fmt.Errorf("%s: no CA given by -operator has issued it: give its CA, or -revoke-key", path)
		}
		c.Revoked = append(c.Revoked, config.Revoked{CA: sha256.Sum256(c.Operators[i].RawSubjectPublicKeyInfo), Serial: string(x.SerialNumber.Bytes())})
	}
	return nil
}

// storageServers reads where volumes may lie. The configuration's encoder checks the rest.
func storageServers(texts list) (all []config.StorageServer, err error) {
	for _, text := range texts {
		part := strings.Split(text, ",")
		if len(part) != 3 {
			return nil, usage("-storage-server %s: give NAME,ADDRESS:PORT,NQN", text)
		}
		address, err := netip.ParseAddrPort(part[1])
		if err != nil {
			return nil, usage("-storage-server %s: %v", text, err)
		}
		all = append(all, config.StorageServer{Name: part[0], Address: address, SubsystemNQN: part[2]})
	}
	return all, nil
}

// keyServiceFlags name who gives keys of volumes.
type keyServiceFlags struct{ key, url, ca string }

// load reads what they name; nil if that is nobody.
func (k keyServiceFlags) load() (*config.KeyService, error) {
	if k == (keyServiceFlags{}) {
		return nil, nil
	}
	if k.key == "" || (k.url == "") != (k.ca == "") {
		return nil, usage("give -key-service, and -key-service-url and -key-service-ca together")
	}
	b, err := readFile(k.key, 64<<10)
	if err != nil {
		return nil, err
	}
	var public any
	if block, rest := pem.Decode(b); block != nil && block.Type == "PUBLIC KEY" && len(bytes.TrimSpace(rest)) == 0 {
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	}
	p256, ok := public.(*ecdsa.PublicKey)
	if err != nil || !ok {
		return nil, fmt.Errorf("%s must hold one PEM block PUBLIC KEY, of ECDSA on P-256", k.key)
	}
	s := &config.KeyService{Key: p256, URL: k.url}
	if k.ca != "" {
		s.CA, err = readCertificate(k.ca)
	}
	return s, err
}

func readCertificate(path string) (*x509.Certificate, error) {
	b, err := readFile(path, 64<<10)
	if err != nil {
		return nil, err
	}
	block, rest := pem.Decode(b)
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, fmt.Errorf("%s must hold one PEM block CERTIFICATE: give one file for each CA", path)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

func signConfig(k *release.Keys, c *config.Config, built uint64, out string) (result, error) {
	b, err := k.SignConfig(c, built)
	if err != nil {
		return nil, err
	}
	if err := writeNew(out, b); err != nil {
		return nil, err
	}
	info, err := describeConfig(c, sha256.Sum256(b[image.HeaderSize:]), true) // signing verifies
	info.File = out
	return info, err
}

func configShow(f *flag.FlagSet) func(*call) (result, error) {
	anchors := f.String("anchors", "", anchorsUsage)
	return func(c *call) (result, error) {
		path, err := c.one("configuration")
		if err != nil {
			return nil, err
		}
		a, err := readAnchors(*anchors)
		if err != nil {
			return nil, err
		}
		s, err := findConfig(path, a)
		if err != nil {
			return nil, err
		}
		return describeConfig(s.Config, s.Header.Digest, true)
	}
}

// findConfig reads the configuration of a file of its own or of a card.
func findConfig(path string, a *medium.Anchors) (*config.Signed, error) {
	head, err := readHead(path)
	if err != nil {
		return nil, err
	}
	if h, err := image.Parse(&head); err == nil {
		if a == nil {
			return nil, usage("give -anchors to verify it with")
		}
		return readConfiguration(path, a, h.Product)
	}
	r, err := inspect(path, card.Want{Anchors: a}, nil)
	if err != nil {
		return nil, err
	}
	if r.Configuration == nil {
		return nil, fmt.Errorf("%s has no good configuration: nitroctl card inspect %s: %w", path, path, r.Err())
	}
	return r.Configuration, nil
}

// readHead reads the first bytes of a file.
func readHead(path string) (head [image.HeaderSize]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return head, err
	}
	defer f.Close()
	_, err = io.ReadFull(f, head[:])
	if err != nil {
		err = fmt.Errorf("%s is too short for a configuration or a card: %w", path, err)
	}
	return head, err
}
