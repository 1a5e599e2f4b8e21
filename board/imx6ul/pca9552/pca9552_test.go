package pca9552

import (
	"bytes"
	"errors"
	"testing"
)

// A transfer is one that the chip expects, what it answers, and how it fails.
type transfer struct {
	write, read []byte
	err         error
}

type bus struct {
	t    *testing.T
	list []transfer
}

func (b *bus) Tx(address uint8, write, read []byte) error {
	b.t.Helper()
	if len(b.list) == 0 {
		b.t.Fatalf("unexpected transfer %v", write)
	}
	want := b.list[0]
	b.list = b.list[1:]
	if address != 0x61 || !bytes.Equal(write, want.write) || len(read) != len(want.read) {
		b.t.Fatalf("transfer to %#x of %#x, %d bytes to read; expected %#x and %d", address, write, len(read), want.write, len(want.read))
	}
	copy(read, want.read)
	return want.err
}

func setUp(t *testing.T, list ...transfer) *Expander {
	b := &bus{t, list}
	t.Cleanup(func() {
		if len(b.list) > 0 {
			t.Errorf("%d transfers did not come", len(b.list))
		}
	})
	e, err := New(b, 0x61)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestLevels(t *testing.T) {
	e := setUp(t, transfer{[]byte{0x10}, []byte{0x34, 0x12}, nil})
	if v, err := e.Levels(); v != 0x1234 || err != nil {
		t.Errorf("%#x, %v", v, err)
	}
}

// TestRead: settings and nets come in one transfer.
func TestRead(t *testing.T) {
	e := setUp(t, transfer{[]byte{0x10}, []byte{0x34, 0x12, 0xff, 0x80, 0xff, 0x80, 0x51, 0x55, 0x56, 0x15}, nil},
		transfer{[]byte{0x10}, make([]byte, 10), errors.New("broken")})
	if pulled, levels, err := e.Read(); pulled != 1<<1|1<<8|1<<15 || levels != 0x1234 || err != nil {
		t.Errorf("%#x, %#x, %v", pulled, levels, err)
	}
	if _, _, err := e.Read(); err == nil {
		t.Error("a bus that is broken gives an answer")
	}
}

func TestPull(t *testing.T) {
	e := setUp(t,
		transfer{[]byte{7}, []byte{0x55}, nil}, transfer{[]byte{7, 0x51}, nil, nil}, transfer{[]byte{7}, []byte{0x51}, nil},
		transfer{[]byte{9}, []byte{0x00}, nil}, transfer{[]byte{9, 0x40}, nil, nil}, transfer{[]byte{9}, []byte{0x40}, nil},
		transfer{[]byte{6}, []byte{0xfe}, nil}, transfer{[]byte{6, 0xfd}, nil, nil}, transfer{[]byte{6}, []byte{0xfd}, nil},
		transfer{[]byte{7}, []byte{0x51}, nil}, transfer{[]byte{7}, []byte{0x51}, nil},
	)
	for _, c := range []struct {
		line int
		low  bool
	}{{5, true}, {15, false}, {0, false}} {
		if err := e.Pull(c.line, c.low); err != nil {
			t.Error(err)
		}
	}
	if low, err := e.PulledLow(5); !low || err != nil {
		t.Errorf("line 5: %v, %v", low, err)
	}
	if low, err := e.PulledLow(4); low || err != nil {
		t.Errorf("line 4: %v, %v", low, err)
	}
}

// TestNonce: what the chip has after power-on is 0, and a number comes back as it was
// given.
func TestNonce(t *testing.T) {
	fresh, given := []byte{0xff, 0x80, 0xff, 0x80}, []byte{0xff ^ 0x78, 0x80 ^ 0x56, 0xff ^ 0x34, 0x80 ^ 0x12}
	e := setUp(t,
		transfer{[]byte{0x12}, fresh, nil},
		transfer{append([]byte{0x12}, given...), nil, nil}, transfer{[]byte{0x12}, given, nil},
		transfer{append([]byte{0x12}, fresh...), nil, nil}, transfer{[]byte{0x12}, given, nil},
	)
	if n, err := e.Nonce(); n != 0 || err != nil {
		t.Errorf("after power-on %#x, %v", n, err)
	}
	if err := e.SetNonce(0x12345678); err != nil {
		t.Error(err)
	}
	if err := e.SetNonce(0); err == nil {
		t.Error("a chip that keeps its old number is taken for one that took the new one")
	}
}

func TestFailures(t *testing.T) {
	broken := errors.New("broken")
	for name, list := range map[string][]transfer{
		"first read":  {{[]byte{6}, []byte{0}, broken}},
		"write":       {{[]byte{6}, []byte{0x55}, nil}, {[]byte{6, 0x54}, nil, broken}},
		"read back":   {{[]byte{6}, []byte{0x55}, nil}, {[]byte{6, 0x54}, nil, nil}, {[]byte{6}, []byte{0}, broken}},
		"not written": {{[]byte{6}, []byte{0x55}, nil}, {[]byte{6, 0x54}, nil, nil}, {[]byte{6}, []byte{0x55}, nil}},
	} {
		err := setUp(t, list...).Pull(0, true)
		if err == nil || name != "not written" && !errors.Is(err, broken) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if v, err := setUp(t, transfer{[]byte{0x10}, []byte{1, 1}, broken}).Levels(); v != 0 || !errors.Is(err, broken) {
		t.Errorf("levels: %#x, %v", v, err)
	}
	for _, line := range []int{-1, 16} {
		if err := setUp(t).Pull(line, true); err == nil {
			t.Errorf("line %d was pulled", line)
		}
	}
	if low, err := setUp(t, transfer{[]byte{6}, []byte{0}, broken}).PulledLow(0); low || !errors.Is(err, broken) {
		t.Errorf("a line counts as pulled low when nobody knows: %v", err)
	}
	for _, address := range []uint8{0x5f, 0x68} {
		if _, err := New(&bus{t: t}, address); err == nil {
			t.Errorf("address %#x was taken", address)
		}
	}
}
