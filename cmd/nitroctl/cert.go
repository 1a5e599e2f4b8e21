package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"nitro/attest/verify"
	"nitro/net/https"
	"nitro/net/policy"
	"nitro/net/provisioning"
	"nitro/net/redfish"
)

var certGroup = &group{"cert", "certificates of boards and of their clients", []*command{
	{
		name:    "show",
		summary: "say what a board's certificate, or a file's, is worth",
		about: `
Shows the chain that a board shows in TLS, and whether its key is bound to the boot that the
board attests: with a policy (of the context, or by the flags of attest verify) the board
has to prove that its TPM has measured this very key. Without one that is not judged. The
chain itself proves nothing that evidence does not: its key is the board's for one boot.
With -in it shows the certificates of a file: whose they are, what for and until when, whom
a board would take a client's for, and with -key whether that is its private key. It fails if
the first one is not valid now, or the key is another's, or the evidence is refused.
`,
		example: `nitroctl cert show -context rack-3
nitroctl cert show -in ada.pem -key ada.key`,
		setup: certShow,
	},
	{
		name:    "request",
		summary: "make a signing request, of a client or of a board",
		about: `
With -who it makes a client's private key (ECDSA P-256) in NAME.key, and in NAME.csr the
request for a certificate of that principal, spiffe://<owner>/<role>/<name>. With a board it
has the board make a request for its TLS key of this boot, with the host names and addresses
given by -name, and writes it to NAME.csr, once it has seen that it is for the key that the
board was pinned by. A CA certifies what the request asks for; OpenSSL's command is
  openssl x509 -req -in NAME.csr -CA ca.pem -CAkey ca.key -days 90 -copy_extensions copy -out NAME.pem
`,
		example: `nitroctl cert request -who spiffe://owner.example/operator/ada -out ada
nitroctl cert request -context rack-3 -name rack-3.example -name 192.0.2.10 -out rack-3`,
		setup: certRequest,
	},
	{
		name:    "replace",
		summary: "have a board show another certificate for its key",
		about: `
Has the board show the chain in -in, PEM, its own certificate first, from the next connection
on; those that are open stay. The certificate must be for the key of this boot (cert request),
which never changes while the board runs; the board makes another key when it starts again,
and shows one that signs itself until this is repeated. Clients' CAs and revocations are the
configuration's: nitroctl config sign, then update push.
`,
		example: "nitroctl cert replace -context rack-3 -in rack-3.pem",
		setup:   certReplace,
	},
}}

// Paths of the API's certificates.
const (
	boardCertificates  = redfish.Root + "Managers/controller/NetworkProtocol/HTTPS/Certificates"
	boardCertificate   = boardCertificates + "/server"
	certificateActions = redfish.Root + "CertificateService/Actions/CertificateService."
)

// A certificateInfo is what a certificate says.
type certificateInfo struct {
	Subject   string   `json:"subject"`
	Issuer    string   `json:"issuer"`
	For       string   `json:"for"`                 // "client", "server", "ca", or "" for neither
	Principal string   `json:"principal,omitempty"` // of a client
	Names     []string `json:"names,omitempty"`     // of a server
	From      int64    `json:"not_before"`
	Until     int64    `json:"not_after"`
	SHA256    string   `json:"sha256"`
	Key       string   `json:"key"` // SHA-256 of its SubjectPublicKeyInfo
}

// describeCertificate says what a certificate is for. A client's is what a board takes for one.
func describeCertificate(c *x509.Certificate) certificateInfo {
	i := certificateInfo{Subject: printable(c.Subject.String()), Issuer: printable(c.Issuer.String()), From: c.NotBefore.Unix(), Until: c.NotAfter.Unix(),
		SHA256: hexOf(sha256.Sum256(c.Raw)), Key: hexOf(provisioning.KeyDigest(c))}
	p, err := policy.PrincipalOf(c)
	switch {
	case err == nil:
		i.For, i.Principal = "client", p.String()
	case c.IsCA:
		i.For = "ca"
	case slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth):
		i.For = "server"
		for _, n := range c.DNSNames {
			i.Names = append(i.Names, printable(n))
		}
		for _, ip := range c.IPAddresses {
			i.Names = append(i.Names, ip.String())
		}
	}
	return i
}

func (i certificateInfo) print(w io.Writer) {
	kind := i.For
	if kind == "" {
		kind = "neither client nor server that a board or its clients would take"
	}
	when := func(t int64) string { return time.Unix(t, 0).UTC().Format(time.RFC3339) }
	table(w, [2]string{"certificate of", i.Subject}, [2]string{"issued by", i.Issuer}, [2]string{"for", kind}, [2]string{"principal", i.Principal},
		[2]string{"names", strings.Join(i.Names, " ")}, [2]string{"valid", when(i.From) + " to " + when(i.Until)}, [2]string{"sha256", i.SHA256}, [2]string{"key", i.Key})
}

// How a key is known to be the board's (certInfo.Bound).
const (
	boundByEvidence = "evidence"
	boundByPin      = "pin"
)

// A certInfo is a chain and what it is worth.
type certInfo struct {
	Certificates []certificateInfo `json:"certificates"`
	Bound        string            `json:"bound,omitempty"`    // of a board: what ties its key to it; absent if nothing does
	KeyFits      *bool             `json:"key_fits,omitempty"` // of a file with -key
	File         string            `json:"file,omitempty"`     // that was read
	KeyFile      string            `json:"key_file,omitempty"`
	Connection   *connection       `json:"connection,omitempty"`
}

func (c certInfo) print(w io.Writer) {
	for _, i := range c.Certificates {
		i.print(w)
	}
	if c.KeyFits != nil {
		table(w, [2]string{"private key fits", yes(*c.KeyFits)})
	}
	table(w, [2]string{"file", c.File}, [2]string{"private key", c.KeyFile})
	if c.Connection == nil {
		return
	}
	bound := map[string]string{boundByEvidence: "yes, by evidence", boundByPin: "not judged: it is the pinned key", "": "not judged, or refused: it takes evidence and a policy"}
	table(w, [2]string{"bound to the attested boot", bound[c.Bound]})
	c.Connection.print(w)
}

// describeChain describes a chain. The first one must be valid now.
func describeChain(chain []*x509.Certificate) (all []certificateInfo, err error) {
	for _, c := range chain {
		all = append(all, describeCertificate(c))
	}
	now := time.Now()
	switch c := chain[0]; {
	case now.After(c.NotAfter):
		err = advised{fmt.Errorf("the certificate has ended at %s", c.NotAfter.UTC().Format(time.RFC3339)), "nitroctl cert request makes a request for another one."}
	case now.Before(c.NotBefore):
		err = advised{fmt.Errorf("the certificate is valid from %s on", c.NotBefore.UTC().Format(time.RFC3339)), "Check this machine's clock."}
	}
	return all, err
}

func certShow(f *flag.FlagSet) func(*call) (result, error) {
	board, held := remoteFlags(f), policyFlags(f)
	in := f.String("in", "", "`file` of certificates, PEM, in the place of a board")
	key := f.String("key", "", "with -in: `file` of the private key, PEM")
	return func(*call) (result, error) {
		switch {
		case *in != "" && namesBoard(f):
			return nil, usage("give -in, or a board")
		case *in == "" && *key != "":
			return nil, usage("-key goes with -in")
		case *in != "":
			return showFile(*in, *key)
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		p, err := held(r.context.Policy)
		if err != nil {
			return nil, err
		}
		if judges(p) {
			return showProved(r, p)
		}
		return showBoard(r)
	}
}

// showFile shows a file's certificates, and whether a key is the first one's.
func showFile(in, key string) (result, error) {
	chain, err := readCertificates(in)
	if err != nil {
		return nil, err
	}
	c := certInfo{File: in, KeyFile: key}
	c.Certificates, err = describeChain(chain)
	if key == "" {
		return c, err
	}
	_, wrong := tls.LoadX509KeyPair(in, key)
	fits := wrong == nil
	if c.KeyFits = &fits; !fits && err == nil {
		err = fmt.Errorf("%s with %s: %w", in, key, wrong)
	}
	return c, err
}

// judges tells whether a policy says anything about whose attestation key is good, or what may
// run: one that lacks a part of it is refused then, not left out.
func judges(p *verify.Policy) bool {
	return p.Issuers != nil || len(p.Names) > 0 || p.Board != nil || p.Makers != nil || len(p.Releases) > 0
}

// showBoard shows the chain of a board that nothing is proved of.
func showBoard(r *remote) (result, error) {
	a, err := r.ask(http.MethodGet, "/v1/status", "", nil)
	if err == nil {
		err = a.refusal(http.StatusOK)
	}
	if err != nil {
		return nil, err
	}
	c := certInfo{Connection: &a.connection}
	if r.pin != nil {
		c.Bound = boundByPin
	}
	c.Certificates, err = describeChain(a.chain)
	return c, err
}

// showProved shows the chain of the connection over which a board proves itself.
func showProved(r *remote, p *verify.Policy) (result, error) {
	var err error
	if p.Nonce, err = nonceFlag(""); err != nil {
		return nil, err
	}
	if err := p.Check(); err != nil {
		return nil, usage("%v", err)
	}
	if !r.pinGiven {
		r.pin = nil // it may be an earlier boot's; evidence is more
	}
	a, err := fetchEvidence(r, p.Nonce)
	if err != nil {
		return nil, err
	}
	c := certInfo{Connection: &a.connection}
	var stale error
	c.Certificates, stale = describeChain(a.chain)
	p.TLSKey = &a.key
	if _, err := judge(a.body, p, verdict{}); err != nil {
		return c, advised{fmt.Errorf("the board's key is not bound to a boot that the policy accepts: %w", err),
			"Do not trust this connection. nitroctl attest verify, by the same policy, shows each check."}
	}
	c.Bound, c.Connection.Verified = boundByEvidence, true
	if r.ofContext() {
		if err := r.context.keepPin(hexOf(a.key)); err != nil {
			return c, err
		}
	}
	return c, stale
}

func certRequest(f *flag.FlagSet) func(*call) (result, error) {
	board := apiFlags(f)
	who := f.String("who", "", "`principal` of a client: spiffe://<owner>/<role>/<name>")
	var names list
	f.Var(&names, "name", "host `name` or IP address of the board; may be repeated, the first one is the common name")
	out := f.String("out", "", "`name` of the files to write: NAME.csr, and of a client NAME.key")
	return func(*call) (result, error) {
		if err := need(map[string]string{"out": *out}); err != nil {
			return nil, err
		}
		switch {
		case *who != "" && (namesBoard(f) || len(names) > 0):
			return nil, usage("give -who for a client, or a board and -name")
		case *who != "":
			return requestClient(*who, *out)
		case len(names) == 0:
			return nil, usage("give -who for a client, or a board and its names by -name")
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		return requestBoard(r, names, *out+".csr")
	}
}

// A requestInfo is a signing request that was written.
type requestInfo struct {
	Principal  string      `json:"principal,omitempty"` // of a client
	Names      []string    `json:"names,omitempty"`     // of a board
	Key        string      `json:"key"`                 // SHA-256 of the SubjectPublicKeyInfo
	File       string      `json:"file"`
	KeyFile    string      `json:"key_file,omitempty"`
	Connection *connection `json:"connection,omitempty"`
}

func (i requestInfo) print(w io.Writer) {
	table(w, [2]string{"principal", i.Principal}, [2]string{"names", strings.Join(i.Names, " ")}, [2]string{"key", i.Key},
		[2]string{"request", i.File}, [2]string{"private key", i.KeyFile})
	if i.Connection != nil {
		i.Connection.print(w)
	}
}

// requestClient makes a client's key and request. The key is written first: without it the
// request is worth nothing, and a key that nobody certified is no harm.
func requestClient(who, out string) (result, error) {
	p, err := policy.ParsePrincipal(who)
	if err != nil {
		return nil, usage("-who: %v", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	request, err := clientRequest(p, key)
	if err != nil {
		return nil, err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(pkcs8)
	text := encodePEM("PRIVATE KEY", pkcs8)
	defer clear(text)
	if err := writeSecret(out+".key", text); err != nil {
		return nil, err
	}
	return requestInfo{Principal: p.String(), Key: hexOf(sha256.Sum256(spki)), File: out + ".csr", KeyFile: out + ".key"},
		writeNew(out+".csr", encodePEM("CERTIFICATE REQUEST", request))
}

// clientRequest asks for all that makes a board take the certificate for a client's
// (docs/policy.md, "Who asks"), so that a CA has but to copy it.
func clientRequest(p policy.Principal, key crypto.Signer) ([]byte, error) {
	uri, err := url.Parse(p.String())
	if err != nil {
		return nil, err
	}
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: p.Name}, URIs: []*url.URL{uri}, ExtraExtensions: https.Wanted(https.ForClients),
	}, key)
}

// requestBoard has a board make a request. It must be for the key that the board has in TLS:
// another one would get somebody else certified in its name.
func requestBoard(r *remote, names list, out string) (result, error) {
	ask := map[string]any{"CertificateCollection": map[string]string{"@odata.id": boardCertificates}, "CommonName": names[0], "AlternativeNames": names}
	var answer struct{ CSRString string }
	c, err := r.call(http.MethodPost, certificateActions+"GenerateCSR", ask, &answer, http.StatusOK)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(answer.CSRString))
	if block == nil || block.Type != "CERTIFICATE REQUEST" {
		return nil, fmt.Errorf("the board at %s gives no PEM block CERTIFICATE REQUEST: is it a board?", r.address)
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err == nil {
		err = request.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("the board at %s gives a request that is not good: %w", r.address, err)
	}
	key := hexOf(sha256.Sum256(request.RawSubjectPublicKeyInfo))
	if key != c.TLSKey {
		return nil, fmt.Errorf("the board at %s asks for a certificate for key %s, and has shown %s: have nobody certify that", r.address, key, c.TLSKey)
	}
	return requestInfo{Names: names, Key: key, File: out, Connection: &c}, writeNew(out, encodePEM("CERTIFICATE REQUEST", block.Bytes))
}

func certReplace(f *flag.FlagSet) func(*call) (result, error) {
	board := apiFlags(f)
	in := f.String("in", "", "`file` of the chain, PEM: the board's certificate, then who has issued it, and so on")
	return func(*call) (result, error) {
		if err := need(map[string]string{"in": *in}); err != nil {
			return nil, err
		}
		chain, err := readCertificates(*in)
		if err != nil {
			return nil, err
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		return replaceChain(r, chain, *in)
	}
}

// errOtherKey: the certificate is for another key than the board's.
var errOtherKey = errors.New("the first certificate is for another key than the board's")

// replaceChain has a board show a chain, and looks whether it does.
func replaceChain(r *remote, chain []*x509.Certificate, file string) (result, error) {
	if len(chain) > https.MaxChain {
		return nil, fmt.Errorf("%s has %d certificates: a board shows at most %d", file, len(chain), https.MaxChain)
	}
	all, err := describeChain(chain)
	if err != nil {
		return nil, err
	}
	now, err := r.call(http.MethodGet, boardCertificate, nil, nil, http.StatusOK)
	if err != nil {
		return nil, err
	}
	if all[0].Key != now.TLSKey {
		return nil, advised{fmt.Errorf("%s: %w: it is for %s, the board has %s", file, errOtherKey, all[0].Key, now.TLSKey),
			"A board has a new key with each boot: nitroctl cert request makes a request for the one that it has now."}
	}
	var text strings.Builder
	for _, c := range chain {
		text.Write(encodePEM("CERTIFICATE", c.Raw))
	}
	ask := map[string]any{"CertificateUri": map[string]string{"@odata.id": boardCertificate}, "CertificateType": "PEMchain", "CertificateString": text.String()}
	if _, err := r.call(http.MethodPost, certificateActions+"ReplaceCertificate", ask, nil, http.StatusNoContent); err != nil {
		return nil, err
	}
	shown, err := r.ask(http.MethodGet, "/v1/status", "", nil)
	if err != nil {
		return nil, err
	}
	c := certInfo{Certificates: all, Bound: boundByPin, File: file, Connection: &shown.connection}
	if !shown.chain[0].Equal(chain[0]) {
		return c, advised{fmt.Errorf("the board at %s has taken the certificate, and shows another one: %s", r.address, hexOf(sha256.Sum256(shown.chain[0].Raw))),
			"Somebody else may have replaced it at the same time: nitroctl cert show, and nitroctl audit tail."}
	}
	return c, nil
}
