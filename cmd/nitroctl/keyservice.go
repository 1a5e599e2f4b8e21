package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"nitro/net/keyservice/server"
)

var keyserviceGroup = &group{"keyservice", "a service that gives boards the keys of volumes", []*command{
	{
		name:    "init",
		summary: "make a key service's folder and keys",
		about: `
Makes a new folder with the service's master key, the key that signs grants (grant.key;
grant.pub goes into the configuration of boards), a CA of its own (ca.pem goes there too)
and with it the certificate of its TLS server, for the names and addresses by -host, for
ten years. Keep a copy of the folder elsewhere: without master.key all volumes are lost.
The CA's key, ca.key, serves keyservice admit alone: it need not stay on the machine.
`,
		example: "nitroctl keyservice init -dir keyservice -host keys.example -host 192.0.2.20",
		setup:   keyserviceInit,
	},
	{
		name:    "serve",
		summary: "run a key service",
		about: `
Serves docs/keyservice.md over TLS 1.3. Control planes have client certificates of its own
CA (keyservice admit), or of those by -clients, with the URI
spiffe://OWNER/storage-control-plane/NAME; at its KMS face also access keys. Boards get keys
only if their evidence holds to the policy, which is as attest verify has it: -policy, or at
least one -release and -issuer, -ak-name or -board-part. All that it does is in the log of
the folder (keyservice log). It ends with Ctrl-C.
`,
		example: "nitroctl keyservice serve -dir keyservice -listen 192.0.2.20:8443 -clients control.pem -owner owner.example -policy policy.json",
		setup:   keyserviceServe,
	},
	{
		name:    "admit",
		summary: "give a control plane a client certificate",
		args:    "NAME",
		about: `
Makes a key and, by the service's own CA, a certificate of the control plane NAME for a year,
and writes both to new files, NAME.key and NAME.pem, in the folder by -out. A running service
takes it at once. For the board's API a control plane needs a certificate that the board's
configuration knows: have ca.pem there too, or use another certificate for it.
`,
		example: "nitroctl keyservice admit -dir keyservice -owner owner.example -out . west",
		setup:   keyserviceAdmit,
	},
	{
		name:    "access",
		summary: "make an access key of a control plane for the KMS face",
		args:    "NAME",
		about: `
Makes an access key of the control plane NAME, and writes it to a new file in the form of
AWS's shared credentials, with which AWS's SDKs and nitroctl volume attach -form cms sign. It
opens nothing but envelopes of keys that the same control plane was granted with its
certificate just before.
`,
		example: "nitroctl keyservice access -dir keyservice -owner owner.example -out west.aws west",
		setup:   keyserviceAccess,
	},
	{
		name:    "revoke",
		summary: "make void what a control plane has had until now",
		args:    "NAME",
		about: `
Ends at once what the control plane NAME has: certificates that began until now, whoever
issued them, access keys, grants that wait, and that boards may ask again for its standing
leases. What is issued later counts: keyservice admit lets it in again. Leases that boards
have stay until they end or their volumes are detached. With -access one access key alone
ends, and NAME is left out.
`,
		example: "nitroctl keyservice revoke -dir keyservice -owner owner.example west",
		setup:   keyserviceRevoke,
	},
	{
		name:    "log",
		summary: "verify a key service's log, and show its last lines",
		about: `
Goes through the chain of all lines, which no line can be changed in or taken out of, and
shows the last ones. It prints the head of the chain: keep that elsewhere, and give it by
-head later to see that nothing was cut off the end since.
`,
		example: "nitroctl keyservice log -dir keyservice -lines 50",
		setup:   keyserviceLog,
	},
}}

// Files in a key service's folder that are this tool's.
const (
	grantKeyFile, grantPublicFile = "grant.key", "grant.pub"
	serviceCAFile, serviceCAKey   = "ca.pem", "ca.key"
	serviceCertFile, serviceKey   = "tls.pem", "tls.key"
	serviceYears                  = 10
)

// Limits of the service's clients.
const (
	serviceHeader = 10 * time.Second
	serviceBody   = time.Minute
	serviceIdle   = 2 * time.Minute
	serviceStop   = 5 * time.Second // for what is under way when it ends
	maxKeyFile    = 64 << 10        // bytes
)

// A keyserviceInfo is a new folder.
type keyserviceInfo struct {
	Folder string `json:"folder"`
	Grants string `json:"grants"` // file of the public key of grants
	CA     string `json:"ca"`     // file of the certificate of the server's CA
}

func (k keyserviceInfo) print(w io.Writer) {
	table(w, [2]string{"folder", k.Folder}, [2]string{"key of grants", k.Grants}, [2]string{"CA of its server", k.CA})
	fmt.Fprintln(w, "the last two go into the configuration of boards; keep a copy of master.key elsewhere")
}

func keyserviceInit(f *flag.FlagSet) func(*call) (result, error) {
	dir := f.String("dir", "", "new `folder` to make")
	var hosts list
	f.Var(&hosts, "host", "`name` or address that clients know the service by; may be repeated")
	return func(*call) (result, error) {
		if err := need(map[string]string{"dir": *dir, "host": hosts.String()}); err != nil {
			return nil, err
		}
		if err := server.Init(*dir); err != nil {
			return nil, err
		}
		grants, err := newP256(filepath.Join(*dir, grantKeyFile))
		if err != nil {
			return nil, err
		}
		public, err := x509.MarshalPKIXPublicKey(&grants.PublicKey)
		if err != nil {
			return nil, err
		}
		i := keyserviceInfo{*dir, filepath.Join(*dir, grantPublicFile), filepath.Join(*dir, serviceCAFile)}
		if err := writeNew(i.Grants, encodePEM("PUBLIC KEY", public)); err != nil {
			return nil, err
		}
		return i, serverCertificate(*dir, hosts)
	}
}

// newP256 makes a key and its file.
func newP256(path string) (*ecdsa.PrivateKey, error) {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		return nil, err
	}
	return k, writeSecret(path, encodePEM("PRIVATE KEY", der))
}

// serverCertificate makes the service's CA, and the server's key and certificate by it. Its
// key lies where those that it would be worth stealing for lie anyway.
func serverCertificate(dir string, hosts []string) error {
	ca, err := newP256(filepath.Join(dir, serviceCAKey))
	if err != nil {
		return err
	}
	now := time.Now()
	parent := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "key service"}, NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(serviceYears, 0, 0),
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign}
	root, err := x509.CreateCertificate(rand.Reader, parent, parent, ca.Public(), ca)
	if err != nil {
		return err
	}
	leaf := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: hosts[0]}, NotBefore: parent.NotBefore, NotAfter: parent.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, h)
		}
	}
	k, err := newP256(filepath.Join(dir, serviceKey))
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, parent, k.Public(), ca)
	if err != nil {
		return err
	}
	if err := writeNew(filepath.Join(dir, serviceCAFile), encodePEM("CERTIFICATE", root)); err != nil {
		return err
	}
	return writeNew(filepath.Join(dir, serviceCertFile), encodePEM("CERTIFICATE", der))
}

func keyserviceServe(f *flag.FlagSet) func(*call) (result, error) {
	policy := policyFlags(f)
	dir := f.String("dir", "", "`folder` that keyservice init made")
	listen := f.String("listen", "127.0.0.1:8443", "`address` and port; port 0 takes a free one")
	clients := f.String("clients", "", "`file` of more CA certificates of control planes, PEM")
	owner := f.String("owner", "", "trust `domain` of the control planes: the OWNER of their URIs")
	lease := f.Duration("max-lease", 24*time.Hour, "longest lease")
	return func(c *call) (result, error) {
		if err := need(map[string]string{"dir": *dir, "owner": *owner}); err != nil {
			return nil, err
		}
		p, err := policy("")
		if err != nil {
			return nil, err
		}
		grants, err := readP256(filepath.Join(*dir, grantKeyFile))
		if err != nil {
			return nil, err
		}
		t, err := serviceTLS(*dir, *clients)
		if err != nil {
			return nil, err
		}
		s, err := server.Open(server.Config{Folder: *dir, Signer: grants, Policy: *p, MaxLease: *lease, Owner: *owner})
		if err != nil {
			return nil, err
		}
		defer s.Close()
		l, err := net.Listen("tcp", *listen)
		if err != nil {
			return nil, err
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		c.say("key service: https://%s", l.Addr())
		return servedInfo{l.Addr().String()}, serveKeys(ctx, tls.NewListener(l, t), s)
	}
}

func readP256(path string) (*ecdsa.PrivateKey, error) {
	text, err := readFile(path, maxKeyFile)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: no PEM: restore it", path)
	}
	k, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	p256, ok := k.(*ecdsa.PrivateKey)
	if !ok || p256.Curve != elliptic.P256() {
		return nil, fmt.Errorf("%s: a %T, not ECDSA on P-256: restore it", path, k)
	}
	return p256, nil
}

// serviceTLS reads the server's certificate, and the control planes' CAs: its own, and
// those of a file if one is named.
func serviceTLS(dir, clients string) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, serviceCertFile), filepath.Join(dir, serviceKey))
	if err != nil {
		return nil, fmt.Errorf("the server's certificate: %w", err)
	}
	files := list{filepath.Join(dir, serviceCAFile)}
	if clients != "" {
		files = append(files, clients)
	}
	pool, err := readPool(files)
	if err != nil {
		return nil, err
	}
	return server.TLS(pair, pool), nil
}

// serveKeys serves until the context ends.
func serveKeys(ctx context.Context, l net.Listener, h http.Handler) error {
	return serveUntil(ctx, l, &http.Server{Handler: h, ReadHeaderTimeout: serviceHeader, ReadTimeout: serviceBody, WriteTimeout: 2 * serviceBody,
		IdleTimeout: serviceIdle, MaxHeaderBytes: 16 << 10}, serviceStop)
}
