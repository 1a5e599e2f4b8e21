package policy

import (
	"bytes"
	"crypto/sha256"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
	"github.com/cedar-policy/cedar-go/x/exp/schema/validate"

	"nitro/attest/ijson"
	"nitro/boot/image"
	"nitro/boot/medium"
)

// Format is the version of the payload.
const Format = 1

// Limits of a payload. Every policy is evaluated for every request, so their number is
// what a request costs.
const (
	MaxPayload  = 128 << 10 // bytes, of the 504 KiB that an image of component 8 may have
	MaxText     = 64 << 10  // bytes of policies
	MaxPolicies = 128
	MaxNesting  = 32 // brackets within each other in the policies' text
	MaxIssuers  = 32
)

// Schema is the schema of actions and resource types, in Cedar's JSON form.
//
//go:embed schema.json
var Schema []byte

// Default is the text of the policies of docs/policy.md's table, for boards in
// development and as what an owner's own begin with.
//
//go:embed default.cedar
var Default string

// inQuarantine is the text of the only policies of quarantine.
//
//go:embed quarantine.cedar
var inQuarantine string

// A Payload is a policy set as it is signed.
type Payload struct {
	Epoch       uint64
	Product     string
	Development bool
	Issuers     []Issuer
	Policies    string // Cedar, each policy with an @id of its own
}

// wire is the payload's JSON.
type wire struct {
	Format      int          `json:"format"`
	Epoch       uint64       `json:"epoch"`
	Product     string       `json:"product"`
	Development bool         `json:"development"`
	Issuers     []wireIssuer `json:"issuers"`
	Policies    string       `json:"policies"`
}

type wireIssuer struct {
	Owner string `json:"owner"`
	CA    string `json:"ca"`
	Roles []Role `json:"roles"`
}

// A Want is what the board will accept.
type Want struct {
	Product     string
	Development bool
	Authorities []image.Authority // the anchor block's
	// Epoch is the highest one that the board has had: an older set is refused.
	Epoch uint64
	// Board is the board's unique identity: policies can name it.
	Board string
}

// Read reads a signed policy set: header, then payload. It is parsed when both signatures
// and the digest have been verified.
func Read(r io.Reader, w Want) (*Set, error) {
	i, err := image.Open(r, image.Want{Where: "policy set", Component: image.PolicySet, Product: w.Product,
		Development: w.Development, Authorities: w.Authorities})
	if err != nil {
		return nil, err
	}
	if i.Length > MaxPayload {
		return nil, fmt.Errorf("policy: a payload of %d bytes: at most %d", i.Length, MaxPayload)
	}
	payload := make([]byte, i.Length)
	if err := i.Load(payload); err != nil {
		return nil, err
	}
	p, err := Decode(payload)
	switch {
	case err != nil:
		return nil, err
	case p.Product != i.Product || p.Development != i.Development:
		return nil, fmt.Errorf("policy: product %q, development %v; the header says %q, %v: sign it again",
			p.Product, p.Development, i.Product, i.Development)
	case p.Epoch < w.Epoch:
		return nil, fmt.Errorf("policy: epoch %d: the board has had %d: sign a newer set", p.Epoch, w.Epoch)
	}
	s, err := Compile(p, w.Board)
	if err != nil {
		return nil, err
	}
	s.Digest = i.Digest
	return s, nil
}

// ErrNone: a card has no policy set.
var ErrNone = errors.New("policy: the card has no policy set: write one (nitroctl policy sign, nitroctl card build -policy)")

// Load reads the set of a card that counts: of the copies that are valid the one of the
// higher epoch, of equal ones the first. Each copy is read as far as its own length. The
// error says what is wrong with each copy where none is valid; it is ErrNone where nothing
// was ever written.
func Load(d medium.Device, w Want) (*Set, error) {
	var best *Set
	var problems []error
	blank := true
	for n, place := range medium.PolicySets {
		r, err := medium.NewReader(d, place)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		s, err := Read(r, w)
		if err != nil {
			problems = append(problems, fmt.Errorf("copy %d of %d: %w", n+1, medium.Copies, err))
			blank = blank && empty(d, place)
			continue
		}
		if blank = false; best == nil || s.Epoch > best.Epoch {
			best = s
		}
	}
	switch {
	case blank:
		return nil, ErrNone
	case best == nil:
		return nil, errors.Join(problems...)
	}
	return best, nil
}

// empty tells whether nothing was ever written to a place.
func empty(d medium.Device, p medium.Place) bool {
	head := make([]byte, image.HeaderSize)
	return medium.ReadPlace(d, p, head) == nil && bytes.Equal(head, make([]byte, len(head)))
}

// Save writes both copies of a signed set, which must be one that Load would give: valid,
// and newer than what is there, or the same.
func Save(d medium.Device, b []byte, w Want) error {
	return medium.Pair(medium.PolicySets).Write(d, b, func(b []byte) (uint64, error) {
		s, err := Read(bytes.NewReader(b), w)
		if err != nil {
			return 0, err
		}
		return s.Epoch, nil
	})
}

// Sign makes the image of a policy set, which a board would accept. Its version is its
// epoch.
func Sign(p *Payload, built uint64, s image.Signer) ([]byte, error) {
	payload, err := p.Encode()
	if err != nil {
		return nil, err
	}
	header, err := image.Sign(image.Header{Component: image.PolicySet, Development: p.Development,
		Version: fmt.Sprint(p.Epoch), Product: p.Product, Built: built}, payload, s)
	if err != nil {
		return nil, err
	}
	return append(header[:], payload...), nil
}

// Encode makes the payload. It is decoded and compiled again, so nothing comes out that a
// board would refuse.
func (p *Payload) Encode() ([]byte, error) {
	w := wire{Format: Format, Epoch: p.Epoch, Product: p.Product, Development: p.Development,
		Issuers: []wireIssuer{}, Policies: p.Policies}
	for _, i := range p.Issuers {
		w.Issuers = append(w.Issuers, wireIssuer{i.Owner, hex.EncodeToString(i.CA[:]), i.Roles})
	}
	b, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	again, err := Decode(b)
	if err != nil {
		return nil, err
	}
	_, err = Compile(again, "")
	return b, err
}

// Decode reads a payload whose signatures have been verified.
func Decode(payload []byte) (*Payload, error) {
	var w wire
	if err := ijson.Decode(payload, ijson.Limit{Size: MaxPayload, Depth: 4}, &w); err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	switch {
	case w.Format != Format:
		return nil, fmt.Errorf("policy: format %d: this firmware knows %d", w.Format, Format)
	case w.Epoch == 0:
		return nil, fmt.Errorf("policy: epoch 0: epochs begin at 1")
	case len(w.Issuers) == 0 || len(w.Issuers) > MaxIssuers:
		return nil, fmt.Errorf("policy: %d issuers: 1 to %d", len(w.Issuers), MaxIssuers)
	}
	p := &Payload{Epoch: w.Epoch, Product: w.Product, Development: w.Development, Policies: w.Policies}
	for n, wi := range w.Issuers {
		i, err := wi.issuer()
		if err != nil {
			return nil, fmt.Errorf("policy: issuer %d: %w", n+1, err)
		}
		p.Issuers = append(p.Issuers, i)
	}
	return p, nil
}

func (w wireIssuer) issuer() (Issuer, error) {
	i := Issuer{Owner: w.Owner, Roles: w.Roles}
	if !plain(w.Owner, MaxOwner, false) {
		return i, fmt.Errorf("owner %.100q: it has 1 to %d of a-z 0-9 . - _", w.Owner, MaxOwner)
	}
	if len(w.CA) != 2*sha256.Size || strings.ToLower(w.CA) != w.CA {
		return i, fmt.Errorf("ca: it is a SHA-256 in %d lower-case hexadecimal digits", 2*sha256.Size)
	}
	if _, err := hex.Decode(i.CA[:], []byte(w.CA)); err != nil {
		return i, fmt.Errorf("ca: %w", err)
	}
	if len(w.Roles) == 0 || len(w.Roles) > len(Roles) {
		return i, fmt.Errorf("%d roles: 1 to %d", len(w.Roles), len(Roles))
	}
	for _, r := range w.Roles {
		if !r.known() {
			return i, fmt.Errorf("role %.100q: there is none such: use one of %v", string(r), Roles)
		}
	}
	return i, nil
}

// Compile makes a set of a payload. Every policy is validated against the schema.
func Compile(p *Payload, board string) (*Set, error) {
	policies, err := compile(p.Policies)
	if err != nil {
		return nil, err
	}
	return &Set{Epoch: p.Epoch, board: board, Issuers: p.Issuers, policies: policies}, nil
}

// Quarantine is the set of a board in quarantine, or of one that has no good policy set:
// each role reads evidence and status, and nobody does anything. The CAs (SHA-256 of their
// SubjectPublicKeyInfo) are those of the last good configuration. No set says which roles
// they may give, so they may give any: all may do the same.
func Quarantine(board string, cas [][sha256.Size]byte) *Set {
	policies, err := compile(inQuarantine)
	if err != nil {
		panic(err) // of a constant; a test compiles it
	}
	s := &Set{board: board, policies: policies, anyOwner: true}
	for _, ca := range cas {
		s.Issuers = append(s.Issuers, Issuer{CA: ca, Roles: Roles})
	}
	return s
}

// compile parses policies, names each by its @id, and validates it.
func compile(text string) (*cedar.PolicySet, error) {
	if len(text) > MaxText || nesting(text) > MaxNesting {
		return nil, fmt.Errorf("policy: the policies have %d bytes and brackets %d deep: at most %d and %d",
			len(text), nesting(text), MaxText, MaxNesting)
	}
	list, err := cedar.NewPolicyListFromBytes("policies", []byte(text))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if len(list) == 0 || len(list) > MaxPolicies {
		return nil, fmt.Errorf("policy: %d policies: 1 to %d", len(list), MaxPolicies)
	}
	r, err := loadSchema()
	if err != nil {
		return nil, err
	}
	validator, set := validate.New(r), cedar.NewPolicySet()
	for _, p := range list {
		id := string(p.Annotations()["id"])
		if !plain(id, MaxName, true) {
			return nil, fmt.Errorf("policy: the one in line %d: give it a name: @id(\"...\"), 1 to %d of A-Z a-z 0-9 . - _", p.Position().Line, MaxName)
		}
		tree := (*ast.Policy)(p.AST())
		if err := errors.Join(names(tree, r), validator.Policy(id, tree)); err != nil {
			return nil, fmt.Errorf("policy: %s, line %d: %w", id, p.Position().Line, err)
		}
		if !set.Add(cedar.PolicyID(id), p) {
			return nil, fmt.Errorf("policy: %s, line %d: there are two of that name", id, p.Position().Line)
		}
	}
	return set, nil
}

// nesting is how deep brackets lie within each other: the parser calls itself for each
// one. Strings and comments are passed over as Cedar's lexer does.
func nesting(text string) (deepest int) {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case '/':
			if strings.HasPrefix(text[i:], "//") {
				for i < len(text) && text[i] != '\n' {
					i++
				}
			}
		case '(', '[', '{':
			depth++
			deepest = max(deepest, depth)
		case ')', ']', '}':
			depth--
		}
	}
	return deepest
}

// loadSchema resolves the schema, once.
var loadSchema = sync.OnceValues(func() (*resolved.Schema, error) {
	var s schema.Schema
	if err := s.UnmarshalJSON(Schema); err != nil {
		return nil, fmt.Errorf("policy: schema: %w", err)
	}
	return s.Resolve()
})
