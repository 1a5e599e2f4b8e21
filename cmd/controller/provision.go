package main

import (
	"context"
	"log"

	"nitro/boot/code"
	"nitro/boot/securitykey"
	"nitro/net/provisioning"
)

// provision offers the factory an unprovisioned board until it is provisioned, and then
// restarts it. What cannot be put right in this boot is quarantine.
func (f *firmware) provision() {
	result, err := f.serveProvisioning()
	if err != nil {
		log.Printf("provisioning: %v", err)
		if e, ok := code.Lookup(code.Of(err)); ok {
			log.Printf("%s", e.Next)
		}
		f.restartAfter(retryDelay, "another attempt may do better")
		return
	}
	log.Printf("provisioned: board part of revision %d", result.Pin.Revision)
	f.restartAfter(restartDelay, "the provisioned board boots")
}

func (f *firmware) serveProvisioning() (*provisioning.Result, error) {
	c := &f.chain
	b := provisioning.Board{
		TPM: c.T, Device: c.Card, SoC: c.Handover.Secret[:], Strength: c.Handover.Strength,
		Development: c.Anchors.Development, Config: c.Config.Config, Log: c.Log, Certificate: f.certificate,
		Floor: c.LowestSecurityVersion(),
	}
	if c.Config.SecurityKey {
		secret, err := securitykey.Read(f.board.ReadSecurityKey)
		if err != nil {
			return nil, code.SecurityKeyMissing.Errorf("provisioning: %w", err)
		}
		defer clear(secret)
		b.Removable = secret
	}
	s, err := provisioning.New(b)
	if err != nil {
		return nil, err
	}
	l, err := f.ports[0].Listen("tcp", provisioning.Port)
	if err != nil {
		return nil, err
	}
	log.Printf("provisioning is offered on port %s", provisioning.Port[1:])
	c.Bus.Lock()
	defer c.Bus.Unlock()
	return s.Serve(context.Background(), l)
}
