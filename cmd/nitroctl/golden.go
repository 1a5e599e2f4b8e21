package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/release"
)

var goldenGroup = &group{"golden", "known-good sets", []*command{
	{
		name:    "show",
		summary: "show what a known-good set expects",
		args:    "FILE",
		about: `
Shows the events that a boot of the release measures, in order, and the values of PCR 0, 2
and 7 that come of them. FILE is known-good.img or the folder of a release. With -anchors
its signatures are verified; without, only its structure.
`,
		example: "nitroctl golden show -anchors release/anchors.bin release",
		setup:   goldenShow,
	},
	{
		name:    "check",
		summary: "compare an event log with a known-good set",
		args:    "FILE",
		about: `
Compares what a board has measured with what it should have, event by event. FILE is the
event log, or evidence in JSON, of which the event_log is taken. PCR 1 is compared if the
board part and the board key are given. Whether the log is the TPM's own, this command
does not tell: that takes the quote.
`,
		example: "nitroctl golden check -known-good release/known-good.img -anchors release/anchors.bin evidence.json",
		setup:   goldenCheck,
	},
}}

// A goldenInfo is a known-good set.
type goldenInfo struct {
	Version         string                       `json:"version"`
	SecurityVersion uint32                       `json:"security_version"`
	Verified        bool                         `json:"verified"`
	Events          []eventInfo                  `json:"events"`
	Predictions     []release.ManifestPrediction `json:"predictions"`
}

type eventInfo struct {
	PCR    int    `json:"pcr"`
	Name   string `json:"name"`
	Digest string `json:"digest"`
	Text   string `json:"text"`
}

func describeEvent(e eventlog.Event) eventInfo {
	return eventInfo{e.PCR, e.Name(), hexOf(e.Digest()), e.Text}
}

func (g goldenInfo) print(w io.Writer) {
	table(w, [2]string{"release", g.Version}, [2]string{"security version", fmt.Sprint(g.SecurityVersion)}, [2]string{"verified", yes(g.Verified)})
	for _, e := range g.Events {
		fmt.Fprintf(w, "pcr %d  %s\n       %s\n", e.PCR, e.Digest, e.Text)
	}
	for n, p := range g.Predictions {
		table(w, [2]string{fmt.Sprintf("way %d", n+1), "bootloader " + p.Bootloader}, [2]string{"  pcr 0", p.PCR0}, [2]string{"  pcr 2", p.PCR2}, [2]string{"  pcr 7", p.PCR7})
	}
}

// readGolden reads a known-good set and verifies it, if there are anchors to do so.
func readGolden(path, anchors string) (g *golden.Release, verified bool, err error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		path = filepath.Join(path, release.KnownGoodFile)
	}
	i, err := release.ReadImage(path, image.KnownGood.MaxLength())
	if err != nil {
		return nil, false, err
	}
	if i.Component != image.KnownGood {
		return nil, false, code.WrongComponent.Errorf("%s is a %v, not a known-good set", path, i.Component)
	}
	if anchors != "" {
		a, err := readAnchors(anchors)
		if err != nil {
			return nil, false, err
		}
		_, err = verifyImage(i, image.Want{Where: path, Component: image.KnownGood, Product: i.Product, Development: a.Development, Authorities: a.Authorities})
		if err != nil {
			return nil, false, err
		}
	}
	g, err = golden.DecodeRelease(i.Payload())
	if err != nil {
		return nil, false, code.KnownGoodBad.Errorf("%s: %w", path, err)
	}
	return g, anchors != "", nil
}

func goldenShow(f *flag.FlagSet) func(*call) (result, error) {
	anchors := f.String("anchors", "", anchorsUsage)
	return func(c *call) (result, error) {
		path, err := c.one("known-good set")
		if err != nil {
			return nil, err
		}
		g, verified, err := readGolden(path, *anchors)
		if err != nil {
			return nil, err
		}
		info := goldenInfo{Version: g.Controller.Version, SecurityVersion: g.Controller.SecurityVersion, Verified: verified}
		for _, e := range g.Events() {
			info.Events = append(info.Events, describeEvent(e))
		}
		info.Predictions, err = release.DescribePredictions(g)
		return info, err
	}
}

// A checkInfo is a comparison.
type checkInfo struct {
	Verified   bool       `json:"verified"` // the known-good set
	Steps      []stepInfo `json:"steps"`
	NotChecked []string   `json:"not_checked"`
}

// A stepInfo is one measurement.
type stepInfo struct {
	PCR      int         `json:"pcr"`
	Name     string      `json:"name"`
	OK       bool        `json:"ok"`
	Expected []eventInfo `json:"expected"` // alternatives; none where nothing was expected
	Actual   *eventInfo  `json:"actual"`   // null where nothing was measured
}

func (c checkInfo) print(w io.Writer) {
	for _, s := range c.Steps {
		word := "ok "
		if !s.OK {
			word = "BAD"
		}
		fmt.Fprintf(w, "%s  pcr %d  %s\n", word, s.PCR, s.Name)
		if len(s.Expected) == 0 {
			fmt.Fprintln(w, "       expected  nothing")
		}
		for _, e := range s.Expected {
			fmt.Fprintf(w, "       expected  %s  %s\n", e.Digest, e.Text)
		}
		if s.Actual == nil {
			fmt.Fprintln(w, "       actual    nothing")
		} else {
			fmt.Fprintf(w, "       actual    %s  %s\n", s.Actual.Digest, s.Actual.Text)
		}
	}
	for _, n := range c.NotChecked {
		fmt.Fprintf(w, "not checked: %s\n", n)
	}
}

func goldenCheck(f *flag.FlagSet) func(*call) (result, error) {
	set := f.String("known-good", "", "`file` of the known-good set, or folder of the release")
	anchors := f.String("anchors", "", anchorsUsage)
	board := f.String("board-part", "", "`file` of the known-good set's board part")
	boardKey := f.String("board-key", "", "`file` of the board key's public half, PEM")
	return func(c *call) (result, error) {
		path, err := c.one("event log")
		if err != nil {
			return nil, err
		}
		if err := need(map[string]string{"known-good": *set}); err != nil {
			return nil, err
		}
		if (*board == "") != (*boardKey == "") {
			return nil, usage("-board-part and -board-key belong together")
		}
		g, verified, err := readGolden(*set, *anchors)
		if err != nil {
			return nil, err
		}
		log, err := readLog(path)
		if err != nil {
			return nil, err
		}
		steps := golden.Steps(log, g)
		if *board != "" {
			b, err := readBoard(*board, *boardKey)
			if err != nil {
				return nil, err
			}
			steps = append(steps, golden.BoardSteps(log, b)...)
		}
		return compared(steps, verified, *board != "")
	}
}

// readBoard reads and verifies a board part.
func readBoard(path, key string) (*golden.Board, error) {
	k, err := readBoardKey(key)
	if err != nil {
		return nil, err
	}
	b, err := readFile(path, 64<<10)
	if err != nil {
		return nil, err
	}
	board, _, err := golden.OpenBoard(b, k)
	if err != nil {
		return nil, code.KnownGoodBad.Errorf("%s: %w", path, err)
	}
	return board, nil
}

// compared makes the result of a comparison.
func compared(steps []golden.Step, verified, board bool) (result, error) {
	c := checkInfo{Verified: verified, NotChecked: []string{"that the log is the TPM's own", "PCR 3 to 6 and 8"}}
	if !verified {
		c.NotChecked = append(c.NotChecked, "the known-good set's signatures: give -anchors")
	}
	if !board {
		c.NotChecked = append(c.NotChecked, "PCR 1: give -board-part and -board-key")
	}
	var problems []error
	for _, s := range steps {
		i := stepInfo{PCR: s.PCR, Name: s.Name, OK: s.OK, Expected: []eventInfo{}}
		for _, e := range s.Expected {
			i.Expected = append(i.Expected, describeEvent(e))
		}
		if s.Actual != nil {
			a := describeEvent(*s.Actual)
			i.Actual = &a
		}
		c.Steps = append(c.Steps, i)
		if !s.OK {
			problems = append(problems, &s.Mismatch)
		}
	}
	if len(problems) > 0 {
		return c, code.PCRMismatch.Errorf("%w", errors.Join(problems...))
	}
	return c, nil
}

// maxEvidence is the longest evidence in bytes (docs/attestation.md, "Evidence").
const maxEvidence = 256 << 10

// readLog reads an event log, or the one in evidence. Of evidence nothing else is read, and
// nothing believed.
func readLog(path string) (*eventlog.Log, error) {
	b, err := readFile(path, maxEvidence)
	if err != nil {
		return nil, err
	}
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("{")) {
		var e struct {
			Log []byte `json:"event_log"`
		}
		if err := json.Unmarshal(b, &e); err != nil {
			return nil, fmt.Errorf("%s: as evidence: %w", path, err)
		}
		if b = e.Log; len(b) == 0 {
			return nil, fmt.Errorf("%s: the evidence has no event_log: ask the board again", path)
		}
	}
	log, err := eventlog.Parse(b)
	if err != nil {
		return nil, code.LogDoesNotReplay.Errorf("%s: %w", path, err)
	}
	return log, nil
}
