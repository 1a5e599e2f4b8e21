// Package console keeps what a board says on its serial console, from wherever that comes,
// and waits for what a test expects there.
//
// A [Console] is written to by whoever has the line: an emulator's process, or a serial
// device. It keeps the last [Most] bytes.
package console

import (
	"bytes"
	"fmt"
	"io"
	"regexp"
	"sync"
	"time"
)

// Most is how many bytes are kept at least; twice as many at most.
const Most = 32 << 20

// A Console is a transcript. It may be written to and read by several goroutines; Expect and
// Skip by one at a time.
type Console struct {
	mu   sync.Mutex
	said []byte
	seen int           // how much of it Expect has gone over
	more chan struct{} // closed by the next write, and by End
	over error         // why nothing more comes
	also io.Writer
}

// New makes a console. What comes also goes to a writer, unless that is nil.
func New(also io.Writer) *Console { return &Console{more: make(chan struct{}), also: also} }

// Write implements io.Writer.
func (c *Console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, p...)
	if cut := len(c.said) - Most; cut > Most {
		c.said = append([]byte(nil), c.said[cut:]...)
		c.seen = max(c.seen-cut, 0)
	}
	c.wake()
	if c.also != nil {
		return c.also.Write(p)
	}
	return len(p), nil
}

// wake wakes who waits. The caller has the lock.
func (c *Console) wake() {
	close(c.more)
	c.more = make(chan struct{})
}

// End says that nothing more comes, and why.
func (c *Console) End(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over == nil {
		c.over = why
		c.wake()
	}
}

// Said gives all that is kept, with its carriage returns.
func (c *Console) Said() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.said[:len(c.said):len(c.said)]
}

// Skip has Expect begin behind all that was said so far.
func (c *Console) Skip() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = len(c.said)
}

// Expect waits until the console matches a pattern, behind what earlier calls have matched,
// and returns the match and its groups. The pattern's last line should end in \r\n or in
// something else that ends it, as half a line may match. The error holds the end of the
// console.
func (c *Console) Expect(pattern string, limit time.Duration) ([]string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("console: %w", err)
	}
	for late := time.After(limit); ; {
		match, more, over := c.match(re)
		switch {
		case match != nil:
			return match, nil
		case over != nil:
			return nil, fmt.Errorf("console: it ended (%w) without saying %q; it ends in\n%s", over, pattern, c.Tail())
		}
		select {
		case <-more:
		case <-late:
			return nil, fmt.Errorf("console: %q did not come within %v; it ends in\n%s", pattern, limit, c.Tail())
		}
	}
}

// match looks once; more is closed when there is reason to look again.
func (c *Console) match(re *regexp.Regexp) (groups []string, more <-chan struct{}, over error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	said := c.said[c.seen:]
	at := re.FindSubmatchIndex(said)
	if at == nil {
		return nil, c.more, c.over
	}
	c.seen += at[1]
	for i := 0; i < len(at); i += 2 {
		s := ""
		if at[i] >= 0 {
			s = string(said[at[i]:at[i+1]])
		}
		groups = append(groups, s)
	}
	return groups, nil, nil
}

// Tail is the end of the console, for errors.
func (c *Console) Tail() []byte {
	const most = 3000
	said := c.Said()
	return bytes.ReplaceAll(said[max(0, len(said)-most):], []byte("\r"), nil)
}
