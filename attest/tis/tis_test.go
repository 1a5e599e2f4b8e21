package tis

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/google/go-tpm/tpm2/transport"
)

var _ transport.TPMCloser = (*TPM)(nil)

// message is a command or an answer of n bytes.
func message(code uint32, n int) []byte {
	m := make([]byte, n)
	for i := range m {
		m[i] = byte(i*7 + n)
	}
	binary.BigEndian.PutUint16(m, 0x8001)
	binary.BigEndian.PutUint32(m[sizeAt:], uint32(n))
	binary.BigEndian.PutUint32(m[codeAt:], code)
	return m
}

// answerOf is what the chip of the tests answers: as long as the command's bytes 10 and
// 11 say.
func answerOf(command []byte) []byte { return message(0, int(binary.BigEndian.Uint16(command[10:]))) }

func request(n, answer int) []byte {
	m := message(0x17b, n)
	binary.BigEndian.PutUint16(m[10:], uint16(answer))
	return m
}

func open(t *testing.T, c *chip) *TPM {
	t.Helper()
	tpm, err := Open(c, DefaultAddress)
	if err != nil {
		t.Fatal(err)
	}
	return tpm
}

func send(t *testing.T, tpm *TPM, c *chip, n, answer int) {
	t.Helper()
	command, before := request(n, answer), len(c.executed)
	got, err := tpm.Send(command)
	if err != nil {
		t.Fatalf("%d bytes, %d back: %v", n, answer, err)
	}
	if !bytes.Equal(got, answerOf(command)) {
		t.Errorf("%d bytes, %d back: the answer is % x", n, answer, got)
	}
	if len(c.executed) != before+1 || !bytes.Equal(c.executed[before], command) {
		t.Errorf("%d bytes, %d back: %d commands were executed", n, answer, len(c.executed)-before)
	}
}

// TestSend: sizes around the bursts', slow TPMs, with and without a checksum.
func TestSend(t *testing.T) {
	for _, burst := range []int{1, 7, 64, 4096} {
		for _, busy := range []int{0, 3} {
			for _, working := range []int{0, 40} {
				t.Run(fmt.Sprint(burst, busy, working), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						c := newChip(answerOf)
						c.burst, c.busy, c.working, c.noCheck = burst, busy, working, busy != 0 && burst == 7
						if working != 0 {
							c.guard = 1<<18 | 100<<capGuardMin
						}
						tpm := open(t, c)
						for _, n := range []int{12, 63, 64, 65, 500, MaxSize} {
							send(t, tpm, c, n, 10)
							send(t, tpm, c, n, n)
						}
						if err := tpm.Close(); err != nil || c.active {
							t.Errorf("closed: %v, locality active %v", err, c.active)
						}
					})
				})
			}
		}
	}
}

// TestFaults: whichever transfer fails, before or after it had its effect, and however
// often in a row, the command is executed once and its answer comes.
func TestFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clean := newChip(answerOf)
		send(t, open(t, clean), clean, 150, 200)
		for n := 1; n <= clean.transfers; n++ {
			for _, after := range []bool{false, true} {
				for _, times := range []int{1, 3} {
					c := newChip(answerOf)
					c.fault = func(i int, a bool) bool { return a == after && i >= n && i < n+times }
					send(t, open(t, c), c, 150, 200)
				}
			}
		}
		t.Logf("%d transfers, each failed", clean.transfers)
	})
}

// TestGarbled: bytes that change on the bus are found by the checksum, and sent again.
func TestGarbled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clean := newChip(answerOf)
		send(t, open(t, clean), clean, 150, 200)
		for n := 1; n <= clean.transfers; n++ {
			c := newChip(answerOf)
			c.corrupt = func(i int, p []byte) {
				if i == n && len(p) > 0 {
					p[len(p)-1] ^= 0x10
				}
			}
			send(t, open(t, c), c, 150, 200)
		}
	})
}

// TestLost: a TPM without a checksum tells by Expect that bytes are missing.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for n := range 40 {
			c := newChip(answerOf)
			c.noCheck = true
			c.lose = func(i int) bool { return i == n }
			send(t, open(t, c), c, 150, 200)
		}
	})
}

// TestDead: a bus that fails for good is an error soon, and when it is back all goes on.
func TestDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clean := newChip(answerOf)
		tpm := open(t, clean)
		opened := clean.transfers
		send(t, tpm, clean, 150, 200)
		for n := opened + 1; n <= clean.transfers; n++ {
			c := newChip(answerOf)
			tpm := open(t, c)
			c.fault = func(i int, after bool) bool { return i >= n }
			_, err := tpm.Send(request(150, 200))
			// The last transfers only drop the answer, which has come.
			if n < clean.transfers && !errors.Is(err, ErrBus) || n == clean.transfers && err != nil {
				t.Errorf("bus dead from transfer %d of %d on: %v", n, clean.transfers, err)
			}
			c.fault = nil
			send(t, tpm, c, 20, 30)
		}
	})
}

// TestReset: a TPM that is reset alone has lost the locality; it is taken again.
func TestReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChip(answerOf)
		tpm := open(t, c)
		send(t, tpm, c, 20, 20)
		c.lostLocalityAt = c.transfers + 1
		send(t, tpm, c, 20, 20)
	})
}

// TestTimeout: a command that never ends is cancelled, and the next one is executed.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChip(answerOf)
		tpm := open(t, c)
		c.working = -1
		if _, err := tpm.Send(request(20, 20)); !errors.Is(err, ErrTimeout) || c.cancelled != 1 {
			t.Errorf("%v, cancelled %d times", err, c.cancelled)
		}
		c.working = 0
		send(t, tpm, c, 20, 20)
	})
}

// TestNobody: an absent TPM, and one with another interface.
func TestNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChip(answerOf)
		if _, err := Open(c, 0x2f); !errors.Is(err, ErrBus) {
			t.Error(err)
		}
		c.guard = 1 // type 3
		if _, err := Open(c, DefaultAddress); !errors.Is(err, ErrStatus) {
			t.Error(err)
		}
	})
}

// TestSizes: what is too long, or contradicts itself, is refused on both ways.
func TestSizes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChip(answerOf)
		tpm := open(t, c)
		wrong := request(20, 20)
		wrong[sizeAt+3]++
		for _, command := range [][]byte{nil, request(20, 20)[:9], wrong, message(1, MaxSize+1)} {
			if _, err := tpm.Send(command); !errors.Is(err, ErrSize) {
				t.Errorf("command of %d bytes: %v", len(command), err)
			}
		}
		if len(c.executed) > 0 {
			t.Error("a wrong command was executed")
		}
		for _, says := range []uint32{0, 9, MaxSize + 1, 0xffffffff} {
			c.execute = func([]byte) []byte {
				m := message(0, 20)
				binary.BigEndian.PutUint32(m[sizeAt:], says)
				return m
			}
			if _, err := tpm.Send(request(20, 20)); !errors.Is(err, ErrSize) || !errors.Is(err, ErrUnread) {
				t.Errorf("answer that says it has %d bytes: %v", says, err)
			}
		}
		for _, n := range []int{19, 21} { // shorter and longer than it says
			c.execute = func([]byte) []byte {
				m := message(0, n)
				binary.BigEndian.PutUint32(m[sizeAt:], 20)
				return m
			}
			if _, err := tpm.Send(request(20, 20)); !errors.Is(err, ErrUnread) {
				t.Errorf("answer of %d bytes that says 20: %v", n, err)
			}
		}
	})
}

// TestCRC compares with the bitwise one, and with the catalogue's check value of
// CRC-16/KERMIT.
func TestCRC(t *testing.T) {
	if got := crc([]byte("123456789")); got != 0x2189 {
		t.Errorf("check value %#04x", got)
	}
	p := message(1, 300)
	for n := range p {
		if got, want := crc(p[:n]), slowCRC(p[:n]); got != want {
			t.Fatalf("%d bytes: %#04x, not %#04x", n, got, want)
		}
	}
}
