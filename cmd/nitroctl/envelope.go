package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"strings"
	"time"

	"nitro/net/keyservice"
	"nitro/net/keyservice/kms"
)

// How long the board may take for its recipient key, which costs its processor up to
// minutes when it has much else to do, and how often it is asked.
const (
	recipientLimit = 10 * time.Minute
	recipientEvery = 5 * time.Second
)

// envelopes are keys in CMS envelopes, from the key service's KMS face, for a board's
// attestation document.
type envelopes struct {
	*kms.Client
	document []byte
}

// envelopeFlags say in which form a key comes; nil is HPKE. The KMS face is asked without
// the client's certificate, as an SDK of AWS does.
func envelopeFlags(f *flag.FlagSet) func(url, ca string) (*envelopes, error) {
	form := f.String("form", "hpke", "`form` in which the key comes to the board: hpke or cms")
	access := f.String("access-key", "", "`file` of the access key for -form cms: keyservice access makes it")
	return func(url, ca string) (*envelopes, error) {
		switch strings.ToLower(*form) {
		case "hpke":
			if *access != "" {
				return nil, usage("-access-key goes with -form cms")
			}
			return nil, nil
		case "cms":
		default:
			return nil, usage("-form %q: it can be hpke or cms", *form)
		}
		if err := need(map[string]string{"access-key": *access, "keyservice": url, "keyservice-ca": ca}); err != nil {
			return nil, err
		}
		a, err := readAccess(*access)
		if err != nil {
			return nil, err
		}
		roots, err := readPool(list{ca})
		if err != nil {
			return nil, err
		}
		c, err := kms.NewClient(keyservice.Setup{URL: url, Roots: roots}, a)
		if err != nil {
			return nil, usage("%v", err)
		}
		return &envelopes{Client: c}, nil
	}
}

// prepare has the board make its recipient key, if it has none, and a document with it:
// the grant can name only a key that was measured before.
func (e *envelopes) prepare(c *call, r *remote) error {
	var made struct{ Document []byte }
	for end := time.Now().Add(recipientLimit); ; time.Sleep(recipientEvery) {
		_, err := r.call(http.MethodPost, documentPath, map[string]bool{"Recipient": true}, &made, http.StatusOK)
		if err == nil {
			e.document = made.Document
			c.say("0/4 the board has made its attestation document")
			return nil
		}
		var refused *apiError
		if !errors.As(err, &refused) || refused.status != http.StatusServiceUnavailable {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("the board has not made its key for envelopes within %v: %w", recipientLimit, err)
		}
	}
}

// wrapped gets the envelope of a grant.
func (e *envelopes) wrapped(ctx context.Context, g keyservice.Granted) ([]byte, error) {
	return e.Decrypt(ctx, g.Ciphertext, e.document)
}
