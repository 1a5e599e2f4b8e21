package main

import (
	"cmp"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"strings"
)

// apiFlags are the flags of a board's API: the board, which must be pinned, and the
// client's certificate.
func apiFlags(f *flag.FlagSet) func() (*remote, error) {
	board := remoteFlags(f)
	cert := f.String("cert", "", "`file` of the client's certificate, PEM")
	key := f.String("key", "", "`file` of its private key, PEM")
	return func() (*remote, error) {
		r, err := board()
		if err != nil {
			return nil, err
		}
		certFile, keyFile := cmp.Or(*cert, r.context.Cert), cmp.Or(*key, r.context.Key)
		if err := need(map[string]string{"cert": certFile, "key": keyFile}); err != nil {
			return nil, err
		}
		if r.pin == nil && r.proves() {
			if err := r.prove(); err != nil {
				return nil, err
			}
		}
		if r.pin == nil {
			return nil, usage("-pin is missing: nitroctl attest verify proves the board and shows its key")
		}
		pair, err := tls.LoadX509KeyPair(certFile, keyFile)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		r.client = &pair
		return r, nil
	}
}

// call asks the board's API. A body and an answer are JSON; nil is none. It gives what the
// connection is worth.
func (r *remote) call(method, path string, body, answer any, wanted int) (connection, error) {
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			return connection{}, err
		}
	}
	a, err := r.ask(method, path, "application/json", text)
	if err != nil {
		return connection{}, err
	}
	if a.status != wanted {
		return a.connection, a.redfishRefusal()
	}
	if answer == nil {
		return a.connection, nil
	}
	return a.connection, a.decode(answer)
}

// redfishRefusal is the error of an answer with Redfish's error body (DSP0266 8.6).
func (a *reply) redfishRefusal() error {
	var body struct {
		Error struct {
			Code     string                                 `json:"code"`
			Extended []struct{ Message, Resolution string } `json:"@Message.ExtendedInfo"`
		} `json:"error"`
	}
	if json.Unmarshal(a.body, &body) != nil || len(body.Error.Extended) == 0 {
		return a.refusal(-1)
	}
	why := body.Error.Extended[0]
	id := body.Error.Code[strings.LastIndexByte(body.Error.Code, '.')+1:] // Base.1.18.ResourceInUse
	err := fmt.Errorf("the board at %s refuses (HTTP %d, %s): %s", a.Board, a.status, printable(id), printable(why.Message))
	return advised{&apiError{a.status, err}, printable(why.Resolution)}
}

// An apiError is a refusal of the board's API.
type apiError struct {
	status int
	err    error
}

func (e *apiError) Error() string { return e.err.Error() }

// isMissing tells whether the board says that there is no such thing.
func isMissing(err error) bool {
	var e *apiError
	return errors.As(err, &e) && e.status == http.StatusNotFound
}
