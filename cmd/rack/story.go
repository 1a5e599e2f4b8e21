package main

import (
	"fmt"
	"io"
	"time"
)

// A story tells what happens, a line a step, each with the time since the beginning and the
// time that it took. A step is told as done once its check has passed.
type story struct {
	out   io.Writer
	began time.Time
	steps int
}

func newStory(out io.Writer) *story { return &story{out: out, began: time.Now()} }

// titleWidth is where what was found begins.
const titleWidth = 44

// step does a step and tells it. What do gives says what was found.
func (s *story) step(title string, do func() (found string, err error)) error {
	fmt.Fprintf(s.out, "%6.1f s  %-*s ", time.Since(s.began).Seconds(), titleWidth, title)
	from := time.Now()
	found, err := do()
	if err != nil {
		fmt.Fprintf(s.out, "FAILED\n")
		return fmt.Errorf("%s: %w", title, err)
	}
	s.steps++
	fmt.Fprintf(s.out, "ok, %.1f s: %s\n", time.Since(from).Seconds(), found)
	return nil
}

// end tells that all is done.
func (s *story) end() {
	fmt.Fprintf(s.out, "%6.1f s  all %d steps are done, and each was checked\n", time.Since(s.began).Seconds(), s.steps)
}
