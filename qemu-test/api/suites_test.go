//go:build !arm

package api

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-attestation/attest"
	"github.com/google/go-tpm/tpm2"

	"nitro/attest/evidence"
	"nitro/attest/tpm"
	"nitro/internal/tied"
	"nitro/net/policy"
	"nitro/net/provisioning"
)

// pin is the SHA-256 of the board's TLS key, which it must have proved elsewhere.
func (b *bench) pin(t *testing.T) string {
	t.Helper()
	conn, err := b.Dial(t.Context(), anyServer())
	must(t, err)
	defer conn.Close()
	return fmt.Sprintf("%x", provisioning.KeyDigest(conn.ConnectionState().PeerCertificates[0]))
}

// pair writes a client's certificate and key.
func (b *bench) pair(t *testing.T, role policy.Role, name string) (cert, key string) {
	t.Helper()
	pair, err := b.Factory.Clients.Certificate(role, name)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	must(t, err)
	folder := t.TempDir()
	cert, key = filepath.Join(folder, "cert.pem"), filepath.Join(folder, "key.pem")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	return cert, key
}

// gateway has Redfish clients that know no client certificates use the board, by way of
// nitroctl's gateway: DMTF's redfishtool, and OpenStack's sushy.
func (b *bench) gateway(t *testing.T) {
	cert, key := b.pair(t, policy.Operator, "gateway")
	cmd := exec.Command(b.program(t), "gateway", "-board", b.address, "-pin", b.pin(t), "-cert", cert, "-key", key, "-listen", "127.0.0.1:0")
	told, err := cmd.StderrPipe()
	must(t, err)
	running, err := tied.Start(cmd)
	must(t, err)
	defer func() { running.Kill(); <-running.Ended() }()
	line, err := bufio.NewReader(told).ReadString('\n')
	must(t, err)
	m := regexp.MustCompile(`http://(\S+)/redfish/v1/ user (\S+) password (\S+)`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("the gateway says %q", line)
	}
	b.redfishtool(t, m[1], m[2], m[3])
	b.sushy(t, m[1], m[2], m[3], cert)
}

func (b *bench) redfishtool(t *testing.T, address, user, password string) {
	t.Helper()
	for _, c := range []struct {
		password, command, want string
	}{
		{password, "Systems -1", `"PowerState": "Off"`},
		{password, "Systems -1 reset ForceOff", ""},
		{password, "Managers -1", `"ManagerType": "ManagementController"`},
		{password, "Chassis -a", `controller`},
		{password, "raw GET " + tpmPath, `"#ComponentIntegrity.TPMGetSignedMeasurements"`},
		{"wrong", "Systems -1", "401"},
	} {
		args := append([]string{"-r", address, "-u", user, "-p", c.password, "-S", "Never", "-A", "Basic", "-T", "60"}, strings.Fields(c.command)...)
		out, err := run(t, "", "redfishtool", args...)
		if !strings.Contains(string(out), c.want) || c.want == "" && err != nil {
			t.Errorf("redfishtool %s: %v\n%s", c.command, err, out)
		}
	}
}

// sushyScript looks around as Ironic's driver does, holds the host, and tries what is refused.
const sushyScript = `
import sys, sushy, sushy.auth
url, user, password, ca = sys.argv[1:5]
root = sushy.Sushy(url, auth=sushy.auth.BasicAuth(user, password), verify=ca)
print("version", root.redfish_version)
host = root.get_system("/redfish/v1/Systems/host")
print("power", host.power_state.value, host.identity, sorted(v.value for v in host.get_allowed_reset_system_values()))
for m in root.get_manager_collection().get_members():
    print("manager", m.manager_type.value, m.identity)
for c in root.get_chassis_collection().get_members():
    print("chassis", c.identity)
for f in root.get_update_service().firmware_inventory.get_members():
    print("firmware", f.identity, f.version)
host.reset_system(sushy.RESET_TYPE_FORCE_OFF)
print("held")
try:
    host.reset_system(sushy.RESET_TYPE_ON)
except sushy.exceptions.HTTPError as e:
    print("refused", e.status_code)
try:
    sushy.Sushy(url, auth=sushy.auth.BasicAuth(user, "wrong"), verify=ca).get_system("/redfish/v1/Systems/host")
except sushy.exceptions.AccessError as e:
    print("stranger", e.status_code)
`

func (b *bench) sushy(t *testing.T, address, user, password, ca string) {
	t.Helper()
	// Debian's own Python has Debian's sushy, whatever else is in the path.
	out, err := run(t, "", "/usr/bin/python3", "-c", sushyScript, "http://"+address, user, password, ca)
	if err != nil {
		t.Errorf("sushy: %v", err)
	}
	for _, want := range []string{
		"version 1.20.0\n", "power Off host ['ForceOff', 'ForceRestart', 'GracefulShutdown', 'On']\n", "manager ManagementController controller\n",
		"chassis controller\n", "chassis server\n", "firmware slot-a 1.0\n", "held\n", "refused 409\n", "stranger 401\n",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("sushy does not say %q:\n%s", want, out)
			return
		}
	}
}

// curl uses the API as it is, with a client certificate.
func (b *bench) curl(t *testing.T) {
	cert, key := b.pair(t, policy.Auditor, "curl")
	curl := func(args ...string) string {
		out, err := run(t, "", "curl", append([]string{"--silent", "--show-error", "--insecure", "--max-time", "120", "--write-out", "\n%{http_code} %{ssl_verify_result}"}, args...)...)
		if err != nil {
			t.Errorf("curl %q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	base, pair := "https://"+b.address, []string{"--cert", cert, "--key", key}
	for _, c := range []struct {
		args []string
		want []string
	}{
		{append(pair, base+hostPath), []string{`"Id":"host"`, "\n200 "}},
		{append(pair, "--head", base+hostPath), []string{"Etag: ", "Odata-Version: 4.0", "\n200 "}},
		{append(pair, base+auditPath+"/Entries?$top=1"), []string{`"Message"`, "\n200 "}},
		{append(pair, "--json", `{"ResetType":"ForceOff"}`, base+resetPath), []string{"InsufficientPrivilege", "Resolution", "\n403 "}},
		{append(pair, "--request", "DELETE", base+hostPath), []string{"OperationNotAllowed", "\n405 "}},
		{[]string{base + hostPath}, []string{"NoValidSession", "\n401 "}},
	} {
		out := curl(c.args...)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("curl %q does not give %q:\n%s", c.args, want, out)
			}
		}
	}
	if out, err := run(t, "", "curl", "--silent", "--insecure", "--tls-max", "1.2", base+"/v1/status"); err == nil {
		t.Errorf("curl was served over TLS 1.2: %s", out)
	}
}

// quote has others verify the Redfish answer of TPMGetSignedMeasurements: TPMS_ATTEST and
// TPMT_SIGNATURE, one behind the other.
func (b *bench) quote(t *testing.T) {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	base := base64.StdEncoding.EncodeToString
	body, err := json.Marshal(map[string]any{
		"Certificate": map[string]string{"@odata.id": akPath}, "Nonce": hex.EncodeToString(nonce),
		"Scheme": base([]byte{0, 0x18, 0, 0x0b}), "PCRSelection": base(tpm2.Marshal(tpm.PCRSelection(0, 1, 2, 3, 4, 5, 6, 7, 8))),
	})
	must(t, err)
	o := b.want(t, policy.FleetVerifier, "POST", quotePath, string(body), 200).object(t)
	signed, err := base64.StdEncoding.DecodeString(fmt.Sprint(o["SignedMeasurements"]))
	must(t, err)
	quoted, err := tpm2.Unmarshal[tpm2.TPMSAttest](signed)
	must(t, err)
	size := len(tpm2.Marshal(quoted))
	block, _ := pem.Decode([]byte(fmt.Sprint(b.want(t, policy.FleetVerifier, "GET", akPath, "", 200).object(t)["CertificateString"])))
	ak, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	pcrs := b.measurements(t)
	b.checkquote(t, ak, signed[:size], signed[size:], pcrs, nonce)

	public := attest.AKPublic{Public: ak.PublicKey, Hash: crypto.SHA256}
	if err := public.VerifyAll([]attest.Quote{{Quote: signed[:size], Signature: signed[size:]}}, pcrs, nonce); err != nil {
		t.Errorf("go-attestation: %v", err)
	}
	if err := public.VerifyAll([]attest.Quote{{Quote: signed[:size], Signature: signed[size:]}}, pcrs, []byte("another nonce")); err == nil {
		t.Error("go-attestation accepts another nonce")
	}
	pcrs[3].Digest[0] ^= 1
	if err := public.VerifyAll([]attest.Quote{{Quote: signed[:size], Signature: signed[size:]}}, pcrs, nonce); err == nil {
		t.Error("go-attestation accepts another PCR 3")
	}
}

// measurements are the PCRs as the resource shows them.
func (b *bench) measurements(t *testing.T) (pcrs []attest.PCR) {
	t.Helper()
	var o struct {
		TPM struct {
			MeasurementSet struct {
				Measurements []struct {
					PCR         int
					Measurement []byte
				}
			}
		}
	}
	must(t, json.Unmarshal(b.want(t, policy.FleetVerifier, "GET", tpmPath, "", 200).text, &o))
	for _, m := range o.TPM.MeasurementSet.Measurements {
		pcrs = append(pcrs, attest.PCR{Index: m.PCR, Digest: m.Measurement, DigestAlg: crypto.SHA256})
	}
	return pcrs
}

// checkquote has tpm2-tools verify. Its file of PCRs is evidence.ToolPCRs' form, so the raw
// form of values is given: -F values are read in the selection's order.
func (b *bench) checkquote(t *testing.T, ak *x509.Certificate, quoted, signature []byte, pcrs []attest.PCR, nonce []byte) {
	t.Helper()
	folder := t.TempDir()
	der, err := x509.MarshalPKIXPublicKey(ak.PublicKey)
	must(t, err)
	var e evidence.Evidence
	if len(pcrs) != len(e.PCRs) {
		t.Fatalf("%d PCRs, not %d", len(pcrs), len(e.PCRs))
	}
	for i, p := range pcrs {
		copy(e.PCRs[i][:], p.Digest)
	}
	check := func(nonce []byte) ([]byte, error) {
		for name, data := range map[string][]byte{
			"ak.pem": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), "quote": quoted, "signature": signature, "pcrs": e.ToolPCRs(),
		} {
			must(t, os.WriteFile(filepath.Join(folder, name), data, 0o600))
		}
		return run(t, folder, "tpm2_checkquote", "-u", "ak.pem", "-m", "quote", "-s", "signature", "-f", "pcrs", "-g", "sha256", "-q", hex.EncodeToString(nonce))
	}
	if out, err := check(nonce); err != nil {
		t.Errorf("tpm2_checkquote: %v\n%s", err, out)
	}
	if out, err := check([]byte("another nonce")); err == nil {
		t.Errorf("tpm2_checkquote accepts another nonce: %s", out)
	}
	e.PCRs[0][0] ^= 1
	if out, err := check(nonce); err == nil {
		t.Errorf("tpm2_checkquote accepts another PCR 0: %s", out)
	}
}

// A finding is one of testssl.sh's.
type finding struct{ ID, Severity, Finding string }

// testsslFindings are what testssl.sh has to say beyond "OK" and "INFO", each with why it
// is as it should be. Any other one fails.
var testsslFindings = map[finding]string{
	{"cert_trust", "HIGH", "certificate does not match supplied URI"}:                             "the certificate is of this boot: a quote of the TPM proves its key, or ReplaceCertificate puts an owner's in its place",
	{"cert_chain_of_trust", "CRITICAL", "failed (self signed)."}:                                  "as above",
	{"cert_revocation", "HIGH", "Neither CRL nor OCSP URI provided"}:                              "as above: a key that ends with the boot has nobody who would revoke it",
	{"HSTS", "LOW", "not offered"}:                                                                "for browsers, which the API is not for; there is no HTTP to be led away to",
	{"engine_problem", "WARN", "No engine or GOST support via engine with your /usr/bin/openssl"}: "about the scanner's OpenSSL",
}

// testsslSays are findings that it must have, or it has not looked.
var testsslSays = map[string]string{
	"SSLv2": "not offered", "SSLv3": "not offered", "TLS1": "not offered", "TLS1_1": "not offered", "TLS1_2": "not offered", "TLS1_3": "offered with final",
	"cipherlist_NULL": "not offered", "cipherlist_aNULL": "not offered", "cipherlist_EXPORT": "not offered", "cipherlist_LOW": "not offered",
	"PFS_ciphers":      "TLS_AES_256_GCM_SHA384 TLS_CHACHA20_POLY1305_SHA256 TLS_AES_128_GCM_SHA256",
	"PFS_ECDHE_curves": "prime256v1 X25519", "ALPN": "http/1.1", "sessionresumption_ticket": "not supported", "sessionresumption_ID": "No Session ID, no resumption",
	"cert_signatureAlgorithm": "ECDSA with SHA256", "cert_keySize": "EC 256 bits", "heartbleed": "not vulnerable, no heartbeat extension", "CCS": "not vulnerable",
	"ROBOT": "not vulnerable, no RSA key transport cipher", "secure_client_renego": "not vulnerable, TLS 1.3 only", "OCSP_stapling": "not offered",
	"X-Content-Type-Options": "nosniff", "banner_server": "No Server banner line in header, interesting!",
}

func (b *bench) testssl(t *testing.T) {
	file := filepath.Join(t.TempDir(), "findings.json")
	// Protocols, ciphers, forward secrecy, preferences, certificate, headers and the known
	// attacks; not the simulation of browsers, which doubles the time.
	out, err := run(t, "", "testssl", "--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none", "-p", "-s", "-f", "-P", "-S", "-h", "-U", "--jsonfile", file, "https://"+b.address)
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) { // it ends with the number of bad findings
		t.Fatalf("testssl.sh: %v\n%s", err, out)
	}
	text, err := os.ReadFile(file)
	must(t, err)
	var findings []finding
	must(t, json.Unmarshal(text, &findings))
	said := map[string]string{}
	for _, f := range findings {
		said[f.ID] = f.Finding
		if _, known := testsslFindings[f]; !known && f.Severity != "OK" && f.Severity != "INFO" {
			t.Errorf("testssl.sh: %+v", f)
		}
	}
	for id, want := range testsslSays {
		if said[id] != want {
			t.Errorf("testssl.sh: %s is %q, not %q", id, said[id], want)
		}
	}
}

// sslscanSays is all that sslscan finds enabled.
var sslscanSays = []string{
	"protocol tls 1.3",
	"cipher TLSv1.3 TLS_AES_128_GCM_SHA256", "cipher TLSv1.3 TLS_AES_256_GCM_SHA384", "cipher TLSv1.3 TLS_CHACHA20_POLY1305_SHA256",
	"group TLSv1.3 secp256r1 (NIST P-256)", "group TLSv1.3 x25519", // it knows no X25519MLKEM768
	"certificate ecdsa-with-SHA256 EC",
}

func (b *bench) sslscan(t *testing.T) {
	out, err := run(t, "", "sslscan", "--no-colour", "--xml=-", b.address)
	must(t, err)
	var scan struct {
		Test struct {
			Protocols []struct {
				Type    string `xml:"type,attr"`
				Version string `xml:"version,attr"`
				Enabled bool   `xml:"enabled,attr"`
			} `xml:"protocol"`
			Ciphers []struct {
				Protocol string `xml:"sslversion,attr"`
				Name     string `xml:"cipher,attr"`
			} `xml:"cipher"`
			Groups []struct {
				Protocol string `xml:"sslversion,attr"`
				Name     string `xml:"name,attr"`
			} `xml:"group"`
			Renegotiation struct {
				Supported bool `xml:"supported,attr"`
			} `xml:"renegotiation"`
			Heartbleed []struct {
				Vulnerable bool `xml:"vulnerable,attr"`
			} `xml:"heartbleed"`
			Certificates []struct {
				Signature string `xml:"signature-algorithm"`
				Key       struct {
					Type string `xml:"type,attr"`
				} `xml:"pk"`
			} `xml:"certificates>certificate"`
		} `xml:"ssltest"`
	}
	must(t, xml.NewDecoder(bytes.NewReader(out)).Decode(&scan))
	var found []string
	for _, p := range scan.Test.Protocols {
		if p.Enabled {
			found = append(found, "protocol "+p.Type+" "+p.Version)
		}
	}
	for _, c := range scan.Test.Ciphers {
		found = append(found, "cipher "+c.Protocol+" "+c.Name)
	}
	for _, g := range scan.Test.Groups {
		found = append(found, "group "+g.Protocol+" "+g.Name)
	}
	for _, c := range scan.Test.Certificates {
		found = append(found, "certificate "+c.Signature+" "+c.Key.Type)
	}
	want := slices.Sorted(slices.Values(sslscanSays))
	if slices.Sort(found); !slices.Equal(found, want) {
		t.Errorf("sslscan finds %q, not %q", found, want)
	}
	if scan.Test.Renegotiation.Supported || len(scan.Test.Heartbleed) == 0 || scan.Test.Heartbleed[0].Vulnerable || len(scan.Test.Protocols) != 6 {
		t.Errorf("sslscan: %s", out)
	}
}
