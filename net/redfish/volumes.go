package redfish

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"nitro/net/policy"
)

// Storage is the host's volumes, and the card that they lie on. No method gives a key.
type Storage interface {
	Storage() StorageState
	Volumes() []VolumeState
	// ErasedByHost is the certificate of a volume's last erase by the host, an object of
	// JSON; nil where there is none.
	ErasedByHost(id VolumeID) []byte
	// Create makes a volume. Its capacity is whole blocks.
	Create(ctx context.Context, v VolumeSpec) error
	Delete(ctx context.Context, id VolumeID) error
	// Request gives what the board asks a key service for, and the evidence that belongs to
	// it and to the service's challenge, as an object of JSON.
	Request(ctx context.Context, id VolumeID, challenge [ChallengeSize]byte) (request, evidence []byte, err error)
	// Attach takes a grant with a wrapped key, in one of GrantForms, and gives the board's
	// signed confirmation.
	Attach(ctx context.Context, id VolumeID, form string, grant, wrapped []byte) (confirmation []byte, err error)
	// Detach zeroes a volume's key. A volume that has none is detached.
	Detach(ctx context.Context, id VolumeID) error
	// Erase makes all that a volume held unreadable, and gives the certificate of that, an
	// object of JSON. who is the principal that asked.
	Erase(ctx context.Context, id VolumeID, who string) (certificate []byte, err error)
	// ErasePool erases all volumes on the card, and gives the certificates.
	ErasePool(ctx context.Context, who string) (certificates [][]byte, err error)
}

// A VolumeID is a volume's identity, which the control plane chooses. In paths it is in
// hexadecimal.
type VolumeID [16]byte

func (v VolumeID) String() string { return hex.EncodeToString(v[:]) }

// A StorageState is what is known of the card and of the pool on it.
type StorageState struct {
	CapacityBytes uint64 // of the pool
	FreeBytes     uint64
	Serial, Model string // of the card, as far as it says so
	Fault         string // why volumes cannot be used; else empty
}

// A VolumeSpec is what a volume is made of.
type VolumeSpec struct {
	ID         VolumeID
	Name       string
	Kind       string // one of VolumeKinds
	Capacity   uint64 // bytes
	BlockSize  int    // bytes: 512 or 4096
	Commitment [32]byte
	Place      VolumePlace // of a remote volume
}

// A VolumePlace is where a remote volume lies.
type VolumePlace struct {
	Server    string // name of one that the configuration allows
	Namespace uint32 // there

	// Secret is what the board proves itself with to the server, and Opposite what the
	// server has to prove itself with: DHHC-1, or empty. They come with a creation, and are
	// never shown.
	Secret, Opposite string
}

// A VolumeState is what is known of a volume.
type VolumeState struct {
	VolumeSpec
	Used      uint64        // bytes of the pool
	Attached  bool          // its key is here
	Namespace uint32        // that the host sees; 0 for none
	Left      time.Duration // of the lease; 0 if it is not attached
	Standing  bool          // the board asks for the key again after its own restart
}

// VolumeKinds are where a volume's blocks lie.
var VolumeKinds = []string{"Pool", "RAM", remoteKind}

const remoteKind = "Remote"

// GrantForms are those in which a key comes: docs/grant.md.
var GrantForms = []string{"HPKE", "CMS"}

// Limits of what comes with a volume.
const (
	ChallengeSize  = 32      // bytes, of a key service's
	MaxGrant       = 1 << 10 // bytes; a grant of version 1 has 320
	MaxWrapped     = 8 << 10 // bytes; HPKE's has 1,200, CMS's some 700
	MaxVolumeName  = 64      // characters
	MaxSecret      = 256     // characters of a secret in the form DHHC-1
	defaultBlock   = 4096    // bytes: what hosts write anyway
	cardSector     = 512     // bytes
	volumeAction   = "NitroVolume."
	storagePath    = hostPath + "/Storage/pool"
	drivePath      = storagePath + "/Drives/card"
	volumesPath    = storagePath + "/Volumes"
	volumeOem      = "#NitroVolume.v1_0_0.NitroVolume"
	secureErase    = "Drive.SecureErase"
	cryptoErase    = "CryptographicErase"
	volumeLocation = volumesPath + "/" + idPart
)

// storage adds the volumes.
func (s *Service) storage() {
	s.links(hostPath+"/Storage", policy.ReadVolume, policy.Volume, "StorageCollection", "Storage", storagePath)
	s.add(node{path: storagePath, read: policy.ReadVolume, on: policy.Volume, get: func(*call) (object, error) { return s.pool(), nil }})
	s.add(node{path: drivePath, read: policy.ReadVolume, on: policy.Volume, get: func(*call) (object, error) { return s.drive(), nil }})
	s.add(node{path: drivePath + "/Actions/" + secureErase, on: policy.Volume, post: &operation{
		action: policy.ErasePool, name: secureErase, do: s.erasePool,
		params: []parameter{{"SanitizationType", text, true, []string{cryptoErase}}},
	}})
	s.add(node{path: volumesPath, read: policy.ReadVolume, on: policy.Volume,
		list: &collection{"VolumeCollection", "Volumes", func(c *call, skip, top int) ([]object, int, error) {
			var paths []string
			for _, v := range s.config.Storage.Volumes() {
				paths = append(paths, volumesPath+"/"+v.ID.String())
			}
			return fixed(paths...)(c, skip, top)
		}},
		post: &operation{action: policy.CreateVolume, do: s.createVolume}})
	s.add(node{path: volumeLocation, read: policy.ReadVolume, on: policy.Volume, get: s.volume,
		remove: &operation{action: policy.DeleteVolume, do: func(c *call) (reply, error) {
			v, err := s.volumeOf(c)
			if err != nil {
				return reply{}, err
			}
			return reply{}, s.config.Storage.Delete(c.r.Context(), v.ID)
		}}})
	s.volumeActions()
}

// volumeActions adds what DMTF's schema has no actions for (docs/redfish.md).
func (s *Service) volumeActions() {
	add := func(action policy.Action, name string, params []parameter, do func(c *call, id VolumeID) (object, error)) {
		s.add(node{path: volumeLocation + "/Actions/Oem/" + volumeAction + name, on: policy.Volume, post: &operation{
			action: action, name: volumeAction + name, params: params, do: func(c *call) (reply, error) {
				v, err := s.volumeOf(c)
				if err != nil {
					return reply{}, err
				}
				o, err := do(c, v.ID)
				if err != nil || o == nil {
					return reply{}, err
				}
				return reply{status: http.StatusOK, body: o}, nil
			}}})
	}
	add(policy.RequestGrant, "RequestKey", []parameter{{"Challenge", text, true, nil}}, s.requestKey)
	add(policy.AttachVolume, "Attach", []parameter{{"Grant", text, true, nil}, {"WrappedKey", text, true, nil}, {"Form", text, true, GrantForms}}, s.attach)
	add(policy.DetachVolume, "Detach", nil, func(c *call, id VolumeID) (object, error) {
		return nil, s.config.Storage.Detach(c.r.Context(), id)
	})
	add(policy.EraseVolume, "Erase", nil, func(c *call, id VolumeID) (object, error) {
		b, err := s.config.Storage.Erase(c.r.Context(), id, s.config.Gate.Who(c.r))
		return object{"Certificate": json.RawMessage(b)}, err
	})
}

// condition is a status with its reason, if there is one.
func condition(fault string) object {
	if fault == "" {
		return enabled
	}
	return object{"State": "UnavailableOffline", "Health": "Critical", "Conditions": []object{
		{"MessageId": baseRegistry + ".ResourceInStandby", "Message": fault, "Severity": "Critical"}}}
}

// pool is the storage that all volumes are of. Keys come from outside, always.
func (s *Service) pool() object {
	o := describe(storagePath, storageType, "pool", "Encrypted Volumes")
	maps.Copy(o, object{"Status": condition(s.config.Storage.Storage().Fault), "EncryptionMode": "UseExternalKey",
		"Drives": []object{to(drivePath)}, "Drives@odata.count": 1, "Volumes": to(volumesPath)})
	return o
}

// drive is the card. It encrypts nothing by itself; seen from the host and from whoever
// takes it out, the board and the card together do, so its ability is Other. It is
// unlocked as long as the key of a volume on it is here.
func (s *Service) drive() object {
	st := s.config.Storage.Storage()
	status, links := "Locked", []object{}
	for _, v := range s.config.Storage.Volumes() {
		if v.Kind != "Pool" {
			continue
		}
		links = append(links, to(volumesPath+"/"+v.ID.String()))
		if v.Attached {
			status = "Unlocked"
		}
	}
	erase := target(drivePath, secureErase)
	erase["SanitizationType@Redfish.AllowableValues"] = []string{cryptoErase}
	o := describe(drivePath, driveType, "card", "Card")
	maps.Copy(o, object{"MediaType": "SSD", "CapacityBytes": st.CapacityBytes, "BlockSizeBytes": cardSector, "SerialNumber": st.Serial, "Model": st.Model,
		"EncryptionAbility": "Other", "EncryptionStatus": status, "Status": condition(st.Fault), "WriteCacheEnabled": false,
		"Actions": object{"#" + secureErase: erase},
		"Links":   object{"Storage": to(storagePath), "Volumes": links, "Volumes@odata.count": len(links)},
		"Oem":     object{"Nitro": object{"@odata.type": "#NitroDrive.v1_0_0.NitroDrive", "FreeBytes": st.FreeBytes}}})
	return o
}

// volumeOf finds the volume that a request is about.
func (s *Service) volumeOf(c *call) (VolumeState, error) {
	for _, v := range s.config.Storage.Volumes() {
		if v.ID.String() == c.ids[0] {
			return v, nil
		}
	}
	return VolumeState{}, missing(c)
}

func (s *Service) volume(c *call) (object, error) {
	v, err := s.volumeOf(c)
	if err != nil {
		return nil, err
	}
	return s.volumeObject(v), nil
}

// volumeObject is a volume. A host sees it only as long as its key is here.
func (s *Service) volumeObject(v VolumeState) object {
	id := v.ID.String()
	path := volumesPath + "/" + id
	status := object{"State": "StandbyOffline", "Health": "OK"}
	oem := object{"@odata.type": volumeOem, "Kind": v.Kind, "Commitment": hex.EncodeToString(v.Commitment[:]), "Attached": v.Attached}
	if v.Kind == remoteKind {
		oem["Remote"] = object{"Server": v.Place.Server, "Namespace": v.Place.Namespace}
	}
	if v.Attached {
		status = enabled
		oem["LeaseSeconds"], oem["Standing"] = int64(v.Left/time.Second), v.Standing
	}
	if certificate := s.config.Storage.ErasedByHost(v.ID); certificate != nil {
		oem["ErasedByHost"] = object{"Certificate": json.RawMessage(certificate)}
	}
	actions := object{}
	for _, name := range []string{"RequestKey", "Attach", "Detach", "Erase"} {
		actions["#"+volumeAction+name] = target(path, "Oem/"+volumeAction+name)
	}
	o := describe(path, volumeType, id, v.Name)
	maps.Copy(o, object{
		"CapacityBytes": v.Capacity, "BlockSizeBytes": v.BlockSize, "Status": status,
		"Capacity":           object{"IsThinProvisioned": v.Kind == "Pool", "Data": object{"AllocatedBytes": v.Used, "ProvisionedBytes": v.Capacity}},
		"AccessCapabilities": []string{"Read", "Write"}, "Encrypted": true, "EncryptionTypes": []string{"ControllerAssisted"},
		"Identifiers": []object{{"DurableNameFormat": "NGUID", "DurableName": id}},
		"Actions":     object{"Oem": actions}, "Oem": object{"Nitro": oem},
		"Links": object{"OwningStorageResource": to(storagePath)},
	})
	if v.Kind == "Pool" {
		o["Links"].(object)["Drives"] = []object{to(drivePath)}
	}
	if v.Namespace != 0 {
		o["NVMeNamespaceProperties"] = object{"NamespaceId": "0x" + strconv.FormatUint(uint64(v.Namespace), 16)}
	}
	return o
}

// createVolume makes a volume as DSP0266 7.9 has resources made: the body is what is
// known of it beforehand.
func (s *Service) createVolume(c *call) (reply, error) {
	v, e := volumeSpec(c.body)
	if e != nil {
		return reply{}, e
	}
	if err := s.config.Storage.Create(c.r.Context(), v); err != nil {
		return reply{}, err
	}
	r := reply{status: http.StatusCreated, location: volumesPath + "/" + v.ID.String()}
	for _, made := range s.config.Storage.Volumes() {
		if made.ID == v.ID {
			r.body = s.volumeObject(made)
		}
	}
	return r, nil
}

// volumeSpec reads the body of a creation.
func volumeSpec(body object) (v VolumeSpec, e *Error) {
	p := creation{in: "", of: body, known: []string{"Name", "CapacityBytes", "BlockSizeBytes", "Oem"}}
	v.Name = p.text("Name", MaxVolumeName)
	v.Capacity = p.number("CapacityBytes", true)
	v.BlockSize = int(p.number("BlockSizeBytes", false))
	oem := p.below("Oem", "Nitro").below("Nitro", "Identity", "Commitment", "Kind", "Remote")
	oem.digits("Identity", v.ID[:])
	oem.digits("Commitment", v.Commitment[:])
	v.Kind = oem.text("Kind", MaxVolumeName)
	if v.Kind == remoteKind {
		v.Place = oem.below("Remote", "Server", "Namespace", "Secret", "Opposite").place()
	} else if _, there := oem.of["Remote"]; there {
		oem.refuse("PropertyUnknown", oem.in+"Remote")
	}
	p.check()
	if v.BlockSize == 0 {
		v.BlockSize = defaultBlock
	}
	switch {
	case p.refusal() != nil:
		return v, p.refusal()
	case !slices.Contains(VolumeKinds, v.Kind):
		e = Refuse(http.StatusBadRequest, "PropertyValueNotInList", v.Kind, "Oem/Nitro/Kind")
		e.Next = "Use one of " + strings.Join(VolumeKinds, ", ") + "."
	case v.BlockSize != cardSector && v.BlockSize != defaultBlock:
		e = Refuse(http.StatusBadRequest, "PropertyValueNotInList", strconv.Itoa(v.BlockSize), "BlockSizeBytes")
		e.Next = "Use 512 or 4096, or leave it out for 4096."
	case v.Capacity == 0 || v.Capacity%uint64(v.BlockSize) != 0:
		e = Refuse(http.StatusBadRequest, "PropertyValueFormatError", strconv.FormatUint(v.Capacity, 10), "CapacityBytes")
		e.Next = "Give a whole number of blocks, one at least."
	}
	return v, e
}

// A creation reads the properties of a resource that is to be made. It keeps the first
// thing that is wrong.
type creation struct {
	in    string // its path within the body, with "/" behind it
	of    object
	known []string
	sub   []*creation
	err   *Error
}

func (p *creation) refuse(id string, args ...string) {
	if p.err == nil {
		p.err = Refuse(http.StatusBadRequest, id, args...)
	}
}

// value gives a property that has to be there.
func (p *creation) value(name string) any {
	v, ok := p.of[name]
	if !ok {
		p.refuse("CreateFailedMissingReqProperties", p.in+name)
	}
	return v
}

// below is the object of a name.
func (p *creation) below(name string, known ...string) *creation {
	o, ok := p.value(name).(object)
	if !ok {
		p.refuse("PropertyValueTypeError", "", p.in+name)
	}
	b := &creation{in: p.in + name + "/", of: o, known: known, err: p.err}
	p.sub = append(p.sub, b)
	return b
}

// text gives a string of at most some bytes, and at least one.
func (p *creation) text(name string, most int) string {
	v := p.value(name)
	t, ok := v.(string)
	switch {
	case !ok:
		p.refuse("PropertyValueTypeError", "", p.in+name)
	case t == "" || len(t) > most:
		p.refuse("PropertyValueFormatError", t, p.in+name)
	}
	return t
}

// number gives an integer, 0 or more; 0 where it need not be there and is not.
func (p *creation) number(name string, needed bool) uint64 {
	if _, there := p.of[name]; !there && !needed {
		return 0
	}
	n, ok := p.value(name).(json.Number)
	u, err := strconv.ParseUint(n.String(), 10, 63)
	if !ok || err != nil {
		p.refuse("PropertyValueTypeError", n.String(), p.in+name)
	}
	return u
}

// place reads where a remote volume is to lie.
func (p *creation) place() (at VolumePlace) {
	at.Server = p.text("Server", MaxVolumeName)
	n := p.number("Namespace", true)
	if n == 0 || n > math.MaxUint32 {
		p.refuse("PropertyValueFormatError", strconv.FormatUint(n, 10), p.in+"Namespace")
	}
	at.Namespace = uint32(n)
	for name, to := range map[string]*string{"Secret": &at.Secret, "Opposite": &at.Opposite} {
		v, there := p.of[name]
		if !there {
			continue
		}
		t, ok := v.(string)
		if !ok || t == "" || len(t) > MaxSecret {
			p.refuse("PropertyValueFormatError", "", p.in+name) // it is not repeated
		}
		*to = t
	}
	return at
}

// digits reads bytes in hexadecimal, in lower case: there is one spelling of each.
func (p *creation) digits(name string, into []byte) {
	t := p.text(name, 2*len(into))
	b, err := hex.DecodeString(t)
	if err != nil || len(b) != len(into) || hex.EncodeToString(b) != t {
		p.refuse("PropertyValueFormatError", t, p.in+name)
		return
	}
	copy(into, b)
}

// check refuses what is not known.
func (p *creation) check() {
	for name := range p.of {
		known := false
		for _, k := range p.known {
			known = known || k == name
		}
		if !known {
			p.refuse("PropertyUnknown", p.in+name)
		}
	}
	for _, b := range p.sub {
		b.check()
	}
}

// refusal is the first thing that is wrong.
func (p *creation) refusal() *Error {
	e := p.err
	for _, b := range p.sub {
		if e == nil {
			e = b.refusal()
		}
	}
	return e
}

// blob reads a parameter in base64, of which there is one spelling.
func blob(c *call, name, action string, least, most int) ([]byte, error) {
	t := c.body[name].(string)
	b, err := base64.StdEncoding.Strict().DecodeString(t)
	if err != nil || len(b) < least || len(b) > most || base64.StdEncoding.EncodeToString(b) != t {
		e := Refuse(http.StatusBadRequest, "ActionParameterValueFormatError", t, name, action)
		e.Next = "Give " + strconv.Itoa(least) + " to " + strconv.Itoa(most) + " bytes in base64."
		return nil, e
	}
	return b, nil
}

func (s *Service) requestKey(c *call, id VolumeID) (object, error) {
	challenge, err := blob(c, "Challenge", volumeAction+"RequestKey", ChallengeSize, ChallengeSize)
	if err != nil {
		return nil, err
	}
	request, evidence, err := s.config.Storage.Request(c.r.Context(), id, [ChallengeSize]byte(challenge))
	if err != nil {
		return nil, err
	}
	return object{"Request": request, "Evidence": json.RawMessage(evidence)}, nil
}

func (s *Service) attach(c *call, id VolumeID) (object, error) {
	grant, err := blob(c, "Grant", volumeAction+"Attach", 1, MaxGrant)
	if err != nil {
		return nil, err
	}
	wrapped, err := blob(c, "WrappedKey", volumeAction+"Attach", 1, MaxWrapped)
	if err != nil {
		return nil, err
	}
	confirmation, err := s.config.Storage.Attach(c.r.Context(), id, c.body["Form"].(string), grant, wrapped)
	if err != nil {
		return nil, err
	}
	return object{"Confirmation": confirmation}, nil
}

// erasePool is Drive.SecureErase. DMTF gives it no answer; the certificates are the
// OEM's.
func (s *Service) erasePool(c *call) (reply, error) {
	all, err := s.config.Storage.ErasePool(c.r.Context(), s.config.Gate.Who(c.r))
	if err != nil {
		return reply{}, err
	}
	certificates := make([]json.RawMessage, len(all))
	for i, b := range all {
		certificates[i] = b
	}
	return reply{status: http.StatusOK, body: object{"Oem": object{"Nitro": object{"Certificates": certificates}}}}, nil
}
