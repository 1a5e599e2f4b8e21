package main

import (
	"crypto/ecdsa"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"

	mldsax509 "filippo.io/mldsa/x509"

	"nitro/attest/golden"
	"nitro/attest/seal"
	"nitro/attest/tpm"
	"nitro/boot/card"
	"nitro/boot/code"
	"nitro/boot/journal"
	"nitro/boot/release"
	"nitro/net/standing"
)

var sealGroup = &group{"seal", "approvals of releases, by which boards unseal", []*command{
	{
		name:    "approve",
		summary: "approve a release with a sealing key",
		about: `
Makes the approvals of the sealing keys that are at hand, one for each way in which boards
may run the release, and writes them into the release's folder. Before it signs it verifies
the release by the given anchor block, and shows what PCR 0, 2 and 7 will be: compare them
with what your own build of the sources has.
`,
		example: "nitroctl seal approve -keys /media/custodian-1 -anchors anchors.bin -release release",
		setup:   sealApprove,
	},
	{
		name:    "check",
		summary: "tell whether a board will unseal under a release",
		about: `
Compares the sealed objects and approvals of a card with a release: are there, for each
kind, an object and the approval of what the release will measure under the card's anchor
block and bootloader, by the authorities of the card's configuration? Without -release the
release in slot A is meant. The objects depend on the board's PCR 1: it is -pcr1, or what
the card's board part says, verified by -board-key. -unprovisioned asks for approvals alone.
All this is offline; that the TPM unseals, a board alone can prove: with -board, one that is
in service makes a dry run. Its TPM opens the canary, loads both secrets' objects and
verifies their approvals. What it answers is as good as the connection: see -pin.
`,
		example: "nitroctl seal check -card card.img -release release-1.1 -board-key board.pub.pem\nnitroctl seal check -board 192.0.2.10",
		setup:   sealCheck,
	},
}}

func sealApprove(f *flag.FlagSet) func(*call) (result, error) {
	keys := keysFlag(f)
	dir := f.String("release", "", "`folder` of the release")
	anchors := f.String("anchors", "", anchorsUsage)
	return func(*call) (result, error) {
		if err := need(map[string]string{"release": *dir, "anchors": *anchors}); err != nil {
			return nil, err
		}
		k, err := keys.load()
		if err != nil {
			return nil, err
		}
		r, err := readRelease(*dir, *anchors)
		if err != nil {
			return nil, err
		}
		made := 0
		for _, kind := range release.Kinds() {
			err := r.Approve(k, kind)
			if err != nil && !errors.Is(err, release.ErrKeyMissing) {
				return nil, err
			}
			if err == nil {
				made++
			}
		}
		if made == 0 {
			return nil, fmt.Errorf("no private sealing key is in these folders: %w", release.ErrKeyMissing)
		}
		if err := r.WriteApprovals(*dir); err != nil {
			return nil, err
		}
		return describeRelease(r, *dir)
	}
}

// A coverage is what a card has for a release.
type coverage struct {
	Version   string         `json:"version"`
	PCR0      string         `json:"pcr0"`
	PCR1      string         `json:"pcr1,omitempty"`
	PCR2      string         `json:"pcr2"`
	PCR7      string         `json:"pcr7"`
	Revision  uint64         `json:"revision"` // of the set
	Kinds     []kindCoverage `json:"kinds"`
	Unchecked []string       `json:"not_checked"`
}

type kindCoverage struct {
	Kind     string `json:"kind"`
	Approved bool   `json:"approved"`
	Objects  int    `json:"objects"`
}

func (c coverage) print(w io.Writer) {
	table(w, [2]string{"release", c.Version}, [2]string{"pcr 0", c.PCR0}, [2]string{"pcr 1", c.PCR1}, [2]string{"pcr 2", c.PCR2}, [2]string{"pcr 7", c.PCR7},
		[2]string{"set's revision", fmt.Sprint(c.Revision)})
	for _, k := range c.Kinds {
		table(w, [2]string{k.Kind, fmt.Sprintf("approved: %s, objects: %d", yes(k.Approved), k.Objects)})
	}
	for _, u := range c.Unchecked {
		fmt.Fprintf(w, "not checked: %s\n", u)
	}
}

func sealCheck(f *flag.FlagSet) func(*call) (result, error) {
	board := remoteFlags(f)
	path := f.String("card", "", "`file` or device of the card")
	dir := f.String("release", "", "`folder` of the release; without it what is in slot A")
	anchors := f.String("anchors", "", anchorsUsage)
	pcr1 := f.String("pcr1", "", "PCR 1 of the board, in `hexadecimal`")
	boardKey := f.String("board-key", "", "`file` of the board key's public half, PEM")
	unprovisioned := f.Bool("unprovisioned", false, "check approvals alone: the card has not met its board yet")
	return func(c *call) (result, error) {
		if namesBoard(f) {
			if *path != "" || *dir != "" || *anchors != "" || *pcr1 != "" || *boardKey != "" || *unprovisioned {
				return nil, usage("-board asks about what the board runs: it goes with -pin and -timeout alone")
			}
			return sealOf(board)
		}
		if err := need(map[string]string{"card": *path}); err != nil {
			return nil, err
		}
		w, err := cardWant(*anchors, "", *boardKey)
		if err != nil {
			return nil, err
		}
		report, err := inspect(*path, w, c.bar)
		if err != nil {
			return nil, err
		}
		if report.Set == nil || report.Configuration == nil {
			return nil, fmt.Errorf("the card has no good set of sealed objects or no good configuration: nitroctl card inspect %s: %w", *path, report.Err())
		}
		values, version, err := candidate(report, *dir)
		if err != nil {
			return nil, err
		}
		measured, err := pcr1Of(report, *pcr1, *unprovisioned)
		if err != nil {
			return nil, err
		}
		return cover(report, version, values, measured)
	}
}

// A sealInfo is a board's dry run.
type sealInfo struct {
	standing.Seal
	Connection connection `json:"connection"`
}

func (s sealInfo) print(w io.Writer) {
	table(w, [2]string{"the next boot unseals", yes(s.Unseals)})
	if s.Problem != nil {
		printReason(w, *s.Problem)
	}
	s.Connection.print(w)
}

// sealOf has a board make the dry run.
func sealOf(board func() (*remote, error)) (result, error) {
	r, err := board()
	if err != nil {
		return nil, err
	}
	a, err := r.ask(http.MethodGet, "/v1/seal", "", nil)
	if err == nil {
		err = a.refusal(http.StatusOK)
	}
	if err != nil {
		return nil, err
	}
	s := sealInfo{Connection: a.connection}
	if err := a.decode(&s.Seal); err != nil {
		return nil, err
	}
	switch {
	case s.Unseals:
		return s, nil
	case s.Problem == nil:
		return s, errors.New("the board does not say that its next boot will unseal, nor why not: do not restart it, and ask for its status")
	}
	return s, reasonError("the board's next boot will not unseal: do not restart it before this is mended", *s.Problem)
}

// candidate computes what the release measures on the card's board.
func candidate(report *card.Report, dir string) (values seal.Release, version string, err error) {
	if dir == "" {
		values, err = report.Values(journal.A)
		if err != nil {
			return values, "", fmt.Errorf("slot A: %w", err)
		}
		return values, report.Slots[journal.A].Version, nil
	}
	r, err := release.Read(dir)
	if err != nil {
		return values, "", err
	}
	b := report.Bootloader
	if report.Anchors == nil || b == nil {
		return values, "", fmt.Errorf("the card's anchor block or bootloader is not good: %w", report.Err())
	}
	v, err := r.Golden.Predict(golden.Anchors{Digest: report.AnchorsDigest, Development: report.Anchors.Development},
		golden.Component{Digest: b.Digest, Version: b.Version, SecurityVersion: b.SecurityVersion},
		golden.Authority{Ed25519: r.Controller.Ed25519Key, MLDSA65: r.Controller.MLDSA65Key})
	if err != nil {
		err = fmt.Errorf("%w: build it with the card's release given by -also", err)
	}
	return seal.Release{PCR0: v[0], PCR2: v[1], PCR7: v[2], SecurityVersion: r.Controller.SecurityVersion}, r.Controller.Version, err
}

// pcr1Of gives the board's PCR 1; nil where it does not matter.
func pcr1Of(report *card.Report, given string, unprovisioned bool) (*tpm.Digest, error) {
	switch {
	case unprovisioned:
		return nil, nil
	case given != "":
		b, err := hex.DecodeString(given)
		if err != nil || len(b) != len(tpm.Digest{}) {
			return nil, usage("-pcr1: %q is no SHA-256 in hexadecimal", given)
		}
		d := tpm.Digest(b)
		return &d, nil
	case report.Board != nil:
		d := tpm.Digest(report.Board.PCR1)
		return &d, nil
	}
	return nil, usage("the board's PCR 1 is not known: give -pcr1 or -board-key, or -unprovisioned for a card that has not met its board")
}

// cover tells what the card has, and whether that is enough.
func cover(report *card.Report, version string, values seal.Release, pcr1 *tpm.Digest) (result, error) {
	keys := report.Configuration.Sealing()
	c := coverage{Version: version, PCR0: hexOf(values.PCR0), PCR2: hexOf(values.PCR2), PCR7: hexOf(values.PCR7), Revision: report.Set.Revision,
		Unchecked: []string{"that the board's TPM unseals"}}
	var problems []error
	for _, kind := range release.Kinds() {
		err := release.Approved(report.Set.Approvals, keys, kind, values)
		if err != nil {
			problems = append(problems, code.ApprovalMissing.Errorf("%w", err))
		}
		n := 0
		for _, o := range report.Set.Objects {
			if o.Kind == kind {
				n++
			}
		}
		c.Kinds = append(c.Kinds, kindCoverage{kind.String(), err == nil, n})
	}
	if pcr1 == nil {
		c.Unchecked = append(c.Unchecked, "sealed objects: a card that is not provisioned has none")
		return c, errors.Join(problems...)
	}
	c.PCR1 = hexOf(*pcr1)
	if len(report.Set.Objects) == 0 {
		return c, errors.Join(append(problems, code.SealedObjectMissing.Errorf("the card has no sealed objects: its board is not provisioned; -unprovisioned checks approvals alone"))...)
	}
	if err := report.Set.Covers(keys, values, *pcr1); err != nil {
		problems = append(problems, code.UnsealNotPredicted.Errorf("%w", err))
	}
	return c, errors.Join(problems...)
}

// readBoardKey reads the public half of a board key.
func readBoardKey(path string) (*ecdsa.PublicKey, error) {
	b, err := readFile(path, 16<<10)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(b)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("%s holds no PEM block PUBLIC KEY: give the board key's public half", path)
	}
	p, err := mldsax509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	k, ok := p.(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T: a board key is ECDSA P-256", path, p)
	}
	return k, nil
}
