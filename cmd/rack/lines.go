package main

import (
	"io"
	"strings"
)

// lines writes the host's console line by line behind a prefix, without what moves a
// terminal's cursor: two consoles share one terminal.
type lines struct {
	to     io.Writer
	prefix string
	line   []byte
	escape bool // within a control sequence (ECMA-48, 5.4)
}

// maxLine is the longest line that is shown whole.
const maxLine = 500

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	for _, b := range p {
		switch {
		case b == 0x1b:
			l.escape = true
		case l.escape:
			l.escape = b == '[' || b < '@' || b > '~' // ends with a letter
		case b >= ' ' && b <= '~':
			l.line = append(l.line, b)
		}
		if b == '\n' || b == '\r' || len(l.line) == maxLine {
			if err := l.flush(); err != nil {
				return 0, err
			}
		}
	}
	return len(p), nil
}

func (l *lines) flush() error {
	text := strings.TrimSpace(string(l.line))
	l.line = l.line[:0]
	if text == "" {
		return nil
	}
	_, err := io.WriteString(l.to, l.prefix+text+"\n")
	return err
}
