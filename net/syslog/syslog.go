// Package syslog sends the audit log's records to a collector: RFC 5424 messages
// (audit.Syslog has their form) over TLS, as RFC 5425 frames them.
//
// # What it answers
//
// The queue is the log itself: a cursor in it, kept in the store, says what the collector
// has. So nothing is lost while the collector is away, however long, and nothing grows
// meanwhile. RFC 5425 knows no acknowledgement: what was written may lie in a dead
// connection's buffers. So the cursor passes a record only when the connection has lived on
// for a while behind it, and a new connection begins again at the cursor: a collector
// may get records twice, and tells them apart by the board's name and n.
//
// The board authenticates the collector by the configuration's CA and name, and shows the
// certificate that its API shows. A collector that is slow, or answers nothing, holds up
// nobody but this package.
//
// # What is left out
//
// The transports of RFC 5426 (UDP) and RFC 6587 (plain TCP), RELP, more than one collector,
// and quarantine's ring: its store, and so its cursor, is closed.
package syslog

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"nitro/net/audit"
)

// DefaultPort is syslog-tls (RFC 5425, 4.1).
const DefaultPort = 6514

// Limits and times (docs/audit.md, "Syslog").
const (
	batch      = 64               // records that are read at once
	openLimit  = 30 * time.Second // for connection and handshake
	writeLimit = 30 * time.Second // for a record
	keepEach   = 5 * time.Minute  // between two writes of the cursor, unless a batch has gone
)

// A Log is what is sent: *audit.Log is one.
type Log interface {
	Origin() string
	Stats() audit.Stats
	Records(from uint64, max int) ([][]byte, error)
}

// A Cursor keeps, for a log of some origin, the index of the first record that the
// collector may not have.
type Cursor interface {
	Load() (origin string, n uint64, err error)
	Save(origin string, n uint64) error
}

// A Config says what is sent where.
type Config struct {
	Log     Log
	Cursor  Cursor
	Host    string // HOSTNAME of the messages
	Address string // of the collector: IP address and port
	// Dial connects, as net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// TLS is asked for each connection.
	TLS func() *tls.Config
	// Report tells people of what has changed; it may be nil.
	Report func(format string, args ...any)
}

// times are how fast things go. They are the firmware's but in tests.
type times struct {
	poll   time.Duration // between two looks at the log
	settle time.Duration // that a connection has to live on behind a record
	retry  time.Duration // until the second attempt to connect
	most   time.Duration // until any attempt
}

// Stats are for metrics.
type Stats struct {
	Connected bool
	Next      uint64 // index of the record to be written next
	Settled   uint64 // of the first one that the collector may not have
	Sent      uint64 // messages since the boot, those that are sent again included
	Skipped   uint64 // records that were cleared before they were sent
	Failures  uint64 // connections that failed or ended
}

// A Sender sends.
type Sender struct {
	config Config
	times  times
	told   string // the last trouble that was reported

	mu    sync.Mutex
	stats Stats
}

// New makes a sender.
func New(c Config) *Sender {
	if c.Report == nil {
		c.Report = func(string, ...any) {}
	}
	return &Sender{config: c, times: times{poll: time.Second, settle: 30 * time.Second, retry: time.Second, most: 2 * time.Minute}}
}

// Stats tell how it goes.
func (s *Sender) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

func (s *Sender) note(change func(*Stats)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.stats)
}

// Run sends until the context ends. The error is the cursor's, without which nobody knows
// where to begin.
func (s *Sender) Run(ctx context.Context) error {
	origin, n, err := s.config.Cursor.Load()
	if err != nil {
		return fmt.Errorf("syslog: %w", err)
	}
	if origin != s.config.Log.Origin() { // another log, or the first time
		n = 0
	}
	s.note(func(t *Stats) { t.Next, t.Settled = n, n })
	for wait := s.times.retry; ctx.Err() == nil; {
		began := time.Now()
		err := s.session(ctx)
		if ctx.Err() != nil {
			break
		}
		s.note(func(t *Stats) { t.Connected = false; t.Failures++ })
		s.tell(fmt.Sprintf("syslog: %s: %v", s.config.Address, err))
		if time.Since(began) > s.times.settle+openLimit { // it was good for a while
			wait = s.times.retry
		}
		pause(ctx, wait/2+rand.N(wait/2+1)) // a fleet does not come back at once
		wait = min(2*wait, s.times.most)
	}
	return nil
}

// tell reports trouble, once for each kind: a collector that is away for days is one line.
func (s *Sender) tell(text string) {
	if text != s.told {
		s.told = text
		s.config.Report("%s", text)
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// open connects to the collector and authenticates it.
func (s *Sender) open(ctx context.Context) (*tls.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, openLimit)
	defer cancel()
	raw, err := s.config.Dial(ctx, "tcp", s.config.Address)
	if err != nil {
		return nil, err
	}
	c := tls.Client(raw, s.config.TLS())
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, err
	}
	return c, nil
}

// A mark says when everything below an index had been written.
type mark struct {
	at time.Time
	n  uint64
}

// session is one connection, until it ends.
func (s *Sender) session(ctx context.Context) error {
	c, err := s.open(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	s.note(func(t *Stats) { t.Connected, t.Next = true, t.Settled })
	s.tell(fmt.Sprintf("syslog: %s takes the audit records from %d on", s.config.Address, s.Stats().Settled))
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, c) // a collector has nothing to say (RFC 5425, 4.3)
		if err == nil {
			err = io.EOF
		}
		ended <- err
	}()
	var marks []mark
	saved := mark{time.Now(), s.Stats().Settled}
	for {
		sent, err := s.send(c)
		if err != nil {
			return err
		}
		if sent {
			marks = append(marks, mark{time.Now(), s.Stats().Next})
		}
		if marks, saved, err = s.settle(marks, saved); err != nil {
			return err
		}
		if sent {
			select { // there may be more
			case err := <-ended:
				return err
			default:
				continue
			}
		}
		t := time.NewTimer(s.times.poll)
		select {
		case <-t.C:
		case err := <-ended:
			t.Stop()
			return err
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// send writes the next records, if there are any.
func (s *Sender) send(c net.Conn) (sent bool, err error) {
	next, log := s.Stats().Next, s.config.Log.Stats()
	if next < log.First {
		gone := log.First - next
		s.config.Report("syslog: records %d to %d were cleared before the collector had them", next, log.First-1)
		s.note(func(t *Stats) { t.Skipped += gone; t.Next = log.First })
		next = log.First
	}
	if next >= log.Size {
		return false, nil
	}
	records, err := s.config.Log.Records(next, batch)
	if err != nil {
		return false, err
	}
	for _, r := range records {
		m, err := audit.Syslog(r, s.config.Host)
		if err != nil {
			return false, err
		}
		if err := c.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
			return false, err
		}
		if _, err := c.Write(m); err != nil {
			return false, err
		}
		s.note(func(t *Stats) { t.Sent++; t.Next++ })
	}
	return len(records) > 0, nil
}

// settle moves the cursor over what the connection has lived on behind of, and saves it
// where that is worth a write.
func (s *Sender) settle(marks []mark, saved mark) ([]mark, mark, error) {
	for len(marks) > 0 && time.Since(marks[0].at) >= s.times.settle {
		s.note(func(t *Stats) { t.Settled = marks[0].n })
		marks = marks[1:]
	}
	n := s.Stats().Settled
	if n == saved.n || n < saved.n+batch && time.Since(saved.at) < min(keepEach, 10*s.times.settle) {
		return marks, saved, nil
	}
	if err := s.config.Cursor.Save(s.config.Log.Origin(), n); err != nil {
		return marks, saved, err
	}
	return marks, mark{time.Now(), n}, nil
}
