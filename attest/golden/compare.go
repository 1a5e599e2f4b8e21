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

// Compare compares a log with both parts of the known-good set. The error joins every
// [Mismatch]; it is nil where there is none. That the log is the TPM's own, which its
// replay shows, is for the caller to check: without that a log proves nothing.
func Compare(log *eventlog.Log, r *Release, b *Board) error {
	return errors.Join(append(r.mismatches(log), b.mismatches(log)...)...)
}

// Compare compares PCR 0, 2 and 7 of a log with the release, as the function does, for who
// has no board part. In PCR 7 the cap may be there, last.
func (r *Release) Compare(log *eventlog.Log) error { return errors.Join(r.mismatches(log)...) }

// Compare compares PCR 1 of a log with the board part.
func (b *Board) Compare(log *eventlog.Log) error { return errors.Join(b.mismatches(log)...) }

func (r *Release) mismatches(log *eventlog.Log) (problems []error) {
	for _, pcr := range ReleasePCRs {
		problems = append(problems, compare(pcr, log, groups(r.events, pcr))...)
	}
	return problems
}

func (b *Board) mismatches(log *eventlog.Log) []error {
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
func compare(pcr int, log *eventlog.Log, expected [][]eventlog.Event) (problems []error) {
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
		m := &Mismatch{PCR: pcr}
		if i < len(expected) {
			m.Name, m.Expected = expected[i][0].Name(), expected[i]
		}
		if i < len(actual) {
			m.Actual = &actual[i]
			if slices.Contains(m.Expected, actual[i]) {
				continue
			}
			if m.Name == "" {
				m.Name = actual[i].Name()
			}
		}
		problems = append(problems, m)
	}
	return problems
}
