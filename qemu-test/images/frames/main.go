// Command frames is an image that answers Ethernet frames, so that a test on the other
// end of the wire can try the ports. By a frame's type (of those that IEEE 802 leaves
// for experiments, and their neighbours) it
//
//	0x88b5  sends it back, with the addresses swapped
//	0x88b6  takes it without an answer
//	0x88b7  sends what the frame carries after its header as a frame of its own
//	0x88b8  sends the counters back, in text, and what other work has been done
//
// It tells on the console when links change.
package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"

	"nitro/board/evk"
	"nitro/board/imx6ul/enet"
)

const (
	header = 14

	typeEcho  = 0x88b5
	typeTake  = 0x88b6
	typeRelay = 0x88b7
	typeStats = 0x88b8
)

func main() {
	if err := run(); err != nil {
		fmt.Println("frames:", err)
		os.Exit(1)
	}
}

func run() error {
	b, err := evk.Open()
	if err != nil {
		return err
	}
	failed := make(chan error)
	for n := range b.Ports() {
		p, err := b.Ethernet(n)
		if err != nil {
			return err
		}
		fmt.Printf("port %d %v\n", n, enet.Address(p.HardwareAddr()))
		go tell(n, p)
		go func() { failed <- (&station{port: p}).serve() }()
	}
	go work()
	return <-failed
}

// tell prints the link's changes.
func tell(n int, p *enet.Port) {
	for range p.LinkChanged() {
		fmt.Printf("port %d link %v\n", n, p.LinkUp())
	}
}

// worked counts what is done beside the frames: it shows whether a storm leaves
// anything to others.
var worked atomic.Uint32

func work() {
	for {
		worked.Add(1)
	}
}

// A station answers on one port.
type station struct {
	port *enet.Port
	asks [][]byte // headers of answers with counters, which wait until a batch is counted
}

func (s *station) serve() error {
	for {
		if err := s.port.Receive(-1, s.answer); err != nil {
			return err
		}
		for _, head := range s.asks {
			s.port.Queue([][]byte{head, fmt.Appendf(nil, "%+v PHY:%v Worked:%d ", s.port.Stats(), s.port.PHYError(), worked.Load())})
		}
		s.asks = nil
		if err := s.port.Flush(); err != nil {
			return err
		}
	}
}

// answer answers one frame. What cannot be sent is counted by the port.
func (s *station) answer(frame []byte) {
	from, kind := frame[6:12], binary.BigEndian.Uint16(frame[12:])
	switch head := append(append(append([]byte{}, from...), s.port.HardwareAddr()...), frame[12:header]...); kind {
	case typeEcho:
		s.port.Queue([][]byte{head, frame[header:]})
	case typeRelay:
		s.port.Queue([][]byte{frame[header:]})
	case typeStats:
		s.asks = append(s.asks, head)
	}
}
