package redfish

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	"nitro/net/policy"
)

// Volumes of the machine.
var (
	rootVolume = volumesPath + "/" + VolumeID{0xaa, 1}.String()
	newID      = strings.Repeat("0f", 16)
)

const newVolume = `{"Name":"data","CapacityBytes":1048576,"BlockSizeBytes":512,"Oem":{"Nitro":{"Identity":"%s","Commitment":"%s","Kind":"Pool"}}}`

// TestVolumeChanges: what the storage control plane can do, and how it is answered.
func TestVolumeChanges(t *testing.T) {
	challenge, id := base64.StdEncoding.EncodeToString(make([]byte, ChallengeSize)), VolumeID{0xaa, 1}.String()
	oem := rootVolume + "/Actions/Oem/NitroVolume."
	for _, c := range []struct {
		method, path, body string
		status             int
		done, kind         string
	}{
		{"POST", volumesPath, fmt.Sprintf(newVolume, newID, strings.Repeat("ab", 32)), 201, "create " + newID + " data Pool 1048576 512 abab", "Volume.v1_10_0"},
		{"DELETE", rootVolume, "", 204, "delete " + id, ""},
		{"POST", oem + "RequestKey", `{"Challenge":"` + challenge + `"}`, 200, "request " + id + " 0000", "KeyRequest"},
		{"POST", oem + "Attach", `{"Grant":"Zw==","WrappedKey":"dw==","Form":"HPKE"}`, 200, "attach " + id + " HPKE g w", "Confirmation"},
		{"POST", oem + "Detach", `{}`, 204, "detach " + id, ""},
		{"POST", oem + "Erase", `{}`, 200, "erase " + id + " spiffe://owner.example/storage-control-plane/x", "Sanitisation"},
		{"POST", drivePath + "/Actions/Drive.SecureErase", `{"SanitizationType":"CryptographicErase"}`, 200, "erase all spiffe://owner.example/storage-control-plane/x", "SecureErase"},
	} {
		b := newBench(t)
		w := b.ask(policy.StorageControlPlane, c.method, c.path, c.body)
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
		if at := w.Result().Header.Get("Location"); (c.status == 201) != (at == volumesPath+"/"+newID) {
			t.Errorf("%s: Location %q", c.path, at)
		}
		b.machine.fail = errSecret
		if w := b.ask(policy.StorageControlPlane, c.method, c.path, c.body); w.Code != 500 || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s fails: %d %s", c.path, w.Code, w.Body)
		}
	}
}

// TestVolumeRefusals: what is wrong with a request is said before anything is done.
func TestVolumeRefusals(t *testing.T) {
	commitment, oem := strings.Repeat("ab", 32), rootVolume+"/Actions/Oem/NitroVolume."
	good := fmt.Sprintf(newVolume, newID, commitment)
	long := base64.StdEncoding.EncodeToString(make([]byte, MaxGrant+1))
	but := func(old, new string) string {
		if !strings.Contains(good, old) {
			t.Fatal(old)
		}
		return strings.Replace(good, old, new, 1)
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		id                 string
	}{
		{"POST", volumesPath, but(`"Name":"data",`, ``), 400, "CreateFailedMissingReqProperties"},
		{"POST", volumesPath, but(`"data"`, `""`), 400, "PropertyValueFormatError"},
		{"POST", volumesPath, but(`"data"`, `"`+strings.Repeat("x", MaxVolumeName+1)+`"`), 400, "PropertyValueFormatError"},
		{"POST", volumesPath, but(`"data"`, `7`), 400, "PropertyValueTypeError"},
		{"POST", volumesPath, but(`1048576`, `-1`), 400, "PropertyValueTypeError"},
		{"POST", volumesPath, but(`1048576`, `0`), 400, "PropertyValueFormatError"},
		{"POST", volumesPath, but(`1048576`, `1000`), 400, "PropertyValueFormatError"},
		{"POST", volumesPath, but(`512,`, `1024,`), 400, "PropertyValueNotInList"},
		{"POST", volumesPath, but(`"Pool"`, `"Cloud"`), 400, "PropertyValueNotInList"},
		{"POST", volumesPath, but(newID, newID[2:]), 400, "PropertyValueFormatError"},
		{"POST", volumesPath, but(newID, strings.ToUpper(newID)), 400, "PropertyValueFormatError"},
		{"POST", volumesPath, but(commitment, newID), 400, "PropertyValueFormatError"},
		{"POST", volumesPath, but(`"Kind":"Pool"`, `"Kind":"Pool","Key":"x"`), 400, "PropertyUnknown"},
		{"POST", volumesPath, but(`"Kind":"Pool"`, `"Kind":"Pool","Remote":{"Server":"west","Namespace":5}`), 400, "PropertyUnknown"},
		{"POST", volumesPath, but(`"Pool"`, `"Remote"`), 400, "CreateFailedMissingReqProperties"},
		{"POST", volumesPath, but(`"Pool"`, `"Remote","Remote":{"Namespace":5}`), 400, "CreateFailedMissingReqProperties"},
		{"POST", volumesPath, but(`"Pool"`, `"Remote","Remote":{"Server":"west","Namespace":0}`), 400, "PropertyValueFormatError"},
		{"POST", volumesPath, but(`"Pool"`, `"Remote","Remote":{"Server":"west","Namespace":4294967296}`), 400, "PropertyValueFormatError"},
		{"POST", volumesPath, but(`"Pool"`, `"Remote","Remote":{"Server":"west","Namespace":5,"Secret":7}`), 400, "PropertyValueFormatError"},
		{"POST", volumesPath, but(`"Pool"`, `"Remote","Remote":{"Server":"west","Namespace":5,"Key":"x"}`), 400, "PropertyUnknown"},
		{"POST", volumesPath, but(`"Oem"`, `"Encrypted":false,"Oem"`), 400, "PropertyUnknown"},
		{"POST", volumesPath, `{"Name":"data","CapacityBytes":512,"Oem":{"Nitro":7}}`, 400, "PropertyValueTypeError"},
		{"POST", volumesPath, `{"Name":"data","CapacityBytes":512}`, 400, "CreateFailedMissingReqProperties"},
		{"POST", volumesPath, `{}`, 400, "CreateFailedMissingReqProperties"},
		{"POST", oem + "RequestKey", `{}`, 400, "ActionParameterMissing"},
		{"POST", oem + "RequestKey", `{"Challenge":"AAAA"}`, 400, "ActionParameterValueFormatError"},
		{"POST", oem + "Attach", `{"Grant":"Zw==","WrappedKey":"dw==","Form":"PKCS12"}`, 400, "ActionParameterValueNotInList"},
		{"POST", oem + "Attach", `{"Grant":"","WrappedKey":"dw==","Form":"CMS"}`, 400, "ActionParameterValueFormatError"},
		{"POST", oem + "Attach", `{"Grant":"` + long + `","WrappedKey":"dw==","Form":"CMS"}`, 400, "ActionParameterValueFormatError"},
		{"POST", oem + "Attach", `{"Grant":"Zw==","WrappedKey":"dx==","Form":"CMS"}`, 400, "ActionParameterValueFormatError"},
		{"POST", oem + "Detach", `{"Force":"x"}`, 400, "ActionParameterUnknown"},
		{"POST", drivePath + "/Actions/Drive.SecureErase", `{"SanitizationType":"Overwrite"}`, 400, "ActionParameterValueNotInList"},
		{"POST", drivePath + "/Actions/Drive.SecureErase", `{}`, 400, "ActionParameterMissing"},
		{"GET", volumesPath + "/" + newID, ``, 404, "ResourceMissingAtURI"},
		{"DELETE", volumesPath + "/" + newID, ``, 404, "ResourceMissingAtURI"},
		{"POST", volumesPath + "/" + newID + "/Actions/Oem/NitroVolume.Detach", ``, 404, "ResourceMissingAtURI"},
	} {
		b := newBench(t)
		refused(t, c.method+" "+c.path+" "+c.body[:min(len(c.body), 90)], b.ask(policy.StorageControlPlane, c.method, c.path, c.body), c.status, c.id)
		if len(b.machine.done) > 0 {
			t.Errorf("%s %s: done: %v", c.method, c.path, b.machine.done)
		}
	}
}

// TestRemoteVolume: one is created on a storage server, and what the server knows the board
// by is never shown, nor repeated where it is malformed.
func TestRemoteVolume(t *testing.T) {
	b := newBench(t)
	const secret = "DHHC-1:00:c2VjcmV0:"
	body := fmt.Sprintf(newVolume, newID, strings.Repeat("ab", 32))
	at := func(secret string) string {
		return strings.Replace(body, `"Pool"`, `"Remote","Remote":{"Server":"west","Namespace":5,"Secret":"`+secret+`"}`, 1)
	}
	w := b.ask(policy.StorageControlPlane, "POST", volumesPath, at(secret))
	if w.Code != 201 || strings.Contains(w.Body.String(), secret) || !strings.Contains(w.Body.String(), `"Server":"west"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if got := b.machine.vols[len(b.machine.vols)-1].Place; got != (VolumePlace{Server: "west", Namespace: 5, Secret: secret}) {
		t.Errorf("created at %+v", got)
	}
	long := strings.Repeat(secret, 20)
	w = b.ask(policy.StorageControlPlane, "POST", volumesPath, at(long))
	if w.Code != 400 || strings.Contains(w.Body.String(), secret) {
		t.Errorf("a long secret: %d %s", w.Code, w.Body)
	}
}

// TestDetachAlwaysRuns: it zeroes a key, so a full log and an unknown time do not stop it.
// They stop an erase, which takes data away.
func TestDetachAlwaysRuns(t *testing.T) {
	b := newBench(t)
	b.journal.full, b.mode = true, policy.Mode{}
	detach, erase := rootVolume+"/Actions/Oem/NitroVolume.Detach", rootVolume+"/Actions/Oem/NitroVolume.Erase"
	if w := b.ask(policy.StorageControlPlane, "POST", detach, ""); w.Code != 204 || len(b.machine.done) != 1 {
		t.Errorf("%d %s %v", w.Code, w.Body, b.machine.done)
	}
	refused(t, "before the time is known", b.ask(policy.StorageControlPlane, "POST", erase, ""), 403, "InsufficientPrivilege")
	b.mode.ClockKnown = true
	refused(t, "unrecorded", b.ask(policy.StorageControlPlane, "POST", erase, ""), 503, "ServiceTemporarilyUnavailable")
	refused(t, "an operator", b.ask(policy.Operator, "POST", detach, ""), 403, "InsufficientPrivilege")
	if len(b.machine.done) != 1 {
		t.Error(b.machine.done)
	}
}

// TestVolumeStates: a volume that a host has, one that waits, and a card that has failed.
func TestVolumeStates(t *testing.T) {
	b := newBench(t)
	o := decode(t, b.ask(policy.Auditor, "GET", rootVolume, ""))
	if o["Encrypted"] != true || fmt.Sprint(o["NVMeNamespaceProperties"]) != "map[NamespaceId:0x1f]" || fmt.Sprint(o["Status"]) != "map[Health:OK State:Enabled]" {
		t.Errorf("attached: %v", o)
	}
	if !strings.Contains(fmt.Sprint(o), "LeaseSeconds:99") {
		t.Errorf("no lease: %v", o)
	}
	if o := decode(t, b.ask(policy.Auditor, "GET", drivePath, "")); o["EncryptionStatus"] != "Unlocked" {
		t.Errorf("a volume is attached: %v", o)
	}
	b.machine.vols[0].Left -= 5 * time.Second
	before := o["@odata.etag"]
	if after := b.ask(policy.Auditor, "GET", rootVolume, "").Result().Header.Get("ETag"); after != before {
		t.Errorf("time changes the tag from %s to %s", before, after)
	}
	b.machine.vols[0].Attached, b.machine.pool.Fault = false, "The card failed."
	o = decode(t, b.ask(policy.Auditor, "GET", rootVolume, ""))
	if fmt.Sprint(o["Status"]) != "map[Health:OK State:StandbyOffline]" || o["@odata.etag"] == before || strings.Contains(fmt.Sprint(o), "LeaseSeconds") {
		t.Errorf("detached: %v", o)
	}
	o = decode(t, b.ask(policy.Auditor, "GET", drivePath, ""))
	if wrong := validResource(drivePath, o); len(wrong) > 0 || o["EncryptionStatus"] != "Locked" || !strings.Contains(fmt.Sprint(o["Status"]), "The card failed.") {
		t.Errorf("%v %v", wrong, o)
	}
}

// TestErasedByHost: the certificate of the last erase by the host is the volume's to show,
// where there is one.
func TestErasedByHost(t *testing.T) {
	for id, want := range map[VolumeID]string{{0xaa, 1}: "<nil>", {0xbb, 2}: "map[Certificate:map[format:1]]"} {
		w := newBench(t).ask(policy.StorageControlPlane, "GET", volumesPath+"/"+id.String(), "")
		if got := fmt.Sprint(decode(t, w)["Oem"].(map[string]any)["Nitro"].(map[string]any)["ErasedByHost"]); got != want {
			t.Errorf("%v: %s", id, got)
		}
	}
}
