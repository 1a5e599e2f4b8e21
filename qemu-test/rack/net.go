package rack

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"nitro/net/stack"
)

// A Cable is what an Ethernet port is plugged into.
type Cable int

// Cables.
const (
	User    Cable = iota // a network of IPv4 with a gateway (10.0.2.2), DHCP and forwards, all played by this process
	Raw                  // the test, which sends and receives frames: Rack.Frames
	Listen               // another machine, which dials the socket Path
	Dial                 // another machine, which listens at the socket Path
	ToHost               // the rack's host (Config.Host), whose wire is private
	Private              // the same wire, whose host is this process: Rack.Wire
)

// A Net is what one Ethernet port of the board is plugged into. The emulator knows the
// first one as net0, the second as net1 (see emulator.QMP.SetLink).
type Net struct {
	Cable   Cable
	MAC     string      // "" gives one that no other port of this process's racks has
	Forward map[int]int // User: TCP port of the board -> TCP port of 127.0.0.1; 0 gives a free one
	Path    string      // Listen, Dial
}

// maxNets: the board has ENET1 and ENET2.
const maxNets = 2

// A port is a Net in use.
type port struct {
	listener *net.UnixListener // User, Raw, Private
	frames   *Frames           // Raw
	user     *user             // User, Private
}

func (p *port) close() {
	if p.user != nil {
		p.user.close()
	}
	if p.frames != nil {
		p.frames.close()
	}
	if p.listener != nil {
		p.listener.Close()
	}
}

// macs counts the addresses that were given.
var macs atomic.Uint32

// newMAC continues QEMU's own numbering, which starts anew in each machine.
func newMAC() string {
	n := 0x123456 + macs.Add(1) - 1
	return fmt.Sprintf("52:54:00:%02x:%02x:%02x", byte(n>>16), byte(n>>8), byte(n))
}

// netArgs plugs the cables in.
func (r *Rack) netArgs(c *Config) (args []string, err error) {
	if len(c.Nets) > maxNets {
		return nil, fmt.Errorf("%d networks: the board has %d Ethernet ports", len(c.Nets), maxNets)
	}
	for i, n := range c.Nets {
		p := &port{}
		r.nets = append(r.nets, p)
		netdev := fmt.Sprintf(",id=net%d", i)
		switch n.Cable {
		case User, Raw, Private:
			n.Path = r.folder.Join(fmt.Sprintf("net%d", i))
			if p.listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: n.Path, Net: "unix"}); err != nil {
				return nil, err
			}
			netdev = "stream" + netdev + ",server=off,addr.type=unix,addr.path=" + optionValue(n.Path)
		case ToHost:
			n.Path = r.hostWire()
			netdev = "stream" + netdev + ",server=on,addr.type=unix,addr.path=" + optionValue(n.Path)
		case Listen:
			netdev = "stream" + netdev + ",server=on,addr.type=unix,addr.path=" + optionValue(n.Path)
		case Dial:
			netdev = "stream" + netdev + ",server=off,reconnect-ms=100,addr.type=unix,addr.path=" + optionValue(n.Path)
		}
		if n.MAC == "" {
			n.MAC = newMAC()
		}
		args = append(args, "-netdev", netdev, "-net", fmt.Sprintf("nic,netdev=net%d,macaddr=%s", i, n.MAC))
	}
	return args, nil
}

// connectNets waits for the emulator at the cables whose other end is here.
func (r *Rack) connectNets(c *Config) error {
	for i, p := range r.nets {
		if p.listener == nil {
			continue
		}
		p.listener.SetDeadline(time.Now().Add(frameLimit))
		conn, err := p.listener.AcceptUnix()
		if err != nil {
			return err
		}
		frames := newFrames(conn)
		switch c.Nets[i].Cable {
		case Raw:
			p.frames = frames
		case User:
			p.user, err = newUser(frames, gateway, c.Nets[i].Forward)
		case Private:
			p.user, err = newUser(frames, hostAddress, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Address gives the address of this machine that leads to a TCP port of the board, as
// 127.0.0.1:8443.
func (r *Rack) Address(boardPort int) (string, error) {
	for _, p := range r.nets {
		if p.user == nil {
			continue
		}
		if here, ok := p.user.forward[boardPort]; ok {
			return fmt.Sprintf("127.0.0.1:%d", here), nil
		}
	}
	return "", fmt.Errorf("rack: no network forwards to port %d of the board", boardPort)
}

// Gateway is the gateway's own TCP/IP, at 10.0.2.2 of the first network of cable User: tests
// serve on it what the board is to reach. Nil where there is none.
func (r *Rack) Gateway() *stack.Stack { return r.stackAt(gateway) }

// Wire is the host's TCP/IP on its private wire, at 169.254.1.1 of the network of cable
// Private. Nil where there is none.
func (r *Rack) Wire() *stack.Stack { return r.stackAt(hostAddress) }

// stackAt is the TCP/IP of this process at the first network where it has an address.
func (r *Rack) stackAt(address netip.Prefix) *stack.Stack {
	for _, p := range r.nets {
		if p.user != nil && p.user.address == address {
			return p.user.stack
		}
	}
	return nil
}

// Frames gives the other end of a raw cable: 0 is ENET1's, 1 ENET2's.
func (r *Rack) Frames(net int) (*Frames, error) {
	if net < 0 || net >= len(r.nets) || r.nets[net].frames == nil {
		return nil, fmt.Errorf("rack: network %d is no raw cable", net)
	}
	return r.nets[net].frames, nil
}

// Limits of a raw cable.
const (
	frameLimit = 10 * time.Second // to connect, and to take a frame
	frameRoom  = 1024             // frames that wait for Receive
	maxFrame   = 64 << 10
)

// Frames are what goes through a raw cable. A frame begins with the destination address
// and has no check sequence. On the socket a 32-bit length, most significant byte first,
// goes before each (QEMU's net/stream.c).
type Frames struct {
	conn    *net.UnixConn
	in      chan []byte
	dropped atomic.Int64
}

func newFrames(conn *net.UnixConn) *Frames {
	f := &Frames{conn: conn, in: make(chan []byte, frameRoom)}
	go f.read()
	return f
}

// read takes frames in until the connection ends.
func (f *Frames) read() {
	defer close(f.in)
	for in := bufio.NewReader(f.conn); ; {
		var length [4]byte
		if _, err := io.ReadFull(in, length[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(length[:])
		if n > maxFrame {
			return // no frame begins here
		}
		frame := make([]byte, n)
		if _, err := io.ReadFull(in, frame); err != nil {
			return
		}
		select {
		case f.in <- frame:
		default:
			f.dropped.Add(1)
		}
	}
}

// Send sends a frame to the board.
func (f *Frames) Send(frame []byte) error {
	if len(frame) > maxFrame {
		return fmt.Errorf("rack: a frame of %d bytes: at most %d go through", len(frame), maxFrame)
	}
	f.conn.SetWriteDeadline(time.Now().Add(frameLimit))
	if _, err := f.conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)); err != nil {
		return fmt.Errorf("rack: sending a frame: %w", err)
	}
	return nil
}

// Receive gives the next frame that the board has sent.
func (f *Frames) Receive(limit time.Duration) ([]byte, error) {
	frame, ok, late := f.next(limit)
	switch {
	case late:
		return nil, fmt.Errorf("rack: no frame came within %v", limit)
	case !ok:
		return nil, errors.New("rack: receiving a frame: the cable is out: the emulator has ended")
	}
	return frame, nil
}

// next waits for the next frame, for a limit if it is not negative; ok is false when the
// cable is out.
func (f *Frames) next(limit time.Duration) (frame []byte, ok, late bool) {
	var end <-chan time.Time
	if limit >= 0 {
		end = time.After(limit)
	}
	select {
	case frame, ok = <-f.in:
		return frame, ok, false
	case <-end:
		return nil, false, true
	}
}

// Dropped counts the frames that found no room, as nobody received those before.
func (f *Frames) Dropped() int64 { return f.dropped.Load() }

func (f *Frames) close() { f.conn.Close() }
