package main

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"log"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"nitro/net/metadata"
	"nitro/nvme/storage"
)

// serveMetadata tells the host on its own wire what to connect to (docs/metadata.md).
func (f *firmware) serveMetadata(s *storage.Service) {
	id, err := f.board.UniqueID()
	if err == nil {
		source := hostMetadata{s, metadata.Board{Product: f.chain.Product, ID: fmt.Sprintf("%016x", id), Firmware: f.version}}
		err = f.tellHost(source)
	}
	log.Printf("metadata: the host is told nothing any more in this boot: %v", err)
}

func (f *firmware) tellHost(source metadata.Source) error {
	l, err := f.ports[1].Listen("tcp", ":"+strconv.Itoa(metadata.Port))
	if err != nil {
		return err
	}
	defer l.Close()
	return metadata.New(netip.AddrPortFrom(hostAddress.Addr(), metadata.Port), source).Serve(l)
}

// hostMetadata tells what the volumes' service knows.
type hostMetadata struct {
	volumes *storage.Service
	board   metadata.Board
}

// Metadata implements metadata.Source.
func (h hostMetadata) Metadata() (*metadata.Document, error) {
	a, there := h.volumes.Host()
	if !there {
		return nil, metadata.ErrNoHost
	}
	d := &metadata.Document{Cycle: a.Cycle, Board: h.board, NVMe: metadata.NVMe{
		Transport: "tcp", Address: a.Address.Addr().String(), Port: a.Address.Port(), Subsystem: a.SubsystemNQN,
		Host: a.HostNQN, HostID: a.HostNQN[strings.LastIndexByte(a.HostNQN, ':')+1:],
		HostSecret: a.Secret, ControllerSecret: a.ControllerSecret,
	}, Volumes: []metadata.Volume{}}
	for _, v := range h.volumes.Volumes() {
		if v.Attached {
			d.Volumes = append(d.Volumes, metadata.Volume{NSID: v.Namespace, Identity: hex.EncodeToString(v.ID[:]), Name: v.Name, Bytes: v.Blocks * uint64(v.BlockSize)})
		}
	}
	slices.SortFunc(d.Volumes, func(a, b metadata.Volume) int { return cmp.Compare(a.NSID, b.NSID) })
	return d, nil
}
