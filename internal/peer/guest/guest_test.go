package guest

import (
	"errors"
	"testing"
)

func TestParse(t *testing.T) {
	const n = "00ff"
	for _, c := range []struct {
		name, stream, output string
		status               Status
		err                  string
	}{
		{"exit", "noise" + Begin(n) + "one\ntwo" + End(n, Status{Exit: 3}), "one\ntwo", Status{Exit: 3}, ""},
		{"nothing said", Begin(n) + End(n, Status{}), "", Status{}, ""},
		{"signal", Begin(n) + "x\n" + End(n, Status{Exit: -1, Signal: 9}), "x\n", Status{Exit: -1, Signal: 9}, ""},
		{"another run's marker", Begin(n) + End("0100", Status{}) + End(n, Status{}), End("0100", Status{}), Status{}, ""},
		{"could not start", Fail(n, errors.New("no\nsuch")), "", Status{}, "no such"},
		{"no begin", "boot", "", Status{}, ErrNoEnd.Error()},
		{"cut in the output", Begin(n) + "half", "half", Status{}, ErrNoEnd.Error()},
		{"cut in the marker", Begin(n) + "all\npeer:" + n + ":end exit 1", "all", Status{}, ErrNoEnd.Error()},
		{"bad status", Begin(n) + "\npeer:" + n + ":end exit -1\n", "", Status{}, `bad end marker "exit -1"`},
		{"unknown status", Begin(n) + "\npeer:" + n + ":end left 1\n", "", Status{}, `bad end marker "left 1"`},
	} {
		output, status, err := Parse([]byte(c.stream), n)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if string(output) != c.output || status != c.status || said != c.err {
			t.Errorf("%s: got %q, %v, %q; want %q, %v, %q", c.name, output, status, said, c.output, c.status, c.err)
		}
	}
}
