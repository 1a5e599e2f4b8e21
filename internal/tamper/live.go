package tamper

import (
	"bytes"
	"errors"
	"fmt"
	"os"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"

	"nitro/attest/eventlog"
	"nitro/attest/nv"
	"nitro/attest/tpm"
	"nitro/boot/code"
	"nitro/boot/handover"
	"nitro/boot/journal"
	"nitro/boot/medium"
	"nitro/internal/chained"
)

// chip puts another TPM in the place of the board's.
func (t *Target) chip(folder string) {
	t.swapped = true
	t.do("TPM", errors.Join(os.RemoveAll(t.TPM), os.CopyFS(t.TPM, os.DirFS(folder))))
}

// must ends the campaign: an attack that could not be carried out proves nothing.
func must(errs ...error) {
	if err := errors.Join(errs...); err != nil {
		panic(err)
	}
}

// chips: the TPM is another one, or somebody was there before the bootloader.
func chips() (all []Case) {
	const region = "TPM"
	forgotten := rests(code.TPMSaltKey)
	forgotten.Forgotten = true
	all = append(all,
		on(Case{Region: region, Name: "another board's", Do: func(t *Target) { t.chip(t.TwinTPM) }, Want: forgotten}),
		on(Case{Region: region, Name: "a new one", Do: func(t *Target) { t.chip(t.NewTPM) }, Want: rests(code.TPMKeyMissing)}),
		Case{Region: region, Name: "another board's, with its card", Do: func(t *Target) {
			t.chip(t.TwinTPM)
			t.from(t.Twin, medium.Place{Offset: 0, Size: medium.PoolOffset})
		}, Want: quarantine(code.BoardMismatch), Live: func(l *chained.Lived) { l.UniqueID++ }},
	)
	early := func(name string, w Want, do func(l *chained.Lived)) {
		all = append(all, Case{Region: region, Name: name, Want: w, Live: func(l *chained.Lived) { l.Early = func() { do(l) } }})
	}
	start := func(l *chained.Lived, of tpm2.TPMSU) { must(drop(tpm2.Startup{StartupType: of}.Execute(l.Chip))) }
	early("started before the bootloader", rests(code.TPMNotFresh), func(l *chained.Lived) { start(l, tpm2.TPMSUClear) })
	early("started and measured into before the bootloader", rests(code.TPMNotFresh), func(l *chained.Lived) {
		start(l, tpm2.TPMSUClear)
		must(extend(l.Chip, measurement{2, tpm.Digest{1}}))
	})
	unusable := rests(code.TPMNotFresh)
	unusable.Forgotten = true // the AK is the owner's, and without it there is no session
	early("its owner's hierarchy is off", unusable, func(l *chained.Lived) {
		start(l, tpm2.TPMSUClear)
		a, err := l.Chip.Send(disableOwner)
		must(err)
		if !bytes.Equal(a[6:10], make([]byte, 4)) {
			panic(fmt.Sprintf("TPM2_HierarchyControl: %x", a))
		}
	})
	early("resumed", rests(code.TPMNotFresh), func(l *chained.Lived) {
		start(l, tpm2.TPMSUClear)
		must(drop(tpm2.Shutdown{ShutdownType: tpm2.TPMSUState}.Execute(l.Chip)))
		l.Chip.Reset() // and the bootloader's start is a TPM Restart, which keeps some state
	})
	// What somebody can do who resets the TPM alone: then the platform's authorisation is
	// empty. He resets it once more before the board boots.
	before := func(name string, w Want, do func(l *chained.Lived)) {
		early(name, w, func(l *chained.Lived) {
			start(l, tpm2.TPMSUClear)
			do(l)
			l.Chip.Reset()
		})
	}
	ruined := rests(code.TPMKeyMissing)
	ruined.Ruined = true
	before("cleared", ruined, func(l *chained.Lived) {
		_, err := tpm2.Clear{AuthHandle: platform()}.Execute(l.Chip)
		must(err)
	})
	before("the AK is evicted", ruined, func(l *chained.Lived) {
		_, err := tpm2.EvictControl{
			Auth:             platform(),
			ObjectHandle:     &tpm2.NamedHandle{Handle: tpm.AKHandle, Name: nameOf(l.Chip, tpm.AKHandle)},
			PersistentHandle: tpm.AKHandle,
		}.Execute(l.Chip)
		if err == nil {
			return
		}
		must(drop(tpm2.Clear{AuthHandle: platform()}.Execute(l.Chip))) // what this TPM lets him do
	})
	before("indices are tried to be removed and written", inService(slotA), func(l *chained.Lived) {
		for _, i := range nv.All {
			name, err := i.PublicName()
			must(err)
			index := tpm2.NamedHandle{Handle: i.Handle, Name: name}
			own := tpm2.AuthHandle{Handle: i.Handle, Name: name, Auth: tpm2.PasswordAuth(nil)}
			_, undefine := tpm2.NVUndefineSpace{AuthHandle: platform(), NVIndex: index}.Execute(l.Chip)
			_, write := tpm2.NVWrite{AuthHandle: own, NVIndex: index, Data: tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, 8)}}.Execute(l.Chip)
			_, byPlatform := tpm2.NVWrite{AuthHandle: platform(), NVIndex: index, Data: tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, 8)}}.Execute(l.Chip)
			for _, err := range []error{undefine, write, byPlatform} {
				if err == nil {
					panic(i.Name + " was removed or written")
				}
			}
		}
	})
	before("filled with indices", inService(slotA), func(l *chained.Lived) {
		for n := range 200 {
			_, err := tpm2.NVDefineSpace{AuthHandle: platform(), PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
				NVIndex: tpm2.TPMHandle(0x01000000 + n), NameAlg: tpm2.TPMAlgSHA256, DataSize: 2048,
				Attributes: tpm2.TPMANV{PPWrite: true, PPRead: true, PlatformCreate: true},
			})}.Execute(l.Chip)
			if err != nil {
				return
			}
		}
		panic("the TPM has room for everything")
	})
	before("failed authorisations", inService(slotA), func(l *chained.Lived) {
		for range 40 {
			a, err := l.Chip.Send(guessLockout)
			must(err)
			if bytes.Equal(a[6:10], make([]byte, 4)) {
				panic("the lockout authorisation was guessed")
			}
		}
	})
	return all
}

// disableOwner is TPM2_HierarchyControl of the owner's hierarchy with the platform's empty
// authorisation.
var disableOwner = []byte{
	0x80, 2, 0, 0, 0, 32, 0, 0, 1, 0x21, 0x40, 0, 0, 0xc, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0, 0x40, 0, 0, 1, 0,
}

// guessLockout is TPM2_DictionaryAttackLockReset with a wrong authorisation.
var guessLockout = append([]byte{0x80, 2, 0, 0, 0, 32, 0, 0, 1, 0x39, 0x40, 0, 0, 0xa, 0, 0, 0, 14, 0x40, 0, 0, 9, 0, 0, 0, 0, 5}, "guess"...)

func drop(_ any, err error) error { return err }

func platform() tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}
}

func nameOf(t transport.TPM, h tpm2.TPMHandle) tpm2.TPM2BName {
	r, err := tpm2.ReadPublic{ObjectHandle: h}.Execute(t)
	must(err)
	return r.Name
}

// buses: somebody sits on the TPM's bus while the board boots.
func buses() (all []Case) {
	add := func(name string, w Want, hit func(l *chained.Lived) interposer) {
		all = append(all, Case{Region: "bus", Name: name, Want: w, Live: func(l *chained.Lived) { interpose(l, hit(l)) }})
	}
	simple := func(name string, w Want, hit func() interposer) {
		add(name, w, func(*chained.Lived) interposer { return hit() })
	}
	forgotten := func(w Want) Want { w.Forgotten = true; return w }
	// Of a boot's extends the first three go without a session: anchors, bootloader, board.
	for n, name := range []string{"anchors", "bootloader", "board"} {
		simple("the measurement of "+name+" is swallowed", quarantine(code.LogDoesNotReplay), func() interposer { return at(pcrExtend, n+1, forge) })
		simple("the measurement of "+name+" is changed", quarantine(code.LogDoesNotReplay), func() interposer { return at(pcrExtend, n+1, change) })
		simple("the measurement of "+name+" is made twice", quarantine(code.LogDoesNotReplay), func() interposer { return at(pcrExtend, n+1, twice) })
	}
	for n, name := range []string{"configuration", "controller", "authority", "security version"} {
		simple("the measurement of "+name+" is swallowed", rests(code.TPMSessionLost), func() interposer { return at(pcrExtend, n+4, forge) })
		simple("the measurement of "+name+" is changed", rests(code.TPMUnanswered), func() interposer { return at(pcrExtend, n+4, change) })
		simple("the measurement of "+name+" is made twice", rests(code.TPMUnanswered), func() interposer { return at(pcrExtend, n+4, twice) })
	}
	simple("the cap is swallowed", quarantine(code.TPMSessionLost), func() interposer { return at(pcrExtend, 8, forge) })
	simple("a measurement more", quarantine(code.LogDoesNotReplay), func() interposer {
		return at(startAuthSession, 1, func(_ int, command []byte, on send) ([]byte, error) {
			must(extend(wire{new(int), on, func(_ int, c []byte, on send) ([]byte, error) { return on(c) }}, measurement{2, tpm.Digest{1}}))
			return on(command)
		})
	})
	add("another storage primary is offered", forgotten(rests(code.TPMSaltKey)), func(l *chained.Lived) interposer {
		theirs := publicOf(l.Twin, tpm.StorageHandle)
		return at(readPublic, 0, func(_ int, command []byte, on send) ([]byte, error) {
			if handle(command) == tpm.StorageHandle {
				return theirs, nil
			}
			return on(command)
		})
	})
	add("another attestation key is offered", rests(code.TPMKeyMissing), func(l *chained.Lived) interposer {
		theirs := publicOf(l.Twin, tpm.AKHandle)
		return at(readPublic, 0, func(_ int, command []byte, on send) ([]byte, error) {
			if handle(command) == tpm.AKHandle {
				return theirs, nil
			}
			return on(command)
		})
	})
	simple("the attestation key is hidden", rests(code.TPMKeyMissing), func() interposer {
		return at(readPublic, 0, func(_ int, command []byte, on send) ([]byte, error) {
			if handle(command) == tpm.AKHandle {
				return says(tpm2.TPMRCHandle), nil
			}
			return on(command)
		})
	})
	for _, c := range []struct {
		what string
		code tpm2.TPMCC
		nth  int
		want Want
	}{
		{"floor", nvRead, 1, rests(code.TPMSessionLost)}, {"epoch", nvRead, 2, rests(code.TPMSessionLost)}, {"floor, to the controller", nvRead, 3, quarantine(code.TPMSessionLost)},
		{"latch", nvRead, 4, quarantine(code.TPMSessionLost)}, {"store's counter", nvRead, 6, quarantine(code.TPMSessionLost)},
		{"platform's authorisation", changeAuth, 1, rests(code.TPMSessionLost)}, {"first secret", unseal, 1, quarantine(code.TPMSessionLost)},
		{"second secret", unseal, 2, quarantine(code.TPMSessionLost)}, {"store's step", nvIncrement, 1, quarantine(code.TPMSessionLost)},
		{"sealed object", load, 1, quarantine(code.TPMSessionLost)},
	} {
		simple("the answer is changed: "+c.what, c.want, func() interposer { return at(c.code, c.nth, garble) })
	}
	simple("the answer is changed: PCRs, to the controller", quarantine(code.LogDoesNotReplay), func() interposer { return at(pcrRead, 3, garble) })
	simple("the answer is changed: PCRs, to the bootloader", rests(code.TPMNotFresh), func() interposer { return at(pcrRead, 1, garble) })
	simple("the step of the store's counter is forged", quarantine(code.TPMSessionLost), func() interposer { return at(nvIncrement, 1, forge) })
	simple("the platform's authorisation is not set", rests(code.TPMSessionLost), func() interposer { return at(changeAuth, 1, forge) })
	for _, c := range []struct {
		name string
		rc   tpm2.TPMRC
		code code.Code
	}{
		{"lockout", tpm2.TPMRCLockout, code.TPMLockedOut}, {"failure", tpm2.TPMRCFailure, code.TPMFailed}, {"retry", tpm2.TPMRCRetry, code.TPMUnanswered},
		{"a code that nobody knows", 0x1ff, code.TPMUnanswered},
	} {
		simple("it says: "+c.name, rests(c.code), func() interposer { return at(startup, 0, answer(says(c.rc))) })
		simple("it says to the controller: "+c.name, otherwise(c.code), func() interposer { return at(nvRead, 3, answer(says(c.rc))) })
	}
	simple("it says nothing", rests(code.TPMUnanswered), func() interposer { return at(startup, 0, answer(nil)) })
	simple("it says half of it", rests(code.TPMUnanswered), func() interposer { return at(pcrRead, 1, answer(says(0)[:7])) })
	simple("approvals are refused", otherwise(code.ApprovalMissing), func() interposer { return at(verifySignature, 0, answer(says(tpm2.TPMRCSignature|0x1c0))) })
	simple("the policy is refused", otherwise(code.ApprovalMissing), func() interposer { return at(policyAuthorize, 0, answer(says(tpm2.TPMRCValue|0x1c0))) })
	add("another board's TPM answers the bootloader", forgotten(rests(code.TPMSaltKey)), func(l *chained.Lived) interposer {
		l.Early = l.Twin.Chip.Cycle
		return func(_ int, command []byte, _ send) ([]byte, error) { return l.Twin.Chip.Send(command) }
	})
	add("another board's TPM answers the controller", forgotten(quarantine(code.TPMSaltKey)), func(l *chained.Lived) interposer {
		var all []measurement
		theirs := false
		l.Early = func() { l.Twin.Chip.Cycle(); all, theirs = nil, false }
		l.Between = func([]byte) { theirs = true; must(replay(l.Twin.Chip, all)) }
		return func(_ int, command []byte, on send) ([]byte, error) {
			all = seen(all, command)
			if !theirs {
				return on(command)
			}
			if commandCode(command) == readClock { // he does what he can
				return clock(l.Chip, l.Twin.Chip, command)
			}
			return l.Twin.Chip.Send(command)
		}
	})
	return append(all, resets()...)
}

// clock has one TPM answer for another, with the clock of the first, as long as no session
// authenticates it.
func clock(first, second transport.TPM, command []byte) ([]byte, error) {
	if command[1] == 1 {
		return first.Send(command)
	}
	return second.Send(command)
}

// otherwise is a transient quarantine of which no slot is free.
func otherwise(c code.Code) Want { return Want{Code: c} }

// publicOf is another TPM's answer to TPM2_ReadPublic.
func publicOf(b *chained.Board, h tpm2.TPMHandle) []byte {
	b.Chip.Cycle()
	defer b.Chip.Cut()
	must(drop(tpm2.Startup{StartupType: tpm2.TPMSUClear}.Execute(b.Chip)))
	a, err := b.Chip.Send([]byte{0x80, 1, 0, 0, 0, 14, 0, 0, 1, 0x73, byte(h >> 24), byte(h >> 16), byte(h >> 8), byte(h)})
	must(err)
	return a
}

// bootCommands is more than a boot has up to the open store.
const bootCommands = 100

// resets: the TPM alone is reset in front of each command of a boot, and what was measured
// so far is measured again.
func resets() (all []Case) {
	for n := 1; n <= bootCommands; n++ {
		all = append(all, Case{Region: "reset of the TPM alone", Name: fmt.Sprintf("in front of command %d, and the good measurements replayed", n),
			Want: Want{Code: anyReset}, Live: func(l *chained.Lived) {
				var all []measurement
				interpose(l, func(i int, command []byte, on send) ([]byte, error) {
					if i == n {
						must(replay(l.Chip, all))
					}
					all = seen(all, command)
					return on(command)
				})
			}})
	}
	faked := func(name string, count func([]byte) []byte) {
		all = append(all, Case{Region: "reset of the TPM alone", Name: name, Want: quarantine(code.TPMSessionLost), Live: func(l *chained.Lived) {
			var all []measurement
			var clock []byte
			interpose(l, func(_ int, command []byte, on send) ([]byte, error) {
				all = seen(all, command)
				if commandCode(command) == readClock && command[1] == 1 {
					if clock != nil {
						return count(clock), nil
					}
					a, err := on(command)
					clock = bytes.Clone(a)
					return a, err
				}
				return on(command)
			})
			l.Between = func([]byte) { must(replay(l.Chip, all)) }
		}})
	}
	faked("between bootloader and controller, and the count of resets is faked", func(c []byte) []byte { return c })
	return all
}

// anyReset stands for the codes of a TPM that was reset in the middle, which depend on
// where: see reset.
const anyReset code.Code = 0xffff

// resetCodes are those.
var resetCodes = []code.Code{code.TPMNotFresh, code.TPMSessionLost, code.LogDoesNotReplay}

// handovers: what lies in memory between bootloader and controller.
func handovers() (all []Case) {
	add := func(name string, w Want, between func(memory []byte)) {
		all = append(all, Case{Region: "hand-over", Name: name, Want: w, Live: func(l *chained.Lived) { l.Between = between }})
	}
	for _, s := range []spot{{name: "magic"}, {name: "length of the log", at: 8}, {name: "slot", at: 12}, {name: "attempt", at: 16}, {name: "other slot's code", at: 20},
		{name: "strength", at: 24}, {name: "instructions", at: 28}, {name: "secret", at: 40}, {name: "seed", at: 70}, {name: "time", at: 130},
		{name: "count of resets", at: 137}, {name: "reserved", at: 150}, {name: "digest", at: 230}, {name: "log", at: 256 + 300}} {
		add(s.name+" flipped", quarantine(code.HandoverDamaged), func(m []byte) { m[s.at] ^= 2 })
	}
	add("zero", quarantine(code.HandoverDamaged), func(m []byte) { clear(m) })
	add("truncated", quarantine(code.HandoverDamaged), func(m []byte) { clear(m[300:]) })
	again := func(name string, w Want, change func(*handover.Handover)) {
		add(name+", with a good digest", w, func(m []byte) {
			h, err := handover.Take(m)
			must(err)
			change(h)
			must(handover.Put(m, h))
		})
	}
	again("other slot", otherSlot(code.PCRMismatch), func(h *handover.Handover) { h.Slot = journal.B })
	again("another secret", quarantine(code.BoardMismatch), func(h *handover.Handover) { h.Secret[3] ^= 1 })
	again("another count of resets", quarantine(code.TPMSessionLost), func(h *handover.Handover) { h.Resets++ })
	again("no log", quarantine(code.HandoverDamaged), func(h *handover.Handover) { h.Log = []byte{1} })
	edited := func(name string, w Want, edit func([]eventlog.Event) []eventlog.Event) {
		again("log "+name, w, func(h *handover.Handover) {
			l, err := eventlog.Parse(h.Log)
			must(err)
			n := eventlog.New()
			for _, e := range edit(append([]eventlog.Event(nil), l.Events()...)) {
				must(n.Append(e))
			}
			h.Log = n.Bytes()
		})
	}
	edited("without its last measurement", quarantine(code.LogDoesNotReplay), func(e []eventlog.Event) []eventlog.Event { return e[:len(e)-2] })
	edited("with the events in another order", quarantine(code.LogDoesNotReplay), func(e []eventlog.Event) []eventlog.Event {
		e[0], e[1] = e[1], e[0]
		return e
	})
	edited("with a measurement more", quarantine(code.LogDoesNotReplay), func(e []eventlog.Event) []eventlog.Event {
		return append(e, eventlog.SecurityVersion(chained.Security))
	})
	edited("of another image", quarantine(code.LogDoesNotReplay), func(e []eventlog.Event) []eventlog.Event {
		for i := range e {
			if e[i].Name() == "controller" {
				e[i] = eventlog.Controller(eventlog.Digest{1}, "1.0", chained.Security)
			}
		}
		return e
	})
	edited("with the cap", quarantine(code.LogDoesNotReplay), func(e []eventlog.Event) []eventlog.Event { return append(e, eventlog.Cap()) })
	edited("with something more that is told", inService(slotA), func(e []eventlog.Event) []eventlog.Event { return append(e, eventlog.Slot(1, 2)) })
	return all
}

// An overlay is a card that gives something else in one place.
type overlay struct {
	medium.Device
	place medium.Place
	from  medium.Device // nil: it cannot be read
	write bool          // writes fail there
}

var errRead = errors.New("tamper: the card gives an error")

func (o overlay) ReadBlocks(first uint64, p []byte) error {
	if o.write {
		return o.Device.ReadBlocks(first, p)
	}
	bs := uint64(o.BlockSize())
	for at := uint64(0); at < uint64(len(p)); at += bs {
		d, block := o.Device, first+at/bs
		if off := int64(block * bs); off >= o.place.Offset && off < o.place.Offset+o.place.Size {
			if o.from == nil {
				return errRead
			}
			d = o.from
		}
		if err := d.ReadBlocks(block, p[at:at+bs]); err != nil {
			return err
		}
	}
	return nil
}

func (o overlay) WriteBlocks(first uint64, p []byte) error {
	if off := int64(first * uint64(o.BlockSize())); o.write && off >= o.place.Offset && off < o.place.Offset+o.place.Size {
		return errRead
	}
	return o.Device.WriteBlocks(first, p)
}

// twoFaced gives the bootloader one view of the card, and the controller another; nil is the
// true one.
func twoFaced(l *chained.Lived, bootloader, controller func(medium.Device) medium.Device) {
	n := 0
	l.Early = func() { n = 0 }
	l.Device = func(d medium.Device) medium.Device {
		n++
		face := bootloader
		if n > 1 {
			face = controller
		}
		if face == nil {
			return d
		}
		return face(d)
	}
}

// evilCards answer the controller differently than the bootloader.
func evilCards() (all []Case) {
	add := func(name string, w Want, do func(l *chained.Lived)) {
		all = append(all, Case{Region: "two-faced card", Name: name, Want: w, Live: do})
	}
	lie := func(d medium.Device, places ...medium.Place) func(medium.Device) medium.Device {
		return func(of medium.Device) medium.Device {
			for _, p := range places {
				of = overlay{Device: of, place: p, from: d}
			}
			return of
		}
	}
	both := medium.Configurations
	add("an older configuration for the controller", quarantine(code.ConfigurationOld), func(l *chained.Lived) { twoFaced(l, nil, lie(l.Past, both[0], both[1])) })
	add("an older configuration for the bootloader", otherwise(code.ConfigurationBad), func(l *chained.Lived) { twoFaced(l, lie(l.Past, both[0], both[1]), nil) })
	add("no configuration for the bootloader", otherwise(code.ConfigurationBad), func(l *chained.Lived) {
		twoFaced(l, lie(chained.Blank(), both[0], both[1]), nil)
	})
	add("another anchor block for the controller", quarantine(code.AnchorBlock), func(l *chained.Lived) {
		d := chained.Blank()
		must(medium.WritePlace(d, medium.AnchorBlock, l.Stranger.First.AnchorBlock[:]))
		twoFaced(l, nil, lie(d, medium.AnchorBlock))
	})
	forgotten := quarantine(code.TPMSaltKey)
	forgotten.Forgotten = true
	add("another board part for the controller", forgotten, func(l *chained.Lived) {
		twoFaced(l, nil, lie(l.Twin.Card, medium.BoardParts[0], medium.BoardParts[1]))
	})
	add("no board part for the controller", unprovisioned, func(l *chained.Lived) {
		twoFaced(l, nil, lie(chained.Blank(), medium.BoardParts[0], medium.BoardParts[1]))
	})
	add("an older store for the controller", quarantine(code.StoreRolledBack), func(l *chained.Lived) { twoFaced(l, nil, lie(l.Past, medium.Store)) })
	add("other slots for the controller", inService(slotA), func(l *chained.Lived) { twoFaced(l, nil, lie(chained.Blank(), medium.Slots[0], medium.Slots[1])) })
	return all
}

// unreadable: each place gives errors instead of what it holds.
func unreadable() (all []Case) {
	for _, c := range []struct {
		name  string
		place medium.Place
		want  Want
	}{
		{"bootloader's header", medium.BootloaderHeader, rests(code.ImageUnreadable)}, {"anchor block", medium.AnchorBlock, rests(code.AnchorBlock)},
		{"bootloader", medium.Bootloader, rests(code.ImageUnreadable)}, {"journal", medium.Journal, rests(code.ImageUnreadable)},
		{"one configuration", medium.Configurations[0], inService(slotA)}, {"known-good set of A", medium.KnownGoodOf[0], otherSlot(code.KnownGoodBad)},
		{"one board part", medium.BoardParts[0], inService(slotA)}, {"one set of sealed objects", medium.SealedObjects[0], inService(slotA)},
		{"slot A", medium.Slots[0], inService(slotB)}, {"store", medium.Store, otherwise(code.StoreUnreadable)},
		{"one superblock", segment(0), inService(slotA)}, {"one ring", segment(1), inService(slotA)}, {"ticket", medium.Ticket, inService(slotA)},
		{"control area", medium.Place{Offset: medium.Configurations[0].Offset, Size: medium.Slots[0].Offset - medium.Configurations[0].Offset}, rests(code.KnownGoodBad)},
		{"card", medium.Place{Offset: 0, Size: medium.MinSize}, rests(code.AnchorBlock)},
	} {
		all = append(all, Case{Region: "unreadable", Name: c.name, Want: c.want, Live: func(l *chained.Lived) {
			l.Device = func(d medium.Device) medium.Device { return overlay{Device: d, place: c.place} }
		}})
	}
	for _, c := range []struct {
		name  string
		place medium.Place
		want  Want
	}{
		{"journal", medium.Journal, rests(code.JournalUnwritable)}, {"store", medium.Store, quarantine(code.StoreWorn)},
		{"card", medium.Place{Offset: 0, Size: medium.MinSize}, rests(code.JournalUnwritable)},
	} {
		all = append(all, Case{Region: "unwritable", Name: c.name, Want: c.want, Live: func(l *chained.Lived) {
			l.Device = func(d medium.Device) medium.Device { return overlay{Device: d, place: c.place, write: true} }
		}})
	}
	return all
}
