//go:build !arm

package api

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"nitro/boot/config"
	"nitro/net/policy"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/service"
)

// certificates: who comes with none, or with one that is not right. A certificate that does
// not verify ends the handshake; one that does, and names no principal, is 401.
func (b *bench) certificates(t *testing.T) {
	stranger, err := factory.NewClients()
	must(t, err)
	uri := func(text string) []*url.URL {
		u, err := url.Parse(text)
		must(t, err)
		return []*url.URL{u}
	}
	for _, c := range []struct {
		name   string
		of     *factory.Clients
		change func(*x509.Certificate)
		status int // 0: the handshake fails
	}{
		{"good", b.Factory.Clients, func(*x509.Certificate) {}, 200},
		{"expired", b.Factory.Clients, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
		}, 0},
		{"not yet valid", b.Factory.Clients, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(24*time.Hour), time.Now().Add(48*time.Hour)
		}, 0},
		{"another CA's", stranger, func(*x509.Certificate) {}, 0},
		{"a server's", b.Factory.Clients, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }, 0},
		{"no principal", b.Factory.Clients, func(c *x509.Certificate) { c.URIs = nil }, 401},
		{"two principals", b.Factory.Clients, func(c *x509.Certificate) {
			c.URIs = append(c.URIs, uri("spiffe://"+factory.Owner+"/auditor/test")...)
		}, 401},
		{"another owner", b.Factory.Clients, func(c *x509.Certificate) { c.URIs = uri("spiffe://other.example/operator/test") }, 401},
		{"no role", b.Factory.Clients, func(c *x509.Certificate) { c.URIs = uri("spiffe://" + factory.Owner + "/root/test") }, 401},
		{"a CA", b.Factory.Clients, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }, 401},
	} {
		pair, err := c.of.Changed(policy.Operator, "test", c.change)
		must(t, err)
		client := service.WithCertificates(0, pair)
		client.Transport.(*http.Transport).TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
		a, err := b.by(client, "GET", hostPath, "")
		switch {
		case c.status == 0 && err == nil:
			t.Errorf("%s: %d", c.name, a.status)
		case c.status != 0 && (err != nil || a.status != c.status):
			t.Errorf("%s: %+v, %v, not %d", c.name, a, err, c.status)
		}
	}
	for _, path := range []string{"/redfish", "/redfish/v1/", hostPath, "/redfish/v1/nothing"} {
		b.want(t, "", "GET", path, "", 401)
	}
	old := anyServer()
	old.MaxVersion = tls.VersionTLS12
	if conn, err := b.Dial(t.Context(), old); err == nil || !strings.Contains(err.Error(), "protocol version") {
		if err == nil {
			conn.Close()
		}
		t.Errorf("TLS 1.2: %v", err)
	}
	b.unharmed(t)
}

// revoked: a client goes on until the release manager brings a configuration that revokes
// its certificate, which ends it on its open connection and keeps it from opening another.
func (b *bench) revoked(t *testing.T) {
	clients := b.Factory.Clients
	pair, err := clients.Certificate(policy.Operator, "mallory")
	must(t, err)
	mallory := service.WithCertificates(1, pair)
	defer mallory.CloseIdleConnections()
	if a, err := b.by(mallory, "GET", hostPath, ""); err != nil || a.status != 200 {
		t.Fatalf("before: %+v, %v", a, err)
	}
	next, err := b.Factory.Configuration(2, func(c *config.Config) {
		b.configure(c)
		c.Revoked = []config.Revoked{{CA: sha256.Sum256(clients.CA.RawSubjectPublicKeyInfo), Serial: string(pair.Leaf.SerialNumber.Bytes())}}
	})
	must(t, err)
	b.push(t, next)
	if a, err := b.by(mallory, "GET", hostPath, ""); err != nil || a.status != 401 {
		t.Errorf("a revoked client, on its open connection: %+v, %v", a, err)
	}
	if a, err := b.by(mallory, "GET", hostPath, ""); err == nil {
		t.Errorf("a revoked client comes in anew: %+v", a)
	}
	b.unharmed(t)
}

// push uploads a package (DSP0266, multipart HTTP push update).
func (b *bench) push(t *testing.T, packed []byte) {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	parameters, err := form.CreateFormField("UpdateParameters")
	must(t, err)
	io.WriteString(parameters, "{}")
	file, err := form.CreateFormFile("UpdateFile", "package")
	must(t, err)
	file.Write(packed)
	must(t, form.Close())
	manager, err := b.as(policy.ReleaseManager)
	must(t, err)
	answer, err := manager.Post("https://"+b.address+"/redfish/v1/UpdateService/upload", form.FormDataContentType(), &body)
	must(t, err)
	defer answer.Body.Close()
	if said, _ := io.ReadAll(answer.Body); answer.StatusCode != http.StatusAccepted {
		t.Fatalf("the package is answered with %d %s", answer.StatusCode, said)
	}
}

// A published is a line of docs/redfish.md's table of routes.
type published struct {
	path    string
	methods map[string]policy.Action
}

// cells are a Markdown table's, of those that begin with a header line.
func cells(t *testing.T, file, head string) (rows [][]string) {
	t.Helper()
	page, err := os.ReadFile(file)
	must(t, err)
	inside := false
	for line := range strings.Lines(string(page)) {
		switch {
		case strings.HasPrefix(line, head):
			inside = true
		case inside && !strings.HasPrefix(line, "|"):
			return rows
		case !inside || strings.HasPrefix(line, "|-"):
			continue
		}
		row := strings.Split(strings.TrimSpace(line), "|")
		for i := range row {
			row[i] = strings.Trim(row[i], " `")
		}
		rows = append(rows, row[1:])
	}
	t.Fatalf("%s has no table %q", file, head)
	return nil
}

// routes are the published ones.
func routes(t *testing.T) (all []published) {
	t.Helper()
	for _, row := range cells(t, "../../docs/redfish.md", "| path | method |")[1:] {
		path, method, action := row[0], row[1], policy.Action(row[2])
		if !strings.HasPrefix(path, "/") {
			path = "/redfish/v1/" + path
		}
		if len(all) == 0 || all[len(all)-1].path != path {
			all = append(all, published{path, map[string]policy.Action{}})
		}
		methods := all[len(all)-1].methods
		if methods[method] = action; method == http.MethodGet {
			methods[http.MethodHead], methods[http.MethodOptions] = action, action
		}
	}
	return all
}

// allowed is the published table of roles.
func allowed(t *testing.T) map[policy.Action]map[policy.Role]bool {
	t.Helper()
	rows := cells(t, "../../docs/policy.md", "| action | resource type |")
	all := map[policy.Action]map[policy.Role]bool{}
	for _, row := range rows[1:] {
		may := map[policy.Role]bool{}
		for i, name := range rows[0] {
			if i >= 4 && name != "" {
				may[policy.Role(name)] = row[i] == "yes"
			}
		}
		all[policy.Action(row[0])] = may
	}
	return all
}

// idOf has for the paths with an ID one that is there; others get one that is not.
var idOf = map[string]string{
	"Chassis/controller/TrustedComponents/tpm/Certificates/{id}":  "ak",
	"Managers/controller/NetworkProtocol/HTTPS/Certificates/{id}": "server",
	"Managers/controller/LogServices/audit/Entries/{id}":          "0",
	"UpdateService/FirmwareInventory/{id}":                        "slot-a",
}

// absent are published routes that this board may lack: it has nothing behind them.
var absent = []string{"/redfish/v1/TaskService"}

// empty are routes behind which this board has nothing yet, and what they answer then.
var empty = map[string]int{"/audit/ring": http.StatusConflict}

// matrix asks for every published route by every method as every role, and compares with
// what docs/redfish.md and docs/policy.md publish. What would change something is asked for
// with a body that is no JSON: that is told only to who may ask, and nothing is done.
func (b *bench) matrix(t *testing.T) {
	all, may := routes(t), allowed(t)
	if len(all) < 50 || len(may) < 15 || len(may[policy.ReadHost]) != len(policy.Roles) {
		t.Fatalf("the published tables have %d paths and %d actions", len(all), len(may))
	}
	asked := make([]int, len(policy.Roles))
	var wg sync.WaitGroup
	for i, role := range policy.Roles {
		wg.Go(func() {
			for _, r := range all {
				n, err := b.asRole(r, role, may)
				if asked[i] += n; err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%v requests of the roles, in the order of %v", asked, policy.Roles)
	if slices.Min(asked) < 300 {
		t.Error("too few")
	}
	b.unharmed(t)
}

// asRole asks for one route by every method.
func (b *bench) asRole(r published, role policy.Role, may map[policy.Action]map[policy.Role]bool) (asked int, err error) {
	id := idOf[strings.TrimPrefix(r.path, "/redfish/v1/")]
	if id == "" {
		id = "x"
	}
	path := strings.Replace(r.path, "{id}", id, 1)
	var errs []error
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PATCH", "PUT", "DELETE", "TRACE", "MKCOL"} {
		body := ""
		if method == "POST" || method == "PATCH" || method == "PUT" {
			body = "{"
		}
		a, err := b.do(role, method, path, body)
		if err != nil {
			return asked, fmt.Errorf("%s %s %s: %w", role, method, path, err)
		}
		asked++
		if a.status == empty[path] && slices.Contains([]string{"GET", "HEAD"}, method) && may[r.methods[method]][role] {
			continue
		}
		if a.status == 404 && slices.ContainsFunc(absent, func(p string) bool { return strings.HasPrefix(path, p) }) {
			continue
		}
		action, there := r.methods[method]
		switch ok := may[action][role]; {
		case !there && a.status != 405, !there && method != "HEAD" && !strings.Contains(a.header.Get("Allow"), anyOf(r.methods)),
			there && !ok && a.status != 403,
			there && ok && body == "" && a.status != 200 && a.status != 204 && (a.status != 404 || id != "x"),
			there && ok && body != "" && a.status != 400 && a.status != 501 && a.status != 415:
			errs = append(errs, fmt.Errorf("%s %s %s: %d, and the tables say that it is there: %v, allowed: %v", role, method, path, a.status, there, ok))
		}
	}
	return asked, errors.Join(errs...)
}

// anyOf is one of the methods.
func anyOf(methods map[string]policy.Action) string {
	for m := range methods {
		return m
	}
	return ""
}

// raw sends bytes as an operator, and gives the status of the answer; 0 is none.
func (b *bench) raw(t *testing.T, role policy.Role, text string) (status int, body string) {
	t.Helper()
	c := anyServer()
	if role != "" {
		pair, err := b.Factory.Clients.Certificate(role, "raw")
		must(t, err)
		c = anyServer(pair)
	}
	conn, err := b.Dial(t.Context(), c)
	must(t, err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := io.WriteString(conn, text); err != nil {
		return 0, err.Error()
	}
	a, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err.Error()
	}
	defer a.Body.Close()
	said, _ := io.ReadAll(a.Body)
	return a.StatusCode, string(said)
}

// badRequests are what no good client sends: each is refused with the documented status.
func (b *bench) badRequests(t *testing.T) {
	get := func(target, headers string) string {
		return "GET " + target + " HTTP/1.1\r\nHost: board\r\n" + headers + "\r\n"
	}
	post := func(path, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: board\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
	}
	deep := strings.Repeat(`{"a":`, 9) + "1" + strings.Repeat("}", 9)
	for _, c := range []struct {
		name, text string
		status     int
	}{
		{"header too large", get(hostPath, "X-Filler: "+strings.Repeat("x", 24<<10)+"\r\n"), 431},
		{"target too large", get(hostPath+"?"+strings.Repeat("x", 24<<10), ""), 431},
		{"too many headers", get(hostPath, strings.Repeat("A: b\r\n", 5000)), 431},
		{"body too large", post(resetPath, `{"ResetType":"`+strings.Repeat("x", 70<<10)+`"}`), 413},
		{"JSON too deep", post(resetPath, deep), 400},
		{"JSON far too deep", post(resetPath, strings.Repeat("[", 60000)), 400},
		{"a member twice", post(resetPath, `{"ResetType":"On","ResetType":"ForceOff"}`), 400},
		{"no JSON", post(resetPath, "ResetType=On"), 400},
		{"no UTF-8", post(resetPath, "{\"ResetType\":\"\xff\"}"), 400},
		{"an unknown parameter", post(resetPath, `{"ResetType":"ForceOff","Force":true}`), 400},
		{"an unknown reset", post(resetPath, `{"ResetType":"Nmi"}`), 400},
		{"a string too long", post(resetPath, `{"ResetType":"`+strings.Repeat("x", 40<<10)+`"}`), 400},
		{"another type of body", strings.Replace(post(resetPath, `{"ResetType":"ForceOff"}`), "application/json", "text/plain", 1), 415},
		{"two lengths", "POST " + resetPath + " HTTP/1.1\r\nHost: board\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}    ", 400},
		{"a length and chunks", "POST " + resetPath + " HTTP/1.1\r\nHost: board\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"another encoding", "POST " + resetPath + " HTTP/1.1\r\nHost: board\r\nTransfer-Encoding: gzip\r\n\r\n", 501},
		{"no host", "GET " + hostPath + " HTTP/1.1\r\n\r\n", 400},
		{"a space in a header's name", get(hostPath, "A : b\r\n"), 400},
		{"another protocol", "GET " + hostPath + " HTTP/3.0\r\nHost: board\r\n\r\n", 505},
		{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
		{"not HTTP", "SSH-2.0-x\r\n\r\n", 400},
		{"an unknown query", get(hostPath+"?$filter=x", ""), 501},
		{"a query too long", get(hostPath+"?$select="+strings.Repeat("x,", 1000), ""), 400},
		{"a path too long", get("/redfish/v1/"+strings.Repeat("x", 300), ""), 404},
		{"two slashes", get("//redfish/v1/Systems/host", ""), 404},
		{"two slashes inside", get("/redfish/v1/Systems//host", ""), 404},
		{"dots", get("/redfish/v1/x/../Systems/host", ""), 404},
		{"dots at the end", get("/redfish/v1/Systems/host/..", ""), 404},
		{"a dot", get("/redfish/v1/./Systems/host", ""), 404},
		{"an escaped letter", get("/redfish/v1/Systems/%68ost", ""), 404},
		{"an escaped slash", get("/redfish/v1/Systems%2fhost", ""), 404},
		{"escaped dots", get("/redfish/v1/x/%2e%2e/Systems/host", ""), 404},
		{"a zero", get("/redfish/v1/Systems/host%00", ""), 404},
		{"another case", get("/redfish/v1/systems/host", ""), 404},
		{"a parameter", get("/redfish/v1/Systems/host;x=1", ""), 404},
		{"backslash", get(`/redfish/v1\Systems\host`, ""), 404},
		{"from an open route", get("/v1/../redfish/v1/Systems/host", ""), 404},
		{"another version", get("/redfish/v2/", ""), 404},
		{"the good one", get(hostPath, ""), 200},
	} {
		if status, said := b.raw(t, policy.Operator, c.text); status != c.status {
			t.Errorf("%s: %d %.200s, not %d", c.name, status, said, c.status)
		}
	}
	// Who has no certificate is not even listened to: the body never comes.
	if status, said := b.raw(t, "", "POST "+resetPath+" HTTP/1.1\r\nHost: board\r\nContent-Length: 1000000000\r\n\r\n"); status != 401 {
		t.Errorf("a body without a certificate: %d %s", status, said)
	}
	b.unharmed(t)
}

// flood: strangers and requests without a route fill no log.
func (b *bench) flood(t *testing.T) {
	const each = 300
	before := b.records(t)
	pair, err := b.Factory.Clients.Changed(policy.Operator, "test", func(c *x509.Certificate) { c.URIs = nil })
	must(t, err)
	nobody := service.WithCertificates(1, pair)
	defer nobody.CloseIdleConnections()
	for range each {
		for _, ask := range []func() (*answer, error){
			func() (*answer, error) { return b.by(nobody, "GET", hostPath, "") },
			func() (*answer, error) { return b.do(policy.Operator, "GET", "/redfish/v1/nothing", "") },
			func() (*answer, error) { return b.do(policy.Operator, "DELETE", hostPath, "") },
		} {
			if a, err := ask(); err != nil || a.status < 400 {
				t.Fatalf("%+v, %v", a, err)
			}
		}
	}
	if after := b.records(t); after > before+4 { // the two readings of the log itself, and counters
		t.Errorf("%d requests without principal or route made %d records", 3*each, after-before)
	}
	b.unharmed(t)
}

// counted sees that what was refused before anybody was known is in the log as numbers.
func (b *bench) counted(t *testing.T) {
	var counters struct{ TLS, Certificate, Principal, Request, Busy uint64 }
	end := time.Now().Add(3 * time.Minute) // they are recorded with a checkpoint, once they have changed
	for {
		b.want(t, "", "GET", hostPath, "", 401)
		size := b.records(t)
		o := b.want(t, policy.Auditor, "GET", fmt.Sprintf("%s/Entries?$skip=%d", auditPath, max(0, size-200)), "", 200).object(t)
		for _, m := range o["Members"].([]any) {
			var r struct {
				Kind     string
				Counters *struct{ TLS, Certificate, Principal, Request, Busy uint64 }
			}
			must(t, json.Unmarshal([]byte(fmt.Sprint(m.(map[string]any)["Message"])), &r))
			if r.Kind == "counters" && r.Counters != nil {
				counters = *r.Counters
			}
		}
		if counters.TLS >= 5 && counters.Certificate >= 5 && counters.Principal >= 300 && counters.Request >= 600 && counters.Busy >= 1 {
			t.Logf("refused before authentication: %+v", counters)
			return
		}
		if time.Now().After(end) {
			t.Fatalf("the log's counters are %+v", counters)
		}
		time.Sleep(2 * time.Second)
	}
}
