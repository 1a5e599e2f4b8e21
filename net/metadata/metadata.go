// Package metadata tells the host that the board guards what to connect to, and gives it the
// secrets of its cycle: docs/metadata.md. Plain HTTP on the host's private wire, a token by
// PUT first, then one JSON document by GET.
//
// [Service] is the board's end, which takes what it tells from a [Source]; [Fetch] is the
// host's. Left out: IPv6, documents for several hosts, anything that a host could change.
package metadata

import (
	"errors"
	"fmt"
	"time"
)

// Version is that of the document.
const Version = 1

// Paths and headers of a request.
const (
	TokenPath      = "/v1/token"
	HostPath       = "/v1/host"
	LifetimeHeader = "X-Nitro-Metadata-Token-TTL-Seconds"
	TokenHeader    = "X-Nitro-Metadata-Token"
)

// Bounds of what is served and of what a host takes.
const (
	MaxLifetime = 5 * time.Minute // of a token
	MaxDocument = 64 << 10        // bytes
	MaxVolumes  = 64              // the namespaces of a host (nvme/target)
	MaxName     = 64              // bytes of a volume's name
)

// A Document is what a host is told.
type Document struct {
	Version int      `json:"version"`
	Cycle   uint64   `json:"cycle"` // of the host; never 0
	Board   Board    `json:"board"`
	NVMe    NVMe     `json:"nvme"`
	Volumes []Volume `json:"volumes"` // by NSID
}

// A Board is who tells.
type Board struct {
	Product  string `json:"product"`
	ID       string `json:"id"`       // the chip's number, in hexadecimal
	Firmware string `json:"firmware"` // version as measured
}

// NVMe is where the volumes are, and as whom to connect. The secrets have the form DHHC-1
// (NVM Express Base Specification 2.0, 8.13.5.8).
type NVMe struct {
	Transport        string `json:"transport"` // "tcp"
	Address          string `json:"address"`
	Port             uint16 `json:"port"`
	Subsystem        string `json:"subsystem"` // NQN
	Host             string `json:"host"`      // NQN
	HostID           string `json:"host_id"`   // UUID
	HostSecret       string `json:"host_secret"`
	ControllerSecret string `json:"controller_secret"`
}

// A Volume is a namespace that the host sees.
type Volume struct {
	NSID     uint32 `json:"nsid"`
	Identity string `json:"identity"` // 16 bytes in hexadecimal
	Name     string `json:"name"`
	Bytes    uint64 `json:"bytes"`
}

// ErrNoHost is a source's answer while there is no host cycle: the host is held, or the board
// is in quarantine.
var ErrNoHost = errors.New("metadata: there is no host cycle")

// A Source gives the document as it is now, or ErrNoHost. The service fills in Version.
type Source interface {
	Metadata() (*Document, error)
}

// check finds documents that must not be told or taken.
func (d *Document) check() error {
	switch {
	case d.Version != Version:
		return fmt.Errorf("metadata: document of version %d; this is version %d", d.Version, Version)
	case d.Cycle == 0:
		return errors.New("metadata: document of no host cycle")
	case len(d.Volumes) > MaxVolumes:
		return fmt.Errorf("metadata: document with %d volumes; at most %d", len(d.Volumes), MaxVolumes)
	}
	for _, v := range d.Volumes {
		if len(v.Name) > MaxName {
			return fmt.Errorf("metadata: volume %d has a name of %d bytes; at most %d", v.NSID, len(v.Name), MaxName)
		}
	}
	return nil
}
