package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"text/tabwriter"

	"nitro/attest/ijson"
	"nitro/attest/verify"
)

var contextGroup = &group{"context", "boards by name, with the files that belong to them", []*command{
	{
		name:    "add",
		summary: "name a board and the client certificate for it",
		args:    "NAME",
		about: `
Keeps -board, and if they are given -pin, -cert and -key, under a name. Commands that speak to
a board then take them from -context NAME, or from the context in use (nitroctl context use)
where neither -context nor -board is given; a flag that is given wins. Of files the paths are
kept, and nothing that is in them. The first context that is added is in use.

A board has another TLS key after each start, so a pin ends with its boot: attest verify with
a context keeps in it the key that it has proved. With -policy, which is what attest verify
-policy takes, all commands do that by themselves whenever the board shows a key that is not
the kept one, and go on only if the evidence is accepted.
`,
		example: "nitroctl context add -board 192.0.2.10 -cert ada.pem -key ada.key -policy policy.json rack-3",
		setup:   contextAdd,
	},
	{
		name:    "use",
		summary: "say which context counts without -context",
		args:    "NAME",
		about: `
Has the commands that speak to a board take what no flag gives from this context.
`,
		example: "nitroctl context use rack-3",
		setup: contextChange(func(c *contexts, name string) error {
			if c.find(name) == nil {
				return c.unknown(name)
			}
			c.Current = name
			return nil
		}),
	},
	{
		name:    "list",
		summary: "list the contexts",
		about: `
Shows each context, and marks the one in use.
`,
		example: "nitroctl context list -o json",
		setup: func(*flag.FlagSet) func(*call) (result, error) {
			return func(*call) (result, error) {
				c, err := readContexts()
				if err != nil {
					return nil, err
				}
				return c, nil
			}
		},
	},
	{
		name:    "remove",
		summary: "forget a context",
		args:    "NAME",
		about: `
Forgets a context. The files that it names stay.
`,
		example: "nitroctl context remove rack-3",
		setup: contextChange(func(c *contexts, name string) error {
			if c.find(name) == nil {
				return c.unknown(name)
			}
			c.All = slices.DeleteFunc(c.All, func(b boardContext) bool { return b.Name == name })
			if c.Current == name {
				c.Current = ""
			}
			return nil
		}),
	},
}}

// Bounds of the file of contexts (docs/nitroctl.md, "Contexts").
const (
	contextsFormat = 1
	maxContexts    = 256
	maxContextFile = 64 << 10
)

// contextName is what a context may be called.
var contextName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)

// contexts is the file of contexts.
type contexts struct {
	Format  int            `json:"format"`
	Current string         `json:"current"` // in use; "" is none
	All     []boardContext `json:"contexts"`
}

// A boardContext is a board by a name. Files are absolute paths.
type boardContext struct {
	Name  string `json:"name"`
	Board string `json:"board"`
	Pin   string `json:"pin,omitempty"` // of the boot that was proved last
	Cert  string `json:"cert,omitempty"`
	Key   string `json:"key,omitempty"`
	// Policy is a file as attest verify -policy takes it: with it the board is proved anew by
	// itself when it shows another key than the pinned one.
	Policy string `json:"policy,omitempty"`
}

func (c *contexts) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, b := range c.All {
		mark := " "
		if b.Name == c.Current {
			mark = "*"
		}
		fmt.Fprintf(t, "%s %s\t%s\t%s\n", mark, b.Name, b.Board, b.Cert)
	}
	t.Flush()
}

func (c *contexts) find(name string) *boardContext {
	i := slices.IndexFunc(c.All, func(b boardContext) bool { return b.Name == name })
	if i < 0 {
		return nil
	}
	return &c.All[i]
}

func (c *contexts) unknown(name string) error {
	return usage("there is no context %q: nitroctl context list shows those that are there", name)
}

// contextsPath is the file's.
func contextsPath() (string, error) {
	folder, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("contexts: %w", err)
	}
	return filepath.Join(folder, "nitroctl", "contexts.json"), nil
}

// readContexts reads the file; where there is none there are no contexts.
func readContexts() (*contexts, error) {
	path, err := contextsPath()
	if err != nil {
		return nil, err
	}
	c := &contexts{Format: contextsFormat, All: []boardContext{}}
	text, err := readFile(path, maxContextFile)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return nil, err
	}
	if err := ijson.Decode(text, ijson.Limit{Size: maxContextFile, Depth: 3}, c); err != nil {
		return nil, fmt.Errorf("%s: %w: mend or remove it", path, err)
	}
	if c.Format != contextsFormat || len(c.All) > maxContexts {
		return nil, fmt.Errorf("%s: format %d, %d contexts: this nitroctl knows format %d, and at most %d", path, c.Format, len(c.All), contextsFormat, maxContexts)
	}
	return c, nil
}

// write replaces the file.
func (c *contexts) write() error {
	path, err := contextsPath()
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if len(c.All) > maxContexts || len(text) >= maxContextFile {
		return fmt.Errorf("%d contexts, %d bytes: at most %d and %d: remove one", len(c.All), len(text), maxContexts, maxContextFile)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return replaceFile(path, append(text, '\n'), 0o600)
}

// contextChange makes a command that changes the contexts by the name of one.
func contextChange(change func(c *contexts, name string) error) func(*flag.FlagSet) func(*call) (result, error) {
	return func(*flag.FlagSet) func(*call) (result, error) {
		return func(a *call) (result, error) { return changeContexts(a, change) }
	}
}

func changeContexts(a *call, change func(c *contexts, name string) error) (result, error) {
	if len(a.args) != 1 || !contextName.MatchString(a.args[0]) {
		return nil, usage("give one name: 1 to 64 of a-z, 0-9, dot and hyphen, a letter or digit first")
	}
	c, err := readContexts()
	if err != nil {
		return nil, err
	}
	if err := change(c, a.args[0]); err != nil {
		return nil, err
	}
	if err := c.write(); err != nil {
		return nil, err
	}
	return c, nil
}

func contextAdd(f *flag.FlagSet) func(*call) (result, error) {
	board := f.String("board", "", "`address` of the board: host, or host:port")
	pin := f.String("pin", "", pinUsage)
	cert := f.String("cert", "", "`file` of the client's certificate, PEM")
	key := f.String("key", "", "`file` of its private key, PEM")
	policy := f.String("policy", "", "`file` of the policy that the board's evidence is held to, JSON (docs/nitroctl.md, \"Policy\")")
	return func(a *call) (result, error) {
		if err := need(map[string]string{"board": *board}); err != nil {
			return nil, err
		}
		if _, err := digestFlag("pin", *pin); err != nil {
			return nil, err
		}
		b := boardContext{Board: *board, Pin: *pin}
		var err error
		if b.Cert, err = absolute(*cert); err != nil {
			return nil, err
		}
		if b.Key, err = absolute(*key); err != nil {
			return nil, err
		}
		if *policy != "" {
			if _, err := standingPolicy(*policy); err != nil {
				return nil, err
			}
		}
		if b.Policy, err = absolute(*policy); err != nil {
			return nil, err
		}
		return changeContexts(a, func(c *contexts, name string) error {
			if c.find(name) != nil {
				return fmt.Errorf("nothing is overwritten: nitroctl context remove %s: %w", name, fs.ErrExist)
			}
			if b.Name = name; len(c.All) == 0 {
				c.Current = name
			}
			c.All = append(c.All, b)
			return nil
		})
	}
}

// absolute makes a file's path one that holds in every folder; "" stays.
func absolute(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	if _, err := os.Stat(path); err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// contextFlag is the flag of a context. What it gives is the context to take from what no
// flag has given: an empty one where a board is given and no context, or none is in use.
func contextFlag(f *flag.FlagSet) func(board string) (boardContext, error) {
	name := f.String("context", "", "`name` of the context that has what no flag gives; without it and -board the one in use")
	return func(board string) (boardContext, error) {
		if *name == "" && board != "" {
			return boardContext{}, nil
		}
		c, err := readContexts()
		if err != nil {
			return boardContext{}, err
		}
		if *name == "" {
			*name = c.Current
		}
		if *name == "" {
			return boardContext{}, nil
		}
		b := c.find(*name)
		if b == nil {
			return boardContext{}, c.unknown(*name)
		}
		return *b, nil
	}
}

// namesBoard tells whether flags name a board, itself or by a context.
func namesBoard(f *flag.FlagSet) bool {
	return f.Lookup("board").Value.String() != "" || f.Lookup("context").Value.String() != ""
}

// keepPin keeps the TLS key that a board has proved in its context.
func (b *boardContext) keepPin(pin string) error {
	c, err := readContexts()
	if err != nil {
		return err
	}
	kept := c.find(b.Name)
	if kept == nil {
		return c.unknown(b.Name)
	}
	kept.Pin = pin
	return c.write()
}

// standingPolicy reads a policy file, and asks for evidence with a new nonce by it.
func standingPolicy(path string) (*verify.Policy, error) {
	p, err := readPolicyFile(path)
	if err != nil {
		return nil, err
	}
	if p.Nonce, err = nonceFlag(""); err != nil {
		return nil, err
	}
	if err := p.Check(); err != nil {
		return nil, usage("%s: %v", path, err)
	}
	return p, nil
}

// ofContext tells whether the board that is spoken to is the context's.
func (r *remote) ofContext() bool {
	return r.context.Name != "" && r.address == withPort(r.context.Board, httpsPort)
}

// proves tells whether the board may prove itself anew: its context has a policy, and nobody
// has said by a flag which key it must have.
func (r *remote) proves() bool { return r.ofContext() && r.context.Policy != "" && !r.pinGiven }

// prove has the board prove itself by the context's policy, and pins the key that it shows.
func (r *remote) prove() error {
	p, err := standingPolicy(r.context.Policy)
	if err != nil {
		return err
	}
	asked := &remote{address: r.address, limit: r.limit, ctx: r.ctx, context: r.context, pinGiven: true}
	v, err := verifyBoard(asked, p, "")
	if err == nil {
		r.pin, err = digestFlag("pin", v.Connection.TLSKey)
	}
	if errors.Is(err, verify.ErrRefused) {
		return advised{fmt.Errorf("the board at %s shows another key than the one that context %s has proved last, and by %s %w", r.address, r.context.Name, r.context.Policy, err),
			fmt.Sprintf("nitroctl attest verify -context %s shows each check; nitroctl status -board %s asks how the board stands, without proof.", r.context.Name, r.address)}
	}
	return err
}
