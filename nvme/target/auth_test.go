package target_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"nitro/internal/hostile"
	"nitro/nvme/dhchap"
	"nitro/nvme/initiator"
	"nitro/nvme/target"
	"nitro/nvme/wire"
)

// TestAuthentication tries secrets, hashes and groups.
func TestAuthentication(t *testing.T) {
	hashes := func(h ...dhchap.Hash) []dhchap.Hash { return h }
	groups := func(g ...dhchap.Group) []dhchap.Group { return g }
	for _, c := range []struct {
		name string
		ours target.Config
		host func(c *initiator.Config)
		in   bool
	}{
		{"right", target.Config{}, func(c *initiator.Config) {}, true},
		{"SHA-256", target.Config{}, func(c *initiator.Config) { c.Hashes = hashes(dhchap.SHA256) }, true},
		{"SHA-384", target.Config{}, func(c *initiator.Config) { c.Hashes = hashes(dhchap.SHA384) }, true},
		{"SHA-512", target.Config{}, func(c *initiator.Config) { c.Hashes = hashes(dhchap.SHA512) }, true},
		{"ffdhe3072", target.Config{}, func(c *initiator.Config) { c.Groups = groups(dhchap.FFDHE3072) }, true},
		{"ffdhe4096 wanted", target.Config{Groups: groups(dhchap.FFDHE4096)}, func(c *initiator.Config) {}, true},
		{"no common group", target.Config{Groups: groups(dhchap.FFDHE4096)}, func(c *initiator.Config) { c.Groups = groups(dhchap.FFDHE2048) }, false},
		{"no common hash", target.Config{Hashes: hashes(dhchap.SHA512)}, func(c *initiator.Config) { c.Hashes = hashes(dhchap.SHA256) }, false},
		{"wrong secret", target.Config{}, func(c *initiator.Config) { c.Secret = secret(t) }, false},
		{"wrong secret of the controller", target.Config{}, func(c *initiator.Config) { c.Opposite = secret(t) }, false},
		{"secrets changed over", target.Config{}, func(c *initiator.Config) { c.Secret, c.Opposite = c.Opposite, c.Secret }, false},
		{"no secret", target.Config{}, func(c *initiator.Config) { c.Secret = nil }, false},
		{"controller not asked", target.Config{}, func(c *initiator.Config) { c.Opposite = nil }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, c.ours)
			cfg := r.config(alice)
			c.host(&cfg)
			k, err := initiator.Connect(t.Context(), cfg)
			if (err == nil) != c.in {
				t.Fatalf("connect: %v", err)
			}
			if err == nil {
				k.Close()
				r.eventually("the end is told", func() bool { return r.happened(target.EventClosed) })
				return
			}
			if !errors.Is(err, initiator.ErrAuth) {
				t.Errorf("connect: %v", err)
			}
			if c.name != "no secret" {
				r.eventually("the failure is told", func() bool { return r.happened(target.EventFailed) })
			}
			if r.happened(target.EventOpened) {
				t.Error("an association was made")
			}
		})
	}
}

// TestOneWay: a host that was given no secret to know the target by is let in without
// one, and not with one.
func TestOneWay(t *testing.T) {
	r := newRig(t, target.Config{})
	if err := r.AddHost(alice, r.secrets[alice][0], nil); err != nil {
		t.Fatal(err)
	}
	cfg := r.config(alice)
	if _, err := initiator.Connect(t.Context(), cfg); !errors.Is(err, initiator.ErrAuth) {
		t.Errorf("with a challenge: %v", err)
	}
	cfg.Opposite = nil
	r.namespace(r.connect(cfg), 1)
}

// TestAuthMessages puts messages out of order, and wrong.
func TestAuthMessages(t *testing.T) {
	r := newRig(t, target.Config{})
	const id = 7
	start := func() *hostile.Peer {
		c := r.raw().Open()
		if e := c.Connect(hello(alice)); e.Status != wire.Success {
			t.Fatal(e.Status)
		}
		return c
	}
	negotiate := func(change func(n *wire.Negotiate)) []byte {
		n := wire.Negotiate{Transaction: id, Hashes: []byte{1, 2, 3}, Groups: []byte{0, 1}}
		change(&n)
		return n.Encode()
	}
	var old []byte // a reply that was right once
	{
		c := start()
		old = r.reply(alice, c.Challenged(id), nil)
		c.AuthSend(old)
		if b, s := c.AuthReceive(); s != wire.Success || b[1] != wire.AuthSuccess1 {
			t.Fatalf("%v, % x", s, b[:16])
		}
	}
	for _, c := range []struct {
		name        string
		send        func(c *hostile.Peer) []byte
		explanation uint8
	}{
		{"null group only", func(*hostile.Peer) []byte { return negotiate(func(n *wire.Negotiate) { n.Groups = []byte{0} }) }, wire.AuthGroup},
		{"unknown groups", func(*hostile.Peer) []byte { return negotiate(func(n *wire.Negotiate) { n.Groups = []byte{6, 255} }) }, wire.AuthGroup},
		{"unknown hashes", func(*hostile.Peer) []byte { return negotiate(func(n *wire.Negotiate) { n.Hashes = []byte{0, 4} }) }, wire.AuthHash},
		{"no hashes", func(*hostile.Peer) []byte { return negotiate(func(n *wire.Negotiate) { n.Hashes = nil }) }, wire.AuthHash},
		{"secure channel", func(*hostile.Peer) []byte { return negotiate(func(n *wire.Negotiate) { n.Concatenation = 1 }) }, wire.AuthConcatenation},
		{"no protocol", func(*hostile.Peer) []byte { b := negotiate(func(*wire.Negotiate) {}); b[7] = 0; return b }, wire.AuthPayload},
		{"protocols cut off", func(*hostile.Peer) []byte { b := negotiate(func(*wire.Negotiate) {}); b[7] = 2; return b }, wire.AuthPayload},
		{"a reply first", func(*hostile.Peer) []byte {
			m := wire.Reply{Response: make([]byte, 32)}
			return m.Encode()
		}, wire.AuthMessage},
		{"success first", func(*hostile.Peer) []byte { return wire.EncodeSuccess2(0) }, wire.AuthMessage},
		{"success instead of a reply", func(c *hostile.Peer) []byte { c.Challenged(id); return wire.EncodeSuccess2(id) }, wire.AuthMessage},
		{"negotiation again", func(c *hostile.Peer) []byte { c.Challenged(id); return negotiate(func(*wire.Negotiate) {}) }, wire.AuthMessage},
		{"another transaction", func(c *hostile.Peer) []byte {
			return r.reply(alice, c.Challenged(id), func(m *wire.Reply) { m.Transaction++ })
		}, wire.AuthPayload},
		{"an old reply", func(c *hostile.Peer) []byte { c.Challenged(id); return old }, wire.AuthFailed},
		{"another host's reply", func(c *hostile.Peer) []byte { return r.reply(bob, c.Challenged(id), nil) }, wire.AuthFailed},
		{"one bit", func(c *hostile.Peer) []byte {
			return r.reply(alice, c.Challenged(id), func(m *wire.Reply) { m.Response[31] ^= 1 })
		}, wire.AuthFailed},
		{"no response", func(c *hostile.Peer) []byte {
			return r.reply(alice, c.Challenged(id), func(m *wire.Reply) { m.Response, m.Challenge = nil, nil })
		}, wire.AuthPayload},
		{"short response", func(c *hostile.Peer) []byte {
			return r.reply(alice, c.Challenged(id), func(m *wire.Reply) { m.Response, m.Challenge = m.Response[:31], m.Challenge[:31] })
		}, wire.AuthPayload},
		{"no public value", func(c *hostile.Peer) []byte {
			return r.reply(alice, c.Challenged(id), func(m *wire.Reply) { m.Public = nil })
		}, wire.AuthPayload},
		{"public value of 1", func(c *hostile.Peer) []byte {
			return r.reply(alice, c.Challenged(id), func(m *wire.Reply) { m.Public = append(make([]byte, 255), 1) })
		}, wire.AuthPayload},
		{"lengths that lie", func(c *hostile.Peer) []byte {
			b := r.reply(alice, c.Challenged(id), nil)
			b[10], b[11] = 0xff, 0xff
			return b
		}, wire.AuthPayload},
		{"the target's challenge back", func(c *hostile.Peer) []byte {
			ch := c.Challenged(id)
			return r.reply(alice, ch, func(m *wire.Reply) { m.Challenge = ch.Value })
		}, wire.AuthFailed},
		{"no challenge", func(c *hostile.Peer) []byte {
			return r.reply(alice, c.Challenged(id), func(m *wire.Reply) { m.Challenge = nil })
		}, wire.AuthFailed},
	} {
		q := start()
		if s := q.AuthSend(c.send(q)); s != wire.Success {
			t.Errorf("%s: %v", c.name, s)
			continue
		}
		b, s := q.AuthReceive()
		if s != wire.Success || b[0] != wire.AuthCommon || b[1] != wire.AuthFailure1 || b[6] != 1 || b[7] != c.explanation {
			t.Errorf("%s: %v, % x, want explanation %d", c.name, s, b[:16], c.explanation)
		}
		if q.PDU() != nil {
			t.Errorf("%s: the connection goes on", c.name)
		}
	}
	if r.happened(target.EventOpened) {
		t.Error("an association was made")
	}
}

// TestChallengesDiffer: nothing of a challenge comes a second time.
func TestChallengesDiffer(t *testing.T) {
	r := newRig(t, target.Config{})
	seen := map[string]bool{}
	for range 3 {
		c := r.raw().Open()
		c.Connect(hello(alice))
		ch := c.Challenged(7)
		for what, v := range map[string]string{"value": string(ch.Value), "public value": string(ch.Public), "sequence number": fmt.Sprint(ch.Sequence)} {
			if seen[v] || ch.Sequence == 0 {
				t.Errorf("the %s came before", what)
			}
			seen[v] = true
		}
	}
}

// TestAuthCommands puts the commands around the messages wrong.
func TestAuthCommands(t *testing.T) {
	r := newRig(t, target.Config{})
	c := r.raw().Open()
	c.Connect(hello(alice))
	for name, change := range map[string]func(cmd *wire.Command){
		"security protocol": func(cmd *wire.Command) { cmd.CDW10 ^= 1 << 24 },
		"SPSP":              func(cmd *wire.Command) { cmd.CDW10 ^= 1 << 8 },
		"length":            func(cmd *wire.Command) { cmd.CDW11-- },
	} {
		n := wire.Negotiate{Transaction: 1, Hashes: []byte{1}, Groups: []byte{1}}
		b := n.Encode()
		cmd := wire.AuthCommand(wire.FabricsAuthSend, uint32(len(b)))
		change(&cmd)
		if e, _ := c.Do(cmd, b); e.Status.Code() != wire.InvalidField {
			t.Errorf("send with another %s: %v", name, e.Status)
		}
		cmd = wire.AuthCommand(wire.FabricsAuthReceive, 512)
		change(&cmd)
		if e, _ := c.Do(cmd, nil); e.Status.Code() != wire.InvalidField {
			t.Errorf("receive with another %s: %v", name, e.Status)
		}
	}
	if e, _ := c.Do(wire.AuthCommand(wire.FabricsAuthReceive, 512), nil); e.Status.Code() != wire.CommandSequence {
		t.Errorf("receive before anything: %v", e.Status)
	}
	if s := c.AuthSend([]byte{0, 0, 0}); s.Code() != wire.InvalidField {
		t.Errorf("three bytes: %v", s)
	}
	// A challenge that does not fit is not sent in part, and can be asked for again.
	n := wire.Negotiate{Transaction: 7, Hashes: []byte{1}, Groups: []byte{1}}
	c.AuthSend(n.Encode())
	if e, _ := c.Do(wire.AuthCommand(wire.FabricsAuthReceive, 100), nil); e.Status.Code() != wire.DataSGLLength {
		t.Errorf("room for 100 bytes: %v", e.Status)
	}
	if b, s := c.AuthReceive(); s != wire.Success || b[1] != wire.AuthChallenge {
		t.Errorf("asked again: %v", s)
	}
}

// TestReauthentication: a host may authenticate again, and loses the queue if it fails.
func TestReauthentication(t *testing.T) {
	r := newRig(t, target.Config{})
	c, _ := r.admin(alice)
	r.authenticate(c, alice)
	if e, _ := c.Do(wire.Command{Opcode: wire.AdminKeepAlive}, nil); e.Status != wire.Success {
		t.Error(e.Status)
	}
	c.AuthSend(r.reply(bob, c.Challenged(3), func(m *wire.Reply) { m.Transaction = 3 }))
	if b, _ := c.AuthReceive(); b[1] != wire.AuthFailure1 || c.PDU() != nil {
		t.Error("the queue goes on")
	}
}

// TestAddHost refuses names and secrets that cannot be.
func TestAddHost(t *testing.T) {
	r := newRig(t, target.Config{})
	one, two := secret(t), secret(t)
	for _, c := range []struct {
		name             string
		nqn              string
		secret, opposite *dhchap.Secret
	}{
		{"discovery", wire.DiscoveryNQN, one, two},
		{"the subsystem", subsystem, one, two},
		{"no NQN", "alice", one, two},
		{"a control character", alice + "\n", one, two},
		{"a long name", alice + strings.Repeat("x", 200), one, two},
		{"an empty secret", alice, &dhchap.Secret{}, two},
		{"an empty opposite", alice, one, &dhchap.Secret{}},
		{"the same twice", alice, one, one},
	} {
		if err := r.AddHost(c.nqn, c.secret, c.opposite); err == nil {
			t.Errorf("%s: accepted", c.name)
		}
	}
}
