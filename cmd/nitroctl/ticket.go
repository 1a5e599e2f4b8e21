package main

import (
	"crypto/ecdsa"
	"flag"
	"fmt"
	"io"
	"math"
	"net/http"

	"nitro/boot/card"
	"nitro/boot/code"
	"nitro/boot/release"
	"nitro/boot/ticket"
)

var ticketGroup = &group{"ticket", "the owner's word that a board may leave quarantine", []*command{
	{
		name:    "sign",
		summary: "sign a ticket with the owner's key",
		about: `
Signs a ticket for one board and one incident. Look into what has happened first: a ticket
says that somebody did. Code, incident and the board's digest are given by flags, or taken
from the board's status by -board. A board is its attestation key: with -record, the
factory's record of the board, the digest is that of the record, and a status that names
another one is refused. -accept-loss also lets the board open a store that is older than the
TPM's counter says: what was recorded since is lost, and what was revoked since is back.
`,
		example: "nitroctl ticket sign -keys keys -record board.json -code 602 -incident 1 -out board.ticket\nnitroctl ticket sign -keys keys -record board.json -board 192.0.2.10 -out board.ticket",
		setup:   ticketSign,
	},
	{
		name:    "send",
		summary: "give a board in quarantine its ticket",
		args:    "FILE",
		about: `
Sends a ticket to a board in quarantine. The board verifies it, keeps it on its card and
restarts. Tickets are no secret: the connection need not be verified. A board that cannot be
reached takes its ticket by its card: nitroctl card ticket.
`,
		example: "nitroctl ticket send -board 192.0.2.10 board.ticket",
		setup:   ticketSend,
	},
}}

// A ticketInfo is a ticket.
type ticketInfo struct {
	Code       uint32      `json:"code"`
	Name       string      `json:"name"`
	Incident   uint32      `json:"incident"`
	Board      string      `json:"ticket_board"` // SHA-256 of the attestation key's TPM name
	AcceptLoss bool        `json:"accept_loss"`
	File       string      `json:"file,omitempty"`
	Card       string      `json:"card,omitempty"`
	Connection *connection `json:"connection,omitempty"` // that the status came over
}

func describeTicket(t *ticket.Ticket) ticketInfo {
	i := ticketInfo{Code: t.Code, Incident: t.Incident, Board: hexOf(t.Board), AcceptLoss: t.AcceptLoss}
	if e, ok := code.Lookup(code.Code(t.Code)); ok {
		i.Name = e.Name
	}
	return i
}

func (t ticketInfo) print(w io.Writer) {
	table(w, [2]string{"code", fmt.Sprintf("%d %s", t.Code, t.Name)}, [2]string{"incident", fmt.Sprint(t.Incident)}, [2]string{"ticket for", t.Board},
		[2]string{"accepts loss", yes(t.AcceptLoss)}, [2]string{"written to", t.File}, [2]string{"on card", t.Card})
	if t.Connection != nil {
		t.Connection.print(w)
	}
}

func ticketSign(f *flag.FlagSet) func(*call) (result, error) {
	keys := keysFlag(f)
	board := remoteFlags(f)
	number := f.Uint("code", 0, "`code` that latched the board")
	incident := f.Uint("incident", 0, "its `number`")
	digest := f.String("ticket-board", "", "`SHA-256` of the TPM name of the board's attestation key: ticket_board of its status")
	record := f.String("record", "", "`file` of the factory's record of the board")
	acceptLoss := f.Bool("accept-loss", false, "the store may be older than it should be: what it had since is lost")
	out := f.String("out", "", "`file` to write to")
	return func(*call) (result, error) {
		if err := need(map[string]string{"out": *out}); err != nil {
			return nil, err
		}
		if *number > math.MaxUint16 || *incident > math.MaxUint32 {
			return nil, usage("code %d, incident %d: no board has such numbers", *number, *incident)
		}
		t := &ticket.Ticket{Code: uint32(*number), Incident: uint32(*incident), AcceptLoss: *acceptLoss}
		asked, given := namesBoard(f), *number != 0 || *incident != 0 || *digest != ""
		if asked == given {
			return nil, usage("give -board, or -code and -incident with -record or -ticket-board")
		}
		k, err := keys.load()
		if err != nil {
			return nil, err
		}
		var by *connection
		if asked {
			r, err := board()
			if err != nil {
				return nil, err
			}
			if by, *digest, err = incidentOf(r, t); err != nil {
				return nil, err
			}
		}
		if err := nameBoard(t, *digest, *record); err != nil {
			return nil, err
		}
		i, err := signTicket(k, t, *out)
		i.Connection = by
		return i, err
	}
}

// incidentOf takes a board's code and incident from its status.
func incidentOf(r *remote, t *ticket.Ticket) (by *connection, digest string, err error) {
	s, err := askStatus(r)
	if err != nil {
		return nil, "", err
	}
	if s.Quarantine == nil || s.Quarantine.Incident == 0 {
		return nil, "", fmt.Errorf("the board at %s has no incident that a ticket is for: nitroctl status says how it stands", r.address)
	}
	t.Code, t.Incident = uint32(s.Quarantine.Code), s.Quarantine.Incident
	return &s.Connection, s.Quarantine.Board, nil
}

// nameBoard says which board a ticket is for. It answers who has the owner sign for
// another board than the one that was looked into.
func nameBoard(t *ticket.Ticket, digest, record string) error {
	told, err := digestFlag("ticket-board", digest)
	if err != nil {
		return err
	}
	if record == "" && told == nil {
		return usage("nothing says which board it is for: give -record or -ticket-board")
	}
	if told != nil {
		t.Board = *told
	}
	if record == "" {
		return nil
	}
	r, err := readRecord(record)
	if err != nil {
		return err
	}
	t.Board = ticket.BoardOf(r.AKName)
	if told != nil && *told != t.Board {
		return fmt.Errorf("the ticket is to be for board %x, and %s is of board %x: it is another board, or somebody answers in its place", *told, record, t.Board)
	}
	return nil
}

// signTicket signs a ticket and writes it.
func signTicket(k *release.Keys, t *ticket.Ticket, out string) (ticketInfo, error) {
	i := describeTicket(t)
	if t.Code == 0 || t.Incident == 0 {
		return i, usage("code %d, incident %d: a ticket is for a code and an incident, as the board's status has them", t.Code, t.Incident)
	}
	if c := code.Code(t.Code).Class(); c != code.Latched {
		return i, fmt.Errorf("code %v is %v: no ticket is needed or helps; do the code's next step", code.Code(t.Code), c)
	}
	owner, err := k.Signer(release.Owner)
	if err != nil {
		return i, err
	}
	b, err := t.Sign(owner)
	if err != nil {
		return i, err
	}
	i.File = out
	return i, writeNew(out, b)
}

func ticketSend(f *flag.FlagSet) func(*call) (result, error) {
	board := remoteFlags(f)
	return func(c *call) (result, error) {
		path, err := c.one("ticket")
		if err != nil {
			return nil, err
		}
		b, err := readFile(path, ticket.Size)
		if err != nil {
			return nil, err
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		a, err := r.ask(http.MethodPost, "/v1/ticket", "application/octet-stream", b)
		if err != nil {
			return nil, err
		}
		if err := a.refusal(http.StatusAccepted); err != nil {
			return nil, err
		}
		return sentInfo{path, a.connection}, nil
	}
}

// A sentInfo is a ticket that a board has taken.
type sentInfo struct {
	File       string     `json:"file"`
	Connection connection `json:"connection"`
}

func (s sentInfo) print(w io.Writer) {
	fmt.Fprintf(w, "the board has taken %s and restarts: nitroctl status says how it stands then\n", s.File)
	s.Connection.print(w)
}

// cardTicket writes a ticket on a card.
func cardTicket(f *flag.FlagSet) func(*call) (result, error) {
	path := f.String("card", "", "`file` or device of the card")
	anchors := f.String("anchors", "", anchorsUsage)
	return func(c *call) (result, error) {
		file, err := c.one("ticket")
		if err != nil {
			return nil, err
		}
		if err := need(map[string]string{"card": *path}); err != nil {
			return nil, err
		}
		b, err := readFile(file, ticket.Size)
		if err != nil {
			return nil, err
		}
		owner, err := ownerOf(*path, *anchors, c.bar)
		if err != nil {
			return nil, err
		}
		t, err := ticket.Open(b, owner)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		i := describeTicket(t)
		i.Card = *path
		return i, writeTicket(*path, b)
	}
}

// ownerOf gives the owner of a card's board.
func ownerOf(path, anchors string, bar card.Progress) (*ecdsa.PublicKey, error) {
	a, err := readAnchors(anchors)
	if err != nil {
		return nil, err
	}
	r, err := inspect(path, card.Want{Anchors: a}, bar)
	if err != nil {
		return nil, err
	}
	if r.Configuration == nil {
		return nil, fmt.Errorf("the card has no good configuration, which names the owner: nitroctl card inspect %s: %w", path, r.Err())
	}
	return r.Configuration.Owner, nil
}

func writeTicket(path string, b []byte) (err error) {
	f, err := card.Open(path, true)
	if err != nil {
		return err
	}
	err = ticket.Write(f, b)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
