// Package standing is what a board says of itself to anybody who asks, in service or out
// of it: its status, and the evidence that proves it. In quarantine these routes are all
// that it serves; there they also take the owner's ticket, which is its way out.
//
//	GET  /v1/status    how the board stands: code, what it means, what to do next
//	POST /v1/evidence  {"nonce": "<hexadecimal, 8 to 64 bytes>"}: package evidence
//	GET  /v1/seal      whether the next boot will unseal, by a dry run; in service only
//	POST /v1/ticket    512 bytes: package ticket; in quarantine only
//
// Nothing here is secret and nothing changes the board but a ticket, which its owner has
// signed for this incident. Quotes and dry runs cost the TPM some hundred milliseconds and
// more, so one is made at a time and few may wait.
package standing

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"nitro/attest/ijson"
	"nitro/boot/code"
	"nitro/boot/ticket"
)

// A Status is how a board stands.
type Status struct {
	State       string `json:"state"` // "in service", "unprovisioned" or "quarantine"
	Board       string `json:"board"`
	Version     string `json:"version"` // of the controller, as measured
	Slot        string `json:"slot"`
	Development bool   `json:"development"`
	Emulated    bool   `json:"emulated"`
	Seconds     int64  `json:"ready_seconds"` // since it serves

	// Waits are the members of the configuration in force that wait for the next boot.
	Waits []string `json:"configuration_waits,omitempty"`

	Host       *Host       `json:"host,omitempty"` // absent where the board guards none
	Quarantine *Quarantine `json:"quarantine,omitempty"`
}

// A Host says how the host stands: docs/host.md.
type Host struct {
	State   string `json:"state"` // phase of its control: "running", "held", "hashing", ...
	Cycle   uint64 `json:"cycle"` // the last one that was counted
	Running bool   `json:"running"`
	Adopted bool   `json:"adopted"` // an earlier boot of the controller has verified it
	Power   bool   `json:"power"`
	Code    uint16 `json:"code,omitempty"` // why it is held though it should run, or cannot be released
	Why     string `json:"why,omitempty"`
}

// A Reason says why, and what to do.
type Reason struct {
	Code   uint16 `json:"code"`
	Name   string `json:"name"`
	Class  string `json:"class"`
	What   string `json:"what"`
	Next   string `json:"next"`
	Detail string `json:"detail"`
}

// A Quarantine is the reason of one.
type Quarantine struct {
	Reason
	Incident uint32 `json:"incident,omitempty"` // of a latched code: tickets name it
	Board    string `json:"ticket_board,omitempty"`
}

// A Seal is what came of the dry run of unsealing.
type Seal struct {
	Unseals bool    `json:"unseals"`
	Problem *Reason `json:"problem,omitempty"` // if it does not
}

// States.
const (
	InService     = "in service"
	Unprovisioned = "unprovisioned"
	InQuarantine  = "quarantine"
)

// ReasonOf describes an error.
func ReasonOf(why error) Reason {
	r := Reason{Code: uint16(code.Of(why)), Detail: why.Error()}
	r.Class = code.Of(why).Class().String()
	if e, ok := code.Lookup(code.Of(why)); ok {
		r.Name, r.What, r.Next = e.Name, e.Sentence, e.Next
	}
	return r
}

// A Board is what the package speaks for.
type Board interface {
	Status() Status
	// Evidence has the TPM quote with a nonce. ErrUnavailable: this board cannot.
	Evidence(nonce []byte) ([]byte, error)
	// CheckSeal proves, by a dry run, that the next boot of what runs will unseal. An error
	// says why not.
	CheckSeal() error
	// Ticket takes the owner's ticket and keeps it for the next boot, which the board
	// then begins by itself. An error says why not.
	Ticket(b []byte) error
}

// ErrUnavailable tells that a board has no evidence: it is not provisioned, or its TPM is
// not there.
var ErrUnavailable = errors.New("the board cannot prove anything now")

// MaxBody is the longest body of a request in bytes: a question's.
const MaxBody = maxAsk

// Limits.
const (
	maxAsk   = 1 << 10 // bytes of a question
	minNonce = 8
	maxNonce = 64
	waiting  = 4 // questions for the TPM, the one that is answered included
)

// Handler serves the routes.
func Handler(b Board) http.Handler {
	s := &server{board: b, places: make(chan struct{}, waiting), tpm: make(chan struct{}, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("POST /v1/evidence", s.evidence)
	mux.HandleFunc("GET /v1/seal", s.seal)
	mux.HandleFunc("POST /v1/ticket", s.ticket)
	return mux
}

type server struct {
	board  Board
	places chan struct{}
	tpm    chan struct{} // held by the one that is answered
}

func (s *server) status(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, s.board.Status())
}

// answer writes JSON.
func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}

func refuse(w http.ResponseWriter, status int, why string) {
	answer(w, status, struct {
		Error string `json:"error"`
	}{why})
}

// read reads a request's body of at most max bytes.
func read(w http.ResponseWriter, r *http.Request, max int64) ([]byte, bool) {
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, max))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, err.Error())
		return nil, false
	}
	return b, true
}

// nonceOf reads a question for evidence.
func nonceOf(b []byte) ([]byte, error) {
	var ask struct {
		Nonce string `json:"nonce"`
	}
	if err := ijson.Decode(b, ijson.Limit{Size: maxAsk, Depth: 1}, &ask); err != nil {
		return nil, err
	}
	nonce, err := hex.DecodeString(ask.Nonce)
	if err != nil {
		return nil, err
	}
	if len(nonce) < minNonce || len(nonce) > maxNonce {
		return nil, errors.New("a nonce has 8 to 64 bytes, in hexadecimal")
	}
	return nonce, nil
}

// begin waits for the TPM to be free, if not too many do. The caller calls end.
func (s *server) begin(w http.ResponseWriter, r *http.Request) (end func(), ok bool) {
	select {
	case s.places <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "the TPM has enough to do: ask again")
		return nil, false
	}
	select {
	case s.tpm <- struct{}{}:
		return func() { <-s.tpm; <-s.places }, true
	case <-r.Context().Done():
		<-s.places
		return nil, false
	}
}

func (s *server) evidence(w http.ResponseWriter, r *http.Request) {
	body, ok := read(w, r, maxAsk)
	if !ok {
		return
	}
	nonce, err := nonceOf(body)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	end, ok := s.begin(w, r)
	if !ok {
		return
	}
	defer end()
	switch text, err := s.board.Evidence(nonce); {
	case errors.Is(err, ErrUnavailable):
		refuse(w, http.StatusServiceUnavailable, err.Error())
	case err != nil:
		refuse(w, http.StatusInternalServerError, err.Error())
	default:
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Write(text)
	}
}

func (s *server) seal(w http.ResponseWriter, r *http.Request) {
	if s.board.Status().State != InService {
		refuse(w, http.StatusConflict, "the board is not in service: its store is not open in this boot")
		return
	}
	end, ok := s.begin(w, r)
	if !ok {
		return
	}
	defer end()
	if err := s.board.CheckSeal(); err != nil {
		why := ReasonOf(err)
		answer(w, http.StatusOK, Seal{Problem: &why})
		return
	}
	answer(w, http.StatusOK, Seal{Unseals: true})
}

func (s *server) ticket(w http.ResponseWriter, r *http.Request) {
	if s.board.Status().State != InQuarantine {
		refuse(w, http.StatusConflict, "the board is not in quarantine")
		return
	}
	body, ok := read(w, r, ticket.Size)
	if !ok {
		return
	}
	if err := s.board.Ticket(body); err != nil {
		refuse(w, http.StatusForbidden, err.Error())
		return
	}
	answer(w, http.StatusAccepted, s.board.Status())
}
