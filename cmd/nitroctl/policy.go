package main

import (
	"crypto/x509"
	"encoding/hex"
	"flag"
	"fmt"
	"path/filepath"

	"nitro/attest/evidence"
	"nitro/attest/ijson"
	"nitro/attest/verify"
	"nitro/boot/image"
)

// A policyFile is what evidence is held to, as a file has it (docs/nitroctl.md, "Policy").
// Flags fill the same structure. Paths in a file are relative to its folder.
type policyFile struct {
	Format          int      `json:"format"`
	Releases        []string `json:"releases"`       // folders
	Anchors         string   `json:"anchors"`        // file
	Issuers         []string `json:"issuers"`        // files, PEM
	Makers          []string `json:"makers"`         // files, PEM
	AKNames         []string `json:"ak_names"`       // hexadecimal
	BoardPart       string   `json:"board_part"`     // file
	BoardKey        string   `json:"board_key"`      // file, PEM
	Configurations  []string `json:"configurations"` // SHA-256, hexadecimal
	SecurityVersion uint     `json:"security_version"`

	AcceptDevelopment   bool `json:"accept_development"`
	AcceptOpenLifeCycle bool `json:"accept_open_life_cycle"`
	AcceptWeakSecret    bool `json:"accept_weak_secret"`
}

// policyLimit bounds a policy file.
var policyLimit = ijson.Limit{Size: 64 << 10, Depth: 2}

// policyFlags are the flags of a policy. Where none of them is given, what they give is that
// of another file, if one is named.
func policyFlags(f *flag.FlagSet) func(otherwise string) (*verify.Policy, error) {
	var p policyFile
	file := f.String("policy", "", "`file` of the policy, JSON, in the place of all flags of it (docs/nitroctl.md, \"Policy\")")
	own := map[string]bool{}
	f.VisitAll(func(f *flag.Flag) { own[f.Name] = true })
	f.Var((*list)(&p.Releases), "release", "`folder` of a release that the board may run; may be repeated")
	f.StringVar(&p.Anchors, "anchors", "", "`file` of the anchor block that the releases must have")
	f.Var((*list)(&p.Issuers), "issuer", "`file` of a CA's certificate that certifies attestation keys, PEM; may be repeated")
	f.Var((*list)(&p.Makers), "makers", "`file` of TPM makers' root certificates, PEM: the endorsement is then wanted as well; may be repeated")
	f.Var((*list)(&p.AKNames), "ak-name", "TPM name of an accepted attestation key, `hexadecimal`; may be repeated")
	f.StringVar(&p.BoardPart, "board-part", "", "`file` of the known-good set's board part")
	f.StringVar(&p.BoardKey, "board-key", "", "`file` of the board key's public half, PEM")
	f.Var((*list)(&p.Configurations), "configuration", "SHA-256 of an accepted configuration, `hexadecimal`; without one any is; may be repeated")
	f.UintVar(&p.SecurityVersion, "security-version", 0, "least `version` of the controller")
	f.BoolVar(&p.AcceptDevelopment, "accept-development", false, "accept boards that take development keys")
	f.BoolVar(&p.AcceptOpenLifeCycle, "accept-open-life-cycle", false, "accept chips whose boot ROM verifies nothing (life cycle open)")
	f.BoolVar(&p.AcceptWeakSecret, "accept-weak-secret", false, "accept SoC secrets that are none, or the same on every chip")
	policies := map[string]bool{}
	f.VisitAll(func(f *flag.Flag) { policies[f.Name] = !own[f.Name] })
	return func(otherwise string) (*verify.Policy, error) {
		given := ""
		f.Visit(func(f *flag.Flag) {
			if policies[f.Name] {
				given = f.Name
			}
		})
		switch {
		case *file != "" && given != "":
			return nil, usage("-policy and -%s: the policy is in the file, or in flags", given)
		case *file != "":
			return readPolicyFile(*file)
		case given == "" && otherwise != "":
			return readPolicyFile(otherwise)
		}
		return p.policy("")
	}
}

// readPolicyFile reads a policy and what it names.
func readPolicyFile(path string) (*verify.Policy, error) {
	text, err := readFile(path, int64(policyLimit.Size))
	if err != nil {
		return nil, err
	}
	p, err := readPolicy(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p.policy(filepath.Dir(path))
}

// readPolicy reads a policy file strictly: a name that is not known would be a wish that
// nobody heeds.
func readPolicy(text []byte) (*policyFile, error) {
	p := new(policyFile)
	if err := ijson.Decode(text, policyLimit, p); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if p.Format != 1 {
		return nil, fmt.Errorf("policy of format %d: this tool knows 1", p.Format)
	}
	return p, nil
}

// policy reads what a policy names.
func (p *policyFile) policy(dir string) (*verify.Policy, error) {
	if p.SecurityVersion > image.MaxSecurityVersion {
		return nil, usage("security version %d: it can be 0 to %d", p.SecurityVersion, image.MaxSecurityVersion)
	}
	if (p.BoardPart == "") != (p.BoardKey == "") {
		return nil, usage("board part and board key belong together")
	}
	v := &verify.Policy{SecurityVersion: uint32(p.SecurityVersion), Development: p.AcceptDevelopment, OpenLifeCycle: p.AcceptOpenLifeCycle, WeakSecret: p.AcceptWeakSecret}
	at := func(path string) string {
		if path == "" || filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(dir, path)
	}
	for _, r := range p.Releases {
		release, err := readRelease(at(r), at(p.Anchors))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", r, err)
		}
		v.Releases = append(v.Releases, release.Golden)
	}
	if err := p.numbers(v); err != nil {
		return nil, err
	}
	if p.BoardPart != "" {
		var err error
		if v.Board, err = readBoard(at(p.BoardPart), at(p.BoardKey)); err != nil {
			return nil, err
		}
	}
	for _, path := range p.Issuers {
		if v.Issuers == nil {
			v.Issuers = x509.NewCertPool()
		}
		all, err := readCertificates(at(path))
		if err != nil {
			return nil, err
		}
		for _, c := range all {
			v.Issuers.AddCert(c)
		}
	}
	if len(p.Makers) > 0 {
		var paths list
		for _, path := range p.Makers {
			paths = append(paths, at(path))
		}
		m, err := readMakers(paths)
		if err != nil {
			return nil, err
		}
		v.Makers = m.roots
	}
	return v, nil
}

// numbers reads names of keys, and configurations.
func (p *policyFile) numbers(v *verify.Policy) error {
	for _, s := range p.AKNames {
		name, err := hex.DecodeString(s)
		if err != nil || len(name) != evidence.NameSize {
			return usage("%q is no TPM name of an attestation key: it has %d bytes, in hexadecimal", s, evidence.NameSize)
		}
		v.Names = append(v.Names, name)
	}
	for _, s := range p.Configurations {
		d, err := digestFlag("configuration", s)
		if err != nil || d == nil {
			return usage("%q is no SHA-256 of a configuration", s)
		}
		v.Configurations = append(v.Configurations, *d)
	}
	return nil
}
