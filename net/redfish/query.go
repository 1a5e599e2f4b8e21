package redfish

import (
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// Limits of queries.
const (
	MaxQuery  = 1024 // bytes
	MaxSelect = 32   // properties
	MaxExpand = 64   // resources in one answer
	MaxPage   = 200  // members of a collection in one answer
)

// A query is what a request asks of a resource (DSP0266 7.3).
type query struct {
	selected []string
	expand   bool
	// expandLinks is $expand=*, which goes for what is in Links, too.
	expandLinks bool
	paged       bool // $top or $skip is there
	skip        int
	top         int // at most MaxPage
}

// parseQuery reads a query. Parameters without "$" that are not known are ignored, as the
// specification wants (7.3.1).
func parseQuery(raw string, collection bool) (q query, e *Error) {
	q.top = MaxPage
	if len(raw) > MaxQuery {
		return q, Refuse(http.StatusBadRequest, "QueryNotSupported")
	}
	values, err := url.ParseQuery(raw)
	if err != nil {
		return q, Refuse(http.StatusBadRequest, "QueryNotSupported")
	}
	for name, v := range values {
		if !strings.HasPrefix(name, "$") && name != "only" && name != "excerpt" {
			continue
		}
		if len(v) != 1 {
			return q, Refuse(http.StatusBadRequest, "QueryCombinationInvalid")
		}
		if e := q.parameter(name, v[0], collection); e != nil {
			return q, e
		}
	}
	return q, nil
}

func (q *query) parameter(name, value string, collection bool) *Error {
	switch name {
	case "$select":
		q.selected = strings.Split(value, ",")
		if value == "" || len(q.selected) > MaxSelect || slices.Contains(q.selected, "") {
			return Refuse(http.StatusBadRequest, "QueryParameterValueTypeError", value, name)
		}
	case "$expand":
		kind, levels, given := strings.Cut(value, "(")
		if kind != "." && kind != "*" || given && levels != "$levels=1)" {
			e := Refuse(http.StatusBadRequest, "QueryParameterValueTypeError", value, name)
			e.Next = "Use $expand=. or $expand=*, with ($levels=1) or nothing behind it."
			return e
		}
		q.expand, q.expandLinks = true, kind == "*"
	case "$top", "$skip":
		n, err := strconv.Atoi(value)
		switch {
		case !collection:
			return Refuse(http.StatusBadRequest, "QueryNotSupportedOnResource")
		case err != nil:
			return Refuse(http.StatusBadRequest, "QueryParameterValueTypeError", value, name)
		case n < 0 || n > 1<<30:
			return Refuse(http.StatusBadRequest, "QueryParameterOutOfRange", value, name, "0 to 1073741824")
		}
		if q.paged = true; name == "$skip" {
			q.skip = n
		} else {
			q.top = min(n, MaxPage)
		}
	default: // $filter, only, excerpt and what there may be one day
		e := Refuse(http.StatusNotImplemented, "QueryNotSupported")
		e.Next = "Use $expand, $select, $top and $skip only."
		return e
	}
	return nil
}

// pick keeps the properties of an object that a query selects, and what tells what the
// object is (7.3.4).
func (q *query) pick(o object) object {
	if q.selected == nil {
		return o
	}
	picked := object{}
	for name, v := range o {
		if strings.HasPrefix(name, "@odata.") {
			picked[name] = v
		}
	}
	for _, path := range q.selected {
		into, from := picked, o
		names := strings.Split(path, "/")
		for _, name := range names[:len(names)-1] {
			below, ok := from[name].(object)
			if !ok {
				from = nil
				break
			}
			next, ok := into[name].(object)
			if !ok {
				next = object{}
				into[name] = next
			}
			into, from = next, below
		}
		last := names[len(names)-1]
		if v, ok := from[last]; ok {
			into[last] = v
		}
		if count, ok := from[last+"@odata.count"]; ok {
			into[last+"@odata.count"] = count
		}
	}
	return picked
}
