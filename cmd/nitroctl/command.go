package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"nitro/boot/code"
)

// Exit codes (docs/nitroctl.md, "Exit codes").
const (
	exitOK      = 0
	exitRefused = 1 // a check failed, or what was asked is refused
	exitUsage   = 2
	exitIO      = 3 // a file, device or board cannot be read or written, or a file is there already
)

// A group is commands of one subject: "card".
type group struct {
	name, summary string
	commands      []*command
}

// A command is one that runs: "card build".
type command struct {
	name    string // "" in a group that is a command of one word
	summary string // a line
	args    string // what follows the flags: "FILE", "" for nothing
	about   string // what the help says beside flags
	example string // one that works

	// setup says the command's flags, and gives what runs it once they are read.
	setup func(f *flag.FlagSet) func(c *call) (result, error)
}

// A result is what a command has to tell: it is encoded as JSON, or printed.
type result interface{ print(w io.Writer) }

// A call is one run of a command.
type call struct {
	args []string // behind the flags
	bar  func(done, total int64)
	say  func(format string, args ...any) // a line on the way, for people alone
	line func(text string)                // a line of what has no end, before the result
}

// A usageError says that the command line is wrong.
type usageError struct{ text string }

func (e usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return usageError{fmt.Sprintf(format, args...)} }

// run runs the program and gives its exit code.
func run(args []string, s streams) int {
	if len(args) == 0 || args[0] == "help" || args[0] == "-h" || args[0] == "-help" || args[0] == "--help" {
		return help(args, s)
	}
	if args[0] == "completion" {
		return completion(args[1:], s)
	}
	g := find(args[0])
	if g == nil {
		return misuse(s, "nitroctl", fmt.Sprintf("there is no command %q", args[0]))
	}
	if c := g.find(""); c != nil {
		return c.run(g, args[1:], s)
	}
	if len(args) == 1 || strings.HasPrefix(args[1], "-") {
		if len(args) == 1 {
			return misuse(s, "nitroctl "+g.name, "say which: "+strings.Join(g.names(), ", "))
		}
		return help([]string{"help", g.name}, s)
	}
	c := g.find(args[1])
	if c == nil {
		return misuse(s, "nitroctl "+g.name, fmt.Sprintf("there is no command %q", args[1]))
	}
	return c.run(g, args[2:], s)
}

func misuse(s streams, who, text string) int {
	fmt.Fprintf(s.err, "%s: %s\nnext: %s\n", who, text, "nitroctl help"+strings.TrimPrefix(who, "nitroctl"))
	return exitUsage
}

func find(name string) *group {
	i := slices.IndexFunc(groups, func(g *group) bool { return g.name == name })
	if i < 0 {
		return nil
	}
	return groups[i]
}

func (g *group) find(name string) *command {
	i := slices.IndexFunc(g.commands, func(c *command) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return g.commands[i]
}

func (g *group) names() (names []string) {
	for _, c := range g.commands {
		names = append(names, c.name)
	}
	return names
}

// full is how a command is called.
func (c *command) full(g *group) string { return strings.TrimSpace(g.name + " " + c.name) }

// flags makes the command's flags, with -o, which all have.
func (c *command) flags(g *group) (f *flag.FlagSet, output *string, do func(*call) (result, error)) {
	f = flag.NewFlagSet(c.full(g), flag.ContinueOnError)
	f.SetOutput(io.Discard)
	do = c.setup(f)
	output = f.String("o", "text", "`form` of the result: text or json")
	return f, output, do
}

// run reads flags and arguments, does the work, and prints.
func (c *command) run(g *group, args []string, s streams) int {
	f, output, do := c.flags(g)
	who := "nitroctl " + f.Name()
	rest, err := parse(f, args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(g, s.out)
		return exitOK
	}
	if err == nil && *output != "text" && *output != "json" {
		err = fmt.Errorf("-o %s: the result can be text or json", *output)
	}
	if err == nil && c.args == "" && len(rest) > 0 {
		err = fmt.Errorf("%q: it takes flags alone", rest[0])
	}
	if err != nil {
		return misuse(s, who, err.Error())
	}
	b := bar{w: s.err, on: s.progress, what: f.Name()}
	say := func(format string, args ...any) {
		if *output == "text" {
			fmt.Fprintf(s.err, format+"\n", args...)
		}
	}
	line := func(text string) { fmt.Fprintln(s.out, text) }
	r, err := do(&call{args: rest, bar: b.show, say: say, line: line})
	b.end()
	return report(s, f.Name(), *output == "json", r, err)
}

// parse reads flags wherever they stand, and gives what is none.
func parse(f *flag.FlagSet, args []string) (rest []string, err error) {
	for {
		if err := f.Parse(args); err != nil {
			return nil, err
		}
		if args = f.Args(); len(args) == 0 {
			return rest, nil
		}
		rest, args = append(rest, args[0]), args[1:]
	}
}

// An answer is what -o json prints (docs/nitroctl.md, "JSON").
type answer struct {
	Format  int      `json:"format"`
	Command string   `json:"command"`
	OK      bool     `json:"ok"`
	Result  result   `json:"result,omitempty"`
	Error   *problem `json:"error,omitempty"`
}

// A problem is an error.
type problem struct {
	Message string    `json:"message"`
	Code    code.Code `json:"code,omitempty"` // docs/codes.md
	Name    string    `json:"name,omitempty"`
	Next    string    `json:"next,omitempty"`
}

// An advised error knows the next step, without being one of docs/codes.md.
type advised struct {
	error
	next string
}

func (a advised) Unwrap() error { return a.error }

func explain(err error) *problem {
	p := &problem{Message: err.Error()}
	if a := (advised{}); errors.As(err, &a) {
		p.Next = a.next
	}
	if e, ok := code.Lookup(code.Of(err)); ok {
		p.Code, p.Name, p.Next = e.Code, e.Name, e.Next
	}
	return p
}

// report prints result and error, and gives the exit code.
func report(s streams, command string, asJSON bool, r result, err error) int {
	var problem *problem
	if err != nil {
		problem = explain(err)
	}
	if asJSON {
		e := json.NewEncoder(s.out)
		e.SetIndent("", "  ")
		if err := e.Encode(answer{1, command, err == nil, r, problem}); err != nil {
			fmt.Fprintf(s.err, "nitroctl %s: %v\n", command, err)
			return exitIO
		}
	} else if r != nil {
		r.print(s.out)
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(s.err, "nitroctl %s: %s\n", command, problem.Message)
	if problem.Next != "" {
		fmt.Fprintf(s.err, "next: %s\n", problem.Next)
	}
	return exitOf(err)
}

// exitOf gives the exit code of an error.
func exitOf(err error) int {
	var u usageError
	var path *fs.PathError
	var away *unreachableError
	switch {
	case errors.As(err, &u):
		return exitUsage
	case errors.As(err, &away), errors.As(err, &path), errors.Is(err, fs.ErrExist), errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return exitIO
	}
	return exitRefused
}

// A bar shows on a terminal how far long work is.
type bar struct {
	w     io.Writer
	on    bool
	what  string
	shown int64 // percent, and 1
}

// barWidth is in characters.
const barWidth = 30

func (b *bar) show(done, total int64) {
	if !b.on || total <= 0 {
		return
	}
	percent := done * 100 / total
	if percent+1 == b.shown {
		return
	}
	b.shown = percent + 1
	n := int(percent * barWidth / 100)
	fmt.Fprintf(b.w, "\r%s [%s%s] %3d%%", b.what, strings.Repeat("#", n), strings.Repeat(".", barWidth-n), percent)
}

// end clears the line.
func (b *bar) end() {
	if b.shown > 0 {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
