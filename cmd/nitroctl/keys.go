package main

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"filippo.io/mldsa"

	"nitro/boot/release"
)

var keysGroup = &group{"keys", "the authorities' keys", []*command{
	{
		name:    "new",
		summary: "make new keys in a folder",
		about: `
Makes private keys and their public halves: those of the release and of the configuration
authority (Ed25519 and ML-DSA-65 each), of the two sealing authorities (ECDSA P-384,
RSA-3072), of the owner and of the factory (ECDSA P-256; the factory's with a certificate).
-only makes some of them, so that each may come to be where it is kept; who needs the
others' public halves is given their .pub.pem files. Private keys are not encrypted: the
folder is as safe as the disk that it is on. No file is ever overwritten.
`,
		example: `nitroctl keys new -out keys
nitroctl keys new -only sealing-p384 -out /media/custodian-1`,
		setup: keysNew,
	},
	{
		name:    "show",
		summary: "say which keys are in folders",
		about: `
Names the keys in folders, and the SHA-256 of each public key: of an Ed25519 or ML-DSA-65
key as image headers have it, of the others over their PKIX form. Shows no private key.
`,
		example: "nitroctl keys show -keys keys -keys /media/custodian-1",
		setup:   keysShow,
	},
}}

// A keyList is what keys there are.
type keyList struct {
	Development bool      `json:"development"`
	Keys        []keyInfo `json:"keys"`
	Certificate string    `json:"factory_certificate,omitempty"` // SHA-256
	Folder      string    `json:"folder,omitempty"`              // that was written
}

type keyInfo struct {
	Name      string `json:"name"`
	Algorithm string `json:"algorithm"`
	Private   bool   `json:"private"` // the private half is there
	SHA256    string `json:"sha256"`  // of the public half
}

func (l keyList) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, k := range l.Keys {
		half := "public"
		if k.Private {
			half = "private"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", k.Name, k.Algorithm, half, k.SHA256)
	}
	t.Flush()
	if l.Certificate != "" {
		fmt.Fprintf(w, "factory's certificate: %s\n", l.Certificate)
	}
	if l.Development {
		fmt.Fprintln(w, "these are development keys: what they sign runs on development boards alone")
	}
	if l.Folder != "" {
		fmt.Fprintf(w, "written to %s\n", l.Folder)
	}
}

func keysNew(f *flag.FlagSet) func(*call) (result, error) {
	var names []string
	for _, n := range release.Names() {
		names = append(names, string(n))
	}
	development := f.Bool("development", false, "make development keys: all of them, marked so for ever")
	only := f.String("only", "", "`names` of the keys to make, by commas: "+strings.Join(names, ", "))
	out := f.String("out", "", "`folder` to write to")
	return func(*call) (result, error) {
		if err := need(map[string]string{"out": *out}); err != nil {
			return nil, err
		}
		k, err := makeKeys(*development, *only)
		if err != nil {
			return nil, err
		}
		if err := k.Save(*out); err != nil {
			return nil, err
		}
		l, err := describeKeys(k)
		l.Folder = *out
		return l, err
	}
}

func makeKeys(development bool, only string) (*release.Keys, error) {
	switch {
	case development && only != "":
		return nil, usage("-development makes all keys: leave out -only")
	case development:
		return release.DevelopmentKeys()
	case only == "":
		return release.NewKeys()
	}
	var names []release.Name
	for s := range strings.SplitSeq(only, ",") {
		if !slices.Contains(release.Names(), release.Name(s)) {
			return nil, usage("-only: there is no key %q: the names are %v", s, release.Names())
		}
		names = append(names, release.Name(s))
	}
	return release.NewKeys(names...)
}

func keysShow(f *flag.FlagSet) func(*call) (result, error) {
	dirs := keysFlag(f)
	return func(*call) (result, error) {
		k, err := dirs.load()
		if err != nil {
			return nil, err
		}
		return describeKeys(k)
	}
}

func describeKeys(k *release.Keys) (l keyList, err error) {
	l.Development, l.Keys = k.Development(), []keyInfo{}
	for _, n := range k.Public() {
		var raw []byte
		switch p := k.PublicKey(n).(type) {
		case ed25519.PublicKey:
			raw = p
		case *mldsa.PublicKey:
			raw = p.Bytes()
		default:
			if raw, err = x509.MarshalPKIXPublicKey(p); err != nil {
				return l, err
			}
		}
		l.Keys = append(l.Keys, keyInfo{string(n), n.Algorithm(), slices.Contains(k.Private(), n), hexOf(sha256.Sum256(raw))})
	}
	if c := k.FactoryCertificate(); c != nil {
		sum := sha256.Sum256(c.Raw)
		l.Certificate = hex.EncodeToString(sum[:])
	}
	return l, nil
}

// sortedKeys gives a map's keys in order.
func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
