package redfish

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

const uuid = "8f4f0c1e-9d2b-5e0a-8c55-2f6f2f0a1b2c"

func ask(t *testing.T, method, path string) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	New(Config{UUID: uuid, Product: "MCIMX6UL-EVK"}).ServeHTTP(w, httptest.NewRequest(method, "http://board"+path, nil))
	if v := w.Result().Header.Get("OData-Version"); v != "4.0" {
		t.Errorf("%s %s: OData-Version %q", method, path, v)
	}
	return w
}

func decode(t *testing.T, w *httptest.ResponseRecorder) map[string]any {
	t.Helper()
	var o map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &o); err != nil || w.Result().Header.Get("Content-Type") != "application/json" {
		t.Fatalf("%v: %s", err, w.Body)
	}
	return o
}

func TestRoot(t *testing.T) {
	for _, path := range []string{"/redfish/v1/", "/redfish/v1"} {
		o := decode(t, ask(t, "GET", path))
		for name, want := range map[string]string{"@odata.id": Root, "Id": "RootService", "UUID": uuid, "RedfishVersion": Version, "Product": "MCIMX6UL-EVK"} {
			if o[name] != want {
				t.Errorf("%s: %s is %v, want %s", path, name, o[name], want)
			}
		}
	}
	if o := decode(t, ask(t, "GET", "/redfish")); o["v1"] != Root {
		t.Error(o)
	}
	w := ask(t, "GET", "/redfish/v1/$metadata")
	var edmx struct {
		Reference []struct {
			Uri string `xml:",attr"`
		}
	}
	if err := xml.Unmarshal(w.Body.Bytes(), &edmx); err != nil || len(edmx.Reference) != 3 {
		t.Errorf("%v: %s", err, w.Body)
	}
}

// TestLinks follows every link from the root: each one leads to a resource that says
// it is there.
func TestLinks(t *testing.T) {
	seen := map[string]bool{}
	var follow func(v any)
	visit := func(path string) {
		if seen[path] {
			return
		}
		seen[path] = true
		w := ask(t, "GET", path)
		if w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
			return
		}
		o := decode(t, w)
		if o["@odata.id"] != path || !strings.HasPrefix(o["@odata.type"].(string), "#") || o["Name"] == nil {
			t.Errorf("%s: %v", path, o)
		}
		follow(o)
	}
	follow = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if path, ok := v["@odata.id"].(string); ok {
				visit(path)
			}
			for _, e := range v {
				follow(e)
			}
		case []any:
			for _, e := range v {
				follow(e)
			}
		}
	}
	visit(Root)
	if len(seen) != 3 {
		t.Errorf("seen: %v", seen)
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		method, path string
		status       int
		id           string
	}{
		{"GET", "/redfish/v1/Systems", 404, "ResourceMissingAtURI"},
		{"GET", "/redfish/v2/", 404, "ResourceMissingAtURI"},
		{"GET", "/redfish/v1//", 404, "ResourceMissingAtURI"},
		{"POST", "/redfish/v1/SessionService/Sessions", 405, "OperationNotAllowed"},
		{"PATCH", "/redfish/v1/", 405, "OperationNotAllowed"},
		{"DELETE", "/redfish/v1/", 405, "OperationNotAllowed"},
	} {
		w := ask(t, c.method, c.path)
		o := decode(t, w)
		e, _ := o["error"].(map[string]any)
		if w.Code != c.status || e["code"] != "Base.1.18."+c.id || len(e["@Message.ExtendedInfo"].([]any)) != 1 {
			t.Errorf("%s %s: %d %v", c.method, c.path, w.Code, o)
		}
		if allow := w.Result().Header.Get("Allow"); (c.status == 405) != (allow == "GET, HEAD") {
			t.Errorf("%s %s: Allow %q", c.method, c.path, allow)
		}
	}
}
