package kms

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"nitro/net/keyservice"
	"nitro/nvme/key"
)

// region is what the client signs for; the service takes any.
const region = "nitro"

// maxAnswer is that of an answer in bytes: an envelope has at most 1 KiB.
const maxAnswer = 8 << 10

// A Client asks the KMS face of one key service, with an access key alone.
type Client struct {
	url    string
	http   *http.Client
	access Access
}

// NewClient makes a client. It connects with the first call.
func NewClient(s keyservice.Setup, a Access) (*Client, error) {
	if !ValidID(a.ID) || len(a.Secret) != AccessSecretSize {
		return nil, fmt.Errorf("key service: an access key has %d characters and a secret of %d: nitroctl keyservice access makes one", AccessIDSize, AccessSecretSize)
	}
	c, err := s.HTTP()
	if err != nil {
		return nil, err
	}
	return &Client{strings.TrimSuffix(s.URL, "/") + "/", c, a}, nil
}

// Close ends connections that wait.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Decrypt has the service encrypt the key of a reference to the recipient key in a board's
// attestation document. A refusal is an *Error.
func (c *Client) Decrypt(ctx context.Context, reference, document []byte) (envelope []byte, err error) {
	body, err := json.Marshal(DecryptInput{CiphertextBlob: reference, Recipient: &Recipient{Mechanism, document}})
	if err != nil {
		return nil, fmt.Errorf("key service: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("key service: %w", err)
	}
	r.Header.Set("Content-Type", ContentType)
	r.Header.Set(HeaderTarget, Target)
	Sign(r, body, c.access, region, time.Now())
	a, err := c.http.Do(r)
	if err != nil {
		return nil, fmt.Errorf("key service: %w", err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(a.Body, maxAnswer+1))
	if err == nil && len(text) > maxAnswer {
		err = fmt.Errorf("an answer of more than %d bytes", maxAnswer)
	}
	if err != nil {
		return nil, fmt.Errorf("key service: Decrypt: %w", err)
	}
	if a.StatusCode != http.StatusOK {
		e := &Error{}
		if json.Unmarshal(text, e) != nil || e.Type == "" {
			return nil, fmt.Errorf("key service: Decrypt: HTTP status %d: is there a key service at %s?", a.StatusCode, c.url)
		}
		return nil, e
	}
	var out DecryptOutput
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("key service: Decrypt: %w", err)
	}
	if n := len(out.CiphertextForRecipient); n == 0 || n > key.MaxEnvelope {
		return nil, fmt.Errorf("key service: Decrypt: an envelope of %d bytes, not 1 to %d", n, key.MaxEnvelope)
	}
	return out.CiphertextForRecipient, nil
}
