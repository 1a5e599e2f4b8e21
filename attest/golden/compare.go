package golden

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"nitro/attest/eventlog"
)

// A Mismatch is a measurement that is not in the known-good set, one that is missing, or
// one too many.
type Mismatch struct {
	PCR      int
	Name     string           // of the event: "controller"
	Expected []eventlog.Event // the alternatives; empty where nothing was expected
	Actual   *eventlog.Event  // nil where nothing was measured
}

// Error names the component, what was expected and what was measured.
func (m *Mismatch) Error() string {
	var expected []string
	for _, e := range m.Expected {
		expected = append(expected, describe(e))
	}
	actual, want := "was not measured", "nothing of the kind"
	if m.Actual != nil {
		actual = "measured " + describe(*m.Actual)
	}
	if len(expected) > 0 {
		want = strings.Join(expected, " or ")
	}
	return fmt.Sprintf("golden: PCR %d: %s: %s; known good: %s", m.PCR, m.Name, actual, want)
}

// describe gives an event's digest and values.
func describe(e eventlog.Event) string {
	_, values, _ := strings.Cut(strings.TrimPrefix(e.Text, "nitro "), " ")
	d := e.Digest()
	return strings.TrimSuffix(fmt.Sprintf("event %x (%s)", d[:8], values), " ()")
}

// A Step is one place in the comparison of one PCR: what was measured there, and what had
// to be. OK tells whether that is the same.
type Step struct {
	Mismatch
	OK bool
}

// Compare compares a log with both parts of the known-good set. The error joins every
// [Mismatch]; it is nil where there is none. That the log is the TPM's own, which its
// replay shows, is for the caller to check: without that a log proves nothing.
func Compare(log *eventlog.Log, r *Release, b *Board) error {
	return mismatches(append(Steps(log, r), BoardSteps(log, b)...))
}

// Compare compares PCR 0, 2 and 7 of a log with the release, as the function does, for who
// has no board part. In PCR 7 the cap may be there, last.
func (r *Release) Compare(log *eventlog.Log) error { return mismatches(Steps(log, r)) }

// Compare compares PCR 1 of a log with the board part.
func (b *Board) Compare(log *eventlog.Log) error { return mismatches(BoardSteps(log, b)) }

func mismatches(steps []Step) error {
	var problems []error
	for _, s := range steps {
		if !s.OK {
			problems = append(problems, &s.Mismatch)
		}
	}
	return errors.Join(problems...)
}

// Steps compares a log with the release part alone, and says what is right as well: for
// tools that show a comparison. PCR 1 is not looked at.
func Steps(log *eventlog.Log, r *Release) (steps []Step) {
	for _, pcr := range ReleasePCRs {
		steps = append(steps, compare(pcr, log, groups(r.events, pcr))...)
	}
	return steps
}

// BoardSteps compares PCR 1 with the board part.
func BoardSteps(log *eventlog.Log, b *Board) []Step {
	return compare(1, log, groups(b.Events, 1))
}

// groups gives the events of a PCR, alternatives together.
func groups(events []eventlog.Event, pcr int) (all [][]eventlog.Event) {
	for _, e := range events {
		if e.PCR != pcr {
			continue
		}
		if n := len(all) - 1; n >= 0 && all[n][0].Name() == e.Name() {
			all[n] = append(all[n], e)
		} else {
			all = append(all, []eventlog.Event{e})
		}
	}
	return all
}

// compare goes through one PCR's events.
func compare(pcr int, log *eventlog.Log, expected [][]eventlog.Event) (steps []Step) {
	var actual []eventlog.Event
	for _, e := range log.Events() {
		if e.PCR == pcr && e.Type != eventlog.NoAction {
			actual = append(actual, e)
		}
	}
	if n := len(actual) - 1; pcr == 7 && n >= 0 && actual[n] == eventlog.Cap() {
		actual = actual[:n]
	}
	for i := range max(len(expected), len(actual)) {
		m := Step{Mismatch: Mismatch{PCR: pcr}}
		if i < len(expected) {
			m.Name, m.Expected = expected[i][0].Name(), expected[i]
		}
		if i < len(actual) {
			m.Actual = &actual[i]
			m.OK = slices.Contains(m.Expected, actual[i])
			if m.Name == "" {
				m.Name = actual[i].Name()
			}
		}
		steps = append(steps, m)
	}
	return steps
}
