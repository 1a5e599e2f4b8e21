package chain

import (
	"fmt"

	"github.com/google/go-tpm/tpm2/transport"

	"nitro/attest/eventlog"
	"nitro/attest/nv"
	"nitro/attest/tpm"
	"nitro/boot/code"
	"nitro/boot/medium"
	"nitro/boot/pin"
)

// latch keeps a code in the TPM, and gives what is kept. A code that is kept already stays,
// with its number: the board is in that very quarantine. Another one is a new incident. So
// the number never goes back, and a ticket that the owner has signed opens what he has
// looked into and nothing else.
func latch(n *nv.NV, k code.Code) (nv.Quarantine, error) {
	q, err := n.Latched()
	if err != nil || q.Code == uint32(k) {
		return q, err
	}
	q = nv.Quarantine{Code: uint32(k), Incident: q.Incident + 1}
	return q, n.SetLatch(q)
}

// latchAnew does so in a TPM with which the boot cannot go on, since it was started or
// reset by somebody else: the session, which only the board's own TPM can open, shows that
// it is still there to keep the code. What cannot be kept is that another TPM answers (106): the one that should keep it is not there.
func latchAnew(bus transport.TPM, card medium.Device, soc []byte, k code.Code) (q nv.Quarantine, err error) {
	p, _, err := pin.Read(card, soc)
	if err != nil {
		return q, err
	}
	t, err := tpm.Attend(bus)
	if err != nil {
		return q, fmt.Errorf("latch: %w", err)
	}
	s, _, err := openSession(t, &p, soc)
	if err != nil {
		return q, err
	}
	if q, err = latch(nv.New(t, s, soc), k); err != nil {
		return q, err
	}
	return q, s.Close()
}

// capAnew caps PCR 7 of such a TPM, or of one of which nothing is known: nothing unseals in it
// any more until it is reset.
func capAnew(bus transport.TPM) error {
	t, err := tpm.Attend(bus)
	if err == nil {
		err = eventlog.New().Measure(extender{t, nil}, eventlog.Cap())
	}
	if err != nil {
		return tpmCoded(fmt.Errorf("cap: %w", err))
	}
	return nil
}
