package redfish

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"

	"nitro/net/audit"
	"nitro/net/policy"
)

const logPath = managerPath + "/LogServices/audit"

func (s *Service) log() {
	s.links(managerPath+"/LogServices", policy.ReadLog, policy.Log, "LogServiceCollection", "Logs", logPath)
	s.add(node{path: logPath, read: policy.ReadLog, on: policy.Log, get: func(*call) (object, error) {
		st := s.config.Log.Stats()
		o := describe(logPath, logServiceType, "audit", "Audit Log")
		status := maps.Clone(enabled)
		if st.Stuck != nil || st.Lost > 0 {
			status["Health"] = "Warning"
		}
		maps.Copy(o, object{"ServiceEnabled": true, "LogEntryType": "OEM", "OverWritePolicy": "NeverOverWrites", "Status": status,
			"MaxNumberOfRecords": st.Size - st.First + st.Room, "Entries": to(logPath + "/Entries"),
			"Actions": object{"#LogService.ClearLog": target(logPath, "LogService.ClearLog"), "Oem": object{
				"#NitroLog.Export": target(logPath, "Oem/NitroLog.Export"), "#NitroLog.Prove": target(logPath, "Oem/NitroLog.Prove"),
				"#NitroLog.Witness": target(logPath, "Oem/NitroLog.Witness")}}})
		return o, nil
	}})
	s.add(node{path: logPath + "/Entries", read: policy.ReadLog, on: policy.Log,
		list: &collection{"LogEntryCollection", "Audit Records", s.entries}})
	s.add(node{path: logPath + "/Entries/" + idPart, read: policy.ReadLog, on: policy.Log, get: s.entry})
	s.add(node{path: logPath + "/Actions/LogService.ClearLog", on: policy.Log, post: &operation{
		action: policy.ClearLog, name: "LogService.ClearLog", do: func(*call) (reply, error) {
			n, err := s.config.Log.Compact()
			if err == nil && n == 0 {
				e := Refuse(http.StatusConflict, "ResourceInUse")
				e.Next = "Have a witness cosign a checkpoint: only what is witnessed is cleared."
				return reply{}, e
			}
			return reply{}, err
		},
	}})
	s.proofs()
}

// proofs adds what the specification has no actions for: exports, proofs, witnesses
// (docs/audit.md).
func (s *Service) proofs() {
	add := func(action policy.Action, name string, params []parameter, do func(c *call) (reply, error)) {
		s.add(node{path: logPath + "/Actions/Oem/" + name, on: policy.Log, post: &operation{action: action, name: name, params: params,
			do: func(c *call) (reply, error) {
				r, err := do(c)
				return r, logRefusal(err)
			}}})
	}
	add(policy.ReadLog, "NitroLog.Export", []parameter{{"From", count, false, nil}, {"Older", text, false, nil}}, func(c *call) (reply, error) {
		var older []byte
		if o, given := c.body["Older"].(string); given {
			older = []byte(o)
		}
		write, err := s.config.Log.Export(c.number("From"), older)
		return reply{status: http.StatusOK, write: func(w io.Writer) error {
			if _, err := io.WriteString(w, `{"Export":`); err != nil {
				return err
			}
			if err := write(w); err != nil {
				return err
			}
			_, err := io.WriteString(w, "}\n")
			return err
		}}, err
	})
	add(policy.ReadLog, "NitroLog.Prove", []parameter{{"Record", count, true, nil}, {"Size", count, true, nil}}, func(c *call) (reply, error) {
		hashes, err := s.config.Log.Inclusion(c.number("Record"), c.number("Size"))
		proof := make([][]byte, len(hashes))
		for i := range hashes {
			proof[i] = hashes[i][:]
		}
		return reply{status: http.StatusOK, body: object{"Inclusion": proof}}, err
	})
	add(policy.WitnessLog, "NitroLog.Witness", []parameter{{"Checkpoint", text, true, nil}}, func(c *call) (reply, error) {
		return reply{}, s.config.Log.Witness([]byte(c.body["Checkpoint"].(string)))
	})
}

// logRefusal says what a client can do about what the log refuses.
func logRefusal(err error) error {
	for _, known := range []error{audit.ErrRange, audit.ErrGone, audit.ErrWitness, audit.ErrForked} {
		if errors.Is(err, known) {
			e := Refuse(http.StatusBadRequest, "GeneralError")
			e.Next = known.Error()
			return e
		}
	}
	return err
}

// entries are whole records: the specification has log entries expanded by themselves.
func (s *Service) entries(_ *call, skip, top int) ([]object, int, error) {
	st := s.config.Log.Stats()
	total := int(st.Size - st.First)
	if skip >= total {
		return []object{}, total, nil
	}
	records, err := s.config.Log.Records(st.First+uint64(skip), min(top, MaxPage))
	if err != nil {
		return nil, 0, err
	}
	members := make([]object, 0, len(records))
	for i, r := range records {
		members = append(members, logEntry(st.First+uint64(skip+i), r))
	}
	return members, total, nil
}

func (s *Service) entry(c *call) (object, error) {
	var n uint64
	if _, err := fmt.Sscanf(c.ids[0], "%d", &n); err != nil || fmt.Sprint(n) != c.ids[0] || n >= s.config.Log.Stats().Size {
		return nil, missing(c)
	}
	records, err := s.config.Log.Records(n, 1)
	if err != nil || len(records) == 0 {
		return nil, missing(c) // it was cleared
	}
	return logEntry(n, records[0]), nil
}

// logEntry shows a record as it is: its bytes are what the tree has hashed.
func logEntry(n uint64, record []byte) object {
	var r struct {
		T      string
		Kind   string
		Status int
	}
	_ = json.Unmarshal(record, &r) // the log's own
	severity := "OK"
	if k := audit.Kind(r.Kind); k == audit.KindDenied || k == audit.KindDenials || k == audit.KindGap || r.Status >= 400 {
		severity = "Warning"
	}
	id := fmt.Sprint(n)
	o := describe(logPath+"/Entries/"+id, logEntryType, id, "Audit Record "+id)
	maps.Copy(o, object{"EntryType": "Oem", "OemRecordFormat": "Nitro audit 1", "Severity": severity, "Message": string(record)})
	if r.T != "" {
		o["Created"] = r.T
	}
	return o
}
