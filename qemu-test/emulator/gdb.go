package emulator

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// A Register is one of the processor's, as GDB numbers them for ARM.
type Register int

// Registers beside R0 to R12, which are 0 to 12.
const (
	SP   Register = 13
	LR   Register = 14
	PC   Register = 15
	CPSR Register = 25
)

// answerLimit bounds what the emulator takes for an answer that does not depend on
// the board.
const answerLimit = 10 * time.Second

// A GDB holds a board that stands still.
type GDB struct {
	conn   net.Conn
	in     *bufio.Reader
	breaks map[uint32]bool
}

// Halt stops the board. It stands still until Release.
func (b *Board) Halt() (*GDB, error) {
	conn, err := b.dial(gdbSocket)
	if err != nil {
		return nil, err
	}
	g := &GDB{conn: conn, in: bufio.NewReader(conn), breaks: map[uint32]bool{}}
	// Connecting stops the board. Reading the description of the target allows
	// single registers to be read, and memory goes by physical addresses.
	for _, step := range []struct{ ask, want string }{
		{"qSupported", "PacketSize"}, {"?", "T"}, {"qXfer:features:read:target.xml:0,ffb", ""}, {"Qqemu.PhyMemMode:1", "OK"},
	} {
		answer, err := g.ask(step.ask)
		if err == nil && !strings.HasPrefix(answer, step.want) {
			err = fmt.Errorf("emulator: gdb: %s: the answer is %q", step.ask, answer)
		}
		if err != nil {
			conn.Close()
			return nil, err
		}
	}
	return g, nil
}

// Release lets the board go on, without breakpoints.
func (g *GDB) Release() error {
	defer g.conn.Close()
	for addr := range g.breaks {
		if err := g.Unbreak(addr); err != nil {
			return err
		}
	}
	return g.order("D")
}

// Read reads n bytes, at most 1024, of memory at a physical address.
func (g *GDB) Read(addr uint32, n int) ([]byte, error) {
	answer, err := g.ask(fmt.Sprintf("m%x,%x", addr, n))
	if err != nil {
		return nil, err
	}
	p, err := hex.DecodeString(answer)
	if err != nil || len(p) != n {
		return nil, fmt.Errorf("emulator: gdb: reading %d bytes at %#x: the answer is %q", n, addr, answer)
	}
	return p, nil
}

// ReadAs reads as the processor would, in the mode in which it stands: at a virtual
// address, in its state of security. Registers of devices that are hidden from
// the Non-secure state, such as the interrupt controller's, can only be read so.
func (g *GDB) ReadAs(addr uint32, n int) ([]byte, error) {
	if err := g.order("Qqemu.PhyMemMode:0"); err != nil {
		return nil, err
	}
	p, err := g.Read(addr, n)
	return p, errors.Join(err, g.order("Qqemu.PhyMemMode:1"))
}

// Write writes memory at a physical address. What is read only for the board is
// written too.
func (g *GDB) Write(addr uint32, p []byte) error {
	return g.order(fmt.Sprintf("M%x,%x:%x", addr, len(p), p))
}

// Get reads a register.
func (g *GDB) Get(r Register) (uint32, error) {
	answer, err := g.ask(fmt.Sprintf("p%x", int(r)))
	if err != nil {
		return 0, err
	}
	p, err := hex.DecodeString(answer)
	if err != nil || len(p) != 4 {
		return 0, fmt.Errorf("emulator: gdb: reading register %d: the answer is %q", r, answer)
	}
	return binary.LittleEndian.Uint32(p), nil
}

// Set writes a register. Writing CPSR's mode changes which SP and LR are seen.
func (g *GDB) Set(r Register, v uint32) error {
	return g.order(fmt.Sprintf("P%x=%x", int(r), binary.LittleEndian.AppendUint32(nil, v)))
}

// Break has Resume return before the instruction at a virtual address.
func (g *GDB) Break(addr uint32) error {
	g.breaks[addr] = true
	return g.order(fmt.Sprintf("Z1,%x,4", addr))
}

// Unbreak takes a breakpoint away.
func (g *GDB) Unbreak(addr uint32) error {
	delete(g.breaks, addr)
	return g.order(fmt.Sprintf("z1,%x,4", addr))
}

// Resume lets the board run until it meets a breakpoint. One at the instruction
// that is next is passed.
func (g *GDB) Resume(limit time.Duration) error {
	pc, err := g.Get(PC)
	if err != nil {
		return err
	}
	if !g.breaks[pc] {
		return g.run("c", limit)
	}
	if err := g.Unbreak(pc); err != nil {
		return err
	}
	if err := g.run("s", limit); err != nil {
		return err
	}
	if err := g.Break(pc); err != nil {
		return err
	}
	return g.run("c", limit)
}

func (g *GDB) run(packet string, limit time.Duration) error {
	if err := g.send(packet); err != nil {
		return err
	}
	answer, err := g.receive(limit)
	if err == nil && !strings.HasPrefix(answer, "T05") {
		err = fmt.Errorf("emulator: gdb: the board stopped with %q, want a breakpoint", answer)
	}
	return err
}

// order sends a packet whose answer is OK.
func (g *GDB) order(packet string) error {
	answer, err := g.ask(packet)
	if err == nil && answer != "OK" {
		err = fmt.Errorf("emulator: gdb: %s: the answer is %q", packet, answer)
	}
	return err
}

func (g *GDB) ask(packet string) (string, error) {
	if err := g.send(packet); err != nil {
		return "", err
	}
	return g.receive(answerLimit)
}

func checksum(s string) (sum byte) {
	for i := range len(s) {
		sum += s[i]
	}
	return sum
}

func (g *GDB) send(packet string) error {
	g.conn.SetDeadline(time.Now().Add(answerLimit))
	if _, err := fmt.Fprintf(g.conn, "$%s#%02x", packet, checksum(packet)); err != nil {
		return fmt.Errorf("emulator: gdb: %s: %w", packet, err)
	}
	ack, err := g.in.ReadByte()
	if err == nil && ack != '+' {
		err = fmt.Errorf("%q instead of an acknowledgement", ack)
	}
	if err != nil {
		return fmt.Errorf("emulator: gdb: %s: %w", packet, err)
	}
	return nil
}

// receive reads a packet and acknowledges it.
func (g *GDB) receive(limit time.Duration) (string, error) {
	g.conn.SetDeadline(time.Now().Add(limit))
	packet, sum, err := g.packet()
	if err == nil {
		if want := checksum(packet); sum != want {
			err = fmt.Errorf("packet %q has checksum %#x, want %#x", packet, sum, want)
		}
	}
	if err == nil {
		_, err = g.conn.Write([]byte("+"))
	}
	if err != nil {
		return "", fmt.Errorf("emulator: gdb: waiting for an answer: %w", err)
	}
	return packet, nil
}

func (g *GDB) packet() (text string, sum byte, err error) {
	start, err := g.in.ReadByte()
	if err != nil {
		return "", 0, err
	}
	if start != '$' {
		return "", 0, fmt.Errorf("%q instead of a packet's start", start)
	}
	text, err = g.in.ReadString('#')
	if err != nil {
		return "", 0, err
	}
	var digits [2]byte
	for i := range digits {
		if digits[i], err = g.in.ReadByte(); err != nil {
			return "", 0, err
		}
	}
	v, err := strconv.ParseUint(string(digits[:]), 16, 8)
	if err != nil {
		return "", 0, errors.Join(errors.New("bad checksum"), err)
	}
	return strings.TrimSuffix(text, "#"), byte(v), nil
}
