package wire

import (
	_ "embed"
	"testing"

	"nitro/internal/corpus"
)

// What the fuzzers found: see package corpus.
var (
	//go:embed testdata/headers
	keptHeaders string
	//go:embed testdata/auth
	keptAuth string
)

// FuzzCheck: whatever a header says, what is let through lies within the PDU and within
// the limits, and its digests are as agreed.
func FuzzCheck(f *testing.F) {
	corpus.Add(f, keptHeaders)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < 9 {
			return
		}
		fr := Framing{HeaderDigest: b[8]&1 != 0, DataDigest: b[8]&2 != 0, Target: b[8]&4 != 0, Alignment: uint32(b[8]>>3+1) * 4, MaxCapsule: 8192, MaxData: 131072}
		h := DecodeHeader((*[HeaderSize]byte)(b))
		start, length, err := fr.Check(h)
		if err != nil {
			if err.Status < FatalHeaderField || err.Status > FatalUnsupported || err.Field >= HeaderSize {
				t.Errorf("%+v: %v", h, err)
			}
			return
		}
		tail := uint32(0)
		if length > 0 && fr.DataDigest && h.Type != TypeH2CTermReq && h.Type != TypeC2HTermReq {
			tail = DigestSize
		}
		if uint64(start)+uint64(length)+uint64(tail) != uint64(h.PLEN) || start > 255 || start < uint32(h.HLEN) || length > 131072 ||
			h.Type == TypeCapsuleCmd && length > 8192 || length > 0 && h.Type == TypeCapsuleResp {
			t.Errorf("%+v let through: data at %d, %d bytes", h, start, length)
		}
	})
}

// FuzzAuth: a message that can be read can be written again, and means the same.
func FuzzAuth(f *testing.F) {
	corpus.Add(f, keptAuth)
	f.Fuzz(func(t *testing.T, b []byte) {
		AuthKind(b)
		var n, n2 Negotiate
		if n.Decode(b) == nil && len(n.Hashes) > 0 {
			if err := n2.Decode(n.Encode()); err != nil || string(n2.Hashes) != string(n.Hashes) || string(n2.Groups) != string(n.Groups) || n2.Transaction != n.Transaction {
				t.Errorf("%+v, again %+v, %v", n, n2, err)
			}
		}
		var c, c2 Challenge
		if c.Decode(b) == nil {
			if err := c2.Decode(c.Encode()); err != nil || string(c2.Value) != string(c.Value) || string(c2.Public) != string(c.Public) || c2.Sequence != c.Sequence {
				t.Errorf("%+v, again %+v, %v", c, c2, err)
			}
		}
		var r, r2 Reply
		if r.Decode(b) == nil {
			if err := r2.Decode(r.Encode()); err != nil || string(r2.Response) != string(r.Response) || string(r2.Challenge) != string(r.Challenge) || string(r2.Public) != string(r.Public) {
				t.Errorf("%+v, again %+v, %v", r, r2, err)
			}
		}
		var s, s2 Success1
		if s.Decode(b) == nil {
			if err := s2.Decode(s.Encode(len(s.Response))); err != nil || string(s2.Response) != string(s.Response) {
				t.Errorf("%+v, again %+v, %v", s, s2, err)
			}
		}
	})
}
