package emulator

import (
	"bufio"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// A QTest moves the board's inputs and sees its outputs change (QEMU's qtest protocol,
// docs/devel/testing/qtest.rst). What it says and hears is in order: an answer comes
// behind the changes that came before it.
type QTest struct {
	conn net.Conn
	gone chan struct{} // closed when the connection has ended

	mu      sync.Mutex
	waiting []func(answer string, err error) // by order of the commands
	err     error                            // the first that a command without an answer met, or the connection
}

// QTest connects to the emulator, which serves one such connection at a time, and
// watches the outputs of a device, such as /machine/soc/gpio0; with "" it watches none. It
// is the only device that this emulator can watch. changed is called whenever an output takes another
// level than the emulator has told last, in the connection's own goroutine: it may
// call Drive and ReadThen only. At the connection all levels count as told low.
func (b *Board) QTest(device string, changed func(output int, high bool)) (*QTest, error) {
	conn, err := b.dial(qtestSocket)
	if err != nil {
		return nil, err
	}
	t := &QTest{conn: conn, gone: make(chan struct{})}
	go t.read(changed)
	if device == "" {
		return t, nil
	}
	if err := t.wait("irq_intercept_out " + device); err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Close ends the connection. Nothing is reported behind it.
func (t *QTest) Close() {
	t.conn.Close()
	<-t.gone // closing ends the read
}

// read takes answers and changes in, until the connection ends.
func (t *QTest) read(changed func(int, bool)) {
	defer close(t.gone)
	s := bufio.NewScanner(t.conn)
	for s.Scan() {
		var level string
		var n int
		if _, err := fmt.Sscanf(s.Text(), "IRQ %s %d", &level, &n); err == nil {
			changed(n, level == "raise")
			continue
		}
		answer, ok := strings.CutPrefix(s.Text(), "OK")
		var err error
		if !ok {
			err = fmt.Errorf("emulator: qtest: the answer is %q", s.Text())
		}
		if then := t.next(); then != nil {
			then(strings.TrimSpace(answer), err)
		}
	}
	t.fail(errors.Join(errors.New("emulator: qtest: the connection ended"), s.Err()))
	for then := t.next(); then != nil; then = t.next() {
		then("", t.fault())
	}
}

// next takes the oldest command that waits for its answer.
func (t *QTest) next() (then func(string, error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) > 0 {
		then, t.waiting = t.waiting[0], t.waiting[1:]
	}
	return then
}

func (t *QTest) fail(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.err = err
	}
}

func (t *QTest) fault() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err
}

// send sends a command; then gets its answer, in the connection's goroutine.
func (t *QTest) send(command string, then func(string, error)) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err != nil {
		return t.err
	}
	t.conn.SetWriteDeadline(time.Now().Add(answerLimit))
	if _, err := fmt.Fprintln(t.conn, command); err != nil {
		return fmt.Errorf("emulator: qtest: %s: %w", command, err)
	}
	t.waiting = append(t.waiting, then)
	return nil
}

// wait sends a command and waits until it has been obeyed.
func (t *QTest) wait(command string) error {
	done := make(chan error, 1)
	if err := t.send(command, func(_ string, err error) { done <- err }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-time.After(answerLimit):
		return fmt.Errorf("emulator: qtest: %s: no answer within %v", command, answerLimit)
	}
}

// Drive puts a level on an input of a device. It does not wait: the level is there for
// all that is called behind it, and should the emulator refuse, later calls say so.
func (t *QTest) Drive(device string, input int, high bool) error {
	return t.DriveNamed(device, "unnamed-gpio-in", input, high)
}

// DriveNamed is Drive for inputs that have a name.
func (t *QTest) DriveNamed(device, name string, input int, high bool) error {
	level := 0
	if high {
		level = 1
	}
	return t.order(fmt.Sprintf("set_irq_in %s %s %d %d", device, name, input, level))
}

// Write32 writes a word of 32 bits at a physical address, as the processor would. It does
// not wait: whatever is called behind it comes behind it.
func (t *QTest) Write32(addr, value uint32) error {
	return t.order(fmt.Sprintf("writel %#x %#x", addr, value))
}

// Write16 is Write32 for a word of 16 bits.
func (t *QTest) Write16(addr uint32, value uint16) error {
	return t.order(fmt.Sprintf("writew %#x %#x", addr, value))
}

// order sends a command without waiting. Should the emulator refuse, later calls say so.
func (t *QTest) order(command string) error {
	return t.send(command, func(_ string, err error) {
		if err != nil {
			t.fail(fmt.Errorf("%s: %w", command, err))
		}
	})
}

// ReadThen reads n bytes at a physical address, all at one moment, and calls then with
// them, in the connection's goroutine: in order with the changes. It does not wait.
func (t *QTest) ReadThen(addr uint32, n int, then func([]byte)) error {
	command := fmt.Sprintf("read %#x %#x", addr, n)
	return t.send(command, func(answer string, err error) {
		p, bad := hex.DecodeString(strings.TrimPrefix(answer, "0x"))
		if err == nil && (bad != nil || len(p) != n) {
			err = fmt.Errorf("the answer is %q", answer)
		}
		if err != nil {
			t.fail(fmt.Errorf("%s: %w", command, err))
			return
		}
		then(p)
	})
}

// Read reads n bytes at a physical address, all at one moment.
func (t *QTest) Read(addr uint32, n int) ([]byte, error) {
	done := make(chan []byte, 1)
	if err := t.ReadThen(addr, n, func(p []byte) { done <- p }); err != nil {
		return nil, err
	}
	select {
	case p := <-done:
		return p, nil
	case <-t.gone:
		return nil, t.fault()
	case <-time.After(answerLimit):
		return nil, fmt.Errorf("emulator: qtest: reading %d bytes at %#x: no answer within %v (%v)", n, addr, answerLimit, t.fault())
	}
}
