package metal

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"nitro/internal/tied"
)

// LinkFlags are what makes a linux/arm Go program an image: it is linked to where
// the boot chain loads it, begins at the board's entry symbol, and its segments
// start on pages, so that each can have rights of its own. The bootloader lies where it
// does not overlap the image that it starts.
const (
	LinkFlags           = "-T 0x80010000 -E cpuentry -R 0x1000"
	BootloaderLinkFlags = "-T 0x98010000 -E cpuentry -R 0x1000"
)

// buildLimit bounds one build. The longest, of the runtime's tests with an empty
// cache, takes about a minute on two busy cores.
const buildLimit = 10 * time.Minute

// Build says how an image is made.
type Build struct {
	Tags    []string // build tags beside those below
	Test    bool     // tag boardtest: semihosting, traces with user memory
	Torment bool     // tag boardtorment: a timer interrupt every 150 us, and injected SIGURG
	Symbols bool     // keep the debugger's information

	// Bootloader: tag bootloader, linked to where the bootloader lies: an image that
	// may start another.
	Bootloader bool
}

// Image builds the program pkg (an import path, or a path that starts with a dot)
// of the module into the file out.
func (b Build) Image(ctx context.Context, pkg, out string) error {
	root, err := ModuleRoot(ctx)
	if err != nil {
		return err
	}
	return b.compile(ctx, root, out, pkg, "build")
}

// TestImage builds the test image of a package and gives its path.
func (b Build) TestImage(ctx context.Context, p *Package) (string, error) {
	root, err := ModuleRoot(ctx)
	if err != nil {
		return "", err
	}
	folder := filepath.Join(root, "build", "metal")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", fmt.Errorf("metal: %w", err)
	}
	name := strings.ReplaceAll(p.ImportPath, "/", "_")
	source, overlay := filepath.Join(folder, name+".source"), filepath.Join(folder, name+".json")
	replace, err := json.Marshal(map[string]any{
		"Replace": map[string]string{filepath.Join(p.Dir, "zz_board_test.go"): source},
	})
	if err != nil {
		return "", fmt.Errorf("metal: %s: %w", p.ImportPath, err)
	}
	text := fmt.Sprintf("package %s_test\n\nimport _ %q\n", p.Name, board)
	if err := errors.Join(writeChanged(source, []byte(text)), writeChanged(overlay, replace)); err != nil {
		return "", fmt.Errorf("metal: %s: %w", p.ImportPath, err)
	}
	out := filepath.Join(folder, name+".elf")
	if b.Torment {
		out = filepath.Join(folder, name+"-torment.elf")
	}
	if b.Symbols {
		out = filepath.Join(folder, name+"-symbols.elf")
	}
	return out, b.compile(ctx, root, out, p.ImportPath, "test", "-c", "-overlay", overlay)
}

// board is the package that a test image gets its board from.
const board = "nitro/board/evk"

// compile runs the go command in the module's folder.
func (b Build) compile(ctx context.Context, root, out, pkg string, args ...string) error {
	tags, link := b.Tags, LinkFlags
	if b.Bootloader {
		tags, link = append(tags[:len(tags):len(tags)], "bootloader"), BootloaderLinkFlags
	}
	if b.Test {
		tags = append(tags[:len(tags):len(tags)], "boardtest")
	}
	if b.Torment {
		tags = append(tags[:len(tags):len(tags)], "boardtorment")
	}
	if !b.Symbols {
		link += " -w"
	}
	args = append(args, "-trimpath", "-tags", strings.Join(tags, ","), "-ldflags", link, "-o", out, pkg)
	if _, err := goCommand(ctx, root, args...); err != nil {
		return err
	}
	return checkSize(out)
}

// imageSpan is the unit of RAM that an image, zeroed variables included, must lie in
// (board/kernel, layout.go). The kernel stops without a word at one that does not: it
// has no console yet.
const imageSpan uint64 = 64 << 20

func checkSize(image string) error {
	f, err := elf.Open(image)
	if err != nil {
		return fmt.Errorf("metal: %s: %w", image, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		limit := f.Entry&^(imageSpan-1) + imageSpan
		if end := p.Vaddr + p.Memsz; p.Type == elf.PT_LOAD && end > limit {
			return fmt.Errorf("metal: %s: the image ends at %#x, and must end below %#x: make its variables smaller", image, end, limit)
		}
	}
	return nil
}

// goCommand runs the go command for the board and gives what it printed.
func goCommand(ctx context.Context, dir string, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, buildLimit, fmt.Errorf("limit of %v passed", buildLimit))
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0", "GOFLAGS=")
	cmd.WaitDelay = time.Second
	var out, complaints bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := tied.Run(cmd); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("metal: go %s: %w\n%s", strings.Join(args, " "), err, complaints.Bytes())
	}
	return out.Bytes(), nil
}

// ModuleRoot gives the folder of the module that the working directory is in.
func ModuleRoot(ctx context.Context) (string, error) {
	out, err := goCommand(ctx, ".", "env", "GOMOD")
	if err != nil {
		return "", err
	}
	file := strings.TrimSpace(string(out))
	if filepath.Base(file) != "go.mod" {
		return "", fmt.Errorf("metal: the working directory is in no module: run this inside the source tree")
	}
	return filepath.Dir(file), nil
}

// writeChanged writes a file unless it holds this already, so that what was built
// from it stays fresh.
func writeChanged(file string, data []byte) error {
	if old, err := os.ReadFile(file); err == nil && bytes.Equal(old, data) {
		return nil
	}
	return os.WriteFile(file, data, 0o644)
}
