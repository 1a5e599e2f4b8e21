package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"nitro/net/standing"
)

// TestMain gives the tests a folder of their own for contexts.
func TestMain(m *testing.M) {
	folder, err := os.MkdirTemp("", "nitroctl-config-")
	if err == nil {
		err = os.Setenv("XDG_CONFIG_HOME", folder)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	exit := m.Run()
	os.RemoveAll(folder)
	os.Exit(exit)
}

// newContexts is a bench without contexts, and the path of their file.
func newContexts(t *testing.T) (*bench, string) {
	b := newBench(t)
	t.Setenv("XDG_CONFIG_HOME", b.path("config"))
	for _, name := range []string{"ada.pem", "ada.key"} {
		must(t, os.WriteFile(b.path(name), []byte("a secret that stays here"), 0o600))
	}
	return b, b.path("config/nitroctl/contexts.json")
}

// TestContexts adds, uses, lists and removes them.
func TestContexts(t *testing.T) {
	b, file := newContexts(t)
	pin := strings.Repeat("ab", 32)
	var c contexts
	b.json("context list", exitOK, &c)
	if len(c.All) != 0 || c.Current != "" {
		t.Errorf("at first: %+v", c)
	}
	t.Chdir(b.dir)
	b.json("context add -board 192.0.2.10 -cert ada.pem -key ada.key rack-3", exitOK, &c)
	b.json("context add rack-4 -board 192.0.2.11:8443 -pin "+pin, exitOK, &c)
	want := contexts{1, "rack-3", []boardContext{{"rack-3", "192.0.2.10", "", b.path("ada.pem"), b.path("ada.key"), ""}, {"rack-4", "192.0.2.11:8443", pin, "", "", ""}}}
	if fmt.Sprint(c) != fmt.Sprint(want) {
		t.Errorf("%+v, not %+v", c, want)
	}
	for _, w := range []struct {
		line string
		exit int
		says string
	}{
		{"context add -board 192.0.2.12 rack-3", exitIO, "nothing is overwritten"},
		{"context add -board 192.0.2.12 Rack", exitUsage, "give one name"},
		{"context add -board 192.0.2.12", exitUsage, "give one name"},
		{"context add -board 192.0.2.12 a b", exitUsage, "give one name"},
		{"context add -board 192.0.2.12 " + strings.Repeat("a", 65), exitUsage, "give one name"},
		{"context add rack-5", exitUsage, "-board is missing"},
		{"context add -board 192.0.2.12 -pin 12 rack-5", exitUsage, "SHA-256"},
		{"context add -board 192.0.2.12 -cert nowhere.pem rack-5", exitIO, "nowhere.pem"},
		{"context add -board 192.0.2.12 -policy nowhere.json rack-5", exitIO, "nowhere.json"},
		{"context add -board 192.0.2.12 -policy ada.pem rack-5", exitRefused, "ada.pem"},
		{"context use rack-5", exitUsage, "no context \"rack-5\""},
		{"context remove rack-5", exitUsage, "no context \"rack-5\""},
		{"status -context rack-5", exitUsage, "no context \"rack-5\""},
	} {
		if exit, _, said := b.run(w.line); exit != w.exit || !strings.Contains(said, w.says) {
			t.Errorf("%s: %d %s", w.line, exit, said)
		}
	}
	b.json("context use rack-4", exitOK, &c)
	if out := b.ok("context list"); !strings.Contains(out, "* rack-4") || strings.Contains(out, "* rack-3") {
		t.Errorf("%s", out)
	}
	text, err := os.ReadFile(file)
	must(t, err)
	info, err := os.Stat(file)
	must(t, err)
	if strings.Contains(string(text), "a secret") || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %s", info.Mode(), text)
	}
	c = contexts{}
	b.json("context remove rack-4", exitOK, &c)
	if c.Current != "" || len(c.All) != 1 {
		t.Errorf("%+v", c)
	}
	if exit, _, said := b.run("status"); exit != exitUsage || !strings.Contains(said, "-board is missing") {
		t.Errorf("none in use: %d %s", exit, said)
	}
}

// TestContextFile: what is not the file that nitroctl writes is refused, and left as it is.
func TestContextFile(t *testing.T) {
	b, file := newContexts(t)
	must(t, os.MkdirAll(filepath.Dir(file), 0o700))
	many := strings.Repeat(`{"name":"a","board":"b"},`, maxContexts) + `{"name":"a","board":"b"}`
	for _, text := range []string{
		"", "[]", `{"format":2,"current":"","contexts":[]}`, `{"format":1,"current":"","contexts":[],"more":1}`,
		`{"format":1,"current":"","contexts":[` + many + `]}`, `{"format":1,"current":"` + strings.Repeat("a", maxContextFile) + `","contexts":[]}`,
	} {
		must(t, os.WriteFile(file, []byte(text), 0o600))
		for _, line := range []string{"context list", "context add -board b c", "status"} {
			if exit, _, said := b.run(line); exit == exitOK || !strings.Contains(said, "contexts.json") {
				t.Errorf("%s of %.60q: %d %s", line, text, exit, said)
			}
		}
		if now, err := os.ReadFile(file); err != nil || string(now) != text {
			t.Errorf("%.60q became %.60q", text, now)
		}
	}
}

// TestContextFlags: what no flag gives is the context's, and none counts beside -board alone.
// That attest verify keeps the pin is in TestProvision.
func TestContextFlags(t *testing.T) {
	b, _ := newContexts(t)
	f := &fakeBoard{status: standing.Status{State: standing.InService, Board: "b", Version: "1.0", Slot: "slot A"}}
	address, key := f.serve(t)
	b.ok("context add stale -cert @ada.pem -key @ada.key -pin " + strings.Repeat("0", 64) + " -board " + address)
	b.ok("context add bare -board " + address)
	var s statusInfo
	for _, line := range []string{"status", "status -context stale"} { // the first one is in use
		if p := b.json(line, exitRefused, nil); !strings.Contains(p.Message, "is not the pinned one: it is "+key) {
			t.Errorf("%s: %+v", line, p)
		}
	}
	b.json("status -pin "+key, exitOK, &s)
	if !s.Connection.Verified || s.Connection.Board != address {
		t.Errorf("%+v", s.Connection)
	}
	for _, line := range []string{"status -board " + address, "status -context bare"} {
		if b.json(line, exitOK, &s); s.Connection.Verified {
			t.Errorf("%s takes the pin of the context in use", line)
		}
	}
	for line, says := range map[string]string{
		"update status -context stale":          "client certificate: ",
		"update status -context bare":           "-cert is missing",
		"update status -board " + address:       "-cert is missing",
		"seal check -context stale":             "is not the pinned one",
		"ticket sign -context stale -out @x":    "-keys is missing",
		"attest verify -in @ada.pem -context a": "give -board, or -in",
	} {
		if exit, _, said := b.run(line); exit == exitOK || !strings.Contains(said, says) {
			t.Errorf("%s: %d %s", line, exit, said)
		}
	}
}
