package standing_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"nitro/boot/code"
	"nitro/net/standing"
)

// A fake is a board; what its functions leave out it cannot do.
type fake struct {
	state    string
	evidence func(nonce []byte) ([]byte, error)
	seal     func() error
	ticket   func(b []byte) error
}

func (f fake) Status() standing.Status {
	s := standing.Status{State: f.state, Board: "b"}
	if f.state == standing.InQuarantine {
		s.Quarantine = &standing.Quarantine{Reason: standing.ReasonOf(code.StoreRolledBack.Errorf("counter 7, not 9"))}
	}
	return s
}
func (f fake) Evidence(nonce []byte) ([]byte, error) { return f.evidence(nonce) }
func (f fake) CheckSeal() error                      { return f.seal() }
func (f fake) Ticket(b []byte) error                 { return f.ticket(b) }

func do(t *testing.T, h http.Handler, method, path, body string) (int, map[string]any) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	var v map[string]any
	if w.Header().Get("Content-Type") == "application/json" {
		if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
			t.Fatalf("%q: %v", w.Body, err)
		}
	}
	return w.Code, v
}

func TestStatus(t *testing.T) {
	_, v := do(t, standing.Handler(fake{state: standing.InQuarantine}), "GET", "/v1/status", "")
	q, _ := v["quarantine"].(map[string]any)
	if q["code"] != 602.0 || q["class"] != "latched" || q["next"] == "" || !strings.HasPrefix(q["detail"].(string), "counter 7, not 9") {
		t.Errorf("%v", v)
	}
	if _, v = do(t, standing.Handler(fake{state: standing.InService}), "GET", "/v1/status", ""); v["quarantine"] != nil {
		t.Errorf("%v", v)
	}
}

func TestEvidence(t *testing.T) {
	h := standing.Handler(fake{evidence: func(nonce []byte) ([]byte, error) {
		switch string(nonce) {
		case "unavailable":
			return nil, standing.ErrUnavailable
		case "something":
			return nil, errors.New("broken")
		}
		return json.Marshal(map[string][]byte{"nonce": nonce})
	}})
	for _, c := range []struct {
		body string
		want int
	}{
		{`{"nonce":"3132333435363738"}`, 200},
		{`{"nonce":"` + strings.Repeat("00", 64) + `"}`, 200},
		{`{"nonce":"` + strings.Repeat("00", 65) + `"}`, 400},
		{`{"nonce":"31323334353637"}`, 400},
		{`{"nonce":"no hexadecimal"}`, 400},
		{`{"nonce":"3132333435363738","x":1}`, 400},
		{`{"nonce":"3132333435363738","nonce":"3132333435363739"}`, 400},
		{``, 400},
		{strings.Repeat(" ", 1025), 413},
		{`{"nonce":"756e617661696c61626c65"}`, 503},
		{`{"nonce":"736f6d657468696e67"}`, 500},
	} {
		if got, v := do(t, h, "POST", "/v1/evidence", c.body); got != c.want {
			t.Errorf("%q: %d %v, want %d", c.body, got, v, c.want)
		}
	}
	if got, _ := do(t, h, "GET", "/v1/evidence", ""); got != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", got)
	}
}

// TestBusy: while the TPM works, few wait; the others are told to come again.
func TestBusy(t *testing.T) {
	begun, end := make(chan struct{}, 10), make(chan struct{})
	work := func() error {
		begun <- struct{}{}
		<-end
		return nil
	}
	h := standing.Handler(fake{state: standing.InService, evidence: func([]byte) ([]byte, error) { return []byte("{}"), work() }, seal: work})
	codes := make(chan int)
	ask := func(r *http.Request) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		codes <- w.Code
	}
	for i := range 5 {
		if i%2 == 0 {
			go ask(httptest.NewRequest("POST", "/v1/evidence", strings.NewReader(`{"nonce":"3132333435363738"}`)))
		} else {
			go ask(httptest.NewRequest("GET", "/v1/seal", nil))
		}
	}
	if c := <-codes; c != http.StatusServiceUnavailable {
		t.Errorf("the fifth question got %d", c)
	}
	<-begun
	select {
	case <-begun:
		t.Error("two have the TPM at a time")
	case <-time.After(20 * time.Millisecond):
	}
	close(end)
	for range 4 {
		if c := <-codes; c != 200 {
			t.Errorf("a question that waited got %d", c)
		}
	}
}

// TestSeal: in service the dry run is made, and what comes of it told.
func TestSeal(t *testing.T) {
	good := func() error { return nil }
	bad := func() error { return code.ApprovalMissing.Errorf("nobody approves") }
	if c, v := do(t, standing.Handler(fake{state: standing.InService, seal: good}), "GET", "/v1/seal", ""); c != 200 || v["unseals"] != true || v["problem"] != nil {
		t.Errorf("%d %v", c, v)
	}
	c, v := do(t, standing.Handler(fake{state: standing.InService, seal: bad}), "GET", "/v1/seal", "")
	if p, _ := v["problem"].(map[string]any); c != 200 || v["unseals"] != false || p["code"] != 503.0 || p["next"] == "" {
		t.Errorf("%d %v", c, v)
	}
	for _, state := range []string{standing.InQuarantine, standing.Unprovisioned} {
		if c, _ := do(t, standing.Handler(fake{state: state, seal: good}), "GET", "/v1/seal", ""); c != 409 {
			t.Errorf("%s: %d", state, c)
		}
	}
	if c, _ := do(t, standing.Handler(fake{state: standing.InService, seal: good}), "POST", "/v1/seal", ""); c != 405 {
		t.Errorf("POST: %d", c)
	}
}

func TestTicket(t *testing.T) {
	var got []byte
	take := func(b []byte) error {
		if len(b) != 512 {
			return errors.New("no ticket")
		}
		got = b
		return nil
	}
	h, ticket := standing.Handler(fake{state: standing.InQuarantine, ticket: take}), strings.Repeat("t", 512)
	if c, v := do(t, h, "POST", "/v1/ticket", ticket); c != 202 || !bytes.Equal(got, []byte(ticket)) {
		t.Errorf("%d %v", c, v)
	}
	if c, _ := do(t, h, "POST", "/v1/ticket", ticket+"t"); c != 413 {
		t.Errorf("a longer one: %d", c)
	}
	if c, _ := do(t, h, "POST", "/v1/ticket", ticket[1:]); c != 403 {
		t.Errorf("a shorter one: %d", c)
	}
	if c, _ := do(t, standing.Handler(fake{state: standing.InService, ticket: take}), "POST", "/v1/ticket", ticket); c != 409 {
		t.Errorf("in service: %d", c)
	}
}
