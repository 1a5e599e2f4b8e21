package dhcp

import (
	"context"
	_ "embed"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

var (
	hardware = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	serverIP = netip.MustParseAddr("192.0.2.254")
	given    = netip.MustParsePrefix("192.0.2.10/24")
)

const hour = 3600 // seconds

// A server answers a client as a test has it do, and writes down what happened.
type server struct {
	t      *testing.T
	client *Client
	begin  time.Time
	events []event
	lease  *Lease
	inUse  bool

	// answer gives the answers to a message; nil has the usual one.
	answer func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4
}

// An event is a message from the client, or a change of its lease.
type event struct {
	at   time.Duration // since the start, whole seconds
	what string
}

// run has a client talk to the server for a time.
func (s *server) run(t *testing.T, d time.Duration, also func()) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s.t, s.begin = t, time.Now()
		s.client = NewClient(Config{
			HardwareAddr: hardware, Hostname: "controller", Send: s.receive,
			InUse:   func(context.Context, netip.Addr) bool { return s.inUse },
			Changed: func(l *Lease) { s.lease = l; s.note("lease %v", l) },
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { s.client.Run(ctx); close(done) }()
		if also != nil {
			also()
		}
		time.Sleep(d - time.Since(s.begin))
		synctest.Wait()
		had := s.events
		cancel()
		<-done
		if s.lease != nil {
			t.Error("the lease outlives the client")
		}
		s.events = had
	})
}

func (s *server) note(format string, a ...any) {
	s.events = append(s.events, event{time.Since(s.begin).Truncate(time.Second), fmt.Sprintf(format, a...)})
}

// receive takes what the client sends.
func (s *server) receive(payload []byte, from, to netip.Addr) {
	m, err := dhcpv4.FromBytes(payload)
	if err != nil {
		s.t.Fatalf("client sent what is no message: %v", err)
	}
	if string(m.ClientHWAddr) != string(hardware) || m.OpCode != dhcpv4.OpcodeBootRequest {
		s.t.Errorf("client's message is from %v, op %v", m.ClientHWAddr, m.OpCode)
	}
	if own := netip.AddrFrom4([4]byte(m.ClientIPAddr.To4())); own != from {
		s.t.Errorf("sent from %v, but ciaddr is %v", from, own)
	}
	what := fmt.Sprintf("%v to %v", m.MessageType(), to)
	if r := m.RequestedIPAddress(); r != nil {
		what += fmt.Sprintf(", wants %v", r)
	}
	if i := m.ServerIdentifier(); i != nil {
		what += fmt.Sprintf(" of %v", i)
	}
	s.note("%s", what)
	answer := s.answer
	if answer == nil {
		answer = usual
	}
	for _, a := range answer(m, to) {
		s.client.Receive(a.ToBytes())
	}
}

// reply makes an answer to a message of a given kind, with a good configuration.
func reply(m *dhcpv4.DHCPv4, kind dhcpv4.MessageType) *dhcpv4.DHCPv4 {
	r, err := dhcpv4.NewReplyFromRequest(m)
	if err != nil {
		panic(err)
	}
	r.UpdateOption(dhcpv4.OptMessageType(kind))
	r.UpdateOption(dhcpv4.OptServerIdentifier(serverIP.AsSlice()))
	if kind == dhcpv4.MessageTypeNak {
		return r
	}
	r.YourIPAddr = given.Addr().AsSlice()
	r.UpdateOption(dhcpv4.OptSubnetMask(net.CIDRMask(given.Bits(), 32)))
	r.UpdateOption(dhcpv4.OptRouter(net.IP{192, 0, 2, 1}))
	r.UpdateOption(dhcpv4.OptIPAddressLeaseTime(hour * time.Second))
	return r
}

func usual(m *dhcpv4.DHCPv4, _ netip.Addr) []*dhcpv4.DHCPv4 {
	switch m.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		return []*dhcpv4.DHCPv4{reply(m, dhcpv4.MessageTypeOffer)}
	case dhcpv4.MessageTypeRequest:
		return []*dhcpv4.DHCPv4{reply(m, dhcpv4.MessageTypeAck)}
	}
	return nil
}

const (
	discover = "DISCOVER to 255.255.255.255"
	request  = "REQUEST to 255.255.255.255, wants 192.0.2.10 of 192.0.2.254"
	reboot   = "REQUEST to 255.255.255.255, wants 192.0.2.10"
	renew    = "REQUEST to 192.0.2.254"
	rebind   = "REQUEST to 255.255.255.255"
	bound    = "lease 192.0.2.10/24, router 192.0.2.1, from 192.0.2.254 for 1h0m0s"
	gone     = "lease <nil>"
)

// expect compares what happened with times in seconds and texts in turn.
func (s *server) expect(want ...any) {
	s.t.Helper()
	var events []event
	for i := 0; i < len(want); i += 2 {
		events = append(events, event{time.Duration(want[i].(int)) * time.Second, want[i+1].(string)})
	}
	if !reflect.DeepEqual(s.events, events) {
		s.t.Errorf("happened:\n%v\nexpected:\n%v", s.events, events)
	}
}

func TestBindAndRenew(t *testing.T) {
	s := &server{}
	s.run(t, 2*hour*time.Second-time.Second, nil)
	s.t = t
	s.expect(0, discover, 0, request, 0, bound, hour/2, renew, hour/2, bound, hour, renew, hour, bound, hour*3/2, renew, hour*3/2, bound)
}

// TestTimers: T1 and T2 of the server's are used if they make sense.
func TestTimers(t *testing.T) {
	for _, c := range []struct{ t1, t2, want time.Duration }{
		{600, 1200, 600}, {1200, 600, hour / 2}, {600, 2 * hour, hour / 2}, {0, 1200, hour / 2},
	} {
		s := &server{answer: func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
			all := usual(m, to)
			for _, a := range all {
				a.UpdateOption(dhcpv4.Option{Code: dhcpv4.OptionRenewTimeValue, Value: dhcpv4.Duration(c.t1 * time.Second)})
				a.UpdateOption(dhcpv4.Option{Code: dhcpv4.OptionRebindingTimeValue, Value: dhcpv4.Duration(c.t2 * time.Second)})
			}
			return all
		}}
		s.run(t, hour/2*time.Second+time.Second, nil)
		if len(s.events) < 4 || s.events[3] != (event{c.want * time.Second, renew}) {
			t.Errorf("T1 %d, T2 %d: %v", c.t1, c.t2, s.events)
		}
	}
}

func TestRebind(t *testing.T) {
	other := netip.MustParseAddr("192.0.2.253")
	s := &server{answer: func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
		all := usual(m, to)
		if m.ClientIPAddr.To4().Equal(given.Addr().AsSlice()) {
			if to != Broadcast {
				return nil
			}
			all[0].UpdateOption(dhcpv4.OptServerIdentifier(other.AsSlice()))
		}
		return all
	}}
	s.run(t, hour*7/8*time.Second+time.Second, nil)
	s.t = t
	// Half of what is left of the time to T2 (3150 s) each time, but a minute at least.
	s.expect(0, discover, 0, request, 0, bound,
		1800, renew, 2475, renew, 2812, renew, 2981, renew, 3065, renew, 3125, renew,
		3150, rebind, 3150, "lease 192.0.2.10/24, router 192.0.2.1, from 192.0.2.253 for 1h0m0s")
}

func TestExpiry(t *testing.T) {
	silent := false
	s := &server{answer: func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
		if silent {
			return nil
		}
		silent = m.MessageType() == dhcpv4.MessageTypeRequest
		return usual(m, to)
	}}
	s.run(t, hour*time.Second+time.Second, nil)
	s.t = t
	s.expect(0, discover, 0, request, 0, bound,
		1800, renew, 2475, renew, 2812, renew, 2981, renew, 3065, renew, 3125, renew,
		3150, rebind, 3375, rebind, 3487, rebind, 3547, rebind, 3600, gone, 3600, discover)
}

func TestNAK(t *testing.T) {
	naks := 1
	s := &server{answer: func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
		if to == serverIP && naks > 0 {
			naks--
			return []*dhcpv4.DHCPv4{reply(m, dhcpv4.MessageTypeNak)}
		}
		return usual(m, to)
	}}
	s.run(t, hour/2*time.Second+10*time.Second, nil)
	s.t = t
	s.expect(0, discover, 0, request, 0, bound, 1800, renew, 1800, gone, 1801, discover, 1801, request, 1801, bound)
}

// TestRenewalByAnother: only the lease's own server answers a renewal, until T2.
func TestRenewalByAnother(t *testing.T) {
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak} {
		s := &server{answer: func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
			if to != serverIP {
				return usual(m, to)
			}
			r := reply(m, kind)
			r.UpdateOption(dhcpv4.OptServerIdentifier(net.IP{192, 0, 2, 253}))
			return []*dhcpv4.DHCPv4{r}
		}}
		s.run(t, hour/2*time.Second+time.Minute, nil)
		s.t = t
		s.expect(0, discover, 0, request, 0, bound, 1800, renew)
	}
}

// TestRestart: the link comes back; the address is checked without being given up.
func TestRestart(t *testing.T) {
	restart := func(s *server) func() {
		return func() { time.Sleep(100 * time.Second); s.client.Restart() }
	}
	s := &server{}
	s.run(t, 200*time.Second, restart(s))
	s.t = t
	s.expect(0, discover, 0, request, 0, bound, 100, reboot, 100, bound)

	// Another network: its server refuses.
	s = &server{answer: func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
		if m.MessageType() == dhcpv4.MessageTypeRequest && m.ServerIdentifier() == nil {
			return []*dhcpv4.DHCPv4{reply(m, dhcpv4.MessageTypeNak)}
		}
		return usual(m, to)
	}}
	s.run(t, 200*time.Second, restart(s))
	s.t = t
	s.expect(0, discover, 0, request, 0, bound, 100, reboot, 100, gone, 101, discover, 101, request, 101, bound)

	// Another network, and its server knows nothing of the address: it is silent.
	s = &server{answer: func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
		if m.MessageType() == dhcpv4.MessageTypeRequest && m.ServerIdentifier() == nil {
			return nil
		}
		return usual(m, to)
	}}
	s.run(t, 200*time.Second, restart(s))
	if n := len(s.events); n != 9 || s.events[5].what != gone || s.events[8].what != bound || s.events[8].at > 115*time.Second {
		t.Error(s.events)
	}
}

// TestRestartWhileAsking: the link comes back again before what was asked is answered.
// What was asked of the old network is answered then, and must not count on the new one,
// whose server refuses. However often the link flaps, that server is heard.
func TestRestartWhileAsking(t *testing.T) {
	for _, flaps := range []int{1, 2, 5} {
		var late []*dhcpv4.DHCPv4
		s := &server{}
		s.answer = func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
			switch {
			case m.MessageType() != dhcpv4.MessageTypeRequest || m.ServerIdentifier() != nil:
				return usual(m, to) // how it got its lease
			case len(late) < flaps: // on its way as the link goes
				late = append(late, reply(m, dhcpv4.MessageTypeAck))
				s.client.Restart()
				return nil
			}
			return append(late, reply(m, dhcpv4.MessageTypeNak))
		}
		s.run(t, 100500*time.Millisecond, func() { time.Sleep(100 * time.Second); s.client.Restart() })
		s.t = t
		want := []any{0, discover, 0, request, 0, bound}
		for range 1 + flaps {
			want = append(want, 100, reboot)
		}
		s.expect(append(want, 100, gone)...)
	}
}

// TestRestartWhileSelecting: an offer of the network that the link has left is not asked
// for, nor taken up where it comes late.
func TestRestartWhileSelecting(t *testing.T) {
	for _, at := range []dhcpv4.MessageType{dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest} {
		var late []*dhcpv4.DHCPv4
		s := &server{}
		s.answer = func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
			if late != nil {
				return late // which is all that comes
			}
			all := usual(m, to)
			if m.MessageType() != at {
				return all
			}
			late = all
			s.client.Restart()
			return nil
		}
		s.run(t, time.Second, nil)
		s.t = t
		if at == dhcpv4.MessageTypeDiscover {
			s.expect(0, discover, 0, discover)
		} else {
			s.expect(0, discover, 0, request, 0, discover)
		}
	}
}

// TestSilence: without a server the client asks at growing intervals, for ever.
func TestSilence(t *testing.T) {
	s := &server{answer: func(*dhcpv4.DHCPv4, netip.Addr) []*dhcpv4.DHCPv4 { return nil }}
	s.run(t, 600*time.Second, nil)
	last := time.Duration(0)
	for i, want := range []time.Duration{0, 4, 8, 16, 32, 64, 64, 64} {
		if i >= len(s.events) {
			t.Fatal("stopped asking:", s.events)
		}
		if gap := s.events[i].at - last; s.events[i].what != discover || (gap-want*time.Second).Abs() > 2*time.Second {
			t.Errorf("message %d after %v, not %d s: %v", i, gap, want, s.events[i])
		}
		last = s.events[i].at
	}
	if len(s.events) > 14 {
		t.Errorf("%d messages in 10 minutes", len(s.events))
	}
}

func TestAddressInUse(t *testing.T) {
	s := &server{inUse: true}
	s.run(t, 12*time.Second, nil)
	s.t = t
	s.expect(0, discover, 0, request, 0, "DECLINE to 255.255.255.255, wants 192.0.2.10 of 192.0.2.254", 11, discover, 11, request,
		11, "DECLINE to 255.255.255.255, wants 192.0.2.10 of 192.0.2.254")
}

func set(code dhcpv4.OptionCode, b ...byte) func(*dhcpv4.DHCPv4) {
	return func(m *dhcpv4.DHCPv4) { m.UpdateOption(dhcpv4.OptGeneric(code, b)) }
}

func drop(code dhcpv4.OptionCode) func(*dhcpv4.DHCPv4) {
	return func(m *dhcpv4.DHCPv4) { m.DeleteOption(code) }
}

// bad are changes after which an OFFER or ACK must not count.
var bad = map[string]func(*dhcpv4.DHCPv4){
	"op":                     func(m *dhcpv4.DHCPv4) { m.OpCode = dhcpv4.OpcodeBootRequest },
	"hardware type":          func(m *dhcpv4.DHCPv4) { m.HWType = 6 },
	"another's hardware":     func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = net.HardwareAddr{2, 0, 0, 0, 0, 9} },
	"short hardware":         func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = m.ClientHWAddr[:5] },
	"long hardware":          func(m *dhcpv4.DHCPv4) { m.ClientHWAddr = append(m.ClientHWAddr[:6:6], 0) },
	"transaction":            func(m *dhcpv4.DHCPv4) { m.TransactionID[3]++ },
	"no type":                drop(dhcpv4.OptionDHCPMessageType),
	"long type":              set(dhcpv4.OptionDHCPMessageType, 2, 2),
	"client's type":          set(dhcpv4.OptionDHCPMessageType, byte(dhcpv4.MessageTypeDiscover)),
	"no server":              drop(dhcpv4.OptionServerIdentifier),
	"short server":           set(dhcpv4.OptionServerIdentifier, 192, 0, 2),
	"server 0":               set(dhcpv4.OptionServerIdentifier, 0, 0, 0, 0),
	"server everybody":       set(dhcpv4.OptionServerIdentifier, 255, 255, 255, 255),
	"server loopback":        set(dhcpv4.OptionServerIdentifier, 127, 0, 0, 1),
	"address 0":              func(m *dhcpv4.DHCPv4) { m.YourIPAddr = net.IP{0, 0, 0, 0} },
	"address network 0":      func(m *dhcpv4.DHCPv4) { m.YourIPAddr = net.IP{0, 0, 0, 9} },
	"address everybody":      func(m *dhcpv4.DHCPv4) { m.YourIPAddr = net.IP{255, 255, 255, 255} },
	"address multicast":      func(m *dhcpv4.DHCPv4) { m.YourIPAddr = net.IP{224, 0, 0, 5} },
	"address loopback":       func(m *dhcpv4.DHCPv4) { m.YourIPAddr = net.IP{127, 0, 0, 2} },
	"address link-local":     func(m *dhcpv4.DHCPv4) { m.YourIPAddr = net.IP{169, 254, 0, 2} },
	"address the network's":  func(m *dhcpv4.DHCPv4) { m.YourIPAddr = net.IP{192, 0, 2, 0} },
	"address broadcast":      func(m *dhcpv4.DHCPv4) { m.YourIPAddr = net.IP{192, 0, 2, 255} },
	"no mask":                drop(dhcpv4.OptionSubnetMask),
	"mask 0":                 set(dhcpv4.OptionSubnetMask, 0, 0, 0, 0),
	"mask 7":                 set(dhcpv4.OptionSubnetMask, 254, 0, 0, 0),
	"mask 31":                set(dhcpv4.OptionSubnetMask, 255, 255, 255, 254),
	"mask with a hole":       set(dhcpv4.OptionSubnetMask, 255, 0, 255, 0),
	"mask of 3 bytes":        set(dhcpv4.OptionSubnetMask, 255, 255, 255),
	"mask of 16 bytes":       set(dhcpv4.OptionSubnetMask, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0),
	"router elsewhere":       set(dhcpv4.OptionRouter, 198, 51, 100, 1),
	"router itself":          set(dhcpv4.OptionRouter, 192, 0, 2, 10),
	"router the network":     set(dhcpv4.OptionRouter, 192, 0, 2, 0),
	"router broadcast":       set(dhcpv4.OptionRouter, 192, 0, 2, 255),
	"router of 5 bytes":      set(dhcpv4.OptionRouter, 192, 0, 2, 1, 9),
	"no lease time":          drop(dhcpv4.OptionIPAddressLeaseTime),
	"lease time 0":           set(dhcpv4.OptionIPAddressLeaseTime, 0, 0, 0, 0),
	"lease time 9":           set(dhcpv4.OptionIPAddressLeaseTime, 0, 0, 0, 9),
	"lease time of 5 bytes":  set(dhcpv4.OptionIPAddressLeaseTime, 0, 0, 9, 9, 9),
	"longer than a frame is": set(dhcpv4.OptionVendorSpecificInformation, make([]byte, 1400)...),
}

func TestBadOffers(t *testing.T) {
	for name, change := range bad {
		s := &server{answer: func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
			all := usual(m, to)
			for _, a := range all {
				change(a)
			}
			return all
		}}
		s.run(t, 30*time.Second, nil)
		for _, e := range s.events {
			if e.what != discover {
				t.Errorf("%s: %v", name, e)
			}
		}
		if n := s.client.Refused(); n != uint64(len(s.events)) {
			t.Errorf("%s: %d answers, %d refused", name, len(s.events), n)
		}
	}
}

// TestBadACKs: also an answer of another server's, and another address than was asked
// for.
func TestBadACKs(t *testing.T) {
	changes := map[string]func(*dhcpv4.DHCPv4){
		"another server's": set(dhcpv4.OptionServerIdentifier, 192, 0, 2, 253),
		"another address":  func(m *dhcpv4.DHCPv4) { m.YourIPAddr = net.IP{192, 0, 2, 11} },
		"an offer again":   set(dhcpv4.OptionDHCPMessageType, byte(dhcpv4.MessageTypeOffer)),
		"another's refusal": func(m *dhcpv4.DHCPv4) {
			*m = *reply(m, dhcpv4.MessageTypeNak)
			m.UpdateOption(dhcpv4.OptServerIdentifier(net.IP{192, 0, 2, 253}))
		},
		"stale refusal": func(m *dhcpv4.DHCPv4) { *m = *reply(m, dhcpv4.MessageTypeNak); m.TransactionID[0]++ },
	}
	for name, change := range bad {
		changes[name] = change
	}
	for name, change := range changes {
		s := &server{answer: func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
			all := usual(m, to)
			if m.MessageType() == dhcpv4.MessageTypeRequest {
				change(all[0])
			}
			return all
		}}
		s.run(t, 20*time.Second, nil)
		for i, e := range s.events {
			if e.what != request && i > 0 {
				t.Errorf("%s: %v", name, e)
			}
		}
	}
}

// TestHostileServers: whatever is answered, the client sends few messages.
func TestHostileServers(t *testing.T) {
	kinds := map[string][2]dhcpv4.MessageType{
		"refuses": {dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeNak},
		"offers":  {dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeOffer},
		"grants":  {dhcpv4.MessageTypeAck, dhcpv4.MessageTypeAck},
	}
	for name, kind := range kinds {
		s := &server{answer: func(m *dhcpv4.DHCPv4, _ netip.Addr) (all []*dhcpv4.DHCPv4) {
			k := kind[0]
			if m.MessageType() == dhcpv4.MessageTypeRequest {
				k = kind[1]
			}
			for range 100 {
				all = append(all, reply(m, k))
			}
			return all
		}}
		s.run(t, 10*time.Minute, nil)
		if len(s.events) > 60 {
			t.Errorf("%s: %d messages in 10 minutes", name, len(s.events))
		}
	}
	// A lease as short as it may be is prolonged every few seconds, no more.
	s := &server{answer: func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
		all := usual(m, to)
		for _, a := range all {
			a.UpdateOption(dhcpv4.OptIPAddressLeaseTime(minLease))
			a.UpdateOption(dhcpv4.Option{Code: dhcpv4.OptionRenewTimeValue, Value: dhcpv4.Duration(0)})
			a.UpdateOption(dhcpv4.Option{Code: dhcpv4.OptionRebindingTimeValue, Value: dhcpv4.Duration(1)})
		}
		return all
	}}
	s.run(t, 10*time.Minute, nil)
	if len(s.events) > 250 {
		t.Errorf("%d events in 10 minutes", len(s.events))
	}
}

// TestForever: the longest lease there is neither overflows nor ends.
func TestForever(t *testing.T) {
	s := &server{answer: func(m *dhcpv4.DHCPv4, to netip.Addr) []*dhcpv4.DHCPv4 {
		all := usual(m, to)
		for _, a := range all {
			set(dhcpv4.OptionIPAddressLeaseTime, 255, 255, 255, 255)(a)
		}
		return all
	}}
	s.run(t, 10*365*24*time.Hour, nil)
	if len(s.events) != 3 {
		t.Error(s.events)
	}
}

// kept are inputs that the fuzzer found interesting, one a line. They are not where it
// looks for them by itself, since the board cannot list a folder.
//
//go:embed testdata/answers.hex
var kept string

// FuzzParse: nothing makes parse panic, and what it takes is a lease as Lease says.
func FuzzParse(f *testing.F) {
	m := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootRequest, HWType: 1, ClientHWAddr: hardware, Options: dhcpv4.Options{},
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero,
	}
	for _, kind := range []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak} {
		f.Add(reply(m, kind).ToBytes())
		for _, change := range bad {
			r := reply(m, kind)
			change(r)
			f.Add(r.ToBytes())
		}
	}
	for line := range strings.Lines(kept) {
		b, err := hex.DecodeString(strings.TrimSpace(line))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b, hardware)
		if err != nil {
			return
		}
		if !usable(m.server) {
			t.Errorf("server %v", m.server)
		}
		l := m.lease
		if m.kind == dhcpv4.MessageTypeNak {
			if l != nil {
				t.Error("NAK with a lease")
			}
			return
		}
		if l.Length < minLease || l.Renew <= 0 || l.Renew >= l.Rebind || l.Rebind >= l.Length {
			t.Errorf("times %v, %v, %v", l.Renew, l.Rebind, l.Length)
		}
		if err := inside(l.Address, l.Address.Addr()); err != nil || l.Address.Bits() < minMask || l.Address.Bits() > maxMask {
			t.Errorf("address %v", l.Address)
		}
		if l.Router.IsValid() && (inside(l.Address, l.Router) != nil || l.Router == l.Address.Addr()) {
			t.Errorf("router %v for %v", l.Router, l.Address)
		}
	})
}
