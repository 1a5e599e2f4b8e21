package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"nitro/internal/insncount"
	"nitro/internal/metal"
	"nitro/internal/peer"
	"nitro/qemu-test/emulator"
)

// iperfPort is where both servers listen, iperf3's own default.
const iperfPort = 5201

// netRounds is how often each side is measured in each direction: odd, so that one is
// in the middle.
const netRounds = 5

// directions are the figures' beginnings, and what they measure.
var directions = []struct {
	name string
	way  direction
}{{"net.tcp_tx", boardSends}, {"net.tcp_rx", boardReceives}}

// netArea measures TCP between this machine and the board, over the emulator's own
// network, by iperf3: the project's image and Debian's iperf3 on Linux serve, this
// machine's iperf3 is the client of both. What the receiver counted is the figure.
//
//	net.tcp_tx, net.tcp_rx
//	    throughput when the board sends, and when it receives
//	net.tcp_tx_insns, net.tcp_rx_insns
//	    instructions that the board executes for each byte
//	frame.transmit and others
//	    instructions of the Ethernet driver for each frame; bench/frames tells
func (b *bench) netArea(ctx context.Context) error {
	if err := b.frames(ctx); err != nil {
		return err
	}
	image, err := b.image(ctx, metal.Build{Symbols: true}, "./qemu-test/images/iperf", "iperf")
	if err != nil {
		return err
	}
	ours := func(ctx context.Context, further ...string) (*server, error) { return boardServer(image, further...) }
	if err := b.throughput(ctx, ours, linuxServer); err != nil {
		return err
	}
	return b.cost(ctx, ours, linuxServer)
}

// hub joins the board's two ports.
var hub = []string{
	"-netdev", "hubport,id=a,hubid=0", "-net", "nic,netdev=a,macaddr=52:54:00:00:00:01",
	"-netdev", "hubport,id=b,hubid=0", "-net", "nic,netdev=b,macaddr=52:54:00:00:00:02",
}

// frames measures the Ethernet driver alone.
func (b *bench) frames(ctx context.Context) error {
	image, err := b.image(ctx, metal.Build{Test: true}, "./qemu-test/bench/frames", "frames")
	if err != nil {
		return err
	}
	r, err := metal.Run(ctx, metal.Machine{Image: image, Args: []string{"frames"}, Dir: b.build, QEMUArgs: append(hub, icount...)})
	if err != nil || r.ExitCode != 0 {
		return fmt.Errorf("frames: exit code %d, %w\n%s", r.ExitCode, err, r.Console)
	}
	for _, f := range parseOrder(string(r.Console)) {
		b.report(f)
	}
	return nil
}

// A starter starts a server on a board whose emulator gets further arguments.
type starter func(ctx context.Context, further ...string) (*server, error)

// throughput measures both sides in turns.
func (b *bench) throughput(ctx context.Context, ours, theirs starter) error {
	mine, err := ours(ctx)
	if err != nil {
		return err
	}
	defer mine.stop()
	peers, err := theirs(ctx)
	if err != nil {
		return err
	}
	defer peers.stop()
	for _, d := range directions {
		m, p, err := compare(ctx, mine, peers, d.way, netRounds)
		if err != nil {
			return fmt.Errorf("%s: %w", d.name, err)
		}
		b.report(figure{Name: d.name, Value: m, Unit: "Mbit/s", Peer: b.linux, PeerValue: p})
	}
	return nil
}

// cost measures what a byte costs each side. Time plays no part but for the timer's
// interrupts and for how many frames an interrupt finds: on a machine with eight other
// processes at work, Linux against itself gave ratios of 0.89 and 1.10.
func (b *bench) cost(ctx context.Context, ours, theirs starter) error {
	var values [2][]float64
	for i, start := range []starter{ours, theirs} {
		v, err := b.perByte(ctx, start)
		if err != nil {
			return err
		}
		values[i] = v
	}
	for i, d := range directions {
		b.report(figure{Name: d.name + "_insns", Value: values[0][i], Unit: "instructions/byte", Peer: b.linux, PeerValue: values[1][i]})
	}
	return nil
}

// What is transferred to find the cost of a byte: a little (which the board sends, as a
// client that sends so little is done before the server has read any), and a lot.
const (
	fewBytes  = 1 << 20
	manyBytes = 256 << 20
)

// perByte gives the instructions for a byte in each direction, by the difference of two
// times of power in which different numbers of bytes are transferred.
func (b *bench) perByte(ctx context.Context, start starter) ([]float64, error) {
	base, baseBytes, err := b.countTransfer(ctx, start, boardSends, fewBytes)
	if err != nil {
		return nil, err
	}
	var costs []float64
	for _, d := range directions {
		insns, bytes, err := b.countTransfer(ctx, start, d.way, manyBytes)
		if err != nil {
			return nil, err
		}
		costs = append(costs, (insns-base)/(bytes-baseBytes))
	}
	return costs, nil
}

// countTransfer counts a board's instructions, from reset, for one transfer.
func (b *bench) countTransfer(ctx context.Context, start starter, way direction, n int) (insns, bytes float64, err error) {
	plugin, read, err := b.profiler(ctx, insncount.ProfileOptions{})
	if err != nil {
		return 0, 0, err
	}
	s, err := start(ctx, plugin...)
	if err != nil {
		return 0, 0, err
	}
	t, err := s.transfer(ctx, way, byBytes(n))
	s.stop() // the plugin writes its result then
	if err != nil {
		return 0, 0, err
	}
	p, err := read()
	return float64(p.Total().Insns), t.bytes, err
}

// compare measures two servers in turns and gives their medians.
func compare(ctx context.Context, ours, theirs *server, way direction, rounds int) (mine, peers float64, err error) {
	var values [2][]float64
	for range rounds {
		for i, s := range []*server{ours, theirs} {
			t, err := s.transfer(ctx, way, byTime)
			if err != nil {
				return 0, 0, err
			}
			values[i] = append(values[i], t.rate)
		}
	}
	return median(values[0]), median(values[1]), nil
}

// A server is a board on which an iperf3 server runs.
type server struct {
	name string
	port int // on this machine's loopback interface
	stop func()
}

// boardServer starts the project's server.
func boardServer(image string, further ...string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	nic := fmt.Sprintf("user,hostfwd=tcp:127.0.0.1:%d-%v:%d", port, peer.Address.Addr(), iperfPort)
	board, err := emulator.Start(emulator.Config{Image: image, Args: append([]string{"-no-reboot", "-nic", nic}, further...)})
	if err != nil {
		return nil, err
	}
	return &server{name: "iperf on the board", port: port, stop: board.Close}, nil
}

// linuxLimit is how long Linux may run for all measurements.
const linuxLimit = 10 * time.Minute

// linuxServer starts Debian's iperf3 on Linux.
func linuxServer(ctx context.Context, further ...string) (*server, error) {
	program, err := peer.Program("iperf3")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// How it ends does not matter: a client says what is wrong.
		peer.Run(ctx, peer.Job{Program: program, Args: []string{"-s"}, QEMUArgs: further, Limit: linuxLimit,
			Network: true, Forward: map[int]int{port: iperfPort}})
	}()
	return &server{name: "iperf3 on Linux", port: port, stop: func() { cancel(); <-ended }}, nil
}

// freePort gives a TCP port of the loopback interface that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("the loopback interface has no TCP")
	}
	return tcp.Port, nil
}
