package policy

import (
	"fmt"
	"strings"
)

// An Explanation says why a request is answered as it is, and to whom it would be
// allowed.
type Explanation struct {
	Request  Request
	Decision Decision
	// Allowed are the roles to which the same request would be allowed, were the
	// principal of that role.
	Allowed []Role
}

// Explain answers a request and says why. It changes nothing and records nothing.
func (s *Set) Explain(r Request) Explanation {
	e := Explanation{Request: r, Decision: s.Decide(r)}
	for _, role := range Roles {
		as := r
		as.Principal.Role = role
		if s.Decide(as).Allowed {
			e.Allowed = append(e.Allowed, role)
		}
	}
	return e
}

// String is the explanation for people: the answer, then who would be allowed.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s asks %s on %s %q: %s\n", e.Request.Principal, e.Request.Action, e.Request.Resource.Type, e.Request.Resource.ID, e.Decision)
	if len(e.Allowed) == 0 {
		b.WriteString("no role would be allowed this\n")
		return b.String()
	}
	fmt.Fprintf(&b, "allowed to the roles:")
	for _, r := range e.Allowed {
		fmt.Fprintf(&b, " %s", r)
	}
	b.WriteByte('\n')
	return b.String()
}
