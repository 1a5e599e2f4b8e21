package kms

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// This file is AWS Signature Version 4 (AWS IAM User Guide, "Create a signed AWS API
// request") of one service, in a header.

const (
	algorithm  = "AWS4-HMAC-SHA256"
	service    = "kms"
	terminator = "aws4_request"

	headerDate  = "X-Amz-Date"
	headerToken = "X-Amz-Security-Token"
	headerHash  = "X-Amz-Content-Sha256"
	dateForm    = "20060102T150405Z"
	dayForm     = "20060102"

	maxAuthorization = 2 << 10 // bytes
	maxSigned        = 32      // headers
	maxRegion        = 32
	// Skew is how far the time of a signature may be from the service's.
	Skew = 5 * time.Minute
)

// Sizes of access keys, in characters.
const (
	AccessIDSize     = 20
	AccessSecretSize = 40
)

// An Access is an access key.
type Access struct{ ID, Secret string }

// ValidID reports whether an access key could have this identifier: 20 of A-Z and 0-9.
func ValidID(id string) bool {
	return len(id) == AccessIDSize && only(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
}

func only(s, characters string) bool { return strings.Trim(s, characters) == "" }

// A Signature is what a request says of its own. Nothing of it is verified.
type Signature struct {
	ID      string    // of the access key
	Time    time.Time // whole seconds, UTC
	MAC     [sha256.Size]byte
	region  string
	headers []string // that are signed, in lower case, sorted
}

// ReadSignature reads a request's, and makes sure that it covers what it must.
func ReadSignature(r *http.Request) (*Signature, *Error) {
	switch n := len(r.Header["Authorization"]); {
	case n == 0:
		return nil, Refuse(MissingAuthentication, "sign the request with an access key of nitroctl keyservice access (AWS Signature Version 4, in the header Authorization)")
	case n > 1:
		return nil, Refuse(IncompleteSignature, "%d headers Authorization", n)
	}
	s := &Signature{}
	day, ok := s.parse(r.Header.Get("Authorization"))
	if !ok {
		return nil, Refuse(IncompleteSignature, "Authorization is not of the form %s Credential=ID/DAY/REGION/%s/%s, SignedHeaders=NAMES, Signature=HEX", algorithm, service, terminator)
	}
	var err error
	if s.Time, err = time.Parse(dateForm, r.Header.Get(headerDate)); err != nil || s.Time.Format(dayForm) != day {
		return nil, Refuse(IncompleteSignature, "%s: %.30q: give the time as in %s, of the day of the credential's scope", headerDate, r.Header.Get(headerDate), dateForm)
	}
	if r.URL.RawQuery != "" || r.URL.Path != "/" {
		return nil, Refuse(IncompleteSignature, "%.60q: there is / alone, without a query", r.URL.RequestURI())
	}
	return s, s.covers(r)
}

// parse reads the header.
func (s *Signature) parse(text string) (day string, ok bool) {
	fields, ok := strings.CutPrefix(text, algorithm+" ")
	if !ok || len(text) > maxAuthorization {
		return "", false
	}
	parts := strings.Split(fields, ",")
	if len(parts) != 3 {
		return "", false
	}
	var values [3]string
	for i, name := range []string{"Credential=", "SignedHeaders=", "Signature="} {
		if values[i], ok = strings.CutPrefix(strings.TrimSpace(parts[i]), name); !ok {
			return "", false
		}
	}
	scope := strings.Split(values[0], "/")
	if len(scope) != 5 || !ValidID(scope[0]) || len(scope[2]) < 1 || len(scope[2]) > maxRegion || !only(scope[2], "abcdefghijklmnopqrstuvwxyz0123456789-") || scope[3] != service || scope[4] != terminator {
		return "", false
	}
	s.ID, s.region, s.headers = scope[0], scope[2], strings.Split(values[1], ";")
	b, err := hex.DecodeString(values[2])
	if err != nil || len(b) != len(s.MAC) || hex.EncodeToString(b) != values[2] || len(s.headers) > maxSigned {
		return "", false
	}
	copy(s.MAC[:], b)
	return scope[1], true
}

// covers holds the list of signed headers to what decides what a request means.
func (s *Signature) covers(r *http.Request) *Error {
	for i, name := range s.headers {
		if i > 0 && s.headers[i-1] >= name || name != "host" && name != "content-length" && (name != strings.ToLower(name) || len(r.Header.Values(name)) == 0) {
			return Refuse(IncompleteSignature, "SignedHeaders are names of headers of the request in lower case, each once, sorted: %.60q", name)
		}
	}
	must := []string{"host", "content-type", strings.ToLower(headerDate), strings.ToLower(HeaderTarget)}
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") {
			must = append(must, name)
		}
	}
	for _, name := range must {
		if !slices.Contains(s.headers, name) {
			return Refuse(IncompleteSignature, "the header %.60q must be signed", name)
		}
		if len(r.Header.Values(name)) > 1 {
			return Refuse(IncompleteSignature, "the header %.60q comes more than once", name)
		}
	}
	if len(r.Header[headerToken]) > 0 {
		return Refuse(UnrecognizedClient, "this service gives no session tokens: use an access key of nitroctl keyservice access")
	}
	return nil
}

// Verify holds a signature to the secret of its access key, the body, and the time.
func (s *Signature) Verify(r *http.Request, body, secret []byte, now time.Time) *Error {
	hash := hexHash(body)
	if want := r.Header.Get(headerHash); want != "" && want != hash {
		return Refuse(InvalidSignature, "%s is not that of the body: the body must be signed", headerHash)
	}
	mac := sign(r, s.headers, hash, secret, scope{s.Time, s.region, service})
	if !hmac.Equal(mac[:], s.MAC[:]) {
		return Refuse(InvalidSignature, "the signature does not fit the request: check the secret, and that nothing between changes host or headers")
	}
	// AWS says so in these words, and SDKs correct their clock by the answer's Date.
	if d := now.Sub(s.Time); d > Skew || d < -Skew {
		return Refuse(InvalidSignature, "Signature expired or not yet current: it is of %s, and here it is %s, more than %v apart", s.Time.Format(dateForm), now.UTC().Format(dateForm), Skew)
	}
	return nil
}

// Sign signs a request with this body, which is sent with it; all headers that it has.
func Sign(r *http.Request, body []byte, a Access, region string, now time.Time) {
	at := scope{now.UTC(), region, service}
	r.Header.Set(headerDate, at.time.Format(dateForm))
	r.Header.Del("Authorization")
	names := []string{"host"}
	for name := range r.Header {
		names = append(names, strings.ToLower(name))
	}
	slices.Sort(names)
	mac := sign(r, names, hexHash(body), []byte(a.Secret), at)
	r.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s/%s, SignedHeaders=%s, Signature=%x", algorithm, a.ID, at, strings.Join(names, ";"), mac))
}

func hexHash(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// A scope is what a signing key is for.
type scope struct {
	time            time.Time
	region, service string
}

// String is the scope as credentials have it.
func (s scope) String() string {
	return s.time.Format(dayForm) + "/" + s.region + "/" + s.service + "/" + terminator
}

// sign makes the signature over the canonical request, with these headers and this hash of
// the body.
func sign(r *http.Request, headers []string, hash string, secret []byte, at scope) [sha256.Size]byte {
	start := append([]byte("AWS4"), secret...)
	defer clear(start)
	k := mac(start, at.time.Format(dayForm))
	for _, s := range []string{at.region, at.service, terminator} {
		k = mac(k, s)
	}
	text := strings.Join([]string{algorithm, at.time.Format(dateForm), at.String(), hexHash([]byte(canonical(r, headers, hash)))}, "\n")
	return [sha256.Size]byte(mac(k, text))
}

func mac(k []byte, text string) []byte {
	h := hmac.New(sha256.New, k)
	h.Write([]byte(text))
	return h.Sum(nil)
}

// canonical is the canonical request: of the path / and no query.
func canonical(r *http.Request, headers []string, hash string) string {
	var b strings.Builder
	b.WriteString(r.Method + "\n/\n\n")
	for _, name := range headers {
		b.WriteString(name + ":" + value(r, name) + "\n")
	}
	b.WriteString("\n" + strings.Join(headers, ";") + "\n" + hash)
	return b.String()
}

// value is a header's in the canonical request. Two headers net/http keeps elsewhere.
func value(r *http.Request, name string) string {
	switch {
	case name == "host" && r.Host != "":
		return r.Host
	case name == "host":
		return r.URL.Host
	case name == "content-length":
		return strconv.FormatInt(r.ContentLength, 10)
	}
	values := slices.Clone(r.Header.Values(name))
	for i, v := range values {
		values[i] = strings.Join(strings.Fields(v), " ")
	}
	return strings.Join(values, ",")
}
