package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"nitro/internal/metal"
	"nitro/internal/peer"
	"nitro/qemu-test/emulator"
)

// iperfPort is where both servers listen, iperf3's own default.
const iperfPort = 5201

// netRounds is how often each side is measured in each direction: odd, so that one is
// in the middle.
const netRounds = 5

// netArea measures TCP throughput between this machine and the board, over the
// emulator's own network, by iperf3: the project's image and Debian's iperf3 on Linux
// serve, this machine's iperf3 is the client of both. What the receiver counted is
// the figure.
//
//	net.tcp_tx  the board sends
//	net.tcp_rx  the board receives
func (b *bench) netArea(ctx context.Context) error {
	image, err := b.image(ctx, metal.Build{Symbols: true}, "./qemu-test/images/iperf", "iperf")
	if err != nil {
		return err
	}
	ours, err := boardServer(image)
	if err != nil {
		return err
	}
	defer ours.stop()
	theirs, err := linuxServer(ctx)
	if err != nil {
		return err
	}
	defer theirs.stop()
	for _, f := range []struct {
		name string
		way  direction
	}{{"net.tcp_tx", boardSends}, {"net.tcp_rx", boardReceives}} {
		mine, peers, err := compare(ctx, ours, theirs, f.way, netRounds)
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		b.report(figure{Name: f.name, Value: mine, Unit: "Mbit/s", Peer: b.linux, PeerValue: peers})
	}
	return nil
}

// compare measures two servers in turns and gives their medians.
func compare(ctx context.Context, ours, theirs *server, way direction, rounds int) (mine, peers float64, err error) {
	var values [2][]float64
	for range rounds {
		for i, s := range []*server{ours, theirs} {
			v, err := s.throughput(ctx, way)
			if err != nil {
				return 0, 0, err
			}
			values[i] = append(values[i], v)
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
func boardServer(image string) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	board, err := emulator.Start(emulator.Config{Image: image, Args: []string{
		"-no-reboot", "-nic", fmt.Sprintf("user,hostfwd=tcp:127.0.0.1:%d-%v:%d", port, peer.Address.Addr(), iperfPort),
	}})
	if err != nil {
		return nil, err
	}
	return &server{name: "iperf on the board", port: port, stop: board.Close}, nil
}

// linuxLimit is how long Linux may run for all measurements.
const linuxLimit = 10 * time.Minute

// linuxServer starts Debian's iperf3 on Linux.
func linuxServer(ctx context.Context) (*server, error) {
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
		peer.Run(ctx, peer.Job{Program: program, Args: []string{"-s"}, Network: true, Forward: map[int]int{port: iperfPort}, Limit: linuxLimit})
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
