package code

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write docs/codes.md")

const page = "../../docs/codes.md"

// markdown is docs/codes.md.
func markdown() string {
	var b strings.Builder
	b.WriteString(`# Codes

What a board shows when it refuses something, in its evidence, its journal and on its console. Package
` + "`boot/code`" + ` has this list; ` + "`go test ./boot/code -update`" + ` writes this page, and a test compares the two.

In quarantine the board holds its host, has zeroed its secrets and attaches no volume. What it takes to leave:

- **transient**: nothing is kept. The board tries again by itself at most ` + fmt.Sprint(Retries) + ` times, and afresh whenever it is powered on.
- **latched**: the code stays in the TPM. Leaving takes a ticket that the owner has signed for this board and this incident.
  (If it is not the board's TPM that answers, as 106 says, nothing keeps the code.)
- **reprovision**: the factory's procedure has to run again.

| code | name | class | what happened | next step |
|---|---|---|---|---|
`)
	for _, e := range All() {
		fmt.Fprintf(&b, "| %d | %s | %v | %s | %s |\n", e.Code, e.Name, e.Class, e.Sentence, e.Next)
	}
	return b.String()
}

func TestPage(t *testing.T) {
	if *update {
		if err := os.WriteFile(page, []byte(markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != markdown() {
		t.Error("docs/codes.md is not what the list says: run go test ./boot/code -update")
	}
}

// TestList: each line is whole, and no number, name or text comes twice.
func TestList(t *testing.T) {
	seen := map[any]bool{}
	last := Code(0)
	for _, e := range All() {
		if e.Code <= last || e.Code < 100 || e.Code > 999 {
			t.Errorf("%d comes behind %d", e.Code, last)
		}
		last = e.Code
		if !regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`).MatchString(e.Name) {
			t.Errorf("%d: name %q", e.Code, e.Name)
		}
		if e.Class < Transient || e.Class > Reprovision {
			t.Errorf("%d: class %v", e.Code, e.Class)
		}
		for _, s := range []string{e.Sentence, e.Next} {
			if !strings.HasSuffix(s, ".") || strings.ContainsAny(s, "|\n") || s[:1] != strings.ToUpper(s[:1]) {
				t.Errorf("%d: %q is no sentence", e.Code, s)
			}
		}
		if e.Class == Latched && !strings.Contains(e.Next, "ticket") && !strings.Contains(e.Next, "provision") {
			t.Errorf("%d is latched, and its next step does not say how to leave", e.Code)
		}
		for _, k := range []any{e.Name, e.Sentence} {
			if seen[k] {
				t.Errorf("%d: %q comes twice", e.Code, k)
			}
			seen[k] = true
		}
	}
}

// TestComplete: every constant of list.go has its line.
func TestComplete(t *testing.T) {
	src, err := os.ReadFile("list.go")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^\t(\w+)\s+Code = (\d+)$`).FindAllStringSubmatch(string(src), -1)
	if len(found) != len(entries) || len(found) == 0 {
		t.Errorf("%d constants, %d lines", len(found), len(entries))
	}
	for _, m := range found {
		var c Code
		if _, err := fmt.Sscan(m[2], &c); err != nil {
			t.Fatal(err)
		}
		if _, ok := Lookup(c); !ok {
			t.Errorf("%s has no line", m[1])
		}
	}
}

func TestErrors(t *testing.T) {
	cause := errors.New("card gone")
	err := fmt.Errorf("boot: %w", ImageUnreadable.Errorf("slot B: %w", cause))
	if err.Error() != "boot: slot B: card gone [code 202 image-unreadable]" || Of(err) != ImageUnreadable || !errors.Is(err, cause) {
		t.Errorf("%v, code %v", err, Of(err))
	}
	if Of(cause) != None || Of(nil) != None || Of(ConfigurationBad.Errorf("%w", err)) != ConfigurationBad {
		t.Error("the code is not that of the outermost error that has one")
	}
	if Code(999).Class() != Latched || Code(999).String() != "999" || TPMAbsent.Class() != Transient || TPMAbsent.String() != "101 tpm-absent" {
		t.Error("an unknown code is not latched, or a known one has another class")
	}
}
