package key

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/attest/sha256"
	"nitro/nvme/xts"
)

// RequestLife is how long a request may be answered.
const RequestLife = 10 * time.Minute

// maxRequests bounds what waits: a pool has no more volumes.
const maxRequests = 256

// Errors of the board's state.
var (
	ErrClock      = errors.New("key: the TPM's clock cannot be read: no key is taken without it")
	ErrQuarantine = errors.New("key: the board is in quarantine: see its code")
	ErrNoLease    = errors.New("key: no lease of this volume")
	ErrCrowded    = fmt.Errorf("key: %d requests wait: try again in %v", maxRequests, RequestLife)
)

// A Signer signs the SHA-256 of confirmations, with a key that the service knows the
// board by. It gets the text: a TPM's attestation key signs only what the TPM has hashed.
type Signer interface {
	Sign(text []byte) ([]byte, error)
}

// A Clock is the TPM's: milliseconds (TPMS_CLOCK_INFO.clock), which never go back.
type Clock interface {
	Clock() (uint64, error)
}

// A Config is what a ring rests on.
type Config struct {
	Arena    *Arena           // the ring's alone
	Service  *ecdsa.PublicKey // of the key service, from the configuration: P-256
	AK       []byte           // TPM name of the board's attestation key
	Wrapping hpke.PrivateKey  // of this boot, MLKEM768-X25519
	// Recipient is this boot's for envelopes; nil where none are taken.
	Recipient *Recipient
	Clock     Clock
	Signer    Signer
	MaxLease  time.Duration // the longest that a grant may last
}

// A Ring holds the board's keys. Its methods may run at the same time.
type Ring struct {
	conf     Config
	wrapping [32]byte // hash of its public key

	mu         sync.Mutex
	cycle      uint64
	quarantine bool
	requests   map[[VolumeSize]byte]Request
	leases     map[[VolumeSize]byte]*Lease
	last       uint64    // the TPM's clock when it last answered
	lastAt     time.Time // and ours
}

// NewRing makes a ring without keys, for host cycle 0.
func NewRing(c Config) (*Ring, error) {
	switch {
	case c.Arena == nil || c.Service == nil || c.Wrapping == nil || c.Clock == nil || c.Signer == nil || c.MaxLease < time.Second:
		return nil, errors.New("key: a ring needs an arena, the service's key, this boot's, a clock, a signer, and a longest lease of a second at least")
	case c.Service.Curve != elliptic.P256():
		return nil, errors.New("key: the key service's key must be on P-256")
	case len(c.AK) != NameSize:
		return nil, fmt.Errorf("key: an AK name of %d bytes, not %d", len(c.AK), NameSize)
	}
	return &Ring{conf: c, wrapping: WrappingHash(c.Wrapping.PublicKey()),
		requests: map[[VolumeSize]byte]Request{}, leases: map[[VolumeSize]byte]*Lease{}}, nil
}

// Trust has grants come from another key service from now on, or from none (nil). Leases
// that are there go on to their ends; what the old service signs is refused.
func (r *Ring) Trust(service *ecdsa.PublicKey) error {
	if service != nil && service.Curve != elliptic.P256() {
		return errors.New("key: the key service's key must be on P-256")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.conf.Service = service
	return nil
}

// A Volume is what the volume's metadata says, which the key must fit.
type Volume struct {
	ID         [VolumeSize]byte
	Commitment [32]byte
	Salt       []byte // erase salt, 32 bytes
}

// A Request is what the board asks the key service for, beside its evidence.
type Request struct {
	Volume       [VolumeSize]byte
	Nonce        [NonceSize]byte
	Cycle, Clock uint64 // host cycle; TPM's clock when it was made, ms
	Wrapping     []byte // public half of this boot's wrapping key, as RFC 9180 serialises it
}

// A User is what encrypts with a key: [volume.Encrypted].
type User interface {
	// Forget returns when the key is used no more, soon: it waits for no device.
	Forget()
	// Pause calls a function, as soon, while nothing is encrypted or decrypted.
	Pause(func())
}

// A Lease is a key that is there.
type Lease struct {
	ring     *Ring
	term     Standing
	standing bool
	slot     *slot // nil when it has ended
	user     User
}

// Term tells for which volume and host cycle the lease is, and when it ends unless it is
// renewed.
func (l *Lease) Term() Standing {
	l.ring.mu.Lock()
	defer l.ring.mu.Unlock()
	return l.term
}

// Standing reports whether the lease may be asked for again after a restart.
func (l *Lease) Standing() bool {
	l.ring.mu.Lock()
	defer l.ring.mu.Unlock()
	return l.standing
}

// Left is how long a lease will last; 0 if it has ended.
func (r *Ring) Left(l *Lease) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.last + uint64(time.Since(r.lastAt).Milliseconds())
	if l.slot == nil || l.term.Expires <= now {
		return 0
	}
	return time.Duration(l.term.Expires-now) * time.Millisecond
}

// Held reports whether the key is still there.
func (l *Lease) Held() bool {
	l.ring.mu.Lock()
	defer l.ring.mu.Unlock()
	return l.slot != nil
}

// now reads the TPM's clock. If the TPM does not answer, time goes on from its last
// answer, and the error says so.
func (r *Ring) now() (uint64, error) {
	t, err := r.conf.Clock.Clock()
	if err == nil && t >= r.last {
		r.last, r.lastAt = t, time.Now()
		return t, nil
	}
	if err == nil {
		err = fmt.Errorf("it went back from %d to %d ms", r.last, t)
	}
	if r.lastAt.IsZero() {
		return 0, fmt.Errorf("%w: %w", ErrClock, err)
	}
	return r.last + uint64(time.Since(r.lastAt).Milliseconds()), fmt.Errorf("%w: %w", ErrClock, err)
}

// Request asks for a volume's key. An earlier request for it is void.
func (r *Ring) Request(volume [VolumeSize]byte) (Request, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.quarantine {
		return Request{}, ErrQuarantine
	}
	now, err := r.now()
	if err != nil {
		return Request{}, err
	}
	for v, q := range r.requests {
		if now-q.Clock > uint64(RequestLife.Milliseconds()) {
			delete(r.requests, v)
		}
	}
	if _, again := r.requests[volume]; !again && len(r.requests) >= maxRequests {
		return Request{}, ErrCrowded
	}
	q := Request{Volume: volume, Cycle: r.cycle, Clock: now, Wrapping: r.conf.Wrapping.PublicKey().Bytes()}
	rand.Read(q.Nonce[:])
	r.requests[volume] = q
	return q, nil
}

// Accept takes a key, and gives the lease and the signed confirmation for the service. A
// volume that has a lease keeps its key, and gets the grant's end.
func (r *Ring) Accept(grant, wrapped []byte, v Volume) (*Lease, []byte, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	g, now, err := r.judge(grant, &v)
	if err != nil {
		return nil, nil, err
	}
	l := r.leases[v.ID]
	if l != nil {
		err = r.conf.Arena.load(r.opener(g, grant, wrapped), &v, nil)
	} else if l, err = r.newLease(v.ID); err == nil {
		err = r.conf.Arena.load(r.opener(g, grant, wrapped), &v, l.slot)
	}
	var confirmation []byte
	if err == nil {
		confirmation, err = r.confirm(grant, g, now)
	}
	if err != nil {
		if l != nil && l.term.Expires == 0 {
			r.end(l)
		}
		return nil, nil, fmt.Errorf("key: volume %x: %w", v.ID, err)
	}
	l.term.Cycle, l.term.Expires, l.standing = g.Cycle, g.Expires, g.Standing
	return l, confirmation, nil
}

// newLease is one without a key, whose end is 0 until it has one.
func (r *Ring) newLease(volume [VolumeSize]byte) (*Lease, error) {
	s, err := r.conf.Arena.take()
	if err != nil {
		return nil, err
	}
	l := &Lease{term: Standing{Volume: volume}, ring: r, slot: s}
	r.leases[volume] = l
	return l, nil
}

// judge holds a grant to all that docs/grant.md, "The way of a key", says, but for the key.
func (r *Ring) judge(grant []byte, v *Volume) (*Grant, uint64, error) {
	if r.quarantine {
		return nil, 0, ErrQuarantine
	}
	if r.conf.Service == nil {
		return nil, 0, fmt.Errorf("key: no key service is trusted: %w", ErrSignature)
	}
	g, err := OpenGrant(grant, r.conf.Service)
	if err != nil {
		return nil, 0, err
	}
	now, err := r.now()
	if err != nil {
		return nil, 0, err
	}
	// The nonce first: whatever is wrong with the rest, it is spent.
	q, asked := r.requests[g.Volume]
	if asked = asked && subtle.ConstantTimeCompare(q.Nonce[:], g.Nonce[:]) == 1; asked {
		delete(r.requests, g.Volume)
	}
	switch {
	case g.AK != [NameSize]byte(r.conf.AK):
		err = ErrBoard
	case g.Wrapping != r.named(&g):
		err = ErrBoot
	case !asked || now-q.Clock > uint64(RequestLife.Milliseconds()):
		err = ErrNonce
	case g.Volume != v.ID:
		err = ErrVolume
	case g.Cycle != r.cycle || q.Cycle != r.cycle:
		err = ErrCycle
	case g.Expires <= now || g.Expires-now > uint64(r.conf.MaxLease.Milliseconds()):
		err = ErrExpired
	case subtle.ConstantTimeCompare(g.Commitment[:], v.Commitment[:]) != 1:
		err = ErrCommitment
	case len(v.Salt) != len(work{}.salt):
		err = fmt.Errorf("an erase salt of %d bytes", len(v.Salt))
	}
	if err != nil {
		return nil, 0, fmt.Errorf("key: grant %x for volume %x: %w", g.ID, g.Volume, err)
	}
	return &g, now, nil
}

// named is the hash of the key that a grant of this form must name. Without a recipient
// key it is zero, which no key's is.
func (r *Ring) named(g *Grant) [32]byte {
	if !g.CMS {
		return r.wrapping
	}
	_, hash := r.conf.Recipient.private()
	return hash
}

// opener opens what a judged grant came with.
func (r *Ring) opener(g *Grant, grant, wrapped []byte) opener {
	if !g.CMS {
		return opener{func(w *work) (int, error) { return 1, w.open(r.conf.Wrapping, grant, wrapped) }, ErrCommitment}
	}
	return opener{func(w *work) (int, error) {
		k, _ := r.conf.Recipient.private()
		if k == nil {
			return 0, ErrBoot
		}
		return w.openEnvelope(k, wrapped)
	}, ErrEnvelope}
}

// confirm signs that the key is here.
func (r *Ring) confirm(grant []byte, g *Grant, now uint64) ([]byte, error) {
	c := Confirmation{Grant: sha256.Sum256(grant), Volume: g.Volume, Nonce: g.Nonce, AK: g.AK, Cycle: g.Cycle, Expires: g.Expires, Clock: now}
	b := c.encode()
	sig, err := r.conf.Signer.Sign(confirmationText(b))
	if err == nil && len(sig) > MaxConfirmation-confirmationSize {
		err = fmt.Errorf("a signature of %d bytes", len(sig))
	}
	if err != nil {
		return nil, fmt.Errorf("signing the confirmation: %w", err)
	}
	return append(b, sig...), nil
}

// Use gives the key to what encrypts with it, which forgets it when the lease ends and
// before the key goes; so nothing is encrypted with half a key. It happens once a lease.
func (l *Lease) Use(open func(*xts.Key) (User, error)) error {
	l.ring.mu.Lock()
	defer l.ring.mu.Unlock()
	if l.slot == nil || l.user != nil {
		return fmt.Errorf("%w, or it is in use: %x", ErrNoLease, l.term.Volume)
	}
	u, err := open(&l.slot.key)
	if err == nil {
		l.user = u
	}
	return err
}

// Rekey makes the lease's key that of its volume's new erase salt, of the key that was
// delivered. The old one is overwritten. After an error the lease has ended.
func (l *Lease) Rekey(salt []byte) error {
	r := l.ring
	r.mu.Lock()
	defer r.mu.Unlock()
	v := Volume{ID: l.term.Volume, Salt: salt}
	switch {
	case l.slot == nil || l.user == nil:
		return fmt.Errorf("%w, or it is not in use: %x", ErrNoLease, v.ID)
	case len(salt) != len(work{}.salt):
		r.end(l)
		return fmt.Errorf("key: volume %x: an erase salt of %d bytes", v.ID, len(salt))
	}
	var err error
	l.user.Pause(func() { err = r.conf.Arena.again(&v, l.slot) })
	if err != nil {
		r.end(l)
		return fmt.Errorf("key: volume %x: %w", v.ID, err)
	}
	return nil
}

// end zeroes a lease's key.
func (r *Ring) end(l *Lease) {
	if l.user != nil {
		l.user.Forget()
	}
	r.conf.Arena.give(l.slot)
	l.slot = nil
	delete(r.leases, l.term.Volume)
}

// Detach ends a volume's lease, and voids a request that waits: it answers the grant that is
// on its way when somebody takes the volume's key away.
func (r *Ring) Detach(volume [VolumeSize]byte) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.requests, volume)
	l := r.leases[volume]
	if l == nil {
		return fmt.Errorf("%w: %x", ErrNoLease, volume)
	}
	r.end(l)
	return nil
}

// endAll ends leases, and gives their volumes.
func (r *Ring) endAll(which func(*Lease) bool) (ended [][VolumeSize]byte) {
	for v, l := range r.leases {
		if which(l) {
			r.end(l)
			ended = append(ended, v)
		}
	}
	return ended
}

func all(*Lease) bool { return true }

// Begin begins a host cycle: keys and requests of another one end. It gives the volumes
// whose keys are gone.
func (r *Ring) Begin(cycle uint64) (ended [][VolumeSize]byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if cycle == r.cycle {
		return nil
	}
	r.cycle = cycle
	clear(r.requests)
	return r.endAll(all)
}

// Expire ends the leases whose time is over, and gives their volumes. It is called every
// few seconds; see [Ring.Watch]. When the TPM does not answer, which the error says, it
// goes by the processor's clock.
func (r *Ring) Expire() (ended [][VolumeSize]byte, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now, err := r.now()
	return r.endAll(func(l *Lease) bool { return l.term.Expires <= now }), err
}

// Watch calls Expire until the context ends, and report for each that ended a lease or
// failed.
func (r *Ring) Watch(ctx context.Context, every time.Duration, report func(ended [][VolumeSize]byte, err error)) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if ended, err := r.Expire(); len(ended) > 0 || err != nil {
				report(ended, err)
			}
		}
	}
}

// Quarantine ends all leases for good: no key is taken any more in this boot.
func (r *Ring) Quarantine() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quarantine = true
	clear(r.requests)
	r.endAll(all)
	r.conf.Arena.Zero()
}

// Standing lists the leases that may be asked for again after a restart, for the store.
func (r *Ring) Standing() (list []Standing) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.leases {
		if l.standing {
			list = append(list, l.term)
		}
	}
	return list
}

// Again asks for a standing lease after a restart. One of another host cycle, or whose
// time is over, is refused: what is kept of it can be deleted.
func (r *Ring) Again(s Standing) (Request, error) {
	r.mu.Lock()
	now, err := r.now()
	cycle := r.cycle
	r.mu.Unlock()
	switch {
	case err != nil:
		return Request{}, err
	case s.Cycle != cycle:
		return Request{}, fmt.Errorf("key: standing lease of volume %x: %w", s.Volume, ErrCycle)
	case s.Expires <= now:
		return Request{}, fmt.Errorf("key: standing lease of volume %x: %w", s.Volume, ErrExpired)
	}
	return r.Request(s.Volume)
}
