// Package update is the service that updates a board while it runs: docs/update.md. It
// takes packages from the API, tells by their first bytes what they are, and hands each to
// who verifies and owns it: a release of the controller to the slots of boot/chain, firmware of
// the host to its golden copy, a policy set and a configuration to the card, NV and PCR 3.
// It implements redfish.Firmware and redfish.Tasks.
//
// One update runs at a time; what runs and how it ended is kept in the store, so that
// what a reset has cut off is told after it. Nothing here is parsed but the eight bytes
// and the component's number that say whose a package is; believing them costs nothing,
// since whoever gets the package verifies it.
//
// # What is left out
//
// Bootloaders (docs/update.md says what the medium lacks), fetching packages from
// elsewhere (SimpleUpdate), and maintenance windows.
package update

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"sync"
	"time"

	"nitro/boot/bundle"
	"nitro/boot/chain"
	"nitro/boot/code"
	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/boot/journal"
	"nitro/boot/store"
	"nitro/net/policy"
	"nitro/net/redfish"
	"nitro/resetctl/firmware"
)

// A Config says what a board has.
type Config struct {
	Chain *chain.Controller // Unlock has been through, and there is a configuration
	Board string            // its unique identity, as policies name it

	// Golden are the golden copies of the host's parts; nil where no host is guarded, and
	// until its control has begun.
	Golden func(firmware.Part) *firmware.Golden
	// Renewed is told of each golden copy that was written; it may be nil.
	Renewed func()

	// Policy is the policy set in force; nil for none. Adopt puts another one in force.
	Policy func() *policy.Set
	Adopt  func(*policy.Set)

	// Reconfigured is told of the configuration that has come into force.
	Reconfigured func(*config.Signed)

	InService func() bool // false: the board is in quarantine meanwhile
	Restart   func(why string)
	Now       func() (time.Time, bool) // false while the time is not known
}

// A Service updates a board.
type Service struct {
	c     Config
	store *store.Store

	mu      sync.Mutex
	slots   *chain.Slots // nil until the boot has reported itself healthy; whoever is busy has them
	floor   uint32       // the rollback floor, as theirs was when nobody had them
	busy    bool         // an update is under way
	ending  bool         // the board is about to restart
	tasks   []task       // the oldest first
	next    uint64       // number of the next one
	entries []redfish.Component
	golden  map[firmware.Part]redfish.Component // as they were seen last
}

// New makes the service of a boot. What the last boot left undone is ended by
// [Service.Open]. On a board in quarantine it has an inventory, and takes nothing.
func New(c Config) (*Service, error) {
	s := &Service{c: c, store: c.Chain.Store, floor: c.Chain.Floor, next: 1, golden: map[firmware.Part]redfish.Component{}}
	if s.store == nil {
		return s, nil
	}
	return s, s.load()
}

// Open begins to take updates, once the boot has reported itself healthy, and ends the
// tasks that its beginning has cut off.
func (s *Service) Open(slots *chain.Slots) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil {
		return
	}
	s.slots, s.floor, s.entries = slots, slots.Floor(), nil
	for i := range s.tasks {
		if t := &s.tasks[i]; t.State == running {
			s.settle(t)
		}
	}
	s.save()
}

// Times after which to ask again, in seconds.
const (
	retryBusy    = 30
	retryHealthy = 10
)

// begin makes a task and gives it the slots, or says why not.
func (s *Service) begin(kind, stage string) (*task, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := func(seconds int, next string) error {
		e := redfish.Refuse(http.StatusServiceUnavailable, "ServiceTemporarilyUnavailable", strconv.Itoa(seconds))
		e.RetryAfter, e.Next = seconds, next
		return e
	}
	switch {
	case !s.c.InService():
		return nil, conflict("The board is in quarantine: it takes no updates (docs/codes.md).")
	case s.ending:
		return nil, conflict("The board is about to restart: ask again when it is back.")
	case s.busy:
		return nil, wait(retryBusy, "Another update is under way: see TaskService/Tasks, and send yours when it has ended.")
	case s.slots == nil:
		return nil, wait(retryHealthy, "This boot has not proved itself healthy yet: send the update again in a moment.")
	}
	s.busy = true
	return s.add(kind, stage), nil
}

// end ends a task, and lets the next one begin.
func (s *Service) end(t *task, note string, why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy, s.floor, s.entries = false, s.slots.Floor(), nil
	t.finish(s.now(), note, why)
	s.save()
	log.Printf("update: task %d, %s: %s", t.Number, t.Kind, t.State)
}

// conflict refuses what does not fit the board's state.
func conflict(next string) *redfish.Error {
	e := redfish.Refuse(http.StatusConflict, "ResourceInUse")
	e.Next = next
	return e
}

// Push implements redfish.Firmware. It returns when the package is taken or refused.
func (s *Service) Push(_ context.Context, u redfish.Upload, file io.Reader) (string, error) {
	b := bufio.NewReaderSize(file, peek)
	k, err := kindOf(b)
	if err != nil {
		return "", refusal(err)
	}
	if u.Apply == redfish.ApplyOnStart && k != kindController {
		e := redfish.Refuse(http.StatusBadRequest, "ActionParameterValueNotInList", u.Apply, "@Redfish.OperationApplyTime", "MultipartHttpPush")
		e.Next = "Leave the apply time out: only a release of the controller waits for StartUpdate."
		return "", e
	}
	t, err := s.begin(string(k), stageTake)
	if err != nil {
		return "", err
	}
	note, err := s.take(t, k, b)
	s.end(t, note, err)
	if err != nil {
		return "", refusal(err)
	}
	if k == kindController && u.Apply == redfish.ApplyNow {
		return s.start()
	}
	return t.id(), nil
}

// peek is how much of a package says what it is: magic and component (docs/medium.md,
// "Image").
const (
	peek        = 16
	componentAt = 12
	imageMagic  = "NCIMAGE1"
)

// A kind is what a package is.
type kind string

const (
	kindController    kind = "controller release"
	kindConfiguration kind = "configuration"
	kindHost          kind = "host firmware"
	kindBMC           kind = "BMC firmware"
	kindPolicy        kind = "policy set"
)

// kindOf tells what a package says of itself.
func kindOf(b *bufio.Reader) (kind, error) {
	head, err := b.Peek(peek)
	if err != nil {
		return "", code.ImageUnreadable.Errorf("update: %w", err)
	}
	switch string(head[:len(imageMagic)]) {
	case bundle.Magic:
		return kindController, nil
	case imageMagic:
		component := image.Component(binary.LittleEndian.Uint32(head[componentAt:]))
		k, ok := map[image.Component]kind{
			image.Configuration: kindConfiguration, image.PolicySet: kindPolicy,
			image.HostFirmware: kindHost, image.BMCFirmware: kindBMC,
		}[component]
		if ok {
			return k, nil
		}
		return "", code.WrongComponent.Errorf("update: a %v is not updated by itself: pack a controller with nitroctl release pack, write a bootloader by card", component)
	}
	return "", code.ImageMalformed.Errorf("update: this is no package")
}

// take takes a package. The note is what the client has to know.
func (s *Service) take(t *task, k kind, r io.Reader) (note string, err error) {
	switch k {
	case kindController:
		i, err := s.slots.Install(r, s.progress(t))
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("Version %s is staged: StartUpdate activates it and restarts the board.", i.Version), nil
	case kindHost:
		return s.takeHost(firmware.Host, r)
	case kindBMC:
		return s.takeHost(firmware.BMC, r)
	case kindPolicy:
		return s.takePolicy(t, r)
	}
	return s.takeConfiguration(t, r)
}

// takeHost takes firmware into a golden copy.
func (s *Service) takeHost(p firmware.Part, r io.Reader) (string, error) {
	g := s.c.Golden(p)
	if g == nil {
		return "", conflict("This board guards no such part of a host: have the owner's configuration name it (docs/medium.md, host), and restart the board.")
	}
	m, err := g.Install(r)
	switch {
	case m == nil:
		return "", err
	case s.c.Renewed != nil:
		s.c.Renewed()
	}
	if err != nil {
		return fmt.Sprintf("Version %s is the golden copy; it could not be made sure that no older one comes back: restart the board.", m.Version), nil
	}
	return fmt.Sprintf("Version %s is the golden copy: the flash gets it in the host's next cycle.", m.Version), nil
}

// takeConfiguration puts a configuration in force.
func (s *Service) takeConfiguration(t *task, r io.Reader) (string, error) {
	b, err := readAll(r, image.HeaderSize+config.MaxSize)
	if err != nil {
		return "", err
	}
	s.expect(t, b)
	c, waits, err := s.slots.Reconfigure(b)
	if err != nil {
		return "", err
	}
	s.c.Reconfigured(c)
	if len(waits) > 0 {
		return fmt.Sprintf("Epoch %d is in force, but for %v: restart the board for that.", c.Epoch, waits), nil
	}
	return fmt.Sprintf("Epoch %d is in force.", c.Epoch), nil
}

// readAll reads a package that is small enough to be in memory.
func readAll(r io.Reader, most int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, code.ImageUnreadable.Errorf("update: %w", err)
	}
	if int64(len(b)) > most {
		return nil, code.ImageMalformed.Errorf("update: longer than the %d bytes that it may have", most)
	}
	return b, nil
}

// Start implements redfish.Firmware.
func (s *Service) Start(context.Context) (string, error) { return s.start() }

// start activates what is staged.
func (s *Service) start() (string, error) {
	return s.activate("activation of the controller", func() error {
		if s.slots.Staged() == nil {
			return conflict("Nothing is staged: upload a release's bundle first (nitroctl update push).")
		}
		return nil
	}, (*chain.Slots).Activate)
}

// Rollback implements redfish.Firmware.
func (s *Service) Rollback(context.Context) (string, error) {
	return s.activate("rollback of the controller", func() error {
		if s.slots.State().Slots[s.slots.Slot().Other()].Status == journal.Empty {
			return conflict("The other slot is empty: there is nothing to go back to.")
		}
		return nil
	}, (*chain.Slots).Rollback)
}

// activate makes the other slot the next one, and restarts the board. The slot is verified
// as a whole for that, which takes as long as a boot does: the task goes on by itself.
func (s *Service) activate(kind string, check func() error, do func(*chain.Slots) error) (string, error) {
	t, err := s.begin(kind, stageActivate)
	if err != nil {
		return "", err
	}
	err = check()
	var i *image.Image
	if err == nil {
		i, err = s.c.Chain.SlotImage(s.slots.Slot().Other())
	}
	if err != nil {
		s.end(t, "", err)
		return "", refusal(err)
	}
	s.mu.Lock()
	t.Digest, t.Version = digestText(i.Digest), i.Version
	s.save()
	s.mu.Unlock()
	go func() {
		if err := do(s.slots); err != nil {
			log.Printf("%v", err)
			s.end(t, "", err)
			return
		}
		s.mu.Lock()
		t.Percent, s.ending = percentRestart, true
		s.save()
		s.mu.Unlock()
		s.c.Restart(fmt.Sprintf("%s: version %s", kind, i.Version))
	}()
	return t.id(), nil
}

// refusal tells a client what is wrong with what he sent: its code, with what to do next.
func refusal(err error) error {
	var known *redfish.Error
	var large *http.MaxBytesError
	if errors.As(err, &known) || errors.As(err, &large) {
		return err
	}
	log.Printf("%v", err)
	return describe(code.Of(err))
}

// describe is the refusal that a code is.
func describe(k code.Code) *redfish.Error {
	e := redfish.Refuse(http.StatusBadRequest, "GeneralError")
	if entry, ok := code.Lookup(k); ok {
		e.Next = fmt.Sprintf("Code %d: %s %s", uint16(k), entry.Sentence, entry.Next)
	} else {
		e.Status, e.ID, e.Next = http.StatusInternalServerError, "InternalError", "The board's log has the reason: see its console, and send the update again."
	}
	return e
}
