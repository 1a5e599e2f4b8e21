package kernelcheck

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strings"
)

// A Count is the size of the kernel. A line counts unless it is blank or a
// comment only.
type Count struct {
	Reachable int            // lines of functions, in Go and assembly, that can run in the kernel
	All       int            // lines of the packages in a product image, with declarations
	Asm       map[string]int // of those, lines of assembly by file
	Unsafe    map[string]int // uses of package unsafe by file
}

// dirs are the packages beneath the Go runtime, for the board that is measured.
var dirs = []string{"board/kernel", "board/cpu", "board/evk"}

// CountKernel counts. reached are the lines of the line table that can run.
func CountKernel(root string, reached map[Line]bool) (Count, error) {
	c := Count{Asm: map[string]int{}, Unsafe: map[string]int{}}
	for _, dir := range dirs {
		files, err := os.ReadDir(filepath.Join(root, dir))
		if err != nil {
			return c, fmt.Errorf("kernelcheck: %w", err)
		}
		for _, f := range files {
			if err := c.file(root, dir+"/"+f.Name(), reached); err != nil {
				return c, fmt.Errorf("kernelcheck: %w", err)
			}
		}
	}
	return c, nil
}

// testOnly reports whether a file is in no product image.
func testOnly(text string) bool {
	first, _, _ := strings.Cut(text, "\n")
	return first == "//go:build boardtest" || first == "//go:build boardtorment"
}

func (c *Count) file(root, name string, reached map[Line]bool) error {
	asm := strings.HasSuffix(name, ".s")
	if !asm && !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return err
	}
	text := string(b)
	if testOnly(text) {
		return nil
	}
	code := codeLines(text)
	total := 0
	for _, is := range code {
		if is {
			total++
		}
	}
	c.All += total
	if asm {
		c.Asm[name] = total
		c.asmFile(name, text, code, reached)
		return nil
	}
	return c.goFile(name, text, code, reached)
}

// asmFile counts the blocks of a file of assembly, each from a TEXT or GLOBL line to
// the next TEXT line, that have a line which can run. A file of data alone counts
// whole: it is the table of system calls.
func (c *Count) asmFile(name, text string, code []bool, reached map[Line]bool) {
	if !strings.Contains(text, "\nTEXT") {
		for _, is := range code {
			if is {
				c.Reachable++
			}
		}
		return
	}
	runs, lines := false, 0
	end := func() {
		if runs {
			c.Reachable += lines
		}
		runs, lines = false, 0
	}
	for i, l := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		if strings.HasPrefix(l, "TEXT") {
			end()
		}
		runs = runs || reached[Line{"nitro/" + name, i + 1}]
		if code[i+1] {
			lines++
		}
	}
	end()
}

// goFile counts the functions of a file that have a line which can run, and the
// uses of unsafe.
func (c *Count) goFile(name, text string, code []bool, reached map[Line]bool) error {
	set := token.NewFileSet()
	f, err := parser.ParseFile(set, name, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(f, func(n ast.Node) bool {
		if s, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := s.X.(*ast.Ident); ok && x.Name == "unsafe" && s.Sel.Name != "Sizeof" {
				c.Unsafe[name]++
			}
		}
		return true
	})
	for _, d := range f.Decls {
		fn, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		first, last := set.Position(fn.Pos()).Line, set.Position(fn.End()).Line
		runs, lines := false, 0
		for n := first; n <= last; n++ {
			runs = runs || reached[Line{"nitro/" + name, n}]
			if code[n] {
				lines++
			}
		}
		if runs {
			c.Reachable += lines
		}
	}
	return nil
}

// codeLines tells which lines hold more than a comment; line 1 is at 1.
func codeLines(text string) []bool {
	code := []bool{false}
	s := bufio.NewScanner(strings.NewReader(text))
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		code = append(code, line != "" && !strings.HasPrefix(line, "//"))
	}
	return code
}

// Sum adds up counts by file.
func Sum(byFile map[string]int) (n int) {
	for _, v := range byFile {
		n += v
	}
	return n
}
