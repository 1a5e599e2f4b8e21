// Package chained has whole boards for the tests of the boot chain, without an emulator: a
// card in memory (package mediumtest), a real TPM in software (package swtpm), and the two
// halves of package chain in the order in which cmd/bootloader and cmd/controller call
// them. A board comes provisioned by net/provisioning over the loopback; it is cloned, so
// that each case of a campaign begins with the same one; and who tests can stand anywhere:
// on the TPM's bus, between bootloader and controller, at the card.
//
// What the firmware's commands do with package chain, [Board.Boot] does here: it retries
// what is transient, reports to the journal, and rests. It does not have what they have
// beside it: reset lines, the network, the watchdog.
package chained

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"crypto/x509"

	"github.com/google/go-tpm/tpm2/transport"

	"nitro/attest/eventlog"
	"nitro/boot/chain"
	"nitro/boot/config"
	"nitro/boot/handover"
	"nitro/boot/image"
	"nitro/boot/medium"
	"nitro/boot/medium/mediumtest"
	"nitro/boot/release"
	"nitro/internal/swtpm"
	"nitro/net/https"
	"nitro/net/provisioning"
	"nitro/qemu-test/factory"
)

// patience is how long provisioning may take on a machine that is busy.
const patience = 5 * time.Minute

// A Board is a board with card and TPM.
type Board struct {
	Maker    *Maker
	Card     *mediumtest.Card
	Chip     *swtpm.TPM
	Secret   [32]byte // derived from the SoC's
	UniqueID uint64
	Text     []byte // the bootloader in memory, from its load address on; nil is what the boot ROM loads from the card
	Makers   *x509.CertPool
	Record   *provisioning.Record // the factory's

	// Device and Bus are what card and TPM are seen through, where somebody stands in
	// between; nil is nobody.
	Device func(medium.Device) medium.Device
	Bus    func(transport.TPM) transport.TPM
	// Early is called when the power has just come, before the bootloader runs.
	Early func()
	// Between is called between bootloader and controller, with the hand-over's memory.
	Between func(memory []byte)
	// SecurityKey reads the removable security key; nil where there is no socket.
	SecurityKey func() ([]byte, error)

	tb testing.TB
}

// New makes a board as it comes from assembly: with a card that has two releases, and a TPM
// as its maker delivers it. change may change the configuration.
func New(tb testing.TB, m *Maker, secret [32]byte, change func(*config.Config), slots ...*release.Release) *Board {
	tb.Helper()
	b := &Board{Maker: m, Card: Blank(), Secret: secret, UniqueID: 0x0123456789abcdef, tb: tb}
	var two [2]*release.Release
	if copy(two[:], slots) == 0 {
		two = [2]*release.Release{m.First, m.Second}
	}
	if err := m.write(b.Card, two, change); err != nil {
		tb.Fatal(err)
	}
	folder := newFolder(tb)
	must(tb, factory.MakeTPM(folder))
	var err error
	if b.Makers, err = factory.Makers(folder); err != nil {
		tb.Fatal(err)
	}
	b.Chip = swtpm.Open(tb, folder)
	return b
}

// newFolder is one for a TPM's state. (That of a test may have a comma in its name, with
// which swtpm ends an option.)
func newFolder(tb testing.TB) string {
	tb.Helper()
	folder, err := os.MkdirTemp("", "nitro-chained-")
	must(tb, err)
	tb.Cleanup(func() { os.RemoveAll(folder) })
	return filepath.Join(folder, "tpm")
}

// Blank is a card that nobody has written.
func Blank() *mediumtest.Card { return mediumtest.New(medium.MinSize / mediumtest.SectorSize) }

func must(tb testing.TB, errs ...error) {
	tb.Helper()
	if err := errors.Join(errs...); err != nil {
		tb.Fatal(err)
	}
}

// Leave takes everybody away who stands in between.
func (b *Board) Leave() { b.Device, b.Bus, b.Early, b.Between = nil, nil, nil, nil }

// Clone is another board in the same state, as it is without power: this one loses it, too.
// It belongs to a test of its own, and nobody stands in between.
func (b *Board) Clone(tb testing.TB) *Board {
	tb.Helper()
	b.Chip.Cut()
	c := *b
	c.Leave()
	c.tb = tb
	c.Card = b.Card.Clone()
	folder := newFolder(tb)
	must(tb, os.CopyFS(folder, os.DirFS(b.Chip.State())))
	c.Chip = swtpm.Open(tb, folder)
	return &c
}

// Provision provisions a new board, and leaves it without power.
func (b *Board) Provision() {
	b.tb.Helper()
	boot := b.Boot()
	if boot.Err != nil || boot.C.Provisioned {
		b.tb.Fatalf("a new board: provisioned %v, %v", boot.C != nil && boot.C.Provisioned, boot.Err)
	}
	record, err := b.provision(boot)
	must(b.tb, err)
	b.Record = record
	b.Chip.Cut()
}

// provision has the factory provision the board in a boot, as cmd/controller does.
func (b *Board) provision(boot *Boot) (*provisioning.Record, error) {
	c := boot.C
	certificate, err := https.SelfSigned("board")
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(certificate.Certificate[0])
	if err != nil {
		return nil, err
	}
	if err := c.BindIdentity(provisioning.KeyDigest(leaf), [32]byte{1}); err != nil {
		return nil, err
	}
	s, err := provisioning.New(provisioning.Board{
		TPM: c.T, Device: c.Card, SoC: c.Handover.Secret[:], Strength: c.Handover.Strength,
		Development: c.Anchors.Development, Config: c.Config.Config, Log: c.Log, Certificate: certificate, Floor: c.LowestSecurityVersion(),
	})
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := s.Serve(ctx, l)
		ended <- err
	}()
	record, err := b.Maker.Provision(ctx, factory.Provisioning{Address: l.Addr().String(), Makers: b.Makers, Releases: b.Maker.releases()})
	if err != nil {
		cancel() // else the board ends by itself, behind its last answer
	}
	return record, errors.Join(err, <-ended)
}

// card and bus are the board's as the chain sees them.
func (b *Board) card() medium.Device {
	if b.Device != nil {
		return b.Device(b.Card)
	}
	return b.Card
}

func (b *Board) bus() transport.TPM {
	if b.Bus != nil {
		return b.Bus(b.Chip)
	}
	return b.Chip
}

// constants are what the bootloader has in memory, but for its first page, where the file's
// headers are, and the block that it does not fill.
func (b *Board) constants() (uint32, []byte) {
	const page, block = 4096, mediumtest.SectorSize
	text := b.Text
	if text == nil {
		text = make([]byte, len(b.Maker.First.Bootloader.Payload()))
		must(b.tb, medium.ReadPlace(b.Card, medium.Bootloader, text))
	}
	return image.Bootloader.Load() + page, text[page : len(text)/block*block]
}

// loader is the chain's first half.
func (b *Board) loader(boot *Boot) *chain.Loader {
	return &chain.Loader{
		Product: factory.Product, UniqueID: b.UniqueID, LifeCycle: eventlog.Closed, Secret: b.Secret, Strength: handover.OwnSecret,
		OpenCard:  func() (medium.Device, error) { return b.card(), nil },
		OpenTPM:   func() (transport.TPM, error) { return b.bus(), nil },
		Constants: b.constants,
		Place: func(h image.Header) ([]byte, error) {
			boot.Loaded = make([]byte, h.Length)
			return boot.Loaded, nil
		},
		Random: rand.Reader,
		Stir:   func([]byte) error { return nil },
		Report: boot.report,
	}
}

// A Boot is one boot of a board.
type Boot struct {
	Err    error             // why it is in quarantine; it has a code
	Rested bool              // in the bootloader: no controller was started
	Header image.Header      // of the controller that was started
	Loaded []byte            // what the bootloader has loaded last
	Memory []byte            // of the hand-over, as the controller found it
	C      *chain.Controller // nil if the bootloader rests
	Slots  *chain.Slots
	Said   []string

	machine chain.Machine
	secret  [32]byte
}

func (x *Boot) report(format string, args ...any) {
	x.Said = append(x.Said, fmt.Sprintf(format, args...))
}
