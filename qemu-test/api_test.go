//go:build !arm

package qemutest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"nitro/attest/eventlog"
	"nitro/attest/tpm"
	"nitro/boot/card"
	"nitro/boot/image"
	"nitro/boot/medium"
	"nitro/net/audit"
	auditverify "nitro/net/audit/verify"
	"nitro/net/policy"
)

// clientsOf are HTTP clients of the roles, one each for a run: their connections stay open.
type clientsOf struct {
	board *trustedBoard
	mu    sync.Mutex
	all   map[policy.Role]*http.Client
}

func newClients(b *trustedBoard) *clientsOf {
	return &clientsOf{board: b, all: map[policy.Role]*http.Client{}}
}

// as is the client of a role; "" is one without a certificate.
func (c *clientsOf) as(role policy.Role) *http.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.all[role]; ok {
		return known
	}
	config := &tls.Config{InsecureSkipVerify: true} // the certificate is of this boot
	if role != "" {
		pair, err := c.board.factory.Clients.Certificate(role, "test")
		must(c.board.t, err)
		config.Certificates = []tls.Certificate{pair}
	}
	transport := &http.Transport{TLSClientConfig: config}
	c.board.t.Cleanup(transport.CloseIdleConnections)
	c.all[role] = &http.Client{Timeout: time.Minute, Transport: transport}
	return c.all[role]
}

// ask gives the status and the body as JSON.
func (c *clientsOf) ask(role policy.Role, method, path, body string) (int, map[string]any) {
	c.board.t.Helper()
	address, err := c.board.Address(443)
	must(c.board.t, err)
	r, err := http.NewRequestWithContext(c.board.t.Context(), method, "https://"+address+path, strings.NewReader(body))
	must(c.board.t, err)
	r.Header.Set("Content-Type", "application/json")
	answer, err := c.as(role).Do(r)
	must(c.board.t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	must(c.board.t, err)
	o := map[string]any{}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &o); err != nil {
			c.board.t.Errorf("%s %s: %d %s: %v", method, path, answer.StatusCode, text, err)
		}
	}
	return answer.StatusCode, o
}

// want asks, and compares the status.
func (c *clientsOf) want(role policy.Role, method, path, body string, status int) map[string]any {
	c.board.t.Helper()
	got, o := c.ask(role, method, path, body)
	if got != status {
		c.board.t.Errorf("%q: %s %s: %d, not %d: %v", role, method, path, got, status, o)
	}
	return o
}

const (
	hostPath      = "/redfish/v1/Systems/host"
	integrityPath = "/redfish/v1/ComponentIntegrity/tpm"
	quotePath     = integrityPath + "/Actions/ComponentIntegrity.TPMGetSignedMeasurements"
	akPath        = "/redfish/v1/Chassis/controller/TrustedComponents/tpm/Certificates/ak"
	auditPath     = "/redfish/v1/Managers/controller/LogServices/audit"
)

// TestGateway: the board lets in who has a certificate and a policy that permits what is
// asked, keeps a record of it that verifies far away, and quotes for verifiers.
func TestGateway(t *testing.T) {
	b := newProvisioned(t)
	b.on(nil)
	b.says(`controller: policy set of epoch 1`)
	b.says(`controller: audit log imx6ul-evk/\S+: \d+ records`)
	b.says(`controller: ready`)
	c := newClients(b)

	for _, path := range []string{"/redfish", "/redfish/v1/", hostPath, "/redfish/v1/nothing"} {
		c.want("", "GET", path, "", 401)
	}
	if o := c.want("", "GET", "/v1/status", "", 200); o["state"] != "in service" {
		t.Errorf("status to strangers: %v", o)
	}
	if o := c.want(policy.Operator, "GET", hostPath, "", 200); o["PowerState"] != "Off" {
		t.Errorf("a host that is not guarded: %v", o)
	}
	if o := c.want(policy.Operator, "GET", "/redfish/v1/", "", 200); o["Id"] != "RootService" || o["Product"] != "MCIMX6UL-EVK" {
		t.Errorf("service root: %v", o)
	}
	c.want(policy.Operator, "POST", hostPath+"/Actions/ComputerSystem.Reset", `{"ResetType":"ForceOff"}`, 204)
	c.want(policy.Operator, "POST", hostPath+"/Actions/ComputerSystem.Reset", `{"ResetType":"On"}`, 409)
	c.want(policy.Auditor, "POST", hostPath+"/Actions/ComputerSystem.Reset", `{"ResetType":"ForceOff"}`, 403)
	c.want(policy.FleetVerifier, "GET", hostPath, "", 403)
	if o := c.want(policy.Operator, "GET", "/redfish/v1/AccountService", "", 200); o["Oem"].(map[string]any)["Nitro"].(map[string]any)["PolicyEpoch"] != 1.0 {
		t.Errorf("accounts: %v", o)
	}
	inventory := c.want(policy.ReleaseManager, "GET", "/redfish/v1/UpdateService/FirmwareInventory?$expand=.", "", 200)
	if text := fmt.Sprint(inventory); !strings.Contains(text, fmt.Sprintf("%x", b.release.Controller.Digest)) || !strings.Contains(text, "slot-a") {
		t.Errorf("inventory: %v", inventory)
	}
	c.want(policy.Operator, "POST", "/redfish/v1/UpdateService/Actions/UpdateService.StartUpdate", "{}", 403)
	b.redfishQuote(c)
	b.documents(c)
	b.replaceCertificate(c)
	b.measuredPolicy()
	b.auditLog(c)
}

// redfishQuote has a verifier quoted to, and judges the quote by itself.
func (b *trustedBoard) redfishQuote(c *clientsOf) {
	t := b.t
	t.Helper()
	ask := func(nonce, scheme, selection []byte) string {
		return fmt.Sprintf(`{"Certificate":{"@odata.id":%q},"Nonce":"%x","Scheme":%q,"PCRSelection":%q}`, akPath, nonce,
			base64.StdEncoding.EncodeToString(scheme), base64.StdEncoding.EncodeToString(selection))
	}
	nonce := make([]byte, 32)
	rand.Read(nonce)
	scheme := []byte{0, 0x18, 0, 0x0b} // ECDSA, SHA-256
	all := tpm2.Marshal(tpm.PCRSelection(0, 1, 2, 3, 4, 5, 6, 7, 8))
	for name, body := range map[string]string{
		"no PCR":         ask(nonce, scheme, tpm2.Marshal(tpm.PCRSelection())),
		"no selection":   ask(nonce, scheme, []byte{0, 0, 0, 0}),
		"something else": ask(nonce, scheme, append(bytes.Clone(all), 0)),
		"RSA":            ask(nonce, []byte{0, 0x14, 0, 0x0b}, all),
	} {
		if status, _ := c.ask(policy.FleetVerifier, "POST", quotePath, body); status != 400 {
			t.Errorf("a quote with %s: %d", name, status)
		}
	}
	c.want(policy.ReleaseManager, "POST", quotePath, ask(nonce, scheme, all), 403)
	o := c.want(policy.FleetVerifier, "POST", quotePath, ask(nonce, scheme, all), 200)
	signed, err := base64.StdEncoding.DecodeString(fmt.Sprint(o["SignedMeasurements"]))
	must(t, err)
	attest, err := tpm2.Unmarshal[tpm2.TPMSAttest](signed)
	must(t, err)
	quoted := tpm2.Marshal(attest)
	signature, err := tpm2.Unmarshal[tpm2.TPMTSignature](signed[len(quoted):])
	must(t, err)
	ecc, err := signature.Signature.ECDSA()
	must(t, err)
	certificate := c.want(policy.FleetVerifier, "GET", akPath, "", 200)
	block, _ := pem.Decode([]byte(fmt.Sprint(certificate["CertificateString"])))
	ak, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	issuer, _, err := b.factory.Keys.Issuer()
	must(t, err, ak.CheckSignatureFrom(issuer))
	digest := sha256.Sum256(quoted)
	r, s := new(big.Int).SetBytes(ecc.SignatureR.Buffer), new(big.Int).SetBytes(ecc.SignatureS.Buffer)
	if !ecdsa.Verify(ak.PublicKey.(*ecdsa.PublicKey), digest[:], r, s) || !bytes.Equal(attest.ExtraData.Buffer, nonce) {
		t.Error("the quote does not verify")
	}
	// What is quoted is what the resource says, and what the log explains.
	values := sha256.New()
	measured := c.want(policy.FleetVerifier, "GET", integrityPath, "", 200)["TPM"].(map[string]any)["MeasurementSet"].(map[string]any)["Measurements"].([]any)
	for _, m := range measured {
		v, err := base64.StdEncoding.DecodeString(fmt.Sprint(m.(map[string]any)["Measurement"]))
		must(t, err)
		values.Write(v)
	}
	info, err := attest.Attested.Quote()
	must(t, err)
	if len(measured) != 9 || !bytes.Equal(info.PCRDigest.Buffer, values.Sum(nil)) {
		t.Errorf("the quote is not over the %d values that are shown", len(measured))
	}
}

// replaceCertificate has TLS show another chain, on an open connection.
func (b *trustedBoard) replaceCertificate(c *clientsOf) {
	t := b.t
	t.Helper()
	const service = "/redfish/v1/CertificateService/Actions/CertificateService."
	const certificates = "/redfish/v1/Managers/controller/NetworkProtocol/HTTPS/Certificates"
	o := c.want(policy.Operator, "POST", service+"GenerateCSR", `{"CertificateCollection":{"@odata.id":"`+certificates+`"},"CommonName":"board","AlternativeNames":["board.example"]}`, 200)
	block, _ := pem.Decode([]byte(fmt.Sprint(o["CSRString"])))
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	must(t, err, csr.CheckSignature())
	issued, err := b.factory.Clients.Server(csr)
	must(t, err)
	replace := func(der []byte, status int) {
		text, _ := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
		c.want(policy.Operator, "POST", service+"ReplaceCertificate", `{"CertificateUri":{"@odata.id":"`+certificates+`/server"},"CertificateType":"PEM","CertificateString":`+string(text)+`}`, status)
	}
	replace(b.factory.Clients.CA.Raw, 400) // of another key
	replace(issued.Raw, 204)
	address, err := b.Address(443)
	must(t, err)
	roots := x509.NewCertPool()
	roots.AddCert(b.factory.Clients.CA)
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: "board.example"}}).DialContext(t.Context(), "tcp", address)
	must(t, err)
	defer conn.Close()
	if s := conn.(*tls.Conn).ConnectionState(); s.CurveID != tls.X25519MLKEM768 {
		t.Errorf("key exchange by %v", s.CurveID)
	}
}

// measuredPolicy: evidence has the policy set that the factory wrote.
func (b *trustedBoard) measuredPolicy() {
	b.t.Helper()
	set, err := b.factory.Policy(1, nil)
	must(b.t, err)
	r, err := b.evidence(nil)
	must(b.t, err)
	want := eventlog.Policy(sha256.Sum256(set[image.HeaderSize:]), 1)
	for _, e := range r.Facts.Log.Events() {
		if e == want {
			return
		}
	}
	b.t.Errorf("no event %v in %v", want, r.Facts.Log.Events())
}

// auditLog has an auditor read the log, fill a segment, and verify an export far away.
func (b *trustedBoard) auditLog(c *clientsOf) {
	t := b.t
	t.Helper()
	c.want(policy.FleetVerifier, "GET", auditPath+"/Entries", "", 403)
	var records []audit.Record
	read := func() {
		records = nil
		for next := auditPath + "/Entries?$top=200"; next != ""; {
			o := c.want(policy.Auditor, "GET", next, "", 200)
			for _, m := range o["Members"].([]any) {
				r, err := audit.DecodeRecord([]byte(fmt.Sprint(m.(map[string]any)["Message"])))
				must(t, err)
				records = append(records, *r)
			}
			next, _ = o["Members@odata.nextLink"].(string)
		}
	}
	read()
	find := func(kind audit.Kind, role policy.Role, action policy.Action) bool {
		for _, r := range records {
			if r.Kind == kind && strings.Contains(r.Who, "/"+string(role)+"/") && r.Action == string(action) {
				return true
			}
		}
		return false
	}
	for _, w := range []struct {
		kind   audit.Kind
		role   policy.Role
		action policy.Action
	}{
		{audit.KindIntent, policy.Operator, policy.ResetHost}, {audit.KindOutcome, policy.Operator, policy.ResetHost},
		{audit.KindDenied, policy.Auditor, policy.ResetHost}, {audit.KindDenied, policy.FleetVerifier, policy.ReadHost},
		{audit.KindOutcome, policy.FleetVerifier, policy.Quote},
	} {
		if !find(w.kind, w.role, w.action) {
			t.Errorf("no record %v of %s %s", w.kind, w.role, w.action)
		}
	}
	for range audit.SegmentRecords / 2 { // two records each
		c.want(policy.Auditor, "HEAD", auditPath, "", 200)
	}
	seen := len(records)
	end := time.Now().Add(3 * time.Minute)
	for {
		o := c.want(policy.Auditor, "POST", auditPath+"/Actions/Oem/NitroLog.Export", `{"From":0}`, 200)
		text, err := json.Marshal(o["Export"])
		must(t, err)
		issued := c.want(policy.Auditor, "GET", akPath, "", 200)
		block, _ := pem.Decode([]byte(fmt.Sprint(issued["CertificateString"])))
		ak, err := x509.ParseCertificate(block.Bytes)
		must(t, err)
		export := struct{ Origin string }{}
		must(t, json.Unmarshal(text, &export))
		key, err := audit.VerifierKey(export.Origin, ak.PublicKey.(*ecdsa.PublicKey))
		must(t, err)
		result, err := auditverify.Export(text, auditverify.Keys{Log: key})
		must(t, err)
		if int(result.Head.Size) >= seen {
			break
		}
		if time.Now().After(end) {
			t.Errorf("signed are %d records, and %d were there long ago", result.Head.Size, seen)
			break
		}
		time.Sleep(2 * time.Second)
	}
}

// TestOldPolicySet: a board whose card has an older policy set than it has had, or none
// that is good, stays in service, shows evidence and status, and lets nobody do anything.
func TestOldPolicySet(t *testing.T) {
	b := newProvisioned(t)
	write := func(epoch uint64) {
		t.Helper()
		set, err := b.factory.Policy(epoch, nil)
		must(t, err)
		f, err := card.Open(b.card, true)
		must(t, err)
		must(t, medium.WritePlace(f, medium.PolicySets[0], set), medium.WritePlace(f, medium.PolicySets[1], set), f.Close())
	}
	write(2)
	b.on(nil)
	b.says(`controller: policy set of epoch 2`)
	b.says(`controller: ready`)
	b.off()
	write(1)
	b.on(nil)
	b.says(`copy 2 of 2: policy: epoch 1: the board has had 2: sign a newer set`)
	b.says(`controller: the API serves evidence and status alone`)
	b.says(`controller: ready`)
	c := newClients(b)
	c.want("", "GET", "/redfish/v1/", "", 401)
	c.want(policy.Operator, "GET", hostPath, "", 200)
	c.want(policy.Operator, "POST", hostPath+"/Actions/ComputerSystem.Reset", `{"ResetType":"ForceOff"}`, 403)
	c.want(policy.Auditor, "GET", auditPath+"/Entries", "", 403)
	c.want(policy.FleetVerifier, "GET", integrityPath, "", 200)
	if s := b.status(); s.State != "in service" {
		t.Errorf("it is %+v", s)
	}
}

// TestQuarantineGateway: a board in quarantine shows its clients evidence and status, and
// does nothing for them; what they ask is in the TPM's digest.
func TestQuarantineGateway(t *testing.T) {
	b := newProvisioned(t)
	f, err := card.Open(b.card, true)
	must(t, err)
	for _, p := range medium.SealedObjects {
		must(t, medium.WritePlace(f, p, make([]byte, p.Size)))
	}
	must(t, f.Close())
	b.on(nil)
	b.says(`controller: quarantine: code 501 sealed-object-missing`)
	b.says(`controller: ready`)
	c := newClients(b)
	c.want("", "GET", "/redfish/v1/Managers/controller", "", 401)
	if o := c.want(policy.Operator, "GET", "/redfish/v1/Managers/controller", "", 200); o["Status"].(map[string]any)["State"] != "Quiesced" {
		t.Errorf("the manager: %v", o)
	}
	if o := c.want(policy.Operator, "GET", hostPath, "", 200); o["PowerState"] != "Off" {
		t.Errorf("the host: %v", o)
	}
	c.want(policy.FleetVerifier, "GET", integrityPath, "", 200)
	c.want(policy.Operator, "POST", hostPath+"/Actions/ComputerSystem.Reset", `{"ResetType":"On"}`, 403)
	c.want(policy.Operator, "GET", "/redfish/v1/AccountService", "", 403)
	c.want(policy.Auditor, "GET", auditPath, "", 404)
}
