package redfish

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"unicode/utf8"
)

// Limits of a request's JSON.
const (
	MaxBody  = 64 << 10 // bytes
	MaxDepth = 8        // objects and lists within each other
	MaxText  = 32 << 10 // bytes of one string: a chain of certificates
)

// readBody reads a request's JSON object. It has one reading: no member comes twice.
func readBody(r *http.Request) (object, *Error) {
	malformed := Refuse(http.StatusBadRequest, "MalformedJSON")
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); r.Header.Get("Content-Type") != "" && (err != nil || kind != "application/json") {
		e := Refuse(http.StatusUnsupportedMediaType, "UnrecognizedRequestBody")
		e.Next = "Send the body as application/json."
		return nil, e
	}
	text, err := io.ReadAll(io.LimitReader(r.Body, MaxBody+1))
	if err != nil {
		return nil, Refuse(http.StatusBadRequest, "UnrecognizedRequestBody")
	}
	if len(text) > MaxBody {
		e := Refuse(http.StatusRequestEntityTooLarge, "UnrecognizedRequestBody")
		e.Next = "Send at most 64 KiB."
		return nil, e
	}
	if len(bytes.TrimSpace(text)) == 0 { // an action without parameters
		return object{}, nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if !utf8.Valid(text) {
		return nil, malformed
	}
	v, err := readValue(d, MaxDepth)
	if _, end := d.Token(); err != nil || end != io.EOF {
		return nil, malformed
	}
	o, ok := v.(object)
	if !ok {
		return nil, Refuse(http.StatusBadRequest, "UnrecognizedRequestBody")
	}
	return o, nil
}

var errJSON = errors.New("redfish: too deep, too long, or a member that comes twice")

// readValue reads one value. Its depth of recursion is bounded.
func readValue(d *json.Decoder, depth int) (any, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	if s, ok := t.(string); ok && len(s) > MaxText {
		return nil, errJSON
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if depth == 0 {
		return nil, errJSON
	}
	var list []any
	o := object{}
	for d.More() {
		name := ""
		if delim == '{' {
			n, err := d.Token()
			if err != nil {
				return nil, err
			}
			name = n.(string) // encoding/json gives nothing else here
			if _, twice := o[name]; twice {
				return nil, errJSON
			}
		}
		v, err := readValue(d, depth-1)
		if err != nil {
			return nil, err
		}
		if delim == '{' {
			o[name] = v
		} else {
			list = append(list, v)
		}
	}
	if _, err := d.Token(); err != nil { // the closing one
		return nil, err
	}
	if delim == '{' {
		return o, nil
	}
	return list, nil
}

// A parameter is one of an action.
type parameter struct {
	name     string
	kind     kind
	required bool
	allowed  []string // of a text; nil for any
}

// A kind is a JSON type that a parameter has.
type kind int

const (
	text kind = iota
	link
	texts
	count // an integer, 0 or more
	truth
)

// parameters checks an action's parameters, which are then all of their kinds.
func parameters(action string, want []parameter, o object) *Error {
	for name, v := range o {
		i := slices.IndexFunc(want, func(p parameter) bool { return p.name == name })
		if i < 0 {
			return Refuse(http.StatusBadRequest, "ActionParameterUnknown", action, name)
		}
		s, ok := want[i].value(v)
		if !ok {
			return Refuse(http.StatusBadRequest, "ActionParameterValueTypeError", s, name, action)
		}
		if a := want[i].allowed; a != nil && !slices.Contains(a, s) {
			return Refuse(http.StatusBadRequest, "ActionParameterValueNotInList", s, name, action)
		}
	}
	for _, p := range want {
		if _, ok := o[p.name]; p.required && !ok {
			return Refuse(http.StatusBadRequest, "ActionParameterMissing", action, p.name)
		}
	}
	return nil
}

// value gives a parameter as text, for messages; false if it is of another kind.
func (p parameter) value(v any) (string, bool) {
	switch p.kind {
	case link:
		o, _ := v.(object)
		s, ok := o["@odata.id"].(string)
		return s, ok && len(o) == 1
	case texts:
		list, ok := v.([]any)
		for _, e := range list {
			if _, is := e.(string); !is {
				ok = false
			}
		}
		return "", ok
	}
	if p.kind == truth {
		_, ok := v.(bool)
		return "", ok
	}
	if p.kind == count {
		n, ok := v.(json.Number)
		_, err := strconv.ParseUint(n.String(), 10, 63)
		return n.String(), ok && err == nil
	}
	s, ok := v.(string)
	return s, ok
}

// number is a parameter of the kind count; 0 where it is not given.
func (c *call) number(name string) uint64 {
	n, _ := c.body[name].(json.Number)
	u, _ := strconv.ParseUint(n.String(), 10, 63)
	return u
}
