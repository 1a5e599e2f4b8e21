package update

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"time"

	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/store"
	"nitro/net/redfish"
)

// tasksName is the store's record of the last tasks: JSON of this firmware's own, which
// another version may forget.
const tasksName = "update/tasks"

// maxTasks is how many are kept.
const maxTasks = 8

// States of a task, in Redfish's words.
const (
	running   = "Running"
	completed = "Completed"
	exception = "Exception"
)

// Stages of a task that runs: they tell after a reset what was cut off.
const (
	stageTake     = "take"
	stageActivate = "activate"
)

// percentRestart is how far a task is whose slot is active and has not proved itself yet.
const percentRestart = 90

// A task is an update as it is kept.
type task struct {
	Number  uint64
	Kind    string
	Stage   string
	State   string
	Percent int
	Start   int64     // seconds since 1970; 0 where the time was not known
	End     int64     `json:",omitempty"`
	Digest  string    `json:",omitempty"` // of the image that is to be in force
	Version string    `json:",omitempty"`
	Code    code.Code `json:",omitempty"` // of one that failed
	Why     string    `json:",omitempty"` // the next step, of one that failed without a code
	Note    string    `json:",omitempty"`
}

func (t *task) id() string { return fmt.Sprint(t.Number) }

// finish ends a task.
func (t *task) finish(now int64, note string, why error) {
	t.State, t.Percent, t.End, t.Note = completed, 100, now, note
	if why == nil {
		return
	}
	t.State, t.Code = exception, code.Of(why)
	var e *redfish.Error
	if errors.As(why, &e) {
		t.Why = e.Next
	}
}

// digestText is a digest as records have it.
func digestText(d [32]byte) string { return hex.EncodeToString(d[:]) }

// now is the time in seconds; 0 while it is not known.
func (s *Service) now() int64 {
	now, known := s.c.Now()
	if !known {
		return 0
	}
	return now.Unix()
}

// add makes a task. Its pointer is good as long as it runs: the list is replaced, never
// changed in place, and one task runs at a time.
func (s *Service) add(kind, stage string) *task {
	all := make([]task, 0, maxTasks)
	all = append(all, s.tasks[max(0, len(s.tasks)-maxTasks+1):]...)
	s.tasks = append(all, task{Number: s.next, Kind: kind, Stage: stage, State: running, Start: s.now()})
	s.next++
	s.save()
	return &s.tasks[len(s.tasks)-1]
}

// save keeps the tasks. Where that fails the update goes on: what it does to the board has
// records of its own.
func (s *Service) save() {
	b, err := json.Marshal(s.tasks)
	if err == nil {
		err = s.store.Put(tasksName, b)
	}
	if err != nil {
		log.Printf("update: the tasks are not kept: %v", err)
	}
}

// load reads them.
func (s *Service) load() error {
	b, err := s.store.Get(tasksName)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return code.StoreDamaged.Errorf("update: tasks: %w", err)
	}
	if err := json.Unmarshal(b, &s.tasks); err != nil || len(s.tasks) > maxTasks {
		s.tasks = nil // another version's
	}
	for _, t := range s.tasks {
		s.next = max(s.next, t.Number+1)
	}
	return nil
}

// expect notes what a package says that it is, so that a reset in the middle of it can be
// told from one behind its end. Nothing else relies on it.
func (s *Service) expect(t *task, b []byte) {
	if len(b) < image.HeaderSize {
		return
	}
	h, err := image.Parse((*[image.HeaderSize]byte)(b))
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Digest, t.Version = digestText(h.Digest), h.Version
	s.save()
}

// settle ends a task that a reset has cut off, by what the board is now.
func (s *Service) settle(t *task) {
	switch {
	case t.Digest != "" && t.Digest == s.inForce(t):
		t.finish(s.now(), fmt.Sprintf("Version %s is in force.", t.Version), nil)
	case t.Stage == stageActivate && t.Percent == percentRestart:
		why := s.slots.State().Slots[s.slots.Slot().Other()].Failure
		if why == code.None {
			why = code.NotHealthy
		}
		t.finish(s.now(), "", why.Errorf("update: version %s did not come into service", t.Version))
	default:
		t.finish(s.now(), "", conflict("The board was reset before this was done, and nothing of it is in force: the inventory shows what is. Send it again."))
	}
}

// inForce is the digest of what a task would have replaced.
func (s *Service) inForce(t *task) string {
	c := s.c.Chain
	switch kind(t.Kind) {
	case kindConfiguration:
		return digestText(c.Configuration().Header.Digest)
	case kindPolicy:
		if set := s.c.Policy(); set != nil {
			return digestText(set.Digest)
		}
		return ""
	}
	return s.running()
}

// progress tells a task how far it is. It is not kept: nobody asks for it after a reset.
func (s *Service) progress(t *task) func(done, total int64) {
	return func(done, total int64) {
		s.mu.Lock()
		defer s.mu.Unlock()
		t.Percent = int(done * 99 / total)
	}
}

// Tasks implements redfish.Tasks.
func (s *Service) Tasks() (all []redfish.TaskState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.tasks {
		r := redfish.TaskState{ID: t.id(), Name: "Update: " + t.Kind, State: t.State, Percent: t.Percent, Note: t.Note, Start: at(t.Start), End: at(t.End), Ended: t.State != running}
		if t.State == exception {
			if r.Failure = describe(t.Code); t.Why != "" {
				r.Failure = conflict(t.Why)
			}
		}
		all = append(all, r)
	}
	return all
}

func at(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}
