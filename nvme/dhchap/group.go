package dhchap

import (
	"crypto/rand"
	"errors"
	"math/big"
	"sync"
)

// A Group is a Diffie-Hellman group by its identifier (Base 2.0, figure 440).
type Group uint8

// The groups of RFC 7919.
const (
	FFDHE2048 Group = 1
	FFDHE3072 Group = 2
	FFDHE4096 Group = 3
	FFDHE6144 Group = 4
	FFDHE8192 Group = 5
)

// A parameters is one group. Its prime is p = 2^b - 2^(b-64) + (floor(2^(b-130) e) + x) 2^64 - 1
// (RFC 7919, section A), which is safe: (p-1)/2 is prime too. The generator is 2.
type parameters struct {
	bits, x uint
	// exponent is the length of a secret exponent in bits, twice the strength that
	// RFC 7919 gives the group and rounded up; short ones are safe with a safe prime
	// (RFC 7919, section 5.2).
	exponent uint
	once     sync.Once
	p        *big.Int
}

var groups = [...]parameters{
	FFDHE2048: {bits: 2048, x: 560316, exponent: 256},
	FFDHE3072: {bits: 3072, x: 2625351, exponent: 320},
	FFDHE4096: {bits: 4096, x: 5736041, exponent: 384},
	FFDHE6144: {bits: 6144, x: 15705020, exponent: 448},
	FFDHE8192: {bits: 8192, x: 10965728, exponent: 512},
}

// known gives a group's parameters, or nil.
func (g Group) known() *parameters {
	if g == 0 || int(g) >= len(groups) {
		return nil
	}
	return &groups[g]
}

// Size is the length of a public value in bytes; 0 for an unknown group and the null
// group.
func (g Group) Size() int {
	if p := g.known(); p != nil {
		return int(p.bits / 8)
	}
	return 0
}

// prime computes the prime once. e is summed as 1/0! + 1/1! + ..., with 64 bits more
// than are used.
func (g *parameters) prime() *big.Int {
	g.once.Do(func() {
		const spare = 64
		term := new(big.Int).Lsh(big.NewInt(1), g.bits-130+spare)
		e := new(big.Int)
		for k := int64(1); term.Sign() > 0; k++ {
			e.Add(e, term)
			term.Div(term, big.NewInt(k))
		}
		e.Rsh(e, spare)
		e.Add(e, big.NewInt(int64(g.x)))
		e.Lsh(e, 64)
		p := new(big.Int).Lsh(big.NewInt(1), g.bits)
		p.Sub(p, new(big.Int).Lsh(big.NewInt(1), g.bits-64))
		g.p = p.Add(p, e).Sub(p, big.NewInt(1))
	})
	return g.p
}

// Errors of an exchange.
var (
	ErrGroup  = errors.New("dhchap: no such group, or the null group, which is refused")
	ErrPublic = errors.New("dhchap: public value out of range")
)

// An Exchange is one end's half of a Diffie-Hellman exchange. Its exponent is used for
// one authentication only, since the arithmetic beneath, math/big's, takes a time that
// depends on it.
type Exchange struct {
	group    Group
	exponent []byte
	Public   []byte // to be sent, of the group's size
}

// NewExchange makes an exponent and the public value.
func NewExchange(g Group) (*Exchange, error) {
	p := g.known()
	if p == nil {
		return nil, ErrGroup
	}
	x := &Exchange{group: g, exponent: make([]byte, p.exponent/8), Public: make([]byte, g.Size())}
	rand.Read(x.exponent)   // never fails
	x.exponent[0] |= 1 << 7 // of full length
	new(big.Int).Exp(big.NewInt(2), new(big.Int).SetBytes(x.exponent), p.prime()).FillBytes(x.Public)
	return x, nil
}

// Shared gives what both ends share, as long as the group's prime. The other end's
// public value must lie in 2 to p-2 (RFC 7919, section 5.1).
func (x *Exchange) Shared(public []byte) ([]byte, error) {
	p := x.group.known().prime()
	y := new(big.Int).SetBytes(public)
	limit := new(big.Int).Sub(p, big.NewInt(1))
	if len(public) != x.group.Size() || y.Cmp(big.NewInt(1)) <= 0 || y.Cmp(limit) >= 0 {
		return nil, ErrPublic
	}
	shared := make([]byte, x.group.Size())
	new(big.Int).Exp(y, new(big.Int).SetBytes(x.exponent), p).FillBytes(shared)
	return shared, nil
}

// Zero overwrites the exponent.
func (x *Exchange) Zero() { clear(x.exponent) }
