// Command iperf is an image that serves iperf3's clients on port 5201 of the first
// Ethernet port, with an address by DHCP, to compare the speed of TCP with Linux's.
// It also takes what comes to port 5202 and sends without end from port 5203, so that
// clients other than iperf3's can measure. Once a second in which there was traffic it
// prints its counters.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"time"

	"nitro/board/evk"
	"nitro/net/stack"
	"nitro/qemu-test/iperf3"
)

// limit bounds the wait for an address.
const limit = time.Minute

func main() {
	if err := run(); err != nil {
		fmt.Println("iperf:", err)
		os.Exit(1)
	}
}

func run() error {
	b, err := evk.Open()
	if err != nil {
		return err
	}
	port, err := b.Ethernet(0)
	if err != nil {
		return err
	}
	s, err := stack.New(stack.Config{Name: "management", Link: port, Hostname: "controller", DHCP: true, SLAAC: true})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	address, err := s.WaitAddress(ctx)
	if err != nil {
		return err
	}
	l, err := s.Listen("tcp", ":5201")
	if err != nil {
		return err
	}
	if err := each(s, ":5202", func(c net.Conn) { io.CopyBuffer(io.Discard, struct{ io.Reader }{c}, make([]byte, 128<<10)) }); err != nil {
		return err
	}
	if err := each(s, ":5203", send); err != nil {
		return err
	}
	fmt.Printf("iperf: address %v\n", address)
	go report(s)
	server := &iperf3.Server{Log: func(format string, a ...any) { fmt.Printf(format+"\n", a...) }}
	return server.Serve(l)
}

// each serves every connection to a port.
func each(s *stack.Stack, at string, serve func(net.Conn)) error {
	l, err := s.Listen("tcp", at)
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				serve(c)
				c.Close()
			}()
		}
	}()
	return nil
}

// send sends zeros until the connection ends.
func send(c net.Conn) {
	for block := make([]byte, 128<<10); ; {
		if _, err := c.Write(block); err != nil {
			return
		}
	}
}

// report prints the counters of each second with traffic, and the memory in use.
func report(s *stack.Stack) {
	var last stack.Stats
	for range time.Tick(time.Second) {
		now := s.Stats()
		if in, out := now.FramesReceived-last.FramesReceived, now.FramesSent-last.FramesSent; in+out > 100 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			fmt.Printf("frames %d in (%d joined), %d out; %d retransmitted; heap %d KiB, from the system %d KiB\n", in, now.SegmentsJoined-last.SegmentsJoined, out,
				now.Retransmissions-last.Retransmissions, m.HeapInuse>>10, (m.Sys-m.HeapReleased)>>10)
		}
		last = now
	}
}
