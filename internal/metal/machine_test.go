package metal

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
)

const lastLine = "kernel: program ended, code 3, thread 1, after 0 s, pc 0x80092944 lr 0x8005a76c sp 0x1042e7a4 cpsr 0x60000050 fault 0x00000000 at 0x00000000\n"

func TestLastWords(t *testing.T) {
	fault := strings.Replace(lastLine, "program ended, code 3", "fault in the kernel, code 4", 1)
	for _, c := range []struct {
		name, console, rest string
		died                bool
		code                int
	}{
		{"program's end", "hello\n\n" + lastLine, "hello\n", true, 3},
		{"only words", lastLine, "", true, 3},
		{"fault", "hello\n\n" + fault, "hello\n", true, -1},
		{"silence", "hello\n", "hello\n", false, -1},
		{"the program says it", lastLine + "hello\n", lastLine + "hello\n", false, -1},
		{"another line of the kernel's", "kernel: MCIMX6UL-EVK, 493 MiB free\n", "kernel: MCIMX6UL-EVK, 493 MiB free\n", false, -1},
	} {
		rest, death, code := lastWords([]byte(c.console))
		if string(rest) != c.rest || (death != "") != c.died || code != c.code {
			t.Errorf("%s: rest %q, death %q, code %d", c.name, rest, death, code)
		}
	}
}

// TestJudge plants each way in which a run goes wrong.
func TestJudge(t *testing.T) {
	exit := func(code string) error { return exec.Command("sh", "-c", "exit "+code).Run() }
	m := Machine{Image: "x.elf"}
	for _, c := range []struct {
		name string
		ran  error
		res  Result
		want string
	}{
		{"good", nil, Result{Death: "program ended, code 0, ...", ExitCode: 0}, ""},
		{"program failed", exit("3"), Result{Death: "program ended, code 3, ...", ExitCode: 3}, ""},
		{"kernel died", exit("253"), Result{Death: "fault in the kernel", ExitCode: -1}, "firmware died: fault in the kernel"},
		{"reset", nil, Result{ExitCode: -1}, "board was reset"},
		{"emulator failed", exit("1"), Result{ExitCode: -1, Emulator: []byte("no such machine\n")}, "no such machine"},
		{"emulator killed", exec.Command("sh", "-c", "kill -9 $$").Run(), Result{ExitCode: 0}, "killed"},
		{"contradiction", exit("9"), Result{Death: "program ended, code 0, ...", ExitCode: 0}, "the emulator ended with 9"},
		{"no emulator", exec.ErrNotFound, Result{ExitCode: -1}, "is not installed"},
	} {
		err := m.judge(t.Context(), c.ran, &c.res)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, should say %q", c.name, err, c.want)
		}
	}
}

func TestCommandLine(t *testing.T) {
	m := Machine{Image: "x.elf", Args: []string{"a", "-b=1,2"}, Env: []string{"K=v"}}
	args, err := m.emulatorArgs()
	if err != nil {
		t.Fatal(err)
	}
	if want := "arg=a\x1f-b=1,,2\x1eK=v"; !strings.HasSuffix(strings.Join(args, " "), want) {
		t.Errorf("arguments %q should end with %q", args, want)
	}
	m.Args = []string{strings.Repeat("a", lineRoom)}
	if _, err := m.emulatorArgs(); err == nil {
		t.Error("a command line that the kernel cannot take is not refused")
	}
}

func TestRunWithoutEmulator(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	res, err := Run(t.Context(), Machine{Image: "x.elf"})
	if err == nil || !strings.Contains(err.Error(), "is not installed") || res.ExitCode != -1 {
		t.Errorf("%v, exit code %d", err, res.ExitCode)
	}
	if errors.Is(err, exec.ErrNotFound) {
		t.Error("the message hides behind exec's")
	}
}
