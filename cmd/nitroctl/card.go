package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"

	"nitro/boot/card"
	"nitro/boot/code"
	"nitro/boot/config"
	"nitro/boot/image"
	"nitro/boot/release"
	"nitro/net/policy"
)

var cardGroup = &group{"card", "SD cards", []*command{
	{
		name:    "build",
		summary: "write a card",
		about: `
Writes a whole card: MBR, anchor block, bootloader, slot journal, configuration, known-good
sets, approvals, and slot A, or both slots. The card has not met its board: sealed objects,
board part and store come with provisioning. Everything is verified as a board will before
the first byte is written, and the card is read back behind the last.
-out is a new file; with -device it is a card's device file, of which all but the volume
pool is lost. The emulator takes sizes that are powers of two alone.
The boot ROM's header is left zero: the card boots in the emulator, not on silicon.
`,
		example: "nitroctl card build -release release -config configuration.img -size 256MiB -out card.img",
		setup:   cardBuild,
	},
	{
		name:    "inspect",
		summary: "say what is on a card, and verify it",
		args:    "FILE",
		about: `
Reads a card's file or device and says for each place what is in it: ok (verified), empty,
bad, or unverified (of what its board alone can verify). -anchors is the anchor block that
the card must have; without it the card's own counts, and ok says of the rest that it fits
together, not whose it is. What lies behind a payload in its place is not looked at.
`,
		example: "nitroctl card inspect -anchors release/anchors.bin card.img",
		setup:   cardInspect,
	},
	{
		name:    "ticket",
		summary: "put the owner's ticket on a card",
		args:    "FILE",
		about: `
Writes a ticket (nitroctl ticket sign) where the board's next boot looks for it, for a board
in quarantine that cannot be reached by ticket send. Its signature must be of the owner whom
the card's configuration names. Nothing else on the card is changed.
`,
		example: "nitroctl card ticket -card card.img board.ticket",
		setup:   cardTicket,
	},
}}

// A cardInfo is a report.
type cardInfo struct {
	Size     int64      `json:"size"`
	Anchored bool       `json:"anchored"` // compared with a given anchor block
	Parts    []partInfo `json:"parts"`
	File     string     `json:"file"`
}

type partInfo struct {
	Name   string    `json:"name"`
	Offset int64     `json:"offset"`
	Size   int64     `json:"size"`
	State  string    `json:"state"` // ok, empty, bad, unverified
	Text   string    `json:"text"`
	Code   code.Code `json:"code,omitempty"`
}

func describeCard(r *card.Report, w card.Want, file string) cardInfo {
	c := cardInfo{Size: r.Size, Anchored: w.Anchors != nil, File: file}
	for _, p := range r.Parts {
		c.Parts = append(c.Parts, partInfo{p.Name, p.Place.Offset, p.Place.Size, string(p.State), p.Text, code.Of(p.Err)})
	}
	return c
}

func (c cardInfo) print(w io.Writer) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range c.Parts {
		fmt.Fprintf(t, "%#x\t%s\t%s\t%s\n", p.Offset, p.Name, p.State, p.Text)
	}
	t.Flush()
	fmt.Fprintf(w, "%s: %d bytes\n", c.File, c.Size)
	if !c.Anchored {
		fmt.Fprintln(w, "verified by the card's own anchor block: compare it with yours by -anchors")
	}
}

func cardBuild(f *flag.FlagSet) func(*call) (result, error) {
	a := f.String("release", "", "`folder` of the release for slot A")
	b := f.String("release-b", "", "`folder` of the release for slot B; without it B is empty")
	configuration := f.String("config", "", "`file` of the signed configuration")
	set := f.String("policy", "", "`file` of the signed policy set; without it the API shows evidence and status alone")
	anchors := f.String("anchors", "", anchorsUsage)
	size := f.String("size", "256MiB", "`size` of a new file, at least 256MiB")
	device := f.Bool("device", false, "-out is a card's device file: overwrite what is on it")
	out := f.String("out", "", "`file` to write to")
	return func(c *call) (result, error) {
		if err := need(map[string]string{"release": *a, "config": *configuration, "out": *out}); err != nil {
			return nil, err
		}
		bytes, err := parseSize(*size)
		if err != nil {
			return nil, err
		}
		content, err := cardContent(*a, *b, *configuration, *set, *anchors)
		if err != nil {
			return nil, err
		}
		if err := content.Check(); err != nil {
			return nil, err
		}
		if err := writeCard(*out, bytes, *device, content, c.bar); err != nil {
			return nil, err
		}
		w := card.Want{Anchors: content.Slots[0].Anchors}
		report, err := inspect(*out, w, c.bar)
		if err != nil {
			return nil, err
		}
		if err := report.Err(); err != nil {
			return describeCard(report, w, *out), fmt.Errorf("the card does not read back as it was written: use another one: %w", err)
		}
		return describeCard(report, w, *out), nil
	}
}

// cardContent reads what is to be written.
func cardContent(a, b, configuration, set, anchors string) (c card.Content, err error) {
	if c.Slots[0], err = readRelease(a, anchors); err != nil {
		return c, err
	}
	if b != "" {
		if c.Slots[1], err = release.Read(b); err != nil {
			return c, err
		}
	}
	if set != "" {
		if c.Policy, err = readFile(set, image.HeaderSize+policy.MaxPayload); err != nil {
			return c, err
		}
	}
	c.Configuration, err = readFile(configuration, image.HeaderSize+config.MaxSize)
	return c, err
}

// writeCard writes a card. A new file that could not be written whole does not stay.
func writeCard(out string, size int64, device bool, c card.Content, bar card.Progress) (err error) {
	var f *card.File
	if device {
		f, err = card.Open(out, true)
	} else {
		f, err = card.Create(out, size)
	}
	if err != nil {
		return err
	}
	err = errors.Join(card.Write(f, c, bar), f.Close())
	if err != nil && !device {
		err = errors.Join(err, os.Remove(out))
	}
	return err
}

// cardWant says what a card must be.
func cardWant(anchors, product, boardKey string) (w card.Want, err error) {
	w.Product = product
	if w.Anchors, err = readAnchors(anchors); err != nil {
		return w, err
	}
	if boardKey != "" {
		w.BoardKey, err = readBoardKey(boardKey)
	}
	return w, err
}

// inspect reads a card.
func inspect(path string, w card.Want, bar card.Progress) (*card.Report, error) {
	f, err := card.Open(path, false)
	if err != nil {
		return nil, err
	}
	r := card.Inspect(f, w, bar)
	return r, f.Close()
}

func cardInspect(f *flag.FlagSet) func(*call) (result, error) {
	anchors := f.String("anchors", "", anchorsUsage)
	product := f.String("product", "", "`product` that it must be for; without it what the bootloader says")
	floor := f.Uint("floor", 0, "lowest security `version` that the board runs")
	epoch := f.Uint64("epoch", 0, "highest `epoch` that the board has had")
	boardKey := f.String("board-key", "", "`file` of the board key's public half, PEM: verifies the board part")
	return func(c *call) (result, error) {
		path, err := c.one("card")
		if err != nil {
			return nil, err
		}
		w, err := cardWant(*anchors, *product, *boardKey)
		if err != nil {
			return nil, err
		}
		if w.Floor, err = securityVersion(*floor); err != nil {
			return nil, err
		}
		w.Epoch = *epoch
		report, err := inspect(path, w, c.bar)
		if err != nil {
			return nil, err
		}
		return describeCard(report, w, path), report.Err()
	}
}
