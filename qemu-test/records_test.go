//go:build !arm

package qemutest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"nitro/boot/config"
	"nitro/net/policy"
	"nitro/net/stack"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/rack"
)

// timeServer answers SNTP at an address of the gateway with this machine's time (RFC 4330).
func timeServer(t *testing.T, gateway *stack.Stack, address string) {
	t.Helper()
	c, err := gateway.ListenPacket("udp4", address)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	go func() {
		q := make([]byte, 1024)
		for {
			n, from, err := c.ReadFrom(q)
			if err != nil {
				return
			}
			if n < 48 {
				continue
			}
			b := make([]byte, 48)
			b[0], b[1] = 4<<3|4, 1
			copy(b[24:32], q[40:48])
			now := time.Now()
			stamp := uint64(now.Unix()+2208988800)<<32 | uint64(now.Nanosecond())<<32/1e9
			binary.BigEndian.PutUint64(b[32:], stamp)
			binary.BigEndian.PutUint64(b[40:], stamp)
			c.WriteTo(b, from)
		}
	}()
}

// A collector takes syslog over TLS, and keeps the messages.
type collector struct {
	ca   *x509.Certificate
	pair tls.Certificate
	mu   sync.Mutex
	all  []string
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "log.example"}, DNSNames: []string{"log.example"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	k := &collector{}
	k.ca, err = x509.ParseCertificate(der)
	must(t, err)
	k.pair = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return k
}

// serve takes connections at an address of the gateway.
func (k *collector) serve(t *testing.T, gateway *stack.Stack, address string) {
	t.Helper()
	plain, err := gateway.Listen("tcp4", address)
	must(t, err)
	l := tls.NewListener(plain, &tls.Config{Certificates: []tls.Certificate{k.pair}})
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go k.take(c)
		}
	}()
}

// take reads messages as RFC 5425 frames them.
func (k *collector) take(c net.Conn) {
	defer c.Close()
	for {
		var n int
		if _, err := fmt.Fscanf(c, "%d", &n); err != nil || n > 4096 {
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(c, b); err != nil {
			return
		}
		k.mu.Lock()
		k.all = append(k.all, string(b))
		k.mu.Unlock()
	}
}

func (k *collector) has(parts ...string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, m := range k.all {
		all := true
		for _, p := range parts {
			all = all && strings.Contains(m, p)
		}
		if all {
			return true
		}
	}
	return false
}

// TestRecords: a board whose battery's clock has lost the time gets it from time servers
// that agree, shows its metrics, sends its audit records, and what nitroctl takes away
// verifies offline.
func TestRecords(t *testing.T) {
	k := newCollector(t)
	const first, second, log = "10.0.2.2:123", "10.0.2.2:1123", "10.0.2.2:6514"
	b := newDatedBoard(t, func(c *config.Config) {
		c.TimeServers = []netip.AddrPort{netip.MustParseAddrPort(first), netip.MustParseAddrPort(second)}
		c.Collector = &config.Collector{Address: netip.MustParseAddrPort(log), Name: "log.example", CA: k.ca}
	})
	b.on(func(c *rack.Config) { c.Args = append(c.Args, "-rtc", "clock=vm") }) // the emulator's clock begins in 1970 then
	timeServer(t, b.Gateway(), first)
	timeServer(t, b.Gateway(), second)
	k.serve(t, b.Gateway(), log)
	b.provision()
	b.says(`controller: the time is not known: time 1970-\S+: the time rules do not allow it: .*`)
	b.says(`controller: ready`)
	b.says(`controller: 2 time servers agree: it is \S+`)
	c := newClients(b)
	at, err := time.Parse(time.RFC3339, fmt.Sprint(c.want(policy.Operator, "GET", "/redfish/v1/Managers/controller", "", 200)["DateTime"]))
	if err != nil || time.Since(at).Abs() > 5*time.Minute {
		t.Errorf("the board's time is %v, %v", at, err)
	}
	b.jumps(c)
	c.want(policy.FleetVerifier, "GET", "/metrics", "", 403)
	b.scrape(c)
	b.exported()
	waitFor(t, "the denial at the collector", func() bool { return k.has("<108>1 20", ` denied `, `action="readMetrics"`, `/fleet-verifier/`) })
	if !k.has("<109>1 ", " boot ") {
		t.Errorf("no record of the boot")
	}
}

// jumps has an operator set the clock: once after the time servers, and then by leaps, which
// are refused with what can be set, and leave the clock alone.
func (b *trustedBoard) jumps(c *clientsOf) {
	t := b.t
	t.Helper()
	const manager = "/redfish/v1/Managers/controller"
	set := func(to time.Time, status int) map[string]any {
		return c.want(policy.Operator, "PATCH", manager, fmt.Sprintf(`{"DateTime":%q}`, to.UTC().Format(time.RFC3339)), status)
	}
	set(time.Now().Add(time.Minute), 204)
	for name, to := range map[string]time.Time{"an hour on": time.Now().Add(time.Hour), "an hour back": time.Now().Add(-time.Hour), "1970": time.Unix(0, 0), "2099": time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)} {
		if o := fmt.Sprint(set(to, 400)); !strings.Contains(o, "PropertyValueFormatError") || !strings.Contains(o, "Set a time from ") {
			t.Errorf("%s: %s", name, o)
		}
	}
	at, err := time.Parse(time.RFC3339, fmt.Sprint(c.want(policy.Operator, "GET", manager, "", 200)["DateTime"]))
	if off := time.Until(at); err != nil || off < 0 || off > 5*time.Minute {
		t.Errorf("after leaps that were refused the clock is %v from where it was set: %v", off-time.Minute, err)
	}
}

func waitFor(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); !is(); time.Sleep(time.Second) {
		if time.Now().After(end) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// newDatedBoard is newBoard with a configuration that was signed yesterday.
func newDatedBoard(t *testing.T, change func(*config.Config)) *trustedBoard {
	t.Helper()
	b := newBoard(t, nil)
	made, err := b.factory.Keys.Config(factory.Product, 1)
	must(t, err)
	made.Operators = []*x509.Certificate{b.factory.Clients.CA}
	change(made)
	signed, err := b.factory.Keys.SignConfig(made, uint64(time.Now().Add(-24*time.Hour).Unix()))
	must(t, err, os.Remove(b.card), b.factory.Card(b.card, signed, b.release))
	return b
}

// scrape reads the metrics, as Prometheus does.
func (b *trustedBoard) scrape(c *clientsOf) {
	t := b.t
	t.Helper()
	address, err := b.Address(443)
	must(t, err)
	answer, err := c.as(policy.Auditor).Get("https://" + address + "/metrics")
	must(t, err)
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	must(t, err)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	all, err := parser.TextToMetricFamilies(bytes.NewReader(body))
	if err != nil || answer.StatusCode != 200 {
		t.Fatalf("%d %v\n%s", answer.StatusCode, err, body)
	}
	for name, least := range map[string]float64{
		"nitro_info": 1, "nitro_uptime_seconds": 1, "nitro_boot_phase_seconds": 0, "nitro_requests_total": 1, "nitro_tls_handshakes_total": 1, "nitro_audit_records_total": 3,
		"nitro_audit_room": 1000, "nitro_store_records": 1, "nitro_tpm_healthy": 1, "nitro_time_known": 1, "nitro_time_servers_agree": 2, "nitro_go_heap_live_bytes": 100_000,
		"nitro_network_received_bytes_total": 1000, "nitro_host_state": 1, "nitro_refused_total": 0, "nitro_syslog_waiting": 0,
	} {
		f := all[name]
		if f == nil {
			t.Errorf("no %s in\n%s", name, body)
			continue
		}
		if got := f.Metric[0].GetGauge().GetValue() + f.Metric[0].GetCounter().GetValue(); got < least {
			t.Errorf("%s is %v", name, got)
		}
	}
}

// exported has nitroctl take the log away, and verify it without the board.
func (b *trustedBoard) exported() {
	t := b.t
	t.Helper()
	folder := t.TempDir()
	pair, err := b.factory.Clients.Certificate(policy.Auditor, "ada")
	must(t, err)
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	must(t, err)
	issuer, _, err := b.factory.Keys.Issuer()
	must(t, err)
	ak := newClients(b).want(policy.Auditor, "GET", akPath, "", 200)
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(folder, name)
		must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	must(t, os.WriteFile(filepath.Join(folder, "ak.pem"), []byte(fmt.Sprint(ak["CertificateString"])), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	program := filepath.Join(folder, "nitroctl")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", program, "nitro/cmd/nitroctl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	r, err := b.evidence(nil)
	must(t, err)
	address, err := b.Address(443)
	must(t, err)
	client := []string{"-board", address, "-pin", fmt.Sprintf("%x", r.Facts.TLSKey), "-cert", write("cert.pem", "CERTIFICATE", pair.Certificate[0]), "-key", write("key.pem", "PRIVATE KEY", key)}
	run := func(good bool, args ...string) []byte {
		out, err := exec.CommandContext(ctx, program, append(args, "-o", "json")...).Output()
		if (err == nil) != good {
			t.Fatalf("nitroctl %s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	tail := run(true, append([]string{"audit", "tail", "-n", "10"}, client...)...)
	if !bytes.Contains(tail, []byte(`"action": "readMetrics"`)) {
		t.Errorf("tail: %s", tail)
	}
	file := filepath.Join(folder, "log.json")
	waitFor(t, "a signed checkpoint", func() bool {
		os.Remove(file)
		_, err := exec.CommandContext(ctx, program, append([]string{"audit", "export", "-out", file}, client...)...).Output()
		return err == nil
	})
	offline := []string{"audit", "verify", "-ak", filepath.Join(folder, "ak.pem"), "-issuer", write("issuer.pem", "CERTIFICATE", issuer.Raw), file}
	var report struct {
		Result struct{ Records, Boots int }
	}
	must(t, json.Unmarshal(run(true, offline...), &report))
	if report.Result.Records < 1 || report.Result.Boots < 1 {
		t.Errorf("%+v", report)
	}
	text, err := os.ReadFile(file)
	must(t, err)
	at := bytes.Index(text, []byte(`"records":["`)) + 40
	text[at] ^= 1
	must(t, os.WriteFile(file, text, 0o600))
	run(false, offline...)
	run(false, append([]string{"audit", "clear"}, client...)...) // nothing is witnessed
}
