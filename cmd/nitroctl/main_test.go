package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/boot/card"
	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/medium"
	"nitro/boot/release"
	"nitro/boot/release/releasetest"
	"nitro/internal/metal"
)

var update = flag.Bool("update", false, "write testdata/help anew")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A bench is a folder to work in: development keys, the linker's files, and all that was
// printed.
type bench struct {
	*testing.T
	dir     string
	printed bytes.Buffer
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{T: t, dir: t.TempDir()}
	t.Setenv(epochVariable, fmt.Sprint(releasetest.Built))
	must(t, releasetest.Keys().Save(b.path("keys")))
	must(t, os.WriteFile(b.path("bootloader.elf"), releasetest.Program(image.Bootloader, "bootloader"), 0o644))
	must(t, os.WriteFile(b.path("controller.elf"), releasetest.Program(image.Controller, "controller"), 0o644))
	return b
}

func (b *bench) path(name string) string { return filepath.Join(b.dir, name) }

// words splits a command line; what begins with @ is a file in the folder.
func (b *bench) words(line string) (args []string) {
	for w := range strings.FieldsSeq(line) {
		if name, ok := strings.CutPrefix(w, "@"); ok {
			w = b.path(name)
		}
		args = append(args, w)
	}
	return args
}

// run runs the program.
func (b *bench) run(line string) (exit int, out, err string) {
	b.Helper()
	var o, e bytes.Buffer
	exit = run(b.words(line), streams{&o, &e, false})
	b.printed.Write(o.Bytes())
	b.printed.Write(e.Bytes())
	return exit, o.String(), e.String()
}

// ok runs what must go well.
func (b *bench) ok(line string) string {
	b.Helper()
	exit, out, err := b.run(line)
	if exit != exitOK || err != "" {
		b.Fatalf("nitroctl %s: exit code %d\n%s", line, exit, err)
	}
	return out
}

// An anyAnswer is what -o json prints, with the result as it comes.
type anyAnswer struct {
	Format  int             `json:"format"`
	Command string          `json:"command"`
	OK      bool            `json:"ok"`
	Result  json.RawMessage `json:"result"`
	Error   *problem        `json:"error"`
}

// json runs a command with -o json, which must end as told, and decodes its result, of
// which every member must be known.
func (b *bench) json(line string, exit int, result any) *problem {
	b.Helper()
	got, out, errs := b.run(line + " -o json")
	if got != exit {
		b.Fatalf("nitroctl %s: exit code %d, want %d\n%s%s", line, got, exit, out, errs)
	}
	if errs != "" && !strings.HasPrefix(errs, "nitroctl ") {
		b.Errorf("nitroctl %s -o json says on the way\n%s", line, errs)
	}
	var a anyAnswer
	strict(b, []byte(out), &a)
	if a.Format != 1 || a.Command == "" || !strings.HasPrefix(line+" ", a.Command+" ") || a.OK != (exit == exitOK) || (a.Error == nil) != a.OK {
		b.Errorf("nitroctl %s: %s", line, out)
	}
	if result != nil {
		strict(b, a.Result, result)
	}
	return a.Error
}

func strict(t testing.TB, b []byte, v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		t.Fatalf("%v in %s", err, b)
	}
}

// release builds one in a folder.
func (b *bench) release(version, folder, more string) {
	b.Helper()
	b.ok("release build -keys @keys -bootloader @bootloader.elf -controller @controller.elf -product imx6ul-evk -security-version 3 -version " + version + " -out @" + folder + " " + more)
}

func (b *bench) configuration() {
	b.Helper()
	b.ok("config sign -keys @keys -product imx6ul-evk -epoch 2 -out @configuration.img")
}

// card makes release, configuration and card.
func (b *bench) card() {
	b.Helper()
	b.release("1.0", "release", "")
	b.configuration()
	b.ok("card build -release @release -config @configuration.img -out @card.img")
}

// TestHelp compares all help with what is kept: go test ./cmd/nitroctl -run TestHelp -update
func TestHelp(t *testing.T) {
	lines := []string{"help", "help completion", "completion bash", "completion fish"}
	for _, g := range groups {
		if g.find("") == nil {
			lines = append(lines, "help "+g.name)
		}
		for _, c := range g.commands {
			lines = append(lines, "help "+c.full(g))
		}
	}
	for _, line := range lines {
		var out, errs bytes.Buffer
		if exit := run(strings.Fields(line), streams{&out, &errs, false}); exit != exitOK || errs.Len() > 0 {
			t.Errorf("%s: exit code %d, %s", line, exit, &errs)
		}
		if strings.HasPrefix(line, "help") && !strings.Contains(out.String(), "\nexample") {
			t.Errorf("%s shows no example", line)
		}
		file := filepath.Join("testdata", "help", strings.ReplaceAll(line, " ", "-")+".txt")
		if *update {
			must(t, os.MkdirAll(filepath.Dir(file), 0o755))
			must(t, os.WriteFile(file, out.Bytes(), 0o644))
		}
		want, err := os.ReadFile(file)
		must(t, err)
		if !bytes.Equal(out.Bytes(), want) {
			t.Errorf("%s prints something else than %s: look, and run with -update\n%s", line, file, &out)
		}
	}
	files, err := filepath.Glob("testdata/help/*")
	if err != nil || len(files) != len(lines) {
		t.Errorf("%d files of help for %d commands: remove what is not there any more", len(files), len(lines))
	}
	for line, file := range map[string]string{"card build -h": "card-build", "card build --help": "card-build", "status -h": "status"} {
		var a, b bytes.Buffer
		run(strings.Fields(line), streams{&a, &b, false})
		want, err := os.ReadFile("testdata/help/help-" + file + ".txt")
		must(t, err)
		if !bytes.Equal(a.Bytes(), want) {
			t.Errorf("%s prints something else than help %s", line, file)
		}
	}
}

// TestExamples: the flags in every example are there, and its lines are commands.
func TestExamples(t *testing.T) {
	for _, g := range groups {
		for _, c := range g.commands {
			if c.example == "" || c.about == "" || c.summary == "" {
				t.Errorf("%s lacks an example or a text", c.full(g))
			}
			for line := range strings.Lines(c.example) {
				flags, ok := strings.CutPrefix(line, "nitroctl "+c.full(g)+" ")
				if !ok {
					t.Errorf("the example of %s is %q", c.full(g), line)
					continue
				}
				f, _, _ := c.flags(g)
				if rest, err := parse(f, strings.Fields(flags)); err != nil || (len(rest) > 0) != (c.args != "") {
					t.Errorf("%q: %v, arguments %v", line, err, rest)
				}
			}
		}
	}
}

// TestCompletion has bash complete.
func TestCompletion(t *testing.T) {
	var script bytes.Buffer
	if exit := run([]string{"completion", "bash"}, streams{&script, &script, false}); exit != exitOK {
		t.Fatal(&script)
	}
	for _, c := range []struct{ words, last, want string }{
		{"nitroctl", "ca", "card"},
		{"nitroctl card", "i", "inspect"},
		{"nitroctl card build -release x", "-conf", "-config"},
		{"nitroctl seal", "", "approve check"},
		{"nitroctl", "stat", "status"},
		{"nitroctl status", "-p", "-pin"},
		{"nitroctl status -board x", "-p", "-pin"},
	} {
		words := append(strings.Fields(c.words), c.last)
		ask := fmt.Sprintf("\nCOMP_WORDS=(%s %q); COMP_CWORD=%d; _nitroctl; echo \"${COMPREPLY[@]}\"", c.words, c.last, len(words)-1)
		cmd := exec.Command("bash", "--norc", "-c", script.String()+ask)
		out, err := cmd.CombinedOutput()
		if got := strings.TrimSpace(string(out)); err != nil || got != c.want {
			t.Errorf("%s %s: completed to %q, want %q (%v)", c.words, c.last, got, c.want, err)
		}
	}
}

// TestFishCompletion has fish complete.
func TestFishCompletion(t *testing.T) {
	script := filepath.Join(t.TempDir(), "nitroctl.fish")
	var out bytes.Buffer
	if exit := run([]string{"completion", "fish"}, streams{&out, &out, false}); exit != exitOK {
		t.Fatal(&out)
	}
	must(t, os.WriteFile(script, out.Bytes(), 0o644))
	for _, c := range []struct{ line, want string }{
		{"nitroctl ca", "card"},
		{"nitroctl card i", "inspect"},
		{"nitroctl card build -release x -conf", "-config"},
		{"nitroctl seal ", "approve check"},
		{"nitroctl stat", "status"},
		{"nitroctl status -p", "-pin"},
		{"nitroctl status -board x -p", "-pin"},
		{"nitroctl volume attach -pi", "-pin"},
	} {
		cmd := exec.Command("fish", "--no-config", "-c", "source "+script+"; complete -C "+"'"+c.line+"'")
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		text, err := cmd.Output()
		var got []string
		for line := range strings.Lines(string(text)) { // each with a tab and what it is
			word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
			got = append(got, word)
		}
		if strings.Join(got, " ") != c.want || err != nil {
			t.Errorf("%s: completed to %q, want %q (%v)", c.line, got, c.want, err)
		}
	}
}

// TestWays goes from linker's files to a card and looks at everything, as people see it
// and as programs do.
func TestWays(t *testing.T) {
	b := newBench(t)
	b.card()
	b.ok("card inspect -anchors @release/anchors.bin @card.img")

	var k keyList
	b.json("keys show -keys @keys", exitOK, &k)
	if len(k.Keys) != 8 || !k.Development {
		t.Errorf("keys show gives %+v", k)
	}
	var p payloadInfo
	b.json("image build -elf @controller.elf -out @controller.payload", exitOK, &p)
	var i imageInfo
	b.json("image inspect @release/controller.img", exitOK, &i)
	if i.SHA256 != p.SHA256 || i.Verified || i.Component != "controller" || i.SecurityVersion != 3 || i.Built != releasetest.Built {
		t.Errorf("image inspect gives %+v, the payload is %+v", i, p)
	}
	b.json("image verify -anchors @release/anchors.bin -config @configuration.img -component controller -product imx6ul-evk -floor 3 @release/controller.img", exitOK, &i)
	if !i.Verified {
		t.Errorf("image verify gives %+v", i)
	}
	must(t, os.WriteFile(b.path("bmc.rom"), []byte("BMC firmware"), 0o644))
	b.json("image sign -keys @keys -component bmc-firmware -in @bmc.rom -product imx6ul-evk -version 2.1 -out @bmc.img", exitOK, &i)
	b.ok("image verify -anchors @release/anchors.bin @bmc.img")
	b.ok("image sign -keys @keys -component controller -in @controller.elf -product imx6ul-evk -version 1.0 -security-version 3 -out @controller.img")
	same(t, b.path("controller.img"), b.path("release/controller.img"))
	var r releaseInfo
	b.json("release show -anchors @release/anchors.bin @release", exitOK, &r)
	if len(r.Predictions) != 1 || len(r.MissingKinds) != 0 {
		t.Errorf("release show gives %+v", r)
	}
	var g goldenInfo
	b.json("golden show -anchors @release/anchors.bin @release", exitOK, &g)
	if len(g.Events) != 5 || !g.Verified || g.Predictions[0].PCR7 != r.Predictions[0].PCR7 {
		t.Errorf("golden show gives %+v", g)
	}
	var c configInfo
	b.json("config show -anchors @release/anchors.bin @configuration.img", exitOK, &c)
	var onCard configInfo
	b.json("config show @card.img", exitOK, &onCard)
	if c.Epoch != 2 || c.SHA256 != onCard.SHA256 || !onCard.Verified {
		t.Errorf("config show gives %+v and %+v", c, onCard)
	}
	var s coverage
	b.json("seal check -card @card.img -unprovisioned -release @release", exitOK, &s)
	if len(s.Kinds) != 3 || len(s.Unchecked) != 2 || s.PCR2 != r.Predictions[0].PCR2 {
		t.Errorf("seal check gives %+v", s)
	}
	var d cardInfo
	b.json("card inspect @card.img", exitOK, &d)
	if len(d.Parts) != 20 || d.Size != 256<<20 || d.Anchored {
		t.Errorf("card inspect gives %+v", d)
	}
	b.noSecrets()
}

// same compares two files.
func same(t *testing.T, a, b string) {
	t.Helper()
	x, err := os.ReadFile(a)
	must(t, err)
	y, err := os.ReadFile(b)
	must(t, err)
	if !bytes.Equal(x, y) {
		t.Errorf("%s and %s differ", a, b)
	}
}

// noSecrets looks for private keys in all that was printed, as the files have them and in
// hexadecimal.
func (b *bench) noSecrets() {
	b.Helper()
	text := b.printed.String()
	for _, n := range release.Names() {
		data, err := os.ReadFile(filepath.Join(b.path("keys"), string(n)+".pem"))
		must(b, err)
		block, _ := pem.Decode(data)
		for _, secret := range []string{strings.Split(string(data), "\n")[1], base64.StdEncoding.EncodeToString(block.Bytes), hex.EncodeToString(block.Bytes[16:48])} {
			if strings.Contains(text, secret) {
				b.Errorf("the private key %s was printed", n)
			}
		}
	}
	if b.printed.Len() == 0 || strings.Contains(text, "PRIVATE KEY") {
		b.Errorf("nothing was printed, or a private key: %d bytes", b.printed.Len())
	}
}

// TestNewKeys: files are private, and nothing is overwritten.
func TestNewKeys(t *testing.T) {
	b := newBench(t)
	b.ok("keys new -only owner,sealing-p384 -out @some")
	for name, mode := range map[string]os.FileMode{"owner.pem": 0o600, "owner.pub.pem": 0o644, "sealing-p384.pem": 0o600} {
		if info, err := os.Stat(b.path("some/" + name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if exit, _, err := b.run("keys new -only owner -out @some"); exit != exitIO || !strings.Contains(err, "never overwritten") {
		t.Errorf("exit code %d: %s", exit, err)
	}
	b.noSecrets()
}

// TestRefusals: what is wrong ends with the code that is documented, and says what to do.
func TestRefusals(t *testing.T) {
	b := newBench(t)
	b.card()
	must(t, os.WriteFile(b.path("tampered.img"), flipped(t, b.path("release/controller.img"), 5000), 0o644))
	must(t, os.WriteFile(b.path("forged.img"), flipped(t, b.path("release/controller.img"), 600), 0o644))
	must(t, os.WriteFile(b.path("small"), nil, 0o644))
	b.ok("keys new -only owner -out @production")
	for _, c := range []struct {
		line string
		exit int
		says string
	}{
		{"", exitOK, ""},
		{"nonsense", exitUsage, "nitroctl help"},
		{"card", exitUsage, "build, inspect"},
		{"card nonsense", exitUsage, "nitroctl help card"},
		{"help nonsense", exitUsage, "nitroctl help"},
		{"completion csh", exitUsage, "bash, zsh or fish"},
		{"card build -nonsense", exitUsage, "nitroctl help card build"},
		{"card inspect", exitUsage, "give one card"},
		{"card inspect @card.img @card.img", exitUsage, "give one card"},
		{"card inspect @card.img -o xml", exitUsage, "text or json"},
		{"card inspect -floor 65 @card.img", exitUsage, "0 to 64"},
		{"keys new", exitUsage, "-out is missing"},
		{"keys new extra -out @x", exitUsage, "flags alone"},
		{"keys new -only root -out @x", exitUsage, "the names are"},
		{"keys new -only owner -development -out @x", exitUsage, "leave out -only"},
		{"keys show", exitUsage, "keys new"},
		{"keys show -keys @nowhere", exitIO, "no such file"},
		{"keys show -keys @keys -keys @production", exitRefused, "use them apart"},
		{"release build -keys @keys -version 1 -product p -out @x -bootloader @nowhere", exitIO, "no such file"},
		{"release build -keys @keys -version 1 -product p -out @x -bootloader @small", exitRefused, "no ELF file"},
		{"release build -keys @keys -version 1 -product p -out @x -bootloader @controller.elf -controller @controller.elf", exitRefused, "link it as make all does"},
		{"release build -keys @production -version 1 -product p -out @x -bootloader @bootloader.elf -controller @controller.elf", exitRefused, "name the folder that has it"},
		{"release build -keys @keys -version 1 -product p -out @release -bootloader @bootloader.elf -controller @controller.elf", exitIO, "new folder"},
		{"release build -keys @keys -version 1 -product p -out @x -built noon", exitUsage, "-built"},
		{"release show -anchors @small @release", exitRefused, "anchors.bin of a release"},
		{"image inspect @small", exitRefused, "cut short"},
		{"image inspect @tampered.img", exitRefused, "206 image-digest"},
		{"image verify @release/controller.img", exitUsage, "-anchors is missing"},
		{"image verify -anchors @release/anchors.bin @tampered.img", exitRefused, "next: Write the image"},
		{"image verify -anchors @release/anchors.bin @forged.img", exitRefused, "204 image-signature"},
		{"image verify -anchors @release/anchors.bin -floor 4 @release/controller.img", exitRefused, "207 below-floor"},
		{"image verify -anchors @release/anchors.bin -product x @release/controller.img", exitRefused, "208 wrong-product"},
		{"image verify -anchors @release/anchors.bin -component nonsense @release/controller.img", exitUsage, "it is one of"},
		{"image sign -keys @keys -component configuration", exitUsage, "config sign"},
		{"image build -elf @controller.elf -out @small", exitIO, "name a new file"},
		{"config sign -keys @keys -product p -out @x", exitUsage, "-epoch"},
		{"config sign -keys @keys -product p -epoch 1 -key-service-url https://k -out @x", exitUsage, "give -key-service"},
		{"config sign -keys @keys -product p -epoch 1 -key-service @k -key-service-url https://k -out @x", exitUsage, "together"},
		{"config sign -keys @keys -in @small -epoch 1 -out @x", exitUsage, "give -in, or"},
		{"config show @configuration.img", exitUsage, "-anchors"},
		{"config show @small", exitRefused, "too short"},
		{"card build -release @release -config @configuration.img -out @card.img", exitIO, "file exists"},
		{"card build -release @release -config @configuration.img -size 1MiB -out @x", exitRefused, "at least 268435456"},
		{"card build -release @release -config @configuration.img -size large -out @x", exitUsage, "256MiB"},
		{"card build -release @release -config @small -out @x", exitRefused, "202"},
		{"seal check -card @card.img", exitUsage, "-unprovisioned"},
		{"seal check -card @card.img -pcr1 00", exitUsage, "no SHA-256"},
		{"seal check -card @card.img -pcr1 " + strings.Repeat("0", 64), exitRefused, "not provisioned"},
		{"seal approve -keys @production -anchors @release/anchors.bin -release @release", exitRefused, "no private sealing key"},
		{"golden check @small", exitUsage, "-known-good is missing"},
		{"golden check -known-good @release/controller.img @small", exitRefused, "210 wrong-component"},
		{"golden check -known-good @release -board-key x @small", exitUsage, "belong together"},
	} {
		exit, _, err := b.run(c.line)
		if exit != c.exit || !strings.Contains(err, c.says) {
			t.Errorf("nitroctl %s: exit code %d, want %d and %q:\n%s", c.line, exit, c.exit, c.says, err)
		}
		if _, err := os.Stat(b.path("x")); err == nil {
			t.Fatalf("nitroctl %s left something behind", c.line)
		}
	}
	t.Setenv(epochVariable, "")
	if exit, _, err := b.run("config sign -keys @keys -product p -epoch 1 -out @x"); exit != exitUsage || !strings.Contains(err, epochVariable) {
		t.Errorf("without a build time: exit code %d, %s", exit, err)
	}
}

// flipped is a file with one bit changed.
func flipped(t *testing.T, path string, at int) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	b[at] ^= 1
	return b
}

// TestCardTampered: JSON and exit code say which place it is, and which code it has.
func TestCardTampered(t *testing.T) {
	b := newBench(t)
	b.card()
	f, err := os.OpenFile(b.path("card.img"), os.O_RDWR, 0)
	must(t, err)
	_, err = f.WriteAt([]byte("x"), medium.Slots[0].Offset+image.HeaderSize+5)
	must(t, err)
	must(t, f.Close())
	var c cardInfo
	p := b.json("card inspect @card.img", exitRefused, &c)
	if p.Code != code.ImageDigest || p.Name != "image-digest" || p.Next == "" {
		t.Errorf("the error is %+v", p)
	}
	bad := slices.DeleteFunc(c.Parts, func(p partInfo) bool { return p.State != "bad" })
	if len(bad) != 1 || bad[0].Name != "slot A" || bad[0].Code != code.ImageDigest {
		t.Errorf("bad are %+v", bad)
	}
}

// TestCardDevice: -device writes what is there, and only then.
func TestCardDevice(t *testing.T) {
	b := newBench(t)
	b.release("1.0", "release", "")
	b.release("1.1", "release-b", "-also "+b.path("release"))
	b.configuration()
	b.ok("card build -release @release -config @configuration.img -out @card.img")
	b.ok("card build -release @release -release-b @release-b -config @configuration.img -device -out @card.img")
	var c cardInfo
	b.json("card inspect -anchors @release/anchors.bin @card.img", exitOK, &c)
	if i := slices.IndexFunc(c.Parts, func(p partInfo) bool { return p.Name == "slot B" }); i < 0 || c.Parts[i].State != "ok" {
		t.Errorf("the card is %+v", c)
	}
	b.ok("seal check -card @card.img -unprovisioned -release @release-b")
}

// TestSealApprove: each authority adds its own approvals.
func TestSealApprove(t *testing.T) {
	b := newBench(t)
	b.ok("keys new -only release-ed25519,release-mldsa65,configuration-ed25519,configuration-mldsa65 -out @builder")
	b.ok("keys new -only sealing-p384 -out @p384")
	b.ok("keys new -only sealing-rsa3072 -out @rsa3072")
	b.ok("release build -keys @builder -bootloader @bootloader.elf -controller @controller.elf -product p -version 1 -out @r")
	for _, step := range []struct {
		keys    string
		missing []string
	}{{"rsa3072", []string{"p384", "canary"}}, {"p384", []string{}}} {
		var r releaseInfo
		b.json("seal approve -keys @"+step.keys+" -anchors @r/anchors.bin -release @r", exitOK, &r)
		if !slices.Equal(r.MissingKinds, step.missing) {
			t.Errorf("behind %s lack %v, want %v", step.keys, r.MissingKinds, step.missing)
		}
	}
	b.ok("release show @r")
}

// logOf is the event log of a boot of a release.
func logOf(t *testing.T, r *release.Release, more ...eventlog.Event) *eventlog.Log {
	t.Helper()
	log := eventlog.New()
	for _, e := range append(r.Golden.Events(), more...) {
		must(t, log.Append(e))
	}
	return log
}

// TestGoldenCheck: a log and evidence that hold it are compared event by event.
func TestGoldenCheck(t *testing.T) {
	b := newBench(t)
	b.release("1.0", "release", "")
	r, err := release.Read(b.path("release"))
	must(t, err)
	good := logOf(t, r, eventlog.Slot(0, 1), eventlog.Cap())
	evidence, err := json.Marshal(map[string]any{"format": 1, "nonce": "AA==", "event_log": good.Bytes()})
	must(t, err)
	bad := eventlog.New()
	for _, e := range r.Golden.Events() {
		if e.Name() == "controller" {
			e = eventlog.Controller(eventlog.Digest{7}, "1.0", 3)
		}
		must(t, bad.Append(e))
	}
	for name, data := range map[string][]byte{"good.log": good.Bytes(), "evidence.json": evidence, "bad.log": bad.Bytes(), "torn.log": good.Bytes()[:200], "empty.json": []byte("{}")} {
		must(t, os.WriteFile(b.path(name), data, 0o644))
	}
	for _, name := range []string{"good.log", "evidence.json"} {
		var c checkInfo
		b.json("golden check -known-good @release -anchors @release/anchors.bin @"+name, exitOK, &c)
		if len(c.Steps) != 5 || !c.Verified || slices.ContainsFunc(c.Steps, func(s stepInfo) bool { return !s.OK || s.Actual == nil }) {
			t.Errorf("%s: %+v", name, c)
		}
	}
	var c checkInfo
	if p := b.json("golden check -known-good @release/known-good.img @bad.log", exitRefused, &c); p.Code != code.PCRMismatch {
		t.Errorf("the error is %+v", p)
	}
	wrong := slices.DeleteFunc(c.Steps, func(s stepInfo) bool { return s.OK })
	if len(wrong) != 1 || wrong[0].Name != "controller" || wrong[0].Expected[0].Digest == wrong[0].Actual.Digest || c.Verified {
		t.Errorf("wrong are %+v", wrong)
	}
	_, out, _ := b.run("golden check -known-good @release @bad.log")
	if !strings.Contains(out, "BAD  pcr 2  controller\n       expected  "+wrong[0].Expected[0].Digest) || !strings.Contains(out, "actual    "+wrong[0].Actual.Digest) {
		t.Errorf("people see\n%s", out)
	}
	for name, want := range map[string]string{"torn.log": "log-does-not-replay", "empty.json": "no event_log"} {
		if exit, _, err := b.run("golden check -known-good @release @" + name); exit != exitRefused || !strings.Contains(err, want) {
			t.Errorf("%s: exit code %d, %s", name, exit, err)
		}
	}
}

// boardPart makes a board part of the known-good set, and the file of the key that signed
// it, as the board's TPM does.
func boardPart(t *testing.T, b *bench) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	log := eventlog.New()
	must(t, log.Append(board(7)))
	name := bytes.Repeat([]byte{0, 11}, 17)
	d, err := golden.NewDraft(&golden.Board{Board: releasetest.Product, StorageName: name, AKName: name, EKName: name, UniqueID: 7,
		PCR1: log.Replay()[1], Events: log.Events()}, 1)
	must(t, err)
	digest := d.Digest()
	r, s, err := ecdsa.Sign(rand.Reader, key, digest[:])
	must(t, err)
	part, err := d.Envelope(tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: r.Bytes()}, SignatureS: tpm2.TPM2BECCParameter{Buffer: s.Bytes()}})}))
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	must(t, err)
	must(t, os.WriteFile(b.path("board.pub.pem"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644))
	must(t, os.WriteFile(b.path("board.part"), part, 0o644))
	return part
}

// TestBoardPart: with the board key PCR 1 is compared as well, and a card's board part is
// verified.
func TestBoardPart(t *testing.T) {
	b := newBench(t)
	b.card()
	part := boardPart(t, b)
	r, err := release.Read(b.path("release"))
	must(t, err)
	must(t, os.WriteFile(b.path("good.log"), logOf(t, r, board(7)).Bytes(), 0o644))
	must(t, os.WriteFile(b.path("other.log"), logOf(t, r, board(8)).Bytes(), 0o644))
	const check = "golden check -known-good @release -anchors @release/anchors.bin -board-part @board.part -board-key @board.pub.pem "
	var c checkInfo
	b.json(check+"@good.log", exitOK, &c)
	if len(c.Steps) != 6 || len(c.NotChecked) != 2 {
		t.Errorf("%+v", c)
	}
	if p := b.json(check+"@other.log", exitRefused, &c); p.Code != code.PCRMismatch || c.Steps[5].OK {
		t.Errorf("another board: %+v", c)
	}
	f, err := card.Open(b.path("card.img"), true)
	must(t, err)
	for i, p := range medium.BoardParts {
		part[len(part)-1] ^= byte(i) // the second copy is bad
		must(t, medium.WritePlace(f, p, part))
	}
	must(t, f.Close())
	var d cardInfo
	for line, want := range map[string][2]string{"": {"unverified", "unverified"}, "-board-key @board.pub.pem ": {"ok", "bad"}} {
		exit := exitOK
		if want[1] == "bad" {
			exit = exitRefused
		}
		b.json("card inspect "+line+"@card.img", exit, &d)
		for i, state := range want {
			name := fmt.Sprintf("known-good set, board part, copy %d", i+1)
			if n := slices.IndexFunc(d.Parts, func(p partInfo) bool { return p.Name == name }); d.Parts[n].State != state {
				t.Errorf("%q: %s is %+v", line, name, d.Parts[n])
			}
		}
	}
	// seal check takes PCR 1 from it: the card has no objects yet, so it gets as far as that.
	if p := b.json("seal check -card @card.img -board-key @board.pub.pem", exitRefused, nil); p.Code != code.SealedObjectMissing {
		t.Errorf("seal check: %+v", p)
	}
}

// TestConfigFile: a configuration in JSON is signed as it is, and decoded strictly.
func TestConfigFile(t *testing.T) {
	b := newBench(t)
	c, err := releasetest.Keys().Config("imx6ul-evk", 5)
	must(t, err)
	payload, err := c.Encode()
	must(t, err)
	must(t, os.WriteFile(b.path("good.json"), payload, 0o644))
	must(t, os.WriteFile(b.path("unknown.json"), append([]byte(`{"root":true,`), payload[1:]...), 0o644))
	must(t, os.WriteFile(b.path("production.json"), bytes.Replace(payload, []byte(`"development":true`), []byte(`"development":false`), 1), 0o644))
	b.ok("config sign -keys @keys -in @good.json -out @a.img")
	b.ok("config sign -keys @keys -product imx6ul-evk -epoch 5 -out @b.img")
	same(t, b.path("a.img"), b.path("b.img"))
	for _, name := range []string{"unknown.json", "production.json"} {
		if exit, _, err := b.run("config sign -keys @keys -in @" + name + " -out @c.img"); exit != exitRefused {
			t.Errorf("%s: exit code %d, %s", name, exit, err)
		}
	}
}

// TestConfigKeyService: a configuration names who gives keys of volumes, and shows it.
func TestConfigKeyService(t *testing.T) {
	b := newBench(t)
	b.release("1.0", "release", "")
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	must(t, err)
	must(t, os.WriteFile(b.path("service.pub"), pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), 0o644))
	sign := "config sign -keys @keys -product imx6ul-evk -epoch 7 -key-service "
	b.ok(sign + "@service.pub -out @c.img")
	if out, want := b.ok("config show -anchors @release/anchors.bin @c.img"), fmt.Sprintf("%x", sha256.Sum256(der)); !strings.Contains(out, want) {
		t.Errorf("it shows %s, not %s", out, want)
	}
	if exit, _, err := b.run(sign + "@c.img -out @d.img"); exit != exitRefused || !strings.Contains(err, "PUBLIC KEY") {
		t.Errorf("an image for a key: exit code %d, %s", exit, err)
	}
}

// TestConfigStorageServers: a configuration names where volumes may lie, and shows it.
func TestConfigStorageServers(t *testing.T) {
	b := newBench(t)
	b.release("1.0", "release", "")
	sign := "config sign -keys @keys -product imx6ul-evk -epoch 7 -storage-server "
	b.ok(sign + "west,10.1.2.3:4420,nqn.2026-01.example:west -out @c.img")
	if out := b.ok("config show -anchors @release/anchors.bin @c.img"); !strings.Contains(out, "west 10.1.2.3:4420 nqn.2026-01.example:west") {
		t.Errorf("it shows %s", out)
	}
	for server, want := range map[string]int{"west": exitUsage, "west,store:4420,nqn.a": exitUsage, "west,10.1.2.3:4420,a": exitRefused} {
		if exit, _, err := b.run(sign + server + " -out @d.img"); exit != want {
			t.Errorf("%s: exit code %d, not %d: %s", server, exit, want, err)
		}
	}
}

// TestPolicySet: a policy set is signed, shown, explained, and written to a card; what a
// board would refuse is refused.
func TestPolicySet(t *testing.T) {
	b := newBench(t)
	b.release("1.0", "release", "")
	b.configuration()
	must(t, os.WriteFile(b.path("ca.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: releasetest.Keys().FactoryCertificate().Raw}), 0o644))
	sign := "policy sign -keys @keys -product imx6ul-evk -epoch 3 -issuer owner.example:operator,auditor:" + b.path("ca.pem") + " "
	b.ok(sign + "-out @policy.img")
	b.ok("card build -release @release -config @configuration.img -policy @policy.img -out @card.img")
	if out := b.ok("policy show -anchors @release/anchors.bin @policy.img"); !strings.Contains(out, "operators-run-servers") || !strings.Contains(out, "[operator auditor]") {
		t.Errorf("it shows %s", out)
	}
	const explain = "policy explain -anchors @release/anchors.bin -action resetHost -resource /redfish/v1/Systems/host "
	if out := b.ok(explain + "-who spiffe://owner.example/auditor/ada @policy.img"); !strings.Contains(out, "denied: no policy permits it") || !strings.Contains(out, "allowed to the roles: operator") {
		t.Errorf("it explains %s", out)
	}
	must(t, os.WriteFile(b.path("typo.cedar"), []byte(`@id("a") permit (principal, action == Nitro::Action::"resetHosts", resource);`), 0o644))
	must(t, os.WriteFile(b.path("short.img"), []byte("NCIMAGE1"), 0o644))
	for line, exit := range map[string]int{
		sign + "-policies @typo.cedar -out @x.img":                                               exitRefused,
		sign + "-out @policy.img":                                                                exitIO,
		"policy sign -keys @keys -product imx6ul-evk -epoch 3 -out @x.img":                       exitUsage,
		explain + "-who spiffe://owner.example/root/ada @policy.img":                             exitUsage,
		"policy show @policy.img":                                                                exitUsage,
		"policy show -anchors @release/anchors.bin @short.img":                                   exitRefused,
		"policy show -anchors @release/anchors.bin @configuration.img":                           exitRefused,
		"card build -release @release -config @configuration.img -policy @short.img -out @x.img": exitRefused,
	} {
		if got, _, err := b.run(line); got != exit {
			t.Errorf("%s: exit code %d, not %d: %s", line, got, exit, err)
		}
	}
}

// TestProgress: a bar is drawn on a terminal alone, and leaves nothing.
func TestProgress(t *testing.T) {
	b := newBench(t)
	b.card()
	for _, on := range []bool{false, true} {
		var out, errs bytes.Buffer
		if exit := run(b.words("card inspect @card.img"), streams{&out, &errs, on}); exit != exitOK {
			t.Fatal(&errs)
		}
		if shown := strings.Contains(errs.String(), "card inspect [##############################] 100%"); shown != on || on && !strings.HasSuffix(errs.String(), "\r\x1b[K") {
			t.Errorf("on a terminal %v: %q", on, &errs)
		}
	}
}

// TestFirmware builds the firmware itself, a release of it and a card.
func TestFirmware(t *testing.T) {
	b := newBench(t)
	must(t, metal.Build{}.Image(t.Context(), "nitro/cmd/controller", b.path("c.elf")))
	must(t, metal.Build{Bootloader: true}.Image(t.Context(), "nitro/cmd/bootloader", b.path("b.elf")))
	b.ok("release build -keys @keys -bootloader @b.elf -controller @c.elf -product imx6ul-evk -version 1.0 -out @release")
	b.configuration()
	b.ok("card build -release @release -config @configuration.img -out @card.img")
	b.ok("card inspect -anchors @release/anchors.bin @card.img")
}
