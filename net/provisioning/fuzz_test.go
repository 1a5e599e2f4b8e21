package provisioning

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"net"
	"testing"
	"time"

	"nitro/internal/corpus"
)

// What the fuzzer found: see package corpus.
//
//go:embed testdata/messages.hex
var keptMessages string

// oneMessage is a connection on which one message comes.
type oneMessage struct {
	net.Conn
	*bytes.Reader
}

func (o oneMessage) Read(b []byte) (int, error)      { return o.Reader.Read(b) }
func (o oneMessage) SetReadDeadline(time.Time) error { return nil }

// FuzzMessage: what either end reads is a message that reads the same again, or an error.
func FuzzMessage(f *testing.F) {
	for _, m := range []struct {
		step Step
		body any
	}{
		{Hello, helloQuestion{[]byte{1}}}, {Hello, helloAnswer{Product: product, EK: []byte{1}}}, {Prove, proveQuestion{Nonce: []byte{1}}}, {Prove, proveAnswer{Log: []byte{1}}},
		{Seal, sealQuestion{AKName: []byte{1}}}, {Seal, sealAnswer{Lockout: []byte{1}}}, {Close, closeQuestion{[]byte{1}}}, {BoardPart, boardPartAnswer{1, []byte{1}}},
		{Sign, signQuestion{[]byte{1}}}, {Sign, signAnswer{[]byte{1}}}, {Commit, commitQuestion{[]byte{1}}}, {Commit, nothing{}},
	} {
		body, err := json.Marshal(m.body)
		if err != nil {
			f.Fatal(err)
		}
		text, err := json.Marshal(message{Format: format, Step: m.step, Body: body})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	corpus.Add(f, keptMessages)
	f.Fuzz(func(t *testing.T, text []byte) {
		raw := append(binary.BigEndian.AppendUint32(nil, uint32(len(text))), text...)
		m, err := receive(oneMessage{Reader: bytes.NewReader(raw)}, 0)
		if err != nil {
			return
		}
		if m.Format != format || len(printable(m.Error)) > 3*maxError {
			t.Errorf("%+v", m)
		}
		for _, into := range []any{new(helloQuestion), new(helloAnswer), new(proveQuestion), new(proveAnswer), new(sealQuestion), new(sealAnswer),
			new(closeQuestion), new(boardPartAnswer), new(signQuestion), new(signAnswer), new(commitQuestion), new(nothing), new(Record)} {
			if decode(m.Body, into) != nil {
				continue
			}
			again, err := json.Marshal(into)
			if err != nil {
				t.Fatal(err)
			}
			if a, ok := into.(*helloAnswer); ok {
				var k keys
				k.read(a) // the TPM's structures, from somebody who may be an enemy
			}
			if len(again) == 0 {
				t.Error("encodes as nothing")
			}
		}
	})
}
