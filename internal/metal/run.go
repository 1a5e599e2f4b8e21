package metal

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// Defaults of [Options].
const (
	DefaultJobs    = 2
	DefaultTimeout = 5 * time.Minute
)

// Options say how tests run.
type Options struct {
	Run     string        // as go test's -run
	Skip    string        // as go test's -skip
	Short   bool          // as go test's -short
	Verbose bool          // show all that the tests print
	Timeout time.Duration // of one package's tests; 0 means DefaultTimeout
	Jobs    int           // emulators at a time; 0 means DefaultJobs
	Torment bool          // see [Build]
	Env     []string      // further environment of the tests, KEY=value
	Log     io.Writer     // gets the report
}

// A Job is one package's tests, and how they run. Its options' Jobs and Log are
// not looked at.
type Job struct {
	Package *Package
	Options
}

// A Report counts packages.
type Report struct {
	Passed  int
	Failed  int
	NoTests int // have no tests for the board
	Host    int // start other programs, and so are not for the board
}

func (r Report) String() string {
	s := fmt.Sprintf("%d passed, %d failed", r.Passed, r.Failed)
	if r.NoTests > 0 {
		s += fmt.Sprintf(", %d without tests", r.NoTests)
	}
	if r.Host > 0 {
		s += fmt.Sprintf(", %d not for the board", r.Host)
	}
	return s
}

// Test runs the tests of the packages that the patterns name. The error tells
// why there is no whole report; failed tests are counted by the report.
func Test(ctx context.Context, o Options, patterns ...string) (Report, error) {
	list, err := List(ctx, patterns...)
	if err != nil {
		return Report{}, err
	}
	jobs := make([]Job, len(list))
	for i, p := range list {
		jobs[i] = Job{p, o}
		jobs[i].Skip = strings.Join(append(p.corpora(), o.Skip), "|")
		jobs[i].Skip = strings.TrimSuffix(jobs[i].Skip, "|")
	}
	return RunJobs(ctx, o, jobs)
}

// RunJobs runs the jobs, o.Jobs at a time, and reports on o.Log as they end.
func RunJobs(ctx context.Context, o Options, jobs []Job) (Report, error) {
	root, err := ModuleRoot(ctx)
	if err != nil {
		return Report{}, err
	}
	goroot, err := goCommand(ctx, root, "env", "GOROOT")
	if err != nil {
		return Report{}, err
	}
	workers := o.Jobs
	if workers <= 0 {
		workers = DefaultJobs
	}
	r := &runner{root: root, goroot: strings.TrimSpace(string(goroot)), log: o.Log, live: min(workers, len(jobs)) == 1}
	todo := make(chan Job)
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for j := range todo {
				r.one(ctx, j)
			}
		})
	}
	for _, j := range jobs {
		todo <- j
	}
	close(todo)
	all.Wait()
	if ctx.Err() != nil {
		return r.report, fmt.Errorf("metal: stopped: %w", context.Cause(ctx))
	}
	return r.report, nil
}

type runner struct {
	root   string // folder of the module
	goroot string // GOROOT, which go test also gives to tests
	live   bool   // one emulator at a time: what it says can be shown as it comes

	mu     sync.Mutex
	log    io.Writer
	report Report
}

// one runs one job and reports on it. Nothing starts once ctx has ended.
func (r *runner) one(ctx context.Context, j Job) {
	p := j.Package
	switch {
	case ctx.Err() != nil:
	case !p.HasTests():
		r.say(&r.report.NoTests, "")
	case p.StartsPrograms():
		r.say(&r.report.Host, "host\t%s\tstarts other programs (imports os/exec)\n", p.ImportPath)
	default:
		r.run(ctx, j)
	}
}

func (r *runner) say(count *int, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	*count++
	fmt.Fprintf(r.log, format, args...)
}

// run builds and runs the tests of a package.
func (r *runner) run(ctx context.Context, j Job) {
	p := j.Package
	image, err := Build{Test: true, Torment: j.Torment}.TestImage(ctx, p)
	if err != nil {
		r.say(&r.report.Failed, "%v\nFAIL\t%s\tbuild failed\n", err, p.ImportPath)
		return
	}
	temp, err := os.MkdirTemp("", "metal-")
	if err != nil {
		r.say(&r.report.Failed, "FAIL\t%s\tmetal: %v\n", p.ImportPath, err)
		return
	}
	defer os.RemoveAll(temp)
	m := j.machine(image, temp, r.goroot)
	if m.QEMUArgs, err = p.emulatorArgs(temp); err != nil {
		r.say(&r.report.Failed, "FAIL\t%s\t%v\n", p.ImportPath, err)
		return
	}
	if j.Verbose && r.live {
		m.Console = r.log
	}
	res, err := Run(ctx, m)
	shown := res.Console
	if m.Console != nil {
		shown = nil
	}
	took := res.Took.Seconds()
	switch {
	case err == nil && res.ExitCode == 0 && !j.Verbose:
		r.say(&r.report.Passed, "ok  \t%s\t%.1fs\n", p.ImportPath, took)
	case err == nil && res.ExitCode == 0:
		r.say(&r.report.Passed, "%sok  \t%s\t%.1fs\n", shown, p.ImportPath, took)
	case err == nil:
		r.say(&r.report.Failed, "%s\nFAIL\t%s\t%.1fs\texit code %d\n", shown, p.ImportPath, took, res.ExitCode)
	default:
		r.say(&r.report.Failed, "%s\n%s%v\nFAIL\t%s\t%.1fs\n", shown, res.Emulator, err, p.ImportPath, took)
	}
}

// machine makes the board that runs a package's test image. The tests' own limit
// comes first: it says which test hangs, and where.
func (j *Job) machine(image, temp, goroot string) Machine {
	timeout := j.Timeout
	if timeout == 0 {
		timeout = DefaultTimeout
	}
	name := j.Package.ImportPath
	args := []string{name[strings.LastIndexByte(name, '/')+1:] + ".test", "-test.timeout=" + timeout.String()}
	for _, f := range []struct {
		flag string
		set  bool
	}{
		{"-test.short", j.Short},
		{"-test.v", j.Verbose},
		{"-test.run=" + j.Run, j.Run != ""},
		{"-test.skip=" + j.Skip, j.Skip != ""},
	} {
		if f.set {
			args = append(args, f.flag)
		}
	}
	env := []string{"PWD=" + j.Package.Dir, "TMPDIR=" + temp, "GOROOT=" + goroot}
	return Machine{
		Image: image,
		Args:  args,
		Env:   append(env, j.Env...),
		Dir:   j.Package.Dir,
		Limit: timeout + 20*time.Second,
	}
}
