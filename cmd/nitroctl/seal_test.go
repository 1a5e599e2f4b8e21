package main

import (
	"bytes"
	"crypto/sha256"
	"os"
	"testing"

	"nitro/attest/eventlog"
	"nitro/attest/golden"
	"nitro/attest/seal"
	"nitro/boot/card"
	"nitro/boot/code"
	"nitro/boot/image"
	"nitro/boot/medium"
	"nitro/boot/release"
	"nitro/boot/release/releasetest"
	"nitro/internal/provisioned"
)

// board is what PCR 1 of the test's board measures.
func board(uniqueID uint64) eventlog.Event {
	return eventlog.Board(releasetest.Product, uniqueID, eventlog.Open, eventlog.NoSecret)
}

// boot has a board measure what a bootloader does with a release.
func boot(t *testing.T, b *provisioned.Board, r *release.Release) *provisioned.Boot {
	t.Helper()
	boot := b.Boot(t, nil)
	for _, e := range append([]eventlog.Event{board(7)}, r.Golden.Events()...) {
		must(t, boot.T.Extend(boot.S, uint(e.PCR), e.Digest()))
	}
	return boot
}

// TestUnseal: what release build predicts and approves opens the secrets in a real TPM,
// and seal check tells that beforehand, of this release and of the next.
func TestUnseal(t *testing.T) {
	b := newBench(t)
	b.card()
	must(t, os.WriteFile(b.path("controller.elf"), releasetest.Program(image.Controller, "next controller"), 0o644))
	b.release("1.1", "next", "-also "+b.path("release"))
	b.release("1.2", "stranger", "")
	first, err := release.Read(b.path("release"))
	must(t, err)

	// Provisioning seals, and adds the objects to the card's set.
	c, err := releasetest.Keys().Config(releasetest.Product, 2)
	must(t, err)
	keys := c.Sealing()
	machine := provisioned.New(t)
	objects, one, two, err := boot(t, machine, first).Door.SealNew(keys)
	must(t, err)
	set := seal.Set{Revision: 2, Objects: objects, Approvals: first.Approvals}
	next, err := release.Read(b.path("next"))
	must(t, err)
	set.Approvals = append(set.Approvals, next.Approvals...)
	writeSet(t, b.path("card.img"), &set)

	log := eventlog.New()
	must(t, log.Append(board(7)))
	pcr1 := hexOf(log.Replay()[1])
	var s coverage
	for _, more := range []string{"", " -release @release", " -release @next"} {
		b.json("seal check -card @card.img -pcr1 "+pcr1+more, exitOK, &s)
		if s.PCR1 != pcr1 || len(s.Unchecked) != 1 || len(s.Kinds) != 3 || s.Kinds[2] != (kindCoverage{"canary", true, 1}) {
			t.Errorf("seal check%s: %+v", more, s)
		}
	}
	if p := b.json("seal check -card @card.img -pcr1 "+hexOf(sha256.Sum256(nil)), exitRefused, &s); p.Code != code.UnsealNotPredicted {
		t.Errorf("under another PCR 1: %+v", p)
	}
	if exit, _, err := b.run("seal check -card @card.img -release @stranger -pcr1 " + pcr1); exit != exitRefused {
		t.Errorf("a release that does not know the bootloader: exit code %d, %s", exit, err)
	}

	// The TPM agrees.
	open := func(r *release.Release) ([]byte, []byte, error) { return boot(t, machine, r).Door.Unseal(&set, keys) }
	for _, r := range []*release.Release{first, under(t, next, first)} {
		x, y, err := open(r)
		if err != nil || !bytes.Equal(x, one[:]) || !bytes.Equal(y, two[:]) {
			t.Errorf("version %s: the TPM unseals something else: %v", r.Controller.Version, err)
		}
	}
	stranger, err := release.Read(b.path("stranger"))
	must(t, err)
	if _, _, err := open(stranger); err == nil {
		t.Error("the TPM unseals under a release that nobody approved for it")
	}
}

// under is a release as a board measures it that has another's bootloader.
func under(t *testing.T, r, loader *release.Release) *release.Release {
	m := r.Golden.Manifest
	m.Anchors, m.Bootloaders = loader.Golden.Anchors, loader.Golden.Bootloaders
	u := *r
	var err error
	u.Golden, err = golden.Build(m)
	must(t, err)
	return &u
}

func writeSet(t *testing.T, path string, set *seal.Set) {
	t.Helper()
	b, err := set.Encode()
	must(t, err)
	f, err := card.Open(path, true)
	must(t, err)
	for _, p := range medium.SealedObjects {
		must(t, medium.WritePlace(f, p, b))
	}
	must(t, f.Close())
}
