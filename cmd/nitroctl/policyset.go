package main

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"nitro/boot/image"
	"nitro/boot/release"
	"nitro/net/policy"
)

var policyGroup = &group{"policy", "policy sets: who may do what", []*command{
	{
		name:    "sign",
		summary: "sign a policy set",
		about: `
Signs a policy set by the configuration authority. Each -issuer names a trust domain, the
roles that a CA may give there, and the file of the CA's certificate; the CA must be one of
the configuration's operators, too. The policies are Cedar (docs/policy.md), or without
-policies those of the documentation's table; each is validated against the schema. A board
takes only what has no lower epoch than it has had.
`,
		example: "nitroctl policy sign -keys keys -product imx6ul-evk -epoch 1 -issuer owner.example:operator,auditor:operators.pem -built 1767225600 -out policy.img",
		setup:   policySign,
	},
	{
		name:    "show",
		summary: "show a policy set",
		args:    "FILE",
		about: `
Shows a signed policy set, verified by the anchor block.
`,
		example: "nitroctl policy show -anchors release/anchors.bin policy.img",
		setup:   policyShow,
	},
	{
		name:    "explain",
		summary: "tell why a policy set allows or denies a request",
		args:    "FILE",
		about: `
Answers a request by a policy set, as a board in service that knows the time would: which
policies allowed or forbade it, or which of the firmware's own rules refused it, and to
which roles the same request would be allowed. The actions are those of docs/policy.md.
`,
		example: "nitroctl policy explain -anchors release/anchors.bin -who spiffe://owner.example/operator/mona -action resetHost -resource /redfish/v1/Systems/host policy.img",
		setup:   policyExplain,
	},
}}

// A policyInfo is a policy set.
type policyInfo struct {
	Epoch       uint64       `json:"epoch"`
	Product     string       `json:"product"`
	Development bool         `json:"development"`
	SHA256      string       `json:"sha256"` // of the payload, as PCR 3 has it
	Issuers     []issuerInfo `json:"issuers"`
	Policies    string       `json:"policies"`
	File        string       `json:"file,omitempty"`
}

type issuerInfo struct {
	Owner string        `json:"owner"`
	CA    string        `json:"ca"` // SHA-256 of its SubjectPublicKeyInfo
	Roles []policy.Role `json:"roles"`
}

func (p policyInfo) print(w io.Writer) {
	rows := [][2]string{{"epoch", fmt.Sprint(p.Epoch)}, {"product", p.Product}, {"development", yes(p.Development)}, {"sha256", p.SHA256}}
	for _, i := range p.Issuers {
		rows = append(rows, [2]string{"issuer", fmt.Sprintf("%s %s %v", i.Owner, i.CA, i.Roles)})
	}
	table(w, append(rows, [2]string{"written to", p.File})...)
	fmt.Fprintf(w, "\n%s", p.Policies)
}

func describePolicy(b []byte) (policyInfo, error) {
	p, err := policy.Decode(b[image.HeaderSize:])
	if err != nil {
		return policyInfo{}, err
	}
	i := policyInfo{Epoch: p.Epoch, Product: p.Product, Development: p.Development, SHA256: hexOf(sha256.Sum256(b[image.HeaderSize:])), Policies: p.Policies}
	for _, s := range p.Issuers {
		i.Issuers = append(i.Issuers, issuerInfo{s.Owner, hexOf(s.CA), s.Roles})
	}
	return i, nil
}

func policySign(f *flag.FlagSet) func(*call) (result, error) {
	keys, built := keysFlag(f), builtFlag(f)
	product := f.String("product", "", "`product` that it is for: imx6ul-evk, imx6ul-armory")
	epoch := f.Uint64("epoch", 0, "`epoch`: 1 or more, higher than that of any earlier set")
	var issuers list
	f.Var(&issuers, "issuer", "`OWNER:ROLE,ROLE:FILE`: the roles that a CA, a certificate in PEM, may give in a trust domain; may be repeated")
	policies := f.String("policies", "", "`file` of the policies in Cedar; without it the default ones")
	out := f.String("out", "", "`file` to write the signed set to")
	return func(*call) (result, error) {
		if err := need(map[string]string{"out": *out, "product": *product}); err != nil {
			return nil, err
		}
		if *epoch == 0 || len(issuers) == 0 {
			return nil, usage("-epoch or -issuer is missing")
		}
		time, err := built()
		if err != nil {
			return nil, err
		}
		k, err := keys.load()
		if err != nil {
			return nil, err
		}
		p := &policy.Payload{Epoch: *epoch, Product: *product, Development: k.Development(), Policies: policy.Default}
		if *policies != "" {
			text, err := readFile(*policies, policy.MaxText)
			if err != nil {
				return nil, err
			}
			p.Policies = string(text)
		}
		for _, text := range issuers {
			i, err := readIssuer(text)
			if err != nil {
				return nil, err
			}
			p.Issuers = append(p.Issuers, i)
		}
		return signPolicy(k, p, time, *out)
	}
}

// readIssuer reads OWNER:ROLE,ROLE:FILE.
func readIssuer(text string) (policy.Issuer, error) {
	parts := strings.SplitN(text, ":", 3)
	if len(parts) != 3 {
		return policy.Issuer{}, usage("-issuer %q: give OWNER:ROLE,ROLE:FILE", text)
	}
	ca, err := readCertificate(parts[2])
	if err != nil {
		return policy.Issuer{}, err
	}
	i := policy.Issuer{Owner: parts[0], CA: sha256.Sum256(ca.RawSubjectPublicKeyInfo)}
	for role := range strings.SplitSeq(parts[1], ",") {
		i.Roles = append(i.Roles, policy.Role(role))
	}
	return i, nil
}

func signPolicy(k *release.Keys, p *policy.Payload, built uint64, out string) (result, error) {
	s, err := k.ImageSigner(image.Configure)
	if err != nil {
		return nil, err
	}
	b, err := policy.Sign(p, built, s)
	if err != nil {
		return nil, err
	}
	if err := writeNew(out, b); err != nil {
		return nil, err
	}
	info, err := describePolicy(b)
	info.File = out
	return info, err
}

// openPolicy reads a set in a file, verified by an anchor block.
func openPolicy(c *call, anchors string) (*policy.Set, []byte, error) {
	path, err := c.one("policy set")
	if err != nil {
		return nil, nil, err
	}
	a, err := readAnchors(anchors)
	if err != nil {
		return nil, nil, err
	}
	if a == nil {
		return nil, nil, usage("give -anchors to verify it with")
	}
	b, err := readFile(path, image.HeaderSize+policy.MaxPayload)
	if err != nil {
		return nil, nil, err
	}
	if len(b) < image.HeaderSize {
		return nil, nil, errors.New("the file is too short for a policy set")
	}
	h, err := image.Parse((*[image.HeaderSize]byte)(b))
	if err != nil {
		return nil, nil, err
	}
	s, err := policy.Read(bytes.NewReader(b), policy.Want{Product: h.Product, Development: a.Development, Authorities: a.Authorities})
	return s, b, err
}

func policyShow(f *flag.FlagSet) func(*call) (result, error) {
	anchors := f.String("anchors", "", anchorsUsage)
	return func(c *call) (result, error) {
		_, b, err := openPolicy(c, *anchors)
		if err != nil {
			return nil, err
		}
		return describePolicy(b)
	}
}

// An explanationInfo is why a request is answered as it is.
type explanationInfo struct {
	Allowed bool          `json:"allowed"`
	Why     string        `json:"why"`
	Roles   []policy.Role `json:"roles"` // to which it would be allowed
	text    string
}

func (e explanationInfo) print(w io.Writer) { io.WriteString(w, e.text) }

func policyExplain(f *flag.FlagSet) func(*call) (result, error) {
	anchors := f.String("anchors", "", anchorsUsage)
	who := f.String("who", "", "`URI` of the principal: spiffe://OWNER/ROLE/NAME")
	action := f.String("action", "", "`action`, as docs/policy.md lists them")
	resource := f.String("resource", "", "`path` of the resource")
	reset := f.String("reset", "", "Redfish's `ResetType`, of a reset")
	return func(c *call) (result, error) {
		if err := need(map[string]string{"who": *who, "action": *action}); err != nil {
			return nil, err
		}
		p, err := policy.ParsePrincipal(*who)
		if err != nil {
			return nil, usage("-who: %v", err)
		}
		on, known := policy.Actions()[policy.Action(*action)]
		if !known {
			return nil, usage("-action %q: there is no such action", *action)
		}
		s, _, err := openPolicy(c, *anchors)
		if err != nil {
			return nil, err
		}
		e := s.Explain(policy.Request{Principal: p, Action: policy.Action(*action), Resource: policy.Resource{Type: on, ID: *resource}, Reset: *reset, Mode: policy.Mode{ClockKnown: true}})
		return explanationInfo{e.Decision.Allowed, e.Decision.String(), append([]policy.Role{}, e.Allowed...), e.String()}, nil
	}
}
