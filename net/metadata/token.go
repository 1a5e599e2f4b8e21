package metadata

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"time"
)

// Layout of a token; docs/metadata.md, Token.
const (
	tokenCycle = 8
	tokenMAC   = 16
	tokenSize  = tokenMAC + sha256.Size
)

// tokens gives tokens out and knows them again, without a list that somebody could fill.
type tokens struct {
	key   [32]byte
	start time.Time // on the monotonic clock: the board's wall clock may jump
}

func (t *tokens) init(now time.Time) {
	rand.Read(t.key[:]) // never fails
	t.start = now
}

// give gives a token for a host cycle.
func (t *tokens) give(now time.Time, lifetime time.Duration, cycle uint64) string {
	var b [tokenSize]byte
	binary.BigEndian.PutUint64(b[:], uint64(now.Sub(t.start)+lifetime))
	binary.BigEndian.PutUint64(b[tokenCycle:], cycle)
	t.sum(b[:tokenMAC:tokenMAC], b[tokenMAC:tokenMAC])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// good tells whether a token was given for this cycle and has not ended. The MAC is looked at
// first: of a token that is not the board's, nothing else is.
func (t *tokens) good(now time.Time, text string, cycle uint64) bool {
	if len(text) != base64.RawURLEncoding.EncodedLen(tokenSize) {
		return false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || !hmac.Equal(t.sum(b[:tokenMAC], nil), b[tokenMAC:]) {
		return false
	}
	return uint64(now.Sub(t.start)) < binary.BigEndian.Uint64(b) && cycle == binary.BigEndian.Uint64(b[tokenCycle:])
}

// sum appends the MAC over what a token says.
func (t *tokens) sum(says, to []byte) []byte {
	h := hmac.New(sha256.New, t.key[:])
	h.Write(says)
	return h.Sum(to)
}
