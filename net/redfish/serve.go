package redfish

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"nitro/net/policy"
)

// MaxPath is the longest path in bytes: the audit log's resource, and a bound on what it
// costs to find out that there is nothing.
const MaxPath = 256

// A node is what is at a path. Of get, list and page at most one is there.
type node struct {
	path string // with {id} for a part that is any ID
	read policy.Action
	on   policy.ResourceType

	get  func(c *call) (object, error)
	list *collection
	page func() (contentType string, body []byte, err error)

	post   *operation
	patch  *operation
	remove *operation // DELETE
}

// A collection is a node with members.
type collection struct {
	kind string // of the collection: "ChassisCollection"
	name string
	// members gives those from skip on, top at most, and how many there are in all. A
	// member is a link, or a whole resource.
	members func(c *call, skip, top int) ([]object, int, error)
}

// An operation changes something.
type operation struct {
	action policy.Action
	name   string // of a Redfish action: "ComputerSystem.Reset"
	params []parameter
	raw    bool // the body is no JSON: do reads it
	do     func(c *call) (reply, error)
}

// A call is a request on its way.
type call struct {
	r    *http.Request
	ids  []string // that the path has in the places of {id}
	body object
	q    query
	// status is what a resource that is read wants to be answered with; 0 means 200 OK.
	status int
}

// A reply is an operation's answer.
type reply struct {
	status   int    // 0 means 204 No Content
	location string // of a task, or of what was made
	body     object
	write    func(io.Writer) error // of JSON that is too long to be made before it is sent
}

// idPart is what is in a path for any ID.
const idPart = "{id}"

// match compares a path with a pattern, and gives the IDs.
func match(pattern, path string) ([]string, bool) {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	if len(want) != len(got) {
		return nil, false
	}
	var ids []string
	for i, part := range want {
		switch {
		case part == idPart && plainID(got[i]):
			ids = append(ids, got[i])
		case part != got[i]:
			return nil, false
		}
	}
	return ids, true
}

// plainID reports whether a part of a path can be an ID: those of this service have
// nothing else in them.
func plainID(s string) bool {
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return s != "" && s != "." && s != ".." && len(s) <= 64
}

// find gives the node at a path, which may have one slash at its end or not (DSP0266 6.6).
func (s *Service) find(path string) (*node, []string) {
	for i := range s.nodes {
		n := &s.nodes[i]
		for _, p := range []string{path, other(path)} {
			if ids, ok := match(n.path, p); ok {
				return n, ids
			}
		}
	}
	return nil, nil
}

// other is a path with its last slash taken away, or with one.
func other(path string) string {
	if p, had := strings.CutSuffix(path, "/"); had && !strings.HasSuffix(p, "/") {
		return p
	}
	return path + "/"
}

// resource is the path of what a request is about, in the one spelling that policies and
// records know: without a slash at its end (but for the root's), and that of the resource
// itself where the request is for one of its actions.
func (n *node) resource(ids []string) string {
	path, _, _ := strings.Cut(n.path, "/Actions/")
	for _, id := range ids {
		path = strings.Replace(path, idPart, id, 1)
	}
	return path
}

// methods are those that a node has, in the order of the Allow header.
func (n *node) methods() (all []string) {
	if n.get != nil || n.list != nil || n.page != nil {
		all = append(all, http.MethodGet, http.MethodHead, http.MethodOptions)
	}
	if n.post != nil {
		all = append(all, http.MethodPost)
	}
	if n.patch != nil {
		all = append(all, http.MethodPatch)
	}
	if n.remove != nil {
		all = append(all, http.MethodDelete)
	}
	return all
}

// operation is what a method does to a node; nil for one that reads.
func (n *node) operation(method string) *operation {
	switch method {
	case http.MethodPost:
		return n.post
	case http.MethodPatch:
		return n.patch
	case http.MethodDelete:
		return n.remove
	}
	return nil
}

// ServeHTTP answers a request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("OData-Version", "4.0")
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	var n *node
	var ids []string
	if len(r.URL.Path) <= MaxPath && r.URL.EscapedPath() == r.URL.Path { // one spelling of each path
		n, ids = s.find(r.URL.Path)
	}
	if n == nil {
		s.unrouted(w, r, Refuse(http.StatusNotFound, "ResourceMissingAtURI", r.URL.Path))
		return
	}
	h.Set("Allow", strings.Join(n.methods(), ", "))
	if !slices.Contains(n.methods(), r.Method) {
		e := Refuse(http.StatusMethodNotAllowed, "OperationNotAllowed")
		e.Next = "Use one of the methods in the Allow header."
		s.unrouted(w, r, e)
		return
	}
	if v := r.Header.Get("OData-Version"); v != "" && v != "4.0" {
		s.unrouted(w, r, Refuse(http.StatusPreconditionFailed, "PreconditionFailed"))
		return
	}
	if op := n.operation(r.Method); op != nil {
		s.change(w, r, n, op, &call{r: r, ids: ids})
		return
	}
	s.answer(w, r, n, &call{r: r, ids: ids})
}

// unrouted refuses what no action stands for.
func (s *Service) unrouted(w http.ResponseWriter, r *http.Request, e *Error) {
	if s.config.Gate != nil {
		s.config.Gate.Unrouted(r, e.Status)
	}
	e.write(w)
}

// admit asks the gate. Without one there is nothing but what anybody may read.
func (s *Service) admit(r *http.Request, a Ask) (func(int, string), *Error) {
	if s.config.Gate == nil {
		return func(int, string) {}, nil
	}
	return s.config.Gate.Admit(r, a)
}

// change carries out an operation.
func (s *Service) change(w http.ResponseWriter, r *http.Request, n *node, op *operation, c *call) {
	var e *Error
	if !op.raw {
		c.body, e = readBody(r)
	}
	reset, _ := c.body["ResetType"].(string)
	done, refused := s.admit(r, Ask{Route{r.Method, n.path, op.action, n.on}, n.resource(c.ids), reset})
	if refused != nil {
		refused.write(w)
		return
	}
	if e == nil {
		e = s.check(r, n, op, c)
	}
	var answer reply
	if e == nil {
		var err error
		if answer, err = op.do(c); err != nil {
			e = refusal(err)
		}
	}
	if e != nil {
		done(e.Status, e.ID)
		e.write(w)
		return
	}
	if answer.location != "" {
		w.Header().Set("Location", answer.location)
	}
	if answer.status == 0 {
		answer.status = http.StatusNoContent
	}
	done(answer.status, answer.location)
	switch {
	case answer.write != nil:
		stream(w, answer.status, answer.write)
	case answer.body != nil:
		send(w, answer.status, answer.body)
	default:
		w.WriteHeader(answer.status)
	}
}

// check holds an operation to its parameters and to the resource's state.
func (s *Service) check(r *http.Request, n *node, op *operation, c *call) *Error {
	if r.URL.RawQuery != "" && strings.Contains(r.URL.RawQuery, "$") {
		return Refuse(http.StatusBadRequest, "QueryNotSupportedOnOperation")
	}
	if want := r.Header.Get("If-Match"); want != "" && n.get != nil {
		o, err := n.get(c)
		if err != nil {
			return refusal(err)
		}
		if want != "*" && !slices.Contains(splitTags(want), etag(o)) {
			return Refuse(http.StatusPreconditionFailed, "PreconditionFailed")
		}
	}
	if op.raw || op.name == "" {
		return nil
	}
	return parameters(op.name, op.params, c.body)
}

// answer reads a node.
func (s *Service) answer(w http.ResponseWriter, r *http.Request, n *node, c *call) {
	done, refused := s.admit(r, Ask{Route{r.Method, n.path, n.read, n.on}, n.resource(c.ids), ""})
	if refused != nil {
		refused.write(w)
		return
	}
	if r.Method == http.MethodOptions {
		done(http.StatusNoContent, "")
		w.WriteHeader(http.StatusNoContent)
		return
	}
	o, e := s.read(n, c)
	if e != nil {
		done(e.Status, e.ID)
		e.write(w)
		return
	}
	if n.page != nil {
		kind, body, err := n.page()
		if err != nil {
			e := refusal(err)
			done(e.Status, e.ID)
			e.write(w)
			return
		}
		done(http.StatusOK, "")
		w.Header().Set("Content-Type", kind)
		w.Write(body)
		return
	}
	if kind, _ := o["@odata.type"].(string); kind != "" { // DSP0266 6.5.5
		short := strings.TrimPrefix(kind[:strings.LastIndexByte(kind, '.')], "#")
		h := fmt.Sprintf("<%s%s.json>; rel=describedby", schemaRoot(short), short)
		w.Header().Set("Link", h)
	}
	if c.status != 0 { // a task that is not done has no state that a tag could stand for
		done(c.status, "")
		send(w, c.status, o)
		return
	}
	tag := etag(o)
	w.Header().Set("ETag", tag)
	if slices.Contains(splitTags(r.Header.Get("If-None-Match")), tag) {
		done(http.StatusNotModified, "")
		w.WriteHeader(http.StatusNotModified)
		return
	}
	if _, resource := o["@odata.id"]; resource {
		o["@odata.etag"] = tag
	}
	if c.q.expand {
		left := MaxExpand
		o = s.expand(c, o, &left).(object)
	}
	done(http.StatusOK, "")
	send(w, http.StatusOK, c.q.pick(o))
}

// read parses the query and gives the resource; nil for a page.
func (s *Service) read(n *node, c *call) (object, *Error) {
	q, e := parseQuery(c.r.URL.RawQuery, n.list != nil)
	if e != nil {
		return nil, e
	}
	c.q = q
	switch {
	case n.page != nil:
		if q.selected != nil || q.expand {
			return nil, Refuse(http.StatusBadRequest, "QueryNotSupportedOnResource")
		}
		return nil, nil
	case n.list != nil:
		o, err := n.list.object(c)
		if err != nil {
			return nil, refusal(err)
		}
		return o, nil
	}
	o, err := n.get(c)
	if err != nil {
		return nil, refusal(err)
	}
	return o, nil
}

// object makes a collection, or the page of it that is asked for (DSP0266 7.3.5).
func (l *collection) object(c *call) (object, error) {
	members, total, err := l.members(c, c.q.skip, c.q.top)
	if err != nil {
		return nil, err
	}
	path := strings.TrimSuffix(c.r.URL.Path, "/") // no collection is the root
	o := object{
		"@odata.id": path, "@odata.type": "#" + l.kind + "." + l.kind, "Name": l.name,
		"Members": members, "Members@odata.count": total,
	}
	if next := c.q.skip + len(members); next < total && c.q.top > 0 {
		o["Members@odata.nextLink"] = fmt.Sprintf("%s?$skip=%d&$top=%d", path, next, c.q.top)
	}
	return o, nil
}

// fixed are the members of a collection that lists paths.
func fixed(paths ...string) func(*call, int, int) ([]object, int, error) {
	return func(_ *call, skip, top int) ([]object, int, error) {
		page := paths[min(skip, len(paths)):min(skip+top, len(paths))]
		members := make([]object, 0, len(page))
		for _, p := range page {
			members = append(members, to(p))
		}
		return members, len(paths), nil
	}
}

// expand puts resources in the places of the links to them, one level deep, as far as the
// client may read each of them (DSP0266 7.3.3). It copies: parts of a resource belong to
// all clients, and what one may read must not stay in what another one gets.
func (s *Service) expand(c *call, v any, left *int) any {
	switch v := v.(type) {
	case object:
		if path, ok := v["@odata.id"].(string); ok && len(v) == 1 {
			if *left--; *left >= 0 {
				if below := s.below(c, path); below != nil {
					return below
				}
			}
			return v
		}
		expanded := make(object, len(v))
		for name, e := range v {
			if name == "Links" && !c.q.expandLinks {
				expanded[name] = e
			} else {
				expanded[name] = s.expand(c, e, left)
			}
		}
		return expanded
	case []object:
		expanded := make([]any, len(v))
		for i, e := range v {
			expanded[i] = s.expand(c, e, left)
		}
		return expanded
	}
	return v
}

// below is the resource at a path, if the client may read it.
func (s *Service) below(c *call, path string) object {
	n, ids := s.find(path)
	if n == nil || n.page != nil || s.config.Gate != nil &&
		!s.config.Gate.Permits(c.r, Ask{Route{http.MethodGet, n.path, n.read, n.on}, n.resource(ids), ""}) {
		return nil
	}
	r := c.r.Clone(c.r.Context())
	r.URL.Path, r.URL.RawQuery = path, ""
	o, e := s.read(n, &call{r: r, ids: ids})
	if e != nil {
		return nil
	}
	return o
}

// etag is a resource's entity tag. What changes by itself with time is left out: nobody
// could change a resource whose tag never stays.
func etag(o object) string {
	b, err := json.Marshal(still(o))
	if err != nil {
		panic(fmt.Sprintf("redfish: %v", err)) // of strings, numbers, lists and objects only
	}
	h := sha256.Sum256(b)
	return `"` + hex.EncodeToString(h[:8]) + `"`
}

// still is an object without what changes by itself with time.
func still(o object) object {
	s := make(object, len(o))
	for name, v := range o {
		switch v := v.(type) {
		case object:
			s[name] = still(v)
		default:
			if name != "DateTime" && name != "LastUpdated" && name != "LeaseSeconds" {
				s[name] = v
			}
		}
	}
	return s
}

// splitTags reads the tags of If-Match and If-None-Match (RFC 9110, 13.1.1). A weak one
// is as good: this service's tags say the same in both forms.
func splitTags(header string) (tags []string) {
	for t := range strings.SplitSeq(header, ",") {
		tags = append(tags, strings.TrimPrefix(strings.TrimSpace(t), "W/"))
	}
	return tags
}
