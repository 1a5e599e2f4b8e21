//go:build !arm

package key

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestOpenSSL: OpenSSL opens our envelopes, and we open its, whichever way it names the
// recipient.
func TestOpenSSL(t *testing.T) {
	r := newRig(t, 1)
	k := r.withRecipient()
	private, _ := r.conf.Recipient.private()
	dir := t.TempDir()
	id, _ := RecipientHash(k)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a board"}, NotBefore: time.Unix(1, 0), NotAfter: time.Now().Add(time.Hour), SubjectKeyId: id[:]}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	file := func(name string, b []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert := file("cert", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	key := file("key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	openssl := func(args ...string) []byte {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), "openssl", append([]string{"cms", "-binary"}, args...)...).Output()
		if err != nil {
			t.Fatalf("openssl %v: %v", args, err)
		}
		return out
	}
	ours := file("ours", wrapEnvelope(t, k, r.key))
	if got := openssl("-decrypt", "-inform", "DER", "-in", ours, "-recip", cert, "-inkey", key); !bytes.Equal(got, r.key) {
		t.Errorf("OpenSSL opens ours as %d bytes", len(got))
	}
	plain := file("plain", r.key)
	for _, more := range [][]string{nil, {"-keyid"}} {
		args := append([]string{"-encrypt", "-aes-256-cbc", "-outform", "DER", "-in", plain}, more...)
		theirs := openssl(append(args, "-recip", cert, "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256", "-keyopt", "rsa_mgf1_md:sha256")...)
		if err := r.deliverEnvelope(r.envelopeGrant(r.request()), theirs); err != nil {
			t.Errorf("%v: %d bytes: %v", more, len(theirs), err)
			continue
		}
		r.Detach(r.volume.ID)
	}
}
