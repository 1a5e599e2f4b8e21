//go:build !arm

package qemutest

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/google/go-attestation/attest"

	"nitro/attest/evidence"
)

// stock has tools that know nothing of this board verify its evidence: tpm2-tools and
// go-attestation, as they are.
func (t *tool) stock() {
	t.t.Helper()
	nonce := make([]byte, 32)
	rand.Read(nonce)
	code, text := t.ask("POST", "/v1/evidence", fmt.Sprintf(`{"nonce":"%x"}`, nonce))
	if code != http.StatusOK {
		t.t.Fatalf("evidence: %d %s", code, text)
	}
	must(t.t, os.WriteFile(filepath.Join(t.folder, "evidence.json"), text, 0o600))
	t.run(nil, "attest export -in evidence.json -out evidence")
	check := func(asked []byte) ([]byte, error) {
		cmd := exec.CommandContext(t.t.Context(), "tpm2_checkquote", "-u", "ak.pem", "-m", "quote", "-s", "signature", "-f", "pcrs", "-e", "log", "-g", "sha256", "-q", hex.EncodeToString(asked))
		cmd.Dir = filepath.Join(t.folder, "evidence")
		return cmd.CombinedOutput()
	}
	if out, err := check(nonce); err != nil {
		t.t.Errorf("tpm2_checkquote: %v\n%s", err, out)
	}
	if out, err := check([]byte("another nonce")); err == nil {
		t.t.Errorf("tpm2_checkquote accepts another nonce: %s", out)
	}
	e, err := evidence.Decode(text)
	must(t.t, err)
	ak, err := attest.ParseAKPublic(e.AKPublic)
	must(t.t, err)
	var pcrs []attest.PCR
	for i, v := range e.PCRs {
		pcrs = append(pcrs, attest.PCR{Index: i, Digest: bytes.Clone(v[:]), DigestAlg: crypto.SHA256})
	}
	if err := ak.VerifyAll([]attest.Quote{{Quote: e.Quote, Signature: e.Signature}}, pcrs, nonce); err != nil {
		t.t.Errorf("go-attestation: %v", err)
	}
	log, err := attest.ParseEventLog(e.EventLog)
	must(t.t, err)
	if _, err := log.Verify(pcrs); err != nil {
		t.t.Errorf("go-attestation: event log: %v", err)
	}
}
