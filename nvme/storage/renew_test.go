package storage_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"nitro/nvme/key"
	"nitro/nvme/storage"
)

// A renewer is a key service that is asked for renewals.
type renewer struct {
	*board
	asked, confirmed int
	answer           func(n int, g *key.Grant) error // to the nth question
	meanwhile        func(n int)                     // if it is not nil, happens while it is asked
}

func (r *renewer) Key(ctx context.Context, id [16]byte, request []byte) (grant, wrapped []byte, err error) {
	r.asked++
	if _, limited := ctx.Deadline(); !limited {
		r.t.Error("a question without a limit")
	}
	grant, wrapped = r.grant(request, func(g *key.Grant) { standing(g); err = r.answer(r.asked, g) })
	if r.meanwhile != nil {
		r.meanwhile(r.asked)
	}
	return grant, wrapped, err
}

func (r *renewer) Confirm(context.Context, []byte, []byte) error { r.confirmed++; return nil }

// lease is that of the tests.
const lease = 10 * time.Minute

func minutes(n uint64) func(*key.Grant) {
	return func(g *key.Grant) { g.Standing, g.Expires = true, g.Expires-60_000+n*60_000 }
}

// TestRenew: a standing lease goes on as long as the key service wants, with few questions,
// and the host notices nothing; one that is not renewed ends at its end.
func TestRenew(t *testing.T) {
	refused := errors.New("it refuses")
	long := func(_ int, g *key.Grant) error { g.Expires += uint64((lease - time.Minute).Milliseconds()); return nil }
	for _, c := range []struct {
		name        string
		answer      func(n int, g *key.Grant) error
		meanwhile   func(x *boot, v [16]byte) func(int)
		first       func(*key.Grant) // the lease that is attached
		passes      time.Duration
		there       bool
		least, most int // questions
		failures    int // at least
	}{
		{name: "renewed", answer: long, first: minutes(10), passes: 10 * lease, there: true, least: 10, most: 20},
		{name: "refused", answer: func(int, *key.Grant) error { return refused }, first: minutes(10), passes: lease + 10*time.Second, least: 3, most: 20, failures: 3},
		{name: "away, and back", answer: func(n int, g *key.Grant) error {
			if n <= 3 {
				return refused
			}
			return long(n, g)
		}, first: minutes(10), passes: lease + time.Minute, there: true, least: 4, most: 4, failures: 3},
		{name: "no longer leases", answer: func(_ int, g *key.Grant) error { g.Expires = g.Expires - 60_000 + 1000; return nil }, first: minutes(10), passes: lease, least: 1, most: 2},
		{name: "for a moment longer each", answer: func(_ int, g *key.Grant) error { return nil }, first: minutes(10), passes: lease, there: true, least: 1, most: 25},
		{name: "too short to renew", answer: long, first: func(g *key.Grant) { g.Standing, g.Expires = true, g.Expires-60_000+20_000 }, passes: time.Minute},
		{name: "not standing", answer: long, first: func(g *key.Grant) { minutes(10)(g); g.Standing = false }, passes: lease + 10*time.Second},
		{name: "nobody to ask", answer: func(int, *key.Grant) error { return storage.ErrNoSource }, first: minutes(10), passes: lease + 10*time.Second, least: 1, most: 20},
		{name: "another's grant", answer: func(_ int, g *key.Grant) error { g.AK[0]++; return nil }, first: minutes(10), passes: lease + 10*time.Second, least: 3, most: 20, failures: 3},
		{name: "detached while it is asked", answer: long, first: minutes(10), passes: lease / 2 * 2, least: 1, most: 1, meanwhile: func(x *boot, v [16]byte) func(int) {
			return func(int) {
				if err := x.Detach(context.Background(), v); err != nil {
					x.t.Error(err)
				}
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBoard(t)
				b.ticking = time.Now()
				x := b.start()
				v := x.serving(c.first)
				host := x.connect()
				x.write(host, 1)
				r := &renewer{board: b, answer: c.answer}
				if c.meanwhile != nil {
					r.meanwhile = c.meanwhile(x, v)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() { defer close(done); x.Renew(ctx, r) }()
				for begun := time.Now(); time.Since(begun) < c.passes; time.Sleep(c.passes / 50) {
					if c.there && !x.read(host, 1) {
						t.Error("the host reads something else")
					}
				}
				synctest.Wait()
				if got := x.state(v).Attached; got != c.there || got == x.empty() {
					t.Errorf("attached: %v, no key in memory: %v", got, x.empty())
				}
				failures := x.happened(storage.EventNotRenewed)
				if r.asked < c.least || r.asked > c.most || failures < c.failures || c.failures == 0 && failures > 2 {
					t.Errorf("asked %d times, failed %d times", r.asked, failures)
				}
				if c.there && r.confirmed != x.happened(storage.EventRenewed) {
					t.Errorf("%d confirmed, %d renewed", r.confirmed, x.happened(storage.EventRenewed))
				}
				cancel()
				<-done
			})
		})
	}
}

// TestRenewKept: what a restart of the board asks for again is the renewed lease.
func TestRenewKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(t)
		b.ticking = time.Now()
		x := b.start()
		x.serving(minutes(10))
		before := bytes.Clone(b.standing)
		r := &renewer{board: b, answer: func(int, *key.Grant) error { return nil }}
		ctx, cancel := context.WithCancel(t.Context())
		go x.Renew(ctx, r)
		time.Sleep(lease - 30*time.Second)
		cancel()
		if bytes.Equal(before, b.standing) || r.asked == 0 {
			t.Errorf("asked %d times; the same lease stands", r.asked)
		}
	})
}

// TestRenewDetached: a renewal that begins after a detachment does not attach the volume.
func TestRenewDetached(t *testing.T) {
	x := newBoard(t).start()
	v := x.serving(standing)
	if err := x.Detach(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if err := x.Ask(t.Context(), v, &source{board: x.board}); !errors.Is(err, storage.ErrDetached) || x.state(v).Attached || !x.empty() {
		t.Errorf("%v, attached %v", err, x.state(v).Attached)
	}
}
