package tpm

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Execute executes a command that go-tpm does not know and that answers nothing: its
// handles, of which the first is authorised by the session, and its parameters as they
// go over the bus.
func (t *TPM) Execute(code tpm2.TPMCC, handles []Entity, u *Use, parameters []byte) error {
	if err := u.NewNonceCaller(); err != nil {
		return err
	}
	var names []tpm2.TPM2BName
	var body []byte
	for _, h := range handles {
		names = append(names, h.Name)
		body = binary.BigEndian.AppendUint32(body, uint32(h.Handle))
	}
	auth, err := u.Authorize(code, parameters, nil, names, 0)
	if err != nil {
		return err
	}
	area := tpm2.Marshal(*auth)
	body = binary.BigEndian.AppendUint32(body, uint32(len(area)))
	body = append(append(body, area...), parameters...)

	command := binary.BigEndian.AppendUint16(nil, uint16(tpm2.TPMSTSessions))
	command = binary.BigEndian.AppendUint32(command, uint32(headerSize+len(body)))
	command = binary.BigEndian.AppendUint32(command, uint32(code))
	answer, err := t.Send(append(command, body...))
	if err != nil {
		return err
	}
	if rc, err := responseCode(answer); err != nil {
		return err
	} else if rc != tpm2.TPMRCSuccess {
		return rc
	}
	return u.empty(code, names, answer[headerSize:])
}

// empty checks an answer without parameters: their size, 0, and the session's part.
func (u *Use) empty(code tpm2.TPMCC, names []tpm2.TPM2BName, rest []byte) error {
	size, rest, ok := cut(rest, 4)
	if !ok || !bytes.Equal(size, make([]byte, 4)) {
		return fmt.Errorf("parameters where there are none: %w", ErrAnswer)
	}
	auth, err := tpm2.Unmarshal[tpm2.TPMSAuthResponse](rest)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	return u.Validate(tpm2.TPMRCSuccess, code, nil, names, 0, auth)
}

func cut(p []byte, n int) (head, rest []byte, ok bool) {
	if len(p) < n {
		return nil, nil, false
	}
	return p[:n], p[n:], true
}
