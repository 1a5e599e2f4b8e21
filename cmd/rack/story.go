package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"nitro/qemu-test/rack"
	"nitro/qemu-test/rack/work"
)

// hostLimit is how long each thing may take that is waited for on a console: all is
// emulated, on machines that may be busy.
const hostLimit = 5 * time.Minute

// A story tells what happens in the rack, step by step, and checks each step itself.
type story struct {
	*bench
	rack  *rack.Rack
	tool  *tool
	start time.Time
	steps int

	boot   *rack.Boot // of the host
	volume volume
}

// done tells that a step is done and was checked.
func (s *story) done(format string, args ...any) {
	s.steps++
	fmt.Fprintf(s.out, "rack: %6.1f s  %2d. %s\n", time.Since(s.start).Seconds(), s.steps, fmt.Sprintf(format, args...))
}

// tell goes through all steps. Each gives an error if it was not as it should be.
func (s *story) tell(ctx context.Context) error {
	for _, step := range []func(context.Context) error{
		s.provisioned, s.released, s.verified, s.linux, s.given, s.used, s.hidden, s.detached,
	} {
		if err := step(ctx); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// provisioned sees the board into service.
func (s *story) provisioned(ctx context.Context) error {
	if err := s.provision(ctx, s.rack); err != nil {
		return err
	}
	if _, err := os.Stat(s.record()); err != nil {
		return fmt.Errorf("the board is not provisioned: %w", err)
	}
	s.done("the board is provisioned: its TPM is sealed to what it measured, the factory keeps %s", s.record())
	return nil
}

// released waits until the board has verified the host's firmware and let the host go.
func (s *story) released(context.Context) error {
	if _, err := s.rack.Expect(`controller: host: cycle (\d+): running`, bootLimit); err != nil {
		return err
	}
	var err error
	if s.boot, err = s.rack.Host.AwaitRunning(hostLimit); err != nil {
		return err
	}
	if want := sha256.Sum256(s.host.Data); s.boot.Digest != want {
		return fmt.Errorf("the host runs from flash with SHA-256 %x, and not from the verified one with %x", s.boot.Digest, want)
	}
	s.done("the host's firmware is verified and the host released: it runs from flash %x..., as signed", s.boot.Digest[:8])
	return nil
}

// verified holds the board's evidence to the release that the card was made of.
func (s *story) verified(ctx context.Context) error {
	var verdict struct {
		Accepted bool
		Facts    struct {
			TLSKey     string `json:"tls_key"`
			Controller struct{ Version string }
		}
	}
	err := s.tool.run(ctx, &verdict, "attest", "verify", "-board", s.tool.board, "-release", s.releaseFolder(), "-issuer", s.issuer(),
		"-makers", filepath.Join(s.tpm(), "maker.pem"), "-accept-development", "-accept-open-life-cycle", "-accept-weak-secret")
	if err != nil {
		return err
	}
	if !verdict.Accepted || verdict.Facts.Controller.Version != version.Name || verdict.Facts.TLSKey == "" {
		return fmt.Errorf("the verdict on the board's evidence is %+v", verdict)
	}
	s.tool.pin = verdict.Facts.TLSKey
	s.done("the boot chain is verified: a quote of the TPM over bootloader, controller %s, configuration and TLS key", verdict.Facts.Controller.Version)
	return nil
}

// says waits for a line of the host's.
func (s *story) says(pattern string) ([]string, error) {
	m, err := s.boot.Machine.Expect(work.Prefix+`(?:FAILED: ([^\r\n]*)|`+pattern+`)\r*\n`, hostLimit)
	switch {
	case err != nil:
		return nil, fmt.Errorf("the host: %w", err)
	case m[1] != "":
		return nil, fmt.Errorf("the host: %s", m[1])
	}
	return m[1:], nil
}

// linux waits until the host's Linux has found the board and is connected to it.
func (s *story) linux(context.Context) error {
	for _, step := range []struct{ pattern, what string }{
		{`up: ([^\r\n]+)`, "OVMF has started the host's system: %s"},
		{`metadata: ([^\r\n]+)`, "the metadata service has told the host: %s"},
		{`refused: ([^\r\n]+)`, "the board refuses a host %s"},
		{`connected: ([^\r\n]+)`, "the host is connected by NVMe/TCP: %s"},
	} {
		m, err := s.says(step.pattern)
		if err != nil {
			return err
		}
		s.done(step.what, m[1])
	}
	return nil
}

// given has a volume made, if there is none from an earlier run, and attached.
func (s *story) given(ctx context.Context) (err error) {
	if s.volume, err = s.tool.find(ctx, volumeName); errors.Is(err, errNoVolume) {
		if s.volume, err = s.tool.volume(ctx, "create", "-name", volumeName, "-size", "32MiB"); err == nil {
			s.done("volume %s is made: %d MiB on the card, its key with the key service alone", s.volume.Volume, s.volume.Size>>20)
		}
	}
	if err != nil {
		return err
	}
	if s.volume, err = s.tool.volume(ctx, "attach", "-lease", "1h", "-standing", volumeName); err != nil {
		return err
	}
	if !s.volume.Attached || s.volume.Namespace == "" {
		return fmt.Errorf("the volume is not attached: %+v", s.volume)
	}
	s.done("the key service has judged the board and its host, and the volume is namespace %s, with a lease of %d s", s.volume.Namespace, s.volume.LeaseSeconds)
	return nil
}

// used follows the host through its work, and compares what it read with what it was to
// write.
func (s *story) used(context.Context) error {
	id := regexp.QuoteMeta(s.volume.Volume)
	for _, step := range []struct{ pattern, what string }{
		{`sees: (volume ` + id + ` as /dev/\w+)`, "the host sees %s"},
		{`(?:formatted|mounted): (volume ` + id + ` [^\r\n]+)`, "file system: %s"},
		{`wrote: ([^\r\n]+ to volume ` + id + `)`, "the host wrote %s"},
		{fmt.Sprintf(`verified: (volume %s holds SHA-256 %x)`, id, work.Expected(s.volume.Volume)), "read back, past the host's caches: %s"},
		{`unmounted: (volume ` + id + `)`, "unmounted: %s"},
	} {
		m, err := s.says(step.pattern)
		if err != nil {
			return err
		}
		s.done(step.what, m[1])
	}
	return nil
}

// hidden looks for what the host wrote on the card. That the search finds what is there is
// tried on a copy which has a file of the host's in plain text.
func (s *story) hidden(ctx context.Context) error {
	v, err := s.tool.find(ctx, volumeName)
	if err != nil {
		return err
	}
	if v.Used < work.Files*work.Size {
		return fmt.Errorf("the volume takes %d bytes of the card, and the host wrote %d", v.Used, work.Files*work.Size)
	}
	secrets := [][]byte{work.Pattern(v.Volume), []byte(work.Name(0)), []byte(work.Name(work.Files - 1))}
	planted := filepath.Join(s.folder, "planted.img")
	defer os.Remove(planted)
	if err := plant(planted, s.card(), work.Content(v.Volume, 0)); err != nil {
		return err
	}
	if at, err := search(planted, secrets); err != nil || at < 0 {
		return fmt.Errorf("the search does not find what is there: %v", err)
	}
	at, err := search(s.card(), secrets)
	if err != nil {
		return err
	}
	if at >= 0 {
		return fmt.Errorf("the card holds what the host wrote in plain text, at byte %d", at)
	}
	s.done("the card, all %d MiB of it, holds nothing of that in plain text (in a copy with one file planted the search finds it)", cardSize>>20)
	return nil
}

// detached takes the volume away from the host.
func (s *story) detached(ctx context.Context) error {
	v, err := s.tool.volume(ctx, "detach", volumeName)
	if err != nil {
		return err
	}
	if v.Attached {
		return fmt.Errorf("the volume is still attached: %+v", v)
	}
	if _, err := s.says(`gone: (volume ` + regexp.QuoteMeta(v.Volume) + `)`); err != nil {
		return err
	}
	s.done("detached: the board's copy of the key is zeroed, and the host has lost the namespace")
	return nil
}

// next says what to try.
func (s *story) next(out io.Writer) {
	fmt.Fprintf(out, `rack: all runs on. The board is at https://%s/, the key service at %s. To try next:
rack:   %s
rack:   %s
rack:   %s
rack:   curl --insecure --cert %[6]s/operator.pem --key %[6]s/operator.key https://%[1]s/redfish/v1/Systems/host
rack: consoles: %s (or with -console here). Ctrl-C switches off
`, s.tool.board, s.tool.service, s.tool.line("volume", "list"), s.tool.line("volume", "attach", volumeName), s.tool.line("volume", "detach", volumeName),
		filepath.Join(s.folder, "clients"), filepath.Join(s.folder, "*.log"))
}
