// Package nvme tests the NVMe/TCP target against the host that it is for: Linux's own
// initiator, driven by nvme-cli, on the emulated board. The target runs in the test; the
// guest reaches it through the emulator's own network.
package nvme

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nitro/internal/peer"
	"nitro/nvme/dhchap"
	"nitro/nvme/initiator"
	"nitro/nvme/target"
	"nitro/nvme/volume"
	"nitro/nvme/xts"
)

// soak is how many MiB each run of TestLinux writes and verifies.
var soak = flag.Int("soak", 4, "MiB that Linux writes and verifies in each way")

const (
	subsystem = "nqn.2026-01.test:ctl"
	host      = "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555"
)

// program builds the guest's.
func program(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "guest")
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "build", "-o", file, "./testdata/guest")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0", "GOFLAGS=")
	if said, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	return file
}

// debian finds programs of Debian's.
func debian(t *testing.T, names ...string) (files []string) {
	t.Helper()
	for _, name := range names {
		file, err := peer.Program(name)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

// A rig is a target on a port of this machine.
type rig struct {
	*target.Target
	t                *testing.T
	config           target.Config
	port             int
	secret, opposite dhchap.Secret
	medium           *volume.RAM // what is beneath namespace 1
	volume           volume.Volume
	served           chan error
}

func newRig(t *testing.T, cfg target.Config) *rig {
	t.Helper()
	r := &rig{t: t, config: cfg, port: freePort(t)}
	r.config.SubsystemNQN, r.config.Serial, r.config.Model, r.config.Firmware = subsystem, "0001", "Nitro", "1.0"
	r.config.Advertise = netip.AddrPortFrom(netip.MustParseAddr("10.0.2.2"), uint16(r.port))
	r.config.Kelvin = func() uint16 { return 300 }
	r.config.Notify = func(e target.Event) { t.Logf("%s from %s, %q: %v", e.Kind, e.Remote, e.HostNQN, e.Err) }
	if err := errors.Join(r.secret.Generate(dhchap.SHA384), r.opposite.Generate(dhchap.SHA256)); err != nil {
		t.Fatal(err)
	}
	r.makeVolume()
	if err := r.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// makeVolume makes an encrypted volume of 64 MiB.
func (r *rig) makeVolume() {
	r.t.Helper()
	var err error
	if r.medium, err = volume.NewRAM(512, 64<<20/512); err != nil {
		r.t.Fatal(err)
	}
	key, raw := new(xts.Key), make([]byte, xts.KeySize256)
	raw[0] = 1
	if err := key.Init(raw); err != nil {
		r.t.Fatal(err)
	}
	if r.volume, err = volume.NewEncrypted(r.medium, key, 4, 128<<10); err != nil {
		r.t.Fatal(err)
	}
}

// start starts a target that knows the host, with its volume as namespace 1.
func (r *rig) start() error {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", r.port))
	if err != nil {
		return err
	}
	if r.Target, err = target.New(r.config); err != nil {
		return err
	}
	if err := r.AddHost(host, &r.secret, &r.opposite); err != nil {
		return err
	}
	if err := r.Attach(host, target.Namespace{ID: 1, Volume: r.volume, UUID: [16]byte{1}}); err != nil {
		return err
	}
	r.served = make(chan error, 1)
	go func(t *target.Target, served chan error) { served <- t.Serve(l) }(r.Target, r.served)
	return nil
}

// stop stops it.
func (r *rig) stop() error {
	r.Close()
	if err := <-r.served; err != target.ErrTargetClosed {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// serve does what the guest asks for.
func (r *rig) serve(said string) error {
	switch said {
	case "please attach 2":
		v, err := volume.NewRAM(4096, 16)
		if err != nil {
			return err
		}
		if err := v.WriteAt(context.Background(), 0, append([]byte("second"), make([]byte, 4090)...)); err != nil {
			return err
		}
		return r.Attach(host, target.Namespace{ID: 2, Volume: v, UUID: [16]byte{2}})
	case "please detach 2":
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return r.Detach(ctx, host, 2)
	case "please restart":
		time.Sleep(restartAfter)
		return errors.Join(r.stop(), r.start())
	}
	return fmt.Errorf("the guest says %q", said)
}

// restartAfter is how far into the guest's traffic the target restarts.
const restartAfter = time.Second

// lines calls a function for each line that is written to it.
type lines struct {
	rest []byte
	each func(line string)
}

func (l *lines) Write(p []byte) (int, error) {
	l.rest = append(l.rest, p...)
	for {
		line, rest, ok := bytes.Cut(l.rest, []byte("\n"))
		if !ok {
			return len(p), nil
		}
		l.rest = rest
		l.each(string(line))
	}
}

// linux runs the guest against the target.
func (r *rig) linux(t *testing.T, args ...string) {
	t.Helper()
	guest(t, r.serve, append([]string{"-port", fmt.Sprint(r.port), "-host", host, "-secret", r.secret.Reveal(), "-opposite", r.opposite.Reveal()}, args...)...)
}

// guest runs the guest, and does for it what it asks for.
func guest(t *testing.T, serve func(said string) error, args ...string) {
	t.Helper()
	var wrong dhchap.Secret
	if err := wrong.Generate(dhchap.SHA256); err != nil {
		t.Fatal(err)
	}
	ask := make(chan string, 16) // what takes long must not hold the guest's console up
	done := make(chan struct{})
	go func() {
		defer close(done)
		for said := range ask {
			if err := serve(said); err != nil {
				t.Error(err)
			}
		}
	}()
	res, err := peer.Run(t.Context(), peer.Job{
		Program: program(t),
		Others:  debian(t, "nvme", "mke2fs", "e2fsck"),
		Args:    append([]string{"-subsystem", subsystem, "-wrong", wrong.Reveal(), "-mebibytes", fmt.Sprint(*soak)}, args...),
		Modules: []string{"crc32c_generic", "nvme-tcp", "ext4"},
		Network: true,
		Limit:   time.Duration(*soak/4+15) * time.Minute,
		Live: &lines{each: func(line string) {
			if strings.HasPrefix(line, "please ") {
				ask <- strings.TrimSpace(line)
			}
		}},
	})
	close(ask)
	<-done
	t.Logf("%v; the guest began after %v\n%s", res.Took, res.Began, res.Output)
	if err != nil || res.ExitCode != 0 {
		t.Errorf("exit code %d, %v", res.ExitCode, err)
	}
}

// TestLinux has Linux do all that a host does.
func TestLinux(t *testing.T) {
	t.Parallel()
	r := newRig(t, target.Config{})
	r.linux(t, "-full", "-options", "--hdr-digest --data-digest --reconnect-delay=1")
	medium := make([]byte, 64<<20)
	if err := r.medium.ReadAt(t.Context(), 0, medium); err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(medium, []byte("what the file system keeps")) {
		t.Error("plaintext is on the medium")
	}
}

// TestLinuxServes has the board's initiator use Linux's own target, with an encrypted
// volume on top: the way that a remote volume takes.
func TestLinuxServes(t *testing.T) {
	t.Parallel()
	var secret, opposite dhchap.Secret
	if err := errors.Join(secret.Generate(dhchap.SHA512), opposite.Generate(dhchap.SHA256)); err != nil {
		t.Fatal(err)
	}
	here, bell := freePort(t), freePort(t)
	served := make(chan bool, 1)
	ended := make(chan error, 1)
	go func() {
		if <-served {
			ended <- remote(t.Context(), here, &secret, &opposite)
			if c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", bell), time.Minute); err == nil {
				c.Close()
			}
		} else {
			ended <- errors.New("the guest did not serve")
		}
	}()
	res, err := peer.Run(t.Context(), peer.Job{
		Program: program(t),
		Args:    []string{"-serve", "-subsystem", subsystem, "-host", host, "-secret", secret.Reveal(), "-opposite", opposite.Reveal()},
		Modules: []string{"crc32c_generic", "brd", "nvmet-tcp"},
		Network: true,
		Forward: map[int]int{here: 4420, bell: 7},
		Limit:   15 * time.Minute,
		Live: &lines{each: func(line string) {
			if strings.TrimSpace(line) == "please connect" {
				served <- true
			}
		}},
	})
	select {
	case served <- false: // if it has not
	default:
	}
	t.Logf("%v; the guest began after %v\n%s", res.Took, res.Began, res.Output)
	if err != nil || res.ExitCode != 0 {
		t.Errorf("exit code %d, %v", res.ExitCode, err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// freePort gives a TCP port of the loopback interface that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// remote uses the target.
func remote(ctx context.Context, port int, secret, opposite *dhchap.Secret) error {
	cfg := initiator.Config{
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		},
		SubsystemNQN: subsystem, HostNQN: host, HostID: [16]byte{1}, Secret: secret, Opposite: opposite,
		HeaderDigest: true, DataDigest: true, Limit: 2 * time.Minute, KeepAlive: 2 * time.Minute,
	}
	wrong := cfg
	wrong.Secret = opposite
	if c, err := initiator.Connect(ctx, wrong); err == nil {
		c.Close()
		return errors.New("Linux lets a host with a wrong secret in")
	}
	c, err := initiator.Connect(ctx, cfg)
	if err != nil {
		return err
	}
	n, err := c.Namespace(ctx, 1)
	if err != nil {
		return err
	}
	defer n.Close()
	key, raw := new(xts.Key), make([]byte, xts.KeySize256)
	raw[0] = 1
	if err := key.Init(raw); err != nil {
		return err
	}
	v, err := volume.NewEncrypted(n, key, 4, 128<<10)
	if err != nil {
		return err
	}
	data := bytes.Repeat([]byte("plaintext"), 1<<20/9)
	data = data[:len(data)/4096*4096]
	for at := uint64(0); at < 4; at++ {
		if err := v.WriteAt(ctx, at*2048, data); err != nil {
			return err
		}
	}
	got := make([]byte, len(data))
	if err := v.ReadAt(ctx, 3*2048, got); err != nil || !bytes.Equal(got, data) {
		return fmt.Errorf("read back: %v, right %v", err, bytes.Equal(got, data))
	}
	if err := n.ReadAt(ctx, 3*2048, got); err != nil || bytes.Contains(got, []byte("plaintext")) {
		return fmt.Errorf("the server sees plaintext: %v", err)
	}
	if err := errors.Join(v.Flush(ctx), v.Zero(ctx, 0, 4096), n.Zero(ctx, 4096, 1000), n.Deallocate(ctx, 6144, 8)); err != nil {
		return err
	}
	if err := v.ReadAt(ctx, 2048, got); err != nil || !bytes.Equal(got, make([]byte, len(got))) {
		return fmt.Errorf("zeros: %v", err)
	}
	return v.Close()
}
