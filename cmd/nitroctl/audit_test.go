package main

import (
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"nitro/net/audit"
)

// TestAddCheckpoint speaks C2SP tlog-witness to a witness, and to some that are none.
func TestAddCheckpoint(t *testing.T) {
	x := audit.Export{Checkpoint: "log\n9\nroot\n\n— log sig\n", Older: "log\n5\nroot\n\n— log sig\n", Consistency: [][]byte{{1, 2}, {3}}}
	var got string
	status, answer := http.StatusOK, "— w.example Zm9v\n"
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		got = q.Method + " " + q.URL.Path + "\n" + string(b)
		w.WriteHeader(status)
		io.WriteString(w, answer)
	}))
	defer s.Close()
	lines, err := addCheckpoint(s.URL+"/", time.Minute, x)
	want := "POST /add-checkpoint\nold 5\n" + base64.StdEncoding.EncodeToString([]byte{1, 2}) + "\n" + base64.StdEncoding.EncodeToString([]byte{3}) + "\n\n" + x.Checkpoint
	if err != nil || lines != answer || got != want {
		t.Errorf("%q, %v; asked %q", lines, err, got)
	}
	x.Older, x.Consistency = "", nil
	if _, err := addCheckpoint(s.URL, time.Minute, x); err != nil || !strings.HasPrefix(got, "POST /add-checkpoint\nold 0\n\nlog\n") {
		t.Errorf("the first time: %v, %q", err, got)
	}
	for _, c := range []struct {
		status       int
		answer, want string
	}{
		{http.StatusConflict, "7\n", "has seen 7 records"},
		{http.StatusForbidden, "no", "HTTP 403"},
		{http.StatusOK, "<html>\n", "no cosignature line"},
		{http.StatusOK, "— w.example Zm9v", "no cosignature line"},
	} {
		status, answer = c.status, c.answer
		if _, err := addCheckpoint(s.URL, time.Minute, x); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d %q: %v", c.status, c.answer, err)
		}
	}
	s.Close()
	var away *unreachableError
	if _, err := addCheckpoint(s.URL, time.Minute, x); !errors.As(err, &away) {
		t.Errorf("nobody there: %v", err)
	}
}
