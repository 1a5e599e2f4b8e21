package wire

import "errors"

// Messages of an authentication, AUTH_ID (Base, section 8.13.3, figure 436), and the two
// kinds of them, AUTH_TYPE.
const (
	AuthCommon = 0x00
	AuthDHCHAP = 0x01

	AuthNegotiate = 0x00 // common
	AuthChallenge = 0x01
	AuthReply     = 0x02
	AuthSuccess1  = 0x03
	AuthSuccess2  = 0x04
	AuthFailure2  = 0xf0 // common, from the host
	AuthFailure1  = 0xf1 // common, from the controller
)

// Reason code explanations of a failure; the reason code is always 1, authentication
// failure (Base, section 8.13.3.2, figure 441).
const (
	AuthFailed        = 0x01
	AuthNotUsable     = 0x02 // protocol not usable
	AuthConcatenation = 0x03 // secure channel concatenation mismatch
	AuthHash          = 0x04
	AuthGroup         = 0x05
	AuthPayload       = 0x06
	AuthMessage       = 0x07
)

// Sizes in bytes.
const (
	authFixed      = 16
	authNegotiate  = 8
	authProtocol   = 64
	authIDs        = 30 // hashes at most, and groups at most
	MaxAuthValue   = 64 // a challenge or response: SHA-512
	MaxAuthGroup   = 1024
	MaxAuthMessage = authFixed + 2*MaxAuthValue + MaxAuthGroup
	minAuthMessage = 8
)

// ErrAuth says that a message of an authentication is malformed.
var ErrAuth = errors.New("nvme: malformed authentication message")

// AuthKind reads which message it is: its kind, its identifier and the transaction.
func AuthKind(b []byte) (kind, id uint8, transaction uint16, err error) {
	if len(b) < minAuthMessage {
		return 0, 0, 0, ErrAuth
	}
	return b[0], b[1], le.Uint16(b[4:]), nil
}

// authStart begins a message.
func authStart(size int, kind, id uint8, transaction uint16) []byte {
	b := make([]byte, size, MaxAuthMessage)
	b[0], b[1] = kind, id
	le.PutUint16(b[4:], transaction)
	return b
}

// A Negotiate is the first message of a transaction, by the host (figure 438).
type Negotiate struct {
	Transaction   uint16
	Concatenation uint8  // SC_C: 0 for no secure channel
	Hashes        []byte // what the host can, in its order
	Groups        []byte
}

// Encode gives the message.
func (n *Negotiate) Encode() []byte {
	b := authStart(authNegotiate+authProtocol, AuthCommon, AuthNegotiate, n.Transaction)
	b[6], b[7] = n.Concatenation, 1
	d := b[authNegotiate:]
	d[0], d[2], d[3] = AuthDHCHAP, uint8(len(n.Hashes)), uint8(len(n.Groups))
	copy(d[4:4+authIDs], n.Hashes)
	copy(d[4+authIDs:], n.Groups)
	return b
}

// Decode reads the message. Only the descriptor of DH-HMAC-CHAP counts; without one
// there are no hashes.
func (n *Negotiate) Decode(b []byte) error {
	if len(b) < authNegotiate || len(b) > MaxAuthMessage {
		return ErrAuth
	}
	*n = Negotiate{Transaction: le.Uint16(b[4:]), Concatenation: b[6]}
	count := int(b[7])
	if count == 0 || len(b) < authNegotiate+count*authProtocol {
		return ErrAuth
	}
	for i := range count {
		d := b[authNegotiate+i*authProtocol:][:authProtocol]
		if d[0] != AuthDHCHAP {
			continue
		}
		if d[2] > authIDs || d[3] > authIDs {
			return ErrAuth
		}
		n.Hashes, n.Groups = d[4:4+d[2]], d[4+authIDs:4+authIDs+d[3]]
		break
	}
	return nil
}

// A Challenge is the controller's (figure 445).
type Challenge struct {
	Transaction uint16
	Hash, Group uint8
	Sequence    uint32
	Value       []byte // as long as the hash's output
	Public      []byte // DH exponential; empty with the null group
}

// Encode gives the message.
func (c *Challenge) Encode() []byte {
	b := authStart(authFixed, AuthDHCHAP, AuthChallenge, c.Transaction)
	b[6], b[8], b[9] = uint8(len(c.Value)), c.Hash, c.Group
	le.PutUint16(b[10:], uint16(len(c.Public)))
	le.PutUint32(b[12:], c.Sequence)
	return append(append(b, c.Value...), c.Public...)
}

// Decode reads the message; the values stay in b.
func (c *Challenge) Decode(b []byte) error {
	if len(b) < authFixed || len(b) > MaxAuthMessage || b[0] != AuthDHCHAP || b[1] != AuthChallenge {
		return ErrAuth
	}
	hl, dh := int(b[6]), int(le.Uint16(b[10:]))
	if hl == 0 || hl > MaxAuthValue || dh > MaxAuthGroup || len(b) < authFixed+hl+dh {
		return ErrAuth
	}
	*c = Challenge{le.Uint16(b[4:]), b[8], b[9], le.Uint32(b[12:]), b[authFixed : authFixed+hl], b[authFixed+hl : authFixed+hl+dh]}
	return nil
}

// A Reply is the host's (figure 447).
type Reply struct {
	Transaction uint16
	Sequence    uint32
	Response    []byte
	Challenge   []byte // the host's own; empty if it does not ask the controller to authenticate
	Public      []byte
}

// Encode gives the message.
func (r *Reply) Encode() []byte {
	b := authStart(authFixed, AuthDHCHAP, AuthReply, r.Transaction)
	b[6] = uint8(len(r.Response))
	le.PutUint16(b[10:], uint16(len(r.Public)))
	le.PutUint32(b[12:], r.Sequence)
	b = append(b, r.Response...)
	if len(r.Challenge) > 0 {
		b[8] = 1 // CVALID
		b = append(b, r.Challenge...)
	} else {
		b = append(b, make([]byte, len(r.Response))...)
	}
	return append(b, r.Public...)
}

// Decode reads the message; the values stay in b.
func (r *Reply) Decode(b []byte) error {
	if len(b) < authFixed || len(b) > MaxAuthMessage || b[0] != AuthDHCHAP || b[1] != AuthReply {
		return ErrAuth
	}
	hl, dh := int(b[6]), int(le.Uint16(b[10:]))
	if hl == 0 || hl > MaxAuthValue || dh > MaxAuthGroup || len(b) < authFixed+2*hl+dh {
		return ErrAuth
	}
	*r = Reply{Transaction: le.Uint16(b[4:]), Sequence: le.Uint32(b[12:]), Response: b[authFixed : authFixed+hl],
		Public: b[authFixed+2*hl : authFixed+2*hl+dh]}
	if b[8]&1 != 0 {
		r.Challenge = b[authFixed+hl : authFixed+2*hl]
	}
	return nil
}

// A Success1 is the controller's (figure 449).
type Success1 struct {
	Transaction uint16
	Response    []byte // empty if the host did not ask for it
}

// Encode gives the message, for a hash of so many bytes.
func (s *Success1) Encode(hash int) []byte {
	b := authStart(authFixed, AuthDHCHAP, AuthSuccess1, s.Transaction)
	b[6] = uint8(hash)
	if len(s.Response) > 0 {
		b[8] = 1 // RVALID
		b = append(b, s.Response...)
	}
	return b
}

// Decode reads the message; the response stays in b.
func (s *Success1) Decode(b []byte) error {
	if len(b) < authFixed || len(b) > MaxAuthMessage || b[0] != AuthDHCHAP || b[1] != AuthSuccess1 {
		return ErrAuth
	}
	*s = Success1{Transaction: le.Uint16(b[4:])}
	if b[8]&1 == 0 {
		return nil
	}
	hl := int(b[6])
	if hl == 0 || hl > MaxAuthValue || len(b) < authFixed+hl {
		return ErrAuth
	}
	s.Response = b[authFixed : authFixed+hl]
	return nil
}

// EncodeSuccess2 gives the host's last message (figure 450).
func EncodeSuccess2(transaction uint16) []byte {
	return authStart(authFixed, AuthDHCHAP, AuthSuccess2, transaction)
}

// EncodeFailure gives a failure, AuthFailure1 or AuthFailure2, with its explanation.
func EncodeFailure(id uint8, transaction uint16, explanation uint8) []byte {
	b := authStart(minAuthMessage, AuthCommon, id, transaction)
	b[6], b[7] = 1, explanation
	return b
}
