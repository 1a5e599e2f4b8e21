package kms

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"nitro/internal/corpus"
)

// request makes one.
func request(t testing.TB, method, body string, header ...string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "https://example.amazonaws.com/", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Add(header[i], header[i+1])
	}
	return r
}

var epoch = time.Date(2015, 8, 30, 12, 36, 0, 0, time.UTC)

// TestVectors: AWS's own, of the Signature Version 4 test suite (aws-sig-v4-test-suite:
// get-vanilla, post-vanilla, get-header-value-trim).
func TestVectors(t *testing.T) {
	const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	at := scope{epoch, "us-east-1", "service"}
	for _, c := range []struct {
		method string
		header []string
		names  string
		want   string
	}{
		{"GET", nil, "host;x-amz-date", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"},
		{"POST", nil, "host;x-amz-date", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"},
		{"GET", []string{"My-Header1", " value1", "My-Header2", ` "a   b   c"`}, "host;my-header1;my-header2;x-amz-date", "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736"},
	} {
		r := request(t, c.method, "", append(c.header, headerDate, "20150830T123600Z")...)
		mac := sign(r, strings.Split(c.names, ";"), hexHash(nil), []byte(secret), at)
		if got := hex.EncodeToString(mac[:]); got != c.want {
			t.Errorf("%s %s: %s", c.method, c.names, got)
		}
	}
}

var testAccess = Access{"NCAKABCDEFGHIJKLMNOP", strings.Repeat("s", AccessSecretSize)}

// signed is a request that passes.
func signed(t testing.TB) *http.Request {
	r := request(t, http.MethodPost, "{}", "Content-Type", ContentType, HeaderTarget, Target, "X-Other", "b")
	Sign(r, []byte("{}"), testAccess, "nitro", epoch)
	return r
}

// TestSignature: each thing that a signature must have, missing or wrong once.
func TestSignature(t *testing.T) {
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	edit := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			a := r.Header.Get("Authorization")
			if !strings.Contains(a, old) {
				t.Fatalf("%q is not in %q", old, a)
			}
			r.Header.Set("Authorization", strings.Replace(a, old, new, 1))
		}
	}
	for _, c := range []struct {
		what   string
		want   Type
		change func(*http.Request)
	}{
		{"good", "", func(*http.Request) {}},
		{"header that is not signed", "", header("X-More", "1")},
		{"none", MissingAuthentication, func(r *http.Request) { r.Header.Del("Authorization") }},
		{"two", IncompleteSignature, func(r *http.Request) { r.Header.Add("Authorization", "AWS4-HMAC-SHA256 a") }},
		{"another algorithm", IncompleteSignature, edit("AWS4-HMAC", "AWS5-HMAC")},
		{"too long", IncompleteSignature, edit("AWS4-HMAC-SHA256 ", "AWS4-HMAC-SHA256 "+strings.Repeat(" ", maxAuthorization))},
		{"basic", IncompleteSignature, header("Authorization", "Basic YTpi")},
		{"two fields", IncompleteSignature, header("Authorization", "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=b")},
		{"path in the identifier", IncompleteSignature, edit(testAccess.ID, "../../../master.key0")},
		{"short identifier", IncompleteSignature, edit(testAccess.ID, testAccess.ID[1:])},
		{"another day", IncompleteSignature, edit("/20150830/", "/20150829/")},
		{"another service", IncompleteSignature, edit("/kms/", "/sts/")},
		{"another end", IncompleteSignature, edit("aws4_request", "aws4_reques")},
		{"no region", IncompleteSignature, edit("/nitro/", "//")},
		{"another region", InvalidSignature, edit("/nitro/", "/other/")},
		{"no time", IncompleteSignature, func(r *http.Request) { r.Header.Del(headerDate) }},
		{"time of another form", IncompleteSignature, header(headerDate, "2015-08-30T12:36:00Z")},
		{"another time", InvalidSignature, header(headerDate, "20150830T123601Z")},
		{"two times", IncompleteSignature, func(r *http.Request) { r.Header.Add(headerDate, "20150830T123600Z") }},
		{"host not signed", IncompleteSignature, edit("host;", "")},
		{"type not signed", IncompleteSignature, edit("content-type;", "")},
		{"time not signed", IncompleteSignature, edit("x-amz-date;", "")},
		{"target not signed", IncompleteSignature, edit("x-amz-target;", "")},
		{"no target", IncompleteSignature, func(r *http.Request) { r.Header.Del(HeaderTarget) }},
		{"more of AWS's not signed", IncompleteSignature, header("X-Amz-More", "1")},
		{"two types", IncompleteSignature, func(r *http.Request) { r.Header.Add("Content-Type", "text/plain") }},
		{"not sorted", IncompleteSignature, edit("host;x-amz-date", "x-amz-date;host")},
		{"twice", IncompleteSignature, edit("host;", "host;host;")},
		{"upper case", IncompleteSignature, edit("x-other", "X-Other")},
		{"signed header that is not there", IncompleteSignature, func(r *http.Request) { r.Header.Del("X-Other") }},
		{"signed header changed", InvalidSignature, header("X-Other", "c")},
		{"short signature", IncompleteSignature, func(r *http.Request) { a := r.Header.Get("Authorization"); r.Header.Set("Authorization", a[:len(a)-2]) }},
		{"upper-case signature", IncompleteSignature, func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:len(a)-64]+strings.Repeat("A", 64))
		}},
		{"another signature", InvalidSignature, func(r *http.Request) {
			a := r.Header.Get("Authorization")
			r.Header.Set("Authorization", a[:len(a)-64]+strings.Repeat("0", 64))
		}},
		{"query", IncompleteSignature, func(r *http.Request) { r.URL.RawQuery = "Action=Decrypt" }},
		{"path", IncompleteSignature, func(r *http.Request) { r.URL.Path = "/a" }},
		{"method", InvalidSignature, func(r *http.Request) { r.Method = "PUT" }},
		{"host", InvalidSignature, func(r *http.Request) { r.Host = "kms.example" }},
		{"session token", UnrecognizedClient, func(r *http.Request) {
			r.Header.Set(headerToken, "t")
			Sign(r, []byte("{}"), testAccess, "nitro", epoch)
		}},
		{"body that is not signed", InvalidSignature, func(r *http.Request) {
			r.Header.Set(headerHash, "UNSIGNED-PAYLOAD")
			Sign(r, []byte("{}"), testAccess, "nitro", epoch)
		}},
		{"hash of the body", "", func(r *http.Request) {
			r.Header.Set(headerHash, hexHash([]byte("{}")))
			Sign(r, []byte("{}"), testAccess, "nitro", epoch)
		}},
	} {
		r := signed(t)
		c.change(r)
		g, problem := ReadSignature(r)
		if problem == nil {
			problem = g.Verify(r, []byte("{}"), []byte(testAccess.Secret), epoch)
		}
		if problem == nil && c.want != "" || problem != nil && problem.Type != c.want {
			t.Errorf("%s: %v", c.what, problem)
		}
	}
}

// TestTimes: 5 minutes, to both sides; and everything that a signature is over.
func TestTimes(t *testing.T) {
	r := signed(t)
	g, problem := ReadSignature(r)
	if problem != nil {
		t.Fatal(problem)
	}
	for by, good := range map[time.Duration]bool{0: true, Skew: true, -Skew: true, Skew + time.Second: false, -Skew - time.Second: false} {
		if problem := g.Verify(r, []byte("{}"), []byte(testAccess.Secret), epoch.Add(by)); (problem == nil) != good {
			t.Errorf("%v: %v", by, problem)
		}
	}
	if g.Verify(r, []byte("{ }"), []byte(testAccess.Secret), epoch) == nil || g.Verify(r, []byte("{}"), []byte(testAccess.Secret+"s"), epoch) == nil {
		t.Error("another body or secret passes")
	}
}

func TestReference(t *testing.T) {
	want := Reference{[16]byte{1, 15: 2}, [32]byte{3, 31: 4}}
	b := want.Encode()
	if got, problem := ParseReference(b); problem != nil || got != want || len(b) != ReferenceSize {
		t.Errorf("%+v, %v, %d bytes", got, problem, len(b))
	}
	for i := range 16 { // magic, version, reserved
		bad := bytes.Clone(b)
		bad[i] ^= 1
		if _, problem := ParseReference(bad); problem == nil {
			t.Errorf("byte %d may be changed", i)
		}
	}
	for _, bad := range [][]byte{nil, b[1:], append(b, 0)} {
		if _, problem := ParseReference(bad); problem == nil || problem.Type != InvalidCiphertext {
			t.Errorf("%d bytes: %v", len(bad), problem)
		}
	}
}

func TestReadDecrypt(t *testing.T) {
	const recipient = `"Recipient":{"KeyEncryptionAlgorithm":"RSAES_OAEP_SHA_256","AttestationDocument":"AQI="}`
	for _, c := range []struct {
		body string
		want Type
	}{
		{`{"CiphertextBlob":"AQI=",` + recipient + `}`, ""},
		{`{"CiphertextBlob":"AQI=",` + recipient + `,"GrantTokens":[],"EncryptionContext":{},"DryRun":false}`, ""},
		{``, Serialization},
		{`[]`, Serialization},
		{`null`, AccessDenied},
		{`{` + recipient + `}{}`, Serialization},
		{`{` + recipient + `} x`, Serialization},
		{`{"CiphertextBlob":"*",` + recipient + `}`, Serialization},
		{`{"CiphertextBlob":1,` + recipient + `}`, Serialization},
		{`{"OnlyIf":"x",` + recipient + `}`, Serialization},
		{`{"CiphertextBlob":"AQI="}`, AccessDenied},
		{`{"Recipient":null}`, AccessDenied},
		{`{"Recipient":{}}`, Validation},
		{`{"DryRunModifiers":["IGNORE_CIPHERTEXT"],` + recipient + `}`, Validation},
	} {
		in, problem := ReadDecrypt([]byte(c.body))
		if problem == nil && c.want != "" || problem != nil && problem.Type != c.want {
			t.Errorf("%s: %v", c.body, problem)
		}
		if problem == nil && !reflect.DeepEqual(in.CiphertextBlob, []byte{1, 2}) {
			t.Errorf("%s: %+v", c.body, in)
		}
	}
	out, err := json.Marshal(DecryptOutput{})
	if err != nil || bytes.Contains(out, []byte("Plaintext")) {
		t.Errorf("%s, %v", out, err)
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/authorizations.hex
var keptAuthorizations string

// FuzzReadSignature: whatever is read covers what it must, and names a file of no folder.
func FuzzReadSignature(f *testing.F) {
	corpus.Add(f, keptAuthorizations)
	f.Add([]byte(signed(f).Header.Get("Authorization")))
	f.Fuzz(func(t *testing.T, text []byte) {
		r := request(t, http.MethodPost, "{}", "Content-Type", ContentType, HeaderTarget, Target, headerDate, epoch.Format(dateForm), "Authorization", string(text))
		g, problem := ReadSignature(r)
		if problem != nil {
			return
		}
		if strings.ContainsAny(g.ID, "./") || len(g.ID) != AccessIDSize || len(g.headers) > maxSigned {
			t.Errorf("%+v", g)
		}
		if g.Verify(r, []byte("{}"), []byte(testAccess.Secret), epoch.Add(2*Skew)) == nil {
			t.Error("an old signature passes")
		}
		for _, name := range []string{"host", "content-type", "x-amz-date", "x-amz-target"} {
			if !strings.Contains(string(text), name) {
				t.Errorf("%s need not be signed", name)
			}
		}
	})
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/bodies.hex
var keptBodies string

// FuzzReadDecrypt: what is read has a recipient, and nothing that would be left out of account.
func FuzzReadDecrypt(f *testing.F) {
	corpus.Add(f, keptBodies)
	f.Fuzz(func(t *testing.T, body []byte) {
		in, problem := ReadDecrypt(body)
		if problem == nil && (in.Recipient == nil || len(in.GrantTokens)+len(in.EncryptionContext)+len(in.DryRunModifiers) > 0) {
			t.Errorf("%+v", in)
		}
		if problem == nil {
			ParseReference(in.CiphertextBlob)
		}
	})
}
