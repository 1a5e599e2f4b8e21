package redfish

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// published describes DMTF's schemas (DSP8010, 2024.1 and its errata) and SNIA's of a
// volume (Swordfish 1.2.6) as data: the properties that a type has, what they are, and
// which are required ("!"), without those properties that no service of this kind has.
// What a resource shows beyond that is an error.
//
// Each versioned type, Resource, Status, Condition, Message, Identifier and the objects
// within them were compared with the JSON Schema file of that very version: that it is
// published, of which release it is, each property's name, kind and null, each value of an
// enumeration, and what is required. (Message, which is of 1.2.0 here, with 1.2.1, its
// errata; what Resource has without a version, with the file that ends with 1.19.0, which
// is 2024.1's.) The files name the release of a minor version only, so they do not tell
// in which bundle an errata version came. Not compared, as no copy was at hand: Capacity with
// CapacityInfo, and the values of AccessCapabilities and ProvisioningPolicy (Swordfish's
// Capacity and DataStorageLoSCapabilities); nor Collection and ErrorBody, which are from
// DSP0266. Formats are checked where a kind below has one; values that are only
// deprecated spellings are left out.
//
// Kinds: string, int, bool, time, hex, uuid, base64, link, links (an array of links), strings,
// uri, enum(A,B), oem, [T] for an array of objects of type T, and T for an object. "?"
// allows null.
var published = map[string]string{
	// Resource.json: what every resource has.
	"Resource": "@odata.id uri!, @odata.type string!, @odata.etag string, Id string!, Name string!, Description string?, Oem oem",
	"Collection": "@odata.id uri!, @odata.type string!, @odata.etag string, Name string!, Description string?, Oem oem, Members links!, " +
		"Members@odata.count int!, Members@odata.nextLink uri",
	"Status":    "State enum(Enabled,Disabled,StandbyOffline,StandbySpare,InTest,Starting,Absent,UnavailableOffline,Deferring,Quiesced,Updating,Qualified,Degraded)?, Health enum(OK,Warning,Critical)?, HealthRollup enum(OK,Warning,Critical)?, Conditions [Condition], Oem oem",
	"Condition": "MessageId string!, Message string, MessageArgs strings, Severity enum(OK,Warning,Critical), Resolution string, Timestamp time, LogEntry link, OriginOfCondition link",
	"Target":    "target uri!, title string",

	"ServiceRoot.v1_17_0": "RedfishVersion string, UUID uuid?, Product string?, Vendor string?, Links RootLinks!, ProtocolFeaturesSupported Features, " +
		"Systems link, Chassis link, Managers link, Tasks link, SessionService link, AccountService link, EventService link, UpdateService link, " +
		"CertificateService link, ComponentIntegrity link, JsonSchemas link, Registries link",
	"RootLinks":             "Sessions link!, ManagerProvidingService link",
	"Features":              "ExpandQuery Expand, FilterQuery bool, SelectQuery bool, ExcerptQuery bool, OnlyMemberQuery bool, TopSkipQuery bool",
	"Expand":                "ExpandAll bool, Levels bool, MaxLevels int, Links bool, NoLinks bool",
	"SessionService.v1_1_9": "ServiceEnabled bool?, SessionTimeout int, Sessions link, Status Status",

	"ComputerSystem.v1_22_1": "SystemType enum(Physical,Virtual,OS,PhysicallyPartitioned,VirtuallyPartitioned,Composed,DPU), PowerState enum(On,Off,PoweringOn,PoweringOff,Paused)?, " +
		"SerialNumber string?, Manufacturer string?, Model string?, PartNumber string?, SKU string?, UUID uuid?, AssetTag string?, HostName string?, Status Status, " +
		"Actions SystemActions, Links SystemLinks, LogServices link, Storage link, Boot SystemBoot",
	"SystemBoot":    "BootSourceOverrideEnabled enum(Disabled,Once,Continuous)?, BootSourceOverrideTarget enum(None,Pxe,Floppy,Cd,Usb,Hdd,BiosSetup,Utilities,Diags,UefiShell,UefiTarget,SDCard,UefiHttp,RemoteDrive,UefiBootNext,Recovery)?",
	"SystemActions": "#ComputerSystem.Reset ResetAction, Oem oem",
	"ResetAction":   "target uri!, title string, ResetType@Redfish.AllowableValues resets",
	"SystemLinks":   "Chassis links, ManagedBy links, Oem oem",

	"Chassis.v1_25_1": "ChassisType enum(Rack,Blade,Enclosure,StandAlone,RackMount,Card,Cartridge,Row,Pod,Expansion,Sidecar,Zone,Sled,Shelf,Drawer,Module,Component,IPBasedDrive,RackGroup,StorageEnclosure,ImmersionTank,HeatExchanger,PowerStrip,Other)!, " +
		"SerialNumber string?, Manufacturer string?, Model string?, PartNumber string?, Status Status, Links ChassisLinks, TrustedComponents link, Certificates link",
	"ChassisLinks": "ComputerSystems links, ManagedBy links, ManagersInChassis links, ContainedBy link, Contains links",

	"Manager.v1_19_1": "ManagerType enum(ManagementController,EnclosureManager,BMC,RackManager,AuxiliaryController,Service), FirmwareVersion string?, SerialNumber string?, " +
		"UUID uuid?, Model string?, Manufacturer string?, Status Status, DateTime time?, DateTimeLocalOffset string?, LastResetTime time, Actions ManagerActions, Links ManagerLinks, " +
		"LogServices link, NetworkProtocol link, EthernetInterfaces link, Certificates link",
	"ManagerActions":                 "#Manager.Reset ResetAction, Oem oem",
	"ManagerLinks":                   "ManagerForServers links, ManagerForChassis links, ManagerInChassis link, ActiveSoftwareImage link, SoftwareImages links, Oem oem",
	"ManagerNetworkProtocol.v1_10_1": "HTTP Protocol, HTTPS HTTPSProtocol, SSH Protocol, IPMI Protocol, Status Status, HostName string?, FQDN string?",
	"Protocol":                       "ProtocolEnabled bool?, Port int?",
	"HTTPSProtocol":                  "ProtocolEnabled bool?, Port int?, Certificates link",

	"LogService.v1_6_0": "ServiceEnabled bool?, LogEntryType enum(Event,SEL,Multiple,OEM,CXL)?, OverWritePolicy enum(Unknown,WrapsWhenFull,NeverOverWrites), MaxNumberOfRecords int, " +
		"DateTime time?, DateTimeLocalOffset string?, Status Status, Entries link, Actions LogActions",
	"LogActions":       "#LogService.ClearLog Target, #LogService.CollectDiagnosticData Target, Oem oem",
	"LogEntry.v1_16_1": "EntryType enum(Event,SEL,Oem,CXL)!, OemRecordFormat string?, Severity enum(OK,Warning,Critical)?, Created time, Message string?, MessageId string, MessageArgs strings",

	"UpdateService.v1_14_0":     "ServiceEnabled bool?, Status Status, HttpPushUri uri, MultipartHttpPushUri uri, MaxImageSizeBytes int?, FirmwareInventory link, SoftwareInventory link, Actions UpdateActions",
	"UpdateActions":             "#UpdateService.StartUpdate Target, #UpdateService.SimpleUpdate Target, Oem oem",
	"SoftwareInventory.v1_10_1": "Version string?, Updateable bool?, LowestSupportedVersion string?, SoftwareId string, Manufacturer string?, ReleaseDate time?, RelatedItem links, Status Status, WriteProtected bool?, Measurement MeasurementBlock",
	"MeasurementBlock":          "Measurement hex?, MeasurementIndex int?, MeasurementSize int?, MeasurementSpecification int?",

	"ComponentIntegrity.v1_2_3": "ComponentIntegrityType enum(SPDM,TPM,OEM)!, ComponentIntegrityTypeVersion string!, ComponentIntegrityEnabled bool, TargetComponentURI uri!, LastUpdated time?, Status Status, TPM TPMinfo, Actions IntegrityActions, Links IntegrityLinks",
	"IntegrityLinks":            "ComponentsProtected links, Oem oem",
	"TPMinfo":                   "NonceSizeBytesMaximum int?, MeasurementSet TPMmeasurementSet?, IdentityAuthentication TPMauth?, ComponentCommunication oem?",
	"TPMmeasurementSet":         "Measurements [TPMmeasurement]",
	"TPMmeasurement":            "PCR int?, Measurement base64?, MeasurementHashAlgorithm string?, LastUpdated time?",
	"TPMauth":                   "ComponentCertificate link, VerificationStatus enum(Success,Failed)?",
	"IntegrityActions":          "#ComponentIntegrity.TPMGetSignedMeasurements Target, #ComponentIntegrity.SPDMGetSignedMeasurements Target, Oem oem",
	"TrustedComponent.v1_3_1": "TrustedComponentType enum(Discrete,Integrated)!, Manufacturer string?, Model string?, FirmwareVersion string?, SerialNumber string?, PartNumber string?, UUID uuid?, Status Status, " +
		"Certificates link, Links TrustedLinks",
	"TrustedLinks": "ComponentIntegrity links, ComponentsProtected links, ActiveSoftwareImage link, Owner link?, Oem oem",

	"AccountService.v1_15_1":      "ServiceEnabled bool?, LocalAccountAuth enum(Enabled,Disabled,Fallback,LocalFirst), HTTPBasicAuth enum(Enabled,Disabled,Unadvertised)?, Accounts link, Roles link, Status Status, MultiFactorAuth MultiFactor?",
	"MultiFactor":                 "ClientCertificate ClientCertificate?",
	"ClientCertificate":           "Enabled bool?, RespondToUnauthenticatedClients bool?, Certificates link, CertificateMappingAttribute enum(Whole,CommonName,UserPrincipalName)?",
	"Role.v1_3_2":                 "RoleId string, IsPredefined bool, AssignedPrivileges strings, OemPrivileges strings, Restricted bool",
	"CertificateService.v1_0_5":   "CertificateLocations link, Actions CertificateActions",
	"CertificateActions":          "#CertificateService.GenerateCSR Target, #CertificateService.ReplaceCertificate Target, Oem oem",
	"CertificateLocations.v1_0_4": "Links LocationLinks",
	"LocationLinks":               "Certificates links, Certificates@odata.count int",
	"Certificate.v1_8_2":          "CertificateString string?, CertificateType enum(PEM,PEMchain,PKCS7)?, CertificateUsageTypes usages",

	"TaskService.v1_2_1": "ServiceEnabled bool?, CompletedTaskOverWritePolicy enum(Manual,Oldest), LifeCycleEventOnTaskStateChange bool, DateTime time?, Status Status, Tasks link",
	"Task.v1_7_4": "TaskState enum(New,Starting,Running,Suspended,Interrupted,Pending,Stopping,Completed,Killed,Exception,Service,Cancelling,Cancelled), TaskStatus enum(OK,Warning,Critical), " +
		"StartTime time, EndTime time, PercentComplete int?, TaskMonitor uri, Messages [Message]",
	"Message": "@odata.type string, MessageId string!, Message string, MessageArgs strings, MessageSeverity enum(OK,Warning,Critical), Resolution string, RelatedProperties strings",

	"JsonSchemaFile.v1_1_5":      "Schema string!, Languages strings!, Location [FileLocation]!",
	"MessageRegistryFile.v1_1_5": "Registry string!, Languages strings!, Location [FileLocation]!",
	"FileLocation":               "Language string, Uri uri, PublicationUri uri, ArchiveUri uri, ArchiveFile string",

	"Storage.v1_16_0": "Status Status, Drives links, Drives@odata.count int, Volumes link, Controllers link, StoragePools link, Identifiers [Identifier], Links StorageLinks, Actions StorageActions, " +
		"EncryptionMode enum(Disabled,UseExternalKey,UseLocalKey)?, LocalEncryptionKeyIdentifier string?",
	"StorageLinks":   "Enclosures links, Enclosures@odata.count int, StorageServices links, Oem oem",
	"StorageActions": "#Storage.ResetToDefaults Target, #Storage.SetEncryptionKey Target, Oem oem",
	"Identifier":     "DurableName string?, DurableNameFormat enum(NAA,iQN,FC_WWN,UUID,EUI,NQN,NSID,NGUID,MACAddress,GCXLID)?",
	"Drive.v1_19_0": "MediaType enum(HDD,SSD,SMR)?, CapacityBytes int?, BlockSizeBytes int?, Manufacturer string?, Model string?, SerialNumber string?, PartNumber string?, Revision string?, " +
		"EncryptionAbility enum(None,SelfEncryptingDrive,Other)?, EncryptionStatus enum(Unencrypted,Unlocked,Locked,Foreign)?, WriteCacheEnabled bool?, Status Status, Identifiers [Identifier], " +
		"Links DriveLinks, Actions DriveActions, FailurePredicted bool?",
	"DriveLinks":   "Volumes links, Volumes@odata.count int, Chassis link, Storage link, Oem oem",
	"DriveActions": "#Drive.SecureErase EraseAction, #Drive.Reset Target, Oem oem",
	"EraseAction":  "target uri!, title string, SanitizationType@Redfish.AllowableValues sanitizations",
	"Volume.v1_10_0": "CapacityBytes int?, BlockSizeBytes int?, Capacity Capacity, Status Status, Encrypted bool?, EncryptionTypes encryptions, AccessCapabilities accesses, " +
		"ProvisioningPolicy enum(Fixed,Thin)?, DisplayName string?, Identifiers [Identifier], NVMeNamespaceProperties NVMeNamespace?, Manufacturer string?, Model string?, Links VolumeLinks, Actions VolumeActions",
	"Capacity":      "Data CapacityInfo?, Metadata CapacityInfo?, Snapshot CapacityInfo?, IsThinProvisioned bool?",
	"CapacityInfo":  "AllocatedBytes int?, ConsumedBytes int?, GuaranteedBytes int?, ProvisionedBytes int?",
	"NVMeNamespace": "NamespaceId nsid?, NVMeVersion string?, FormattedLBASize string?, IsShareable bool?",
	"VolumeLinks":   "Drives links, Drives@odata.count int, OwningStorageResource link, DedicatedSpareDrives links, Oem oem",
	"VolumeActions": "#Volume.Initialize Target, #Volume.CheckConsistency Target, Oem oem",

	// Not resources: the answers of actions, and errors.
	"SignedMeasurements": "SignedMeasurements base64!, Oem oem",
	"Document":           "Document base64!",
	"CSR":                "CertificateCollection link!, CSRString string!",
	"KeyRequest":         "Request base64!, Evidence oem!",
	"Confirmation":       "Confirmation base64!",
	"Sanitisation":       "Certificate oem!",
	"SecureErase":        "Oem oem!",
	"Error":              "error ErrorBody!",
	"ErrorBody":          "code string!, message string!, @Message.ExtendedInfo [Message]",
}

// Values of enumerations that are arrays.
var (
	resetTypes    = strings.Fields("On ForceOff GracefulShutdown GracefulRestart ForceRestart Nmi ForceOn PushPowerButton PowerCycle Suspend Pause Resume")
	sanitizations = strings.Fields("BlockErase CryptographicErase Overwrite")
	encryptions   = strings.Fields("NativeDriveEncryption ControllerAssisted SoftwareAssisted")
	accesses      = strings.Fields("Read Write WriteOnce Append Streaming Execute")
	usageTypes    = strings.Fields("User Web SSH Device Platform BIOS IDevID LDevID IAK LAK")
)

// valid checks a JSON value, as it came over the wire, against a type of published, and
// gives what is wrong.
func valid(kind, where string, v any) (wrong []string) {
	say := func(format string, args ...any) { wrong = append(wrong, where+": "+fmt.Sprintf(format, args...)) }
	if optional, ok := strings.CutSuffix(kind, "?"); ok {
		if v == nil {
			return nil
		}
		kind = optional
	}
	if inner, ok := strings.CutPrefix(kind, "["); ok {
		list, is := v.([]any)
		if !is {
			say("no array")
		}
		for i, e := range list {
			wrong = append(wrong, valid(strings.TrimSuffix(inner, "]"), fmt.Sprintf("%s[%d]", where, i), e)...)
		}
		return wrong
	}
	if props, ok := published[kind]; ok {
		o, is := v.(map[string]any)
		if !is {
			return []string{where + ": no object"}
		}
		return validObject(props, where, o)
	}
	if !validValue(kind, v) {
		say("%v is no %s", v, kind)
	}
	return wrong
}

// properties splits a description. Commas within enumerations do not count.
func properties(props string) map[string]string {
	all := map[string]string{}
	for _, p := range regexp.MustCompile(`[^ ,]+ [^ ,(]+(\([^)]*\))?[?!]*`).FindAllString(props, -1) {
		name, kind, _ := strings.Cut(p, " ")
		all[name] = kind
	}
	return all
}

func validObject(props, where string, o map[string]any) (wrong []string) {
	want := properties(props)
	for name, v := range o {
		kind, ok := want[name]
		if !ok {
			wrong = append(wrong, fmt.Sprintf("%s: there is no property %s", where, name))
			continue
		}
		wrong = append(wrong, valid(strings.TrimSuffix(kind, "!"), where+"/"+name, v)...)
	}
	for name, kind := range want {
		if _, ok := o[name]; strings.HasSuffix(kind, "!") && !ok {
			wrong = append(wrong, fmt.Sprintf("%s: %s is required", where, name))
		}
	}
	return wrong
}

var (
	timePattern = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$`)
	nsidPattern = regexp.MustCompile(`^0[xX][0-9a-fA-F]*$`) // Volume.v1_10_0, NamespaceId
	uuidPattern = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	hexPattern  = regexp.MustCompile(`^[0-9a-fA-F]+$`)
)

func validValue(kind string, v any) bool {
	s, isText := v.(string)
	list, isList := v.([]any)
	all := func(ok func(any) bool) bool {
		return isList && !slices.ContainsFunc(list, func(e any) bool { return !ok(e) })
	}
	oneOf := func(values []string) func(any) bool {
		return func(e any) bool { t, ok := e.(string); return ok && slices.Contains(values, t) }
	}
	isLink := func(e any) bool {
		o, ok := e.(map[string]any)
		id, text := o["@odata.id"].(string)
		return ok && text && strings.HasPrefix(id, Root) // an expanded one has more
	}
	switch kind {
	case "string":
		return isText
	case "uri":
		return isText && (strings.HasPrefix(s, "/redfish/v1") || strings.HasPrefix(s, "http://redfish.dmtf.org/"))
	case "time":
		_, err := time.Parse(time.RFC3339, s)
		return err == nil && timePattern.MatchString(s)
	case "hex":
		return hexPattern.MatchString(s)
	case "uuid":
		return uuidPattern.MatchString(s)
	case "base64":
		_, err := base64.StdEncoding.DecodeString(s)
		return isText && err == nil
	case "int":
		n, ok := v.(json.Number)
		_, err := n.Int64()
		return ok && err == nil
	case "bool":
		_, ok := v.(bool)
		return ok
	case "link":
		return isLink(v)
	case "links":
		return all(isLink)
	case "strings":
		return all(func(e any) bool { _, ok := e.(string); return ok })
	case "resets":
		return all(oneOf(resetTypes))
	case "sanitizations":
		return all(oneOf(sanitizations))
	case "encryptions":
		return all(oneOf(encryptions))
	case "accesses":
		return all(oneOf(accesses))
	case "nsid":
		return nsidPattern.MatchString(s)
	case "usages":
		return all(oneOf(usageTypes))
	case "oem":
		_, ok := v.(map[string]any)
		return ok
	}
	values, ok := strings.CutPrefix(kind, "enum(")
	return ok && oneOf(strings.Split(strings.TrimSuffix(values, ")"), ","))(v)
}

// validResource checks a resource by the type that it says it has.
func validResource(where string, o map[string]any) []string {
	kind, ok := o["@odata.type"].(string)
	if !ok {
		return []string{where + ": no @odata.type"}
	}
	kind = strings.TrimPrefix(kind, "#")
	kind = kind[:strings.LastIndexByte(kind, '.')]
	if strings.HasSuffix(kind, "Collection") {
		return valid("Collection", where, o)
	}
	props, ok := published[kind]
	if !ok {
		return []string{where + ": there is no type " + kind}
	}
	return validObject(published["Resource"]+", "+props, where, o)
}

// TestValidator: each kind of fault is found once.
func TestValidator(t *testing.T) {
	good := func() map[string]any {
		var o map[string]any
		d := json.NewDecoder(strings.NewReader(`{"@odata.id":"/redfish/v1/Chassis/x","@odata.type":"#Chassis.v1_25_1.Chassis","Id":"x","Name":"X","ChassisType":"Module","SerialNumber":null,
			"Status":{"State":"Enabled"},"Links":{"ManagedBy":[{"@odata.id":"/redfish/v1/Managers/x"}]}}`))
		d.UseNumber()
		if err := d.Decode(&o); err != nil {
			t.Fatal(err)
		}
		return o
	}
	if wrong := validResource("", good()); len(wrong) > 0 {
		t.Fatal(wrong)
	}
	for name, change := range map[string]func(map[string]any){
		"an unknown property":    func(o map[string]any) { o["Colour"] = "red" },
		"a missing one":          func(o map[string]any) { delete(o, "ChassisType") },
		"another enumeration":    func(o map[string]any) { o["ChassisType"] = "Box" },
		"another type":           func(o map[string]any) { o["Name"] = json.Number("1") },
		"null":                   func(o map[string]any) { o["Name"] = nil },
		"another state":          func(o map[string]any) { o["Status"] = map[string]any{"State": "Fine"} },
		"a link to elsewhere":    func(o map[string]any) { o["TrustedComponents"] = map[string]any{"@odata.id": "/x"} },
		"a link that is none":    func(o map[string]any) { o["Links"] = map[string]any{"ManagedBy": []any{"x"}} },
		"an unknown type":        func(o map[string]any) { o["@odata.type"] = "#Box.v1_0_0.Box" },
		"an unknown version":     func(o map[string]any) { o["@odata.type"] = "#Chassis.v9_0_0.Chassis" },
		"no type":                func(o map[string]any) { delete(o, "@odata.type") },
		"an array for an object": func(o map[string]any) { o["Status"] = []any{} },
	} {
		o := good()
		if change(o); len(validResource("", o)) == 0 {
			t.Errorf("%s: not found", name)
		}
	}
	for kind := range published {
		for name, k := range properties(published[kind]) {
			k = strings.Trim(strings.TrimRight(k, "?!"), "[]")
			if _, known := published[k]; !known && !slices.Contains(strings.Fields("string int bool time hex uuid base64 link links strings uri oem resets usages sanitizations encryptions accesses nsid"), k) && !strings.HasPrefix(k, "enum(") {
				t.Errorf("%s/%s: unknown kind %q", kind, name, k)
			}
		}
	}
}
