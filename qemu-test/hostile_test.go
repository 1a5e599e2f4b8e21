//go:build !arm

package qemutest

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nitro/internal/hostile"
	"nitro/net/metadata"
	"nitro/net/metrics"
	"nitro/net/policy"
	"nitro/nvme/dhchap"
	"nitro/nvme/initiator"
	"nitro/nvme/wire"
	"nitro/qemu-test/rack"
)

const (
	boardWire     = "169.254.169.254" // the board's address on the host's wire
	inCapsule     = 128 << 10         // what the firmware's target takes with a command: docs/nvme.md
	pendingPlaces = 16                // for connections that have not authenticated
	setupLimit    = 30 * time.Second  // for authentication, and for the rest of a PDU

	hostilePatience = 5 * time.Minute // for all of a connection, on a busy machine
	floodOf         = 120             // connections at once
)

// TestHostileHosts: whoever is on the host's wire may break every rule of NVMe/TCP. The firmware
// ends each connection as the rules say, takes no more memory than it ever said, and an honest
// host goes on meanwhile and reads what it has written.
func TestHostileHosts(t *testing.T) {
	b := newVolumeBoard(t, func(c *rack.Config) { c.Nets[1] = rack.Net{Cable: rack.Private} })
	t.Cleanup(func() {
		if c := b.Console(); t.Failed() {
			t.Logf("%s", c[max(0, len(c)-20000):])
		}
	})
	b.volume(nil, "create -name honest -size 8MiB -block 512 -kind RAM"+b.keys())
	b.volume(nil, "attach -lease 1h honest"+b.keys())
	w := newWireHosts(t, b)
	stalled := w.stall()
	phases := []struct {
		name string
		test func(*testing.T)
	}{
		{"set-up", w.setUps}, {"PDUs", w.pdus}, {"resets", w.resets}, {"another name", w.anotherName}, {"wrong secret", w.wrongSecret}, {"flood", w.flood},
	}
	var before memory
	for _, pass := range []string{"first", "second"} { // after the first all pools have what they keep
		for _, p := range phases {
			rounds := w.rounds.Load()
			t.Run(pass+"/"+p.name, p.test)
			w.goesOn(t, p.name, rounds)
		}
		if pass == "first" {
			t.Run("stalled", func(t *testing.T) { w.stalledEnd(t, stalled) })
			before = w.settled(t, memory{}, 3)
		}
	}
	w.bounded(t, before)
	w.counted(t, 2)
	w.stop(t)
	must(t, b.Err())
}

// wireHosts are the hosts on the wire: an honest one at work, and what is needed to be a
// hostile one.
type wireHosts struct {
	*volumeBoard
	honest initiator.Config
	rounds atomic.Int64 // of the honest host's writing and reading

	operator *http.Client // who reads the metrics
	most     memory       // that was in use since watchMemory began
	watched  func()       // ends it
	end      context.CancelFunc
	ended    chan error
}

// newWireHosts asks the metadata service what the host may know, and has the honest host begin.
func newWireHosts(t *testing.T, b *volumeBoard) *wireHosts {
	t.Helper()
	at := b.Wire()
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return at.Dial(ctx, "tcp4", boardWire+":80")
		},
	}}
	d, err := metadata.Fetch(t.Context(), client, "http://"+boardWire)
	must(t, err)
	if len(d.Volumes) != 1 {
		t.Fatalf("the host is told of %d volumes, not 1", len(d.Volumes))
	}
	w := &wireHosts{volumeBoard: b, ended: make(chan error, 1), honest: initiator.Config{
		Dial: func(ctx context.Context) (net.Conn, error) {
			return at.Dial(ctx, "tcp4", fmt.Sprintf("%s:%d", boardWire, d.NVMe.Port))
		},
		SubsystemNQN: d.NVMe.Subsystem, HostNQN: d.NVMe.Host, Secret: new(dhchap.Secret), Opposite: new(dhchap.Secret),
		HeaderDigest: true, DataDigest: true, Limit: hostilePatience, KeepAlive: hostilePatience,
	}}
	id, err := hex.DecodeString(strings.ReplaceAll(d.NVMe.HostID, "-", ""))
	must(t, err, w.honest.Secret.Set([]byte(d.NVMe.HostSecret)), w.honest.Opposite.Set([]byte(d.NVMe.ControllerSecret)))
	copy(w.honest.HostID[:], id)
	w.operator = newClients(b.trustedBoard).as(policy.Operator)
	ctx, cancel := context.WithCancel(t.Context())
	w.end = cancel
	stop, over := make(chan struct{}), make(chan struct{})
	w.watched = sync.OnceFunc(func() { close(stop); <-over })
	go func() { defer close(over); w.watchMemory(stop) }()
	t.Cleanup(w.watched)
	go func() { w.ended <- w.work(ctx) }()
	t.Cleanup(cancel)
	return w
}

// work is what the honest host does: each round writes other data, and reads all that is there.
func (w *wireHosts) work(ctx context.Context) error {
	c, err := initiator.Connect(ctx, w.honest)
	if err != nil {
		return err
	}
	n, err := c.Namespace(ctx, 1)
	if err != nil {
		c.Close()
		return err
	}
	defer n.Close()
	const parts, size = 8, 64 << 10
	var data [parts][]byte
	got := make([]byte, size)
	for round := 0; ctx.Err() == nil; round++ {
		part := round % parts
		data[part] = bytes.Repeat(binary.BigEndian.AppendUint64(nil, uint64(round)*0x9e3779b97f4a7c15), size/8)
		err := n.WriteAt(ctx, uint64(part*size/n.BlockSize()), data[part])
		for p := 0; p < parts && err == nil && data[p] != nil; p++ {
			if err = n.ReadAt(ctx, uint64(p*size/n.BlockSize()), got); err == nil && !bytes.Equal(got, data[p]) {
				err = fmt.Errorf("round %d: part %d holds something else", round, p)
			}
		}
		if err != nil && ctx.Err() == nil {
			return err
		}
		w.rounds.Add(1)
	}
	return nil
}

// goesOn expects the honest host to have done a round since, or to do one now.
func (w *wireHosts) goesOn(t *testing.T, since string, rounds int64) {
	t.Helper()
	for end := time.Now().Add(hostilePatience); w.rounds.Load() < rounds+1; time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-w.ended:
			t.Fatalf("%s: the honest host ended: %v", since, err)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%s: the honest host stands still", since)
		}
	}
}

// stop ends the honest host.
func (w *wireHosts) stop(t *testing.T) {
	t.Helper()
	w.end()
	must(t, <-w.ended) // each of its commands has a limit
	t.Logf("the honest host did %d rounds", w.rounds.Load())
}

// host is a hostile one that has the honest one's name and secret.
func (w *wireHosts) host() *hostile.Host {
	return &hostile.Host{Dial: w.honest.Dial, Subsystem: w.honest.SubsystemNQN, NQN: w.honest.HostNQN, Secret: w.honest.Secret, Patience: hostilePatience}
}

func (w *wireHosts) setUps(t *testing.T) {
	for _, c := range hostile.SetUps() {
		p := w.host().Peer(t)
		p.Send(c.Sent)
		p.Ended(c.Name, c.Status, c.Field)
	}
}

func (w *wireHosts) pdus(t *testing.T) {
	h := w.host()
	admin, id := h.Admin(t)
	defer admin.Conn.Close()
	for n, c := range hostile.PDUs(inCapsule) {
		q := h.Queue(t, id, uint16(1+n%2)) // the last one's may not be free yet
		hostile.Ask(t, q, c.Name)
		go q.Conn.Write(c.Sent) // of long ones the target reads the start only
		q.Ended(c.Name, c.Status, c.Field)
	}
}

// resets cuts connections in the middle: of data that the target has asked for, and of data
// that it sends and nobody takes, which resets the connection (RFC 9293, 3.10.4).
func (w *wireHosts) resets(t *testing.T) {
	h := w.host()
	admin, id := h.Admin(t)
	defer admin.Conn.Close()
	half := hostile.H2C(hostile.Asked, wire.FlagLast, hostile.Data(int(hostile.Asked.Length)))
	read := hostile.Capsule(&wire.Command{Opcode: wire.IORead, NSID: 1, Flags: wire.FlagSGL, SGL: wire.SGLTransport, Length: inCapsule, CDW12: inCapsule/512 - 1}, nil)
	for n := range uint16(2) {
		q := h.Queue(t, id, 1+2*n)
		hostile.Ask(t, q, "a transfer to cut")
		q.Send(half[:len(half)/2])
		q.Conn.Close()
		q = h.Queue(t, id, 2+2*n)
		for range 16 {
			q.Send(read)
		}
		q.Conn.Close()
	}
}

// anotherName expects a host of another name to learn of nothing.
func (w *wireHosts) anotherName(t *testing.T) {
	c := w.honest
	c.HostNQN = "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"
	for _, subsystem := range []string{w.honest.SubsystemNQN, wire.DiscoveryNQN} {
		c.SubsystemNQN = subsystem
		_, err := initiator.Connect(t.Context(), c)
		var status wire.Status
		if !errors.As(err, &status) || status.Code() != wire.ConnectHost {
			t.Errorf("%s: %v", subsystem, err)
		}
	}
}

// wrongSecret expects a host that does not have the secret to be told so, and nothing else.
func (w *wireHosts) wrongSecret(t *testing.T) {
	h := w.host()
	h.Secret = new(dhchap.Secret)
	must(t, h.Secret.Generate(dhchap.SHA256))
	p := h.Peer(t).Open()
	if e := p.Connect(h.Hello()); e.Status != wire.Success {
		t.Fatal(e.Status)
	}
	p.AuthSend(h.Reply(t, p.Challenged(7), nil))
	if m, s := p.AuthReceive(); s != wire.Success || len(m) < 2 || m[1] != wire.AuthFailure1 {
		t.Errorf("a wrong secret is answered with %v, % x", s, m)
	}
	if m := p.PDU(); m != nil {
		t.Errorf("the connection goes on with % x", m)
	}
}

// flood opens more connections than there are places, and holds those that it gets.
func (w *wireHosts) flood(t *testing.T) {
	var in atomic.Int64
	var all, ready sync.WaitGroup
	release := make(chan struct{})
	ready.Add(floodOf)
	for range floodOf {
		all.Go(func() {
			told := sync.OnceFunc(ready.Done)
			defer told()
			ctx, cancel := context.WithTimeout(t.Context(), setupLimit/2) // before those that are in have to go
			defer cancel()
			nc, err := w.honest.Dial(ctx)
			if err != nil {
				return // not even that
			}
			defer nc.Close()
			nc.SetDeadline(time.Now().Add(setupLimit / 2))
			var b [wire.ICSize]byte
			wire.ICReq{}.Encode(&b)
			if _, err := nc.Write(b[:]); err != nil {
				return
			}
			if _, err := io.ReadFull(nc, b[:]); err == nil && b[0] == wire.TypeICResp {
				in.Add(1)
			}
			told()
			<-release
		})
	}
	ready.Wait()
	close(release)
	all.Wait()
	if n := in.Load(); n > pendingPlaces {
		t.Errorf("%d of %d connections were let in at once, and there are %d places", n, floodOf, pendingPlaces)
	} else {
		t.Logf("%d of %d connections were let in", n, floodOf)
	}
}

// A stall is a connection that says no more.
type stall struct {
	what string
	peer *hostile.Peer
}

// stall makes connections of all kinds that stop in the middle.
func (w *wireHosts) stall() (all []stall) {
	h := w.host()
	var set [wire.ICSize]byte
	wire.ICReq{}.Encode(&set)
	var connect wire.Command
	data := new([wire.ConnectSize]byte)
	hello := h.Hello()
	hello.Encode(&connect, data)
	capsule := hostile.Capsule(&connect, data[:])
	for _, c := range []struct {
		what string
		sent []byte
	}{
		{"silent", nil}, {"half a set-up", set[:wire.ICSize/2]}, {"no command", set[:]},
		{"half a header", append(set[:], capsule[:5]...)}, {"half a Connect", append(set[:], capsule[:600]...)},
	} {
		p := h.Peer(w.t)
		p.Send(c.sent)
		all = append(all, stall{c.what, p})
	}
	admin, id := h.Admin(w.t)
	q := h.Queue(w.t, id, 1)
	hostile.Ask(w.t, q, "a transfer that stops")
	q.Send(hostile.H2C(hostile.Asked, wire.FlagLast, hostile.Data(int(hostile.Asked.Length)))[:200])
	w.t.Cleanup(func() { admin.Conn.Close() }) // the queue ends before it
	return append(all, stall{"half a PDU of data", q})
}

// stalledEnd expects the target to have ended them all, and says nothing of when: the board's
// clock may be behind.
func (w *wireHosts) stalledEnd(t *testing.T, all []stall) {
	for _, s := range all {
		s.peer.Conn.SetDeadline(time.Now().Add(hostilePatience))
		if _, err := io.Copy(io.Discard, s.peer.Conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: the connection is still there", s.what)
		}
	}
}

// A memory is what the board has in use of it, as its metrics say.
type memory struct{ goroutines, live, pages float64 } // live heap and pages in bytes

// metrics asks for the metrics.
func (w *wireHosts) metrics() (string, error) {
	a, err := w.operator.Get("https://" + w.address + "/metrics")
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(a.Body, 1<<20))
	if err == nil && a.StatusCode != http.StatusOK {
		err = fmt.Errorf("metrics: %s: %.200s", a.Status, text)
	}
	return string(text), err
}

// inUse asks what is in use.
func (w *wireHosts) inUse() (m memory, err error) {
	text, err := w.metrics()
	if err != nil {
		return m, err
	}
	for name, v := range map[string]*float64{"nitro_go_goroutines": &m.goroutines, "nitro_go_heap_live_bytes": &m.live, "nitro_kernel_memory_bytes": &m.pages} {
		if *v, err = metrics.Find(text, name); err != nil {
			return m, err
		}
	}
	return m, nil
}

// above tells what is more than before by more than so much.
func (m memory) above(before, more memory) (grown []string) {
	for _, c := range []struct {
		what             string
		now, before, may float64
	}{
		{"goroutines", m.goroutines, before.goroutines, more.goroutines}, {"live heap", m.live, before.live, more.live}, {"pages", m.pages, before.pages, more.pages},
	} {
		if c.now > c.before+c.may {
			grown = append(grown, fmt.Sprintf("%s: %.0f, and %.0f before", c.what, c.now, c.before))
		}
	}
	return grown
}

// byChance is what may be more though nothing is kept: what one moment has under way.
var byChance = memory{goroutines: 2, live: 512 << 10, pages: 4 << 20}

// mayUse is what may be in use beyond that while hostile hosts are at work (docs/nvme.md,
// "Memory"): a goroutine for each connection that there may be, and a timer's; 17 KiB for each that has
// not authenticated, 0.3 MiB for each queue with its R2T, and some MiB of garbage between two
// collections.
var mayUse = memory{goroutines: 64 + 2*pendingPlaces, live: 4 << 20, pages: 16 << 20}

// settled has the board collect so many times, or until no more is in use than before.
func (w *wireHosts) settled(t *testing.T, before memory, times int) (least memory) {
	t.Helper()
	for n := range times {
		for range 60 { // some 100 KiB of garbage come of each, and a collection every 4 MiB
			_, err := w.metrics()
			must(t, err)
		}
		m, err := w.inUse()
		must(t, err)
		if n == 0 || m.live < least.live {
			least = m
		}
		if n > 0 && least.above(before, byChance) == nil {
			break
		}
	}
	return least
}

// watchMemory asks what is in use, until stop, and keeps the most of it.
func (w *wireHosts) watchMemory(stop <-chan struct{}) {
	for {
		if m, err := w.inUse(); err == nil { // the metrics have to be there at the end
			w.most = memory{max(w.most.goroutines, m.goroutines), max(w.most.live, m.live), max(w.most.pages, m.pages)}
		}
		select {
		case <-stop:
			return
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// bounded holds what was in use meanwhile to what may be, and what is kept to nothing.
func (w *wireHosts) bounded(t *testing.T, before memory) {
	t.Helper()
	w.watched()
	for _, g := range w.most.above(before, mayUse) {
		t.Errorf("meanwhile %s", g)
	}
	after := w.settled(t, before, 6)
	t.Logf("before %+v, at most %+v, after %+v", before, w.most, after)
	for _, g := range after.above(before, byChance) {
		t.Error(g)
	}
}

// counted expects the metrics to tell of all this.
func (w *wireHosts) counted(t *testing.T, times int) {
	t.Helper()
	text, err := w.metrics()
	must(t, err)
	for reason, least := range map[string]int{
		"connection": 2, "authentication": 1, "protocol": len(hostile.SetUps()) + len(hostile.PDUs(inCapsule)) - 1, // the last one's admin queue may go first
	} {
		n, err := metrics.Find(text, `nitro_volume_refused_total{reason="`+reason+`"}`)
		must(t, err)
		if n < float64(times*least) {
			t.Errorf("%v were refused for %s, and there were %d", n, reason, times*least)
		}
	}
}
