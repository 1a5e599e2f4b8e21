package key

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"

	"nitro/attest/sha256"
)

// ErrMaking: the recipient key is not there yet. Making one takes the board's processor
// seconds, and goes on.
var ErrMaking = errors.New("key: this boot's recipient key is being made: ask again in half a minute")

// ErrUnmeasured: the recipient key was not measured, and no other one is made.
var ErrUnmeasured = errors.New("key: this boot's recipient key could not be measured: have keys come by HPKE, or restart the board")

// A Recipient is this boot's RSA-2048 key for keys that come in CMS envelopes. It is made
// when it is asked for first, once, by one goroutine: few boards need one. Its hash is
// measured before anybody sees it: a quote binds it, as it does the wrapping key, and
// nobody can put another one into a good board's evidence.
type Recipient struct {
	measure func(hash [32]byte) error

	mu     sync.Mutex
	making chan struct{} // closed when it is done; nil while none is being made
	key    *rsa.PrivateKey
	der    []byte // SubjectPublicKeyInfo
	err    error  // of the last attempt
	spent  bool   // a hash was measured, or may have been
}

// NewRecipient makes a Recipient without a key. measure extends PCR 8 by the key's hash,
// and is called once: where it fails nobody knows whether the PCR has the hash, so this
// boot has no recipient key.
func NewRecipient(measure func(hash [32]byte) error) *Recipient { return &Recipient{measure: measure} }

// Public gives the public key (SubjectPublicKeyInfo, DER), and makes it if there is none.
// With ErrMaking the context has ended before it was there.
func (r *Recipient) Public(ctx context.Context) ([]byte, error) {
	r.mu.Lock()
	if !r.spent && r.making == nil {
		r.making = make(chan struct{})
		go r.make(r.making)
	}
	making := r.making
	r.mu.Unlock()
	if making != nil {
		select {
		case <-making:
		case <-ctx.Done():
			return nil, ErrMaking
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.der, r.err
}

func (r *Recipient) make(done chan struct{}) {
	k, der, err := newRecipient()
	made := err == nil
	if made {
		if err = r.measure(sha256.Sum256(der)); err != nil {
			err = fmt.Errorf("%w: %w", ErrUnmeasured, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.spent = made
	if r.err = err; err == nil {
		r.key, r.der = k, der
	}
	r.making = nil
	close(done)
}

func newRecipient() (*rsa.PrivateKey, []byte, error) {
	k, err := rsa.GenerateKey(rand.Reader, RecipientBits)
	if err != nil {
		return nil, nil, fmt.Errorf("key: recipient key: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(&k.PublicKey)
	return k, der, err
}

// Made gives the hash of the key that was measured, if there is one.
func (r *Recipient) Made() (hash [32]byte, made bool) {
	if k, hash := r.private(); k != nil {
		return hash, true
	}
	return hash, false
}

// private is the key, with its hash; nil if none was made.
func (r *Recipient) private() (k *rsa.PrivateKey, hash [32]byte) {
	if r == nil {
		return nil, hash
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.key == nil {
		return nil, hash
	}
	return r.key, sha256.Sum256(r.der)
}
