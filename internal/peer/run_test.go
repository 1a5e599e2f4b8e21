package peer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nitro/internal/insncount"
)

// guestProgram builds testdata/guest for the guest.
func guestProgram(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "guest")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", file, "./testdata/guest")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0", "GOFLAGS=")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return file
}

// TestRun hands over all that a job can have, and counts instructions both ways.
func TestRun(t *testing.T) {
	t.Parallel()
	given := filepath.Join(t.TempDir(), "given")
	if err := os.WriteFile(given, []byte("a file of the job\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	plugin, err := insncount.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	counts := filepath.Join(t.TempDir(), "counts")
	var live bytes.Buffer
	res, err := Run(t.Context(), Job{
		Program:  guestProgram(t),
		Args:     []string{"show", "two words", ""},
		Env:      []string{"A=b c"},
		Files:    map[string]string{"/data/given": given},
		Modules:  []string{"nvmet-tcp", "dm-crypt", "crc32c_generic"},
		Icount:   true,
		QEMUArgs: insncount.Args(plugin, counts, insncount.Options{}),
		Live:     &live,
	})
	if err != nil {
		t.Fatal(err)
	}
	output := string(res.Output)
	const begin = "args [\"show\" \"two words\" \"\"]\nenv [\"A=b c\"]\nin /tmp <nil>\n/data/given <nil>\na file of the job\n/proc/modules <nil>\n"
	if !strings.HasPrefix(output, begin) || !strings.HasSuffix(output, "\nno line feed at the end") {
		t.Errorf("output\n%s\nshould begin with\n%s", output, begin)
	}
	for _, module := range []string{"nvmet_tcp ", "nvmet ", "dm_crypt ", "dm_mod "} {
		if !strings.Contains(output, "\n"+module) {
			t.Errorf("module %sis not loaded", module)
		}
	}
	if res.ExitCode != 7 || res.Signal != 0 {
		t.Errorf("exit code %d, signal %d, want 7 and 0", res.ExitCode, res.Signal)
	}
	if !bytes.Contains(live.Bytes(), res.Output) || !bytes.Contains(res.Console, []byte("Linux version")) {
		t.Error("the live output or the console is incomplete")
	}
	c, err := insncount.Read(counts)
	if err != nil {
		t.Fatal(err)
	}
	if c.User < 1e6 || c.Privileged < 1e8 || len(c.Runs) == 0 {
		t.Errorf("implausible counts %+v", c)
	}
}

// TestRunSignal expects every byte of a large output, and the signal.
func TestRunSignal(t *testing.T) {
	t.Parallel()
	res, err := Run(t.Context(), Job{Program: guestProgram(t), Args: []string{"pour"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Output) != 1<<20 {
		t.Fatalf("%d bytes of output, want %d", len(res.Output), 1<<20)
	}
	for i, b := range res.Output {
		if b != byte(i) {
			t.Fatalf("byte %d is %#x", i, b)
		}
	}
	if res.ExitCode != -1 || res.Signal != 9 {
		t.Errorf("exit code %d, signal %d, want -1 and 9", res.ExitCode, res.Signal)
	}
}

// TestRunNetwork has a program of the guest answer through a forwarded port.
func TestRunNetwork(t *testing.T) {
	t.Parallel()
	here := freePort(t)
	answers := make(chan string, 1)
	var heard []byte
	asked := false
	live := writerFunc(func(p []byte) (int, error) {
		if heard = append(heard, p...); !asked && bytes.Contains(heard, []byte("serving\n")) {
			asked = true
			go func() { answers <- ask(here) }()
		}
		return len(p), nil
	})
	res, err := Run(t.Context(), Job{Program: guestProgram(t), Args: []string{"serve"},
		Network: true, Forward: map[int]int{here: 7}, Live: live})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(res.Output), fmt.Sprintf("serving\n%d <nil>\n", len(question)); got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	if got := <-answers; got != strings.ToUpper(question) {
		t.Errorf("%d bytes of answer, want %d: %.200q", len(got), len(question), got)
	}
	if res.Began <= 0 || res.Began >= res.Took {
		t.Errorf("began after %v of %v", res.Began, res.Took)
	}
}

// question is longer than a frame, and than a segment that a PHY could hold.
var question = strings.Repeat("how many roads? ", 4096)

// ask puts the question to a port of this machine and gives the answer, or what went
// wrong.
func ask(port int) string {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Minute)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := io.WriteString(c, question); err != nil {
		return err.Error()
	}
	c.(*net.TCPConn).CloseWrite()
	answer, err := io.ReadAll(c)
	if err != nil {
		return err.Error()
	}
	return string(answer)
}

// freePort gives a TCP port of the loopback interface that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// TestRunDebian runs a program of Debian's, which needs libraries.
func TestRunDebian(t *testing.T) {
	t.Parallel()
	program, err := Program("iperf3")
	if err != nil {
		t.Fatal(err)
	}
	res, err := Run(t.Context(), Job{Program: program, Args: []string{"--version"}})
	if err != nil || res.ExitCode != 0 || !bytes.HasPrefix(res.Output, []byte("iperf 3.")) {
		t.Errorf("exit code %d, %v, output %q", res.ExitCode, err, res.Output)
	}
	if res.Began <= 0 || res.Began >= res.Took {
		t.Errorf("began after %v of %v", res.Began, res.Took)
	}
	if program, err := Program("no-such"); err == nil {
		t.Errorf("no-such is %s", program)
	}
}

// TestRunStopped expects a run to end soon after its context is cancelled, here
// once the program spoke, and to give what it said until then.
func TestRunStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var spoke time.Time
	var heard []byte
	live := writerFunc(func(p []byte) (int, error) {
		if heard = append(heard, p...); spoke.IsZero() && bytes.Contains(heard, []byte("hanging\n")) {
			spoke = time.Now()
			cancel()
		}
		return len(p), nil
	})
	res, err := Run(ctx, Job{Program: guestProgram(t), Args: []string{"hang"}, Live: live})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if string(res.Output) != "hanging\n" {
		t.Errorf("output %q", res.Output)
	}
	if late := time.Since(spoke); late > 2*grace {
		t.Errorf("the emulator ended %v after the cancellation", late)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestRunLimit expects the job's limit to stop a run, here while it boots.
func TestRunLimit(t *testing.T) {
	t.Parallel()
	const limit = time.Second
	res, err := Run(t.Context(), Job{Program: guestProgram(t), Args: []string{"hang"}, Limit: limit})
	if err == nil || !strings.Contains(err.Error(), "limit of 1s passed") {
		t.Errorf("error %v", err)
	}
	if res.Took < limit || res.Took > limit+2*grace {
		t.Errorf("took %v, limit %v", res.Took, limit)
	}
}

// TestRunCrash expects a dead kernel to be an error that shows its last words.
func TestRunCrash(t *testing.T) {
	t.Parallel()
	res, err := Run(t.Context(), Job{Program: guestProgram(t), Args: []string{"crash"}})
	if err == nil || !strings.Contains(err.Error(), "no end marker") || !strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("error %v", err)
	}
	if string(res.Output) != "crashing\n" {
		t.Errorf("output %q", res.Output)
	}
}

// TestRunCannotStart expects the guest to say why it could not run a program.
func TestRunCannotStart(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("no program\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := Run(t.Context(), Job{Program: script})
	if err == nil || !strings.Contains(err.Error(), "exec format error") {
		t.Errorf("error %v", err)
	}
}

// TestRunRefuses expects jobs that cannot be to be refused before anything boots.
func TestRunRefuses(t *testing.T) {
	program := guestProgram(t)
	for _, c := range []struct {
		job  Job
		says string
	}{
		{Job{Program: filepath.Join(t.TempDir(), "none")}, "no such file"},
		{Job{Program: program, Modules: []string{"no-such"}}, "no module no_such"},
		{Job{Program: program, Files: map[string]string{"/tmp/x": program}}, "hidden by a mounted file system"},
		{Job{Program: program, Files: map[string]string{"x": program}}, "not a clean absolute path"},
		{Job{Program: program, Files: map[string]string{"/init": program}}, "there twice"},
	} {
		res, err := Run(t.Context(), c.job)
		if err == nil || !strings.Contains(err.Error(), c.says) || res.Took != 0 {
			t.Errorf("%+v: error %v after %v, want %q", c.job, err, res.Took, c.says)
		}
	}
}
