package store

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An edit changes a text that is in a file once.
type edit struct{ file, old, new string }

// mutants are faults that the tests must find; with the first, they must find nothing.
var mutants = []struct {
	name  string
	edits []edit
}{
	{"none", nil},
	{"the log's frame before the value that it names", []edit{
		{"log.go", "err = s.write(n, 0, b)", "late := append([]byte(nil), b...)\nif k == valued { s.late = append(s.late, func() { s.write(n, 0, late) }) } else { err = s.write(n, 0, b) }"},
		{"store.go", "\tfailed    error", "\tlate []func()\n\tfailed    error"},
		{"batch.go", "\ts.since += puts\n", "\ts.since += puts\n\tfor _, f := range s.late { f() }\n\ts.late = nil\n"},
	}},
	{"a generation used for everything", []edit{{"index.go", "\ts.lastGen++\n", "\ts.lastGen = 1\n"}}},
	{"no place in the nonce", []edit{
		{"keys.go", "\tbinary.LittleEndian.PutUint16(n[8:], uint16(segment))\n\tn[10] = byte(sector)\n", ""},
	}},
	{"no random bytes in an epoch", []edit{{"mount.go", "io.ReadFull(s.rand, id.random[:])", "io.ReadFull(s.rand, make([]byte, 16))"}}},
	{"no counter in an epoch", []edit{{"mount.go", "epochID{counter: s.root.counter + 1}", "epochID{}"}}},
	{"a checkpoint that does not wait for its step", []edit{{"checkpoint.go", "if err := s.await(); err != nil {\n\t\t\treturn err\n\t\t}", "return nil"}}},
	{"the counter stepped before the root is written", []edit{
		{"checkpoint.go", "\tr, err := s.writeBody()\n", "\ts.root.counter++\n\ts.step = s.newStep()\n\tif err := s.settle(); err != nil { return err }\n\ts.root.counter--\n\tr, err := s.writeBody()\n"},
	}},
	{"writes behind a step that has failed", []edit{{"batch.go", "!s.step.begun.Load() || ", ""}}},
	{"writes beyond the window while the counter is stepped", []edit{{"batch.go", "s.step != nil && (!s.step.begun.Load() || s.exposed()+puts > s.window)", "s.step != nil && !s.step.begun.Load()"}}},
	{"what a step under way would make safe not counted", []edit{{"checkpoint.go", "return s.before + s.since", "return s.since"}}},
	{"a batch counted as one", []edit{{"batch.go", "return max(n, 1)", "return 1"}}},
	{"what came since a root taken for safe with it", []edit{{"checkpoint.go", "s.safe = nil, 0, s.root.commits", "s.safe = nil, 0, s.commits"}}},
	{"an older store taken", []edit{{"mount.go", "case c < v && acceptLoss:", "case c < v:"}, {"mount.go", "\tcase c < v:\n\t\treturn", "\tcase c == 0:\n\t\treturn"}}},
	{"replaced before the batch is written", []edit{
		{"batch.go", "\tsegment, sector, sectors, err := s.logTo()\n", "\tfor i := range ops { if old, was := s.index[hashes[i]]; was && old.large != nil { for _, n := range old.large.segments { s.release(n) }; old.large = nil; s.index[hashes[i]] = old } }\n\tsegment, sector, sectors, err := s.logTo()\n"},
	}},
	{"a segment of the tail cleaned and used again", []edit{
		{"clean.go", "t.kind == logged && !t.tail &&", "t.kind == logged && (s.head == nil || n != s.head.number) &&"},
		{"index.go", "if t.live == 0 && !t.tail {", "if t.live == 0 && (s.head == nil || int(e.segment) != s.head.number) {"},
	}},
	{"the old body released before the new root is there", []edit{
		{"checkpoint.go", "\tr, err := s.writeBody()\n", "\ts.giveBack(s.root.body)\n\ts.root.body = nil\n\tr, err := s.writeBody()\n"},
	}},
	{"the log's next segment written before a root names it", []edit{
		{"log.go", "\tif err := s.writeRoot(r); err != nil {\n\t\treturn err\n\t}\n\ts.head = h\n", "\ts.root = r\n\ts.head = h\n"},
	}},
	{"a root written once", []edit{{"root.go", "second := s.write(s.ring(1), r.slot(), sector[:])", "second := first"}}},
	{"a torn write retried in its place", []edit{
		{"log.go", "\t\t\tif err := s.nextHead(); err != nil {\n\t\t\t\treturn 0, 0, 0, err\n\t\t\t}\n\t\t\tcontinue", "\t\t\tcontinue"},
	}},
	{"damage taken for the end of the log", []edit{{"mount.go", "damaged = plain != nil", "damaged = plain != nil && false"}}},
	{"the end of a segment of the tail not looked at", []edit{{"mount.go", "damaged := !last", "damaged := false"}}},
	{"the key not checked", []edit{{"superblock.go", "!= 1 {\n\t\tk.zero()", "> 1 {\n\t\tk.zero()"}}},
	{"no reserve", []edit{{"index.go", "\t\tn -= s.reserved\n", ""}}},
	{"snapshots not waited for", []edit{{"index.go", "case len(s.views) > 0:", "case len(s.views) > 1000:"}}},
}

// TestMutants plants each fault and has the other tests find it.
func TestMutants(t *testing.T) {
	if testing.Short() {
		t.Skip("runs the other tests for each fault")
	}
	here, err := filepath.Abs(".")
	must(t, err)
	caught := 0
	for _, m := range mutants {
		dir := t.TempDir()
		overlay := map[string]map[string]string{"Replace": {}}
		text := map[string]string{}
		for _, e := range m.edits {
			if text[e.file] == "" {
				b, err := os.ReadFile(e.file)
				must(t, err)
				text[e.file] = string(b)
			}
			if strings.Count(text[e.file], e.old) != 1 {
				t.Fatalf("%s: %s has %q %d times", m.name, e.file, e.old, strings.Count(text[e.file], e.old))
			}
			text[e.file] = strings.Replace(text[e.file], e.old, e.new, 1)
		}
		for file, b := range text {
			overlay["Replace"][filepath.Join(here, file)] = filepath.Join(dir, file)
			must(t, os.WriteFile(filepath.Join(dir, file), []byte(b), 0o644))
		}
		b, err := json.Marshal(overlay)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, "overlay.json"), b, 0o644))
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		out, err := exec.CommandContext(ctx, "go", "test", "-short", "-vet=off", "-failfast", "-timeout=4m", "-overlay", filepath.Join(dir, "overlay.json"), ".").CombinedOutput()
		cancel()
		var exit *exec.ExitError
		switch by, found := failure(string(out)); {
		case m.edits == nil:
			must(t, err)
		case !errors.As(err, &exit):
			t.Errorf("%s: not found: %v", m.name, err)
		case !found:
			t.Errorf("%s: no test failed:\n%.2000s", m.name, out)
		default:
			caught++
			t.Logf("%s: %s", m.name, by)
		}
	}
	t.Logf("%d of %d planted faults found", caught, len(mutants)-1)
}

// failure is the first test of an output that failed, and what it said.
func failure(out string) (string, bool) {
	_, rest, found := strings.Cut(out, "--- FAIL: ")
	lines := strings.SplitN(rest, "\n", 3)
	if !found || len(lines) < 2 {
		return "", false
	}
	return lines[0] + ":" + strings.TrimSpace(lines[1]), true
}
