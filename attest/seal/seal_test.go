package seal_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"maps"
	"sync"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/eventlog"
	"nitro/attest/identity"
	"nitro/attest/nv"
	"nitro/attest/seal"
	"nitro/attest/tpm"
	"nitro/internal/provisioned"
)

// keys of authorities; making the RSA one takes a while.
var keys = sync.OnceValue(func() (k struct {
	p384, otherP384 *ecdsa.PrivateKey
	rsa, otherRSA   *rsa.PrivateKey
}) {
	var err [4]error
	k.p384, err[0] = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	k.otherP384, err[1] = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	k.rsa, err[2] = rsa.GenerateKey(rand.Reader, 3072)
	k.otherRSA, err[3] = rsa.GenerateKey(rand.Reader, 3072)
	if e := errors.Join(err[:]...); e != nil {
		panic(e)
	}
	return k
})

func authorities() seal.Authorities {
	return seal.Authorities{P384: []crypto.PublicKey{keys().p384.Public()}, RSA3072: []crypto.PublicKey{keys().rsa.Public()}}
}

// good is what a good boot measures: one event a PCR.
var good = map[uint]tpm.Digest{0: {10}, 1: {11}, 2: {12}, 7: {17}}

func with(pcr uint, d tpm.Digest) map[uint]tpm.Digest {
	m := maps.Clone(good)
	m[pcr] = d
	return m
}

// release predicts what a boot's measurements make of the PCRs.
func release(m map[uint]tpm.Digest, securityVersion uint32) seal.Release {
	pcr := func(n uint) tpm.Digest { return tpm.Extended(tpm.Digest{}, m[n]) }
	return seal.Release{PCR0: pcr(0), PCR2: pcr(2), PCR7: pcr(7), SecurityVersion: securityVersion}
}

func approve(t *testing.T, p384 *ecdsa.PrivateKey, r *rsa.PrivateKey, what seal.Release) (all []seal.Approval) {
	t.Helper()
	for _, k := range []seal.Kind{seal.P384, seal.RSA3072, seal.Canary} {
		var signer crypto.Signer = p384
		if k == seal.RSA3072 {
			signer = r
		}
		a, err := seal.Approve(signer, k, what)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	return all
}

// A vault is a board with sealed secrets, approved for a good boot at security version 3.
type vault struct {
	*provisioned.Board
	set           *seal.Set
	first, second [seal.SecretSize]byte
}

func newVault(t *testing.T) *vault {
	t.Helper()
	v := &vault{Board: provisioned.New(t), set: &seal.Set{Approvals: approve(t, keys().p384, keys().rsa, release(good, 3))}}
	var err error
	b := v.Boot(t, good)
	if v.set.Objects, v.first, v.second, err = b.Door.SealNew(authorities()); err != nil {
		t.Fatal(err)
	}
	return v
}

// copy is another board with the same TPM state.
func (v *vault) copy() *vault {
	board := *v.Board
	board.Chip = v.Chip.Clone()
	c := *v
	c.Board = &board
	return &c
}

func (v *vault) opens(t *testing.T, b *provisioned.Boot) {
	t.Helper()
	first, second, err := b.Door.Unseal(v.set, authorities())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, v.first[:]) || !bytes.Equal(second, v.second[:]) {
		t.Error("the secrets are others")
	}
}

// TestUnseal: a good boot unseals, once, and can show that the next one will.
func TestUnseal(t *testing.T) {
	v := newVault(t)
	b := v.Boot(t, good)
	before := v.Chip.Commands()
	v.opens(t, b)
	t.Logf("%d commands to unseal both and cap", v.Chip.Commands()-before)
	if _, _, err := b.Door.Unseal(v.set, authorities()); !errors.Is(err, seal.ErrNotApproved) {
		t.Errorf("a second time in this boot: %v", err)
	}
	b = v.Boot(t, good)
	v.opens(t, b)
	r := release(good, 3)
	if err := b.Door.Check(v.set, authorities(), r.PCR7); err != nil {
		t.Errorf("check: %v", err)
	}
	if err := v.set.Covers(authorities(), r, tpm.Extended(tpm.Digest{}, good[1])); err != nil {
		t.Errorf("covers: %v", err)
	}
	v.opens(t, v.Boot(t, good))
}

// TestNotUnsealed: everything that must keep the door shut.
func TestNotUnsealed(t *testing.T) {
	made := newVault(t)
	other := authorities()
	other.P384 = []crypto.PublicKey{keys().otherP384.Public()}
	for _, c := range []struct {
		name     string
		measured map[uint]tpm.Digest
		change   func(*vault, *provisioned.Boot)
		keys     seal.Authorities
		want     error
	}{
		{"PCR 0", with(0, tpm.Digest{9}), nil, authorities(), seal.ErrNotApproved},
		{"PCR 1", with(1, tpm.Digest{9}), nil, authorities(), seal.ErrAuthority},
		{"PCR 2", with(2, tpm.Digest{9}), nil, authorities(), seal.ErrNotApproved},
		{"PCR 7", with(7, tpm.Digest{9}), nil, authorities(), seal.ErrNotApproved},
		{"floor above", good, func(_ *vault, b *provisioned.Boot) { check(t, b.NV.RaiseFloor(4)) }, authorities(), seal.ErrFloor},
		{"another authority", good, nil, other, seal.ErrAuthority},
		{"one approval missing", good, func(v *vault, _ *provisioned.Boot) { v.drop(seal.RSA3072) }, authorities(), seal.ErrNotApproved},
		{"the other missing", good, func(v *vault, _ *provisioned.Boot) { v.drop(seal.P384) }, authorities(), seal.ErrNotApproved},
		{"signed by another", good, func(v *vault, _ *provisioned.Boot) {
			v.set.Approvals = approve(t, keys().otherP384, keys().otherRSA, release(good, 3))
		}, authorities(), seal.ErrSignature},
		{"one stolen key", good, func(v *vault, _ *provisioned.Boot) {
			v.set.Approvals = approve(t, keys().p384, keys().otherRSA, release(good, 3))
		}, authorities(), seal.ErrSignature},
		{"higher version claimed", good, func(v *vault, b *provisioned.Boot) {
			check(t, b.NV.RaiseFloor(4))
			for i := range v.set.Approvals { // of an old release, dressed up
				v.set.Approvals[i].SecurityVersion = 4
				v.set.Approvals[i].Policy = must(release(good, 4).Policy(v.set.Approvals[i].Kind))
			}
		}, authorities(), seal.ErrSignature},
		{"canary's approval", with(7, tpm.Digest{9}), func(v *vault, b *provisioned.Boot) {
			for i := range v.set.Approvals {
				v.set.Approvals[i] = v.set.Approvals[2]
			}
		}, authorities(), seal.ErrNotApproved},
		{"no secret of the SoC", good, func(_ *vault, b *provisioned.Boot) {
			b.Door.SoC = make([]byte, tpm.AuthSize)
		}, authorities(), seal.ErrRefused},
	} {
		v := made.copy()
		set := *v.set
		set.Approvals = append([]seal.Approval{}, v.set.Approvals...)
		v.set = &set
		b := v.Boot(t, c.measured)
		if c.change != nil {
			c.change(v, b)
		}
		if first, second, err := b.Door.Unseal(v.set, c.keys); !errors.Is(err, c.want) || first != nil || second != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		if n, err := b.T.Property(tpm2.TPMPTLockoutCounter); n != 0 || err != nil {
			t.Errorf("%s: %d failures are counted, %v", c.name, n, err)
		}
		v.Chip.Cut()
	}
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func must(d tpm.Digest, err error) tpm.Digest {
	if err != nil {
		panic(err)
	}
	return d
}

func (v *vault) drop(k seal.Kind) {
	var kept []seal.Approval
	for _, a := range v.set.Approvals {
		if a.Kind != k {
			kept = append(kept, a)
		}
	}
	v.set.Approvals = kept
}

// TestCanaryApproval: what is signed for the canary, with the cap in it, opens no secret
// behind the cap, whoever relabels it. (Its policyRef is in what is signed.)
func TestCanaryApproval(t *testing.T) {
	v := newVault(t)
	b := v.Boot(t, good)
	check(t, b.Door.Cap())
	var canary seal.Approval
	for _, a := range v.set.Approvals {
		if a.Kind == seal.Canary {
			canary = a
		}
	}
	capped := release(good, 3)
	capped.PCR7 = tpm.Extended(capped.PCR7, eventlog.Cap().Digest())
	canary.Kind, canary.Ref = seal.P384, seal.P384.Ref()
	if canary.Policy != must(capped.Policy(seal.P384)) {
		t.Fatal("the canary's approval is not for the capped PCR 7: this test tests nothing")
	}
	v.set.Approvals = append(v.set.Approvals, canary)
	if _, _, err := b.Door.Unseal(v.set, authorities()); !errors.Is(err, seal.ErrSignature) {
		t.Error(err)
	}
}

// TestCheckFails: each thing that would keep the next boot from unsealing is found.
func TestCheckFails(t *testing.T) {
	made := newVault(t)
	uncapped := release(good, 3).PCR7
	for _, c := range []struct {
		name   string
		change func(*vault, *provisioned.Boot)
		want   error
	}{
		{"floor raised", func(_ *vault, b *provisioned.Boot) { check(t, b.NV.RaiseFloor(4)) }, seal.ErrFloor},
		{"approval lost", func(v *vault, _ *provisioned.Boot) { v.drop(seal.RSA3072) }, seal.ErrNotApproved},
		{"canary's lost", func(v *vault, _ *provisioned.Boot) { v.drop(seal.Canary) }, seal.ErrNotApproved},
		{"approval damaged", func(v *vault, _ *provisioned.Boot) {
			a := &v.set.Approvals[1]
			a.Signature = append([]byte{}, a.Signature...)
			a.Signature[len(a.Signature)-1] ^= 1
		}, seal.ErrSignature},
		{"object damaged", func(v *vault, _ *provisioned.Boot) {
			o := &v.set.Objects[1]
			o.Private = append([]byte{}, o.Private...)
			o.Private[len(o.Private)-1] ^= 1
		}, seal.ErrRefused},
		{"no secret of the SoC", func(_ *vault, b *provisioned.Boot) { b.Door.SoC = make([]byte, tpm.AuthSize) }, seal.ErrRefused},
	} {
		v := made.copy()
		set := *v.set
		set.Approvals = append([]seal.Approval{}, v.set.Approvals...)
		set.Objects = append([]seal.Object{}, v.set.Objects...)
		v.set = &set
		b := v.Boot(t, good)
		v.opens(t, b)
		c.change(v, b)
		if err := b.Door.Check(v.set, authorities(), uncapped); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		v.Chip.Cut()
	}
	b := made.Boot(t, good)
	if err := b.Door.Check(made.set, authorities(), uncapped); !errors.Is(err, seal.ErrCapped) {
		t.Errorf("without a cap: %v", err)
	}
}

// TestUpdate: a new release's approvals beside the old ones; the floor moves when both
// slots are new, and then the old release is out for ever.
func TestUpdate(t *testing.T) {
	v := newVault(t)
	next := with(2, tpm.Digest{99})
	pcr1 := tpm.Extended(tpm.Digest{}, good[1])
	if err := v.set.Covers(authorities(), release(next, 4), pcr1); !errors.Is(err, seal.ErrNotApproved) {
		t.Errorf("not yet approved: %v", err)
	}
	v.set.Approvals = append(v.set.Approvals, approve(t, keys().p384, keys().rsa, release(next, 4))...)
	check(t, v.set.Covers(authorities(), release(next, 4), pcr1))
	v.opens(t, v.Boot(t, next))
	v.opens(t, v.Boot(t, good)) // falls back
	b := v.Boot(t, next)
	check(t, b.NV.RaiseFloor(4))
	v.opens(t, b)
	if _, _, err := v.Boot(t, good).Door.Unseal(v.set, authorities()); !errors.Is(err, seal.ErrFloor) {
		t.Errorf("the old release: %v", err)
	}
}

// TestRotation: with a new authority first in the list and the old one behind it, what
// was sealed for either opens, and the new one's approvals are used once they are there.
func TestRotation(t *testing.T) {
	v := newVault(t)
	both := authorities()
	both.P384 = []crypto.PublicKey{keys().otherP384.Public(), keys().p384.Public()}
	b := v.Boot(t, good)
	if _, _, err := b.Door.Unseal(v.set, both); err != nil {
		t.Error(err)
	}
	o, err := b.Door.Seal(seal.P384, keys().otherP384.Public(), v.first)
	check(t, err)
	v.set.Objects = append(v.set.Objects, o)
	v.set.Approvals = append(v.set.Approvals, approve(t, keys().otherP384, keys().rsa, release(good, 3))...)
	only := authorities()
	only.P384 = []crypto.PublicKey{keys().otherP384.Public()}
	b = v.Boot(t, good)
	if first, _, err := b.Door.Unseal(v.set, only); err != nil || !bytes.Equal(first, v.first[:]) {
		t.Error(err)
	}
}

// TestApproval: what is verified without a TPM.
func TestApproval(t *testing.T) {
	r := release(good, 3)
	for _, a := range approve(t, keys().p384, keys().rsa, r) {
		key, wrong := crypto.PublicKey(keys().p384.Public()), crypto.PublicKey(keys().otherP384.Public())
		if a.Kind == seal.RSA3072 {
			key, wrong = keys().rsa.Public(), keys().otherRSA.Public()
		}
		check(t, seal.VerifyApproval(key, a, r))
		if err := seal.VerifyApproval(wrong, a, r); !errors.Is(err, seal.ErrSignature) {
			t.Errorf("%v: another key: %v", a.Kind, err)
		}
		if err := seal.VerifyApproval(key, a, release(good, 4)); !errors.Is(err, seal.ErrNotApproved) {
			t.Errorf("%v: another release: %v", a.Kind, err)
		}
		b := a
		b.Ref = sha256.Sum256(nil)
		if err := seal.VerifyApproval(key, b, r); !errors.Is(err, seal.ErrNotApproved) {
			t.Errorf("%v: another policyRef: %v", a.Kind, err)
		}
	}
	if _, err := seal.Approve(keys().rsa, seal.P384, r); !errors.Is(err, seal.ErrAuthority) {
		t.Errorf("RSA for the first secret: %v", err)
	}
	if _, err := seal.Approve(keys().p384, seal.RSA3072, r); !errors.Is(err, seal.ErrAuthority) {
		t.Errorf("ECDSA for the second secret: %v", err)
	}
	r.SecurityVersion = 65
	if _, err := seal.Approve(keys().p384, seal.P384, r); !errors.Is(err, seal.ErrFloor) {
		t.Error(err)
	}
}

func TestStoreKey(t *testing.T) {
	part := func(v byte) []byte { return bytes.Repeat([]byte{v}, seal.SecretSize) }
	seen := map[string]bool{}
	for _, in := range [][4][]byte{
		{part(1), part(2), part(3), nil}, {part(2), part(1), part(3), nil}, {part(1), part(2), part(4), nil},
		{part(1), part(2), part(3), part(5)}, {part(9), part(2), part(3), nil}, {part(1), part(9), part(3), nil},
	} {
		k, err := seal.StoreKey(in[0], in[1], in[2], in[3])
		check(t, err)
		if len(k) != seal.SecretSize || seen[string(k)] {
			t.Errorf("key %x", k)
		}
		seen[string(k)] = true
	}
	if _, err := seal.StoreKey(part(1), part(2), nil, nil); err == nil {
		t.Error("a key without the SoC's secret")
	}
}

func TestSet(t *testing.T) {
	v := newVault(t)
	v.set.Revision = 7
	b, err := v.set.Encode()
	check(t, err)
	t.Logf("%d bytes", len(b))
	got, err := seal.Decode(append(b, make([]byte, 100)...))
	check(t, err)
	again, err := got.Encode()
	check(t, err)
	if got.Revision != 7 || !bytes.Equal(b, again) {
		t.Error("it comes back as another")
	}
	for i := range b {
		c := bytes.Clone(b)
		c[i] ^= 1
		if _, err := seal.Decode(c); !errors.Is(err, seal.ErrSet) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if _, err := seal.Decode(b[:i]); !errors.Is(err, seal.ErrSet) {
			t.Fatalf("cut at %d: %v", i, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	one := seal.Set{Objects: []seal.Object{{Kind: seal.P384, Public: []byte{1}, Private: []byte{2}}}, Approvals: []seal.Approval{{Kind: seal.Canary}}}
	b, err := one.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("NCSEALS1"))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := seal.Decode(b)
		if err != nil {
			return
		}
		again, err := s.Encode()
		if err != nil || !bytes.HasPrefix(b, again) {
			t.Errorf("%x becomes %x, %v", b, again, err)
		}
	})
}

// TestFeigned: an interposer feigns the PCRs of a good boot, so that all is tried that
// can be; the TPM goes by its own.
func TestFeigned(t *testing.T) {
	made := newVault(t)
	const pcrRead = 0x17e
	feign := func(v *vault) {
		answers := map[string][]byte{}
		v.Chip.Cut()
		v.Chip.On()
		b := v.Begin(t, good)
		v.Chip.Tap.Answer = func(command, answer []byte) []byte {
			if binary.BigEndian.Uint32(command[6:]) == pcrRead {
				answers[string(command)] = bytes.Clone(answer)
			}
			return answer
		}
		if _, err := b.T.ReadPCRs(0, 1, 2, 7); err != nil {
			t.Fatal(err)
		}
		v.Chip.Tap.Answer = func(command, answer []byte) []byte {
			if a := answers[string(command)]; a != nil {
				return a
			}
			return answer
		}
	}
	for pcr, want := range map[uint]error{0: seal.ErrNotApproved, 1: seal.ErrRefused, 2: seal.ErrNotApproved, 7: seal.ErrNotApproved} {
		v := made.copy()
		feign(v)
		if _, _, err := v.Boot(t, with(pcr, tpm.Digest{9})).Door.Unseal(v.set, authorities()); !errors.Is(err, want) {
			t.Errorf("PCR %d: %v", pcr, err)
		}
		v.Chip.Cut()
	}
	v := made.copy()
	feign(v)
	b := v.Boot(t, good)
	v.opens(t, b)
	if _, _, err := b.Door.Unseal(v.set, authorities()); !errors.Is(err, seal.ErrNotApproved) {
		t.Errorf("behind the cap: %v", err)
	}
}

// TestReplayed: after a good boot somebody resets the TPM alone and extends the good
// measurements again. We do not go on with it, and he, who has all but the SoC's secret,
// neither unseals nor quotes.
func TestReplayed(t *testing.T) {
	v := newVault(t)
	b := v.Boot(t, good)
	v.opens(t, b)
	v.Chip.Reset()
	if err := b.T.CheckReset(b.S); !errors.Is(err, tpm.ErrLost) || !errors.Is(err, tpm.ErrReset) {
		t.Errorf("reset, not started: %v", err)
	}

	b = v.Boot(t, good)
	v.Chip.Reset()
	attacker, err := tpm.Start(v.Chip)
	check(t, err)
	for pcr, d := range good {
		check(t, attacker.Extend(nil, pcr, d))
	}
	if _, _, err := b.Door.Unseal(v.set, authorities()); !errors.Is(err, tpm.ErrLost) {
		t.Errorf("we go on: %v", err)
	}
	if err := b.T.Extend(b.S, 8, tpm.Digest{}); !errors.Is(err, tpm.ErrLost) {
		t.Errorf("and on: %v", err)
	}

	check(t, attacker.Pin(v.Result.StorageName))
	platform := tpm.Hierarchy(tpm2.TPMRHPlatform, nil)
	s, err := attacker.NewSession(platform)
	check(t, err)
	guess := make([]byte, tpm.AuthSize)
	door := &seal.Door{T: attacker, S: s, AK: platform, NV: nv.New(attacker, s, guess), SoC: guess}
	if _, _, err := door.Unseal(v.set, authorities()); !errors.Is(err, seal.ErrRefused) {
		t.Errorf("he unseals: %v", err)
	}
	ak, _, err := identity.AK(attacker, guess)
	check(t, err)
	if _, err := identity.NewQuote(attacker, s, ak, []byte{1}, 0, 2, 7); !errors.Is(err, tpm2.TPMRCBadAuth) {
		t.Errorf("he quotes: %v", err)
	}
	v.opens(t, v.Boot(t, good))
}
