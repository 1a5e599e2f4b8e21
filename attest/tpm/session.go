package tpm

import (
	"crypto/aes"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// A saltKey is the storage primary, to whose holder a session's salt is sent.
type saltKey struct {
	public *ecdh.PublicKey
	name   tpm2.TPM2BName
}

// Pin makes the storage primary the key that sessions are salted with, if its name is
// the one that was noted at provisioning. It answers the interposer who offers a key of
// his own: he could then open every salt, and with it every session.
func (t *TPM) Pin(name []byte) error {
	public, err := t.ReadPublic(StorageHandle)
	if err != nil {
		return err
	}
	return t.PinPublic(public, name)
}

// PinPublic does so with a public area that was just read.
func (t *TPM) PinPublic(public *tpm2.TPMTPublic, name []byte) error {
	got, err := tpm2.ObjectName(public)
	if err != nil {
		return failed("storage primary", err)
	}
	if subtle.ConstantTimeCompare(got.Buffer, name) != 1 {
		return failed(fmt.Sprintf("storage primary has the name %x, not %x", got.Buffer, name), ErrName)
	}
	parameters, err := public.Parameters.ECCDetail()
	if err != nil {
		return failed("storage primary", err)
	}
	point, err := public.Unique.ECC()
	if err != nil {
		return failed("storage primary", err)
	}
	key, err := tpm2.ECDHPub(parameters, point)
	if err != nil {
		return failed("storage primary", err)
	}
	t.salt = &saltKey{key, *got}
	return nil
}

// StorageName is the name of the pinned storage primary.
func (t *TPM) StorageName() tpm2.TPM2BName {
	if t.salt == nil {
		return tpm2.TPM2BName{}
	}
	return t.salt.name
}

// Storage is the storage primary as a command's handle, with its authorisation, which is
// empty: to be the parent of something is no secret.
func (t *TPM) Storage(s *Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: StorageHandle, Name: t.StorageName(), Auth: s.With(nil)}
}

// An Entity is something in the TPM with an authorisation.
type Entity struct {
	Handle tpm2.TPMHandle
	Name   tpm2.TPM2BName
	Auth   []byte
}

// Hierarchy is a hierarchy as an entity.
func Hierarchy(h tpm2.TPMHandle, auth []byte) Entity { return Entity{h, tpm2.HandleName(h), auth} }

// A Session is an HMAC or a policy session (TPM 2.0 library, part 1, 19). Every one is
// salted with the pinned storage primary and bound to an entity, best one whose
// authorisation the SoC's secret made. So its key is known to this TPM and to us alone:
// an answer that somebody else made up is found out (then the TPM is lost), and a
// parameter that is encrypted (AES-128-CFB) is not read on the bus.
//
// A session that the TPM has forgotten, as it does when it is reset, is never replaced
// quietly.
//
// go-tpm's own sessions are not used: they cut an authorisation at its first zero byte
// (v0.9.8, hmacKeyFromAuthValue), so that one in nine random ones fails, and leave their
// keys in memory.
type Session struct {
	tpm         *TPM
	policy      bool
	handle      tpm2.TPMHandle
	key         [sha256.Size]byte
	bound       []byte // name of the entity
	nonceCaller []byte
	nonceTPM    []byte
}

// Nonces have the size of the session's hash cut in half; part 1, 19.6.3.2 wants 16
// bytes at least.
const nonceSize = 16

// keySize is that of AES-128, and blockSize AES's.
const (
	keySize   = 16
	blockSize = aes.BlockSize
)

// NewSession starts an HMAC session that is bound to an entity.
func (t *TPM) NewSession(bind Entity) (*Session, error) { return t.start(bind, tpm2.TPMSEHMAC) }

// NewPolicySession starts a policy session.
func (t *TPM) NewPolicySession(bind Entity) (*Session, error) { return t.start(bind, tpm2.TPMSEPolicy) }

func (t *TPM) start(bind Entity, kind tpm2.TPMSE) (*Session, error) {
	if t.salt == nil {
		return nil, failed("starting a session", fmt.Errorf("the storage primary is not pinned: %w", ErrName))
	}
	s := &Session{tpm: t, policy: kind == tpm2.TPMSEPolicy, bound: bind.Name.Buffer, nonceCaller: random(nonceSize)}
	salt, sent, err := newSalt(t.salt.public)
	if err != nil {
		return nil, failed("salt of a session", err)
	}
	defer clear(salt)
	r, err := tpm2.StartAuthSession{
		TPMKey:        tpm2.NamedHandle{Handle: StorageHandle, Name: t.salt.name},
		Bind:          tpm2.NamedHandle{Handle: bind.Handle, Name: bind.Name},
		NonceCaller:   tpm2.TPM2BNonce{Buffer: s.nonceCaller},
		EncryptedSalt: tpm2.TPM2BEncryptedSecret{Buffer: sent},
		SessionType:   kind,
		Symmetric: tpm2.TPMTSymDef{
			Algorithm: tpm2.TPMAlgAES,
			KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(8*keySize)),
			Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
		},
		AuthHash: tpm2.TPMAlgSHA256,
	}.Execute(t)
	if err != nil {
		return nil, failed(fmt.Sprintf("TPM2_StartAuthSession, bound to %#x", uint32(bind.Handle)), err)
	}
	s.handle, s.nonceTPM = tpm2.TPMHandle(r.SessionHandle.HandleValue()), r.NonceTPM.Buffer
	secret := append(append([]byte{}, trim(bind.Auth)...), salt...)
	defer clear(secret)
	derived := tpm2.KDFa(hash, secret, "ATH", s.nonceTPM, s.nonceCaller, 8*sha256.Size)
	copy(s.key[:], derived)
	clear(derived)
	return s, nil
}

// newSalt makes a salt and what of it is sent (part 1, 19.6.13 and annex C.6.1: one-pass
// ECDH with a key of the moment, KDFe). The moment's key cannot be zeroed: crypto/ecdh
// has no way to.
func newSalt(to *ecdh.PublicKey) (salt, sent []byte, err error) {
	moment, err := to.Curve().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	z, err := moment.ECDH(to)
	if err != nil {
		return nil, nil, err
	}
	defer clear(z)
	const coordinate = 32
	ours, theirs := moment.PublicKey().Bytes()[1:], to.Bytes()[1:]
	salt = tpm2.KDFe(hash, z, "SECRET", ours[:coordinate], theirs[:coordinate], 8*sha256.Size)
	sent = tpm2.Marshal(tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: ours[:coordinate]}, Y: tpm2.TPM2BECCParameter{Buffer: ours[coordinate:]},
	})
	return salt, sent, nil
}

// Close flushes the session and zeroes its key. A TPM that does not know the session any
// more was reset.
func (s *Session) Close() error {
	clear(s.key[:])
	err := s.tpm.FlushHandle(s.handle)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return s.tpm.lose(fmt.Errorf("%w: %w", ErrSession, err))
	}
	return err
}

// Handle is the session's, for policy commands.
func (s *Session) Handle() tpm2.TPMHandle { return s.handle }

// Nonce is the TPM's latest, which the signer of a TPM2_PolicySigned signs.
func (s *Session) Nonce() tpm2.TPM2BNonce { return tpm2.TPM2BNonce{Buffer: s.nonceTPM} }

// With is the session as it authorises the use of something with an authorisation; nil
// where that is empty, and where the session only protects the command.
func (s *Session) With(auth []byte) *Use { return &Use{Session: s, auth: trim(auth), next: trim(auth)} }

// A Use is a session in one command. It implements go-tpm's Session.
type Use struct {
	*Session
	auth, next []byte // authorisation, and what it is after the command
	attributes tpm2.TPMASession
}

// In encrypts the command's first parameter.
func (u *Use) In() *Use { u.attributes.Decrypt = true; return u }

// Out encrypts the answer's first parameter.
func (u *Use) Out() *Use { u.attributes.Encrypt = true; return u }

// audit has a session protect a command that needs no authorisation and hides nothing.
// It unbinds the session from its entity for all that follows (the TPM keeps one of the
// two, the entity or the audit's digest; part 1, 19.6.12); its key stays what it is.
func (u *Use) audit() *Use { u.attributes.Audit = true; return u }

// Becomes says that the command changes the authorisation, with which the TPM
// authenticates its answer then.
func (u *Use) Becomes(auth []byte) *Use { u.next = trim(auth); return u }

// Init has nothing to do: the session is there.
func (u *Use) Init(transport.TPM) error { return nil }

// CleanupFailure has nothing to do: the session goes on after a refusal.
func (u *Use) CleanupFailure(transport.TPM) error { return nil }

// NonceTPM implements go-tpm's Session.
func (u *Use) NonceTPM() tpm2.TPM2BNonce { return u.Nonce() }

// NewNonceCaller implements go-tpm's Session.
func (u *Use) NewNonceCaller() error {
	_, err := rand.Read(u.nonceCaller)
	return err
}

// IsEncryption implements go-tpm's Session.
func (u *Use) IsEncryption() bool { return u.attributes.Encrypt }

// IsDecryption implements go-tpm's Session.
func (u *Use) IsDecryption() bool { return u.attributes.Decrypt }

// Handle implements go-tpm's Session.
func (u *Use) Handle() tpm2.TPMHandle { return u.handle }

// Authorize implements go-tpm's Session (part 1, 19.6.5).
func (u *Use) Authorize(code tpm2.TPMCC, parameters, more []byte, names []tpm2.TPM2BName, index int) (*tpm2.TPMSAuthCommand, error) {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(code)))
	for _, n := range names {
		h.Write(n.Buffer)
	}
	h.Write(parameters)
	attributes := u.attributes
	attributes.ContinueSession = true
	return &tpm2.TPMSAuthCommand{
		Handle: u.handle, Nonce: tpm2.TPM2BNonce{Buffer: u.nonceCaller}, Attributes: attributes,
		Authorization: tpm2.TPM2BData{Buffer: u.hmac(u.omits(names, index), u.auth, h.Sum(nil), u.nonceCaller, u.nonceTPM, more, attributes)},
	}, nil
}

// Validate implements go-tpm's Session. An answer that is not authentic loses the TPM.
func (u *Use) Validate(rc tpm2.TPMRC, code tpm2.TPMCC, parameters []byte, names []tpm2.TPM2BName, index int, auth *tpm2.TPMSAuthResponse) error {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(rc)))
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(code)))
	h.Write(parameters)
	// An entity whose authorisation has changed is not the one any more that the
	// session is bound to.
	bound := u.omits(names, index) && subtle.ConstantTimeCompare(u.auth, u.next) == 1
	want := u.hmac(bound, u.next, h.Sum(nil), auth.Nonce.Buffer, u.nonceCaller, nil, auth.Attributes)
	if !hmac.Equal(want, auth.Authorization.Buffer) || !auth.Attributes.ContinueSession {
		return u.tpm.lose(fmt.Errorf("%w: answer to %#x", ErrSession, uint32(code)))
	}
	u.nonceTPM = auth.Nonce.Buffer
	if u.attributes.Audit {
		u.bound = nil
	}
	return nil
}

// omits reports whether the HMAC goes without the authorisation: that of the entity to
// which an HMAC session is bound is in the session's key already.
func (u *Use) omits(names []tpm2.TPM2BName, index int) bool {
	return !u.policy && index < len(names) && subtle.ConstantTimeCompare(names[index].Buffer, u.bound) == 1
}

func (u *Use) hmac(bound bool, auth, parameters, newer, older, more []byte, attributes tpm2.TPMASession) []byte {
	key := append([]byte{}, u.key[:]...)
	if !bound {
		key = append(key, auth...)
	}
	defer clear(key)
	m := hmac.New(sha256.New, key)
	for _, p := range [][]byte{parameters, newer, older, more, {attributeByte(attributes)}} {
		m.Write(p)
	}
	return m.Sum(nil)
}

// attributeByte is TPMA_SESSION (part 2, 8.4) as it goes over the bus.
func attributeByte(a tpm2.TPMASession) (b byte) {
	for bit, set := range [...]bool{0: a.ContinueSession, 1: a.AuditExclusive, 2: a.AuditReset, 5: a.Decrypt, 6: a.Encrypt, 7: a.Audit} {
		if set {
			b |= 1 << bit
		}
	}
	return b
}

// Encrypt implements go-tpm's Session: it encrypts a command's parameter in place.
func (u *Use) Encrypt(p []byte) error {
	if !u.attributes.Decrypt {
		return nil
	}
	return u.cfb(p, u.nonceCaller, u.nonceTPM, u.auth, true)
}

// Decrypt implements go-tpm's Session: it decrypts an answer's parameter in place.
func (u *Use) Decrypt(p []byte) error {
	if !u.attributes.Encrypt {
		return nil
	}
	return u.cfb(p, u.nonceTPM, u.nonceCaller, u.next, false)
}

// cfb is part 1, 21.3: AES in CFB mode with a key and a start of the moment.
func (u *Use) cfb(p, newer, older, auth []byte, encrypt bool) error {
	secret := append(append([]byte{}, u.key[:]...), auth...)
	defer clear(secret)
	derived := tpm2.KDFa(hash, secret, "CFB", newer, older, 8*(keySize+blockSize))
	defer clear(derived)
	block, err := aes.NewCipher(derived[:keySize])
	if err != nil {
		return err
	}
	var last, mask [blockSize]byte
	copy(last[:], derived[keySize:])
	for len(p) > 0 {
		block.Encrypt(mask[:], last[:])
		n := min(len(p), blockSize)
		if !encrypt {
			copy(last[:], p[:n])
		}
		subtle.XORBytes(p[:n], p[:n], mask[:n])
		if encrypt {
			copy(last[:], p[:n])
		}
		p = p[n:]
	}
	clear(mask[:])
	clear(last[:])
	return nil
}

// trim takes trailing zeros off an authorisation, as the TPM does (part 1, 19.6.4.3).
func trim(auth []byte) []byte {
	n := len(auth)
	for n > 0 && auth[n-1] == 0 {
		n--
	}
	return auth[:n]
}

// random gives random bytes. The kernel's generator never fails.
func random(n int) []byte {
	p := make([]byte, n)
	rand.Read(p)
	return p
}
