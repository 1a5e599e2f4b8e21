package main

import (
	"cmp"
	"fmt"
	"log"
	"net/netip"
	"slices"

	"nitro/net/metadata"
)

// metadataPort is HTTP's.
const metadataPort = 80

// serveMetadata tells the host on its own wire what to connect to.
func (f *firmware) serveMetadata() error {
	at := netip.AddrPortFrom(hostAddress.Addr(), metadataPort)
	l, err := f.ports[1].Listen("tcp4", at.String())
	if err != nil {
		return err
	}
	go func() { log.Printf("%v", metadata.New(at, f).Serve(l)) }()
	return nil
}

// Metadata implements metadata.Source.
func (f *firmware) Metadata() (*metadata.Document, error) {
	s := f.volumes.Load()
	if s == nil || f.reason() != nil {
		return nil, metadata.ErrNoHost
	}
	h, there := s.Host()
	if !there {
		return nil, metadata.ErrNoHost
	}
	id, err := f.board.UniqueID()
	if err != nil {
		return nil, err
	}
	u := f.uuid("host")
	d := &metadata.Document{
		Cycle: h.Cycle,
		Board: metadata.Board{Product: f.chain.Product, ID: fmt.Sprintf("%016x", id), Firmware: f.version},
		NVMe: metadata.NVMe{
			Transport: "tcp", Address: h.Address.Addr().String(), Port: h.Address.Port(),
			Subsystem: h.SubsystemNQN, Host: h.HostNQN, HostID: fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16]),
			HostSecret: h.Secret, ControllerSecret: h.ControllerSecret,
		},
		Volumes: []metadata.Volume{},
	}
	for _, v := range s.Volumes() {
		if v.Attached {
			d.Volumes = append(d.Volumes, metadata.Volume{
				NSID: v.Namespace, Identity: fmt.Sprintf("%x", v.ID), Name: v.Name, Bytes: uint64(v.BlockSize) * v.Blocks,
			})
		}
	}
	slices.SortFunc(d.Volumes, func(a, b metadata.Volume) int { return cmp.Compare(a.NSID, b.NSID) })
	return d, nil
}
