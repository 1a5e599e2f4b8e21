package target_test

import (
	"encoding/binary"

	"nitro/internal/hostile"
	"nitro/nvme/wire"
)

var le = binary.LittleEndian

// host is one of the rig's hosts, as one that does everything wrong.
func (r *rig) host(nqn string) *hostile.Host {
	return &hostile.Host{Dial: r.pipes.Dial, Subsystem: subsystem, NQN: nqn, Secret: r.secrets[nqn][0], Patience: patience}
}

// hello is a Connect that is in order.
func hello(nqn string) wire.Connect {
	return (&hostile.Host{Subsystem: subsystem, NQN: nqn}).Hello()
}

// raw opens a connection.
func (r *rig) raw() *hostile.Peer {
	r.t.Helper()
	return r.host(alice).Peer(r.t)
}

// reply makes the right reply to a challenge; change may make it wrong.
func (r *rig) reply(nqn string, ch *wire.Challenge, change func(*wire.Reply)) []byte {
	r.t.Helper()
	return r.host(nqn).Reply(r.t, ch, change)
}

// authenticate does it right.
func (r *rig) authenticate(c *hostile.Peer, nqn string) {
	r.t.Helper()
	r.host(nqn).Authenticate(r.t, c)
}

// admin connects an admin queue with everything that belongs to it.
func (r *rig) admin(nqn string) (*hostile.Peer, uint16) {
	r.t.Helper()
	return r.host(nqn).Admin(r.t)
}

// queue connects an I/O queue of a controller.
func (r *rig) queue(nqn string, controller, id uint16) *hostile.Peer {
	r.t.Helper()
	return r.host(nqn).Queue(r.t, controller, id)
}
