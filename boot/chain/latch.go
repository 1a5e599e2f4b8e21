package chain

import (
	"github.com/google/go-tpm/tpm2/transport"

	"nitro/attest/nv"
	"nitro/attest/tpm"
	"nitro/boot/code"
	"nitro/boot/medium"
)

// latches tells whether a code is kept in the TPM: switching the power off and on must not
// hide what does not happen by itself.
func latches(k code.Code) bool { return k != code.None && k.Class() == code.Latched }

// keep keeps a code, with a number that none had before. What the TPM has is read here,
// however early the boot has ended: a number that comes twice would make an old ticket good
// again. A code that is kept stays until the owner has let the board out of it (left).
func keep(n *nv.NV, k code.Code, left bool) (nv.Quarantine, error) {
	kept, err := n.Latched()
	if err != nil || kept.Code == uint32(k) || kept.Code != 0 && !left {
		return kept, err
	}
	q := nv.Quarantine{Code: uint32(k), Incident: kept.Incident + 1}
	if err := n.SetLatch(q); err != nil {
		return kept, err
	}
	return q, nil
}

// keepAnew keeps a code in a TPM that this boot has lost, or not come to: who resets the TPM
// alone, or starts it before the board does, must not be forgotten with the power. The
// session is as good as any, since the SoC's secret is in it; that this is the TPM of before
// does not matter. Nothing is kept on a board that is not provisioned.
func keepAnew(bus transport.TPM, d medium.Device, soc []byte, k code.Code, left bool) (nv.Quarantine, error) {
	p, err := readPin(d, soc)
	if err != nil || p == nil {
		return nv.Quarantine{}, err
	}
	t, err := tpm.Rejoin(bus)
	if err != nil {
		return nv.Quarantine{}, err
	}
	s, _, err := openSession(t, p, soc)
	if err != nil {
		return nv.Quarantine{}, err
	}
	q, err := keep(nv.New(t, s, soc), k, left)
	if err == nil {
		err = s.Close()
	}
	return q, err
}

// latch keeps a code of the latched class, if there is a TPM to keep it.
func (c *Controller) latch(k code.Code) {
	var err error
	switch {
	case !latches(k):
		return
	case c.NV != nil && c.T.Lost() == nil:
		c.Latched, err = keep(c.NV, k, c.left)
	case c.TPM != nil && c.Card != nil && c.Handover != nil:
		c.Latched, err = keepAnew(c.TPM, c.Card, c.Handover.Secret[:], k, c.left)
	}
	if err != nil {
		c.report("the code cannot be latched: %v", err)
	}
}

// Rest ends a boot that Phases or Result put into quarantine: it keeps the code in the TPM, if
// it is of the latched class, caps PCR 7, as what has been measured by now may be all that
// unsealing wants, and zeroes the secret.
func (l *Loader) Rest(why error) {
	defer clear(l.Secret[:])
	k := code.Of(why)
	if l.card == nil || l.bus == nil && !latches(k) {
		return
	}
	bus, err := l.bus, error(nil)
	if bus == nil {
		bus, err = l.OpenTPM()
	}
	if err != nil {
		l.report("TPM: %v", err)
		return
	}
	if latches(k) {
		if _, err := keepAnew(bus, l.card, l.Secret[:], k, false); err != nil {
			l.report("the code cannot be latched: %v", err)
		}
	}
	if err := capInTheOpen(bus); err != nil {
		l.report("the cap: %v", err)
	}
}
