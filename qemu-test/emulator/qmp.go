package emulator

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// An Event is something that the emulator reports by itself, such as RESET, STOP,
// WATCHDOG or SHUTDOWN (QEMU QMP Reference Manual).
type Event struct {
	N    int       // its number, counted from 0
	Time time.Time // when it happened, by this machine's clock
	Name string
	Data json.RawMessage
}

// A QMP gives the emulator orders (QEMU Machine Protocol Specification). Every order
// is bounded by the time that the emulator may take for an answer, ten seconds.
type QMP struct {
	conn net.Conn

	mu      sync.Mutex
	last    int                     // number of the last order
	waiting map[int]chan<- qmpReply // orders without an answer
	events  []Event
	more    chan struct{} // closed when there is another event, or no connection
	err     error         // why there is no connection
}

type qmpReply struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class, Desc string
	} `json:"error"`
}

// qmpMessage is anything that the emulator says.
type qmpMessage struct {
	qmpReply
	ID        int             `json:"id"`
	Event     string          `json:"event"`
	Data      json.RawMessage `json:"data"`
	Timestamp struct {
		Seconds, Microseconds int64
	} `json:"timestamp"`
}

// QMP connects to the emulator. It serves one such connection at a time, which ends
// with the emulator or with Close.
func (b *Board) QMP() (*QMP, error) {
	conn, err := b.dial(qmpSocket)
	if err != nil {
		return nil, err
	}
	q := &QMP{conn: conn, waiting: map[int]chan<- qmpReply{}, more: make(chan struct{})}
	conn.SetReadDeadline(time.Now().Add(answerLimit))
	in := bufio.NewReader(conn)
	if greeting, err := in.ReadString('\n'); err != nil || !strings.HasPrefix(greeting, `{"QMP"`) {
		conn.Close()
		return nil, b.orEnd(fmt.Errorf("emulator: qmp: the greeting is %q (%v)", greeting, err))
	}
	conn.SetReadDeadline(time.Time{})
	go q.read(in)
	if err := q.Do("qmp_capabilities", nil, nil); err != nil {
		conn.Close()
		return nil, b.orEnd(err)
	}
	return q, nil
}

// orEnd is why a connection failed: as the emulator has ended, if it has, or is about
// to.
func (b *Board) orEnd(err error) error {
	select {
	case <-b.Ended():
		return fmt.Errorf("emulator: it ended: %w", b.end())
	case <-time.After(grace):
		return err
	}
}

// Close ends the connection.
func (q *QMP) Close() { q.conn.Close() }

// read takes answers and events in, until the connection ends.
func (q *QMP) read(in *bufio.Reader) {
	for d := json.NewDecoder(in); ; {
		var m qmpMessage
		err := d.Decode(&m)
		q.mu.Lock()
		switch {
		case err != nil:
			q.err = fmt.Errorf("emulator: qmp: the connection ended: %w", err)
			for _, w := range q.waiting {
				close(w)
			}
			q.waiting = nil
			close(q.more)
		case m.Event != "":
			at := time.Unix(m.Timestamp.Seconds, m.Timestamp.Microseconds*1000)
			q.events = append(q.events, Event{N: len(q.events), Time: at, Name: m.Event, Data: m.Data})
			close(q.more)
			q.more = make(chan struct{})
		case q.waiting[m.ID] != nil:
			q.waiting[m.ID] <- m.qmpReply // has room
			delete(q.waiting, m.ID)
		}
		q.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// ask sends an order. What it returns gets the answer, or is closed with the
// connection.
func (q *QMP) ask(command string, args any) (<-chan qmpReply, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != nil {
		return nil, q.err
	}
	q.last++
	order := map[string]any{"execute": command, "id": q.last}
	if args != nil {
		order["arguments"] = args
	}
	text, err := json.Marshal(order)
	if err == nil {
		q.conn.SetWriteDeadline(time.Now().Add(answerLimit))
		_, err = q.conn.Write(text)
	}
	if err != nil {
		return nil, fmt.Errorf("emulator: qmp: %s: %w", command, err)
	}
	answer := make(chan qmpReply, 1)
	q.waiting[q.last] = answer
	return answer, nil
}

// Do has the emulator execute a command. args is what JSON makes an object of, or nil;
// result, if not nil, gets what the command returns.
func (q *QMP) Do(command string, args, result any) error {
	answer, err := q.ask(command, args)
	if err != nil {
		return err
	}
	select {
	case r, ok := <-answer:
		if !ok {
			return fmt.Errorf("emulator: qmp: %s: the connection ended before an answer came", command)
		}
		if r.Error != nil {
			return fmt.Errorf("emulator: qmp: %s: %s: %s", command, r.Error.Class, r.Error.Desc)
		}
		if result != nil {
			if err := json.Unmarshal(r.Return, result); err != nil {
				return fmt.Errorf("emulator: qmp: %s: the answer is %s: %w", command, r.Return, err)
			}
		}
		return nil
	case <-time.After(answerLimit):
		return fmt.Errorf("emulator: qmp: %s: no answer within %v", command, answerLimit)
	}
}

// Events returns all events since the connection was made.
func (q *QMP) Events() []Event {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.events[:len(q.events):len(q.events)]
}

// Await waits for an event with one of the names, or any if there are none, whose number
// is at least from: 0 looks at all there were, and one more than an event's number goes
// on behind it.
func (q *QMP) Await(from int, limit time.Duration, names ...string) (Event, error) {
	late := time.After(limit)
	for {
		q.mu.Lock()
		events, more, err := q.events, q.more, q.err
		q.mu.Unlock()
		for ; from < len(events); from++ {
			if len(names) == 0 || slices.Contains(names, events[from].Name) {
				return events[from], nil
			}
		}
		if err != nil {
			return Event{}, err
		}
		select {
		case <-more:
		case <-late:
			return Event{}, fmt.Errorf("emulator: qmp: no event %s within %v", strings.Join(names, " or "), limit)
		}
	}
}

// Monitor executes a line of the human monitor and returns what it prints.
func (q *QMP) Monitor(line string) (string, error) {
	var text string
	err := q.Do("human-monitor-command", map[string]string{"command-line": line}, &text)
	return strings.ReplaceAll(text, "\r", ""), err
}

// Words reads n words of 32 bits at a physical address. A device's registers are read
// as the processor reads them, side effects and all.
func (q *QMP) Words(addr uint32, n int) ([]uint32, error) {
	text, err := q.Monitor(fmt.Sprintf("xp /%dxw %#x", n, addr))
	if err != nil {
		return nil, err
	}
	var words []uint32
	for _, f := range strings.Fields(text) {
		if strings.HasSuffix(f, ":") { // the line's address
			continue
		}
		v, err := strconv.ParseUint(f, 0, 32)
		if err != nil {
			return nil, fmt.Errorf("emulator: qmp: reading %d words at %#x: the answer is %q", n, addr, text)
		}
		words = append(words, uint32(v))
	}
	if len(words) != n {
		return nil, fmt.Errorf("emulator: qmp: reading %d words at %#x: the answer is %q", n, addr, text)
	}
	return words, nil
}

// Stop has the board stand still.
func (q *QMP) Stop() error { return q.Do("stop", nil, nil) }

// Continue lets it go on.
func (q *QMP) Continue() error { return q.Do("cont", nil, nil) }

// Running tells whether the board runs, and the emulator's word for its state, such
// as paused or watchdog.
func (q *QMP) Running() (running bool, state string, err error) {
	var status struct {
		Running bool
		Status  string
	}
	err = q.Do("query-status", nil, &status)
	return status.Running, status.Status, err
}

// Reset resets the board, TPM included. A board that runs goes on at once.
func (q *QMP) Reset() error { return q.Do("system_reset", nil, nil) }

// Quit ends the emulator.
func (q *QMP) Quit() error { return q.Do("quit", nil, nil) }

// SetLink plugs a network's cable in or out.
func (q *QMP) SetLink(network string, up bool) error {
	return q.Do("set_link", map[string]any{"name": network, "up": up}, nil)
}

// Get reads a property of an object of the emulator.
func (q *QMP) Get(path, property string, value any) error {
	return q.Do("qom-get", map[string]string{"path": path, "property": property}, value)
}

// Set writes a property. Never an expander's pin: that overwrites the board's register.
func (q *QMP) Set(path, property string, value any) error {
	return q.Do("qom-set", map[string]any{"path": path, "property": property, "value": value}, nil)
}

// SaveMemory writes size bytes of memory at a physical address to a file.
func (q *QMP) SaveMemory(addr, size uint32, file string) error {
	return q.Do("pmemsave", map[string]any{"val": addr, "size": size, "filename": file}, nil)
}

// Registers returns the processor's registers as bytes, and the monitor's text of
// them: R0 to R15 of the mode in which it stands, then PSR, then D0 to D31, each as it
// would lie in memory.
func (q *QMP) Registers() (values []byte, text string, err error) {
	text, err = q.Monitor("info registers")
	if err != nil {
		return nil, "", err
	}
	var vector []byte
	for _, f := range strings.Fields(text) {
		name, hex, ok := strings.Cut(f, "=")
		v, err := strconv.ParseUint(hex, 16, 64)
		switch {
		case !ok || err != nil:
		case name[0] == 'R' || name == "PSR":
			values = binary.LittleEndian.AppendUint32(values, uint32(v))
		case name[0] == 'd':
			vector = binary.LittleEndian.AppendUint64(vector, v)
		}
	}
	if len(values) != 17*4 || len(vector) != 32*8 {
		return nil, text, errors.New("emulator: qmp: the registers are not all there: " + string(bytes.TrimSpace([]byte(text))))
	}
	return append(values, vector...), text, nil
}
