//go:build !arm

package api

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"nitro/net/audit"
	auditverify "nitro/net/audit/verify"
	"nitro/net/policy"
)

// A witness cosigns checkpoints (C2SP tlog-cosignature, type 0x04): docs/audit.md.
type witness struct {
	private ed25519.PrivateKey
	key     string // as the configuration has it
	hash    uint32
}

const witnessName = "witness.example/api"

func newWitness() (witness, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return witness{}, err
	}
	typed := append([]byte{4}, public...)
	digest := sha256.Sum256(append([]byte(witnessName+"\n"), typed...))
	hash := binary.BigEndian.Uint32(digest[:])
	return witness{private, fmt.Sprintf("%s+%08x+%s", witnessName, hash, base64.StdEncoding.EncodeToString(typed)), hash}, nil
}

// Name, KeyHash and Sign implement note.Signer.
func (w witness) Name() string    { return witnessName }
func (w witness) KeyHash() uint32 { return w.hash }
func (w witness) Sign(text []byte) ([]byte, error) {
	now := time.Now().Unix()
	s := binary.BigEndian.AppendUint64(nil, uint64(now))
	return append(s, ed25519.Sign(w.private, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", now, text))...), nil
}

// clearLog has the witness verify and cosign the last checkpoint, and the board clear what
// lies before it: that may have to wait until the board signs again.
func (b *bench) clearLog(t *testing.T) {
	t.Helper()
	for end := time.Now().Add(5 * time.Minute); ; time.Sleep(2 * time.Second) {
		b.cosign(t)
		a, err := b.do(policy.Auditor, "POST", auditPath+"/Actions/LogService.ClearLog", "")
		must(t, err)
		if a.status == 204 {
			return
		}
		if a.status != 409 || time.Now().After(end) {
			t.Fatalf("the log cannot be cleared: %d %s", a.status, a.text)
		}
	}
}

// cosign brings the last checkpoint to the witness, and back.
func (b *bench) cosign(t *testing.T) {
	t.Helper()
	o := b.want(t, policy.Auditor, "POST", auditPath+"/Actions/Oem/NitroLog.Export", fmt.Sprintf(`{"From":%d}`, b.first(t)), 200).object(t)
	text, err := json.Marshal(o["Export"])
	must(t, err)
	var export struct{ Origin, Checkpoint string }
	must(t, json.Unmarshal(text, &export))
	key, err := audit.VerifierKey(export.Origin, b.ak(t))
	must(t, err)
	if _, err := auditverify.Export(text, auditverify.Keys{Log: key}); err != nil {
		t.Fatal(err)
	}
	verifier, err := audit.NewLogVerifier(key)
	must(t, err)
	signed, err := note.Open([]byte(export.Checkpoint), note.VerifierList(verifier))
	must(t, err)
	cosigned, err := note.Sign(signed, b.witness)
	must(t, err)
	body, err := json.Marshal(map[string]string{"Checkpoint": string(cosigned)})
	must(t, err)
	b.want(t, policy.Auditor, "POST", auditPath+"/Actions/Oem/NitroLog.Witness", string(body), 204)
}

// first is the index of the first record that is kept.
func (b *bench) first(t *testing.T) int {
	t.Helper()
	var o struct {
		Members []struct {
			ID string `json:"Id"`
		}
	}
	must(t, json.Unmarshal(b.want(t, policy.Auditor, "GET", auditPath+"/Entries?$top=1", "", 200).text, &o))
	n := 0
	if len(o.Members) == 1 {
		_, err := fmt.Sscanf(o.Members[0].ID, "%d", &n)
		must(t, err)
	}
	return n
}

// ak is the key that signs the log's checkpoints. It is asked for once: a full log has no room
// for the asking.
func (b *bench) ak(t *testing.T) *ecdsa.PublicKey {
	t.Helper()
	if b.signer != nil {
		return b.signer
	}
	block, _ := pem.Decode([]byte(fmt.Sprint(b.want(t, policy.Auditor, "GET", akPath, "", 200).object(t)["CertificateString"])))
	if block == nil {
		t.Fatal("the AK's certificate is no PEM")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	b.signer = c.PublicKey.(*ecdsa.PublicKey)
	return b.signer
}
