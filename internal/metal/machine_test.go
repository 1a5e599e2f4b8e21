package metal

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
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

// fakeEmulator puts a shell script in the emulator's place. It leaves its process
// id in the file whose name it returns.
func fakeEmulator(t *testing.T, script string) (pidFile string) {
	t.Helper()
	dir := t.TempDir()
	pidFile = filepath.Join(dir, "pid")
	text := "#!/bin/sh\necho $$ > " + pidFile + "\n" + script
	if err := os.WriteFile(filepath.Join(dir, Emulator), []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	return pidFile
}

// A writerFunc is called at each write.
type writerFunc func()

func (f writerFunc) Write(p []byte) (int, error) {
	f()
	return len(p), nil
}

// TestRunEnds checks that an emulator that hangs is gone when Run returns, whether
// a limit passed or the caller gave up.
func TestRunEnds(t *testing.T) {
	for _, c := range []struct {
		name   string
		limit  time.Duration
		cancel bool // as soon as the emulator has said something
		want   string
	}{
		{"limit", 3 * time.Second, false, "limit of 3s passed"}, // a busy machine takes long to start a shell
		{"caller", time.Minute, true, "context canceled"},
	} {
		t.Run(c.name, func(t *testing.T) {
			pidFile := fakeEmulator(t, "echo half a li\nexec sleep 60\n")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			m := Machine{Image: "x.elf", Limit: c.limit}
			if c.cancel {
				m.Console = writerFunc(cancel)
			}
			res, err := Run(ctx, m)
			if err == nil || !strings.Contains(err.Error(), c.want) || res.ExitCode != -1 {
				t.Errorf("%v, exit code %d; should say %q", err, res.ExitCode, c.want)
			}
			if string(res.Console) != "half a li\n" {
				t.Errorf("the console is lost: %q", res.Console)
			}
			text, err := os.ReadFile(pidFile)
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
				t.Errorf("the emulator, process %d, is still there: %v", pid, err)
			}
		})
	}
}

func TestRunGivesTheExitCode(t *testing.T) {
	fakeEmulator(t, "printf 'hello\\n\\n"+strings.TrimSpace(lastLine)+"\\n'\nexit 3\n")
	res, err := Run(t.Context(), Machine{Image: "x.elf"})
	if err != nil || res.ExitCode != 3 || string(res.Console) != "hello\n" {
		t.Errorf("%v, exit code %d, console %q", err, res.ExitCode, res.Console)
	}
}
