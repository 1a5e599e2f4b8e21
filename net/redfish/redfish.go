// Package redfish is the firmware's API as a Redfish service (DMTF DSP0266, Redfish
// Specification, 1.20): resources as JSON, OData annotations, and the specification's
// error bodies, over net/http.
//
// So far there are the service root, what the specification wants beside it (the
// versions, the OData service document, the metadata), and an empty session service:
// clients authenticate by certificate, so nobody ever logs in. All of it may be read
// without authentication, as the specification has it (section 13.3.3). Nothing can be
// changed.
package redfish

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"net/http"
	"strings"
)

// Version is the specification's that the service follows.
const Version = "1.20.0"

// Root is where version 1 of the protocol's resources are (DSP0266 6.6).
const Root = "/redfish/v1/"

// Config is what the service root tells about the machine.
type Config struct {
	UUID    string // of the service; the same over all boots (RFC 9562)
	Product string // what the machine is
}

// A Service answers requests below /redfish. It implements http.Handler.
type Service struct {
	pages map[string]page
}

// A page is a resource that does not change.
type page struct {
	contentType string
	body        []byte
}

// An object is a JSON object. Its members come out in the order of their names.
type object = map[string]any

func link(path string) object { return object{"@odata.id": path} }

// New makes the service.
func New(c Config) *Service {
	s := &Service{pages: map[string]page{}}
	s.resource("/redfish", object{"v1": Root})
	s.resource(Root, object{
		"@odata.id": Root, "@odata.type": "#ServiceRoot.v1_17_0.ServiceRoot",
		"Id": "RootService", "Name": "Nitro Controller", "RedfishVersion": Version,
		"UUID": c.UUID, "Product": c.Product,
		"SessionService": link(Root + "SessionService"),
		"Links":          object{"Sessions": link(Root + "SessionService/Sessions")},
		"ProtocolFeaturesSupported": object{
			"FilterQuery": false, "SelectQuery": false, "ExcerptQuery": false, "OnlyMemberQuery": false,
			"ExpandQuery": object{"ExpandAll": false, "Levels": false, "Links": false, "NoLinks": false},
		},
	})
	s.resource(Root+"SessionService", object{
		"@odata.id": Root + "SessionService", "@odata.type": "#SessionService.v1_1_9.SessionService",
		"Id": "SessionService", "Name": "Session Service",
		"Description":    "Clients authenticate by certificate: there are no sessions.",
		"ServiceEnabled": false, "Sessions": link(Root + "SessionService/Sessions"),
	})
	s.resource(Root+"SessionService/Sessions", object{
		"@odata.id": Root + "SessionService/Sessions", "@odata.type": "#SessionCollection.SessionCollection",
		"Name": "Session Collection", "Members": []any{}, "Members@odata.count": 0,
	})
	s.resource(Root+"odata", object{
		"@odata.context": Root + "$metadata",
		"value": []object{
			{"name": "Service", "kind": "Singleton", "url": Root},
			{"name": "Sessions", "kind": "Singleton", "url": Root + "SessionService/Sessions"},
		},
	})
	s.pages[Root+"$metadata"] = page{"application/xml", metadata()}
	return s
}

// resource adds a JSON resource.
func (s *Service) resource(path string, o object) {
	body, err := json.Marshal(o)
	if err != nil {
		panic(fmt.Sprintf("redfish: %s: %v", path, err)) // of constants and strings only
	}
	s.pages[path] = page{"application/json", append(body, '\n')}
}

// metadata lists the schemas of the resources that there are (DSP0266 8.4.1).
func metadata() []byte {
	var b strings.Builder
	b.WriteString(xml.Header)
	b.WriteString(`<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0">` + "\n")
	for _, schema := range []string{"ServiceRoot", "SessionService", "SessionCollection"} {
		fmt.Fprintf(&b, `<edmx:Reference Uri="http://redfish.dmtf.org/schemas/v1/%s_v1.xml"><edmx:Include Namespace=%q/></edmx:Reference>`+"\n", schema, schema)
	}
	b.WriteString(`<edmx:DataServices><Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="Service"><EntityContainer Name="Service" Extends="ServiceRoot.v1_17_0.ServiceContainer"/></Schema></edmx:DataServices>` + "\n</edmx:Edmx>\n")
	return []byte(b.String())
}

// ServeHTTP answers a request.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("OData-Version", "4.0")
	h.Set("Cache-Control", "no-cache")
	p, ok := s.pages[r.URL.Path]
	if !ok {
		p, ok = s.pages[other(r.URL.Path)] // with or without the last slash (DSP0266 6.6)
	}
	switch {
	case !ok:
		refuse(w, http.StatusNotFound, "ResourceMissingAtURI", "The resource at the URI was not found.", "Look for the resource from the service root, "+Root+".")
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "OperationNotAllowed", "The HTTP method is not allowed on this resource.", "Use one of the methods in the Allow header.")
	default:
		h.Set("Allow", "GET, HEAD")
		h.Set("Content-Type", p.contentType)
		w.Write(p.body)
	}
}

// other is a path with its last slash taken away, or with one.
func other(path string) string {
	if p, had := strings.CutSuffix(path, "/"); had && !strings.HasSuffix(p, "/") {
		return p
	}
	return path + "/"
}

// refuse answers with the specification's error body (DSP0266 8.6), whose messages are
// those of the Base registry (DSP0268).
func refuse(w http.ResponseWriter, status int, id, message, resolution string) {
	body, err := json.Marshal(object{"error": object{
		"code": "Base.1.18." + id, "message": message,
		"@Message.ExtendedInfo": []object{{
			"@odata.type": "#Message.v1_2_1.Message", "MessageId": "Base.1.18." + id, "Message": message,
			"MessageSeverity": "Critical", "Resolution": resolution,
		}},
	}})
	if err != nil {
		panic(fmt.Sprintf("redfish: %v", err)) // of strings only
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(body, '\n'))
}
