// Package redfish is the firmware's API as a Redfish service (DMTF DSP0266, Redfish
// Specification, 1.20): resources as JSON, OData annotations, and the specification's
// error bodies, over net/http.
//
// Resources are data: a table of nodes, each with its path, its action in the policy
// ([policy.Action], one a route and method) and the functions that read or change it,
// served by one engine (serve.go). Which there are depends on the backends that
// [Config] has; without any there is the service root and what the specification wants
// beside it. Schemas are of DMTF's release 2024.1 (DSP8010); docs/redfish.md lists them.
//
// A [Gate] is asked before anything is read or changed, and told what came of it. HEAD
// and OPTIONS ask for what GET asks for.
//
// # What is left out
//
// Sessions, accounts and passwords (clients authenticate by certificate), events,
// $filter, only, excerpt, $expand beyond one level and of links ("~"), deep PATCH.
package redfish

import (
	"context"
	"crypto/x509/pkix"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"nitro/net/audit"
	"nitro/net/policy"
)

// Version is the specification's that the service follows.
const Version = "1.20.0"

// Root is where version 1 of the protocol's resources are (DSP0266 6.6).
const Root = "/redfish/v1/"

// Config is what the service tells about the machine, and what it reaches. Backends that
// are nil have no resources.
type Config struct {
	UUID    string // of the service; the same over all boots (RFC 9562)
	Product string // what the machine is

	// Gate must be there if any backend is.
	Gate Gate

	Host       Host
	Controller Controller
	Firmware   Firmware
	Evidence   Evidence
	Log        Log
	Ring       Ring
	Metrics    Metrics
	Access     Access
	Tasks      Tasks
	Storage    Storage
}

// A Gate authenticates, authorises and records.
type Gate interface {
	// Admit is asked for each request, before it is carried out. If there is no error it
	// is carried out, and the function is called once with what came of it.
	Admit(r *http.Request, a Ask) (done func(status int, detail string), e *Error)
	// Permits tells whether what is asked for would be admitted, and records nothing: for
	// the resources that $expand would add to an answer.
	Permits(r *http.Request, a Ask) bool
	// Who names the principal of a request that was admitted.
	Who(r *http.Request) string
	// Unrouted is told of a request for which there is no route.
	Unrouted(r *http.Request, status int)
}

// An Ask is a request as the policy sees it.
type Ask struct {
	Route    Route
	Resource string // the path of what it is about, in one spelling: policies name it
	Reset    string // ResetType, of a reset
}

// A Route is a path and method, with its action in the policy.
type Route struct {
	Method  string
	Pattern string // with {id} for a part that is any ID
	Action  policy.Action
	On      policy.ResourceType
}

// Host is the server.
type Host interface {
	Host() HostState
	// Reset takes one of HostResets.
	Reset(ctx context.Context, kind string) error
}

// A HostState is what is known of the server, from its hardware.
type HostState struct {
	Powered bool
	Held    bool // in reset
	Adopted bool // it ran when the controller started
	Cycle   uint64
	Phase   string     // of its control: docs/host.md; empty where none is guarded
	Cause   string     // why it was held last, or runs on: docs/redfish.md; empty if that is not known
	Code    uint16     // docs/codes.md: why it is held, if it should not be; else 0
	Fault   string     // the same in words
	Parts   []HostPart // of its firmware; none where none is guarded
	Serial  string
}

// A HostPart is firmware of the server, as this cycle has verified it.
type HostPart struct {
	Part     string // "host" or "bmc"
	Verified bool   // in this cycle, and measured; what follows is empty otherwise
	Version  string
	SHA256   [32]byte
}

// HostResets are Redfish's ResetTypes that a server has. ForceOff holds it in reset,
// which is the safe direction; On verifies its firmware and lets it go.
var HostResets = []string{"On", "ForceOff", "ForceRestart", "GracefulShutdown"}

// Controller is the board itself.
type Controller interface {
	Controller() ControllerState
	Restart(ctx context.Context) error
	// SetTime is bounded by the time rules, and an Error where they refuse.
	SetTime(ctx context.Context, t time.Time) error
}

// A ControllerState is what is known of the board.
type ControllerState struct {
	Version    string
	Serial     string
	Time       time.Time // zero while it is not known
	Quarantine string    // code and name; empty for none
}

// Firmware is what runs, and what will.
type Firmware interface {
	Inventory() []Component
	// Slots are the IDs of the controller's slots in the inventory, and of the one that runs.
	Slots() (active string, all []string)
	// Push takes a package, and gives the task that has verified and written it.
	Push(ctx context.Context, u Upload, file io.Reader) (task string, err error)
	// Start makes what was pushed active, and gives the task.
	Start(ctx context.Context) (task string, err error)
	// Rollback makes what was active before active again, and gives the task.
	Rollback(ctx context.Context) (task string, err error)
}

// MaxUpload is the largest body of an upload in bytes: the largest package, with what
// multipart/form-data has beside it.
const MaxUpload = 50 << 20

// An Upload is what a client says of a package.
type Upload struct {
	Name  string // of the file; printable
	Apply string // one of ApplyTimes; "" leaves it to the package's kind
}

// The times at which an update can be applied (DSP0268, Settings, OperationApplyTime).
const (
	ApplyNow     = "Immediate"
	ApplyOnStart = "OnStartUpdateRequest"
)

// ApplyTimes are those.
var ApplyTimes = []string{ApplyNow, ApplyOnStart}

// A Component is a piece of firmware.
type Component struct {
	ID        string // plain, as in a path
	Name      string
	Version   string
	SHA256    [32]byte // what was measured
	Lowest    string   // lowest version that runs
	Updatable bool
	Healthy   bool
	// Slot is what of two slots this one is: SlotActive is what runs. Empty: it is in none.
	Slot  string
	Empty bool // nothing is there
}

// The slots.
const (
	SlotActive = "Active"
	SlotBackup = "Backup"
)

// Evidence is the TPM's.
type Evidence interface {
	Evidence() EvidenceState
	// Quote quotes with the key of a certificate: scheme is a TPMT_SIG_SCHEME, selection a
	// TPML_PCR_SELECTION. It gives TPMS_ATTEST and TPMT_SIGNATURE, as TPM2_Quote does.
	Quote(ctx context.Context, certificate string, nonce, scheme, selection []byte) (quoted, signature []byte, err error)
	// Document makes an attestation document (docs/document.md), with a nonce of 8 to 64
	// bytes or none, and with this boot's recipient key or without.
	Document(ctx context.Context, nonce []byte, recipient bool) ([]byte, error)
}

// An EvidenceState describes the TPM.
type EvidenceState struct {
	Manufacturer string
	Firmware     string
	Serial       string
	Updated      time.Time // zero while the time is not known
	PCRs         map[int][32]byte
	Certificates []Certificate // of its keys; the first one is the attestation key's
}

// A Certificate is one that the board shows.
type Certificate struct {
	ID    string // plain, as in a path
	Name  string
	PEM   string
	Usage []string // Redfish's CertificateUsageTypes; none where none of them fits
}

// Log is the audit log: *audit.Log is one.
type Log interface {
	Stats() audit.Stats
	Records(from uint64, max int) ([][]byte, error)
	Compact() (int, error)
	// Export gives what writes JSON up to the last checkpoint: docs/audit.md.
	Export(from uint64, older []byte) (write func(io.Writer) error, err error)
	Inclusion(n, size uint64) ([]audit.Hash, error)
	Witness(checkpoint []byte) error
}

// Ring is quarantine's audit records.
type Ring interface {
	// Ring gives audit.RingExport in JSON: docs/audit.md. An Error where there is no ring.
	Ring() ([]byte, error)
}

// Metrics are the machine's counters and states.
type Metrics interface {
	// Metrics gives them in Prometheus' text format: docs/metrics.md.
	Metrics() ([]byte, error)
}

// Access is who may do what.
type Access interface {
	// Certificates are those that the API's TLS shows.
	Certificates() []Certificate
	// Request makes a signing request in PEM for the key behind a certificate.
	Request(ctx context.Context, certificate string, subject pkix.Name, names []string) (csr string, err error)
	// Replace has TLS show another chain, in PEM.
	Replace(ctx context.Context, certificate, chain string) error
	// PolicyEpoch is that of the policy set in force.
	PolicyEpoch() uint64
}

// Tasks are what takes longer than a request.
type Tasks interface {
	Tasks() []TaskState
}

// A TaskState is a task.
type TaskState struct {
	ID      string // plain, as in a path
	Name    string
	State   string // Redfish's TaskState
	Percent int
	Start   time.Time
	End     time.Time // zero while it runs, or where the time was not known
	Ended   bool
	Failure *Error // of one that failed
	Note    string // what the client has to know of one that did not
}

// A Service answers requests below /redfish. It implements http.Handler.
type Service struct {
	config Config
	nodes  []node
}

// An object is a JSON object. Its members come out in the order of their names.
type object = map[string]any

func to(path string) object { return object{"@odata.id": path} }

// New makes the service. It panics if there are backends without a gate, or any that
// belong to the controller or to the host without it.
func New(c Config) *Service {
	s := &Service{config: c}
	if c.Controller == nil && (c.Log != nil || c.Ring != nil || c.Metrics != nil || c.Evidence != nil || c.Access != nil) {
		panic("redfish: logs, metrics, evidence and access are the controller's: give it, too")
	}
	if c.Storage != nil && c.Host == nil {
		panic("redfish: volumes are the host's: give it, too")
	}
	s.root()
	s.backends()
	s.plain()
	if c.Gate == nil && slices.ContainsFunc(s.nodes, func(n node) bool { return n.on != policy.Service }) {
		panic("redfish: backends without a gate: nobody would be asked who may use them")
	}
	s.schemas()
	return s
}

// Routes are all that there are, sorted by pattern and method.
func (s *Service) Routes() []Route {
	var all []Route
	for _, n := range s.nodes {
		if n.get != nil || n.list != nil || n.page != nil {
			for _, m := range []string{http.MethodGet, http.MethodHead, http.MethodOptions} {
				all = append(all, Route{m, n.path, n.read, n.on})
			}
		}
		if n.post != nil {
			all = append(all, Route{http.MethodPost, n.path, n.post.action, n.on})
		}
		if n.patch != nil {
			all = append(all, Route{http.MethodPatch, n.path, n.patch.action, n.on})
		}
		if n.remove != nil {
			all = append(all, Route{http.MethodDelete, n.path, n.remove.action, n.on})
		}
	}
	slices.SortFunc(all, func(a, b Route) int {
		return strings.Compare(a.Pattern+" "+a.Method, b.Pattern+" "+b.Method)
	})
	return all
}

// metadata lists the schemas of the resources that there are (DSP0266 8.4.1).
func metadata(types []string) []byte {
	var b strings.Builder
	b.WriteString(xml.Header)
	b.WriteString(`<edmx:Edmx xmlns:edmx="http://docs.oasis-open.org/odata/ns/edmx" Version="4.0">` + "\n")
	for _, t := range types {
		name, version, _ := strings.Cut(t, ".")
		fmt.Fprintf(&b, `<edmx:Reference Uri="%s%s_v1.xml"><edmx:Include Namespace=%q/>`, schemaRoot(name), name, name)
		if version != "" {
			fmt.Fprintf(&b, `<edmx:Include Namespace=%q/>`, t)
		}
		b.WriteString("</edmx:Reference>\n")
	}
	b.WriteString(`<edmx:DataServices><Schema xmlns="http://docs.oasis-open.org/odata/ns/edm" Namespace="Service"><EntityContainer Name="Service" Extends="ServiceRoot.v1_17_0.ServiceContainer"/></Schema></edmx:DataServices>` + "\n</edmx:Edmx>\n")
	return []byte(b.String())
}
