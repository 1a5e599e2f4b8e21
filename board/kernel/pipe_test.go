//go:build boardtest

package kernel

import "testing"

func TestPollPipe(t *testing.T) {
	k := new(kernel)
	p := &k.pipe[3]
	for _, c := range []struct {
		name string
		f    file
		pipe pipe
		want uint32
	}{
		{"pipe, empty", file{kind: filePipeRead, which: 3}, pipe{writer: 1}, 0},
		{"pipe, some", file{kind: filePipeRead, which: 3}, pipe{writer: 1, read: ^uint32(0)}, epollIn},
		{"pipe, empty, no writer", file{kind: filePipeRead, which: 3}, pipe{}, epollHup},
		{"pipe, some, no writer", file{kind: filePipeRead, which: 3}, pipe{written: 1}, epollIn | epollHup},
		{"pipe, room for a page", file{kind: filePipeWrite, which: 3}, pipe{reader: 1, written: pipeSize - pageSize}, epollOut},
		{"pipe, room for less", file{kind: filePipeWrite, which: 3}, pipe{reader: 1, written: pipeSize - pageSize + 1}, 0},
		{"pipe, no reader", file{kind: filePipeWrite, which: 3}, pipe{written: pipeSize}, epollErr},
	} {
		*p = c.pipe
		if got := k.poll(&c.f); got != c.want {
			t.Errorf("%s: %#x, not %#x", c.name, got, c.want)
		}
	}
}
