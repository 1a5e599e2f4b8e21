package redfish

import (
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"nitro/net/policy"
)

const (
	integrityPath = Root + "ComponentIntegrity/tpm"
	trustedPath   = boardPath + "/TrustedComponents/tpm"

	documentAction = "NitroDocument.Get"
)

// Limits of a quote's parameters in bytes.
const (
	MaxNonce         = 64 // TPM2B_DATA with room to spare: attest/identity's
	minDocumentNonce = 8  // docs/document.md
	maxScheme        = 16 // a TPMT_SIG_SCHEME has 2 to 6
	maxSelection     = 64 // a TPML_PCR_SELECTION of one bank has 10
)

func (s *Service) evidence() {
	s.links(Root+"ComponentIntegrity", policy.ReadEvidence, policy.Evidence, "ComponentIntegrityCollection", "Component Integrity", integrityPath)
	s.add(node{path: integrityPath, read: policy.ReadEvidence, on: policy.Evidence, get: func(*call) (object, error) { return s.integrity(), nil }})
	const action = "ComponentIntegrity.TPMGetSignedMeasurements"
	s.add(node{path: integrityPath + "/Actions/" + action, on: policy.Evidence, post: &operation{
		action: policy.Quote, name: action, do: s.quote, params: []parameter{
			{"Certificate", link, true, nil}, {"Nonce", text, false, nil}, {"PCRSelection", text, true, nil}, {"Scheme", text, true, nil}},
	}})
	s.add(node{path: integrityPath + "/Actions/Oem/" + documentAction, on: policy.Evidence, post: &operation{
		action: policy.Quote, name: documentAction, do: s.document, params: []parameter{{"Nonce", text, false, nil}, {"Recipient", truth, false, nil}},
	}})
	s.links(boardPath+"/TrustedComponents", policy.ReadEvidence, policy.Evidence, "TrustedComponentCollection", "Trusted Components", trustedPath)
	s.add(node{path: trustedPath, read: policy.ReadEvidence, on: policy.Evidence, get: func(*call) (object, error) {
		e := s.config.Evidence.Evidence()
		o := describe(trustedPath, trustedType, "tpm", "TPM")
		maps.Copy(o, object{"TrustedComponentType": "Discrete", "Manufacturer": e.Manufacturer, "FirmwareVersion": e.Firmware,
			"SerialNumber": e.Serial, "Status": enabled, "Certificates": to(trustedPath + "/Certificates"),
			"Links": object{"ComponentIntegrity": []object{to(integrityPath)}}})
		return o, nil
	}})
	s.certificates(trustedPath+"/Certificates", policy.ReadEvidence, policy.Evidence,
		func() []Certificate { return s.config.Evidence.Evidence().Certificates })
}

func (s *Service) integrity() object {
	e := s.config.Evidence.Evidence()
	var measurements []object
	for _, n := range slices.Sorted(maps.Keys(e.PCRs)) {
		pcr := e.PCRs[n]
		measurements = append(measurements, object{"PCR": n, "Measurement": base64.StdEncoding.EncodeToString(pcr[:]), "MeasurementHashAlgorithm": "TPM_ALG_SHA256"})
	}
	tpm := object{"NonceSizeBytesMaximum": MaxNonce, "MeasurementSet": object{"Measurements": measurements}}
	if len(e.Certificates) > 0 {
		tpm["IdentityAuthentication"] = object{"ComponentCertificate": to(trustedPath + "/Certificates/" + e.Certificates[0].ID)}
	}
	o := describe(integrityPath, integrityType, "tpm", "TPM")
	maps.Copy(o, object{"ComponentIntegrityType": "TPM", "ComponentIntegrityTypeVersion": "2.0", "ComponentIntegrityEnabled": true,
		"TargetComponentURI": trustedPath, "Status": enabled, "TPM": tpm,
		"Actions": object{"#ComponentIntegrity.TPMGetSignedMeasurements": target(integrityPath, "ComponentIntegrity.TPMGetSignedMeasurements"),
			"Oem": object{"#" + documentAction: target(integrityPath, "Oem/"+documentAction)}}})
	if !e.Updated.IsZero() {
		o["LastUpdated"] = when(e.Updated)
	}
	return o
}

// quote is TPMGetSignedMeasurements.
func (s *Service) quote(c *call) (reply, error) {
	const action = "ComponentIntegrity.TPMGetSignedMeasurements"
	refuse := func(name string) (reply, error) {
		v, _ := c.body[name].(string)
		return reply{}, Refuse(http.StatusBadRequest, "ActionParameterValueFormatError", v, name, action)
	}
	path := c.body["Certificate"].(object)["@odata.id"].(string)
	id, ok := strings.CutPrefix(path, trustedPath+"/Certificates/")
	if !ok || !slices.ContainsFunc(s.config.Evidence.Evidence().Certificates, func(k Certificate) bool { return k.ID == id }) {
		return reply{}, Refuse(http.StatusBadRequest, "ActionParameterValueFormatError", path, "Certificate", action)
	}
	var nonce []byte
	if text, given := c.body["Nonce"].(string); given {
		n, err := hex.DecodeString(text)
		if err != nil || len(n) == 0 || len(n) > MaxNonce {
			return refuse("Nonce")
		}
		nonce = n
	}
	scheme, err := base64.StdEncoding.Strict().DecodeString(c.body["Scheme"].(string))
	if err != nil || len(scheme) == 0 || len(scheme) > maxScheme {
		return refuse("Scheme")
	}
	selection, err := base64.StdEncoding.Strict().DecodeString(c.body["PCRSelection"].(string))
	if err != nil || len(selection) == 0 || len(selection) > maxSelection {
		return refuse("PCRSelection")
	}
	quoted, signature, err := s.config.Evidence.Quote(c.r.Context(), id, nonce, scheme, selection)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, body: object{
		"SignedMeasurements": base64.StdEncoding.EncodeToString(append(slices.Clone(quoted), signature...))}}, nil
}

// document is NitroDocument.Get.
func (s *Service) document(c *call) (reply, error) {
	var nonce []byte
	if _, given := c.body["Nonce"]; given {
		n, err := blob(c, "Nonce", documentAction, minDocumentNonce, MaxNonce)
		if err != nil {
			return reply{}, err
		}
		nonce = n
	}
	recipient, _ := c.body["Recipient"].(bool)
	b, err := s.config.Evidence.Document(c.r.Context(), nonce, recipient)
	return reply{status: http.StatusOK, body: object{"Document": b}}, err
}

// certificates adds a collection of certificates.
func (s *Service) certificates(path string, read policy.Action, on policy.ResourceType, all func() []Certificate) {
	s.add(node{path: path, read: read, on: on, list: &collection{"CertificateCollection", "Certificates",
		func(c *call, skip, top int) ([]object, int, error) {
			var paths []string
			for _, k := range all() {
				paths = append(paths, path+"/"+k.ID)
			}
			return fixed(paths...)(c, skip, top)
		}}})
	s.add(node{path: path + "/" + idPart, read: read, on: on, get: func(c *call) (object, error) {
		for _, k := range all() {
			if k.ID == c.ids[0] {
				o := describe(path+"/"+k.ID, certificateType, k.ID, k.Name)
				maps.Copy(o, object{"CertificateType": "PEM", "CertificateString": k.PEM})
				if len(k.Usage) > 0 {
					o["CertificateUsageTypes"] = k.Usage
				}
				return o, nil
			}
		}
		return nil, missing(c)
	}})
}

const (
	accountPath     = Root + "AccountService"
	certificatePath = Root + "CertificateService"
	networkPath     = managerPath + "/NetworkProtocol"
	httpsPath       = networkPath + "/HTTPS/Certificates"
)

func (s *Service) access() {
	s.accounts()
	o := describe(certificatePath, certificateServiceType, "CertificateService", "Certificate Service")
	maps.Copy(o, object{"CertificateLocations": to(certificatePath + "/CertificateLocations"), "Actions": object{
		"#CertificateService.GenerateCSR":        target(certificatePath, "CertificateService.GenerateCSR"),
		"#CertificateService.ReplaceCertificate": target(certificatePath, "CertificateService.ReplaceCertificate"),
	}})
	s.still(certificatePath, policy.ReadAccess, policy.Access, o)
	s.add(node{path: certificatePath + "/CertificateLocations", read: policy.ReadAccess, on: policy.Access, get: func(*call) (object, error) {
		o := describe(certificatePath+"/CertificateLocations", locationsType, "CertificateLocations", "Certificate Locations")
		links := []object{}
		for _, k := range s.config.Access.Certificates() {
			links = append(links, to(httpsPath+"/"+k.ID))
		}
		o["Links"] = object{"Certificates": links, "Certificates@odata.count": len(links)}
		return o, nil
	}})
	s.add(node{path: certificatePath + "/Actions/CertificateService.GenerateCSR", on: policy.Access, post: &operation{
		action: policy.RequestCertificate, name: "CertificateService.GenerateCSR", do: s.generateCSR, params: []parameter{
			{"CertificateCollection", link, true, nil}, {"CommonName", text, true, nil}, {"AlternativeNames", texts, false, nil},
			{"Organization", text, false, nil}, {"OrganizationalUnit", text, false, nil}, {"Country", text, false, nil},
			{"State", text, false, nil}, {"City", text, false, nil}},
	}})
	s.add(node{path: certificatePath + "/Actions/CertificateService.ReplaceCertificate", on: policy.Access, post: &operation{
		action: policy.ReplaceCertificate, name: "CertificateService.ReplaceCertificate", do: s.replaceCertificate, params: []parameter{
			{"CertificateUri", link, true, nil}, {"CertificateString", text, true, nil}, {"CertificateType", text, true, []string{"PEM", "PEMchain"}}},
	}})
	o = describe(networkPath, networkType, "NetworkProtocol", "Network Protocol")
	maps.Copy(o, object{"HTTPS": object{"ProtocolEnabled": true, "Port": 443, "Certificates": to(httpsPath)}, "HTTP": object{"ProtocolEnabled": false}, "Status": enabled})
	s.still(networkPath, policy.ReadAccess, policy.Access, o)
	s.certificates(httpsPath, policy.ReadAccess, policy.Access, func() []Certificate { return s.config.Access.Certificates() })
}

// accounts are the service that the specification wants, without an account in it, and
// the policy's roles.
func (s *Service) accounts() {
	s.add(node{path: accountPath, read: policy.ReadAccess, on: policy.Access, get: func(*call) (object, error) {
		o := describe(accountPath, accountServiceType, "AccountService", "Account Service")
		maps.Copy(o, object{"Description": "Clients authenticate by certificate: there are no accounts and no passwords.", "ServiceEnabled": false, "LocalAccountAuth": "Disabled",
			"HTTPBasicAuth": "Disabled", "Accounts": to(accountPath + "/Accounts"), "Roles": to(accountPath + "/Roles"),
			"MultiFactorAuth": object{"ClientCertificate": object{"Enabled": true, "RespondToUnauthenticatedClients": false}},
			"Oem":             object{"Nitro": object{"@odata.type": "#NitroPolicy.v1_0_0.NitroPolicy", "PolicyEpoch": s.config.Access.PolicyEpoch()}}})
		return o, nil
	}})
	s.links(accountPath+"/Accounts", policy.ReadAccess, policy.Access, "ManagerAccountCollection", "Accounts")
	var paths []string
	for _, r := range policy.Roles {
		paths = append(paths, accountPath+"/Roles/"+string(r))
		o := describe(accountPath+"/Roles/"+string(r), roleType, string(r), string(r))
		maps.Copy(o, object{"RoleId": string(r), "IsPredefined": true, "AssignedPrivileges": []string{}, "OemPrivileges": []string{"Nitro_" + string(r)}})
		s.still(accountPath+"/Roles/"+string(r), policy.ReadAccess, policy.Access, o)
	}
	s.links(accountPath+"/Roles", policy.ReadAccess, policy.Access, "RoleCollection", "Roles", paths...)
}

// certificateAt gives the ID of one of the API's certificates.
func (s *Service) certificateAt(path, parameter, action string) (string, error) {
	for _, k := range s.config.Access.Certificates() {
		if path == httpsPath+"/"+k.ID || path == httpsPath {
			return k.ID, nil
		}
	}
	return "", Refuse(http.StatusBadRequest, "ActionParameterValueFormatError", path, parameter, action)
}

func (s *Service) generateCSR(c *call) (reply, error) {
	collection := c.body["CertificateCollection"].(object)["@odata.id"].(string)
	id, err := s.certificateAt(collection, "CertificateCollection", "CertificateService.GenerateCSR")
	if err != nil {
		return reply{}, err
	}
	var names []string
	list, _ := c.body["AlternativeNames"].([]any)
	for _, n := range list {
		names = append(names, n.(string))
	}
	csr, err := s.config.Access.Request(c.r.Context(), id, subject(c.body), names)
	if err != nil {
		return reply{}, err
	}
	return reply{status: http.StatusOK, body: object{"CertificateCollection": to(collection), "CSRString": csr}}, nil
}

// subject is the name that a signing request is for.
func subject(body object) pkix.Name {
	list := func(name string) []string {
		if v, _ := body[name].(string); v != "" {
			return []string{v}
		}
		return nil
	}
	return pkix.Name{CommonName: body["CommonName"].(string), Organization: list("Organization"), OrganizationalUnit: list("OrganizationalUnit"),
		Country: list("Country"), Province: list("State"), Locality: list("City")}
}

func (s *Service) replaceCertificate(c *call) (reply, error) {
	path := c.body["CertificateUri"].(object)["@odata.id"].(string)
	id, err := s.certificateAt(path, "CertificateUri", "CertificateService.ReplaceCertificate")
	if err != nil {
		return reply{}, err
	}
	if err := s.config.Access.Replace(c.r.Context(), id, c.body["CertificateString"].(string)); err != nil {
		return reply{}, err
	}
	return reply{location: httpsPath + "/" + id}, nil
}

const (
	taskPath    = Root + "TaskService/Tasks"
	monitorPath = Root + "TaskService/TaskMonitors"
)

func (s *Service) tasks() {
	s.add(node{path: Root + "TaskService", read: policy.ReadTask, on: policy.Task, get: func(*call) (object, error) {
		o := describe(Root+"TaskService", taskServiceType, "TaskService", "Task Service")
		maps.Copy(o, object{"ServiceEnabled": true, "CompletedTaskOverWritePolicy": "Oldest", "LifeCycleEventOnTaskStateChange": false,
			"Status": enabled, "Tasks": to(taskPath)})
		return o, nil
	}})
	s.add(node{path: taskPath, read: policy.ReadTask, on: policy.Task,
		list: &collection{"TaskCollection", "Tasks", func(c *call, skip, top int) ([]object, int, error) {
			var paths []string
			for _, t := range s.config.Tasks.Tasks() {
				paths = append(paths, taskPath+"/"+t.ID)
			}
			return fixed(paths...)(c, skip, top)
		}}})
	s.add(node{path: taskPath + "/" + idPart, read: policy.ReadTask, on: policy.Task, get: s.task})
	s.add(node{path: monitorPath + "/" + idPart, read: policy.ReadTask, on: policy.Task, get: s.monitor})
}

// accepted answers with a task (DSP0266 12.2).
func (s *Service) accepted(task string) reply {
	if s.config.Tasks == nil || task == "" {
		return reply{status: http.StatusAccepted}
	}
	r := reply{status: http.StatusAccepted, location: monitorPath + "/" + task}
	for _, t := range s.config.Tasks.Tasks() {
		if t.ID == task {
			r.body = taskObject(t)
		}
	}
	return r
}

func (s *Service) task(c *call) (object, error) {
	for _, t := range s.config.Tasks.Tasks() {
		if t.ID == c.ids[0] {
			return taskObject(t), nil
		}
	}
	return nil, missing(c)
}

// monitor is a task's monitor (DSP0266 12.2): 202 with the task while it runs, then what
// came of it: the task, or the error.
func (s *Service) monitor(c *call) (object, error) {
	for _, t := range s.config.Tasks.Tasks() {
		switch {
		case t.ID != c.ids[0]:
		case t.Failure != nil:
			return nil, t.Failure
		default:
			if !t.Ended {
				c.status = http.StatusAccepted
			}
			return taskObject(t), nil
		}
	}
	return nil, missing(c)
}

func taskObject(t TaskState) object {
	o := describe(taskPath+"/"+t.ID, taskType, t.ID, t.Name)
	maps.Copy(o, object{"TaskState": t.State, "PercentComplete": t.Percent, "TaskMonitor": monitorPath + "/" + t.ID, "Messages": []object{}})
	for name, at := range map[string]time.Time{"StartTime": t.Start, "EndTime": t.End} {
		if !at.IsZero() {
			o[name] = when(at)
		}
	}
	if t.Ended { // the schema has it set by then, and not before
		o["TaskStatus"] = "OK"
	}
	switch {
	case t.Failure != nil:
		o["TaskStatus"] = "Critical"
		o["Messages"] = []object{t.Failure.extended()}
	case t.Note != "":
		o["Messages"] = []object{(&Error{ID: "Success", Next: t.Note}).extended()}
	}
	return o
}
