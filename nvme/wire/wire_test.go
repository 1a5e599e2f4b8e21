package wire

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// TestDigest has the check value of CRC32C (RFC 3720, section B.4: 32 bytes of zeros).
func TestDigest(t *testing.T) {
	var b [4]byte
	PutDigest(b[:], make([]byte, 32))
	if got := hex.EncodeToString(b[:]); got != "aa36918a" {
		t.Error(got)
	}
	if !SameDigest(b[:], make([]byte, 32)) || SameDigest(b[:], make([]byte, 31)) {
		t.Error("comparison")
	}
}

// TestSetUp reads what was written, and pins both PDUs down byte by byte.
func TestSetUp(t *testing.T) {
	var b [ICSize]byte
	req := ICReq{HPDA: 3, Digest: 3, MAXR2T: 5}
	req.Encode(&b)
	if got := hex.EncodeToString(b[:16]); got != "00008000800000000000030305000000" {
		t.Error(got)
	}
	if got, err := DecodeICReq(&b); err != nil || got != req {
		t.Errorf("%+v, %v", got, err)
	}
	resp := ICResp{CPDA: 1, Digest: 2, MAXH2CDATA: 0x20000}
	resp.Encode(&b)
	if got := hex.EncodeToString(b[:16]); got != "01008000800000000000010200000200" {
		t.Error(got)
	}
	if got, err := DecodeICResp(&b); err != nil || got != resp {
		t.Errorf("%+v, %v", got, err)
	}
	for at, v := range map[int]byte{0: 0, 2: 127, 4: 127, 8: 1, 10: 32, 13: 0x01} {
		bad := b
		bad[at] = v
		if at == 13 {
			bad[12], bad[13], bad[14] = 0xfc, 0x0f, 0 // 4092
		}
		if _, err := DecodeICResp(&bad); err == nil {
			t.Errorf("byte %d of an ICResp: accepted", at)
		}
	}
}

// TestCommand pins a Read of Linux's down: 8 blocks at 0x1_2345_6789 of namespace 1.
func TestCommand(t *testing.T) {
	c := Command{Opcode: IORead, Flags: FlagSGL, CID: 0x1234, NSID: 1, Length: 4096, SGL: SGLTransport, CDW10: 0x23456789, CDW11: 1, CDW12: 7}
	var b [CommandSize]byte
	c.Encode(&b)
	want := "02403412" + "01000000" + strings.Repeat("00", 16) + "0000000000000000" + "00100000" + "0000005a" +
		"89674523" + "01000000" + "07000000" + strings.Repeat("00", 12)
	if got := hex.EncodeToString(b[:]); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	var back Command
	if back.Decode(&b); back != c || back.LBA() != 0x123456789 || back.Blocks() != 8 || back.ToController() {
		t.Errorf("%+v", back)
	}
	for _, d := range []struct {
		c  Command
		to bool
	}{{Command{Opcode: IOWrite}, true}, {Command{Opcode: IOCompare}, true}, {Command{Opcode: IODatasetManagement}, true}, {Command{Opcode: IOFlush}, false},
		{Command{Opcode: IOWriteZeroes}, false}, {Command{Opcode: AdminIdentify}, false}, {Command{Opcode: AdminSetFeatures}, true},
		{Command{Opcode: Fabrics, NSID: FabricsConnect}, true}, {Command{Opcode: Fabrics, NSID: FabricsPropertySet}, false},
		{Command{Opcode: Fabrics, NSID: FabricsAuthSend}, true}, {Command{Opcode: Fabrics, NSID: FabricsAuthReceive}, false}} {
		if d.c.ToController() != d.to {
			t.Errorf("direction of %+v", d.c)
		}
	}
	e := Completion{Result: 0x1122334455667788, SQHD: 3, SQID: 2, CID: 9, Status: LBARange | DNR}
	var eb [CompletionSize]byte
	e.Encode(eb[:])
	if got := hex.EncodeToString(eb[:]); got != "8877665544332211"+"0300"+"0200"+"0900"+"0081" {
		t.Error(got)
	}
	var eback Completion
	if eback.Decode(&eb); eback != e {
		t.Errorf("%+v", eback)
	}
}

// TestConnect pins a Connect's fields to their offsets.
func TestConnect(t *testing.T) {
	r := Connect{QID: 2, SQSize: 31, Attributes: 4, KATO: 5000, HostID: [16]byte{15: 9}, CNTLID: 0xffff, SubsystemNQN: "nqn.2014-08.a:b", HostNQN: "nqn.2014-08.c:d"}
	c := Command{CID: 3}
	var data [ConnectSize]byte
	r.Encode(&c, &data)
	var b [CommandSize]byte
	c.Encode(&b)
	if got := hex.EncodeToString(b[40:52]); got != "00000200"+"1f000400"+"88130000" || b[0] != 0x7f || b[4] != 1 || le.Uint32(b[32:]) != 1024 || b[39] != 1 {
		t.Error(got)
	}
	if data[15] != 9 || le.Uint16(data[16:]) != 0xffff || string(data[256:271]) != r.SubsystemNQN || string(data[512:527]) != r.HostNQN {
		t.Error("data")
	}
	if got := DecodeConnect(&c, &data); got != r {
		t.Errorf("%+v", got)
	}
	copy(data[512:768], bytes.Repeat([]byte{'x'}, 256))
	if got := DecodeConnect(&c, &data); got.HostNQN != "" {
		t.Error("a name without an end")
	}
}

// TestStructures reads back what the other end would.
func TestStructures(t *testing.T) {
	var b [IdentifySize]byte
	c := Controller{Serial: "S", Model: "M", Firmware: "F", MDTS: 5, CNTLID: 7, OAES: 8, CTRATT: 9, Type: 1, OACS: 2, AERL: 3, ABL: 4, LPA: 6, ELPE: 7,
		KAS: 10, SANICAP: 1, MAXCMD: 128, NN: 64, ONCS: 13, FNA: 4, VWC: 7, SGLS: 0x100001, SubsystemNQN: "nqn.2014-08.a:b", IOCCSZ: 516}
	c.Encode(&b)
	if got := DecodeController(&b); got != c {
		t.Errorf("%+v", got)
	}
	if b[512] != 0x66 || b[513] != 0x44 || le.Uint32(b[80:]) != Version || le.Uint32(b[1796:]) != 1 {
		t.Error("fixed fields")
	}
	n := Namespace{Size: 100, Used: 50, BlockShift: 12, ReadsZero: true, NGUID: [16]byte{1}}
	n.Encode(&b)
	if got := DecodeNamespace(&b); got != n {
		t.Errorf("%+v", got)
	}
	if PutNamespaces(&b, []uint32{1, 5, 9}, 1) != 2 || len(Namespaces(&b)) != 2 || Namespaces(&b)[0] != 5 {
		t.Error("namespace list")
	}
	all := make([]uint32, 2000)
	for i := range all {
		all[i] = uint32(i + 1)
	}
	if PutNamespaces(&b, all, 0) != 1024 || len(Namespaces(&b)) != 1024 {
		t.Error("a full namespace list")
	}
	e := Entry{Family: FamilyIPv4, Subtype: SubtypeNVM, PortID: 1, CNTLID: 0xffff, AdminSize: 32, Service: "4420", Address: "10.0.2.2", SubsystemNQN: "nqn.2014-08.a:b"}
	var eb [DiscoveryEntry]byte
	e.Encode(&eb)
	var back Entry
	if back.Decode(&eb); back != e {
		t.Errorf("%+v", back)
	}
	r := DecodeLogRequest(&Command{CDW10: 0x00ff8270, CDW11: 1, CDW12: 4, CDW13: 1})
	if r != (LogRequest{LID: 0x70, Retain: true, Length: (0x100ff + 1) * 4, Offset: 1<<32 + 4}) {
		t.Errorf("%+v", r)
	}
}

// TestAuthMessages reads back what the other end would.
func TestAuthMessages(t *testing.T) {
	n := Negotiate{Transaction: 1, Hashes: []byte{1, 2}, Groups: []byte{3}}
	var nb Negotiate
	if err := nb.Decode(n.Encode()); err != nil || nb.Transaction != 1 || !bytes.Equal(nb.Hashes, n.Hashes) || !bytes.Equal(nb.Groups, n.Groups) {
		t.Errorf("%+v, %v", nb, err)
	}
	c := Challenge{Transaction: 2, Hash: 1, Group: 1, Sequence: 3, Value: []byte("vvvv"), Public: []byte("ppp")}
	var cb Challenge
	if err := cb.Decode(c.Encode()); err != nil || string(cb.Value) != "vvvv" || string(cb.Public) != "ppp" || cb.Sequence != 3 {
		t.Errorf("%+v, %v", cb, err)
	}
	for _, challenge := range [][]byte{[]byte("cccc"), nil} {
		r := Reply{Transaction: 4, Sequence: 5, Response: []byte("rrrr"), Challenge: challenge, Public: []byte("pp")}
		var rb Reply
		if err := rb.Decode(r.Encode()); err != nil || string(rb.Response) != "rrrr" || !bytes.Equal(rb.Challenge, challenge) || string(rb.Public) != "pp" || rb.Sequence != 5 {
			t.Errorf("%+v, %v", rb, err)
		}
		s := Success1{Transaction: 6, Response: challenge}
		var sb Success1
		if err := sb.Decode(s.Encode(4)); err != nil || !bytes.Equal(sb.Response, challenge) {
			t.Errorf("%+v, %v", sb, err)
		}
	}
	longest := Reply{Response: make([]byte, MaxAuthValue), Challenge: make([]byte, MaxAuthValue), Public: make([]byte, MaxAuthGroup)}
	var rb Reply
	if b := longest.Encode(); len(b) != MaxAuthMessage || rb.Decode(b) != nil || rb.Decode(b[:len(b)-1]) == nil {
		t.Error("the longest message")
	}
}

func TestNQN(t *testing.T) {
	for name, good := range map[string]bool{
		"nqn.2014-08.org.nvmexpress.discovery": true, "nqn.2014-08.org.nvmexpress:uuid:x": true, "nqn.2026-01.a": true,
		"": false, "nqn.2014-08.": false, "iqn.2014-08.org.x": false, "nqn.2014.08.org.x": false, "nqn.20x4-08.org.x": false,
		"nqn.2014-08.org.\x00": false, "nqn.2014-08.org x": false, "nqn.2014-08.org.\xe4": false,
		"nqn.2014-08." + strings.Repeat("x", 211): true, "nqn.2014-08." + strings.Repeat("x", 212): false,
	} {
		if (CheckNQN(name) == nil) != good {
			t.Errorf("%q", name)
		}
	}
}

func TestStatus(t *testing.T) {
	if got := (LBARange | DNR).Error(); got != "nvme: status 0x080: LBA out of range, do not retry" {
		t.Error(got)
	}
	if (LBARange | DNR | 1<<13).Code() != LBARange {
		t.Error("code")
	}
}
