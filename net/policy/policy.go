// Package policy decides who may do what: docs/policy.md. The language is Cedar
// (docs.cedarpolicy.com, language version 4), evaluated by cedar-go; the principal comes
// from the client's certificate; the policies come as a signed image of component 8
// (docs/medium.md) from the owner of the configuration.
//
// # What it answers
//
// An operator with good credentials and bad intent can do what the policies permit and
// nothing else: what none permits is denied, and there are no other actions than those of
// the schema. A stolen CA key makes principals only of the roles that the set allows that
// CA. An older set, properly signed, is refused by its epoch. A policy with a misspelt
// action or attribute would never apply, and if it was to forbid something nobody would
// notice: such a set is refused as a whole. A policy that fails while it is evaluated,
// which Cedar leaves out, denies here: what it would have forbidden is not known.
//
// # What is left out
//
// Cedar's templates, and entities from outside: the entities of a request are its
// principal, role, resource and board, no more. Revocation of certificates is TLS's
// business.
package policy

import (
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/cedar-policy/cedar-go"
)

// Limits of a request.
const (
	MaxResourceID = 256 // bytes
	MaxReset      = 32  // bytes
)

// namespace is that of the schema.
const namespace = "Nitro::"

// A Resource is what a request is about.
type Resource struct {
	Type ResourceType
	ID   string // its path, or another name that is unique within the type
}

// A Mode is what the board can do at the moment.
type Mode struct {
	Quarantined bool
	ClockKnown  bool
}

// A Request is one that has been authenticated.
type Request struct {
	Principal Principal
	Action    Action
	Resource  Resource
	Reset     string // Redfish's ResetType, of the actions that have one; else empty
	Mode      Mode
}

// Safe reports whether the request goes in the safe direction: hold, detach, zero. Such
// a request runs even where it cannot be recorded. To erase a volume is not of that kind:
// it takes data away for good, so who fills the log first must not be able to do it
// unrecorded.
func (r Request) Safe() bool {
	return r.Action == ResetHost && r.Reset == "ForceOff" || r.Action == DetachVolume
}

// Relief reports whether the request is one without which a full audit log would stay
// full. It hides nothing: package audit.
func (r Request) Relief() bool {
	switch r.Action {
	case ReadLog, ReadRing, ReadMetrics, WitnessLog, ClearLog:
		return true
	}
	return false
}

// A Decision is the answer to a request. The zero Decision denies.
type Decision struct {
	Allowed bool
	// Rule is what the firmware itself refuses, whatever the policies say; else empty.
	Rule string
	// Policies are the names of those that allowed, or of those that forbade; sorted.
	Policies []string
	// Errors are policies that could not be evaluated, with the reason; each denies.
	Errors []string
}

// String says why, for people.
func (d Decision) String() string {
	switch {
	case d.Rule != "":
		return "denied: " + d.Rule
	case len(d.Errors) > 0:
		return "denied: a policy cannot be evaluated: " + strings.Join(d.Errors, "; ")
	case d.Allowed:
		return "allowed by " + strings.Join(d.Policies, ", ")
	case len(d.Policies) > 0:
		return "denied: forbidden by " + strings.Join(d.Policies, ", ")
	}
	return "denied: no policy permits it"
}

// A Set is a set of policies in force on a board. It does not change, so any number of
// goroutines may use it.
type Set struct {
	// Epoch counts up with each set of the owner; 0 is the set of quarantine.
	Epoch uint64
	// Digest is that of the signed payload, which is measured; zero for sets that came
	// from no image.
	Digest [32]byte

	// Issuers are the CAs that may make principals.
	Issuers []Issuer

	board    string
	policies *cedar.PolicySet
	anyOwner bool // quarantine's set: no trust domain is known
}

// Decide answers a request.
func (s *Set) Decide(r Request) Decision {
	if rule := s.rule(r); rule != "" {
		return Decision{Rule: rule}
	}
	decision, diagnostic := cedar.Authorize(s.policies, s.entities(r), s.request(r))
	d := Decision{Allowed: decision == cedar.Allow}
	for _, reason := range diagnostic.Reasons {
		d.Policies = append(d.Policies, string(reason.PolicyID))
	}
	for _, e := range diagnostic.Errors {
		d.Errors = append(d.Errors, string(e.PolicyID)+": "+e.Message)
	}
	sort.Strings(d.Policies)
	sort.Strings(d.Errors)
	d.Allowed = d.Allowed && len(d.Errors) == 0
	return d
}

// rule gives what the firmware refuses before any policy is asked.
func (s *Set) rule(r Request) string {
	i := slices.IndexFunc(actions, func(a action) bool { return a.Name == r.Action })
	switch {
	case s == nil || s.policies == nil:
		return "there is no policy set: give the board one"
	case i < 0:
		return "there is no such action"
	case actions[i].On != r.Resource.Type:
		return fmt.Sprintf("%s is for a %s, not for a %s", r.Action, actions[i].On, r.Resource.Type)
	case r.Principal.Role == "":
		return "the principal has no role"
	case len(r.Resource.ID) > MaxResourceID || len(r.Reset) > MaxReset:
		return "the name of the resource or of the reset is too long"
	case r.Mode.Quarantined && !actions[i].Quarantine:
		return "the board is in quarantine, where it serves evidence and status only"
	case !r.Mode.ClockKnown && !actions[i].Clock && !r.Safe():
		return "the time is not known yet: set it, or let the board reach its time servers"
	}
	return ""
}

// uid names an entity of the schema.
func uid(kind, id string) cedar.EntityUID {
	return cedar.NewEntityUID(cedar.EntityType(namespace+kind), cedar.String(id))
}

func (s *Set) request(r Request) cedar.Request {
	context := cedar.RecordMap{
		"quarantined": cedar.Boolean(r.Mode.Quarantined),
		"clockKnown":  cedar.Boolean(r.Mode.ClockKnown),
	}
	if r.Reset != "" {
		context["reset"] = cedar.String(r.Reset)
	}
	return cedar.Request{
		Principal: uid("Client", r.Principal.String()),
		Action:    uid("Action", string(r.Action)),
		Resource:  uid(string(r.Resource.Type), r.Resource.ID),
		Context:   cedar.NewRecord(context),
	}
}

// entities are all that a request's policies can see.
func (s *Set) entities(r Request) cedar.EntityMap {
	client, role := uid("Client", r.Principal.String()), uid("Role", string(r.Principal.Role))
	resource, board := uid(string(r.Resource.Type), r.Resource.ID), uid("Board", s.board)
	return cedar.EntityMap{
		client: {UID: client, Parents: cedar.NewEntityUIDSet(role), Attributes: cedar.NewRecord(cedar.RecordMap{
			"owner": cedar.String(r.Principal.Owner), "name": cedar.String(r.Principal.Name),
		})},
		role:     {UID: role},
		resource: {UID: resource, Parents: cedar.NewEntityUIDSet(board)},
		board:    {UID: board},
	}
}
