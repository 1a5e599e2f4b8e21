package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// help answers "help", "help GROUP" and "help GROUP COMMAND".
func help(args []string, s streams) int {
	names := args
	if len(args) > 0 {
		names = args[1:]
	}
	if len(names) == 0 {
		overview(s.out)
		return exitOK
	}
	g := find(names[0])
	switch {
	case names[0] == "completion":
		fmt.Fprint(s.out, completionHelp)
		return exitOK
	case g == nil:
		return misuse(s, "nitroctl", fmt.Sprintf("there is no command %q", names[0]))
	case g.find("") != nil:
		g.find("").help(g, s.out)
		return exitOK
	case len(names) == 1:
		g.help(s.out)
		return exitOK
	}
	c := g.find(names[1])
	if c == nil {
		return misuse(s, "nitroctl "+g.name, fmt.Sprintf("there is no command %q", names[1]))
	}
	c.help(g, s.out)
	return exitOK
}

func overview(w io.Writer) {
	fmt.Fprint(w, `nitroctl makes keys, signs images, builds releases and cards, and says what is in each;
it provisions boards, asks them how they stand, verifies their evidence, and has them serve
encrypted volumes.

usage: nitroctl GROUP COMMAND [flags] [arguments]

`)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, g := range groups {
		for _, c := range g.commands {
			fmt.Fprintf(t, "  %s\t%s\n", c.full(g), c.summary)
		}
	}
	fmt.Fprint(t, "  help [GROUP [COMMAND]]\tthis, or more of one\n")
	fmt.Fprint(t, "  completion bash|zsh|fish\tprint what completes command lines\n")
	t.Flush()
	fmt.Fprint(w, `
exit codes: 0 done, 1 refused or a check failed, 2 wrong usage, 3 file, device or board out of reach

example, from nothing to a card that a development board boots:
  make all
  nitroctl keys new -development -out keys
  nitroctl release build -keys keys -product imx6ul-evk -version 1.0 -built 1767225600 -out release
  nitroctl config sign -keys keys -product imx6ul-evk -epoch 1 -built 1767225600 -out configuration.img
  nitroctl card build -release release -config configuration.img -out card.img
`)
}

func (g *group) help(w io.Writer) {
	fmt.Fprintf(w, "nitroctl %s: %s\n\n", g.name, g.summary)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, c := range g.commands {
		fmt.Fprintf(t, "  %s\t%s\n", c.full(g), c.summary)
	}
	t.Flush()
	example, _, _ := strings.Cut(strings.TrimSpace(g.commands[0].example), "\n")
	fmt.Fprintf(w, "\nexample:\n  %s\n\nmore: nitroctl help %s COMMAND\n", example, g.name)
}

func (c *command) help(g *group, w io.Writer) {
	fmt.Fprintf(w, "nitroctl %s: %s\n\nusage: nitroctl %s [flags]", c.full(g), c.summary, c.full(g))
	if c.args != "" {
		fmt.Fprintf(w, " %s", c.args)
	}
	fmt.Fprintf(w, "\n\n%s\nflags:\n", strings.TrimLeft(c.about, "\n"))
	f, _, _ := c.flags(g)
	f.VisitAll(func(f *flag.Flag) {
		kind, text := flag.UnquoteUsage(f)
		line := "  -" + f.Name
		if kind != "" {
			line += " " + kind
		}
		fmt.Fprintf(w, "%s\n        %s", line, text)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" {
			fmt.Fprintf(w, " (default %s)", f.DefValue)
		}
		fmt.Fprintln(w)
	})
	fmt.Fprintf(w, "\nexample:\n  %s\n", strings.ReplaceAll(strings.TrimSpace(c.example), "\n", "\n  "))
}

// anyWord matches what follows a command of one word.
func anyWord(c *command) string {
	if c.name == "" {
		return "*"
	}
	return ""
}

const completionHelp = `nitroctl completion: print what completes command lines

usage: nitroctl completion bash|zsh|fish

Prints a script that completes groups, commands and flags; fish also shows what each is for.

example:
  nitroctl completion fish > ~/.config/fish/completions/nitroctl.fish
  source <(nitroctl completion bash)
`

// completion prints a script that completes groups, commands and flags. One function does
// for bash and zsh: zsh reads bash's by bashcompinit.
func completion(args []string, s streams) int {
	if len(args) != 1 {
		args = []string{""}
	}
	switch args[0] {
	case "bash":
	case "zsh":
		fmt.Fprint(s.out, "autoload -U +X bashcompinit && bashcompinit\n")
	case "fish":
		fishCompletion(s.out)
		return exitOK
	default:
		return misuse(s, "nitroctl", "completion is for bash, zsh or fish")
	}
	fmt.Fprint(s.out, "_nitroctl() {\n  local words=\n  case \"$COMP_CWORD ${COMP_WORDS[1]} ${COMP_WORDS[2]}\" in\n")
	var names []string
	for _, g := range groups {
		names = append(names, g.name)
		if g.find("") == nil {
			fmt.Fprintf(s.out, "  \"2 %s \"*) words=%q ;;\n", g.name, strings.Join(g.names(), " "))
		}
		for _, c := range g.commands {
			var flags []string
			f, _, _ := c.flags(g)
			f.VisitAll(func(f *flag.Flag) { flags = append(flags, "-"+f.Name) })
			fmt.Fprintf(s.out, "  *\" %s %s\"%s) words=%q ;;\n", g.name, c.name, anyWord(c), strings.Join(flags, " "))
		}
	}
	fmt.Fprintf(s.out, "  \"1 \"*) words=%q ;;\n  esac\n", strings.Join(append(names, "help", "completion"), " "))
	fmt.Fprint(s.out, "  COMPREPLY=($(compgen -W \"$words\" -- \"${COMP_WORDS[COMP_CWORD]}\"))\n}\ncomplete -o default -F _nitroctl nitroctl\n")
	return exitOK
}

// fishCompletion prints it for fish, which shows what each thing is beside it. Values of flags
// are files, as they are for fish by itself.
func fishCompletion(w io.Writer) {
	fmt.Fprint(w, `function __nitroctl_at
  set -l words (commandline -opc)
  set -l last (math (count $argv) + 1)
  test (count $words) -ge $last; or return 1
  set -l is $words[2..$last]
  test "$is" = "$argv"
end
`)
	quote := func(text string) string { return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(text) + "'" }
	offer := func(when, what, is string) {
		fmt.Fprintf(w, "complete -c nitroctl -f -n %s -a %s -d %s\n", quote(when), what, quote(is))
	}
	flags := func(when string, c *command, g *group) {
		f, _, _ := c.flags(g)
		f.VisitAll(func(f *flag.Flag) {
			kind, text := flag.UnquoteUsage(f)
			value := ""
			if kind != "" {
				value = " -r"
			}
			fmt.Fprintf(w, "complete -c nitroctl -n %s -o %s%s -d %s\n", quote(when), f.Name, value, quote(text))
		})
	}
	first := "test (count (commandline -opc)) -eq 1"
	for _, g := range groups {
		offer(first, g.name, g.summary)
		for _, c := range g.commands {
			if c.name != "" {
				offer("__nitroctl_at "+g.name+"; and test (count (commandline -opc)) -eq 2", c.name, c.summary)
			}
			flags("__nitroctl_at "+c.full(g), c, g)
		}
	}
	offer(first, "help", "more of a command")
	offer(first, "completion", "print what completes command lines")
}
