// Package keyservice speaks to a key service of volumes (docs/keyservice.md): its wire
// format, version 1, and the client that control planes and boards use. Package
// nitro/net/keyservice/server is the service.
//
// A control plane has a client certificate: it makes keys, asks for grants for a board's
// request and evidence, and deletes keys. A board without one asks again for standing
// leases after its own restart, and sends confirmations; the key is wrapped to it, so who
// listens or replays has nothing. Neither sees a key in the clear here.
package keyservice

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"nitro/attest/ijson"
	"nitro/nvme/key"
)

// Limits.
const (
	MaxBody   = 400 << 10 // of a request in bytes: evidence, request and grant in base64
	maxAnswer = 16 << 10  // of an answer in bytes: the largest has a grant and a wrapped key
	callTime  = time.Minute
)

// A Client speaks to one key service. Its methods may run at the same time, and each ends
// within a minute.
type Client struct {
	url  string
	http *http.Client
}

// A Setup is what a client rests on.
type Setup struct {
	URL         string           // https://HOST:PORT
	Roots       *x509.CertPool   // CAs of the service's certificate
	Certificate *tls.Certificate // a control plane's; nil for a board
	// Dial opens connections; nil is the system's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Time is for judging the service's certificate; nil is the system's clock.
	Time func() time.Time
}

// New makes a client. It connects with the first call.
func New(s Setup) (*Client, error) {
	c, err := s.HTTP()
	if err != nil {
		return nil, err
	}
	return &Client{strings.TrimSuffix(s.URL, "/"), c}, nil
}

// HTTP is a client that ends each call within a minute, and follows nobody elsewhere.
func (s Setup) HTTP() (*http.Client, error) {
	if !strings.HasPrefix(s.URL, "https://") || s.Roots == nil {
		return nil, fmt.Errorf("key service %q: give an https URL and the CA of its certificate", s.URL)
	}
	t := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: s.Roots, Time: s.Time}
	if s.Certificate != nil {
		t.Certificates = []tls.Certificate{*s.Certificate}
	}
	return &http.Client{
		Timeout: callTime,
		Transport: &http.Transport{
			TLSClientConfig: t, DialContext: s.Dial, MaxConnsPerHost: 4, IdleConnTimeout: callTime, TLSHandshakeTimeout: callTime / 2,
			ResponseHeaderTimeout: callTime, MaxResponseHeaderBytes: maxAnswer,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return errors.New("a key service redirects nobody") },
	}, nil
}

// Close ends connections that wait.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Challenge asks for a challenge, for one use within 5 minutes.
func (c *Client) Challenge(ctx context.Context) (challenge [key.ChallengeSize]byte, err error) {
	var a ChallengeAnswer
	if err := c.call(ctx, http.MethodPost, PathChallenges, struct{}{}, &a); err != nil {
		return challenge, err
	}
	if copy(challenge[:], a.Challenge) != len(a.Challenge) || len(a.Challenge) != len(challenge) {
		return challenge, fmt.Errorf("key service: a challenge of %d bytes, not %d", len(a.Challenge), len(challenge))
	}
	return challenge, nil
}

// CreateKey has the service make a volume's key, and gives its commitment. The error is an
// *Error of code Exists if the volume has one.
func (c *Client) CreateKey(ctx context.Context, volume [key.VolumeSize]byte) (commitment [32]byte, err error) {
	var a KeyAnswer
	if err := c.call(ctx, http.MethodPost, PathKeys, KeyBody{Identity(volume)}, &a); err != nil {
		return commitment, err
	}
	if a.Volume != Identity(volume) {
		return commitment, fmt.Errorf("key service: it made a key for another volume, %s", a.Volume)
	}
	return [32]byte(a.Commitment), nil
}

// An Ask is what a grant is asked for with.
type Ask struct {
	Volume   [key.VolumeSize]byte
	Standing bool          // the board may ask again after its own restart
	Lease    time.Duration // whole seconds
	Form     Form          // "" is HPKE
}

// A Granted is a grant, and with HPKE the key that is wrapped under it, with CMS what the
// KMS face gives the key for.
type Granted struct{ Grant, Wrapped, Ciphertext []byte }

// Grant asks for a grant, with the challenge that the board's evidence answers.
func (c *Client) Grant(ctx context.Context, a Ask, challenge [key.ChallengeSize]byte, request, evidence []byte) (Granted, error) {
	if a.Form == "" {
		a.Form = HPKE
	}
	var g GrantAnswer
	err := c.call(ctx, http.MethodPost, PathGrants, GrantBody{
		Volume: Identity(a.Volume), Challenge: challenge[:], Request: request, Evidence: evidence,
		Standing: a.Standing, Lease: uint64(a.Lease / time.Second), Form: a.Form,
	}, &g)
	return Granted{g.Grant, g.Wrapped, g.Ciphertext}, err
}

// Obtain asks for a challenge, has the board make request and evidence for it, and asks
// for the grant: a control plane's prove calls the board, the board's own calls its
// engine and its TPM.
func (c *Client) Obtain(ctx context.Context, a Ask, prove func(ctx context.Context, challenge [key.ChallengeSize]byte) (request, evidence []byte, err error)) (Granted, error) {
	challenge, err := c.Challenge(ctx)
	if err != nil {
		return Granted{}, err
	}
	request, evidence, err := prove(ctx, challenge)
	if err != nil {
		return Granted{}, err
	}
	return c.Grant(ctx, a, challenge, request, evidence)
}

// Confirm hands a board's confirmation of a grant to the service.
func (c *Client) Confirm(ctx context.Context, grant, confirmation []byte) error {
	return c.call(ctx, http.MethodPost, PathConfirmations, ConfirmationBody{grant, confirmation}, &struct{}{})
}

// DeleteKey deletes a volume's key for good.
func (c *Client) DeleteKey(ctx context.Context, volume [key.VolumeSize]byte) error {
	return c.call(ctx, http.MethodDelete, PathKeys+"/"+Identity(volume), nil, nil)
}

// call makes one request. answer is nil where there is no body.
func (c *Client) call(ctx context.Context, method, path string, body, answer any) error {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return fmt.Errorf("key service: %w", err)
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(text))
	if err != nil {
		return fmt.Errorf("key service: %w", err)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	a, err := c.http.Do(r)
	if err != nil {
		return fmt.Errorf("key service: %w", err)
	}
	defer a.Body.Close()
	text, err = io.ReadAll(io.LimitReader(a.Body, maxAnswer+1))
	if err != nil {
		return fmt.Errorf("key service: %s %s: %w", method, path, err)
	}
	if a.StatusCode/100 != 2 {
		var e ErrorAnswer
		if err := ijson.Decode(text, ijson.Limit{Size: maxAnswer, Depth: 2}, &e); err != nil {
			return fmt.Errorf("key service: %s %s: HTTP status %d: is there a key service at %s?", method, path, a.StatusCode, c.url)
		}
		e.Error.Status = a.StatusCode
		return &e.Error
	}
	if answer == nil {
		return nil
	}
	if err := ijson.Decode(text, ijson.Limit{Size: maxAnswer, Depth: 2}, answer); err != nil {
		return fmt.Errorf("key service: %s %s: %w", method, path, err)
	}
	return nil
}

// Identity is a volume's in a text: 32 hexadecimal digits.
func Identity(volume [key.VolumeSize]byte) string { return hex.EncodeToString(volume[:]) }

// ParseIdentity reads what Identity writes.
func ParseIdentity(s string) (volume [key.VolumeSize]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != len(volume) || hex.EncodeToString(b) != s {
		return volume, fmt.Errorf("volume %.40q: its identity is %d hexadecimal digits in lower case", s, 2*len(volume))
	}
	return [key.VolumeSize]byte(b), nil
}
