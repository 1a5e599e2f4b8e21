package main

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"nitro/net/keyservice/kms"
	"nitro/net/keyservice/server"
	"nitro/net/policy"
)

// planeYears is how long a control plane's certificate lasts.
const planeYears = 1

// planeFlags are the flags of who admits and revokes control planes, beside a running
// service. The control plane is the call's argument.
func planeFlags(f *flag.FlagSet) (dir *string, open func(c *call) (*server.Owner, policy.Principal, error)) {
	dir = f.String("dir", "", "`folder` of the key service")
	owner := f.String("owner", "", "trust `domain` of the control planes, as keyservice serve has it")
	return dir, func(c *call) (*server.Owner, policy.Principal, error) {
		name, err := c.one("name of a control plane")
		if err != nil {
			return nil, policy.Principal{}, err
		}
		if err := need(map[string]string{"dir": *dir, "owner": *owner}); err != nil {
			return nil, policy.Principal{}, err
		}
		p, err := policy.ParsePrincipal(policy.Principal{Owner: *owner, Role: policy.StorageControlPlane, Name: name}.String())
		if err != nil {
			return nil, p, usage("%v", err)
		}
		o, err := server.OpenOwner(*dir, nil)
		return o, p, err
	}
}

// A planeInfo is what a control plane was given, or had taken.
type planeInfo struct {
	Principal   string `json:"principal,omitempty"`
	Certificate string `json:"certificate,omitempty"` // file
	Key         string `json:"key,omitempty"`         // file
	Until       int64  `json:"until,omitempty"`       // seconds since 1970
	AccessKey   string `json:"access_key,omitempty"`  // its identifier
	File        string `json:"file,omitempty"`        // of the access key
	Revoked     bool   `json:"revoked,omitempty"`
}

func (p planeInfo) print(w io.Writer) {
	until, revoked := "", ""
	if p.Until != 0 {
		until = time.Unix(p.Until, 0).UTC().Format(time.RFC3339)
	}
	if p.Revoked {
		revoked = "yes"
	}
	table(w, [2]string{"control plane", p.Principal}, [2]string{"certificate", p.Certificate}, [2]string{"key", p.Key}, [2]string{"until", until},
		[2]string{"access key", p.AccessKey}, [2]string{"file", p.File}, [2]string{"revoked", revoked})
}

func keyserviceAdmit(f *flag.FlagSet) func(*call) (result, error) {
	dir, open := planeFlags(f)
	out := f.String("out", "", "`folder` for the new files")
	return func(c *call) (result, error) {
		if err := need(map[string]string{"out": *out}); err != nil {
			return nil, err
		}
		o, p, err := open(c)
		if err != nil {
			return nil, err
		}
		defer o.Close()
		ca, err := readCertificate(filepath.Join(*dir, serviceCAFile))
		if err != nil {
			return nil, err
		}
		key, err := readP256(filepath.Join(*dir, serviceCAKey))
		if err != nil {
			return nil, err
		}
		return admit(o, p, ca, key, filepath.Join(*out, p.Name))
	}
}

// admit makes a control plane's key and certificate. The certificate is in the log before
// it is in a file.
func admit(o *server.Owner, p policy.Principal, ca *x509.Certificate, by *ecdsa.PrivateKey, base string) (result, error) {
	since, err := o.Since(p)
	if err != nil {
		return nil, err
	}
	i := planeInfo{Principal: p.String(), Certificate: base + ".pem", Key: base + ".key", Until: since.AddDate(planeYears, 0, 0).Unix()}
	k, err := newP256(i.Key)
	if err != nil {
		return nil, err
	}
	c, err := certify(p, since, time.Unix(i.Until, 0), k, ca, by)
	if err == nil {
		err = o.Admit(p, c)
	}
	if err == nil {
		err = writeNew(i.Certificate, encodePEM("CERTIFICATE", c.Raw))
	}
	if err != nil {
		return nil, errors.Join(err, os.Remove(i.Key)) // it would stand in the way of the next attempt
	}
	return i, nil
}

// certify makes a control plane's certificate.
func certify(p policy.Principal, since, until time.Time, k *ecdsa.PrivateKey, ca *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, error) {
	uri, err := url.Parse(p.String())
	if err != nil {
		return nil, err
	}
	serial := make([]byte, 16)
	rand.Read(serial)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), Subject: pkix.Name{CommonName: p.Name}, NotBefore: since, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, URIs: []*url.URL{uri},
	}, ca, k.Public(), by)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func keyserviceAccess(f *flag.FlagSet) func(*call) (result, error) {
	_, open := planeFlags(f)
	out := f.String("out", "", "new `file` for the access key")
	return func(c *call) (result, error) {
		if err := need(map[string]string{"out": *out}); err != nil {
			return nil, err
		}
		o, p, err := open(c)
		if err != nil {
			return nil, err
		}
		defer o.Close()
		a, err := o.Access(p)
		if err != nil {
			return nil, err
		}
		i := planeInfo{Principal: p.String(), AccessKey: a.ID, File: *out}
		if err := writeSecret(*out, fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", a.ID, a.Secret)); err != nil {
			if e := o.RevokeAccess(a.ID); e != nil {
				err = fmt.Errorf("%w; and it stays good: %w", err, e)
			}
			return nil, err
		}
		return i, nil
	}
}

// maxCredentials is the longest file of an access key, in bytes.
const maxCredentials = 4 << 10

// readAccess reads the access key in a file of AWS's shared credentials, of which there
// must be one.
func readAccess(path string) (a kms.Access, err error) {
	text, err := readFile(path, maxCredentials)
	if err != nil {
		return a, err
	}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), "=")
		for _, m := range []struct {
			name string
			to   *string
		}{{"aws_access_key_id", &a.ID}, {"aws_secret_access_key", &a.Secret}} {
			if strings.TrimSpace(name) != m.name {
				continue
			}
			if *m.to != "" {
				return a, fmt.Errorf("%s: it has more than one %s: keep one access key in it", path, m.name)
			}
			*m.to = strings.TrimSpace(value)
		}
	}
	if a.ID == "" || a.Secret == "" {
		err = fmt.Errorf("%s: no access key: nitroctl keyservice access makes such a file", path)
	}
	return a, err
}

func keyserviceRevoke(f *flag.FlagSet) func(*call) (result, error) {
	dir, open := planeFlags(f)
	access := f.String("access", "", "`identifier` of the one access key to revoke")
	return func(c *call) (result, error) {
		if *access != "" {
			return revokeAccess(*dir, *access, c.args)
		}
		o, p, err := open(c)
		if err != nil {
			return nil, err
		}
		defer o.Close()
		if err := o.Revoke(p); err != nil {
			return nil, err
		}
		return planeInfo{Principal: p.String(), Revoked: true}, nil
	}
}

func revokeAccess(dir, id string, args []string) (result, error) {
	if len(args) > 0 {
		return nil, usage("-access and %q: revoke either the access key or the control plane", args[0])
	}
	if err := need(map[string]string{"dir": dir}); err != nil {
		return nil, err
	}
	o, err := server.OpenOwner(dir, nil)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	if err := o.RevokeAccess(id); err != nil {
		return nil, err
	}
	return planeInfo{AccessKey: id, Revoked: true}, nil
}

// A logInfo is what a key service's log has.
type logInfo struct {
	Records uint64            `json:"records"`
	Head    string            `json:"head"`
	Lines   []json.RawMessage `json:"lines"`
}

func (l logInfo) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, line := range l.Lines {
		var r struct{ Time, Event, Result, Who, From, Volume, Board, Why string }
		json.Unmarshal(line, &r) // what it has not is left out
		fmt.Fprintln(t, printable(strings.Join([]string{r.Time, r.Event, r.Result, r.Who + " from " + r.From, r.Volume, r.Board, r.Why}, "\t")))
	}
	t.Flush()
	table(w, [2]string{"records", strconv.FormatUint(l.Records, 10)}, [2]string{"head", l.Head})
}

func headText(h server.Head) string { return fmt.Sprintf("%d:%x", h.N, h.Hash) }

func parseHead(s string) (h server.Head, err error) {
	number, hash, _ := strings.Cut(s, ":")
	h.N, err = strconv.ParseUint(number, 10, 64)
	b, e := hex.DecodeString(hash)
	copy(h.Hash[:], b)
	if err != nil || e != nil || headText(h) != s {
		err = usage("-head %.90q: it is as keyservice log has printed it", s)
	}
	return h, err
}

func keyserviceLog(f *flag.FlagSet) func(*call) (result, error) {
	dir := f.String("dir", "", "`folder` of the key service")
	lines := f.Int("lines", 20, "`number` of lines to show")
	head := f.String("head", "", "`head` that was printed before, which the log must go on from")
	return func(*call) (result, error) {
		if err := need(map[string]string{"dir": *dir}); err != nil {
			return nil, err
		}
		if *lines < 0 {
			return nil, usage("-lines %d: a number of lines", *lines)
		}
		var kept *server.Head
		if *head != "" {
			h, err := parseHead(*head)
			if err != nil {
				return nil, err
			}
			kept = &h
		}
		return goThrough(*dir, *lines, kept)
	}
}

// goThrough goes through a log, which must have a head that somebody kept.
func goThrough(dir string, lines int, kept *server.Head) (result, error) {
	l := logInfo{Lines: []json.RawMessage{}}
	met := kept == nil || *kept == server.Head{}
	end, err := server.ReadLog(dir, func(line []byte, h server.Head) error {
		met = met || h == *kept
		if l.Lines = append(l.Lines, bytes.Clone(line)); len(l.Lines) > lines {
			l.Lines = l.Lines[1:]
		}
		return nil
	})
	l.Records, l.Head = end.N, headText(end)
	const keep = "Keep the file as it is, find out who can write to the folder, and compare with a copy of it."
	if err != nil {
		return l, advised{err, keep}
	}
	if !met {
		return l, advised{fmt.Errorf("the log of %d lines does not go on from %s: lines are gone from its end, or it is another log", end.N, headText(*kept)), keep}
	}
	return l, nil
}
