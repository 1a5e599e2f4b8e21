package target_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"nitro/internal/hostile"
	"nitro/nvme/target"
	"nitro/nvme/volume"
	"nitro/nvme/wire"
)

// TestIdentify reads what a host decides by.
func TestIdentify(t *testing.T) {
	r := newRig(t, target.Config{InCapsule: 8192, Erase: func(context.Context, []target.Namespace) error { return nil }})
	c := r.connect(r.config(alice))
	id := c.Identity()
	want := wire.Controller{Serial: "0001", Model: "Nitro", Firmware: "1.0", MDTS: 5, CNTLID: c.ID(), OAES: wire.OAESNamespace,
		CTRATT: wire.CTRATTHostID128 | wire.CTRATTTraffic, Type: wire.ControllerIO, OACS: wire.OACSFormat, AERL: 3, ABL: 3, LPA: wire.LPAExtended | wire.LPAEffects,
		ELPE: 7, KAS: 10, SANICAP: wire.SanitizeCrypto | wire.SanitizeDeallocates, MAXCMD: 128, NN: 64, ONCS: wire.ONCSCompare | wire.ONCSDeallocate | wire.ONCSWriteZeroes,
		FNA: wire.FNACryptoErase, VWC: wire.VWCPresent | wire.VWCFlushAll, SGLS: wire.SGLSByte | wire.SGLSOffset, SubsystemNQN: subsystem, IOCCSZ: (64 + 8192) / 16}
	if id != want {
		t.Errorf("%+v\nwant %+v", id, want)
	}
	b := make([]byte, 4096)
	if _, err := c.Admin(t.Context(), &wire.Command{Opcode: wire.AdminIdentify, NSID: 1, CDW10: wire.CNSDescriptors}, nil, b); err != nil {
		t.Error(err)
	}
	uuid := "\x01\x01" + strings.Repeat("\x00", 14)
	if got := string(b[:46]); got != "\x02\x10\x00\x00"+uuid+"\x03\x10\x00\x00"+uuid+"\x04\x01\x00\x00\x00\x00" {
		t.Errorf("descriptors % x", got)
	}
	if _, err := c.Admin(t.Context(), &wire.Command{Opcode: wire.AdminIdentify, NSID: 2}, nil, b); err != nil || !bytes.Equal(b, make([]byte, 4096)) {
		t.Errorf("an inactive namespace: %v", err)
	}
	for _, cmd := range []wire.Command{
		{CDW10: 0x10}, {CDW10: wire.CNSCommandSetController, CDW11: 2 << 24}, {CDW10: 0xff},
	} {
		cmd.Opcode = wire.AdminIdentify
		_, err := c.Admin(t.Context(), &cmd, nil, b)
		wantStatus(t, fmt.Sprintf("identify %#x", cmd.CDW10), err, wire.InvalidField)
	}
	for _, length := range []int{8192} {
		_, err := c.Admin(t.Context(), &wire.Command{Opcode: wire.AdminIdentify, CDW10: 1}, nil, make([]byte, length))
		wantStatus(t, "identify of two pages", err, wire.DataSGLLength)
	}
}

// TestFeatures reads and sets all there are, and some there are not.
func TestFeatures(t *testing.T) {
	r := newRig(t, target.Config{Queues: 3})
	c := r.connect(r.config(alice))
	ctx := t.Context()
	get := func(id, sel uint32) (uint64, error) {
		return c.Admin(ctx, &wire.Command{Opcode: wire.AdminGetFeatures, CDW10: id | sel<<8}, nil, nil)
	}
	for _, f := range []struct{ id, current, initial, capabilities uint32 }{
		{wire.FeatureArbitration, 0, 0, 0}, {wire.FeaturePower, 0, 0, 0}, {wire.FeatureErrorRecovery, 0, 0, 0},
		{wire.FeatureWriteCache, 1, 1, 4}, {wire.FeatureQueues, 2 | 2<<16, 2 | 2<<16, 4}, {wire.FeatureWriteAtomicity, 0, 0, 0},
		{wire.FeatureAsyncEvents, 0, 0, 4}, {wire.FeatureKeepAlive, 15000, 0, 4}, {wire.FeatureHostBehavior, 0, 0, 4},
	} {
		for sel, want := range []uint32{f.current, f.initial, f.initial, f.capabilities} {
			if got, err := get(f.id, uint32(sel)); err != nil || uint32(got) != want {
				t.Errorf("feature %#x, select %d: %#x, %v, want %#x", f.id, sel, got, err, want)
			}
		}
	}
	host := make([]byte, 16)
	if _, err := c.Admin(ctx, &wire.Command{Opcode: wire.AdminGetFeatures, CDW10: wire.FeatureHostID, CDW11: 1}, nil, host); err != nil || host[0] != 1 {
		t.Errorf("host identifier % x, %v", host, err)
	}
	for _, id := range []uint32{0, 0x03, 0x0d, 0xff} {
		_, err := get(id, 0)
		wantStatus(t, fmt.Sprintf("feature %#x", id), err, wire.InvalidField)
	}
	set := func(cdw10, v uint32) (uint64, error) {
		return c.Admin(ctx, &wire.Command{Opcode: wire.AdminSetFeatures, CDW10: cdw10, CDW11: v}, nil, nil)
	}
	_, err := set(wire.FeatureWriteCache|1<<31, 1)
	wantStatus(t, "saved", err, wire.FeatureNotSaveable)
	_, err = set(wire.FeatureArbitration, 1)
	wantStatus(t, "not changeable", err, wire.FeatureNotChangeable)
	_, err = set(wire.FeatureQueues, 0xffff)
	wantStatus(t, "65,536 queues", err, wire.InvalidField)
	if got, err := set(wire.FeatureQueues, 7|1<<16); err != nil || got != 2|1<<16 {
		t.Errorf("8 and 2 queues: %#x, %v", got, err)
	}
	if _, err := set(wire.FeatureWriteCache, 0); err != nil {
		t.Error(err)
	}
	if got, _ := get(wire.FeatureWriteCache, 0); got != 0 {
		t.Error("the write cache is still on")
	}
}

// TestLogs reads all log pages, whole and in part.
func TestLogs(t *testing.T) {
	r := newRig(t, target.Config{Kelvin: func() uint16 { return 310 }})
	c := r.connect(r.config(alice))
	ctx := t.Context()
	n := r.namespace(c, 1)
	for range 3 {
		if err := errors.Join(n.WriteAt(ctx, 0, make([]byte, 512)), n.ReadAt(ctx, 0, make([]byte, 1024))); err != nil {
			t.Fatal(err)
		}
	}
	b := make([]byte, 512)
	if err := c.Log(ctx, wire.LogSMART, 0, b); err != nil {
		t.Fatal(err)
	}
	if le.Uint16(b[1:]) != 310 || b[3] != 100 || le.Uint64(b[32:]) != 1 || le.Uint64(b[64:]) != 3 || le.Uint64(b[80:]) != 3 {
		t.Errorf("SMART % x", b[:96])
	}
	long := make([]byte, 20000) // longer than what the queue sends at a time, and than the page
	if err := c.Log(ctx, wire.LogEffects, 0, long); err != nil || long[4*wire.AdminIdentify] != 1 || long[1024+4*wire.IOWrite] != 3 || long[4*wire.AdminCreateSQ] != 0 {
		t.Errorf("effects: %v", err)
	}
	part := make([]byte, 64)
	if err := c.Log(ctx, wire.LogEffects, 1024, part); err != nil || !bytes.Equal(part, long[1024:1088]) {
		t.Errorf("part of the effects: %v", err)
	}
	if err := c.Log(ctx, wire.LogSupported, 0, long[:1024]); err != nil {
		t.Error(err)
	}
	for id := range 256 {
		err := c.Log(ctx, uint8(id), 0, b)
		if (long[4*id] == 1) != (err == nil) {
			t.Errorf("log page %#x: listed %v, %v", id, long[4*id] == 1, err)
		}
	}
	wantStatus(t, "past the end", c.Log(ctx, wire.LogSMART, 516, b), wire.InvalidField)
	wantStatus(t, "an odd offset", c.Log(ctx, wire.LogSMART, 2, b), wire.InvalidField)
	_, err := c.Admin(ctx, &wire.Command{Opcode: wire.AdminGetLogPage, CDW10: wire.LogSMART | 127<<16}, nil, make([]byte, 256))
	wantStatus(t, "two lengths", err, wire.InvalidField)
}

// faulty is a volume that fails as it is told to, and counts flushes.
type faulty struct {
	*volume.RAM
	mu      sync.Mutex
	err     error
	flushes int
}

func (f *faulty) fail(err error) { f.mu.Lock(); f.err = err; f.mu.Unlock() }

func (f *faulty) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *faulty) ReadAt(ctx context.Context, lba uint64, p []byte) error {
	return errors.Join(f.failure(), f.RAM.ReadAt(ctx, lba, p))
}

func (f *faulty) WriteAt(ctx context.Context, lba uint64, p []byte) error {
	return errors.Join(f.failure(), f.RAM.WriteAt(ctx, lba, p))
}

func (f *faulty) Flush(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flushes++
	return f.err
}

// TestFaults: what a volume says reaches the host, the error log and the SMART log.
func TestFaults(t *testing.T) {
	r := newRig(t, target.Config{})
	f := &faulty{RAM: ramVolume(t, 512, 65536)}
	r.attach(alice, 2, f)
	c := r.connect(r.config(alice))
	n := r.namespace(c, 2)
	ctx, p := t.Context(), make([]byte, 512)
	for _, c := range []struct {
		err         error
		read, write wire.Status
		dnr         bool
	}{
		{volume.ErrFull, wire.CapacityExceeded, wire.CapacityExceeded, true},
		{volume.ErrMedium, wire.UnrecoveredRead, wire.WriteFault, true},
		{volume.ErrReadOnly, wire.NamespaceWriteProtect, wire.NamespaceWriteProtect, true},
		{volume.ErrUnavailable, wire.NamespaceNotReady, wire.NamespaceNotReady, false},
		{volume.ErrClosed, wire.NamespaceNotReady, wire.NamespaceNotReady, false},
		{errors.New("something"), wire.InternalError, wire.InternalError, false},
	} {
		f.fail(c.err)
		for want, err := range map[wire.Status]error{c.read: n.ReadAt(ctx, 7, p), c.write: n.WriteAt(ctx, 7, p)} {
			wantStatus(t, c.err.Error(), err, want)
			var s wire.Status
			if errors.As(err, &s); (s&wire.DNR != 0) != c.dnr {
				t.Errorf("%v: DNR in %#x", c.err, uint16(s))
			}
		}
		wantStatus(t, "flush: "+c.err.Error(), n.Flush(ctx), c.write)
	}
	f.fail(nil)
	b := make([]byte, 64)
	if err := c.Log(ctx, wire.LogError, 0, b); err != nil || le.Uint64(b) != 12 || le.Uint16(b[8:]) != 1 || wire.Status(le.Uint16(b[12:])>>1).Code() != wire.InternalError || le.Uint64(b[16:]) != 7 || le.Uint32(b[24:]) != 2 {
		t.Errorf("error log % x, %v", b, err)
	}
	smart := make([]byte, 512)
	if err := c.Log(ctx, wire.LogSMART, 0, smart); err != nil || le.Uint64(smart[160:]) != 3 {
		t.Errorf("media errors %d, %v", le.Uint64(smart[160:]), err)
	}
}

// TestFlush: a write is flushed when the host asks for it, or has switched the cache off.
func TestFlush(t *testing.T) {
	r := newRig(t, target.Config{})
	f := &faulty{RAM: ramVolume(t, 512, 65536)}
	r.attach(alice, 2, f)
	c := r.connect(r.config(alice))
	write := func(flags uint32, want int) {
		t.Helper()
		f.flushes = 0
		if _, err := c.IO(t.Context(), &wire.Command{Opcode: wire.IOWrite, NSID: 2, CDW12: flags}, make([]byte, 512), nil); err != nil || f.flushes != want {
			t.Errorf("%d flushes, want %d, %v", f.flushes, want, err)
		}
	}
	write(0, 0)
	write(1<<30, 1)
	if _, err := c.Admin(t.Context(), &wire.Command{Opcode: wire.AdminSetFeatures, CDW10: wire.FeatureWriteCache}, nil, nil); err != nil {
		t.Fatal(err)
	}
	write(0, 1)
	f.flushes = 0
	if _, err := c.IO(t.Context(), &wire.Command{Opcode: wire.IOFlush, NSID: 0xffffffff}, nil, nil); err != nil || f.flushes != 1 {
		t.Errorf("flush of all: %d, %v", f.flushes, err)
	}
}

// TestIORefused asks for what a namespace cannot do.
func TestIORefused(t *testing.T) {
	r := newRig(t, target.Config{InCapsule: 8192})
	_, id := r.admin(alice)
	q := r.queue(alice, id, 1) // of 2,048 blocks of 512 bytes
	block := make([]byte, 512)
	ranges := func(r ...wire.Range) (b []byte) {
		for _, x := range r {
			var one [wire.RangeSize]byte
			x.Encode(&one)
			b = append(b, one[:]...)
		}
		return b
	}
	for _, c := range []struct {
		name string
		cmd  wire.Command
		out  []byte
		want wire.Status
	}{
		{"the last block", wire.Command{Opcode: wire.IOWrite, NSID: 1, CDW10: 2047}, block, wire.Success},
		{"past the end", wire.Command{Opcode: wire.IOWrite, NSID: 1, CDW10: 2048}, block, wire.LBARange},
		{"over the end", wire.Command{Opcode: wire.IOWrite, NSID: 1, CDW10: 2047, CDW12: 1}, make([]byte, 1024), wire.LBARange},
		{"LBA 2^64-1", wire.Command{Opcode: wire.IOWrite, NSID: 1, CDW10: 0xffffffff, CDW11: 0xffffffff}, block, wire.LBARange},
		{"read past the end", wire.Command{Opcode: wire.IORead, NSID: 1, CDW10: 2048, Length: 512}, nil, wire.LBARange},
		{"more than MDTS", wire.Command{Opcode: wire.IORead, NSID: 1, CDW12: 256, Length: 257 * 512}, nil, wire.InvalidField},
		{"4 GiB", wire.Command{Opcode: wire.IOWrite, NSID: 1, Length: 0xffffffff}, nil, wire.DataSGLLength},
		{"more than the blocks", wire.Command{Opcode: wire.IOWrite, NSID: 1}, make([]byte, 1024), wire.DataSGLLength},
		{"less than the blocks", wire.Command{Opcode: wire.IORead, NSID: 1, CDW12: 1, Length: 512}, nil, wire.DataSGLLength},
		{"a write without data", wire.Command{Opcode: wire.IOWrite, NSID: 1}, nil, wire.DataSGLLength},
		{"in-capsule that is not there", wire.Command{Opcode: wire.IOWrite, NSID: 1, SGL: wire.SGLInCapsule, Length: 512}, nil, wire.DataSGLLength},
		{"read into the capsule", wire.Command{Opcode: wire.IORead, NSID: 1, SGL: wire.SGLInCapsule, Length: 512}, nil, wire.SGLType},
		{"keyed SGL", wire.Command{Opcode: wire.IORead, NSID: 1, SGL: 0x40, Length: 512}, nil, wire.SGLType},
		{"unknown opcode", wire.Command{Opcode: 0x7e, NSID: 1}, nil, wire.InvalidOpcode},
		{"reservation", wire.Command{Opcode: 0x0d, NSID: 1}, make([]byte, 16), wire.InvalidOpcode},
		{"2 MiB of zeros", wire.Command{Opcode: wire.IOWriteZeroes, NSID: 1, CDW12: 4095}, nil, wire.InvalidField},
		{"zeros past the end", wire.Command{Opcode: wire.IOWriteZeroes, NSID: 1, CDW10: 2047, CDW12: 1}, nil, wire.LBARange},
		{"zeros", wire.Command{Opcode: wire.IOWriteZeroes, NSID: 1, CDW10: 2046, CDW12: 1 | 1<<25}, nil, wire.Success},
		{"deallocation", wire.Command{Opcode: wire.IODatasetManagement, NSID: 1, CDW10: 1, CDW11: 4}, ranges(wire.Range{Blocks: 2048}, wire.Range{LBA: 2048}), wire.Success},
		{"a hint", wire.Command{Opcode: wire.IODatasetManagement, NSID: 1, CDW11: 1}, ranges(wire.Range{Blocks: 1}), wire.Success},
		{"deallocation past the end", wire.Command{Opcode: wire.IODatasetManagement, NSID: 1, CDW10: 1, CDW11: 4}, ranges(wire.Range{Blocks: 1}, wire.Range{Blocks: 1, LBA: 2048}), wire.LBARange},
		{"fewer ranges than said", wire.Command{Opcode: wire.IODatasetManagement, NSID: 1, CDW10: 1, CDW11: 4}, ranges(wire.Range{Blocks: 1}), wire.DataSGLLength},
		{"connect", wire.Command{Opcode: wire.Fabrics, NSID: wire.FabricsConnect}, make([]byte, 1024), wire.CommandSequence},
		{"property get", wire.Command{Opcode: wire.Fabrics, NSID: wire.FabricsPropertyGet}, nil, wire.InvalidOpcode},
	} {
		if e, _ := q.Do(c.cmd, c.out); e.Status.Code() != c.want {
			t.Errorf("%s: %v, want %#x", c.name, e.Status, uint16(c.want))
		}
	}
	fused := hostile.Capsule(&wire.Command{Opcode: wire.IOFlush, NSID: 1, Flags: wire.FlagSGL | 1, SGL: wire.SGLTransport}, nil)
	q.Send(fused)
	if e, _ := q.Completion(); e.Status.Code() != wire.InvalidField {
		t.Errorf("a fused command: %v", e.Status)
	}
	if e, _ := q.Do(wire.Command{Opcode: wire.Fabrics, NSID: wire.FabricsDisconnect}, nil); e.Status != wire.Success || q.PDU() != nil {
		t.Errorf("disconnect: %v", e.Status)
	}
}

// TestProperties reads and writes them, and shuts the controller down.
func TestProperties(t *testing.T) {
	r := newRig(t, target.Config{})
	c, id := r.admin(alice)
	get := func(offset, size uint32) (uint64, wire.Status) {
		e, _ := c.Do(wire.Command{Opcode: wire.Fabrics, NSID: wire.FabricsPropertyGet, CDW10: size, CDW11: offset}, nil)
		return e.Result, e.Status.Code()
	}
	for _, p := range []struct {
		offset, size uint32
		want         uint64
		status       wire.Status
	}{
		{wire.PropertyCAP, 1, 127 | 1<<16 | 20<<24 | 1<<37, wire.Success}, {wire.PropertyVS, 0, 0x20000, wire.Success},
		{wire.PropertyCC, 0, hostile.Enable, wire.Success}, {wire.PropertyCSTS, 0, 1, wire.Success},
		{wire.PropertyCAP, 0, 0, wire.InvalidField}, {wire.PropertyCC, 1, 0, wire.InvalidField}, {0x68, 0, 0, wire.InvalidField}, {0x20, 0, 0, wire.InvalidField},
	} {
		if got, status := get(p.offset, p.size); got != p.want || status != p.status {
			t.Errorf("property %#x: %#x, %v", p.offset, got, status)
		}
	}
	q := r.queue(alice, id, 1)
	for name, v := range map[string]uint32{"128-byte commands": hostile.Enable + 1<<16, "8 KiB pages": hostile.Enable | 1<<7, "another command set": hostile.Enable | 6<<4} {
		c.Do(hostile.PropertySet(0), nil)
		if e, _ := c.Do(hostile.PropertySet(v), nil); e.Status.Code() != wire.InvalidField {
			t.Errorf("%s: %v", name, e.Status)
		}
	}
	if q.PDU() != nil {
		t.Error("the I/O queue survives the controller's reset")
	}
	if e, _ := c.Do(wire.Command{Opcode: wire.AdminKeepAlive}, nil); e.Status.Code() != wire.CommandSequence {
		t.Errorf("a command while disabled: %v", e.Status)
	}
	c.Do(hostile.PropertySet(hostile.Enable), nil)
	q = r.queue(alice, id, 1)
	c.Do(hostile.PropertySet(hostile.Enable|1<<14), nil)
	if got, _ := get(wire.PropertyCSTS, 0); got != wire.StatusReady|wire.StatusShutdownComplete || q.PDU() != nil {
		t.Errorf("after a shutdown: CSTS %#x", got)
	}
	if e, _ := c.Do(wire.Command{Opcode: wire.Fabrics, NSID: wire.FabricsPropertySet, CDW11: wire.PropertyCSTS}, nil); e.Status.Code() != wire.InvalidField {
		t.Errorf("CSTS written: %v", e.Status)
	}
}
