package target

import (
	"math/bits"

	"nitro/nvme/wire"
)

// admin does an admin command of an enabled controller.
func (l *lane) admin() error {
	k := l.c.k
	switch l.cmd.Opcode {
	case wire.AdminIdentify:
		return l.identify()
	case wire.AdminGetLogPage:
		return l.logPage()
	case wire.AdminKeepAlive:
		return l.finish(wire.Success, 0)
	case wire.AdminAsyncEvent:
		return k.request(l)
	case wire.AdminAbort:
		return l.abort()
	case wire.AdminSetFeatures:
		return l.setFeature()
	case wire.AdminGetFeatures:
		return l.getFeature()
	}
	if k.discovery {
		return l.finish(wire.InvalidOpcode|wire.DNR, 0)
	}
	switch {
	case l.c.t.cfg.Erase == nil:
	case l.cmd.Opcode == wire.AdminFormatNVM:
		return l.format()
	case l.cmd.Opcode == wire.AdminSanitize:
		return l.sanitize()
	}
	return l.finish(wire.InvalidOpcode|wire.DNR, 0)
}

// abort aborts an event request. Other commands are done before an Abort can be read, or
// wait for their host's own data: they are not aborted, and result bit 0 says so (Base
// 2.0, section 5.1).
func (l *lane) abort() error {
	sq, cid := uint16(l.cmd.CDW10), uint16(l.cmd.CDW10>>16)
	if sq == 0 && l.c.k.withdraw(cid) {
		if err := l.c.respond(cid, wire.AbortRequested, 0); err != nil {
			return err
		}
		return l.finish(wire.Success, 0)
	}
	return l.finish(wire.Success, 1)
}

// identify does an Identify (Base 2.0, section 5.17).
func (l *lane) identify() error {
	k := l.c.k
	b := (*[wire.IdentifySize]byte)(l.room())
	cns, csi := uint8(l.cmd.CDW10), l.cmd.CDW11>>24
	if k.discovery && cns != wire.CNSController {
		return l.finish(wire.InvalidField|wire.DNR, 0)
	}
	switch cns {
	case wire.CNSController:
		k.identify().Encode(b)
	case wire.CNSActiveNamespaces:
		if l.cmd.NSID >= 0xfffffffe {
			return l.finish(wire.InvalidNamespace|wire.DNR, 0)
		}
		wire.PutNamespaces(b, k.host.ids(), l.cmd.NSID)
	case wire.CNSCommandSetActive, wire.CNSCommandSetController, wire.CNSCommandSetNamespace:
		if csi != 0 { // only the NVM command set
			return l.finish(wire.InvalidField|wire.DNR, 0)
		}
		return l.identifyNVM(cns, b)
	case wire.CNSNamespace, wire.CNSDescriptors, wire.CNSIndependentNamespace:
		n := k.host.find(l.cmd.NSID)
		if n == nil && cns == wire.CNSNamespace && l.cmd.NSID != 0 && l.cmd.NSID <= MaxNamespaces {
			*b = [wire.IdentifySize]byte{} // an inactive namespace
			break
		}
		if n == nil {
			return l.finish(wire.InvalidNamespace|wire.DNR, 0)
		}
		n.identify(cns, b)
	default:
		return l.finish(wire.InvalidField|wire.DNR, 0)
	}
	return l.answer(wire.IdentifySize)
}

// identifyNVM answers for the NVM command set.
func (l *lane) identifyNVM(cns uint8, b *[wire.IdentifySize]byte) error {
	h := l.c.k.host
	switch cns {
	case wire.CNSCommandSetActive:
		wire.PutNamespaces(b, h.ids(), l.cmd.NSID)
	case wire.CNSCommandSetController:
		wire.EncodeNVMController(b, maxZeroes, 0)
	default:
		if h.find(l.cmd.NSID) == nil {
			return l.finish(wire.InvalidNamespace|wire.DNR, 0)
		}
		*b = [wire.IdentifySize]byte{} // no protection information: nothing to say
	}
	return l.answer(wire.IdentifySize)
}

// identify is the Identify Controller data.
func (k *controller) identify() *wire.Controller {
	cfg := &k.t.cfg
	id := &wire.Controller{
		Serial: cfg.Serial, Model: cfg.Model, Firmware: cfg.Firmware,
		MDTS: uint8(bits.TrailingZeros(uint(cfg.MaxTransfer / page))), CNTLID: k.id,
		CTRATT: wire.CTRATTHostID128 | wire.CTRATTTraffic, Type: wire.ControllerIO,
		AERL: maxEvents - 1, ABL: 3, ELPE: maxErrors - 1, KAS: 10, // seconds
		MAXCMD: uint16(cfg.Depth), SGLS: wire.SGLSByte | wire.SGLSOffset, SubsystemNQN: cfg.SubsystemNQN,
		LPA: wire.LPAExtended,
	}
	if k.discovery {
		id.Type, id.SubsystemNQN, id.OAES = wire.ControllerDiscovery, wire.DiscoveryNQN, wire.OAESDiscovery
		return id
	}
	id.LPA |= wire.LPAEffects
	id.OAES = wire.OAESNamespace
	id.NN, id.ONCS = MaxNamespaces, wire.ONCSCompare|wire.ONCSDeallocate|wire.ONCSWriteZeroes
	id.VWC = wire.VWCPresent | wire.VWCFlushAll
	if cfg.Erase != nil {
		id.OACS, id.FNA, id.SANICAP = wire.OACSFormat, wire.FNACryptoErase, wire.SanitizeCrypto|wire.SanitizeDeallocates
	}
	id.IOCCSZ = uint32(wire.CommandSize+cfg.InCapsule) / 16
	return id
}

// ids lists a host's namespaces.
func (h *host) ids() (ids []uint32) {
	for id, n := range h.table.Load() {
		if n != nil {
			ids = append(ids, uint32(id))
		}
	}
	return ids
}

// identify writes what there is to say of a namespace.
func (n *namespace) identify(cns uint8, b *[wire.IdentifySize]byte) {
	switch cns {
	case wire.CNSDescriptors:
		wire.EncodeDescriptors(b, &n.UUID, &n.UUID)
	case wire.CNSIndependentNamespace:
		wire.EncodeIndependent(b)
	default:
		id := wire.Namespace{Size: n.blocks, Used: n.blocks, BlockShift: n.shift, ReadsZero: n.Volume.ReadsZero(), NGUID: n.UUID}
		id.Encode(b)
	}
}

// Fields of features.
const (
	selectCurrent      = 0 // SEL, CDW10 bits 10:8 of Get Features
	selectDefault      = 1
	selectSaved        = 2
	selectCapabilities = 3
	changeable         = 1 << 2
	save               = 1 << 31 // SV, of Set Features
	cacheEnabled       = 1
)

// getFeature reads a feature (Base 2.0, section 5.15).
func (l *lane) getFeature() error {
	k := l.c.k
	id, sel := uint8(l.cmd.CDW10), l.cmd.CDW10>>8&7
	current, initial, settable, ok := k.feature(id)
	if !ok || sel > selectCapabilities {
		return l.finish(wire.InvalidField|wire.DNR, 0)
	}
	if id == wire.FeatureHostID && sel == selectCurrent {
		if l.cmd.CDW11&1 == 0 { // EXHID: fabrics have identifiers of 128 bits
			return l.finish(wire.InvalidField|wire.DNR, 0)
		}
		return l.answer(copy(l.room(), k.hostID[:]))
	}
	switch sel {
	case selectCurrent:
		return l.finish(wire.Success, uint64(current))
	case selectCapabilities:
		if settable {
			return l.finish(wire.Success, changeable)
		}
		return l.finish(wire.Success, 0)
	}
	return l.finish(wire.Success, uint64(initial)) // nothing is saved
}

// feature gives a feature's current and initial value.
func (k *controller) feature(id uint8) (current, initial uint32, settable, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch id {
	case wire.FeatureAsyncEvents:
		return k.enabledEvents, 0, true, true
	case wire.FeatureKeepAlive:
		return k.keep, 0, true, true
	}
	if k.discovery {
		return 0, 0, false, false
	}
	queues := uint32(k.t.cfg.Queues - 1)
	switch id {
	case wire.FeatureArbitration, wire.FeaturePower, wire.FeatureErrorRecovery, wire.FeatureWriteAtomicity, wire.FeatureHostID:
		return 0, 0, false, true
	case wire.FeatureWriteCache:
		if k.writeThrough.Load() {
			return 0, cacheEnabled, true, true
		}
		return cacheEnabled, cacheEnabled, true, true
	case wire.FeatureQueues:
		return queues | queues<<16, queues | queues<<16, true, true
	case wire.FeatureHostBehavior:
		return 0, 0, true, true
	}
	return 0, 0, false, false
}

// setFeature sets a feature (Base 2.0, section 5.27).
func (l *lane) setFeature() error {
	k := l.c.k
	id, v := uint8(l.cmd.CDW10), l.cmd.CDW11
	_, _, settable, ok := k.feature(id)
	switch {
	case !ok:
		return l.finish(wire.InvalidField|wire.DNR, 0)
	case l.cmd.CDW10&save != 0:
		return l.finish(wire.FeatureNotSaveable|wire.DNR, 0)
	case !settable:
		return l.finish(wire.FeatureNotChangeable|wire.DNR, 0)
	}
	result := uint64(0)
	switch id {
	case wire.FeatureAsyncEvents:
		k.enableEvents(v)
	case wire.FeatureKeepAlive:
		if !checkKeepAlive(v, k.discovery) {
			return l.finish(wire.KeepAliveInvalid|wire.DNR, 0)
		}
		k.mu.Lock()
		k.keep = v
		k.mu.Unlock()
	case wire.FeatureWriteCache:
		k.writeThrough.Store(v&cacheEnabled == 0)
	case wire.FeatureQueues:
		if v&0xffff == 0xffff || v>>16 == 0xffff {
			return l.finish(wire.InvalidField|wire.DNR, 0)
		}
		limit := uint32(k.t.cfg.Queues - 1)
		result = uint64(min(v&0xffff, limit) | min(v>>16, limit)<<16)
	case wire.FeatureHostBehavior:
		// Hints about what the host can do; nothing here depends on them.
	}
	return l.finish(wire.Success, result)
}
