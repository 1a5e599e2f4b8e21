package console

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

// TestExpect: patterns match in order, however the text is cut, and behind what was skipped.
func TestExpect(t *testing.T) {
	const text = "boot 1\r\nready 7\r\nboot 2\r\n"
	for n := 1; n <= len(text); n++ {
		var also bytes.Buffer
		c := New(&also)
		go func() {
			for rest := text; rest != ""; {
				k := min(n, len(rest))
				c.Write([]byte(rest[:k]))
				rest = rest[k:]
			}
			c.End(errors.New("power off"))
		}()
		for _, want := range []string{"1", "2"} {
			if m, err := c.Expect(`boot (\d)\r\n`, time.Minute); err != nil || m[1] != want {
				t.Fatalf("pieces of %d: %q, %v", n, m, err)
			}
		}
		if _, err := c.Expect(`ready (\d)`, time.Minute); err == nil || !strings.Contains(err.Error(), "power off") {
			t.Errorf("what came before is matched again, or the end is not told: %v", err)
		}
		if got := string(c.Said()); got != text || also.String() != text {
			t.Errorf("%q and %q", got, also.String())
		}
	}
}

// TestSkip: what was said before does not count, and a limit is kept.
func TestSkip(t *testing.T) {
	c := New(nil)
	c.Write([]byte("ready\r\n"))
	c.Skip()
	if _, err := c.Expect(`ready`, time.Millisecond); err == nil || !strings.Contains(err.Error(), "did not come within 1ms") {
		t.Errorf("%v", err)
	}
	if _, err := c.Expect(`(`, time.Minute); err == nil {
		t.Error("half a pattern is taken")
	}
}

// TestMost: a board that never stops is not kept whole, and what is waited for is found still.
func TestMost(t *testing.T) {
	c := New(nil)
	line := bytes.Repeat([]byte("."), 1<<20)
	for range 3 * Most >> 20 {
		c.Write(line)
	}
	if n := len(c.Said()); n < Most || n > 2*Most {
		t.Errorf("%d bytes are kept", n)
	}
	c.Write([]byte("ready\r\n"))
	if _, err := c.Expect(`ready\r\n`, time.Minute); err != nil {
		t.Error(err)
	}
}
