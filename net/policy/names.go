package policy

import (
	"fmt"
	"strings"

	"github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"
)

// names refuses a policy that names what cannot be: a type or an action that the schema
// does not have, a role that nobody can be given, a client that no certificate can name.
// cedar-go's validator passes some of those.
func names(p *ast.Policy, s *resolved.Schema) error {
	c := namesChecker{schema: s}
	c.scope(p.Principal)
	c.scope(p.Action)
	c.scope(p.Resource)
	for _, condition := range p.Conditions {
		ast.Inspect(ast.NewNode(condition.Body), c.node)
	}
	return c.err
}

// A namesChecker keeps the first thing that it found.
type namesChecker struct {
	schema *resolved.Schema
	err    error
}

func (c *namesChecker) scope(s ast.IsScopeNode) {
	switch s := s.(type) {
	case ast.ScopeTypeEq:
		c.entity(s.Entity)
	case ast.ScopeTypeIn:
		c.entity(s.Entity)
	case ast.ScopeTypeInSet:
		for _, e := range s.Entities {
			c.entity(e)
		}
	case ast.ScopeTypeIs:
		c.kind(s.Type)
	case ast.ScopeTypeIsIn:
		c.kind(s.Type)
		c.entity(s.Entity)
	}
}

func (c *namesChecker) node(n ast.IsNode) bool {
	switch n := n.(type) {
	case ast.NodeTypeIs:
		c.kind(n.EntityType)
	case ast.NodeTypeIsIn:
		c.kind(n.EntityType)
	case ast.NodeValue:
		if e, ok := n.Value.(cedar.EntityUID); ok {
			c.entity(e)
		}
	}
	return true
}

func (c *namesChecker) refuse(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
}

func (c *namesChecker) kind(t cedar.EntityType) {
	_, entity := c.schema.Entities[t]
	_, enum := c.schema.Enums[t]
	if !entity && !enum {
		c.refuse("there is no entity type %s in the schema", t)
	}
}

func (c *namesChecker) entity(e cedar.EntityUID) {
	kind, ours := strings.CutPrefix(string(e.Type), namespace)
	switch {
	case ours && kind == "Action":
		if _, ok := c.schema.Actions[e]; !ok {
			c.refuse("there is no action %q in the schema", string(e.ID))
		}
		return
	case ours && kind == "Role" && !Role(e.ID).known():
		c.refuse("there is no role %q: use one of %v", string(e.ID), Roles)
	case ours && kind == "Client":
		if _, err := ParsePrincipal(string(e.ID)); err != nil {
			c.refuse("no client can be that: %w", err)
		}
	}
	c.kind(e.Type)
}
