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
	maxPlane      = 128  // of one control plane
	maxFrom       = 16   // of others from one address
)

type challenge = [key.ChallengeSize]byte

// An asker is a control plane, or an address.
type asker struct {
	plane string
	from  netip.Prefix // if plane is ""
}

// An asked challenge waits.
type asked struct {
	at time.Time
	by asker
}

// challenges are those that wait.
type challenges struct {
	mu     sync.Mutex
	wait   map[challenge]asked
	counts map[asker]int
	planes int // of all control planes; the rest is others'
}

func newChallenges() *challenges {
	return &challenges{wait: map[challenge]asked{}, counts: map[asker]int{}}
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

// add makes a challenge; ok is false if too many wait, in all or of who asks.
func (c *challenges) add(now time.Time, by asker) (n challenge, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, a := range c.wait {
		if now.Sub(a.at) > challengeLife {
			c.drop(k, a)
		}
	}
	all, share := len(c.wait)-c.planes, maxFrom
	if by.plane != "" {
		all, share = c.planes, maxPlane
	}
	if all >= maxChallenges || c.counts[by] >= share {
		return n, false
	}
	rand.Read(n[:])
	c.wait[n] = asked{now, by}
	c.counts[by]++
	if by.plane != "" {
		c.planes++
	}
	return n, true
}

func (c *challenges) drop(n challenge, a asked) {
	delete(c.wait, n)
	if c.counts[a.by]--; c.counts[a.by] == 0 {
		delete(c.counts, a.by)
	}
	if a.by.plane != "" {
		c.planes--
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
