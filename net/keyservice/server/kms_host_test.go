//go:build !arm

package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	sdk "github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/smithy-go"

	"nitro/attest/document"
	"nitro/attest/eventlog"
	"nitro/net/audit/tpmkey"
	"nitro/net/keyservice"
	"nitro/net/keyservice/kms"
	"nitro/net/policy"
	"nitro/nvme/key"
)

// This file drives the KMS face with the SDK of AWS as it is.

// principal is a control plane's.
func principal(name string) policy.Principal {
	return policy.Principal{Owner: owner, Role: policy.StorageControlPlane, Name: name}
}

// owner opens the folder as its owner does, beside the service.
func (r *rig) owner() *Owner {
	r.t.Helper()
	o := must(OpenOwner(r.folder, func() time.Time { return r.Service.now() }))(r.t)
	r.t.Cleanup(func() { o.Close() })
	return o
}

// sdk is a client of AWS's SDK that tries once.
func (r *rig) sdk(a kms.Access, more ...func(*sdk.Options)) *sdk.Client {
	t := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: r.tls.pool()}}
	r.t.Cleanup(t.CloseIdleConnections)
	return sdk.New(sdk.Options{
		Region: "eu-central-1", BaseEndpoint: aws.String(r.http.URL), HTTPClient: &http.Client{Transport: t}, RetryMaxAttempts: 1,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: a.ID, SecretAccessKey: a.Secret}, nil
		}),
	}, more...)
}

// document is a board's, with its recipient key.
func (b *board) document(t *testing.T) []byte {
	t.Helper()
	der := must(b.recipient.Public(t.Context()))(t)
	ak := must(tpmkey.New(b.boot.T, b.boot.S, b.boot.AK, b.source.AKPublic))(t)
	return must(document.Make(b.source, signer{ak}, document.Question{PublicKey: der}))(t)
}

// envelopeOf is a request for a key.
func envelopeOf(ciphertext, document []byte) *sdk.DecryptInput {
	return &sdk.DecryptInput{CiphertextBlob: ciphertext,
		Recipient: &types.RecipientInfo{KeyEncryptionAlgorithm: types.KeyEncryptionMechanismRsaesOaepSha256, AttestationDocument: document}}
}

// errorType is what an SDK makes of a refusal.
func errorType(err error) kms.Type {
	if e := smithy.APIError(nil); errors.As(err, &e) {
		return kms.Type(e.ErrorCode())
	}
	return ""
}

// TestSDK is the whole way of a key by AWS's SDK, to a board with a real TPM.
func TestSDK(t *testing.T) {
	r := newRig(t)
	b := r.board(6)
	a := must(r.owner().Access(principal("one")))(t)
	v := key.Volume{ID: [16]byte{1}, Salt: bytes.Repeat([]byte{5}, 32)}
	v.Commitment = must(r.control.CreateKey(t.Context(), v.ID))(t)
	text := b.document(t)
	g := must(r.control.Obtain(t.Context(), keyservice.Ask{Volume: v.ID, Lease: time.Minute, Form: keyservice.CMS}, b.prove(v.ID)))(t)
	if want := (kms.Reference{Volume: v.ID, Commitment: v.Commitment}).Encode(); g.Wrapped != nil || !bytes.Equal(g.Ciphertext, want) {
		t.Fatalf("wrapped %x, ciphertext %x", g.Wrapped, g.Ciphertext)
	}
	client := r.sdk(a)
	out, err := client.Decrypt(t.Context(), envelopeOf(g.Ciphertext, text))
	if err != nil {
		t.Fatal(err)
	}
	if out.Plaintext != nil || *out.KeyId != keyservice.Identity(v.ID) || out.EncryptionAlgorithm != types.EncryptionAlgorithmSpecSymmetricDefault {
		t.Errorf("%+v", out)
	}
	// Our own client has another envelope of the same key.
	own := must(kms.NewClient(keyservice.Setup{URL: r.http.URL, Roots: r.tls.pool()}, a))(t)
	defer own.Close()
	other, err := own.Decrypt(t.Context(), g.Ciphertext, text)
	if err != nil || bytes.Equal(other, out.CiphertextForRecipient) {
		t.Errorf("%x, %v", other, err)
	}
	g.Wrapped = out.CiphertextForRecipient
	r.accept(b, g, v)
	if _, err := client.Decrypt(t.Context(), envelopeOf(g.Ciphertext, text)); errorType(err) != kms.AccessDenied {
		t.Errorf("after the confirmation: %v", err)
	}
	grant := r.lines("grant")[0]
	l := r.lines("decrypt")
	if len(l) != 3 || l[0].Result != done || l[2].Result != refused {
		t.Fatalf("%+v", l)
	}
	if d := l[0]; d.Who != principal("one").String() || d.Access != a.ID || d.Volume != keyservice.Identity(v.ID) || d.Grant != grant.Grant || d.AK != grant.AK ||
		d.Board == "" || d.Controller == "" || len(d.Evidence) != 64 || d.Evidence == grant.Evidence || d.Form != "CMS" || d.Cycle != cycle || d.Ends == 0 {
		t.Errorf("%+v", d)
	}
	if c := r.lines("confirmation")[0]; c.Grant != grant.Grant {
		t.Errorf("%+v", c)
	}
}

// A shifted clock signs for another time.
type shifted struct{ by time.Duration }

func (s shifted) SignHTTP(ctx context.Context, c aws.Credentials, r *http.Request, hash, service, region string, at time.Time, o ...func(*v4.SignerOptions)) error {
	return v4.NewSigner().SignHTTP(ctx, c, r, hash, service, region, at.Add(s.by), o...)
}

// A tap keeps the last request, and can change each.
type tap struct {
	http.RoundTripper
	last   *http.Request
	body   []byte
	change func(*http.Request)
}

func (t *tap) RoundTrip(r *http.Request) (*http.Response, error) {
	t.body, _ = io.ReadAll(r.Body)
	if t.change != nil {
		t.change(r)
	}
	r.Body = io.NopCloser(bytes.NewReader(t.body))
	t.last = r.Clone(context.WithoutCancel(r.Context()))
	return t.RoundTripper.RoundTrip(r)
}

// TestSDKRefused: what docs/keyservice.md, "The KMS face" refuses, asked for by AWS's SDK.
func TestSDKRefused(t *testing.T) {
	r := newRig(t)
	good, other := r.board(6), r.board(6)
	o := r.owner()
	one, two := must(o.Access(principal("one")))(t), must(o.Access(principal("two")))(t)
	v, without := [16]byte{1}, [16]byte{2}
	commitment := must(r.control.CreateKey(t.Context(), v))(t)
	must(r.control.CreateKey(t.Context(), without))(t)
	plain := must(document.Make(good.source, signer{must(tpmkey.New(good.boot.T, good.boot.S, good.boot.AK, good.source.AKPublic))(t)}, document.Question{}))(t)
	text, stranger := good.document(t), other.document(t)
	ask := keyservice.Ask{Volume: v, Lease: 2 * time.Minute, Form: keyservice.CMS}
	blob := must(r.control.Obtain(t.Context(), ask, good.prove(v)))(t).Ciphertext

	wrong := kms.Access{ID: one.ID, Secret: two.Secret}
	unknown := kms.Access{ID: "NCAKAAAAAAAAAAAAAAAA", Secret: one.Secret}
	clock := func(by time.Duration) func(*sdk.Options) {
		return func(o *sdk.Options) { o.HTTPSignerV4 = shifted{by} }
	}
	proxy := func(change func(*http.Request)) func(*sdk.Options) {
		return func(o *sdk.Options) {
			c := o.HTTPClient.(*http.Client)
			o.HTTPClient = &http.Client{Transport: &tap{RoundTripper: c.Transport, change: change}}
		}
	}
	certificate := func(name string) func(*sdk.Options) {
		c := r.tls.issue(t, principal(name).String())
		return func(o *sdk.Options) {
			o.HTTPClient.(*http.Client).Transport.(*http.Transport).TLSClientConfig.Certificates = []tls.Certificate{c}
		}
	}
	with := func(change func(*sdk.DecryptInput)) *sdk.DecryptInput {
		in := envelopeOf(blob, text)
		change(in)
		return in
	}
	reference := func(volume [16]byte, commitment [32]byte) *sdk.DecryptInput {
		return envelopeOf(kms.Reference{Volume: volume, Commitment: commitment}.Encode(), text)
	}
	for _, c := range []struct {
		what   string
		want   kms.Type
		access kms.Access
		in     *sdk.DecryptInput
		more   []func(*sdk.Options)
	}{
		{"good", "", one, envelopeOf(blob, text), nil},
		{"with its key identifier", "", one, with(func(in *sdk.DecryptInput) { in.KeyId = aws.String(keyservice.Identity(v)) }), nil},
		{"with a certificate too", "", one, envelopeOf(blob, text), []func(*sdk.Options){certificate("one")}},
		{"clock 4 minutes ahead", "", one, envelopeOf(blob, text), []func(*sdk.Options){clock(4 * time.Minute)}},
		{"dry run", kms.DryRun, one, with(func(in *sdk.DecryptInput) { in.DryRun = aws.Bool(true) }), nil},
		{"wrong secret", kms.InvalidSignature, wrong, envelopeOf(blob, text), nil},
		{"unknown key", kms.UnrecognizedClient, unknown, envelopeOf(blob, text), nil},
		{"clock ahead", kms.InvalidSignature, one, envelopeOf(blob, text), []func(*sdk.Options){clock(6 * time.Minute)}},
		{"clock behind", kms.InvalidSignature, one, envelopeOf(blob, text), []func(*sdk.Options){clock(-6 * time.Minute)}},
		{"another control plane", kms.AccessDenied, two, envelopeOf(blob, text), nil},
		{"another's certificate", kms.AccessDenied, one, envelopeOf(blob, text), []func(*sdk.Options){certificate("two")}},
		{"body changed on the way", kms.InvalidSignature, one, envelopeOf(blob, text), []func(*sdk.Options){func(o *sdk.Options) {
			proxy(nil)(o)
			t := o.HTTPClient.(*http.Client).Transport.(*tap)
			t.change = func(*http.Request) { t.body[len(t.body)/2] ^= 1 }
		}}},
		{"header put in on the way", kms.IncompleteSignature, one, envelopeOf(blob, text), []func(*sdk.Options){proxy(func(q *http.Request) { q.Header.Set("X-Amz-Meta", "1") })}},
		{"operation changed on the way", kms.InvalidSignature, one, envelopeOf(blob, text), []func(*sdk.Options){proxy(func(q *http.Request) { q.Header.Set(kms.HeaderTarget, "TrentService.ListKeys") })}},
		{"host changed on the way", kms.InvalidSignature, one, envelopeOf(blob, text), []func(*sdk.Options){proxy(func(q *http.Request) { q.Host = "kms.amazonaws.com" })}},
		{"no signature", kms.MissingAuthentication, one, envelopeOf(blob, text), []func(*sdk.Options){proxy(func(q *http.Request) { q.Header.Del("Authorization") })}},
		{"session token", kms.UnrecognizedClient, one, envelopeOf(blob, text), []func(*sdk.Options){func(o *sdk.Options) {
			o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
				return aws.Credentials{AccessKeyID: one.ID, SecretAccessKey: one.Secret, SessionToken: "token"}, nil
			})
		}}},
		{"no recipient", kms.AccessDenied, one, with(func(in *sdk.DecryptInput) { in.Recipient = nil }), nil},
		{"recipient of another algorithm", kms.Validation, one, with(func(in *sdk.DecryptInput) { in.Recipient.KeyEncryptionAlgorithm = "RSAES_PKCS1_V1_5" }), nil},
		{"no document", kms.Validation, one, envelopeOf(blob, []byte("no document")), nil},
		{"document without a key", kms.Validation, one, envelopeOf(blob, plain), nil},
		{"another board's document", kms.AccessDenied, one, envelopeOf(blob, stranger), nil},
		{"no grant", kms.AccessDenied, one, reference(without, commitment), nil},
		{"another commitment", kms.InvalidCiphertext, one, reference(v, [32]byte{1}), nil},
		{"no reference", kms.InvalidCiphertext, one, envelopeOf(blob[1:], text), nil},
		{"another volume's identifier", kms.IncorrectKey, one, with(func(in *sdk.DecryptInput) { in.KeyId = aws.String(keyservice.Identity(without)) }), nil},
		{"encryption context", kms.InvalidCiphertext, one, with(func(in *sdk.DecryptInput) { in.EncryptionContext = map[string]string{"a": "b"} }), nil},
		{"another algorithm", kms.Validation, one, with(func(in *sdk.DecryptInput) { in.EncryptionAlgorithm = types.EncryptionAlgorithmSpecRsaesOaepSha256 }), nil},
		{"grant tokens", kms.Validation, one, with(func(in *sdk.DecryptInput) { in.GrantTokens = []string{"a"} }), nil},
		{"too long", kms.TooLarge, one, envelopeOf(make([]byte, kms.MaxBody), text), nil},
	} {
		before := len(r.lines("decrypt"))
		out, err := r.sdk(c.access, c.more...).Decrypt(t.Context(), c.in)
		if errorType(err) != c.want || err != nil && c.want == "" || c.want == "" && out.Plaintext != nil {
			t.Errorf("%s: %v", c.what, err)
		}
		l := r.lines("decrypt")
		if len(l) != before+1 || (l[before].Result == refused) != (c.want != "") {
			t.Errorf("%s: in the log: %+v", c.what, l[before:])
			continue
		}
		if e := (*awshttp.ResponseError)(nil); errors.As(err, &e) && e.ServiceRequestID() != l[before].ID {
			t.Errorf("%s: request %s, in the log %s", c.what, e.ServiceRequestID(), l[before].ID)
		}
	}

	client := r.sdk(one)
	for i := 0; i < len(text); i += 61 { // each part of a document is covered
		changed := bytes.Clone(text)
		changed[i] ^= 1
		if _, err := client.Decrypt(t.Context(), envelopeOf(blob, changed)); errorType(err) != kms.Validation && errorType(err) != kms.AccessDenied {
			t.Errorf("byte %d of the document changed: %v", i, err)
		}
	}
	for what, call := range map[string]func() error{
		"ListKeys": func() error { _, err := client.ListKeys(t.Context(), &sdk.ListKeysInput{}); return err },
		"GenerateDataKey": func() error {
			_, err := client.GenerateDataKey(t.Context(), &sdk.GenerateDataKeyInput{KeyId: aws.String("a"), KeySpec: types.DataKeySpecAes256})
			return err
		},
		"Encrypt": func() error {
			_, err := client.Encrypt(t.Context(), &sdk.EncryptInput{KeyId: aws.String("a"), Plaintext: []byte("b")})
			return err
		},
	} {
		if err := call(); errorType(err) != kms.UnknownOperation {
			t.Errorf("%s: %v", what, err)
		}
	}

	// A grant of form CMS is a control plane's alone.
	if _, err := r.alone.Obtain(t.Context(), ask, good.prove(v)); code(err) != keyservice.Forbidden || !strings.Contains(err.Error(), "for control planes") {
		t.Errorf("a board asks for an envelope: %v", err)
	}
	// Two boards would have to measure one recipient key for this.
	w := &r.waiting.all[len(r.waiting.all)-1]
	w.grant.AK[5] ^= 1
	if _, err := client.Decrypt(t.Context(), envelopeOf(blob, text)); errorType(err) != kms.AccessDenied {
		t.Errorf("a grant for another board: %v", err)
	}
	w.grant.AK[5] ^= 1
	// The lease of the grant ends, then a new one is there, of a host cycle that ends too.
	blob = must(r.control.Obtain(t.Context(), ask, good.prove(v)))(t).Ciphertext
	if _, err := client.Decrypt(t.Context(), envelopeOf(blob, text)); err != nil {
		t.Errorf("a second grant: %v", err)
	}
	r.pass(ask.Lease + time.Second)
	if _, err := client.Decrypt(t.Context(), envelopeOf(blob, text)); errorType(err) != kms.AccessDenied {
		t.Errorf("after the lease: %v", err)
	}
	blob = must(r.control.Obtain(t.Context(), ask, good.prove(v)))(t).Ciphertext
	if err := good.source.Log.Measure(chip{good.boot}, eventlog.HostCycle(cycle+1, eventlog.Verified)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Decrypt(t.Context(), envelopeOf(blob, good.document(t))); errorType(err) != kms.AccessDenied {
		t.Errorf("a document of another state: %v", err)
	}
	if _, err := client.Decrypt(t.Context(), envelopeOf(blob, text)); err != nil {
		t.Errorf("of this state: %v", err) // the board refuses the grant, whose cycle has ended
	}
	if err := r.control.DeleteKey(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Decrypt(t.Context(), envelopeOf(blob, text)); errorType(err) != kms.NotFound {
		t.Errorf("a deleted key: %v", err)
	}
	again := must(r.control.CreateKey(t.Context(), v))(t)
	if _, err := client.Decrypt(t.Context(), envelopeOf(blob, text)); errorType(err) != kms.InvalidCiphertext {
		t.Errorf("a key that was made again: %v", err)
	}
	if _, err := client.Decrypt(t.Context(), reference(v, again)); errorType(err) != kms.InvalidCiphertext {
		t.Errorf("the grant of before, for a key that was made again: %v", err)
	}
}

// TestSDKReplay: a request counts once, to the byte; and an SDK whose clock is wrong helps
// itself.
func TestSDKReplay(t *testing.T) {
	r := newRig(t)
	b := r.board(6)
	a := must(r.owner().Access(principal("one")))(t)
	v := [16]byte{1}
	must(r.control.CreateKey(t.Context(), v))(t)
	text := b.document(t)
	blob := must(r.control.Obtain(t.Context(), keyservice.Ask{Volume: v, Lease: time.Hour, Form: keyservice.CMS}, b.prove(v)))(t).Ciphertext
	var k *tap
	client := r.sdk(a, func(o *sdk.Options) {
		k = &tap{RoundTripper: o.HTTPClient.(*http.Client).Transport}
		o.HTTPClient = &http.Client{Transport: k}
	})
	if _, err := client.Decrypt(t.Context(), envelopeOf(blob, text)); err != nil {
		t.Fatal(err)
	}
	q := k.last.Clone(t.Context())
	q.Body, q.RequestURI = io.NopCloser(bytes.NewReader(k.body)), ""
	answer, err := k.RoundTripper.RoundTrip(q)
	if err != nil {
		t.Fatal(err)
	}
	said, _ := io.ReadAll(answer.Body)
	answer.Body.Close()
	if answer.StatusCode != http.StatusBadRequest || !bytes.Contains(said, []byte("used already")) {
		t.Errorf("replayed: %d %s", answer.StatusCode, said)
	}
	r.pass(6 * time.Minute)
	if _, err := client.Decrypt(t.Context(), envelopeOf(blob, text)); errorType(err) != kms.InvalidSignature {
		t.Errorf("6 minutes late: %v", err)
	}
	if _, err := r.sdk(a, func(o *sdk.Options) { o.RetryMaxAttempts = 2 }).Decrypt(t.Context(), envelopeOf(blob, text)); err != nil {
		t.Errorf("6 minutes late, with another attempt: %v", err)
	}
	// One control plane's signatures are bounded, and age.
	now := r.now
	for i := range maxSignatures + 1 {
		g := &kms.Signature{Time: now, MAC: [32]byte{byte(i), byte(i >> 8), 1}}
		if problem := r.signatures.use("b", g, now); (problem != nil) != (i == maxSignatures) {
			t.Fatalf("signature %d: %v", i, problem)
		}
	}
	if problem := r.signatures.use("c", &kms.Signature{Time: now}, now); problem != nil {
		t.Errorf("one keeps another out: %v", problem)
	}
	if problem := r.signatures.use("b", &kms.Signature{Time: now.Add(kms.Skew + 1)}, now.Add(kms.Skew+1)); problem != nil {
		t.Errorf("later: %v", problem)
	}
}
