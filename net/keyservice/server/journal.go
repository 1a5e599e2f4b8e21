package server

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// A record is a line of the log (docs/keyservice.md, "Log").
type record struct {
	N           uint64    `json:"n"`
	Prev        string    `json:"prev"`
	Time        time.Time `json:"time"`
	Event       string    `json:"event"`
	ID          string    `json:"id,omitempty"` // of the request
	Who         string    `json:"who"`          // principal's URI, or "" for who has not proved to be one
	Certificate string    `json:"certificate,omitempty"`
	Access      string    `json:"access,omitempty"`
	From        string    `json:"from"` // address
	Result      string    `json:"result"`
	Why         string    `json:"why,omitempty"` // of a refusal
	Volume      string    `json:"volume,omitempty"`
	AK          string    `json:"ak,omitempty"` // TPM name of the board's attestation key
	Board       string    `json:"board,omitempty"`
	Controller  string    `json:"controller,omitempty"`
	Evidence    string    `json:"evidence,omitempty"` // SHA-256 of what was judged
	Grant       string    `json:"grant,omitempty"`
	Form        string    `json:"form,omitempty"`
	Cycle       uint64    `json:"cycle,omitempty"`
	Ends        uint64    `json:"ends,omitempty"` // TPM's clock, ms
	Missed      uint64    `json:"missed,omitempty"`
	Torn        int64     `json:"torn,omitempty"` // bytes
}

// Results of a record.
const (
	done    = "done"
	refused = "refused"
)

const (
	maxWhy  = 1 << 10 // bytes of a reason: it has what a client sent
	maxLine = 64 << 10
	// logWait is how long a line waits for another process's.
	logWait = 5 * time.Second
)

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

// A Head is a place in the log's chain: the number of a line and its SHA-256. That of an
// empty log is zero.
type Head struct {
	N    uint64
	Hash [sha256.Size]byte
}

// next goes on by a line, if it is the one that follows.
func (h *Head) next(line []byte) error {
	var l struct {
		N    uint64 `json:"n"`
		Prev string `json:"prev"`
	}
	if err := json.Unmarshal(line, &l); err != nil {
		return fmt.Errorf("line %d of the log: %w", h.N+1, err)
	}
	if l.N != h.N+1 || l.Prev != hex.EncodeToString(h.Hash[:]) {
		return fmt.Errorf("line %d of the log does not follow the one before it: lines were changed, taken out or put in", h.N+1)
	}
	*h = Head{l.N, sha256.Sum256(line)}
	return nil
}

// A journal is the log: JSON lines in a chain, appended and synced one by one. What it
// cannot take does not happen. The service and its owner's acts write into one file, each
// line under a lock of the file.
type journal struct {
	mu   sync.Mutex
	file *os.File
	size int64 // of what head is the end of
	head Head
	torn int64
}

func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	j := &journal{file: f}
	err = j.locked(func() error {
		err := j.begin()
		if err == nil {
			err = j.follow()
		}
		return err
	})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return j, nil
}

// locked runs under the file's lock.
func (j *journal) locked(do func() error) error {
	for end := time.Now().Add(logWait); ; time.Sleep(10 * time.Millisecond) {
		ok, err := lock(j.file)
		if err == nil && !ok && time.Now().After(end) {
			err = fmt.Errorf("%s: another process has held it for %v: end that one", j.file.Name(), logWait)
		}
		if err != nil {
			return err
		}
		if ok {
			return errors.Join(do(), unlock(j.file))
		}
	}
}

// begin finds the last whole line, which is taken for good: nitroctl keyservice log goes
// through all.
func (j *journal) begin() error {
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	from := max(0, info.Size()-2*maxLine)
	b := make([]byte, info.Size()-from)
	if _, err := j.file.ReadAt(b, from); err != nil {
		return err
	}
	end := bytes.LastIndexByte(b, '\n')
	if end < 0 && from == 0 { // nothing, or a first line that was torn
		return nil
	}
	if end < 0 {
		return fmt.Errorf("%s: a line of more than %d bytes: move the file away", j.file.Name(), maxLine)
	}
	start := bytes.LastIndexByte(b[:end], '\n') + 1
	var last record
	if err := json.Unmarshal(b[start:end], &last); err != nil || last.N == 0 {
		return fmt.Errorf("%s: its last line is no record of this version: move the file away: %w", j.file.Name(), err)
	}
	prev, err := hex.DecodeString(last.Prev)
	if err != nil || len(prev) != sha256.Size {
		return fmt.Errorf("%s: its last line is damaged: move the file away, and keep it", j.file.Name())
	}
	j.size, j.head = from+int64(start), Head{last.N - 1, [sha256.Size]byte(prev)}
	return nil
}

// follow goes on to the end of the file, whoever wrote there, and removes a line that was
// torn. The caller has the file's lock.
func (j *journal) follow() error {
	info, err := j.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() < j.size {
		return fmt.Errorf("%s is shorter than it was: find out who did that, and restart the service", j.file.Name())
	}
	if info.Size() == j.size {
		return nil
	}
	n, err := scan(io.NewSectionReader(j.file, j.size, info.Size()-j.size), &j.head, func([]byte) error { return nil })
	j.size += n
	if err != nil {
		return err
	}
	if rest := info.Size() - j.size; rest > 0 {
		j.torn += rest
		return j.file.Truncate(j.size)
	}
	return nil
}

// scan reads whole lines that follow a head, and gives how many bytes they had.
func scan(r io.Reader, h *Head, each func(line []byte) error) (size int64, err error) {
	lines := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := lines.ReadSlice('\n')
		if err == io.EOF {
			return size, nil
		}
		if err == nil {
			err = h.next(line[:len(line)-1])
		}
		if err == nil {
			err = each(line[:len(line)-1])
		}
		if err != nil {
			return size, err
		}
		size += int64(len(line))
	}
}

func (j *journal) add(r record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.locked(func() error {
		if err := j.follow(); err != nil {
			return err
		}
		r.N, r.Prev, r.Torn = j.head.N+1, hex.EncodeToString(j.head.Hash[:]), j.torn
		if len(r.Why) > maxWhy {
			r.Why = r.Why[:maxWhy]
		}
		b, err := json.Marshal(r)
		if err != nil {
			return err
		}
		// A line that is not written whole is torn, and the next one's follow removes it.
		if _, err := j.file.Write(append(b, '\n')); err != nil {
			return err
		}
		j.torn = 0
		return errors.Join(j.file.Sync(), j.follow())
	})
}

// ReadLog goes through a service's log, and gives its head. It stops at a line that does
// not follow the one before it. A torn line at the end is left out.
func ReadLog(folder string, each func(line []byte, head Head) error) (Head, error) {
	var h Head
	f, err := os.Open(filepath.Join(folder, logFile))
	if err != nil {
		return h, fmt.Errorf("key service: %w", err)
	}
	defer f.Close()
	if _, err = scan(f, &h, func(line []byte) error { return each(line, h) }); err != nil {
		err = fmt.Errorf("key service: %w", err)
	}
	return h, err
}
