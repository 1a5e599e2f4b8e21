// Command cmd prints the size of the kernel, a figure a line: name, value, unit. It
// is run in the module's root.
//
// kernel.lines counts what can be reached from the exception vectors, in Go and in
// assembly; kernel.all_lines adds what runs at boot and what is only declared. Blank lines and comments
// do not count.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"nitro/internal/kernelcheck"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "kernelcheck-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	image := filepath.Join(dir, "image")
	if err := kernelcheck.Build(".", kernelcheck.Smallest, "", image); err != nil {
		return err
	}
	m, err := kernelcheck.Open(image)
	if err != nil {
		return err
	}
	c, err := kernelcheck.CountKernel(".", m.From(kernelcheck.KernelRules(), kernelcheck.Roots[1:]...).Lines())
	if err != nil {
		return err
	}
	fmt.Println("kernel.lines", c.Reachable, "lines")
	fmt.Println("kernel.all_lines", c.All, "lines")
	fmt.Println("kernel.asm_lines", kernelcheck.Sum(c.Asm), "lines")
	fmt.Println("kernel.unsafe", kernelcheck.Sum(c.Unsafe), "uses")
	return nil
}
