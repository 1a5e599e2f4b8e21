package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"path/filepath"
	"strings"
	"time"
)

var updateGroup = &group{"update", "updates of a board over its API", []*command{
	{
		name:    "push",
		summary: "send a package to a board",
		about: `
Sends a package to the board's API as the principal of -cert: a release that release pack
has packed, a signed configuration or policy set, or firmware of the host. The board verifies
it and answers when it is taken or refused. Configuration and policy set are in force at once;
firmware of the host goes into the flash in the host's next cycle; a release of the controller
is staged, and runs after update activate, or with -now at once. -timeout is how long the board
may be silent.
`,
		example: "nitroctl update push -board 192.0.2.10 -pin 5f2a4d0c9e1b7a3384c6d5e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4 -cert release-manager.pem -key release-manager.key -package release-1.1.bundle",
		setup:   updatePush,
	},
	{
		name:    "status",
		summary: "show a board's firmware and its last updates",
		about: `
Shows what runs on the board, what is in its slots and golden copies, the security version
below which it takes nothing, and how its last updates have ended. It fails if the last one
did.
`,
		example: "nitroctl update status -board 192.0.2.10 -pin 5f2a4d0c9e1b7a3384c6d5e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4 -cert release-manager.pem -key release-manager.key",
		setup:   updateStatus,
	},
	{
		name:    "activate",
		summary: "restart a board into the release that was pushed",
		about: `
Has the board verify the staged release once more, make it the one that boots next, and
restart. It is tried once: if it does not come into service, the release that runs now comes
back. The board has another TLS key after the restart: attest verify shows it, and update status
how it went.
`,
		example: "nitroctl update activate -board 192.0.2.10 -pin 5f2a4d0c9e1b7a3384c6d5e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4 -cert release-manager.pem -key release-manager.key",
		setup:   updateAction("UpdateService.StartUpdate"),
	},
	{
		name:    "rollback",
		summary: "restart a board into the release that ran before",
		about: `
Has the board make the release in its other slot the one that boots next, as it is, and
restart. A release below the rollback floor, or one that the store would not open under, is
refused.
`,
		example: "nitroctl update rollback -board 192.0.2.10 -pin 5f2a4d0c9e1b7a3384c6d5e0f1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4 -cert release-manager.pem -key release-manager.key",
		setup:   updateAction("Oem/NitroUpdate.Rollback"),
	},
}}

const (
	updateService = "/redfish/v1/UpdateService"
	// members are a collection's, whole, as many as the board lists at once.
	members = "?$expand=.&$top=200"
)

// A taskInfo is an update as the board tells it.
type taskInfo struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	State    string `json:"state"`
	Percent  int    `json:"percent"`
	Messages []struct {
		Message    string `json:"-"`
		Resolution string `json:"resolution"`
	} `json:"messages"`
	Connection *connection `json:"connection,omitempty"`
}

// UnmarshalJSON reads Redfish's task (DSP8010, Task).
func (t *taskInfo) UnmarshalJSON(b []byte) error {
	var w struct {
		ID              string `json:"Id"`
		Name, TaskState string
		PercentComplete int
		Messages        []struct{ Message, Resolution string }
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*t = taskInfo{ID: w.ID, Name: w.Name, State: w.TaskState, Percent: w.PercentComplete}
	for _, m := range w.Messages {
		t.Messages = append(t.Messages, struct {
			Message    string `json:"-"`
			Resolution string `json:"resolution"`
		}{m.Message, printable(m.Resolution)})
	}
	return nil
}

func (t taskInfo) print(w io.Writer) {
	table(w, [2]string{"task", printable(t.ID) + ", " + printable(t.Name)}, [2]string{"state", fmt.Sprintf("%s, %d%%", printable(t.State), t.Percent)})
	for _, m := range t.Messages {
		table(w, [2]string{"the board says", m.Resolution})
	}
	if t.Connection != nil {
		t.Connection.print(w)
	}
}

func updatePush(f *flag.FlagSet) func(*call) (result, error) {
	board := apiFlags(f)
	file := f.String("package", "", "`file` of the package")
	now := f.Bool("now", false, "activate a release of the controller, and restart, as soon as it is taken")
	return func(c *call) (result, error) {
		if err := need(map[string]string{"package": *file}); err != nil {
			return nil, err
		}
		r, err := board()
		if err != nil {
			return nil, err
		}
		parameters := "{}"
		if *now {
			parameters = `{"@Redfish.OperationApplyTime":"Immediate"}`
		}
		a, err := r.push(*file, parameters, c.bar)
		if err != nil {
			return nil, err
		}
		return a.task()
	}
}

// task is the task that an answer has.
func (a *reply) task() (result, error) {
	if a.status != http.StatusAccepted {
		return nil, a.redfishRefusal()
	}
	t := taskInfo{}
	err := a.decode(&t)
	t.Connection = &a.connection
	return t, err
}

// push sends a package by multipart/form-data (DSP0266 12.6.2), a part of the file at a time.
func (r *remote) push(path, parameters string, bar func(done, total int64)) (*reply, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	var head bytes.Buffer
	form := multipart.NewWriter(&head)
	w, err := form.CreatePart(textproto.MIMEHeader{"Content-Disposition": {`form-data; name="UpdateParameters"`}, "Content-Type": {"application/json"}})
	if err != nil {
		return nil, err
	}
	io.WriteString(w, parameters)
	if _, err := form.CreateFormFile("UpdateFile", filepath.Base(path)); err != nil {
		return nil, err
	}
	tail := "\r\n--" + form.Boundary() + "--\r\n"
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	silence := time.AfterFunc(r.limit, cancel)
	defer silence.Stop()
	body := &counted{r: io.MultiReader(&head, file, strings.NewReader(tail)), total: int64(head.Len()) + info.Size() + int64(len(tail)), told: func(done, total int64) {
		silence.Reset(r.limit)
		bar(done, total)
	}}
	q, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+r.address+updateService+"/upload", body)
	if err != nil {
		return nil, usage("-board %s: %v", r.address, err)
	}
	q.ContentLength = body.total
	q.Header.Set("Content-Type", form.FormDataContentType())
	q.Header.Set("Expect", "100-continue") // who is refused is told before he sends it all
	return r.exchange(q)
}

// counted tells how much of a reader was read.
type counted struct {
	r           io.Reader
	done, total int64
	told        func(done, total int64)
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.done += int64(n)
	c.told(c.done, c.total)
	return n, err
}

func updateAction(action string) func(f *flag.FlagSet) func(*call) (result, error) {
	return func(f *flag.FlagSet) func(*call) (result, error) {
		board := apiFlags(f)
		return func(*call) (result, error) {
			r, err := board()
			if err != nil {
				return nil, err
			}
			a, err := r.ask(http.MethodPost, updateService+"/Actions/"+action, "application/json", []byte("{}"))
			if err != nil {
				return nil, err
			}
			return a.task()
		}
	}
}

// A softwareInfo is a piece of firmware as the board tells it.
type softwareInfo struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Version    string `json:"version"`
	State      string `json:"state"`
	Slot       string `json:"slot,omitempty"`
	Lowest     string `json:"lowest,omitempty"`
	SHA256     string `json:"sha256,omitempty"`
	Updateable bool   `json:"updateable"`
}

// UnmarshalJSON reads Redfish's SoftwareInventory.
func (s *softwareInfo) UnmarshalJSON(b []byte) error {
	var w struct {
		ID                     string `json:"Id"`
		Name                   string
		Version                *string
		LowestSupportedVersion string
		Updateable             bool
		Status                 struct{ State, Health string }
		Oem                    struct{ Nitro struct{ Slot, SHA256 string } }
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return err
	}
	*s = softwareInfo{w.ID, w.Name, "", w.Status.State, w.Oem.Nitro.Slot, w.LowestSupportedVersion, w.Oem.Nitro.SHA256, w.Updateable}
	if w.Version != nil {
		s.Version = *w.Version
	}
	if w.Status.Health != "" && w.Status.Health != "OK" {
		s.State += ", " + w.Status.Health
	}
	return nil
}

// An updateInfo is a board's firmware and its last updates.
type updateInfo struct {
	Firmware   []softwareInfo `json:"firmware"`
	Tasks      []taskInfo     `json:"tasks"`
	Connection connection     `json:"connection"`
}

func (u updateInfo) print(w io.Writer) {
	for _, s := range u.Firmware {
		table(w, [2]string{printable(s.ID), strings.TrimSpace(fmt.Sprintf("%s %s %s", printable(s.Version), printable(s.Slot), printable(s.State)))},
			[2]string{"  lowest", printable(s.Lowest)}, [2]string{"  sha256", printable(s.SHA256)})
	}
	for _, t := range u.Tasks {
		t.print(w)
	}
	u.Connection.print(w)
}

func updateStatus(f *flag.FlagSet) func(*call) (result, error) {
	board := apiFlags(f)
	return func(*call) (result, error) {
		r, err := board()
		if err != nil {
			return nil, err
		}
		var u updateInfo
		var firmware struct{ Members []softwareInfo }
		var tasks struct{ Members []taskInfo }
		if u.Connection, err = r.call(http.MethodGet, updateService+"/FirmwareInventory"+members, nil, &firmware, http.StatusOK); err != nil {
			return nil, err
		}
		if _, err = r.call(http.MethodGet, "/redfish/v1/TaskService/Tasks"+members, nil, &tasks, http.StatusOK); err != nil {
			return nil, err
		}
		u.Firmware, u.Tasks = firmware.Members, tasks.Members
		if n := len(u.Tasks); n > 0 && u.Tasks[n-1].State == "Exception" {
			next := "Send the update again."
			if m := u.Tasks[n-1].Messages; len(m) > 0 {
				next = m[0].Resolution
			}
			return u, advised{fmt.Errorf("the board's last update, task %s, has failed", printable(u.Tasks[n-1].ID)), next}
		}
		return u, nil
	}
}
