package target

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	"nitro/nvme/wire"
)

// logs are the log pages of I/O controllers: by identifier, what makes them.
var logs = map[uint8]func(l *lane, r *wire.LogRequest) []byte{
	wire.LogError:             (*lane).errorLog,
	wire.LogSMART:             (*lane).smartLog,
	wire.LogFirmware:          (*lane).firmwareLog,
	wire.LogChangedNamespaces: (*lane).changedLog,
	wire.LogEffects:           (*lane).effectsLog,
	wire.LogFeatures:          (*lane).featuresLog,
	wire.LogSanitize:          (*lane).sanitizeLog,
}

// logPage does a Get Log Page (Base 2.0, section 5.16). A page's end is its size: what
// the host asks for beyond it is zero.
func (l *lane) logPage() error {
	r := wire.DecodeLogRequest(&l.cmd)
	if r.Length != uint64(l.cmd.Length) || r.Length > uint64(l.c.t.cfg.MaxTransfer) || l.cmd.CDW14>>23&1 != 0 { // offsets count bytes (OT)
		return l.finish(wire.InvalidField|wire.DNR, 0)
	}
	if r.Offset%4 != 0 {
		return l.finish(wire.InvalidField|wire.DNR, 0)
	}
	make := logs[r.LID]
	switch {
	case r.LID == wire.LogSupported:
		make = (*lane).supportedLog
	case l.c.k.discovery && r.LID == wire.LogDiscovery:
		make = (*lane).discoveryLog
	case l.c.k.discovery:
		make = nil
	}
	if make == nil {
		return l.finish(wire.InvalidLogPage|wire.DNR, 0)
	}
	content := make(l, &r)
	if r.Offset > uint64(len(content)) {
		return l.finish(wire.InvalidField|wire.DNR, 0)
	}
	return l.answerPages(content[r.Offset:])
}

// supportedLog lists the log pages.
func (l *lane) supportedLog(*wire.LogRequest) []byte {
	b := make([]byte, wire.SupportedSize)
	if l.c.k.discovery {
		b[0], b[4*wire.LogDiscovery] = 1, 1
		return b
	}
	b[0] = 1
	for id := range logs {
		b[4*int(id)] = 1
	}
	return b
}

// errorLog has the newest error first.
func (l *lane) errorLog(*wire.LogRequest) []byte {
	k := l.c.k
	k.mu.Lock()
	defer k.mu.Unlock()
	b := make([]byte, maxErrors*wire.ErrorEntrySize)
	for i := range min(k.count, maxErrors) {
		k.errors[(k.count-1-i)%maxErrors].Encode((*[wire.ErrorEntrySize]byte)(b[i*wire.ErrorEntrySize:]))
	}
	return b
}

// smartLog tells of the host's traffic over all its controllers.
func (l *lane) smartLog(*wire.LogRequest) []byte {
	k := l.c.k
	h := k.host
	const unit = 512000 // bytes
	k.mu.Lock()
	count := k.count
	k.mu.Unlock()
	s := wire.SMART{
		ReadUnits: (h.readBytes.Load() + unit - 1) / unit, WrittenUnits: (h.writtenBytes.Load() + unit - 1) / unit,
		Reads: h.reads.Load(), Writes: h.writes.Load(), Hours: uint64(time.Since(k.t.start) / time.Hour),
		MediaErrors: h.media.Load(), ErrorEntries: count,
	}
	if k.t.cfg.Kelvin != nil {
		s.Kelvin = k.t.cfg.Kelvin()
	}
	b := new([wire.SMARTSize]byte)
	s.Encode(b)
	return b[:]
}

// firmwareLog says that slot 1 is active, and which revision it has.
func (l *lane) firmwareLog(*wire.LogRequest) []byte {
	b := make([]byte, wire.FirmwareSize)
	b[0] = 1
	copy(b[8:16], l.c.t.cfg.Firmware)
	return b
}

// changedLog lists what namespaces came or went since it was read last.
func (l *lane) changedLog(r *wire.LogRequest) []byte {
	b := new([wire.ChangedSize]byte)
	wire.PutNamespaces(b, l.c.k.takeChanged(!r.Retain), 0)
	if !r.Retain {
		l.c.k.read(eventNamespaces)
	}
	return b[:]
}

// effects are the commands that there are; eraseEffects those of hosts that may erase.
var effects = []wire.Effect{
	{Opcode: wire.AdminGetLogPage}, {Opcode: wire.AdminIdentify}, {Opcode: wire.AdminAbort}, {Opcode: wire.AdminSetFeatures},
	{Opcode: wire.AdminGetFeatures}, {Opcode: wire.AdminAsyncEvent}, {Opcode: wire.AdminKeepAlive},
	{Opcode: wire.IOFlush, IO: true}, {Opcode: wire.IOWrite, IO: true, Content: true}, {Opcode: wire.IORead, IO: true},
	{Opcode: wire.IOCompare, IO: true}, {Opcode: wire.IOWriteZeroes, IO: true, Content: true},
	{Opcode: wire.IODatasetManagement, IO: true, Content: true},
}

var eraseEffects = []wire.Effect{{Opcode: wire.AdminFormatNVM, Content: true}, {Opcode: wire.AdminSanitize, Content: true}}

func (l *lane) effectsLog(*wire.LogRequest) []byte {
	b := new([wire.EffectsSize]byte)
	all := effects
	if l.c.t.cfg.Erase != nil {
		all = slices.Concat(effects, eraseEffects)
	}
	wire.EncodeEffects(b, all)
	return b[:]
}

// featuresLog lists the features (Base 2.0, figure 259): bit 0, supported.
func (l *lane) featuresLog(*wire.LogRequest) []byte {
	b := make([]byte, wire.FeaturesSize)
	for id := range 256 {
		if _, _, _, ok := l.c.k.feature(uint8(id)); ok {
			b[4*id] = 1
		}
	}
	return b
}

func (l *lane) sanitizeLog(r *wire.LogRequest) []byte {
	k := l.c.k
	k.t.mu.Lock()
	s := k.host.erasure
	k.t.mu.Unlock()
	progress := uint16(0xffff) // not running
	if s.status == sanitizeRunning {
		progress = 0
	}
	b := new([wire.SanitizeSize]byte)
	wire.EncodeSanitize(b, progress, s.status, s.cdw10)
	if !r.Retain {
		k.read(eventSanitized)
	}
	return b[:]
}

// discoveryLog tells where the I/O subsystem is (Base 2.0, section 5.16.1.23).
func (l *lane) discoveryLog(r *wire.LogRequest) []byte {
	t := l.c.t
	t.mu.Lock()
	generation, at := t.generation, t.cfg.Advertise
	t.mu.Unlock()
	e := wire.Entry{Family: wire.FamilyIPv4, Subtype: wire.SubtypeNVM, PortID: 1, CNTLID: wire.DynamicController, AdminSize: adminDepth,
		Service: strconv.Itoa(int(at.Port())), Address: at.Addr().String(), SubsystemNQN: t.cfg.SubsystemNQN}
	if at.Addr().Is6() && !at.Addr().Is4In6() {
		e.Family = wire.FamilyIPv6
	}
	b := make([]byte, wire.DiscoveryHeader+wire.DiscoveryEntry)
	wire.EncodeDiscoveryHeader((*[wire.DiscoveryHeader]byte)(b), generation, 1)
	e.Encode((*[wire.DiscoveryEntry]byte)(b[wire.DiscoveryHeader:]))
	if !r.Retain {
		l.c.k.read(eventDiscovery)
	}
	return b
}

// Advertise changes where hosts are told to find the I/O subsystem, and tells those that
// listen.
func (t *Target) Advertise(at netip.AddrPort) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cfg.Advertise = at
	t.generation++
	for _, k := range t.controllers {
		if k.discovery {
			k.raise(eventDiscovery)
		}
	}
}
