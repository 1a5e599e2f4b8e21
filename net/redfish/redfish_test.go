package redfish

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"nitro/internal/corpus"
	"nitro/net/audit"
	"nitro/net/policy"
)

// TestBare: without backends there is what anybody may read, and no more.
func TestBare(t *testing.T) {
	s := New(Config{UUID: uuid, Product: "MCIMX6UL-EVK"})
	get := func(method, path string) *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(method, "http://board"+path, nil))
		if v := w.Result().Header.Get("OData-Version"); v != "4.0" {
			t.Errorf("%s %s: OData-Version %q", method, path, v)
		}
		return w
	}
	for _, path := range []string{"/redfish/v1/", "/redfish/v1"} {
		o := decode(t, get("GET", path))
		for name, want := range map[string]string{"@odata.id": Root, "Id": "RootService", "UUID": uuid, "RedfishVersion": Version, "Product": "MCIMX6UL-EVK"} {
			if o[name] != want {
				t.Errorf("%s: %s is %v, want %s", path, name, o[name], want)
			}
		}
		if o["Systems"] != nil {
			t.Error("systems without a host")
		}
	}
	if o := decode(t, get("GET", "/redfish")); o["v1"] != Root {
		t.Error(o)
	}
	if w := get("GET", "/redfish/v1/Systems"); w.Code != http.StatusNotFound {
		t.Error(w.Code)
	}
	for _, r := range s.Routes() {
		if r.Action != policy.ReadService {
			t.Errorf("%+v", r)
		}
	}
	var edmx struct {
		Reference []struct {
			Uri string `xml:",attr"`
		}
	}
	if err := xml.Unmarshal(get("GET", "/redfish/v1/$metadata").Body.Bytes(), &edmx); err != nil || len(edmx.Reference) != 7 {
		t.Errorf("%v: %v", err, edmx)
	}
}

// TestRoutesAreActions: routes and the schema's actions are the same set, each with its
// type, and there is one action a route and method.
func TestRoutesAreActions(t *testing.T) {
	want, got := policy.Actions(), map[policy.Action]policy.ResourceType{}
	seen := map[string]bool{}
	for _, r := range newBench(t).service.Routes() {
		if seen[r.Method+" "+r.Pattern] {
			t.Errorf("%s %s is there twice", r.Method, r.Pattern)
		}
		seen[r.Method+" "+r.Pattern] = true
		if want[r.Action] != r.On {
			t.Errorf("%s %s: %s on %s, which the schema does not have", r.Method, r.Pattern, r.Action, r.On)
		}
		got[r.Action] = r.On
	}
	for a := range want {
		if _, ok := got[a]; !ok {
			t.Errorf("the schema's %s has no route", a)
		}
	}
	if len(seen) < 100 {
		t.Errorf("only %d routes", len(seen))
	}
}

// table is docs/redfish.md's table of routes.
func (s *Service) table() string {
	var b strings.Builder
	for _, r := range s.Routes() {
		if r.Method != http.MethodHead && r.Method != http.MethodOptions { // they ask for what GET asks for
			path := r.Pattern
			if path != Root {
				path = strings.TrimPrefix(path, Root)
			}
			fmt.Fprintf(&b, "| `%s` | %s | `%s` | %s |\n", path, r.Method, r.Action, r.On)
		}
	}
	return b.String()
}

// TestPage: docs/redfish.md has all routes and types, and no others.
func TestPage(t *testing.T) {
	b, err := os.ReadFile("../../docs/redfish.md")
	if err != nil {
		t.Fatal(err)
	}
	page, s := string(b), newBench(t).service
	if want := "|---|---|---|---|\n" + s.table() + "\n"; !strings.Contains(page, want) {
		t.Errorf("docs/redfish.md does not have this table:\n%s", want)
	}
	if want := strings.Join(s.types(), ", "); !strings.Contains(page, want) {
		t.Errorf("docs/redfish.md does not list these types: %s", want)
	}
}

// walk visits all that links lead to from the root, as an auditor and a release manager
// may read it.
func walk(t testing.TB, b *bench, visit func(path string, o map[string]any)) {
	seen := map[string]bool{}
	var follow func(v any)
	one := func(path string) {
		path, _, _ = strings.Cut(path, "#")
		if seen[path] {
			return
		}
		seen[path] = true
		w := b.ask(policy.Auditor, "GET", path, "")
		if strings.HasPrefix(path, monitorPath) && w.Code != http.StatusOK {
			return // TestMonitor has them
		}
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
			return
		}
		o := decode(t, w)
		visit(path, o)
		follow(o)
	}
	follow = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for name, e := range v {
				if path, ok := e.(string); ok && (name == "@odata.id" || name == "@odata.nextLink" || name == "Members@odata.nextLink" || name == "TaskMonitor" || name == "TargetComponentURI") {
					one(path)
				}
				follow(e)
			}
		case []any:
			for _, e := range v {
				follow(e)
			}
		}
	}
	one(Root)
}

// TestEveryResource follows every link, and validates what is there against DMTF's
// schemas.
func TestEveryResource(t *testing.T) {
	b := newBench(t)
	kinds := map[string]bool{}
	walk(t, b, func(path string, o map[string]any) {
		for _, w := range validResource(path, o) {
			t.Error(w)
		}
		if id := o["@odata.id"]; id != strings.SplitN(path, "?", 2)[0] && !strings.Contains(path, "TaskMonitors") {
			t.Errorf("%s says that it is %v", path, id)
		}
		kind := o["@odata.type"].(string)
		kinds[kind] = true
		if members, ok := o["Members"].([]any); ok && strings.Contains(kind, "LogEntry") {
			for _, m := range members {
				for _, w := range validResource(path, m.(map[string]any)) {
					t.Error(w)
				}
			}
		}
	})
	for name := range published {
		if short, _, versioned := strings.Cut(name, "."); versioned && !kinds["#"+name+"."+short] && name != logEntryType {
			t.Errorf("no resource of type %s", name)
		}
	}
	if types := b.service.types(); len(types) != 24 {
		t.Errorf("%d types: %v", len(types), types)
	}
}

// TestEveryMethod asks every method of every route for every role: what the policy's
// table allows is not refused for want of rights, all else is.
func TestEveryMethod(t *testing.T) {
	b := newBench(t)
	set, err := policy.Compile(&policy.Payload{Epoch: 1, Policies: policy.Default}, "board-1")
	if err != nil {
		t.Fatal(err)
	}
	routes := b.service.Routes()
	for _, n := range b.service.nodes {
		path := strings.ReplaceAll(n.path, idPart, "1")
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "POST", "PATCH", "PUT", "DELETE", "TRACE", "CONNECT", "get"} {
			i := slices.IndexFunc(routes, func(r Route) bool { return r.Pattern == n.path && r.Method == method })
			if w := b.ask("", method, path, "{}"); i >= 0 && w.Code != http.StatusUnauthorized {
				t.Errorf("nobody, %s %s: %d", method, path, w.Code)
			}
			for _, role := range policy.Roles {
				w := b.ask(role, method, path, "{}")
				if i < 0 {
					if w.Code != http.StatusMethodNotAllowed || w.Result().Header.Get("Allow") == "" {
						t.Errorf("%s, %s %s: %d", role, method, path, w.Code)
					}
					continue
				}
				want := set.Decide(policy.Request{Principal: policy.Principal{Owner: "owner.example", Role: role, Name: "x"}, Action: routes[i].Action,
					Resource: policy.Resource{Type: routes[i].On, ID: path}, Mode: b.mode}).Allowed
				if denied := w.Code == http.StatusForbidden; denied == want || w.Code == http.StatusUnauthorized {
					t.Errorf("%s, %s %s: %d, the table says %v", role, method, path, w.Code, want)
				}
			}
		}
	}
}

// TestChanges: what each operation does, and how it answers.
func TestChanges(t *testing.T) {
	const quote = `{"Certificate":{"@odata.id":"` + trustedPath + `/Certificates/ak"},"Nonce":"00ff","Scheme":"ABgACw==","PCRSelection":"AAAAAQALA/8BAA=="}`
	csr := `{"CertificateCollection":{"@odata.id":"` + httpsPath + `"},"CommonName":"board","Organization":"o","AlternativeNames":["DNS:b"]}`
	for _, c := range []struct {
		role               policy.Role
		method, path, body string
		status             int
		done, kind         string
	}{
		{policy.Operator, "POST", hostPath + "/Actions/ComputerSystem.Reset", `{"ResetType":"On"}`, 204, "reset On", ""},
		{policy.Operator, "POST", hostPath + "/Actions/ComputerSystem.Reset", `{"ResetType":"ForceOff"}`, 204, "reset ForceOff", ""},
		{policy.Operator, "POST", managerPath + "/Actions/Manager.Reset", `{"ResetType":"GracefulRestart"}`, 204, "restart", ""},
		{policy.Operator, "PATCH", managerPath, `{"DateTime":"2027-01-15T08:00:00Z"}`, 204, "time 1800000000", ""},
		{policy.ReleaseManager, "POST", updatePath + "/Actions/UpdateService.StartUpdate", ``, 202, "start", "Task.v1_7_4"},
		{policy.ReleaseManager, "POST", updatePath + "/Actions/Oem/NitroUpdate.Rollback", ``, 202, "rollback", "Task.v1_7_4"},
		{policy.FleetVerifier, "POST", integrityPath + "/Actions/ComponentIntegrity.TPMGetSignedMeasurements", quote, 200, "quote ak 00ff 0018000b 00000001000b03ff0100", "SignedMeasurements"},
		{policy.StorageControlPlane, "POST", integrityPath + "/Actions/Oem/NitroDocument.Get", `{"Nonce":"AAECAwQFBgc=","Recipient":true}`, 200, "document 0001020304050607 true", "Document"},
		{policy.FleetVerifier, "POST", integrityPath + "/Actions/Oem/NitroDocument.Get", `{}`, 200, "document  false", "Document"},
		{policy.Auditor, "POST", logPath + "/Actions/LogService.ClearLog", `{}`, 204, "clear", ""},
		{policy.Auditor, "POST", logPath + "/Actions/Oem/NitroLog.Export", `{"From":7,"Older":"x"}`, 200, "export 7 x", ""},
		{policy.Auditor, "POST", logPath + "/Actions/Oem/NitroLog.Prove", `{"Record":7,"Size":8}`, 200, "prove 7 8", ""},
		{policy.Auditor, "POST", logPath + "/Actions/Oem/NitroLog.Witness", `{"Checkpoint":"x"}`, 204, "witness x", ""},
		{policy.Operator, "POST", certificatePath + "/Actions/CertificateService.GenerateCSR", csr, 200, "request 1 CN=board,O=o [DNS:b]", "CSR"},
		{policy.Operator, "POST", certificatePath + "/Actions/CertificateService.ReplaceCertificate", `{"CertificateUri":{"@odata.id":"` + httpsPath + `/1"},"CertificateString":"x","CertificateType":"PEMchain"}`, 204, "replace 1 x", ""},
	} {
		b := newBench(t)
		w := b.ask(c.role, c.method, c.path, c.body)
		if w.Code != c.status || fmt.Sprint(b.machine.done) != "["+c.done+"]" {
			t.Errorf("%s: %d %s, %v, not %s", c.path, w.Code, w.Body, b.machine.done, c.done)
			continue
		}
		if c.kind != "" {
			o := decode(t, w)
			wrong := valid(c.kind, c.path, o)
			if o["@odata.type"] != nil {
				wrong = validResource(c.path, o)
			}
			if len(wrong) > 0 {
				t.Error(wrong)
			}
		}
		if want := []string{"intent spiffe://owner.example/" + string(c.role) + "/x", fmt.Sprintf("outcome %d", c.status)}; len(b.journal.lines) != 2 ||
			!strings.HasPrefix(b.journal.lines[0], want[0]) || !strings.HasPrefix(b.journal.lines[1], want[1]) {
			t.Errorf("%s: recorded %q", c.path, b.journal.lines)
		}
		b.machine.fail, b.machine.done = errSecret, nil
		w = b.ask(c.role, c.method, c.path, c.body)
		if refused(t, c.path, w, 500, "InternalError"); strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s tells what the backend says: %s", c.path, w.Body)
		}
		e := Refuse(409, "ResourceInUse")
		b.machine.fail = fmt.Errorf("the backend: %w", e)
		refused(t, c.path, b.ask(c.role, c.method, c.path, c.body), 409, "ResourceInUse")
	}
	b := newBench(t)
	w := b.ask(policy.FleetVerifier, "POST", integrityPath+"/Actions/ComponentIntegrity.TPMGetSignedMeasurements", quote)
	if got, _ := base64.StdEncoding.DecodeString(decode(t, w)["SignedMeasurements"].(string)); string(got) != "quotedsignature" {
		t.Errorf("%q", got)
	}
	b.machine.fail = fmt.Errorf("audit: %w", audit.ErrGone)
	w = b.ask(policy.Auditor, "POST", logPath+"/Actions/Oem/NitroLog.Export", "{}")
	if refused(t, "cleared", w, 400, "GeneralError"); !strings.Contains(w.Body.String(), audit.ErrGone.Error()) {
		t.Errorf("%s", w.Body)
	}
	b.machine.fail, b.machine.broke = nil, audit.ErrGone
	func() {
		defer func() {
			if recover() != http.ErrAbortHandler {
				t.Error("an export that breaks off is answered as if it were whole")
			}
		}()
		b.ask(policy.Auditor, "POST", logPath+"/Actions/Oem/NitroLog.Export", "{}")
	}()
	b.machine.clear = 0
	refused(t, "nothing witnessed", b.ask(policy.Auditor, "POST", logPath+"/Actions/LogService.ClearLog", ""), 409, "ResourceInUse")
}

// upload makes the body of a multipart push.
func upload(t testing.TB, parts ...string) (string, string) {
	t.Helper()
	var body bytes.Buffer
	m := multipart.NewWriter(&body)
	for i := 0; i < len(parts); i += 2 {
		w, err := m.CreateFormFile(parts[i], "image.bin")
		if err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(parts[i+1]))
	}
	m.Close()
	return body.String(), m.FormDataContentType()
}

func TestPush(t *testing.T) {
	b := newBench(t)
	body, kind := upload(t, "UpdateParameters", "{}", "UpdateFile", strings.Repeat("x", 100000))
	w := b.ask(policy.ReleaseManager, "POST", updatePath+"/upload", body, "Content-Type", kind)
	if w.Code != 202 || fmt.Sprint(b.machine.done) != "[push image.bin 100000]" || w.Result().Header.Get("Location") != monitorPath+"/t1" {
		t.Errorf("%d %s %v", w.Code, w.Body, b.machine.done)
	}
	for name, parts := range map[string][]string{
		"no parameters": {"UpdateFile", "x"},
		"no file":       {"UpdateParameters", "{}"},
		"another part":  {"UpdateParameters", "{}", "Other", "x"},
		"nothing":       nil,
	} {
		body, kind := upload(t, parts...)
		refused(t, name, b.ask(policy.ReleaseManager, "POST", updatePath+"/upload", body, "Content-Type", kind), 400, "UnrecognizedRequestBody")
	}
	const apply = `"@Redfish.OperationApplyTime":`
	for _, c := range []struct {
		parameters, id string // of the refusal; of one that is taken what was done
		status         int
	}{
		{`{"Targets":[],` + apply + `"Immediate"}`, "[push image.bin Immediate1]", 202},
		{`{` + apply + `"OnStartUpdateRequest"}`, "[push image.bin OnStartUpdateRequest1]", 202},
		{`{` + apply + `"AtMaintenanceWindowStart"}`, "ActionParameterValueNotInList", 400},
		{`{` + apply + `1}`, "ActionParameterValueTypeError", 400},
		{`{"Targets":["` + hostPath + `"]}`, "ActionParameterNotSupported", 400},
		{`{"Targets":1}`, "ActionParameterNotSupported", 400},
		{`{"ForceUpdate":true}`, "ActionParameterUnknown", 400},
		{`{` + apply + `"Immediate",` + apply + `"Immediate"}`, "MalformedJSON", 400},
		{`{"Targets":[]} x`, "MalformedJSON", 400},
		{`[]`, "MalformedJSON", 400},
		{`x`, "MalformedJSON", 400},
		{`{}` + strings.Repeat(" ", maxParameters), "MalformedJSON", 400},
		{`{"x":"` + strings.Repeat("x", maxParameters) + `"}`, "MalformedJSON", 400},
	} {
		b.machine.done = nil
		body, kind := upload(t, "UpdateParameters", c.parameters, "UpdateFile", "x")
		w := b.ask(policy.ReleaseManager, "POST", updatePath+"/upload", body, "Content-Type", kind)
		if c.status != 202 {
			refused(t, c.parameters, w, c.status, c.id)
		} else if w.Code != 202 || fmt.Sprint(b.machine.done) != c.id {
			t.Errorf("%s: %d, %v", c.parameters, w.Code, b.machine.done)
		}
	}
	b.machine.fail = fmt.Errorf("the backend: %w", &http.MaxBytesError{Limit: 1})
	refused(t, "too much", b.ask(policy.ReleaseManager, "POST", updatePath+"/upload", body, "Content-Type", kind), 413, "UnrecognizedRequestBody")
	refused(t, "JSON", b.ask(policy.ReleaseManager, "POST", updatePath+"/upload", "{}"), 400, "UnrecognizedRequestBody")
}

// TestBadRequests: each refusal, with its status and message.
func TestBadRequests(t *testing.T) {
	reset := hostPath + "/Actions/ComputerSystem.Reset"
	quote := integrityPath + "/Actions/ComponentIntegrity.TPMGetSignedMeasurements"
	ak := `"Certificate":{"@odata.id":"` + trustedPath + `/Certificates/ak"}`
	deep := strings.Repeat(`{"a":`, MaxDepth+1) + "1" + strings.Repeat("}", MaxDepth+1)
	for _, c := range []struct {
		method, path, body string
		status             int
		id                 string
	}{
		{"GET", "/redfish/v2/", "", 404, "ResourceMissingAtURI"},
		{"GET", "/redfish/v1//", "", 404, "ResourceMissingAtURI"},
		{"GET", "/redfish/v1/../v1/Systems", "", 404, "ResourceMissingAtURI"},
		{"GET", "/redfish/v1/%53ystems", "", 404, "ResourceMissingAtURI"},
		{"GET", "/redfish/v1/systems", "", 404, "ResourceMissingAtURI"},
		{"GET", "/redfish/v1/Systems/host%2f", "", 404, "ResourceMissingAtURI"},
		{"GET", "/redfish/v1/JsonSchemas/..", "", 404, "ResourceMissingAtURI"},
		{"GET", "/redfish/v1/JsonSchemas/Nothing", "", 404, "ResourceMissingAtURI"},
		{"GET", "/redfish/v1/" + strings.Repeat("x", MaxPath), "", 404, "ResourceMissingAtURI"},
		{"GET", logPath + "/Entries/1", "", 404, "ResourceMissingAtURI"}, // cleared
		{"GET", logPath + "/Entries/450", "", 404, "ResourceMissingAtURI"},
		{"GET", logPath + "/Entries/007", "", 404, "ResourceMissingAtURI"},
		{"GET", taskPath + "/t9", "", 404, "ResourceMissingAtURI"},
		{"GET", updatePath + "/FirmwareInventory/x", "", 404, "ResourceMissingAtURI"},
		{"GET", httpsPath + "/9", "", 404, "ResourceMissingAtURI"},
		{"DELETE", hostPath, "", 405, "OperationNotAllowed"},
		{"GET", reset, "", 405, "OperationNotAllowed"},
		{"GET", hostPath + "?$filter=Id", "", 501, "QueryNotSupported"},
		{"GET", hostPath + "?only", "", 501, "QueryNotSupported"},
		{"GET", hostPath + "?$top=1", "", 400, "QueryNotSupportedOnResource"},
		{"GET", logPath + "/Entries?$top=x", "", 400, "QueryParameterValueTypeError"},
		{"GET", logPath + "/Entries?$skip=-1", "", 400, "QueryParameterOutOfRange"},
		{"GET", logPath + "/Entries?$top=1&$top=2", "", 400, "QueryCombinationInvalid"},
		{"GET", hostPath + "?$expand=~", "", 400, "QueryParameterValueTypeError"},
		{"GET", hostPath + "?$expand=.($levels=2)", "", 400, "QueryParameterValueTypeError"},
		{"GET", hostPath + "?$select=", "", 400, "QueryParameterValueTypeError"},
		{"GET", hostPath + "?$select=" + strings.Repeat("a,", MaxSelect) + "a", "", 400, "QueryParameterValueTypeError"},
		{"GET", hostPath + "?x=" + strings.Repeat("a", MaxQuery), "", 400, "QueryNotSupported"},
		{"GET", hostPath + "?x=%zz", "", 400, "QueryNotSupported"},
		{"GET", Root + "$metadata?$select=x", "", 400, "QueryNotSupportedOnResource"},
		{"POST", reset + "?$top=1", `{"ResetType":"On"}`, 400, "QueryNotSupportedOnOperation"},
		{"POST", reset, `{"ResetType":"On"`, 400, "MalformedJSON"},
		{"POST", reset, `{"ResetType":"On"} x`, 400, "MalformedJSON"},
		{"POST", reset, `{"ResetType":"On","ResetType":"ForceOff"}`, 400, "MalformedJSON"},
		{"POST", reset, deep, 400, "MalformedJSON"},
		{"POST", reset, "\xff", 400, "MalformedJSON"},
		{"POST", reset, `{"ResetType":"` + strings.Repeat("x", MaxText+1) + `"}`, 400, "MalformedJSON"},
		{"POST", reset, `[]`, 400, "UnrecognizedRequestBody"},
		{"POST", reset, strings.Repeat(" ", MaxBody+1), 413, "UnrecognizedRequestBody"},
		{"POST", reset, `{}`, 400, "ActionParameterMissing"},
		{"POST", reset, ``, 400, "ActionParameterMissing"},
		{"POST", reset, `{"ResetType":"On","Force":"x"}`, 400, "ActionParameterUnknown"},
		{"POST", reset, `{"ResetType":1}`, 400, "ActionParameterValueTypeError"},
		{"POST", reset, `{"ResetType":null}`, 400, "ActionParameterValueTypeError"},
		{"POST", reset, `{"ResetType":"Nmi"}`, 400, "ActionParameterValueNotInList"},
		{"POST", reset, `{"ResetType":"on"}`, 400, "ActionParameterValueNotInList"},
		{"POST", quote, `{"Scheme":"AA==","PCRSelection":"AA=="}`, 400, "ActionParameterMissing"},
		{"POST", quote, `{"Certificate":"ak","Scheme":"AA==","PCRSelection":"AA=="}`, 400, "ActionParameterValueTypeError"},
		{"POST", quote, `{"Certificate":{"@odata.id":"/x"},"Scheme":"AA==","PCRSelection":"AA=="}`, 400, "ActionParameterValueFormatError"},
		{"POST", quote, `{` + ak + `,"Scheme":"AA==","PCRSelection":"AA==","Nonce":""}`, 400, "ActionParameterValueFormatError"},
		{"POST", quote, `{` + ak + `,"Scheme":"AA==","PCRSelection":"AA==","Nonce":"0"}`, 400, "ActionParameterValueFormatError"},
		{"POST", quote, `{` + ak + `,"Scheme":"AA==","PCRSelection":"AA==","Nonce":"` + strings.Repeat("00", MaxNonce+1) + `"}`, 400, "ActionParameterValueFormatError"},
		{"POST", quote, `{` + ak + `,"Scheme":"!","PCRSelection":"AA=="}`, 400, "ActionParameterValueFormatError"},
		{"POST", quote, `{` + ak + `,"Scheme":"AA==","PCRSelection":""}`, 400, "ActionParameterValueFormatError"},
		{"POST", quote, `{` + ak + `,"Scheme":"` + strings.Repeat("AAAA", 6) + `","PCRSelection":"AA=="}`, 400, "ActionParameterValueFormatError"},
		{"POST", certificatePath + "/Actions/CertificateService.GenerateCSR", `{"CertificateCollection":{"@odata.id":"/x"},"CommonName":"c"}`, 400, "ActionParameterValueFormatError"},
		{"POST", certificatePath + "/Actions/CertificateService.GenerateCSR", `{"CertificateCollection":{"@odata.id":"` + httpsPath + `"},"CommonName":"c","AlternativeNames":[1]}`, 400, "ActionParameterValueTypeError"},
		{"POST", logPath + "/Actions/Oem/NitroLog.Prove", `{"Record":7}`, 400, "ActionParameterMissing"},
		{"POST", integrityPath + "/Actions/Oem/NitroDocument.Get", `{"Nonce":"AAECAwQFBg=="}`, 400, "ActionParameterValueFormatError"},
		{"POST", integrityPath + "/Actions/Oem/NitroDocument.Get", `{"Nonce":"0001020304050607!"}`, 400, "ActionParameterValueFormatError"},
		{"POST", integrityPath + "/Actions/Oem/NitroDocument.Get", `{"Recipient":"true"}`, 400, "ActionParameterValueTypeError"},
		{"POST", logPath + "/Actions/Oem/NitroLog.Prove", `{"Record":-7,"Size":8}`, 400, "ActionParameterValueTypeError"},
		{"POST", logPath + "/Actions/Oem/NitroLog.Prove", `{"Record":7.5,"Size":8}`, 400, "ActionParameterValueTypeError"},
		{"POST", logPath + "/Actions/Oem/NitroLog.Prove", `{"Record":"7","Size":8}`, 400, "ActionParameterValueTypeError"},
		{"PATCH", managerPath, `{"Id":"x"}`, 400, "PropertyNotWritable"},
		{"PATCH", managerPath, `{"Colour":"x"}`, 400, "PropertyUnknown"},
		{"PATCH", managerPath, `{"DateTime":"today"}`, 400, "PropertyValueFormatError"},
		{"PATCH", managerPath, `{"DateTime":7}`, 400, "PropertyValueFormatError"},
	} {
		b := newBench(t)
		refused(t, c.method+" "+c.path+" "+c.body[:min(len(c.body), 60)], b.ask(policy.Operator, c.method, c.path, c.body), c.status, c.id)
		if len(b.machine.done) > 0 {
			t.Errorf("%s %s: done: %v", c.method, c.path, b.machine.done)
		}
	}
	b := newBench(t)
	refused(t, "text", b.ask(policy.Operator, "POST", reset, `{"ResetType":"On"}`, "Content-Type", "text/plain"), 415, "UnrecognizedRequestBody")
	refused(t, "another OData", b.ask(policy.Operator, "GET", hostPath, "", "OData-Version", "3.0"), 412, "PreconditionFailed")
}

func TestETags(t *testing.T) {
	b := newBench(t)
	w := b.ask(policy.Operator, "GET", managerPath, "")
	tag := w.Result().Header.Get("ETag")
	if o := decode(t, w); tag == "" || o["@odata.etag"] != tag {
		t.Errorf("%q, %v", tag, o["@odata.etag"])
	}
	if w := b.ask(policy.Operator, "GET", managerPath, "", "If-None-Match", `"x", W/`+tag); w.Code != 304 || w.Body.Len() > 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := b.ask(policy.Operator, "GET", managerPath+"?$select=Id", "", "If-None-Match", `"x"`); w.Code != 200 || w.Result().Header.Get("ETag") != tag {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	const body = `{"DateTime":"2027-01-15T08:00:00Z"}`
	for match, status := range map[string]int{tag: 204, "W/" + tag: 204, "*": 204, `"x"`: 412, `"x", ` + tag: 204} {
		if w := b.ask(policy.Operator, "PATCH", managerPath, body, "If-Match", match); w.Code != status {
			t.Errorf("If-Match %s: %d", match, w.Code)
		}
	}
	before := b.ask(policy.Operator, "GET", hostPath, "").Result().Header.Get("ETag")
	b.machine.state.Held = true
	if b.ask(policy.Operator, "GET", hostPath, "").Result().Header.Get("ETag") == before {
		t.Error("the host was held, and its tag is the same")
	}
}

func TestQueries(t *testing.T) {
	b := newBench(t)
	o := decode(t, b.ask(policy.Operator, "GET", hostPath+"?$select=PowerState,Status/State,Nothing,Id/x&unknown=1", ""))
	status, _ := o["Status"].(map[string]any)
	if len(o) != 5 || o["PowerState"] != "On" || len(status) != 1 || o["@odata.type"] == nil {
		t.Errorf("$select: %v", o)
	}
	o = decode(t, b.ask(policy.Auditor, "GET", logPath+"/Entries?$skip=440&$top=5", ""))
	members := o["Members"].([]any)
	if len(members) != 5 || fmt.Sprint(o["Members@odata.count"]) != "448" || o["Members@odata.nextLink"] != logPath+"/Entries?$skip=445&$top=5" ||
		members[0].(map[string]any)["Id"] != "442" {
		t.Errorf("$skip, $top: %v", o)
	}
	o = decode(t, b.ask(policy.Auditor, "GET", logPath+"/Entries", ""))
	if len(o["Members"].([]any)) != MaxPage || o["Members@odata.nextLink"] == nil {
		t.Errorf("a whole log at once: %v", o["Members@odata.nextLink"])
	}
	for query, n := range map[string]int{"?$top=0": 0, "?$skip=5": 0, "?$top=1": 1, "?$skip=1&$top=9": 3} {
		o := decode(t, b.ask(policy.ReleaseManager, "GET", updatePath+"/FirmwareInventory"+query, ""))
		if len(o["Members"].([]any)) != n || fmt.Sprint(o["Members@odata.count"]) != "4" {
			t.Errorf("%s: %v", query, o)
		}
	}
	o = decode(t, b.ask(policy.ReleaseManager, "GET", updatePath+"/FirmwareInventory?$expand=.", ""))
	for _, m := range o["Members"].([]any) {
		for _, w := range validResource("expanded", m.(map[string]any)) {
			t.Error(w)
		}
	}
	// The root's systems are no release manager's to read: they stay a link.
	o = decode(t, b.ask(policy.ReleaseManager, "GET", Root+"?$expand=*($levels=1)", ""))
	if len(o["Systems"].(map[string]any)) != 1 || len(o["UpdateService"].(map[string]any)) < 5 || len(o["AccountService"].(map[string]any)) != 1 {
		t.Errorf("$expand: %v", o)
	}
}

// TestExpandedIsNotKept: what one client may read does not stay in what the next one gets.
func TestExpandedIsNotKept(t *testing.T) {
	b := newBench(t)
	for _, n := range b.service.nodes {
		path := strings.ReplaceAll(n.path, idPart, "1")
		if n.page != nil || n.post != nil {
			continue
		}
		before := b.ask(policy.Auditor, "GET", path, "").Body.String()
		if path == managerPath {
			continue // its time goes on
		}
		for _, query := range []string{"?$expand=.", "?$expand=*", "?$select=Status/State"} {
			w := b.ask(policy.Auditor, "GET", path+query, "")
			if w.Code == 200 && query == "?$expand=*" && strings.Contains(before, `"Links"`) && len(w.Body.String()) <= len(before) {
				t.Errorf("%s%s: nothing was expanded", path, query)
			}
		}
		if after := b.ask(policy.Auditor, "GET", path, "").Body.String(); after != before {
			t.Errorf("%s: %s, after $expand %s", path, before, after)
		}
	}
}

// TestExpandIsBounded: a collection of many tasks.
func TestExpandIsBounded(t *testing.T) {
	b := newBench(t)
	for n := range 250 {
		b.machine.tasks = append(b.machine.tasks, TaskState{ID: fmt.Sprint(n), Name: "Update", State: "Running"})
	}
	if n := len(decode(t, b.ask(policy.Auditor, "GET", taskPath+"?$top=1000", ""))["Members"].([]any)); n != MaxPage {
		t.Errorf("%d at once", n)
	}
	whole := 0
	for _, m := range decode(t, b.ask(policy.Auditor, "GET", taskPath+"?$expand=.", ""))["Members"].([]any) {
		if len(m.(map[string]any)) > 1 {
			whole++
		}
	}
	if whole != MaxExpand {
		t.Errorf("%d expanded", whole)
	}
}

// TestMonitor: a task's monitor answers as what was asked for would.
func TestMonitor(t *testing.T) {
	b := newBench(t)
	b.machine.tasks = append(b.machine.tasks, TaskState{ID: "t3", Name: "Update", State: "Completed", Percent: 100, End: time.Unix(1, 0)})
	if w := b.ask(policy.Auditor, "GET", monitorPath+"/t1", ""); w.Code != 202 || len(validResource("", decode(t, w))) > 0 {
		t.Errorf("running: %d %s", w.Code, w.Body)
	}
	refused(t, "failed", b.ask(policy.Auditor, "GET", monitorPath+"/t2", ""), 400, "UnrecognizedRequestBody")
	if w := b.ask(policy.Auditor, "GET", monitorPath+"/t3", ""); w.Code != 200 || decode(t, w)["TaskState"] != "Completed" {
		t.Errorf("completed: %d %s", w.Code, w.Body)
	}
	refused(t, "none", b.ask(policy.Auditor, "GET", monitorPath+"/t9", ""), 404, "ResourceMissingAtURI")
	for id, want := range map[string]any{"t1": nil, "t2": "Critical", "t3": "OK"} { // set once it is done: Task.v1_7_4
		if status := decode(t, b.ask(policy.Auditor, "GET", taskPath+"/"+id, ""))["TaskStatus"]; status != want {
			t.Errorf("%s: %v", id, status)
		}
	}
}

// TestSchemaRoot: a volume's schema is SNIA's, and lies beside DMTF's.
func TestSchemaRoot(t *testing.T) {
	b := newBench(t)
	const root = "http://redfish.dmtf.org/schemas/swordfish/v1/Volume"
	for path, want := range map[string]string{rootVolume: root + ".v1_10_0.json", volumesPath: root + "Collection.json"} {
		if l := b.ask(policy.StorageControlPlane, "GET", path, "").Result().Header.Get("Link"); l != "<"+want+">; rel=describedby" {
			t.Errorf("%s: %s", path, l)
		}
	}
	file := b.ask(policy.Auditor, "GET", Root+"JsonSchemas/Volume", "").Body.String()
	data := b.ask(policy.Auditor, "GET", Root+"$metadata", "").Body.String()
	if !strings.Contains(file, root+".v1_10_0.json") || !strings.Contains(data, root+"_v1.xml") || !strings.Contains(data, root+"Collection_v1.xml") {
		t.Errorf("%s %s", file, data)
	}
}

// TestHeadAndOptions answer as GET would, without its body.
func TestHeadAndOptions(t *testing.T) {
	b := newBench(t)
	w := b.ask(policy.Operator, "OPTIONS", managerPath, "")
	if w.Code != 204 || w.Result().Header.Get("Allow") != "GET, HEAD, OPTIONS, PATCH" {
		t.Errorf("%d %q", w.Code, w.Result().Header.Get("Allow"))
	}
	get, head := b.ask(policy.Operator, "GET", managerPath, ""), b.ask(policy.Operator, "HEAD", managerPath, "")
	if l := get.Result().Header.Get("Link"); l != "<http://redfish.dmtf.org/schemas/v1/"+managerType+".json>; rel=describedby" {
		t.Errorf("Link: %s", l)
	}
	if head.Code != 200 || head.Result().Header.Get("ETag") != get.Result().Header.Get("ETag") {
		t.Errorf("%d %v", head.Code, head.Result().Header)
	}
}

// TestUnrecorded: what cannot be recorded is not done, unless it is safe.
func TestUnrecorded(t *testing.T) {
	b := newBench(t)
	b.journal.full = true
	reset := hostPath + "/Actions/ComputerSystem.Reset"
	w := b.ask(policy.Operator, "POST", reset, `{"ResetType":"On"}`)
	if refused(t, "a release", w, 503, "ServiceTemporarilyUnavailable"); w.Result().Header.Get("Retry-After") != "60" || len(b.machine.done) > 0 {
		t.Errorf("%v %v", w.Result().Header, b.machine.done)
	}
	if w := b.ask(policy.Operator, "POST", reset, `{"ResetType":"ForceOff"}`); w.Code != 204 || len(b.machine.done) != 1 {
		t.Errorf("a hold: %d %v", w.Code, b.machine.done)
	}
	if w := b.ask(policy.Auditor, "POST", logPath+"/Actions/LogService.ClearLog", ""); w.Code != 204 || len(b.machine.done) != 2 {
		t.Errorf("clearing the log: %d %s", w.Code, w.Body)
	}
	refused(t, "a wrong role", b.ask(policy.Auditor, "POST", reset, `{"ResetType":"ForceOff"}`), 403, "InsufficientPrivilege")
}

// TestRecorded: denials are recorded, strangers and what has no route are counted.
func TestRecorded(t *testing.T) {
	b := newBench(t)
	b.ask(policy.FleetVerifier, "POST", hostPath+"/Actions/ComputerSystem.Reset", `{`)
	b.ask("", "GET", hostPath, "")
	b.ask(policy.Operator, "GET", "/redfish/v1/x", "")
	b.ask(policy.Operator, "POST", hostPath+"/Actions/ComputerSystem.Reset", `{`)
	b.ask(policy.Operator, "GET", taskPath+"/t1/", "") // one spelling, with or without the slash
	want := []string{"denied spiffe://owner.example/fleet-verifier/x resetHost " + hostPath,
		"intent spiffe://owner.example/operator/x resetHost " + hostPath, "outcome 400 MalformedJSON",
		"intent spiffe://owner.example/operator/x readTask " + taskPath + "/t1", "outcome 200 "}
	if !slices.Equal(b.journal.lines, want) || b.journal.counts.Principal != 1 || b.journal.counts.Request != 1 {
		t.Errorf("%q %+v", b.journal.lines, b.journal.counts)
	}
}

// TestQuarantineAndClock: what is served in each mode is what the policy's actions say.
func TestQuarantineAndClock(t *testing.T) {
	for mode, status := range map[policy.Mode][4]int{
		{ClockKnown: true}:                    {200, 200, 200, 204},
		{}:                                    {403, 200, 403, 204},
		{Quarantined: true, ClockKnown: true}: {200, 200, 403, 403},
	} {
		b := newBench(t)
		b.mode = mode
		got := [4]int{b.ask(policy.Operator, "GET", hostPath, "").Code, b.ask(policy.Operator, "GET", integrityPath, "").Code,
			b.ask(policy.Operator, "GET", logPath, "").Code, b.ask(policy.Operator, "POST", hostPath+"/Actions/ComputerSystem.Reset", `{"ResetType":"ForceOff"}`).Code}
		if got != status {
			t.Errorf("%+v: %v, not %v", mode, got, status)
		}
	}
}

// TestStates: a host that is held, a board in quarantine, as Redfish shows them.
func TestStates(t *testing.T) {
	b := newBench(t)
	b.machine.state = HostState{Powered: true, Held: true, Fault: "its firmware does not verify (code 703)", Serial: "S1"}
	o := decode(t, b.ask(policy.Operator, "GET", hostPath, ""))
	if wrong := validResource(hostPath, o); len(wrong) > 0 || o["PowerState"] != "Off" || !strings.Contains(fmt.Sprint(o["Status"]), "703") {
		t.Errorf("%v %v", wrong, o)
	}
}

func TestMisconfigured(t *testing.T) {
	for name, c := range map[string]Config{"no gate": {Host: newMachine()}, "no controller": {Log: newMachine(), Gate: &Gatekeeper{}}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: made", name)
				}
			}()
			New(c)
		}()
	}
}

// What the fuzzer found: see package corpus.
//
//go:embed testdata/requests.hex
var keptRequests string

// FuzzRequest: the first line is method and path, the rest is the body. Whatever comes is
// answered with JSON, and an error with one of the specification's.
func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"POST " + hostPath + "/Actions/ComputerSystem.Reset\n{\"ResetType\":\"On\"}",
		"PATCH " + managerPath + "\n{\"DateTime\":\"2027-01-15T08:00:00Z\"}",
		"GET " + logPath + "/Entries?$skip=1&$top=2&$select=Members/Id&$expand=.\n",
		"POST " + volumesPath + "\n{\"Name\":\"x\",\"CapacityBytes\":512,\"Oem\":{\"Nitro\":{\"Identity\":\"00\",\"Commitment\":\"00\",\"Kind\":\"RAM\"}}}",
		"POST " + rootVolume + "/Actions/Oem/NitroVolume.Attach\n{\"Grant\":\"AA==\",\"WrappedKey\":\"AA==\",\"Form\":\"HPKE\"}",
		"DELETE " + rootVolume + "\n",
		"POST " + integrityPath + "/Actions/ComponentIntegrity.TPMGetSignedMeasurements\n{\"Certificate\":{\"@odata.id\":\"/x\"},\"Nonce\":\"00\",\"Scheme\":\"AA==\",\"PCRSelection\":\"AA==\"}",
	} {
		f.Add([]byte(s))
	}
	corpus.Add(f, keptRequests)
	b := newBench(f)
	roles := []policy.Role{policy.Operator, policy.StorageControlPlane} // between them, most of what there is
	f.Fuzz(func(t *testing.T, in []byte) {
		head, body, _ := strings.Cut(string(in), "\n")
		method, target, _ := strings.Cut(head, " ")
		path, query, _ := strings.Cut(target, "?")
		for _, role := range roles {
			r := httptest.NewRequest("GET", "https://board/", strings.NewReader(body))
			r.Method, r.URL.Path, r.URL.RawQuery = method, path, query
			r.TLS = b.state(role)
			w := httptest.NewRecorder()
			b.service.ServeHTTP(w, r)
			switch {
			case w.Code == 204 || w.Code == 304:
			case w.Code >= 400:
				if wrong := valid("Error", head, decode(t, w)); len(wrong) > 0 {
					t.Error(wrong)
				}
			case !strings.Contains(path, "$metadata"):
				decode(t, w)
			}
		}
		b.machine.vols = b.machine.vols[:2]
		b.journal.lines, b.machine.done = nil, nil
	})
}

// TestScrapes: of a principal that reads the metrics all the time one reading is recorded,
// and each that is denied.
func TestScrapes(t *testing.T) {
	b := newBench(t)
	for range 5 {
		if w := b.ask(policy.Auditor, "GET", MetricsPath, ""); w.Code != http.StatusOK || !strings.HasPrefix(w.Header().Get("Content-Type"), "text/plain; version=0.0.4") {
			t.Errorf("%d %v", w.Code, w.Header())
		}
		b.ask(policy.Operator, "GET", MetricsPath, "")
		if w := b.ask(policy.FleetVerifier, "GET", MetricsPath, ""); w.Code != http.StatusForbidden {
			t.Errorf("a verifier: %d", w.Code)
		}
	}
	intents, denied := 0, 0
	for _, l := range b.lines {
		switch {
		case strings.HasPrefix(l, "intent "):
			intents++
		case strings.HasPrefix(l, "denied "):
			denied++
		}
	}
	if intents != 2 || denied != 5 {
		t.Errorf("%d intents, %d denied: %v", intents, denied, b.lines)
	}
}
