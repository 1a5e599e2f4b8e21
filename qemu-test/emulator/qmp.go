package emulator

import (
	"encoding/json"
	"fmt"
	"net"
	"time"
)

// A QMP is a connection to the emulator's control socket (QEMU's QMP specification),
// which the argument -qmp unix:path,server=on,wait=off makes.
type QMP struct {
	conn net.Conn
	in   *json.Decoder
}

// DialQMP connects to the control socket at a path, once the emulator has made it.
func DialQMP(path string) (*QMP, error) {
	var conn net.Conn
	var err error
	for end := time.Now().Add(answerLimit); ; time.Sleep(10 * time.Millisecond) {
		if conn, err = net.Dial("unix", path); err == nil || time.Now().After(end) {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("emulator: qmp: %w", err)
	}
	q := &QMP{conn, json.NewDecoder(conn)}
	if err := q.Do("qmp_capabilities", nil); err != nil {
		conn.Close()
		return nil, err
	}
	return q, nil
}

// Close hangs up.
func (q *QMP) Close() error { return q.conn.Close() }

// Do gives a command and waits until it is done. What the command returns, and
// events, are passed over.
func (q *QMP) Do(command string, arguments map[string]any) error {
	q.conn.SetDeadline(time.Now().Add(answerLimit))
	order := map[string]any{"execute": command}
	if arguments != nil {
		order["arguments"] = arguments
	}
	if err := json.NewEncoder(q.conn).Encode(order); err != nil {
		return fmt.Errorf("emulator: qmp: %s: %w", command, err)
	}
	for {
		var answer struct {
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		switch err := q.in.Decode(&answer); {
		case err != nil:
			return fmt.Errorf("emulator: qmp: %s: %w", command, err)
		case answer.Error != nil:
			return fmt.Errorf("emulator: qmp: %s: %s", command, answer.Error.Desc)
		case answer.Return != nil:
			return nil
		}
	}
}
