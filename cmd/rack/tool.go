package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"nitro/internal/tied"
	"nitro/net/policy"
)

// volumeName is the volume's that the story is about.
const volumeName = "data"

// A tool is nitroctl, as the owner's storage control plane.
type tool struct {
	program        string
	board, service string // addresses
	pin            string // SHA-256 of the board's TLS key, once it is verified
	clients        string // folder
}

// A volume is one as nitroctl tells of it.
type volume struct {
	Volume       string
	Name         string
	Size, Used   uint64
	Attached     bool
	Namespace    string
	LeaseSeconds int64 `json:"lease_seconds"`
}

// run runs nitroctl, and decodes the result.
func (t *tool) run(ctx context.Context, result any, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, hostLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.program, append(args, "-o", "json")...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := tied.Run(cmd); err != nil {
		return fmt.Errorf("nitroctl %s %s: %w: %s%s", args[0], args[1], err, &out, &errs)
	}
	answer := struct{ Result any }{result}
	if err := json.Unmarshal(out.Bytes(), &answer); err != nil {
		return fmt.Errorf("nitroctl %s %s: %w", args[0], args[1], err)
	}
	return nil
}

// args are the arguments of a command on volumes, with who asks whom.
func (t *tool) args(group, command string, rest ...string) []string {
	role := filepath.Join(t.clients, string(policy.StorageControlPlane))
	args := []string{group, command, "-board", t.board, "-pin", t.pin, "-cert", role + ".pem", "-key", role + ".key"}
	if slices.Contains([]string{"create", "attach", "delete"}, command) {
		args = append(args, "-keyservice", t.service, "-keyservice-ca", filepath.Join(t.clients, "ca.pem"))
	}
	return append(args, rest...)
}

// line is such a command for people.
func (t *tool) line(group, command string, rest ...string) string {
	return t.program + " " + strings.Join(t.args(group, command, rest...), " ")
}

// volume runs a command on one volume.
func (t *tool) volume(ctx context.Context, command string, rest ...string) (v volume, err error) {
	return v, t.run(ctx, &v, t.args("volume", command, rest...)...)
}

var errNoVolume = errors.New("the board has no such volume")

// find finds a volume by its name.
func (t *tool) find(ctx context.Context, name string) (volume, error) {
	var all struct{ Volumes []volume }
	if err := t.run(ctx, &all, t.args("volume", "list")...); err != nil {
		return volume{}, err
	}
	for _, v := range all.Volumes {
		if v.Name == name {
			return v, nil
		}
	}
	return volume{}, errNoVolume
}
