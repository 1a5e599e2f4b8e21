// Package sntp asks time servers for the time, and says how far what they answer may move
// the board's clock: an SNTPv4 client (RFC 4330; RFC 5905, 14) and the time rules of
// docs/time.md.
//
// # What it answers
//
// NTP's answers are authenticated by nobody. An answer counts only if it carries the 64
// random bits of the question, so that who is not on the path forges none; more than half
// of the servers have to agree, so that one liar is outvoted; and who is on the path, and
// so speaks for all, finds the clock moved by the little that [Clock] allows. Every wait
// is bounded.
//
// # What is left out
//
// NTS (RFC 8915), symmetric keys, broadcast, names, interleaved mode, slewing, and all of
// RFC 5905 that disciplines an oscillator.
package sntp

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits of a question (docs/time.md).
const (
	Limit       = 5 * time.Second // for an answer
	MaxDelay    = 2 * time.Second // round trip
	MaxDistance = 1500 * time.Millisecond
	MaxServers  = 8
	maxAnswer   = 1024 // bytes: with extension fields and a MAC, which are not read
)

// How long a server that wants to be left alone is (RFC 4330, 8).
const (
	denied = 24 * time.Hour
	eased  = time.Hour
)

// Errors, to be found with errors.Is.
var (
	ErrAnswer = errors.New("it is no good answer to this question")
	ErrKiss   = errors.New("the server wants to be left alone")
	ErrAgree  = errors.New("not more than half of the time servers agree: check them and the way to them, or set the time by hand")
)

// A Client asks the servers of a configuration. It is used by one goroutine at a time.
type Client struct {
	Servers []netip.AddrPort
	// Dial connects a UDP socket, as net.Dialer does.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)

	quiet map[netip.AddrPort]time.Time // until when a server is not asked
}

// An Answer is what came of asking one server.
type Answer struct {
	Server  netip.AddrPort
	Stratum int
	Offset  time.Duration // of the server's clock from this one
	Delay   time.Duration // of the round trip
	Error   time.Duration // at most: half the delay, and what the server says of itself
	Err     error         // why it does not count, or nil
}

// A Result is what the servers agree on.
type Result struct {
	Offset  time.Duration // of the true time from this machine's clock as it was at Asked
	Error   time.Duration // at most
	Agree   int           // servers
	Asked   time.Time     // with the monotonic clock's reading
	Answers []Answer      // in the order of the servers
}

// Time is the true time now, whatever has been done to this machine's clock meanwhile.
func (r *Result) Time() time.Time {
	return r.Asked.Add(r.Offset).Add(time.Since(r.Asked)).Round(0)
}

// Ask asks all servers at once, and waits for each no longer than Limit. The error is
// ErrAgree with what each one's answer lacks.
func (c *Client) Ask(ctx context.Context) (*Result, error) {
	if len(c.Servers) == 0 || len(c.Servers) > MaxServers {
		return nil, fmt.Errorf("sntp: %d servers: 1 to %d", len(c.Servers), MaxServers)
	}
	r := &Result{Asked: time.Now(), Answers: make([]Answer, len(c.Servers))}
	var all sync.WaitGroup
	for i, s := range c.Servers {
		r.Answers[i].Server = s
		if until := c.quiet[s]; r.Asked.Before(until) {
			r.Answers[i].Err = fmt.Errorf("sntp: %s: %w until %s from now", s, ErrKiss, until.Sub(r.Asked).Round(time.Second))
			continue
		}
		all.Go(func() { c.ask(ctx, r.Asked, &r.Answers[i]) })
	}
	all.Wait()
	for _, a := range r.Answers {
		var k kiss
		if errors.As(a.Err, &k) {
			c.leave(a.Server, r.Asked, k)
		}
	}
	return r, r.agree()
}

// leave notes that a server is not to be asked for a while.
func (c *Client) leave(s netip.AddrPort, from time.Time, k kiss) {
	if c.quiet == nil {
		c.quiet = map[netip.AddrPort]time.Time{}
	}
	d := eased
	if k == "DENY" || k == "RSTR" {
		d = denied
	}
	c.quiet[s] = from.Add(d)
}

// ask asks one server.
func (c *Client) ask(ctx context.Context, base time.Time, a *Answer) {
	fail := func(err error) { a.Err = fmt.Errorf("sntp: %s: %w", a.Server, err) }
	ctx, cancel := context.WithTimeout(ctx, Limit)
	defer cancel()
	conn, err := c.Dial(ctx, "udp", a.Server.String())
	if err != nil {
		fail(err)
		return
	}
	defer conn.Close()
	end, _ := ctx.Deadline()
	if err := conn.SetDeadline(end); err != nil {
		fail(err)
		return
	}
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var nonce [8]byte
	rand.Read(nonce[:])
	sent := time.Since(base)
	if _, err := conn.Write(question(nonce)); err != nil {
		fail(err)
		return
	}
	b := make([]byte, maxAnswer)
	for {
		n, err := conn.Read(b)
		back := time.Since(base)
		if err != nil {
			if a.Err == nil { // else it says what did come
				fail(err)
			}
			return
		}
		a.Err = nil
		p, err := parse(b[:n], nonce)
		if err == nil {
			err = p.measure(a, base.Add(sent), base.Add(back))
		}
		if err == nil {
			return
		}
		fail(err)
		if errors.Is(err, ErrKiss) {
			return
		}
		// Anything else may be another's: the true answer may come yet.
	}
}

// A packet is an answer that is well formed (RFC 5905, 7.3).
type packet struct {
	stratum           int
	delay, dispersion time.Duration // of the root
	receive, transmit time.Time
}

// Offsets and values of the header (RFC 5905, figure 8).
const (
	headerSize = 48
	offStratum = 1
	offRoot    = 4  // delay, then dispersion: 16.16 seconds each
	offRefID   = 12 // of stratum 0 the kiss code
	offOrigin  = 24
	offReceive = 32
	offSend    = 40

	modeClient = 3
	modeServer = 4
	version    = 4
	alarm      = 3 // leap indicator: the server's clock is not set
	maxStratum = 15
)

// question makes a request (RFC 4330, 5), with random bits where the transmit timestamp
// would be.
func question(nonce [8]byte) []byte {
	b := make([]byte, headerSize)
	b[0] = version<<3 | modeClient
	copy(b[offSend:], nonce[:])
	return b
}

// A kiss is the code of a server that wants to be left alone.
type kiss string

func (k kiss) Error() string     { return fmt.Sprintf("%v: kiss code %q", ErrKiss, string(k)) }
func (k kiss) Is(err error) bool { return err == ErrKiss }
func refuse(what string) error   { return fmt.Errorf("%w: %s", ErrAnswer, what) }
func zero(b []byte) bool         { return binary.BigEndian.Uint64(b) == 0 }
func short(b []byte) time.Duration { // 16.16 seconds
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Second >> 16
}

// parse reads an answer to a question (RFC 4330, 5: the sanity checks).
func parse(b []byte, nonce [8]byte) (p packet, err error) {
	if len(b) < headerSize {
		return p, refuse(fmt.Sprintf("%d bytes", len(b)))
	}
	switch leap, v, mode := b[0]>>6, b[0]>>3&7, b[0]&7; {
	case [8]byte(b[offOrigin:]) != nonce:
		return p, refuse("its origin is not what was sent")
	case mode != modeServer || v != version && v != version-1:
		return p, refuse(fmt.Sprintf("mode %d, version %d", mode, v))
	case b[offStratum] == 0:
		code := b[offRefID : offRefID+4]
		for _, c := range code {
			if c < 'A' || c > 'Z' {
				return p, kiss("?")
			}
		}
		return p, kiss(code)
	case leap == alarm:
		return p, refuse("the server does not know the time")
	case b[offStratum] > maxStratum:
		return p, refuse(fmt.Sprintf("stratum %d", b[offStratum]))
	case zero(b[offReceive:]) || zero(b[offSend:]):
		return p, refuse("a timestamp is zero")
	}
	p = packet{int(b[offStratum]), short(b[offRoot:]), short(b[offRoot+4:]), timestamp(b[offReceive:]), timestamp(b[offSend:])}
	if p.transmit.Before(p.receive) {
		return p, refuse("it was sent before the question came")
	}
	if p.delay/2+p.dispersion > MaxDistance {
		return p, refuse(fmt.Sprintf("the server's own error is %v", p.delay/2+p.dispersion))
	}
	return p, nil
}

// pivot is the earliest time that a timestamp can mean, so 2161 the last one; 1900 is
// where its seconds count from (RFC 5905, 6).
var (
	pivot = time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	era   = time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC)
)

// timestamp reads 32.32 seconds.
func timestamp(b []byte) time.Time {
	seconds, fraction := int64(binary.BigEndian.Uint32(b)), uint64(binary.BigEndian.Uint32(b[4:]))
	t := time.Unix(era.Unix()+seconds, int64(fraction*uint64(time.Second)>>32))
	if t.Before(pivot) {
		t = t.Add(1 << 32 * time.Second)
	}
	return t
}

// measure computes offset and delay (RFC 5905, 8).
func (p *packet) measure(a *Answer, sent, back time.Time) error {
	a.Stratum = p.stratum
	a.Delay = max(back.Sub(sent)-p.transmit.Sub(p.receive), 0)
	if a.Delay > MaxDelay || p.transmit.Sub(p.receive) > Limit {
		return refuse(fmt.Sprintf("a round trip of %v", back.Sub(sent)))
	}
	ahead, behind := p.receive.Sub(sent), p.transmit.Sub(back)
	a.Offset = ahead + (behind-ahead)/2 // never beyond what a Duration holds
	a.Error = a.Delay/2 + p.delay/2 + p.dispersion
	return nil
}

// agree finds the stretch of time that most servers have in common (Marzullo's algorithm,
// as RFC 5905, 11.2.1, has it), and takes its middle.
func (r *Result) agree() error {
	type edge struct {
		at   time.Duration
		step int
	}
	var edges []edge
	var problems []error
	for _, a := range r.Answers {
		if a.Err != nil {
			problems = append(problems, a.Err)
			continue
		}
		edges = append(edges, edge{a.Offset - a.Error, +1}, edge{a.Offset + a.Error, -1})
	}
	slices.SortFunc(edges, func(a, b edge) int {
		if a.at != b.at {
			return int(min(max(a.at-b.at, -1), 1))
		}
		return b.step - a.step // intervals that touch have a point in common
	})
	now := 0
	for i, e := range edges {
		if now += e.step; now > r.Agree && e.step > 0 {
			r.Agree = now
			r.Error = (edges[i+1].at - e.at) / 2
			r.Offset = e.at + r.Error
		}
	}
	if r.Agree <= len(r.Answers)/2 {
		return errors.Join(append([]error{fmt.Errorf("sntp: %d of %d: %w", r.Agree, len(r.Answers), ErrAgree)}, problems...)...)
	}
	return nil
}
