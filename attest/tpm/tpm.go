// Package tpm is the board's TPM 2.0 as the chain of trust uses it (TCG TPM 2.0 Library,
// revision 1.59): how a boot begins with it, sessions, PCRs, hierarchies, and the
// handles of what lies in it. What each part is for is in docs/attestation.md.
//
// The TPM stands on an open bus. Who sits there can read, change, drop, replay and
// forge commands and answers, and can reset the TPM alone. The rules that answer this
// stand beside the code that keeps them:
//   - [Start] and [Attach]: a TPM that is not as a boot must find it.
//   - [TPM.Pin]: a salt key that is not the board's.
//   - [Session]: answers that the TPM did not give, secrets on the bus.
//   - [TPM.Send], [TPM.CheckReset]: a TPM that was reset meanwhile.
//   - [AuthValue]: a TPM that was reset and made to look right.
//   - [TPM.ForgetPlatform], [TPM.SetAuth]: authorisations that others have.
//
// A TPM and its sessions are for one goroutine at a time. Once something shows that the
// TPM is not the one that the boot began with, every further command is refused with
// [ErrLost]: the way on is quarantine.
package tpm

import (
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Handles of what provisioning leaves in the TPM (docs/attestation.md, "Objects in the
// TPM").
const (
	StorageHandle  tpm2.TPMHandle = 0x81000001 // storage primary, and salt key
	EKHandle       tpm2.TPMHandle = 0x81010001 // endorsement key
	AKHandle       tpm2.TPMHandle = 0x81010002 // attestation key
	BoardKeyHandle tpm2.TPMHandle = 0x81010003 // board key
)

// Errors. Each of the first four means quarantine.
var (
	// ErrNotFresh: somebody has started the TPM before the first measurement.
	ErrNotFresh = errors.New("the TPM was started before this boot's first measurement: switch the board off and on")
	// ErrStartupType: it resumed an earlier state instead of being reset.
	ErrStartupType = errors.New("the TPM kept state over its reset: switch the board off and on")
	// ErrPCR: somebody has measured before us.
	ErrPCR = errors.New("a PCR is not zero before the first measurement: switch the board off and on")
	// ErrName: a key is not the one that it should be.
	ErrName = errors.New("the key is not the one that the board was provisioned with: check for a device on the TPM's bus, or provision the board again")

	// ErrLost: the TPM that the boot began with is gone. It wraps ErrReset or ErrSession.
	ErrLost = errors.New("the TPM that this boot began with is lost: restart the board")
	// ErrReset: it was reset meanwhile.
	ErrReset = errors.New("the TPM was reset")
	// ErrSession: it does not know a session any more, or an answer is not its own.
	ErrSession = errors.New("a session is lost, or an answer is forged")
	// ErrAnswer: an answer is not what the command has.
	ErrAnswer = errors.New("the answer is malformed")
)

// A TPM is the board's TPM in one boot.
type TPM struct {
	bus    transport.TPM
	resets uint32 // resetCount
	salt   *saltKey
	lost   error
}

// firstPCRs are those that must be zero at the first measurement.
const firstPCRs = 9

// Start is the bootloader's first word to the TPM. It answers the attacker who starts or
// resets the TPM before us, extends what he likes, and lets us go on from there: the TPM
// must not have been started (TPM2_Startup succeeds), must not have resumed anything, and
// its PCRs 0 to 8 must be zero. Objects and sessions that lie in it are flushed.
func Start(bus transport.TPM) (*TPM, error) {
	t := &TPM{bus: bus}
	answer, err := startup(bus)
	if err == nil {
		switch rc, e := responseCode(answer); {
		case e != nil:
			err = e
		case rc == tpm2.TPMRCInitialize:
			err = ErrNotFresh
		case rc != tpm2.TPMRCSuccess:
			err = rc
		}
	}
	if err != nil {
		return nil, failed("TPM2_Startup", err)
	}
	if err := t.Flush(); err != nil {
		return nil, err
	}
	pcrs := make([]uint, firstPCRs)
	for i := range pcrs {
		pcrs[i] = uint(i)
	}
	values, err := t.ReadPCRs(pcrs...)
	if err != nil {
		return nil, err
	}
	for i, v := range values {
		if v != (Digest{}) {
			return nil, failed(fmt.Sprintf("PCR %d is %x", i, v), ErrPCR)
		}
	}
	clock, err := t.clock()
	if err != nil {
		return nil, err
	}
	if clock.RestartCount != 0 {
		return nil, failed(fmt.Sprintf("restart %d after reset %d", clock.RestartCount, clock.ResetCount), ErrStartupType)
	}
	t.resets = clock.ResetCount
	return t, nil
}

// startup sends TPM2_Startup(TPM_SU_CLEAR). It does not go through TPM.Send, to which
// TPM_RC_INITIALIZE means a reset.
func startup(bus transport.TPM) ([]byte, error) {
	return bus.Send([]byte{0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0})
}

// Rejoin takes over a TPM whatever has become of it: one that a boot has lost, or that was
// not as a boot must find it. Nothing that it says of this boot counts any more. It is for
// the board to note what has happened, in a session of its own.
func Rejoin(bus transport.TPM) (*TPM, error) {
	if _, err := startup(bus); err != nil { // it may have been started before
		return nil, failed("TPM2_Startup", err)
	}
	t := &TPM{bus: bus}
	if err := t.Flush(); err != nil {
		return nil, err
	}
	clock, err := t.clock()
	if err != nil {
		return nil, err
	}
	t.resets = clock.ResetCount
	return t, nil
}

// Attach takes over a TPM that an earlier stage of the same boot has started, with the
// count of resets that it saw. It flushes what that stage has left.
func Attach(bus transport.TPM, resets uint32) (*TPM, error) {
	t := &TPM{bus: bus, resets: resets}
	if err := t.Flush(); err != nil {
		return nil, err
	}
	clock, err := t.clock()
	if err != nil {
		return nil, err
	}
	if clock.ResetCount != resets || clock.RestartCount != 0 {
		return nil, failed(fmt.Sprintf("reset %d, restart %d, not reset %d", clock.ResetCount, clock.RestartCount, resets), t.lose(ErrReset))
	}
	return t, nil
}

// Resets is the TPM's resetCount in this boot.
func (t *TPM) Resets() uint32 { return t.resets }

// Lost is the reason for which the TPM is not spoken to any more, or nil.
func (t *TPM) Lost() error { return t.lost }

// lose notes that the TPM is lost.
func (t *TPM) lose(why error) error {
	if t.lost == nil {
		t.lost = fmt.Errorf("%w: %w", ErrLost, why)
	}
	return t.lost
}

// Send implements go-tpm's transport. It answers the attacker who resets the TPM after
// the boot and replays the good measurements into it, in the hope that we go on: a TPM
// that asks for a TPM2_Startup, or does not know a session of ours, is lost, and so
// every session's end is noticed at its next use.
func (t *TPM) Send(command []byte) ([]byte, error) {
	if t.lost != nil {
		return nil, t.lost
	}
	answer, err := t.bus.Send(command)
	if err != nil {
		return nil, err
	}
	rc, err := responseCode(answer)
	if err != nil {
		return nil, err
	}
	switch {
	case rc == tpm2.TPMRCInitialize:
		return nil, t.lose(ErrReset)
	case rc >= tpm2.TPMRCReferenceS0 && rc <= tpm2.TPMRCReferenceS0+6:
		return nil, t.lose(fmt.Errorf("%w: %w", ErrSession, rc))
	}
	return answer, nil
}

// headerSize is that of an answer: tag (2), size (4), code (4).
const headerSize = 10

func responseCode(answer []byte) (tpm2.TPMRC, error) {
	if len(answer) < headerSize || binary.BigEndian.Uint32(answer[2:]) != uint32(len(answer)) {
		return 0, fmt.Errorf("%d bytes: %w", len(answer), ErrAnswer)
	}
	return tpm2.TPMRC(binary.BigEndian.Uint32(answer[6:])), nil
}

// failed gives an error its context, and the TPM's code in hex.
func failed(what string, err error) error {
	if rc := tpm2.TPMRC(0); errors.As(err, &rc) {
		return fmt.Errorf("tpm: %s: code %#x: %w", what, uint32(rc), err)
	}
	return fmt.Errorf("tpm: %s: %w", what, err)
}

func (t *TPM) clock() (*tpm2.TPMSClockInfo, error) {
	r, err := tpm2.ReadClock{}.Execute(t)
	if err != nil {
		return nil, failed("TPM2_ReadClock", err)
	}
	return &r.CurrentTime.ClockInfo, nil
}

// CheckReset asks the TPM, in a session, how often it has been reset. It answers the
// attacker who resets the TPM between two commands without a session.
func (t *TPM) CheckReset(s *Session) error {
	_, err := t.Clock(s)
	return err
}

// Clock is the TPM's clock in milliseconds, asked for in a session, so that nobody on the
// bus makes a lease last longer (TPM 2.0 library, part 2, TPMS_CLOCK_INFO). It checks what
// CheckReset does.
func (t *TPM) Clock(s *Session) (uint64, error) {
	r, err := tpm2.ReadClock{}.Execute(t, s.With(nil).audit())
	if err != nil {
		return 0, failed("TPM2_ReadClock in a session", err)
	}
	c := r.CurrentTime.ClockInfo
	if c.ResetCount != t.resets || c.RestartCount != 0 {
		return 0, failed(fmt.Sprintf("reset %d, restart %d, not reset %d", c.ResetCount, c.RestartCount, t.resets), t.lose(ErrReset))
	}
	return c.Clock, nil
}

// Kinds of handles that Flush empties (TPM 2.0 library, part 2, 7.2).
var flushed = [...]struct {
	first tpm2.TPMHandle
	what  string
}{{0x80000000, "object"}, {0x02000000, "session"}, {0x03000000, "saved session"}}

// maxFlushed bounds the handles of one kind: a TPM that never gets empty is broken.
const maxFlushed = 128

// Flush flushes all transient objects and all sessions, those of others too: nobody but
// us speaks to the TPM, and what an earlier stage or a crash has left would fill it up.
func (t *TPM) Flush() error {
	for _, kind := range flushed {
		for n := 0; ; {
			handles, err := t.handles(kind.first)
			if err != nil {
				return err
			}
			if len(handles) == 0 {
				break
			}
			if n += len(handles); n > maxFlushed {
				return failed(fmt.Sprintf("flushing: more than %d of kind %s", maxFlushed, kind.what), ErrAnswer)
			}
			for _, h := range handles {
				if err := t.FlushHandle(h); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// FlushHandle flushes one object or session.
func (t *TPM) FlushHandle(h tpm2.TPMHandle) error {
	if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(t); err != nil {
		return failed(fmt.Sprintf("TPM2_FlushContext %#x", uint32(h)), err)
	}
	return nil
}

// handles lists some of the handles of a kind.
func (t *TPM) handles(first tpm2.TPMHandle) ([]tpm2.TPMHandle, error) {
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapHandles, Property: uint32(first), PropertyCount: 32}.Execute(t)
	if err != nil {
		return nil, failed(fmt.Sprintf("TPM2_GetCapability, handles from %#x", uint32(first)), err)
	}
	list, err := r.CapabilityData.Data.Handles()
	if err != nil {
		return nil, failed("TPM2_GetCapability", errors.Join(ErrAnswer, err))
	}
	return list.Handle, nil
}

// Property reads a TPM property (TPM 2.0 library, part 2, 6.13).
func (t *TPM) Property(p tpm2.TPMPT) (uint32, error) {
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapTPMProperties, Property: uint32(p), PropertyCount: 1}.Execute(t)
	if err != nil {
		return 0, failed(fmt.Sprintf("TPM2_GetCapability, property %#x", uint32(p)), err)
	}
	list, err := r.CapabilityData.Data.TPMProperties()
	if err != nil || len(list.TPMProperty) != 1 || list.TPMProperty[0].Property != p {
		return 0, failed(fmt.Sprintf("TPM2_GetCapability, property %#x", uint32(p)), ErrAnswer)
	}
	return list.TPMProperty[0].Value, nil
}

// Shutdown ends the boot in order, where there is time for it. A TPM that lost its power
// without one counts it among the failed authorisations once something that is under
// dictionary attack protection was used; nothing of ours is, so this is good manners.
func (t *TPM) Shutdown() error {
	if _, err := (tpm2.Shutdown{ShutdownType: tpm2.TPMSUClear}).Execute(t); err != nil {
		return failed("TPM2_Shutdown", err)
	}
	return nil
}

// AuthSize is the size of an authorisation value, in bytes.
const AuthSize = 32

// AuthValue derives the authorisation of one of the board's objects or indices from the
// secret that the bootloader has derived from the SoC's. It answers the attacker who
// resets the TPM, replays the good measurements, and then uses it himself: PCRs are all
// that he can bring about, not the SoC's secret.
func AuthValue(soc []byte, what string) ([]byte, error) {
	v, err := hkdf.Key(sha256.New, soc, nil, "nitro tpm auth v1 "+what, AuthSize)
	if err != nil {
		return nil, failed("authorisation of "+what, err)
	}
	return v, nil
}
