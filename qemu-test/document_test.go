//go:build !arm

package qemutest

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"nitro/attest/document"
	"nitro/attest/evidence"
	"nitro/attest/golden"
	"nitro/attest/verify"
	"nitro/net/policy"
	"nitro/nvme/key"
)

const documentPath = integrityPath + "/Actions/Oem/NitroDocument.Get"

// documents: the board's attestation document verifies far away, with the key that it has
// made for envelopes; meanwhile it says when to ask again.
func (b *trustedBoard) documents(c *clientsOf) {
	t := b.t
	t.Helper()
	nonce := make([]byte, 32)
	rand.Read(nonce)
	ask := func(recipient bool) string {
		return fmt.Sprintf(`{"Nonce":%q,"Recipient":%v}`, base64.StdEncoding.EncodeToString(nonce), recipient)
	}
	c.want(policy.ReleaseManager, "POST", documentPath, ask(false), 403)
	first := c.want(policy.FleetVerifier, "POST", documentPath, ask(false), 200)
	var last map[string]any
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(5 * time.Second) {
		status, o := c.ask(policy.StorageControlPlane, "POST", documentPath, ask(true))
		if status == http.StatusOK {
			last = o
			break
		}
		if status != http.StatusServiceUnavailable || time.Now().After(end) {
			t.Fatalf("a document with the recipient key: %d %v", status, o)
		}
	}
	code, text := b.ask("POST", "/v1/evidence", fmt.Sprintf(`{"nonce":"%x"}`, nonce))
	if code != http.StatusOK {
		t.Fatalf("evidence: %d %s", code, text)
	}
	beside, err := evidence.Decode(text)
	must(t, err)
	issuer, _, err := b.factory.Keys.Issuer()
	must(t, err)
	p := verify.Policy{Nonce: nonce, Issuers: x509.NewCertPool(), Releases: []*golden.Release{b.release.Golden}, Development: true, OpenLifeCycle: true, WeakSecret: true}
	p.Issuers.AddCert(issuer)
	bytesOf := func(o map[string]any) []byte {
		text, err := base64.StdEncoding.DecodeString(fmt.Sprint(o["Document"]))
		must(t, err)
		return text
	}
	d, r, err := document.Verify(bytesOf(last), beside, p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.ParseRecipient(d.PublicKey); err != nil || r.Facts.Recipient == nil || *r.Facts.Recipient != d.Recipient {
		t.Errorf("the recipient key: %v, %+v", err, r.Facts)
	}
	// The first one was made before the key was measured, so it is of another state.
	if _, _, err := document.Verify(bytesOf(first), beside, p); err == nil {
		t.Error("a document of before a measurement is accepted with the log of after it")
	}
}
