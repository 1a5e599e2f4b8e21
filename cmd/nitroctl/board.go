package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"nitro/attest/evidence"
	"nitro/boot/code"
	"nitro/net/provisioning"
)

// A remote is a board that serves HTTPS. Its certificate is one of this boot that signs
// itself, so it proves nothing: a pin or the board's evidence says whose key it is.
type remote struct {
	address string    // host and port
	pin     *[32]byte // SHA-256 of the TLS key that it must have; nil is any
	limit   time.Duration
	client  *tls.Certificate // that it shows; nil is none
	most    int              // bytes of an answer; 0 is maxReply
	ctx     context.Context  // ends what is asked, of a command that goes on until it is told to end; nil is none

	context  boardContext // that what no flag gave was taken from; without a name none
	pinGiven bool         // by the flag, and not by the context
}

// httpsPort is where boards serve.
const httpsPort = "443"

// pinUsage says what -pin takes.
const pinUsage = "SHA-256 of the board's TLS key, in `hexadecimal`, as attest verify shows it"

// remoteFlags are the flags of a board.
func remoteFlags(f *flag.FlagSet) func() (*remote, error) {
	board := f.String("board", "", "`address` of the board: host, or host:port")
	from := contextFlag(f)
	pin := f.String("pin", "", pinUsage)
	limit := f.Duration("timeout", time.Minute, "`time` that the board has to answer")
	return func() (*remote, error) {
		known, err := from(*board)
		if err != nil {
			return nil, err
		}
		address := cmp.Or(*board, known.Board)
		if err := need(map[string]string{"board": address}); err != nil {
			return nil, err
		}
		if *limit <= 0 {
			return nil, usage("-timeout %v: it must be longer than nothing", *limit)
		}
		r := &remote{address: withPort(address, httpsPort), limit: *limit, context: known, pinGiven: *pin != ""}
		r.pin, err = digestFlag("pin", cmp.Or(*pin, known.Pin))
		return r, err
	}
}

// withPort adds a port to an address that has none.
func withPort(address, port string) string {
	if _, _, err := net.SplitHostPort(address); err == nil {
		return address
	}
	return net.JoinHostPort(strings.Trim(address, "[]"), port)
}

// digestFlag reads a flag's SHA-256; "" gives nil.
func digestFlag(name, value string) (*[32]byte, error) {
	if value == "" {
		return nil, nil
	}
	b, err := hex.DecodeString(value)
	if err != nil || len(b) != sha256.Size {
		return nil, usage("-%s: %q is no SHA-256 in hexadecimal", name, value)
	}
	d := [32]byte(b)
	return &d, nil
}

// An unreachableError says that a board did not answer.
type unreachableError struct {
	address string
	err     error
}

func (e *unreachableError) Error() string {
	return fmt.Sprintf("the board at %s does not answer: %v", e.address, e.err)
}
func (e *unreachableError) Unwrap() error { return e.err }

// errPin: somebody else answers than who was pinned.
var errPin = errors.New("the board's TLS key is not the pinned one")

// A connection tells how far an answer is to be trusted.
type connection struct {
	Board    string `json:"board"`
	TLSKey   string `json:"tls_key"`  // SHA-256 of the key that answered
	Verified bool   `json:"verified"` // it was pinned, or evidence vouches for it
}

// print says who answered, and when nobody knows that.
func (c connection) print(w io.Writer) {
	table(w, [2]string{"answered by", c.Board}, [2]string{"TLS key", c.TLSKey})
	if !c.Verified {
		fmt.Fprintln(w, "this connection is not verified, so anybody may have answered: nitroctl attest verify proves the board and shows the key for -pin")
	}
}

// A reply is what a board has answered.
type reply struct {
	connection
	key    [32]byte
	chain  []*x509.Certificate // that TLS has shown
	status int
	body   []byte
}

// maxReply is the longest answer in bytes: evidence with a request for a key.
const maxReply = evidence.MaxSize + 8<<10

// ask asks a board. Status codes are the caller's to judge. One that shows another key than
// the pinned one is asked again if it proves that key by its context's policy.
func (r *remote) ask(method, path, kind string, body []byte) (*reply, error) {
	a, err := r.askOnce(method, path, kind, body)
	if errors.Is(err, errPin) && r.proves() {
		if err := r.prove(); err != nil {
			return nil, err
		}
		return r.askOnce(method, path, kind, body)
	}
	return a, err
}

func (r *remote) askOnce(method, path, kind string, body []byte) (*reply, error) {
	until := r.ctx
	if until == nil {
		until = context.Background()
	}
	ctx, cancel := context.WithTimeout(until, r.limit)
	defer cancel()
	q, err := http.NewRequestWithContext(ctx, method, "https://"+r.address+path, bytes.NewReader(body))
	if err != nil {
		return nil, usage("-board %s: %v", r.address, err)
	}
	if body != nil {
		q.Header.Set("Content-Type", kind)
	}
	return r.exchange(q)
}

// exchange sends a request and reads the answer.
func (r *remote) exchange(q *http.Request) (*reply, error) {
	answer, err := r.http().Do(q)
	if errors.Is(err, errPin) {
		return nil, advised{errors.Unwrap(err), "A board has a new key with each boot: verify its evidence anew (nitroctl attest verify -board), and pin the key that it shows."}
	}
	if err != nil {
		return nil, &unreachableError{r.address, err}
	}
	defer answer.Body.Close()
	chain := answer.TLS.PeerCertificates
	a := &reply{status: answer.StatusCode, key: provisioning.KeyDigest(chain[0]), chain: chain}
	a.connection = connection{r.address, hexOf(a.key), r.pin != nil}
	most := r.most
	if most == 0 {
		most = maxReply
	}
	a.body, err = io.ReadAll(io.LimitReader(answer.Body, int64(most)+1))
	switch {
	case err != nil:
		return nil, &unreachableError{r.address, err}
	case len(a.body) > most:
		return nil, fmt.Errorf("the board at %s answers with more than %d bytes: it is no board, or not of this tool's time", r.address, most)
	}
	return a, nil
}

// http makes one connection. It takes no proxy and follows nobody elsewhere, as the
// answer would be another's.
func (r *remote) http() *http.Client {
	c := &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true, ExpectContinueTimeout: r.limit, TLSClientConfig: &tls.Config{
			MinVersion: tls.VersionTLS13,
			// The certificate signs itself. Who it is, a pin or evidence tells.
			InsecureSkipVerify: true,
			VerifyConnection: func(s tls.ConnectionState) error {
				key := provisioning.KeyDigest(s.PeerCertificates[0])
				if r.pin != nil && subtle.ConstantTimeCompare(key[:], r.pin[:]) != 1 {
					return fmt.Errorf("%w: it is %x, pinned is %x", errPin, key, *r.pin)
				}
				return nil
			},
		}},
	}
	if r.client != nil {
		c.Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{*r.client}
	}
	return c
}

// decode reads an answer's JSON. Members that this tool does not know are later boards'.
func (a *reply) decode(v any) error {
	if err := json.Unmarshal(a.body, v); err != nil {
		return fmt.Errorf("the board at %s answers with no JSON of its kind: is it a board? %w", a.Board, err)
	}
	return nil
}

// refusal is the error of a status code that is not the wanted one.
func (a *reply) refusal(wanted int) error {
	if a.status == wanted {
		return nil
	}
	var why struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(a.body, &why) != nil || why.Error == "" {
		why.Error = "without saying why"
	}
	return fmt.Errorf("the board at %s refuses (HTTP %d): %s", a.Board, a.status, printable(why.Error))
}

// printable leaves nothing in a board's text that a terminal would act on.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
}

// named gives name and next step of a code by this tool's list: a stranger that answers
// cannot tell people what to do. Of a code that the list lacks, the board's word counts.
func named(number uint16, name, next string) (string, string) {
	if e, ok := code.Lookup(code.Code(number)); ok {
		return e.Name, e.Next
	}
	return printable(name), printable(next)
}
