package redfish

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"nitro/net/policy"
)

// Versions of the schemas, of DSP8010 2024.1; the volumes' is of SNIA's Swordfish 1.2.6.
// docs/redfish.md has the list.
const (
	accountServiceType     = "AccountService.v1_15_1"
	certificateType        = "Certificate.v1_8_2"
	locationsType          = "CertificateLocations.v1_0_4"
	certificateServiceType = "CertificateService.v1_0_5"
	chassisType            = "Chassis.v1_25_1"
	driveType              = "Drive.v1_19_0"
	integrityType          = "ComponentIntegrity.v1_2_3"
	systemType             = "ComputerSystem.v1_22_1"
	schemaFileType         = "JsonSchemaFile.v1_1_5"
	logEntryType           = "LogEntry.v1_16_1"
	logServiceType         = "LogService.v1_6_0"
	managerType            = "Manager.v1_19_1"
	networkType            = "ManagerNetworkProtocol.v1_10_1"
	registryFileType       = "MessageRegistryFile.v1_1_5"
	roleType               = "Role.v1_3_2"
	rootType               = "ServiceRoot.v1_17_0"
	sessionServiceType     = "SessionService.v1_1_9"
	storageType            = "Storage.v1_16_0"
	softwareType           = "SoftwareInventory.v1_10_1"
	taskType               = "Task.v1_7_4"
	taskServiceType        = "TaskService.v1_2_1"
	trustedType            = "TrustedComponent.v1_3_1"
	updateServiceType      = "UpdateService.v1_14_0"
	volumeType             = "Volume.v1_10_0"
)

// describe begins a resource.
func describe(path, kind, id, name string) object {
	short, _, _ := strings.Cut(kind, ".")
	return object{"@odata.id": path, "@odata.type": "#" + kind + "." + short, "Id": id, "Name": name}
}

// schemaRoot is where the schemas of a kind are published: volumes are SNIA's.
func schemaRoot(kind string) string {
	if strings.HasPrefix(kind, "Volume") {
		return "http://redfish.dmtf.org/schemas/swordfish/v1/"
	}
	return "http://redfish.dmtf.org/schemas/v1/"
}

// add adds a node.
func (s *Service) add(n node) { s.nodes = append(s.nodes, n) }

// still adds a resource that is always the same.
func (s *Service) still(path string, read policy.Action, on policy.ResourceType, o object) {
	s.add(node{path: path, read: read, on: on, get: func(*call) (object, error) { return maps.Clone(o), nil }})
}

// links adds a collection of paths.
func (s *Service) links(path string, read policy.Action, on policy.ResourceType, kind, name string, paths ...string) {
	s.add(node{path: path, read: read, on: on, list: &collection{kind, name, fixed(paths...)}})
}

// target is an action as a resource offers it.
func target(path, action string) object {
	return object{"target": path + "/Actions/" + action}
}

var enabled = object{"State": "Enabled", "Health": "OK"}

// root adds the service root, and what is beside it.
func (s *Service) root() {
	s.add(node{path: "/redfish", read: policy.ReadService, on: policy.Service,
		get: func(*call) (object, error) { return object{"v1": Root}, nil }})
	o := describe(Root, rootType, "RootService", "Nitro Controller")
	maps.Copy(o, object{
		"RedfishVersion": Version, "UUID": s.config.UUID, "Product": s.config.Product, "Vendor": "Nitro",
		"SessionService": to(Root + "SessionService"), "JsonSchemas": to(Root + "JsonSchemas"), "Registries": to(Root + "Registries"),
		"Links": object{"Sessions": to(Root + "SessionService/Sessions")},
		"ProtocolFeaturesSupported": object{
			"FilterQuery": false, "SelectQuery": true, "ExcerptQuery": false, "OnlyMemberQuery": false, "TopSkipQuery": true,
			"ExpandQuery": object{"ExpandAll": true, "Levels": true, "MaxLevels": 1, "Links": false, "NoLinks": true},
		},
	})
	c := s.config
	for name, there := range map[string]bool{
		"Systems": c.Host != nil, "Chassis": c.Host != nil || c.Controller != nil, "Managers": c.Controller != nil,
		"UpdateService": c.Firmware != nil, "ComponentIntegrity": c.Evidence != nil, "AccountService": c.Access != nil,
		"CertificateService": c.Access != nil,
	} {
		if there {
			o[name] = to(Root + name)
		}
	}
	if c.Tasks != nil {
		o["Tasks"] = to(Root + "TaskService")
	}
	s.still(Root, policy.ReadService, policy.Service, o)
	o = describe(Root+"SessionService", sessionServiceType, "SessionService", "Session Service")
	maps.Copy(o, object{"Description": "Clients authenticate by certificate: there are no sessions.",
		"ServiceEnabled": false, "Sessions": to(Root + "SessionService/Sessions")})
	s.still(Root+"SessionService", policy.ReadService, policy.Service, o)
	s.links(Root+"SessionService/Sessions", policy.ReadService, policy.Service, "SessionCollection", "Session Collection")
	s.add(node{path: Root + "odata", read: policy.ReadService, on: policy.Service, get: func(*call) (object, error) {
		return object{"@odata.context": Root + "$metadata", "value": []object{
			{"name": "Service", "kind": "Singleton", "url": Root},
			{"name": "Sessions", "kind": "Singleton", "url": Root + "SessionService/Sessions"},
		}}, nil
	}})
}

// types are the schemas of the resources that there are, without the collections'.
func (s *Service) types() []string {
	c := s.config
	all := []string{rootType, sessionServiceType, schemaFileType, registryFileType}
	for _, t := range []struct {
		there bool
		names []string
	}{
		{c.Host != nil, []string{systemType}},
		{c.Host != nil || c.Controller != nil, []string{chassisType}},
		{c.Controller != nil, []string{managerType}},
		{c.Firmware != nil, []string{updateServiceType, softwareType}},
		{c.Evidence != nil, []string{integrityType, trustedType, certificateType}},
		{c.Log != nil, []string{logServiceType, logEntryType}},
		{c.Access != nil, []string{accountServiceType, roleType, certificateServiceType, locationsType, certificateType, networkType}},
		{c.Tasks != nil, []string{taskServiceType, taskType}},
		{c.Storage != nil, []string{storageType, driveType, volumeType}},
	} {
		if t.there {
			all = append(all, t.names...)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// schemas adds the metadata, the links to DMTF's schemas, and to its registry.
func (s *Service) schemas() {
	var paths []string
	for _, t := range s.types() {
		name, _, _ := strings.Cut(t, ".")
		paths = append(paths, Root+"JsonSchemas/"+name)
	}
	s.links(Root+"JsonSchemas", policy.ReadService, policy.Service, "JsonSchemaFileCollection", "Schemas", paths...)
	s.add(node{path: Root + "JsonSchemas/" + idPart, read: policy.ReadService, on: policy.Service, get: s.schema})
	s.links(Root+"Registries", policy.ReadService, policy.Service, "MessageRegistryFileCollection", "Registries", Root+"Registries/Base")
	o := describe(Root+"Registries/Base", registryFileType, "Base", "Base Message Registry")
	maps.Copy(o, object{"Registry": baseRegistry, "Languages": []string{"en"}, "Location": []object{
		{"Language": "en", "PublicationUri": "http://redfish.dmtf.org/registries/" + baseRegistry + ".1.json"}}})
	s.still(Root+"Registries/Base", policy.ReadService, policy.Service, o)
	types := s.types()
	for _, n := range s.nodes {
		if n.list != nil {
			types = append(types, n.list.kind)
		}
	}
	slices.Sort(types)
	body := metadata(slices.Compact(types))
	s.add(node{path: Root + "$metadata", read: policy.ReadService, on: policy.Service,
		page: func() (string, []byte, error) { return "application/xml", body, nil }})
}

func (s *Service) schema(c *call) (object, error) {
	for _, t := range s.types() {
		if name, _, _ := strings.Cut(t, "."); name == c.ids[0] {
			o := describe(Root+"JsonSchemas/"+name, schemaFileType, name, name+" Schema")
			maps.Copy(o, object{"Schema": "#" + t + "." + name, "Languages": []string{"en"}, "Location": []object{
				{"Language": "en", "PublicationUri": schemaRoot(t) + t + ".json"}}})
			return o, nil
		}
	}
	return nil, missing(c)
}

// missing refuses a resource that is not there.
func missing(c *call) *Error {
	return Refuse(http.StatusNotFound, "ResourceMissingAtURI", c.r.URL.Path)
}

// backends adds the resources of the backends that there are.
func (s *Service) backends() {
	c := s.config
	var chassis []string
	if c.Host != nil {
		chassis = append(chassis, serverPath)
		s.host()
	}
	if c.Controller != nil {
		chassis = append(chassis, boardPath)
		s.controller()
	}
	if len(chassis) > 0 {
		s.links(Root+"Chassis", policy.ReadService, policy.Service, "ChassisCollection", "Chassis", chassis...)
	}
	if c.Firmware != nil {
		s.firmware()
	}
	if c.Evidence != nil {
		s.evidence()
	}
	if c.Log != nil {
		s.log()
	}
	if c.Access != nil {
		s.access()
	}
	if c.Tasks != nil {
		s.tasks()
	}
	if c.Storage != nil {
		s.storage()
	}
}

const (
	hostPath    = Root + "Systems/host"
	serverPath  = Root + "Chassis/server"
	boardPath   = Root + "Chassis/controller"
	managerPath = Root + "Managers/controller"
)

func (s *Service) host() {
	s.links(Root+"Systems", policy.ReadHost, policy.Host, "ComputerSystemCollection", "Systems", hostPath)
	s.add(node{path: hostPath, read: policy.ReadHost, on: policy.Host, get: func(*call) (object, error) { return s.system(), nil }})
	s.add(node{path: hostPath + "/Actions/ComputerSystem.Reset", on: policy.Host, post: &operation{
		action: policy.ResetHost, name: "ComputerSystem.Reset", params: []parameter{{"ResetType", text, true, HostResets}},
		do: func(c *call) (reply, error) {
			return reply{}, s.config.Host.Reset(c.r.Context(), c.body["ResetType"].(string))
		},
	}})
	s.add(node{path: serverPath, read: policy.ReadHost, on: policy.Host, get: func(*call) (object, error) {
		o := describe(serverPath, chassisType, "server", "Server")
		maps.Copy(o, object{"ChassisType": "RackMount", "Status": enabled, "SerialNumber": s.config.Host.Host().Serial,
			"Links": object{"ComputerSystems": []object{to(hostPath)}}})
		return o, nil
	}})
}

// system is the server. A host that is held is off to whoever uses it; why it is, is in
// its status.
func (s *Service) system() object {
	h := s.config.Host.Host()
	o := describe(hostPath, systemType, "host", "Host")
	state, health, power := "Enabled", "OK", "On"
	if h.Held || !h.Powered {
		state, power = "Disabled", "Off"
	}
	status := object{"State": state}
	if h.Fault != "" {
		health = "Critical"
		status["Conditions"] = []object{{"MessageId": baseRegistry + ".ResourceInStandby", "Message": h.Fault, "Severity": "Critical"}}
	}
	status["Health"] = health
	reset := target(hostPath, "ComputerSystem.Reset")
	reset["ResetType@Redfish.AllowableValues"] = HostResets
	maps.Copy(o, object{
		"SystemType": "Physical", "PowerState": power, "Status": status, "SerialNumber": h.Serial,
		"Actions": object{"#ComputerSystem.Reset": reset},
		// What boots is what was verified, and nobody overrides that. Clients such as sushy
		// take no system that does not say so.
		"Boot":  object{"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"},
		"Oem":   object{"Nitro": h.oem()},
		"Links": object{"Chassis": []object{to(serverPath)}},
	})
	if s.config.Controller != nil {
		o["Links"].(object)["ManagedBy"] = []object{to(managerPath)}
	}
	if s.config.Storage != nil {
		o["Storage"] = to(hostPath + "/Storage")
	}
	return o
}

// oem is what the specification has no properties for.
func (h HostState) oem() object {
	o := object{"@odata.type": "#NitroHost.v1_1_0.NitroHost", "Held": h.Held, "Powered": h.Powered, "Adopted": h.Adopted, "Cycle": h.Cycle}
	if h.Phase != "" {
		o["Phase"] = h.Phase
	}
	if h.Cause != "" {
		o["Cause"] = h.Cause
	}
	if h.Code != 0 {
		o["Code"] = h.Code
	}
	if len(h.Parts) > 0 {
		all := make([]object, 0, len(h.Parts))
		for _, p := range h.Parts {
			part := object{"Part": p.Part, "Verified": p.Verified}
			if p.Verified {
				part["Version"], part["SHA256"] = p.Version, hex.EncodeToString(p.SHA256[:])
			}
			all = append(all, part)
		}
		o["Firmware"] = all
	}
	return o
}

func (s *Service) controller() {
	s.links(Root+"Managers", policy.ReadController, policy.Controller, "ManagerCollection", "Managers", managerPath)
	s.add(node{path: managerPath, read: policy.ReadController, on: policy.Controller,
		get:   func(*call) (object, error) { return s.manager(), nil },
		patch: &operation{action: policy.SetTime, do: s.setTime}})
	s.add(node{path: managerPath + "/Actions/Manager.Reset", on: policy.Controller, post: &operation{
		action: policy.ResetController, name: "Manager.Reset", params: []parameter{{"ResetType", text, true, []string{"GracefulRestart"}}},
		do: func(c *call) (reply, error) { return reply{}, s.config.Controller.Restart(c.r.Context()) },
	}})
	s.add(node{path: boardPath, read: policy.ReadController, on: policy.Controller, get: func(*call) (object, error) {
		o := describe(boardPath, chassisType, "controller", "Nitro Controller")
		maps.Copy(o, object{"ChassisType": "Module", "Status": enabled, "SerialNumber": s.config.Controller.Controller().Serial,
			"Links": object{"ManagedBy": []object{to(managerPath)}}})
		if s.config.Evidence != nil {
			o["TrustedComponents"] = to(boardPath + "/TrustedComponents")
		}
		return o, nil
	}})
}

func (s *Service) manager() object {
	c := s.config.Controller.Controller()
	status := maps.Clone(enabled)
	if c.Quarantine != "" {
		status = object{"State": "Quiesced", "Health": "Critical", "Conditions": []object{
			{"MessageId": baseRegistry + ".InternalError", "Message": "Quarantine: " + c.Quarantine, "Severity": "Critical"}}}
	}
	reset := target(managerPath, "Manager.Reset")
	reset["ResetType@Redfish.AllowableValues"] = []string{"GracefulRestart"}
	o := describe(managerPath, managerType, "controller", "Nitro Controller")
	maps.Copy(o, object{
		"ManagerType": "ManagementController", "FirmwareVersion": c.Version, "SerialNumber": c.Serial, "UUID": s.config.UUID, "Model": s.config.Product,
		"Status": status, "DateTime": nil, "DateTimeLocalOffset": "+00:00",
		"Actions": object{"#Manager.Reset": reset},
		"Links":   object{"ManagerInChassis": to(boardPath)},
	})
	if !c.Time.IsZero() {
		o["DateTime"] = when(c.Time)
	}
	if s.config.Host != nil {
		o["Links"].(object)["ManagerForServers"] = []object{to(hostPath)}
	}
	if s.config.Firmware != nil {
		s.images(o["Links"].(object))
	}
	if s.config.Log != nil {
		o["LogServices"] = to(managerPath + "/LogServices")
	}
	if s.config.Access != nil {
		o["NetworkProtocol"] = to(managerPath + "/NetworkProtocol")
	}
	return o
}

// images adds links to the controller's slots.
func (s *Service) images(links object) {
	active, ids := s.config.Firmware.Slots()
	all := make([]object, 0, len(ids))
	for _, id := range ids {
		all = append(all, to(updatePath+"/FirmwareInventory/"+id))
	}
	links["ActiveSoftwareImage"], links["SoftwareImages"] = to(updatePath+"/FirmwareInventory/"+active), all
}

// when is a time as Redfish writes it (DSP0266 9.3.7).
func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// setTime is the PATCH of a manager: of its time, and of nothing else.
func (s *Service) setTime(c *call) (reply, error) {
	for name := range c.body {
		if _, known := s.manager()[name]; !known {
			return reply{}, Refuse(http.StatusBadRequest, "PropertyUnknown", name)
		}
		if name != "DateTime" {
			return reply{}, Refuse(http.StatusBadRequest, "PropertyNotWritable", name)
		}
	}
	text, _ := c.body["DateTime"].(string)
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return reply{}, Refuse(http.StatusBadRequest, "PropertyValueFormatError", text, "DateTime")
	}
	return reply{}, s.config.Controller.SetTime(c.r.Context(), t)
}

const updatePath = Root + "UpdateService"

// UploadPath is where packages are uploaded: the one route that takes large bodies.
const UploadPath = updatePath + "/upload"

func (s *Service) firmware() {
	o := describe(updatePath, updateServiceType, "UpdateService", "Update Service")
	maps.Copy(o, object{"ServiceEnabled": true, "Status": enabled, "MultipartHttpPushUri": UploadPath,
		"FirmwareInventory": to(updatePath + "/FirmwareInventory"), "MaxImageSizeBytes": MaxUpload,
		"Actions": object{"#UpdateService.StartUpdate": target(updatePath, "UpdateService.StartUpdate"),
			"Oem": object{"#NitroUpdate.Rollback": target(updatePath, "Oem/NitroUpdate.Rollback")}}})
	s.still(updatePath, policy.ReadFirmware, policy.Firmware, o)
	inventory := updatePath + "/FirmwareInventory"
	s.add(node{path: inventory, read: policy.ReadFirmware, on: policy.Firmware,
		list: &collection{"SoftwareInventoryCollection", "Firmware", func(c *call, skip, top int) ([]object, int, error) {
			var paths []string
			for _, f := range s.config.Firmware.Inventory() {
				paths = append(paths, inventory+"/"+f.ID)
			}
			return fixed(paths...)(c, skip, top)
		}}})
	s.add(node{path: inventory + "/" + idPart, read: policy.ReadFirmware, on: policy.Firmware, get: s.component})
	s.add(node{path: UploadPath, on: policy.Firmware, post: &operation{action: policy.PushUpdate, raw: true, do: s.push}})
	s.add(node{path: updatePath + "/Actions/UpdateService.StartUpdate", on: policy.Firmware, post: &operation{
		action: policy.StartUpdate, name: "UpdateService.StartUpdate", do: func(c *call) (reply, error) {
			task, err := s.config.Firmware.Start(c.r.Context())
			return s.accepted(task), err
		},
	}})
	s.add(node{path: updatePath + "/Actions/Oem/NitroUpdate.Rollback", on: policy.Firmware, post: &operation{
		action: policy.StartUpdate, name: "NitroUpdate.Rollback", do: func(c *call) (reply, error) {
			task, err := s.config.Firmware.Rollback(c.r.Context())
			return s.accepted(task), err
		},
	}})
}

func (s *Service) component(c *call) (object, error) {
	for _, f := range s.config.Firmware.Inventory() {
		if f.ID != c.ids[0] {
			continue
		}
		o := describe(updatePath+"/FirmwareInventory/"+f.ID, softwareType, f.ID, f.Name)
		status := maps.Clone(enabled)
		own := object{"@odata.type": "#NitroSoftware.v1_0_0.NitroSoftware"}
		maps.Copy(o, object{"Version": f.Version, "Updateable": f.Updatable, "Status": status, "Oem": object{"Nitro": own}})
		switch {
		case f.Empty:
			o["Version"], status["State"] = nil, "Absent"
		case !f.Healthy:
			status["Health"] = "Critical"
		case f.Slot == SlotBackup:
			status["State"] = "StandbySpare"
		}
		if f.Slot != "" {
			own["Slot"] = f.Slot
		}
		if f.SHA256 != ([32]byte{}) {
			own["SHA256"], o["Measurement"] = hex.EncodeToString(f.SHA256[:]), measurement(f.SHA256)
		}
		if f.Lowest != "" {
			o["LowestSupportedVersion"] = f.Lowest
		}
		return o, nil
	}
	return nil, missing(c)
}

// measurement is a digest as a measurement block of SPDM (DSP0274 1.1, tables 43 and 44):
// specification 1 is DMTF's; type 1 is mutable firmware, as a digest; then its size.
func measurement(digest [32]byte) object {
	block := append([]byte{1, byte(len(digest)), 0}, digest[:]...)
	return object{"MeasurementSpecification": 1, "MeasurementSize": len(block), "Measurement": hex.EncodeToString(block)}
}

// maxParameters is the longest UpdateParameters, in bytes.
const maxParameters = 4 << 10

// push takes a package as DSP0266 12.6.2 wants it: a part UpdateParameters in JSON, then a
// part UpdateFile, which is handed on as it comes.
func (s *Service) push(c *call) (reply, error) {
	malformed := Refuse(http.StatusBadRequest, "UnrecognizedRequestBody")
	malformed.Next = "Send multipart/form-data with the parts UpdateParameters and UpdateFile, in this order."
	parts, err := c.r.MultipartReader()
	if err != nil {
		return reply{}, malformed
	}
	p, err := parts.NextPart()
	if err != nil || p.FormName() != "UpdateParameters" {
		return reply{}, malformed
	}
	u, e := readUpload(p)
	if e != nil {
		return reply{}, e
	}
	if p, err = parts.NextPart(); err != nil || p.FormName() != "UpdateFile" {
		return reply{}, malformed
	}
	u.Name = printable(p.FileName())
	task, err := s.config.Firmware.Push(c.r.Context(), u, p)
	if errors.As(err, new(*http.MaxBytesError)) {
		e := Refuse(http.StatusRequestEntityTooLarge, "UnrecognizedRequestBody")
		e.Next = "No package is as large as that: send the file that nitroctl release pack wrote."
		return reply{}, e
	}
	return s.accepted(task), err
}

// readUpload reads UpdateParameters.
func readUpload(r io.Reader) (u Upload, e *Error) {
	const action = "MultipartHttpPush"
	malformed := Refuse(http.StatusBadRequest, "MalformedJSON")
	body, err := io.ReadAll(io.LimitReader(r, maxParameters+1))
	if err != nil || len(body) > maxParameters || !utf8.Valid(body) {
		return u, malformed
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	v, err := readValue(d, MaxDepth)
	if _, end := d.Token(); err != nil || end != io.EOF {
		return u, malformed
	}
	o, ok := v.(object)
	if !ok {
		return u, malformed
	}
	targets, named := o["Targets"]
	delete(o, "Targets")
	if list, is := targets.([]any); named && (!is || len(list) > 0) {
		e := Refuse(http.StatusBadRequest, "ActionParameterNotSupported", "Targets", action)
		e.Next = "Leave Targets out: a package says itself what it is for."
		return u, e
	}
	const apply = "@Redfish.OperationApplyTime"
	if e := parameters(action, []parameter{{apply, text, false, ApplyTimes}}, o); e != nil {
		return u, e
	}
	u.Apply, _ = o[apply].(string)
	return u, nil
}
