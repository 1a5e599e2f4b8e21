package policy

import "slices"

// An Action is what a route and method do: the name of an action of the schema.
type Action string

// A ResourceType is what an action works on: the name of an entity type of the schema.
type ResourceType string

// The resource types.
const (
	Service    ResourceType = "Service"    // the API itself: its root, schemas, registries
	Host       ResourceType = "Host"       // the server, and its chassis
	Controller ResourceType = "Controller" // the board
	Firmware   ResourceType = "Firmware"   // what runs, and updates of it
	Evidence   ResourceType = "Evidence"   // quotes, logs, certificates of the TPM's keys
	Log        ResourceType = "Log"        // the audit log
	Metrics    ResourceType = "Metrics"    // counters and states, in numbers
	Access     ResourceType = "Access"     // who may do what: roles, certificates
	Task       ResourceType = "Task"       // what takes longer than a request
	Volume     ResourceType = "Volume"     // the host's encrypted volumes, and the card that they lie on
)

// The actions.
const (
	ReadService        Action = "readService"
	ReadHost           Action = "readHost"
	ResetHost          Action = "resetHost"
	ReadController     Action = "readController"
	ResetController    Action = "resetController"
	SetTime            Action = "setTime"
	ReadFirmware       Action = "readFirmware"
	PushUpdate         Action = "pushUpdate"
	StartUpdate        Action = "startUpdate"
	ReadEvidence       Action = "readEvidence"
	Quote              Action = "quote"
	ReadLog            Action = "readLog"
	WitnessLog         Action = "witnessLog"
	ClearLog           Action = "clearLog"
	ReadRing           Action = "readRing"
	ReadMetrics        Action = "readMetrics"
	ReadAccess         Action = "readAccess"
	RequestCertificate Action = "requestCertificate"
	ReplaceCertificate Action = "replaceCertificate"
	ReadTask           Action = "readTask"
	ReadVolume         Action = "readVolume"
	CreateVolume       Action = "createVolume"
	DeleteVolume       Action = "deleteVolume"
	RequestGrant       Action = "requestGrant" // what the board asks a key service for
	AttachVolume       Action = "attachVolume"
	DetachVolume       Action = "detachVolume"
	EraseVolume        Action = "eraseVolume"
	ErasePool          Action = "erasePool"
)

// An action's own rules, which no policy widens.
type action struct {
	Name       Action
	On         ResourceType
	Clock      bool // served before the time is known
	Quarantine bool // served in quarantine
}

// actions are those of the schema, in docs/policy.md's order. None reads a key or
// memory, and none runs anything that was not verified.
var actions = []action{
	{ReadService, Service, true, true},
	{ReadHost, Host, false, true},
	{ResetHost, Host, false, false},
	{ReadController, Controller, true, true},
	{ResetController, Controller, false, false},
	{SetTime, Controller, true, false},
	{ReadFirmware, Firmware, false, true},
	{PushUpdate, Firmware, false, false},
	{StartUpdate, Firmware, false, false},
	{ReadEvidence, Evidence, true, true},
	{Quote, Evidence, true, true},
	{ReadLog, Log, false, false},
	{WitnessLog, Log, false, false},
	{ClearLog, Log, false, false},
	{ReadRing, Log, true, true},
	{ReadMetrics, Metrics, false, true},
	{ReadAccess, Access, false, false},
	{RequestCertificate, Access, false, false},
	{ReplaceCertificate, Access, false, false},
	{ReadTask, Task, false, false},
	{ReadVolume, Volume, false, false},
	{CreateVolume, Volume, false, false},
	{DeleteVolume, Volume, false, false},
	{RequestGrant, Volume, false, false},
	{AttachVolume, Volume, false, false},
	{DetachVolume, Volume, true, false},
	{EraseVolume, Volume, false, false},
	{ErasePool, Volume, false, false},
}

// Actions are all that there are, with the type that each one is for.
func Actions() map[Action]ResourceType {
	all := make(map[Action]ResourceType, len(actions))
	for _, a := range actions {
		all[a.Name] = a.On
	}
	return all
}

// A Role is what a principal is for.
type Role string

// The roles.
const (
	Operator            Role = "operator"
	Auditor             Role = "auditor"
	StorageControlPlane Role = "storage-control-plane"
	FleetVerifier       Role = "fleet-verifier"
	ReleaseManager      Role = "release-manager"
)

// Roles are all that there are.
var Roles = []Role{Operator, Auditor, StorageControlPlane, FleetVerifier, ReleaseManager}

func (r Role) known() bool { return slices.Contains(Roles, r) }
