// Package ijson decodes JSON of which there must be only one reading: the messages of
// RFC 7493 (I-JSON), which are those of RFC 8259 with every member name unique, and a
// little stricter still. encoding/json by itself takes the last of two equal members,
// ignores those that it does not know, and takes "Epoch" for "epoch". Two programs that
// read the same signed text could then understand two things.
//
// Refused are: members that the Go value does not have, members that come twice, names
// with anything but lower-case letters, digits and "_", null, numbers that are no
// integers, text that is not UTF-8, and anything behind the value.
package ijson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A Limit bounds a text before it is read.
type Limit struct {
	Size  int // bytes
	Depth int // objects and arrays within each other
}

// Decode reads a text into a value, as json.Unmarshal does.
func Decode(text []byte, limit Limit, value any) error {
	if len(text) > limit.Size {
		return fmt.Errorf("json: %d bytes, at most %d", len(text), limit.Size)
	}
	if !utf8.Valid(text) {
		return errors.New("json: not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := check(d, limit.Depth); err != nil {
		return fmt.Errorf("json: byte %d: %w", d.InputOffset(), err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("json: byte %d: something behind the value", d.InputOffset())
	}
	d = json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(value); err != nil {
		return fmt.Errorf("json: %w", err)
	}
	return nil
}

// check reads one value by tokens. Its depth of recursion is bounded.
func check(d *json.Decoder, depth int) error {
	token, err := d.Token()
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	if err != nil {
		return err
	}
	switch token := token.(type) {
	case nil:
		return errors.New("null")
	case json.Number:
		if strings.ContainsAny(token.String(), ".eE-") {
			return fmt.Errorf("number %s is no integer, or negative", token)
		}
	case json.Delim:
		if depth == 0 {
			return errors.New("too deep")
		}
		if token == '{' {
			return object(d, depth)
		}
		return array(d, depth)
	}
	return nil
}

// object reads what is between braces, and the closing one.
func object(d *json.Decoder, depth int) error {
	seen := map[string]bool{}
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return err
		}
		name := token.(string) // the decoder allows nothing else here
		if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
			return fmt.Errorf("member %q: a name has lower-case letters, digits and _", name)
		}
		if seen[name] {
			return fmt.Errorf("member %q comes twice", name)
		}
		seen[name] = true
		if err := check(d, depth-1); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}

// array reads what is between brackets, and the closing one.
func array(d *json.Decoder, depth int) error {
	for d.More() {
		if err := check(d, depth-1); err != nil {
			return err
		}
	}
	_, err := d.Token()
	return err
}
