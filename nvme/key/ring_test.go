package key

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/hpke"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"nitro/nvme/volume"
	"nitro/nvme/xts"
)

// tpm is the board's TPM: a clock, and a key that signs confirmations.
type tpm struct {
	clock     uint64
	noClock   error
	noSigning error
	key       *ecdsa.PrivateKey
}

func (t *tpm) Clock() (uint64, error) { return t.clock, t.noClock }

func (t *tpm) Sign(text []byte) ([]byte, error) {
	if t.noSigning != nil {
		return nil, t.noSigning
	}
	d := sha256.Sum256(text)
	return ecdsa.SignASN1(rand.Reader, t.key, d[:])
}

func (t *tpm) verify(d [32]byte, sig []byte) error {
	if !ecdsa.VerifyASN1(&t.key.PublicKey, d[:], sig) {
		return errors.New("not the board's")
	}
	return nil
}

// rig is a board, a key service and a volume.
type rig struct {
	*Ring
	t       testing.TB
	tpm     *tpm
	memory  []byte
	service *ecdsa.PrivateKey
	key     []byte
	volume  Volume
}

// keys are made once: they are slow on the board.
var keys = sync.OnceValue(func() (k struct {
	service, tpm *ecdsa.PrivateKey
	wrapping     hpke.PrivateKey
}) {
	k.service, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.tpm, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	k.wrapping, _ = hpke.MLKEM768X25519().GenerateKey()
	return k
})

// aligned is memory that begins at a page.
func aligned(n int) []byte {
	b := make([]byte, n+PageSize)
	for i := range PageSize {
		if _, err := NewArena(b[i : i+n]); err == nil {
			return b[i : i+n]
		}
	}
	panic("no page begins in a page")
}

func newRig(t testing.TB, slots int) *rig {
	t.Helper()
	k := keys()
	r := &rig{t: t, tpm: &tpm{clock: 1_000_000, key: k.tpm}, memory: aligned(ArenaSize(slots)), service: k.service, key: make([]byte, Size)}
	a, err := NewArena(r.memory)
	if err != nil {
		t.Fatal(err)
	}
	rand.Read(r.key)
	r.volume = Volume{ID: [16]byte{1}, Commitment: Commitment(r.key), Salt: bytes.Repeat([]byte{5}, 32)}
	if r.Ring, err = NewRing(r.config(a)); err != nil {
		t.Fatal(err)
	}
	r.Begin(7)
	return r
}

func (r *rig) config(a *Arena) Config {
	return Config{Arena: a, Service: &r.service.PublicKey, AK: bytes.Repeat([]byte{0xa}, NameSize), Wrapping: keys().wrapping,
		Clock: r.tpm, Signer: r.tpm, MaxLease: time.Hour}
}

// grant is a good one for a request.
func (r *rig) grant(q Request) Grant {
	return Grant{Volume: q.Volume, Commitment: Commitment(r.key), AK: [NameSize]byte(bytes.Repeat([]byte{0xa}, NameSize)),
		Wrapping: WrappingHash(keys().wrapping.PublicKey()), Nonce: q.Nonce, Cycle: q.Cycle, Expires: q.Clock + 60_000, ID: [16]byte{9}}
}

func (r *rig) request() Request {
	r.t.Helper()
	q, err := r.Request(r.volume.ID)
	if err != nil {
		r.t.Fatal(err)
	}
	return q
}

// deliver signs a grant, wraps a key and has the ring take it.
func (r *rig) deliver(g Grant, key []byte) (*Lease, []byte, error) {
	r.t.Helper()
	signed, err := g.Sign(r.service)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.Accept(signed, r.wrap(signed, key), r.volume)
}

func (r *rig) wrap(info, key []byte) []byte {
	r.t.Helper()
	kdf, aead := suite()
	b, err := hpke.Seal(keys().wrapping.PublicKey(), kdf, aead, info, key)
	if err != nil {
		r.t.Fatal(err)
	}
	return b
}

// attach takes a good key.
func (r *rig) attach() *Lease {
	r.t.Helper()
	l, _, err := r.deliver(r.grant(r.request()), r.key)
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

// empty reports whether the arena is all zero.
func (r *rig) empty() bool { return bytes.Count(r.memory, []byte{0}) == len(r.memory) }

// has reports whether the arena has any 16 bytes of something, that are not of one value.
func (r *rig) has(secret []byte) bool {
	for i := 0; i+16 <= len(secret); i++ {
		if w := secret[i : i+16]; bytes.Count(w, w[:1]) < 16 && bytes.Contains(r.memory, w) {
			return true
		}
	}
	return false
}

// only reports whether the delivered key is in the slot, and nowhere else in the arena, and
// the working area empty.
func (r *rig) only(s *slot) bool {
	there := bytes.Equal(s.delivered[:], r.key) && *r.conf.Arena.work == (work{})
	clear(s.delivered[:])
	defer copy(s.delivered[:], r.key)
	return there && !r.has(r.key)
}

// effective is the schedule of a volume's key, by the library's HKDF.
func (r *rig) effective(salt []byte) (k xts.Key) {
	r.t.Helper()
	b, err := hkdf.Key(sha256.New, r.key, salt, "nitro volume key v1"+string(r.volume.ID[:]), 64)
	if err == nil {
		err = k.Init(b)
	}
	if err != nil || r.has(b) {
		r.t.Errorf("%v, or the effective key itself is in the arena", err)
	}
	return k
}

// TestAttach: the key that comes is HKDF of what was delivered and the salt, by the
// library's HKDF; the arena has its schedule, what was delivered, and nothing else; the
// confirmation is good.
func TestAttach(t *testing.T) {
	r := newRig(t, 2)
	g := r.grant(r.request())
	l, confirmation, err := r.deliver(g, r.key)
	if err != nil {
		t.Fatal(err)
	}
	if l.slot.key != r.effective(r.volume.Salt) {
		t.Error("another key than HKDF's")
	}
	w := r.conf.Arena.work
	if !r.only(l.slot) {
		t.Error("the arena has more than the slot's")
	}
	if copy(w.delivered[:], r.key); r.only(l.slot) {
		t.Error("a key is there and is not found")
	}
	*w = work{}
	signed, _ := g.Sign(r.service) // another signature of the same grant is another grant
	if _, err := OpenConfirmation(confirmation, signed, r.tpm.verify); err == nil {
		t.Error("a confirmation of another grant passes")
	}
	if l.Term() != (Standing{g.Volume, 7, g.Expires}) || l.standing {
		t.Errorf("%+v", l)
	}
}

func TestConfirmation(t *testing.T) {
	r := newRig(t, 1)
	g := r.grant(r.request())
	signed, _ := g.Sign(r.service)
	wrapped, err := Wrap(keys().wrapping.PublicKey(), signed, r.key)
	if err != nil {
		t.Fatal(err)
	}
	_, b, err := r.Accept(signed, wrapped, r.volume)
	if err != nil {
		t.Fatal(err)
	}
	c, err := OpenConfirmation(b, signed, r.tpm.verify)
	if err != nil || c.Volume != g.Volume || c.Nonce != g.Nonce || c.Clock != r.tpm.clock || c.Expires != g.Expires {
		t.Errorf("%+v, %v", c, err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, err := OpenConfirmation(bad, signed, r.tpm.verify); err == nil {
			t.Errorf("byte %d may be changed", i)
		}
	}
	for _, n := range []int{0, 159, MaxConfirmation + 1} {
		if _, err := OpenConfirmation(make([]byte, n), signed, func([32]byte, []byte) error { return nil }); err == nil {
			t.Errorf("%d bytes pass", n)
		}
	}
}

// TestRefused: each field wrong in turn, signed by the service all the same, and every
// other way to be wrong. Nothing is in the arena afterwards, and the nonce is spent.
func TestRefused(t *testing.T) {
	r := newRig(t, 1)
	half := bytes.Repeat(r.key[:32], 2)
	for _, c := range []struct {
		what   string
		want   error
		change func(g *Grant)
		key    []byte
	}{
		{"volume", ErrNonce, func(g *Grant) { g.Volume[3]++ }, nil},
		{"commitment", ErrCommitment, func(g *Grant) { g.Commitment[0]++ }, nil},
		{"board", ErrBoard, func(g *Grant) { g.AK[33]++ }, nil},
		{"boot", ErrBoot, func(g *Grant) { g.Wrapping[31]++ }, nil},
		{"nonce", ErrNonce, func(g *Grant) { g.Nonce[31]++ }, nil},
		{"later cycle", ErrCycle, func(g *Grant) { g.Cycle++ }, nil},
		{"earlier cycle", ErrCycle, func(g *Grant) { g.Cycle-- }, nil},
		{"expired", ErrExpired, func(g *Grant) { g.Expires = r.tpm.clock }, nil},
		{"long expired", ErrExpired, func(g *Grant) { g.Expires = 0 }, nil},
		{"too long", ErrExpired, func(g *Grant) { g.Expires = r.tpm.clock + 3_600_001 }, nil},
		{"another key", ErrCommitment, func(*Grant) {}, bytes.Repeat([]byte{1, 2}, 32)},
		{"short key", ErrWrapped, func(*Grant) {}, r.key[:63]},
		{"long key", ErrWrapped, func(*Grant) {}, append(bytes.Clone(r.key), 0)},
		{"no key", ErrWrapped, func(*Grant) {}, []byte{}},
	} {
		key := c.key
		if key == nil {
			key = r.key
		}
		q := r.request()
		g := r.grant(q)
		c.change(&g)
		if _, _, err := r.deliver(g, key); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.what, err)
		}
		if !r.empty() {
			t.Errorf("%s: the arena is not empty", c.what)
		}
		if g.Volume == q.Volume && g.Nonce == q.Nonce {
			if _, _, err := r.deliver(r.grant(q), r.key); !errors.Is(err, ErrNonce) {
				t.Errorf("%s: the nonce is good for more: %v", c.what, err)
			}
		}
	}
	other, err := r.Request([16]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.deliver(r.grant(other), r.key); !errors.Is(err, ErrVolume) {
		t.Errorf("another volume's grant: %v", err)
	}
	r.volume.Commitment = Commitment(half)
	g := r.grant(r.request())
	g.Commitment = r.volume.Commitment
	if _, _, err := r.deliver(g, half); !errors.Is(err, ErrKey) || !r.empty() {
		t.Errorf("equal halves: %v", err)
	}
	r.volume.Commitment = Commitment(r.key)
	r.volume.Salt = nil
	if _, _, err := r.deliver(r.grant(r.request()), r.key); err == nil {
		t.Error("no salt")
	}
}

// TestBytes: a signed grant of which any byte is changed, a wrapped key of which any is, and
// one that was wrapped under another grant.
func TestBytes(t *testing.T) {
	r := newRig(t, 1)
	g := r.grant(r.request())
	signed, err := g.Sign(r.service)
	if err != nil {
		t.Fatal(err)
	}
	wrapped := r.wrap(signed, r.key)
	step := 1
	if testing.Short() {
		step = 23
	}
	for i := 0; i < len(signed); i += step {
		bad := bytes.Clone(signed)
		bad[i] ^= 0x10
		if _, _, err := r.Accept(bad, wrapped, r.volume); !errors.Is(err, ErrSignature) {
			t.Errorf("grant, byte %d: %v", i, err)
		}
	}
	for _, n := range []int{0, 255, 319, 321} {
		if _, _, err := r.Accept(make([]byte, n), wrapped, r.volume); !errors.Is(err, ErrFormat) {
			t.Errorf("grant of %d bytes: %v", n, err)
		}
	}
	for i := 0; i < len(wrapped); i += 1 + len(wrapped)/(40/step+3) {
		g := r.grant(r.request())
		signed, _ := g.Sign(r.service)
		bad := r.wrap(signed, r.key)
		bad[i] ^= 1
		if _, _, err := r.Accept(signed, bad, r.volume); !errors.Is(err, ErrWrapped) || !r.empty() {
			t.Errorf("wrapped key, byte %d: %v", i, err)
		}
	}
	g = r.grant(r.request())
	other, _ := g.Sign(r.service)
	if _, _, err := r.Accept(other, wrapped, r.volume); !errors.Is(err, ErrWrapped) {
		t.Errorf("a key under another grant: %v", err)
	}
	stranger := *r
	stranger.service = keys().tpm
	if _, _, err := stranger.deliver(r.grant(r.request()), r.key); !errors.Is(err, ErrSignature) {
		t.Errorf("a stranger's grant: %v", err)
	}
}

// TestOnce: a grant is used once, in this cycle, within its time; a second request voids
// the first.
func TestOnce(t *testing.T) {
	r := newRig(t, 2)
	g := r.grant(r.request())
	if _, _, err := r.deliver(g, r.key); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.deliver(g, r.key); !errors.Is(err, ErrNonce) {
		t.Errorf("twice: %v", err)
	}
	first := r.request()
	r.request()
	if _, _, err := r.deliver(r.grant(first), r.key); !errors.Is(err, ErrNonce) {
		t.Errorf("a request that was replaced: %v", err)
	}
	late := r.grant(r.request())
	late.Expires += 3_000_000
	r.tpm.clock += uint64(RequestLife.Milliseconds()) + 1
	if _, _, err := r.deliver(late, r.key); !errors.Is(err, ErrNonce) {
		t.Errorf("late: %v", err)
	}
	g = r.grant(r.request())
	r.Begin(8)
	if _, _, err := r.deliver(g, r.key); !errors.Is(err, ErrNonce) {
		t.Errorf("asked in the cycle before: %v", err)
	}
	again, err := NewRing(r.config(r.conf.Arena)) // a restart, with the same wrapping key even
	if err != nil {
		t.Fatal(err)
	}
	again.Begin(8)
	g = r.grant(r.request())
	r.Ring = again
	if _, _, err := r.deliver(g, r.key); !errors.Is(err, ErrNonce) {
		t.Errorf("asked before a restart: %v", err)
	}
}

func TestRequests(t *testing.T) {
	r := newRig(t, 1)
	for i := range 256 {
		if _, err := r.Request([16]byte{byte(i), 1}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Request([16]byte{0, 2}); !errors.Is(err, ErrCrowded) {
		t.Error(err)
	}
	if _, err := r.Request([16]byte{5, 1}); err != nil {
		t.Error(err)
	}
	r.tpm.clock += uint64(RequestLife.Milliseconds()) + 1
	if _, err := r.Request([16]byte{0, 2}); err != nil {
		t.Error(err)
	}
}

// use puts an encrypted volume on a lease.
func (r *rig) use(l *Lease) *volume.Encrypted {
	r.t.Helper()
	ram, err := volume.NewRAM(512, 8)
	if err != nil {
		r.t.Fatal(err)
	}
	var e *volume.Encrypted
	err = l.Use(func(k *xts.Key) (User, error) {
		e, err = volume.NewEncrypted(ram, k, 1, 512)
		return e, err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	if err := e.WriteAt(r.t.Context(), 0, make([]byte, 512)); err != nil {
		r.t.Fatal(err)
	}
	return e
}

// TestEnds: whichever way a lease ends, its user is stopped and the arena is zero, where it
// was not before.
func TestEnds(t *testing.T) {
	for what, end := range map[string]func(r *rig){
		"detach":     func(r *rig) { r.Detach(r.volume.ID) },
		"cycle":      func(r *rig) { r.Begin(8) },
		"quarantine": func(r *rig) { r.Quarantine() },
		"expiry": func(r *rig) {
			r.tpm.clock += 59_999
			if ended, err := r.Expire(); err != nil || len(ended) != 0 || r.empty() {
				r.t.Errorf("expired early: %x, %v", ended, err)
			}
			r.tpm.clock++
			if ended, err := r.Expire(); err != nil || len(ended) != 1 || ended[0] != r.volume.ID {
				r.t.Errorf("%x, %v", ended, err)
			}
		},
	} {
		r := newRig(t, 3)
		l := r.attach()
		e := r.use(l)
		if r.empty() {
			t.Errorf("%s: the arena is empty before", what)
		}
		end(r)
		if !r.empty() {
			t.Errorf("%s: the arena is not empty", what)
		}
		if err := e.WriteAt(t.Context(), 0, make([]byte, 512)); !errors.Is(err, volume.ErrClosed) {
			t.Errorf("%s: the volume can be written: %v", what, err)
		}
		if err := l.Use(func(*xts.Key) (User, error) { t.Error("key given"); return nil, nil }); !errors.Is(err, ErrNoLease) {
			t.Errorf("%s: %v", what, err)
		}
		if err := r.Detach(r.volume.ID); !errors.Is(err, ErrNoLease) {
			t.Errorf("%s: %v", what, err)
		}
		_, err := r.Request(r.volume.ID)
		if quarantine := errors.Is(err, ErrQuarantine); quarantine != (what == "quarantine") {
			t.Errorf("%s: request: %v", what, err)
		}
	}
}

// TestRekey: a new salt makes another key, of which nothing is left in the working area, and
// by which the user goes on; a lease that has none afterwards has ended.
func TestRekey(t *testing.T) {
	r := newRig(t, 2)
	l := r.attach()
	if err := l.Rekey(make([]byte, 32)); !errors.Is(err, ErrNoLease) {
		t.Errorf("a key that is not in use: %v", err)
	}
	e := r.use(l)
	before, after := make([]byte, 512), make([]byte, 512)
	salt := bytes.Repeat([]byte{0x5a}, 32)
	if err := errors.Join(e.ReadAt(t.Context(), 0, before), l.Rekey(salt), e.ReadAt(t.Context(), 0, after)); err != nil {
		t.Fatal(err)
	}
	if l.slot.key != r.effective(salt) || bytes.Equal(before, after) || !r.only(l.slot) {
		t.Errorf("HKDF's key %v, another one than before %v", l.slot.key == r.effective(salt), !bytes.Equal(before, after))
	}
	if err := l.Rekey(salt[1:]); err == nil || !r.empty() || l.Held() {
		t.Errorf("a salt of 31 bytes: %v; no key is left %v", err, r.empty())
	}
	if err := e.ReadAt(t.Context(), 0, after); !errors.Is(err, volume.ErrClosed) {
		t.Errorf("read without a key: %v", err)
	}
	if err := l.Rekey(salt); !errors.Is(err, ErrNoLease) {
		t.Errorf("a lease that has ended: %v", err)
	}
}

// TestZero: all of the arena, whatever is in it, without a lock.
func TestZero(t *testing.T) {
	r := newRig(t, 2)
	r.attach()
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := testing.AllocsPerRun(3, r.conf.Arena.Zero); n != 0 || !r.empty() {
		t.Errorf("%v allocations, empty %v", n, r.empty())
	}
}

// TestFull: a full arena refuses, and takes again what was given back.
func TestFull(t *testing.T) {
	r := newRig(t, 1)
	n := len(r.conf.Arena.slots)
	for i := range n {
		r.volume.ID = [16]byte{byte(i), 1}
		r.attach()
	}
	r.volume.ID = [16]byte{0xff}
	if _, _, err := r.deliver(r.grant(r.request()), r.key); !errors.Is(err, ErrFull) {
		t.Error(err)
	}
	if err := r.Detach([16]byte{0, 1}); err != nil {
		t.Error(err)
	}
	r.attach()
}

// TestRenew: a further grant moves the end and leaves the key where it is in use.
func TestRenew(t *testing.T) {
	r := newRig(t, 1)
	l := r.attach()
	e := r.use(l)
	for r.volume.ID[1] = 1; r.conf.Arena.used[len(r.conf.Arena.used)-1] == false; r.volume.ID[1]++ {
		r.attach() // a full arena does not matter
	}
	r.volume.ID[1] = 0
	r.tpm.clock += 50_000
	g := r.grant(r.request())
	g.Standing = true
	again, _, err := r.deliver(g, r.key)
	if err != nil || again != l || !l.standing {
		t.Fatal(err, again == l, l.standing)
	}
	r.tpm.clock += 50_000
	if ended, err := r.Expire(); err != nil || len(ended) != len(r.conf.Arena.slots)-1 {
		t.Errorf("%x, %v", ended, err)
	}
	if err := e.WriteAt(t.Context(), 0, make([]byte, 512)); err != nil {
		t.Error(err)
	}
	r.Detach(r.volume.ID)
	if !r.empty() {
		t.Error("a renewed key is left")
	}
}

// TestStanding: what the store keeps, and what a restart makes of it.
func TestStanding(t *testing.T) {
	r := newRig(t, 1)
	g := r.grant(r.request())
	g.Standing = true
	if _, _, err := r.deliver(g, r.key); err != nil {
		t.Fatal(err)
	}
	list := r.Standing()
	if len(list) != 1 {
		t.Fatalf("%+v", list)
	}
	s, err := ParseStanding(list[0].Encode())
	if err != nil || s != list[0] || s.Expires != g.Expires {
		t.Errorf("%+v, %v", s, err)
	}
	a, err := NewArena(r.memory)
	if err != nil || !r.empty() {
		t.Fatal(err)
	}
	if r.Ring, err = NewRing(r.config(a)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Again(s); !errors.Is(err, ErrCycle) {
		t.Errorf("no host yet: %v", err)
	}
	r.Begin(7)
	q, err := r.Again(s)
	if err != nil || q.Volume != r.volume.ID || q.Cycle != 7 {
		t.Errorf("%+v, %v", q, err)
	}
	if _, _, err := r.deliver(r.grant(q), r.key); err != nil {
		t.Error(err)
	}
	r.tpm.clock = s.Expires
	if _, err := r.Again(s); !errors.Is(err, ErrExpired) {
		t.Errorf("over: %v", err)
	}
}

// TestNoTPM: without its clock no key comes in, and those that are there end in time; a
// confirmation that cannot be signed leaves no key.
func TestNoTPM(t *testing.T) {
	keys()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, 1)
		r.tpm.noSigning = errors.New("TPM")
		if _, _, err := r.deliver(r.grant(r.request()), r.key); err == nil || !r.empty() {
			t.Errorf("not signed: %v, empty %v", err, r.empty())
		}
		r.tpm.noSigning = nil
		r.attach()
		g := r.grant(r.request())
		for _, broken := range []func(){func() { r.tpm.noClock = errors.New("TPM") }, func() { r.tpm.noClock, r.tpm.clock = nil, 5 }} {
			broken()
			if _, err := r.Request(r.volume.ID); !errors.Is(err, ErrClock) {
				t.Error(err)
			}
			if _, _, err := r.deliver(g, r.key); !errors.Is(err, ErrClock) {
				t.Error(err)
			}
		}
		time.Sleep(59 * time.Second)
		if ended, err := r.Expire(); len(ended) != 0 || !errors.Is(err, ErrClock) {
			t.Errorf("%x, %v", ended, err)
		}
		var got [][VolumeSize]byte
		ctx := t.Context()
		go r.Watch(ctx, time.Second, func(ended [][VolumeSize]byte, err error) { got = append(got, ended...) })
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		if len(got) != 1 || !r.empty() {
			t.Errorf("ended %x, empty %v", got, r.empty())
		}
	})
}

// TestConfig: what no ring and no arena is made of.
func TestConfig(t *testing.T) {
	r := newRig(t, 1)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for i, change := range []func(c *Config){
		func(c *Config) { c.Arena = nil }, func(c *Config) { c.Service = nil }, func(c *Config) { c.AK = c.AK[1:] },
		func(c *Config) { c.MaxLease = 0 }, func(c *Config) { c.Service = &p384.PublicKey }, func(c *Config) { c.Signer = nil },
	} {
		c := r.config(r.conf.Arena)
		change(&c)
		if _, err := NewRing(c); err == nil {
			t.Errorf("configuration %d is taken", i)
		}
	}
	big := aligned(2 * ArenaSize(1))
	for _, b := range [][]byte{nil, big[:100], big[8 : ArenaSize(1)+8], big[:0]} {
		if _, err := NewArena(b); err == nil {
			t.Errorf("an arena of %d bytes is taken", len(b))
		}
	}
}

// TestPointers: slots lie in memory that the collector does not look through.
func TestPointers(t *testing.T) {
	var look func(typ reflect.Type)
	look = func(typ reflect.Type) {
		switch typ.Kind() {
		case reflect.Struct:
			for i := range typ.NumField() {
				look(typ.Field(i).Type)
			}
		case reflect.Array:
			look(typ.Elem())
		case reflect.Pointer, reflect.UnsafePointer, reflect.Slice, reflect.String, reflect.Map, reflect.Chan, reflect.Func, reflect.Interface:
			t.Errorf("a slot holds a %v", typ)
		}
	}
	look(reflect.TypeFor[slot]())
}

// FuzzParse: what parses encodes to the same.
func FuzzParse(f *testing.F) {
	g := Grant{Standing: true, Volume: [16]byte{1}, Cycle: 3, Expires: 4}
	f.Add(g.encode())
	c := Confirmation{Cycle: 5}
	f.Add(c.encode())
	s := Standing{Cycle: 6}
	f.Add(s.Encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if g, err := parseGrant(b); err == nil && !bytes.Equal(g.encode()[:grantSigned], b[:grantSigned]) {
			t.Error("grant")
		}
		if c, err := parseConfirmation(b); err == nil && !bytes.Equal(c.encode(), b) {
			t.Error("confirmation")
		}
		if s, err := ParseStanding(b); err == nil && !bytes.Equal(s.Encode(), b) {
			t.Error("standing")
		}
	})
}

// TestTrust: grants of a key service that is trusted no more are refused, leases that are
// there go on.
func TestTrust(t *testing.T) {
	r := newRig(t, 2)
	l := r.attach()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		trusted *ecdsa.PublicKey
		want    error
	}{"another": {&other.PublicKey, ErrSignature}, "none": {nil, ErrSignature}, "the same": {&r.service.PublicKey, nil}} {
		if err := r.Trust(c.trusted); err != nil {
			t.Fatal(err)
		}
		if _, _, err := r.deliver(r.grant(r.request()), r.key); !errors.Is(err, c.want) || !l.Held() {
			t.Errorf("%s: %v; the lease goes on: %v", name, err, l.Held())
		}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if r.Trust(&p384.PublicKey) == nil {
		t.Error("a key on P-384 is trusted")
	}
}
