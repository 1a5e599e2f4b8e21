package tamper

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"nitro/attest/tpm"
	"nitro/internal/chained"
	"nitro/internal/swtpm"
)

// Commands of the TPM that are tampered with (TPM 2.0 library, part 2, 6.5.2).
const (
	startup          tpm2.TPMCC = 0x144
	getRandom        tpm2.TPMCC = 0x17b
	pcrRead          tpm2.TPMCC = 0x17e
	pcrExtend        tpm2.TPMCC = 0x182
	readPublic       tpm2.TPMCC = 0x173
	readClock        tpm2.TPMCC = 0x181
	startAuthSession tpm2.TPMCC = 0x176
	nvRead           tpm2.TPMCC = 0x14e
	nvIncrement      tpm2.TPMCC = 0x134
	changeAuth       tpm2.TPMCC = 0x129
	unseal           tpm2.TPMCC = 0x15e
	load             tpm2.TPMCC = 0x157
	verifySignature  tpm2.TPMCC = 0x177
	policyAuthorize  tpm2.TPMCC = 0x16a
)

// commandCode is a command's.
func commandCode(command []byte) tpm2.TPMCC { return tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) }

// handle is the first one of a command or an answer that has one.
func handle(b []byte) tpm2.TPMHandle { return tpm2.TPMHandle(binary.BigEndian.Uint32(b[10:])) }

// says is an answer with a code and nothing else.
func says(rc tpm2.TPMRC) []byte {
	return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, uint32(rc))
}

// A send sends a command on.
type send func(command []byte) ([]byte, error)

// An interposer sits on the TPM's bus and sees the n-th command of a boot, counted from 1.
type interposer func(n int, command []byte, on send) ([]byte, error)

// wire is a bus with an interposer.
type wire struct {
	n   *int
	on  send
	hit interposer
}

func (w wire) Send(command []byte) ([]byte, error) {
	*w.n++
	return w.hit(*w.n, command, w.on)
}

// interpose puts an interposer onto a board's bus.
func interpose(l *chained.Lived, hit interposer) {
	n := 0
	early := l.Early
	l.Early = func() {
		n = 0
		if early != nil {
			early()
		}
	}
	l.Bus = func(t transport.TPM) transport.TPM { return wire{&n, t.Send, hit} }
}

// at is an interposer that acts on the nth of some commands (0: all), and lets the others
// pass.
func at(code tpm2.TPMCC, nth int, act interposer) interposer {
	seen := 0
	return func(n int, command []byte, on send) ([]byte, error) {
		if n == 1 {
			seen = 0 // a new boot
		}
		if commandCode(command) == code {
			if seen++; nth == 0 || seen == nth {
				return act(n, command, on)
			}
		}
		return on(command)
	}
}

// answer answers in the TPM's place.
func answer(b []byte) interposer {
	return func(int, []byte, send) ([]byte, error) { return b, nil }
}

// forge answers as if the command had been executed: with a session's answer that is made
// up where the command has a session.
func forge(_ int, command []byte, _ send) ([]byte, error) {
	if command[1] == 1 { // TPM_ST_NO_SESSIONS
		return says(tpm2.TPMRCSuccess), nil
	}
	b := []byte{0x80, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if n := binary.BigEndian.Uint32(command[14:]); n > 9 { // of the authorisation; a password has 9 bytes
		b = append(append(b, 0, 16), make([]byte, 16)...)
		b = append(append(b, 1, 0, 32), make([]byte, 32)...)
	} else {
		b = append(b, 0, 0, 1, 0, 0)
	}
	binary.BigEndian.PutUint32(b[2:], uint32(len(b)))
	return b, nil
}

// garble changes the answer's last byte.
func garble(_ int, command []byte, on send) ([]byte, error) {
	b, err := on(command)
	if err == nil && len(b) > 10 {
		b[len(b)-1] ^= 1
	}
	return b, err
}

// change changes the command's last byte.
func change(_ int, command []byte, on send) ([]byte, error) {
	changed := append([]byte(nil), command...)
	changed[len(changed)-1] ^= 1
	return on(changed)
}

// twice sends the command twice, and gives the second answer.
func twice(_ int, command []byte, on send) ([]byte, error) {
	if _, err := on(command); err != nil {
		return nil, err
	}
	return on(command)
}

// A measurement is one that somebody has seen on the bus.
type measurement struct {
	pcr    tpm2.TPMHandle
	digest tpm.Digest
}

// seen adds the measurement of a command, if it is one.
func seen(all []measurement, command []byte) []measurement {
	if commandCode(command) != pcrExtend {
		return all
	}
	return append(all, measurement{handle(command), tpm.Digest(command[len(command)-32:])})
}

// replay resets the TPM alone, starts it, and measures what was seen.
func replay(chip *swtpm.TPM, all []measurement) error {
	chip.Reset()
	_, err := tpm2.Startup{StartupType: tpm2.TPMSUClear}.Execute(chip)
	for _, m := range all {
		err = errors.Join(err, extend(chip, m))
	}
	if err != nil {
		return fmt.Errorf("tamper: replaying: %w", err)
	}
	return nil
}

func extend(t transport.TPM, m measurement) error {
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: m.pcr, Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: m.digest[:]}}},
	}.Execute(t)
	return err
}
