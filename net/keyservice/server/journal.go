package server

import (
	"encoding/json"
	"os"
	"sync"
	"time"
)

// A record is a line of the log.
type record struct {
	Time   time.Time `json:"time"`
	Event  string    `json:"event"` // challenge, key, grant, confirmation, deletion, request
	Who    string    `json:"who"`   // principal's URI, or "" for who has no certificate
	From   string    `json:"from"`  // address
	Result string    `json:"result"`
	Why    string    `json:"why,omitempty"` // of a refusal
	Volume string    `json:"volume,omitempty"`
	AK     string    `json:"ak,omitempty"` // TPM name of the board's attestation key
	Grant  string    `json:"grant,omitempty"`
	Form   string    `json:"form,omitempty"`
	Cycle  uint64    `json:"cycle,omitempty"`
	Ends   uint64    `json:"ends,omitempty"` // TPM's clock, ms
	Missed uint64    `json:"missed,omitempty"`
}

// maxStrangers is how many lines of challenges and refusals of clients without a certificate
// the log takes a minute.
const maxStrangers = 60

// strangers are those lines. They are rationed, or anybody who reaches the service fills its
// disk, and then it does nothing any more.
type strangers struct {
	mu     sync.Mutex
	since  time.Time
	lines  int
	missed uint64
}

// take takes a line's place, if there is one, and with it how many had none.
func (s *strangers) take(now time.Time) (missed uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d := now.Sub(s.since); d < 0 || d >= time.Minute {
		s.since, s.lines = now, 0
	}
	if s.lines >= maxStrangers {
		s.missed++
		return 0, false
	}
	s.lines++
	missed, s.missed = s.missed, 0
	return missed, true
}

// A journal is the log: JSON lines, appended and synced one by one. What it cannot take
// does not happen.
type journal struct {
	mu   sync.Mutex
	file *os.File
}

func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	return &journal{file: f}, err
}

func (j *journal) add(r record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if _, err := j.file.Write(append(b, '\n')); err != nil {
		return err
	}
	return j.file.Sync()
}
