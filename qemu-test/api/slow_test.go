//go:build !arm

package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"nitro/net/https"
	"nitro/net/policy"
)

// slowClients is how many there are of each kind. They and the others stay below what one
// address may have open, so that it is their slowness that ends them.
const slowClients = 3

// A slow is a crowd of clients who take their time while everything else is tested.
type slow struct {
	over   sync.WaitGroup
	mu     sync.Mutex
	ends   map[string]time.Duration // the longest of each kind
	errors []error
}

// slowKinds are what they do, and after how long the board ends it: net/https's limits, and
// as much again for a busy machine.
var slowKinds = map[string]struct {
	do    func(ctx context.Context, b *bench, c *tls.Config) error
	limit time.Duration
}{
	"says nothing":            {silent, https.HeaderLimit},
	"begins a handshake":      {halfHandshake, https.HeaderLimit},
	"a header byte a second":  {drip("GET "+hostPath+" HTTP/1.1\r\nHost: board\r\nX-Filler: ", "x"), https.HeaderLimit},
	"a body byte a second":    {drip("POST "+resetPath+" HTTP/1.1\r\nHost: board\r\nContent-Length: 10000\r\n\r\n", " "), https.RequestLimit},
	"never reads the answers": {neverReads, https.RequestLimit},
}

// startSlow begins.
func (b *bench) startSlow(t *testing.T) *slow {
	t.Helper()
	s := &slow{ends: map[string]time.Duration{}}
	pair, err := b.Factory.Clients.Certificate(policy.Auditor, "slow")
	must(t, err)
	for name, kind := range slowKinds {
		for range slowClients {
			s.over.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				start := time.Now()
				err := kind.do(ctx, b, anyServer(pair))
				s.mu.Lock()
				defer s.mu.Unlock()
				if s.ends[name] = max(s.ends[name], time.Since(start)); err != nil {
					s.errors = append(s.errors, fmt.Errorf("%s: %w", name, err))
				}
			})
		}
	}
	return s
}

// ended sees that the board has ended all of them, each in its time.
func (s *slow) ended(t *testing.T) {
	s.over.Wait()
	must(t, s.errors...)
	for name, kind := range slowKinds {
		if end := s.ends[name]; end < kind.limit/2 || end > 2*kind.limit+time.Minute {
			t.Errorf("who %s was ended after %v, and the limit is %v", name, end, kind.limit)
		}
	}
	t.Logf("ended after %v", s.ends)
}

// plain is a connection without TLS.
func plain(ctx context.Context, b *bench) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", b.address)
}

// closed waits until the board has closed a connection, whatever it says before.
func closed(ctx context.Context, c net.Conn) error {
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_, err := io.Copy(io.Discard, c)
	if ctx.Err() != nil || errors.Is(err, net.ErrClosed) {
		return errors.New("the board never closed it")
	}
	return nil
}

func silent(ctx context.Context, b *bench, _ *tls.Config) error {
	c, err := plain(ctx, b)
	if err != nil {
		return err
	}
	return closed(ctx, c)
}

// halfHandshake sends the first bytes of a ClientHello that says it has more.
func halfHandshake(ctx context.Context, b *bench, _ *tls.Config) error {
	c, err := plain(ctx, b)
	if err != nil {
		return err
	}
	if _, err := c.Write([]byte{22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}); err != nil {
		return err
	}
	return closed(ctx, c)
}

// drip sends a beginning, and then a piece a second until the board has had enough.
func drip(begin, piece string) func(context.Context, *bench, *tls.Config) error {
	return func(ctx context.Context, b *bench, config *tls.Config) error {
		c, err := b.Dial(ctx, config)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(c, begin); err != nil {
			return err
		}
		go func() {
			for ctx.Err() == nil {
				time.Sleep(time.Second)
				if _, err := io.WriteString(c, piece); err != nil {
					return
				}
			}
		}()
		return closed(ctx, c)
	}
}

// neverReads asks for the longest answers there are and reads none of them, until it
// cannot write any more and then until the board has let go.
func neverReads(ctx context.Context, b *bench, config *tls.Config) error {
	c, err := plain(ctx, b)
	if err != nil {
		return err
	}
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		return err
	}
	client := tls.Client(c, config)
	if err := client.HandshakeContext(ctx); err != nil {
		return err
	}
	defer c.Close()
	ask := strings.Repeat("GET "+auditPath+"/Entries?$top=200 HTTP/1.1\r\nHost: board\r\n\r\n", 100)
	for {
		if err := client.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		_, err := io.WriteString(client, ask)
		var deadline net.Error
		switch {
		case ctx.Err() != nil:
			return errors.New("the board never closed it")
		case err == nil:
			continue
		case errors.As(err, &deadline) && deadline.Timeout(), errors.Is(err, os.ErrDeadlineExceeded):
			return raised(ctx, c)
		}
		return nil
	}
}

// raised waits until the board has closed a connection on which nothing is read: then
// writing fails.
func raised(ctx context.Context, c net.Conn) error {
	for ctx.Err() == nil {
		c.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := c.Write([]byte{0}); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return nil
		}
		time.Sleep(time.Second)
	}
	return errors.New("the board never closed it")
}

// crowd: one address opens more than it may. What is too much is closed, what is open stays,
// and when it has gone everything is as before.
func (b *bench) crowd(t *testing.T) {
	b.leave()
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	refused := 0
	for range 2 * https.PeerConnections {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		c, err := (&tls.Dialer{Config: anyServer()}).DialContext(ctx, "tcp", b.address)
		cancel()
		if err != nil {
			refused++
			continue
		}
		open = append(open, c)
	}
	if len(open) > https.PeerConnections || len(open) < https.PeerConnections/2 || refused < https.PeerConnections {
		t.Errorf("%d connections are open and %d were refused, of %d that there may be", len(open), refused, https.PeerConnections)
	}
	for i, c := range open { // they are served
		c.SetDeadline(time.Now().Add(2 * time.Minute))
		if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: board\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, " 200 ") {
			t.Errorf("connection %d: %q, %v", i, line, err)
		}
		c.Close()
	}
	b.unharmed(t)
}
