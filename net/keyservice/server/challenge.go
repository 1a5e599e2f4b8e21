package server

import (
	"crypto/rand"
	"net/netip"
	"sync"
	"time"

	"nitro/nvme/key"
)

// Limits of challenges (docs/keyservice.md, "Challenges").
const (
	challengeLife = 5 * time.Minute
	maxChallenges = 1024 // of control planes, and as many of others
	maxFrom       = 16   // of these from one address
)

type challenge = [key.ChallengeSize]byte

// An asked challenge waits.
type asked struct {
	at   time.Time
	from netip.Prefix // of who has no certificate; not valid for control planes
}

// challenges are those that wait.
type challenges struct {
	mu     sync.Mutex
	wait   map[challenge]asked
	counts map[netip.Prefix]int // the zero prefix counts control planes
	others int
}

func newChallenges() *challenges {
	return &challenges{wait: map[challenge]asked{}, counts: map[netip.Prefix]int{}}
}

// source is what one client can hardly have many of: an IPv4 address, or an IPv6 /64.
func source(a netip.Addr) netip.Prefix {
	bits := 32
	if a = a.Unmap(); a.Is6() {
		bits = 64
	}
	p, _ := a.Prefix(bits)
	return p
}

// add makes a challenge; ok is false if too many wait.
func (c *challenges) add(now time.Time, from netip.Prefix) (n challenge, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, a := range c.wait {
		if now.Sub(a.at) > challengeLife {
			c.drop(k, a)
		}
	}
	if from.IsValid() && (c.others >= maxChallenges || c.counts[from] >= maxFrom) || c.counts[from] >= maxChallenges {
		return n, false
	}
	rand.Read(n[:])
	c.wait[n] = asked{now, from}
	c.counts[from]++
	if from.IsValid() {
		c.others++
	}
	return n, true
}

func (c *challenges) drop(n challenge, a asked) {
	delete(c.wait, n)
	if c.counts[a.from]--; c.counts[a.from] == 0 {
		delete(c.counts, a.from)
	}
	if a.from.IsValid() {
		c.others--
	}
}

// spend takes a challenge, once.
func (c *challenges) spend(now time.Time, n challenge) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, ok := c.wait[n]
	if ok {
		c.drop(n, a)
	}
	return ok && now.Sub(a.at) <= challengeLife
}
