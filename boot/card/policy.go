package card

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"

	"nitro/boot/image"
	"nitro/boot/medium"
)

// A policySet tells which signed policy sets a board takes. Header and digest are looked at,
// what the policies say is not: package net/policy, which stands above this one, has
// compiled them before they were signed, and does so again on the board.
type policySet struct {
	product string
	anchors *medium.Anchors
}

// epoch verifies a set, and maybe something behind it, and gives its epoch.
func (p policySet) epoch(b []byte) (epoch, length uint64, err error) {
	i, err := image.Open(bytes.NewReader(b), image.Want{Where: "policy set", Component: image.PolicySet, Product: p.product,
		Development: p.anchors.Development, Authorities: p.anchors.Authorities})
	if err != nil {
		return 0, 0, err
	}
	if err := i.Load(make([]byte, i.Length)); err != nil {
		return 0, 0, err
	}
	if epoch, err = strconv.ParseUint(i.Version, 10, 64); err != nil || epoch == 0 {
		return 0, 0, fmt.Errorf("policy set: version %q is no epoch: sign it with nitroctl policy sign", i.Version)
	}
	return epoch, image.HeaderSize + i.Length, nil
}

// checkPolicy has the policy set, if there is one, fit the release.
func (w *writer) checkPolicy() error {
	if w.c.Policy == nil {
		return nil
	}
	_, n, err := policySet{w.Product, w.Anchors}.epoch(w.c.Policy)
	if err == nil && n != uint64(len(w.c.Policy)) {
		err = fmt.Errorf("policy set: %d bytes, and the image has %d: give the whole file", len(w.c.Policy), n)
	}
	if err != nil {
		return fmt.Errorf("card: %w", err)
	}
	return nil
}

// policy writes both copies of the policy set.
func (w *writer) policy() error {
	if w.c.Policy == nil {
		return nil
	}
	err := medium.Pair(medium.PolicySets).Write(w.d, w.c.Policy, func(b []byte) (uint64, error) {
		epoch, _, err := policySet{w.Product, w.Anchors}.epoch(b)
		return epoch, err
	})
	if err != nil {
		return fmt.Errorf("card: policy set: %w", err)
	}
	return nil
}

// policies verifies each copy of the policy set.
func (i *inspector) policies() {
	for n, p := range medium.PolicySets {
		name := copyName("policy set", n)
		b, ok := i.read(name, p, p.Size)
		switch {
		case !ok:
		case blank(b):
			i.add(name, p, Empty, "the API serves evidence and status alone")
		case i.Anchors == nil:
			i.bad(name, p, errors.New("there is no anchor block to verify it with"))
		default:
			epoch, _, err := policySet{i.want.Product, i.Anchors}.epoch(b)
			if err != nil {
				i.bad(name, p, err)
				continue
			}
			i.add(name, p, OK, "epoch %d", epoch)
		}
	}
}
