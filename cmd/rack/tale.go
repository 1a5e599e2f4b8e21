package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"nitro/attest/verify"
	"nitro/boot/card"
	"nitro/internal/tied"
	"nitro/net/metrics"
	"nitro/net/policy"
	"nitro/net/provisioning"
	"nitro/qemu-test/factory"
	"nitro/qemu-test/linuxhost"
	"nitro/qemu-test/rack"
)

// The volume and the host's work on it. The file system's own structures come to some
// 2 MiB; the board's pool has room for several such volumes.
const (
	volumeName = "data"
	volumeSize = "48MiB"
	workBytes  = 4 << 20 // of each round
)

// stepLimit is how long the board or the host may take for a step.
const stepLimit = 10 * time.Minute

// A tale is one run of the rack, with what its steps have found so far.
type tale struct {
	options options
	out     io.Writer
	*story
	bench *bench
	keys  *keyService
	rack  *rack.Rack
	work  linuxhost.Work
	logs  []*os.File
	once  sync.Once

	folder  *tied.Folder // of the host's initramfs, and the copy of the card
	linux   *rack.Linux
	address string     // of the board's HTTPS
	pin     string     // hash of the board's TLS key, from evidence
	boot    *rack.Boot // of the host
}

// newTale prepares all that needs no power.
func newTale(o options, out io.Writer) (_ *tale, err error) {
	if _, err := os.Stat(o.nitroctl); err != nil {
		return nil, fmt.Errorf("%w: build it first: make nitroctl", err)
	}
	t := &tale{options: o, out: out, story: newStory(out)}
	defer func() {
		if err != nil {
			t.close()
		}
	}()
	pattern := make([]byte, 16)
	rand.Read(pattern)
	t.work = linuxhost.Work{Pattern: hex.EncodeToString(pattern), Bytes: workBytes, Fio: o.fio << 20}
	if t.folder, err = tied.NewFolder("nitro-tale-"); err != nil {
		return nil, err
	}
	return t, nil
}

// close ends all that was started.
func (t *tale) close() {
	t.once.Do(func() {
		if t.rack != nil {
			t.rack.Close()
		}
		if t.keys != nil {
			t.keys.close()
		}
		for _, l := range t.logs {
			l.Close()
		}
		if t.folder != nil {
			t.folder.Remove()
		}
	})
}

// A step is told once what it does has passed its check.
type step struct {
	title string
	do    func(context.Context) (found string, err error)
}

// tell does the steps.
func (t *tale) tell(ctx context.Context) error {
	steps := []step{
		{"development keys, a release signed twice", t.open},
		{"a card with it, and a TPM", t.build},
		{"a Linux for the host, a key service", t.prepare},
		{"power: board, TPM, host behind its lines", t.power},
		{"the bootloader verifies and measures", t.bootloader},
		{"provisioning", t.provision},
		{"the controller verifies itself", t.controller},
		{"the host's firmware verified, host released", t.release},
		{"evidence of board and host, judged", t.evidence},
		{"the host: OVMF, then Debian's kernel", t.kernel},
		{"the metadata service, by token", t.metadata},
		{"another host, and a wrong secret: nothing", t.refused},
		{"NVMe/TCP, authenticated both ways", t.connect},
		{"nitroctl creates a volume and its key", t.create},
		{"nitroctl attaches it: evidence for a key", t.attach},
		{"the host sees it, and makes ext4", t.fileSystem},
		{"the host works: written, read past caches", t.works},
		{"the card holds no plaintext", t.medium},
		{"the controller restarts, the host works on", t.restart},
		{"nitroctl detaches it: the host loses it", t.detach},
		{"nitroctl attaches it again: all is there", t.again},
	}
	if t.work.Fio > 0 {
		steps = append(steps, t.fioSteps()...)
	}
	for _, s := range steps {
		if err := t.step(s.title, func() (string, error) { return s.do(ctx) }); err != nil {
			return err
		}
	}
	t.end()
	return nil
}

// log is the file of a console.
func (b *bench) log(of string) string { return filepath.Join(b.folder, of+".log") }

// issuerFile is the certificate of who certifies attestation keys, for nitroctl.
func (b *bench) issuerFile() string { return filepath.Join(b.folder, "issuer.pem") }

func (t *tale) open(context.Context) (_ string, err error) {
	if t.bench, err = openBench(t.options); err != nil {
		return "", err
	}
	issuer, _, err := t.bench.factory.Keys.Issuer()
	if err != nil {
		return "", err
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: issuer.Raw})
	return fmt.Sprintf("Ed25519 and ML-DSA-65; controller SHA-256 %x", t.bench.release.Controller.Digest[:6]), os.WriteFile(t.bench.issuerFile(), text, 0o644)
}

// build makes the board, and reads the card back as nitroctl card does.
func (t *tale) build(context.Context) (string, error) {
	what := "as of an earlier run"
	if t.bench.fresh {
		if err := t.bench.make(); err != nil {
			return "", err
		}
		what = "new"
	}
	f, err := card.Open(t.bench.card(), false)
	if err != nil {
		return "", err
	}
	defer f.Close()
	anchors, err := t.bench.factory.Keys.Anchors()
	if err != nil {
		return "", err
	}
	r := card.Inspect(f, card.Want{Anchors: anchors, Product: factory.Product}, nil)
	if err := r.Err(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s; %d places of the card verified", what, len(r.Parts)), nil
}

func (t *tale) prepare(ctx context.Context) (_ string, err error) {
	kernel, initramfs, err := linuxhost.Make(ctx, t.folder.Path)
	if err != nil {
		return "", err
	}
	t.linux = &rack.Linux{Kernel: kernel, Initramfs: initramfs, CommandLine: t.work.CommandLine()}
	if t.keys, err = t.bench.startKeyService(); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s; https://127.0.0.1:%d", filepath.Base(kernel), t.keys.port), nil
}

func (t *tale) power(context.Context) (_ string, err error) {
	board, err := t.console("board", "")
	if err != nil {
		return "", err
	}
	host, err := t.console("host", "host: ")
	if err != nil {
		return "", err
	}
	r, err := rack.Start(rack.Config{
		Log: board, Hold: true, TPMState: t.bench.tpm(), Cards: [2]string{t.bench.card(), t.bench.flash()},
		Host: true, HostLog: host, Linux: t.linux,
		Nets: []rack.Net{
			{Forward: map[int]int{httpsPort: freePort(t.options.port), provisioningPort: 0}},
			{Cable: rack.ToHost},
		},
		Args: t.options.args(),
	})
	if err != nil {
		return "", err
	}
	t.rack = r
	if err := t.keys.serveBoard(r); err != nil {
		return "", err
	}
	if t.options.verbose {
		go showEvents(r, t.out)
		go showPins(r, t.out)
	}
	for _, w := range rack.HostWires() {
		if err := r.Pins.AwaitLevel(w.Name, true, stepLimit); err != nil {
			return "", err
		}
	}
	if t.address, err = r.Address(httpsPort); err != nil {
		return "", err
	}
	return fmt.Sprintf("all lines to the host are held; board %d, TPM %d", r.PID(), r.TPM.PID()), r.QMP.Continue()
}

// console is where a console goes: to its file, and with -v also to the terminal.
func (t *tale) console(of, prefix string) (io.Writer, error) {
	f, err := os.Create(t.bench.log(of))
	if err != nil {
		return nil, err
	}
	t.logs = append(t.logs, f)
	if t.options.verbose {
		return io.MultiWriter(f, &lines{to: t.out, prefix: prefix}), nil
	}
	return f, nil
}

// says waits for a line of the board's.
func (t *tale) says(pattern string) ([]string, error) {
	return t.rack.Expect(pattern+`\r\n`, stepLimit)
}

func (t *tale) bootloader(context.Context) (string, error) {
	m, err := t.says(`bootloader: (quarantine: [^\r]*|starting the controller, version [^\r,]*)[^\r]*`)
	if err == nil && strings.HasPrefix(m[1], "quarantine") {
		err = errors.New(m[1])
	}
	if err != nil {
		return "", err
	}
	return m[1], nil
}

// provision provisions the board if it asks for that.
func (t *tale) provision(ctx context.Context) (string, error) {
	m, err := t.says(`controller: (provisioning is offered on port|the store is open|quarantine:)[^\r]*`)
	if err != nil || m[1] == "quarantine:" {
		return "", errors.Join(err, errors.New(strings.Join(m, " ")))
	}
	if m[1] == "the store is open" {
		return "done in an earlier run", nil
	}
	address, err := t.rack.Address(provisioningPort)
	if err != nil {
		return "", err
	}
	steps := 0
	record, err := t.bench.provision(ctx, address, func(provisioning.Step) { steps++ })
	if err != nil {
		return "", err
	}
	if !record.Complete {
		return "", errors.New("the factory's record is not complete")
	}
	_, err = t.says(`controller: the store is open: [^\r]*`)
	return fmt.Sprintf("%d steps; EK certified, AK %x", steps, record.AKName[:6]), err
}

func (t *tale) controller(context.Context) (string, error) {
	m, err := t.says(`controller: (policy set of epoch \d+|quarantine:[^\r]*)`)
	if err == nil && strings.HasPrefix(m[1], "quarantine") {
		err = errors.New(m[1])
	}
	return "measured as the release says, unsealed", err
}

// release waits until the host runs, from exactly what was verified.
func (t *tale) release(context.Context) (_ string, err error) {
	m, err := t.says(`controller: host: cycle (\d+): (running|held, code[^\r]*)`)
	if err == nil && m[2] != "running" {
		err = errors.New(m[2])
	}
	if err != nil {
		return "", err
	}
	if t.boot, err = t.rack.Host.AwaitRunning(stepLimit); err != nil {
		return "", err
	}
	if want := sha256.Sum256(t.bench.host.Data); t.boot.Digest != want {
		return "", fmt.Errorf("the host runs from flash with SHA-256 %x, and verified was %x", t.boot.Digest, want)
	}
	return fmt.Sprintf("cycle %s; it runs from flash with SHA-256 %x", m[1], t.boot.Digest[:6]), nil
}

// evidence asks for evidence with a nonce, judges it, and takes the key of TLS from it.
func (t *tale) evidence(ctx context.Context) (string, error) {
	nonce := make([]byte, 32)
	rand.Read(nonce)
	client := &http.Client{Timeout: stepLimit, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // evidence vouches for the key
	defer client.CloseIdleConnections()
	text, shown, err := t.ask(ctx, client, http.MethodPost, "/v1/evidence", fmt.Sprintf(`{"nonce":"%x"}`, nonce))
	if err != nil {
		return "", err
	}
	policy, err := t.bench.policy()
	if err != nil {
		return "", err
	}
	policy.Nonce = nonce
	result, err := verify.Evidence(text, *policy)
	if err != nil {
		return "", err
	}
	if [32]byte(result.Facts.TLSKey) != shown {
		return "", errors.New("the evidence is of another TLS key than the board shows")
	}
	t.pin = hex.EncodeToString(shown[:])
	return fmt.Sprintf("%d checks; TLS key %x is this boot's", len(result.Checks), shown[:6]), nil
}

// tlsKey is the hash of the key that a connection's other end has shown, as evidence has it.
func tlsKey(s *tls.ConnectionState) [sha256.Size]byte {
	return sha256.Sum256(s.PeerCertificates[0].RawSubjectPublicKeyInfo)
}

// ask asks the board for what it answers with 200, and gives the TLS key that it has shown.
func (t *tale) ask(ctx context.Context, client *http.Client, method, path, body string) (text []byte, key [sha256.Size]byte, err error) {
	r, err := http.NewRequestWithContext(ctx, method, "https://"+t.address+path, strings.NewReader(body))
	if err != nil {
		return nil, key, err
	}
	answer, err := client.Do(r)
	if err != nil {
		return nil, key, err
	}
	defer answer.Body.Close()
	text, err = io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.200s", path, answer.Status, text)
	}
	return text, tlsKey(answer.TLS), err
}

// hostSays waits for a step of the host's.
func (t *tale) hostSays(step string, limit time.Duration) (linuxhost.Report, error) {
	m, err := t.boot.Machine.Expect(linuxhost.Prefix+`(?:`+step+` |\w+ failed )[^\r\n]*\r?\n`, limit)
	if err != nil {
		return linuxhost.Report{}, err
	}
	r, ok := linuxhost.Parse(m[0])
	if !ok || !r.OK || r.Step != step {
		return r, fmt.Errorf("the host says %q", strings.TrimSpace(m[0]))
	}
	return r, nil
}

func (t *tale) kernel(context.Context) (string, error) {
	r, err := t.hostSays("kernel", stepLimit)
	return fmt.Sprintf("%s, started by %s", r.Fields["release"], r.Fields["firmware"]), err
}

func (t *tale) metadata(context.Context) (string, error) {
	r, err := t.hostSays("metadata", stepLimit)
	return fmt.Sprintf("secrets of host cycle %s", r.Fields["cycle"]), err
}

// refused expects the board to have shown nothing to another host, nor to the host's name with
// a wrong secret, and to have counted both.
func (t *tale) refused(ctx context.Context) (string, error) {
	if _, err := t.hostSays("refused", stepLimit); err != nil {
		return "", err
	}
	text, err := t.metrics(ctx)
	if err != nil {
		return "", err
	}
	var counted []float64
	for _, reason := range []string{"connection", "authentication"} {
		n, err := metrics.Find(text, `nitro_volume_refused_total{reason="`+reason+`"}`)
		if err != nil {
			return "", err
		}
		counted = append(counted, n)
	}
	if counted[0] < 2 || counted[1] < 1 { // the other host was to connect, and to discover
		return "", fmt.Errorf("the board counts %v refused connections and %v failed authentications", counted[0], counted[1])
	}
	return fmt.Sprintf("no namespace; the board counts %v refused and %v not authenticated", counted[0], counted[1]), nil
}

// metrics asks the board, whose TLS key the evidence has named, for its metrics.
func (t *tale) metrics(ctx context.Context) (string, error) {
	clients := filepath.Join(t.bench.folder, "clients")
	pair, err := tls.LoadX509KeyPair(filepath.Join(clients, string(policy.Operator)+".pem"), filepath.Join(clients, string(policy.Operator)+".key"))
	if err != nil {
		return "", err
	}
	pinned := func(s tls.ConnectionState) error {
		if key := tlsKey(&s); hex.EncodeToString(key[:]) != t.pin {
			return errors.New("the board shows another TLS key than its evidence names")
		}
		return nil
	}
	client := &http.Client{Timeout: stepLimit, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		InsecureSkipVerify: true, VerifyConnection: pinned, Certificates: []tls.Certificate{pair},
	}}}
	defer client.CloseIdleConnections()
	text, _, err := t.ask(ctx, client, http.MethodGet, "/metrics", "")
	return string(text), err
}

func (t *tale) connect(context.Context) (string, error) {
	r, err := t.hostSays("connect", stepLimit)
	return "as " + r.Fields["host"], err
}

// tool runs nitroctl volume, and reads its JSON.
func (t *tale) tool(ctx context.Context, result any, command string, args ...string) error {
	clients := filepath.Join(t.bench.folder, "clients")
	all := []string{"volume", command, "-board", t.address, "-pin", t.pin,
		"-cert", filepath.Join(clients, "storage-control-plane.pem"), "-key", filepath.Join(clients, "storage-control-plane.key"), "-timeout", "5m", "-o", "json"}
	if command == "create" || command == "attach" {
		all = append(all, "-keyservice", fmt.Sprintf("https://127.0.0.1:%d", t.keys.port), "-keyservice-ca", filepath.Join(clients, "ca.pem"))
	}
	ctx, cancel := context.WithTimeout(ctx, stepLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.options.nitroctl, append(all, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := tied.Run(cmd); err != nil {
		return fmt.Errorf("nitroctl volume %s: %w: %s%s", command, err, &out, &errs)
	}
	return json.Unmarshal(out.Bytes(), &struct{ Result any }{result})
}

// A volume is what nitroctl says of one.
type volume struct {
	Volume, Name string
	Size         int64
	Attached     bool
	LeaseSeconds int64 `json:"lease_seconds"`
}

func (t *tale) create(ctx context.Context) (string, error) {
	return t.volume(ctx, volumeName, volumeSize)
}

// volume creates a volume, unless an earlier run has.
func (t *tale) volume(ctx context.Context, name, size string) (string, error) {
	var all struct{ Volumes []volume }
	if err := t.tool(ctx, &all, "list"); err != nil {
		return "", err
	}
	for _, v := range all.Volumes {
		if v.Name == name {
			return fmt.Sprintf("%s is there from an earlier run", v.Volume), nil
		}
	}
	var v volume
	err := t.tool(ctx, &v, "create", "-name", name, "-size", size)
	return fmt.Sprintf("%s, %d MiB", v.Volume, v.Size>>20), err
}

func (t *tale) before() string { return t.folder.Join("before.img") }

// attach attaches the volume; the card as it was before is kept for the search.
func (t *tale) attach(ctx context.Context) (string, error) {
	if err := rack.CopyCard(t.before(), t.bench.card()); err != nil {
		return "", err
	}
	var v volume
	err := t.tool(ctx, &v, "attach", "-standing", "-lease", "12h", volumeName)
	if err == nil && !v.Attached {
		err = errors.New("it is not attached")
	}
	return fmt.Sprintf("wrapped to this boot, lease of %d min", (v.LeaseSeconds+59)/60), err
}

func (t *tale) fileSystem(context.Context) (string, error) {
	n, err := t.hostSays("namespace", stepLimit)
	if err != nil {
		return "", err
	}
	f, err := t.hostSays("filesystem", stepLimit)
	what := "ext4 made on"
	if f.Fields["made"] != "true" {
		what = "the ext4 of an earlier run on"
	}
	return fmt.Sprintf("%s /dev/%s, namespace %s", what, n.Fields["device"], n.Fields["nsid"]), err
}

func (t *tale) works(context.Context) (string, error) {
	w, err := t.hostSays("work", stepLimit)
	if err != nil {
		return "", err
	}
	v, err := t.hostSays("verify", stepLimit)
	return fmt.Sprintf("%s bytes written, %s read and right", w.Fields["bytes"], v.Fields["bytes"]), err
}

func (t *tale) medium(context.Context) (string, error) {
	return noPlaintext(t.before(), t.bench.card(), []byte(t.work.Pattern), workBytes)
}

// restart resets the controller under the host's I/O: the host is adopted, the board asks the
// key service again by itself, and the host goes on.
func (t *tale) restart(context.Context) (string, error) {
	if err := t.resetController(); err != nil {
		return "", err
	}
	r, err := t.hostSays("back", stepLimit)
	if err != nil {
		return "", err
	}
	v, err := t.hostSays("verify", stepLimit)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("adopted; I/O waited %s s, no error; %s bytes right", r.Fields["seconds"], v.Fields["bytes"]), nil
}

// resetController resets the board, and waits until it has adopted the host.
func (t *tale) resetController() error {
	if err := t.rack.Reset(); err != nil {
		return err
	}
	if _, err := t.says(`controller: host: cycle \d+: running, adopted`); err != nil {
		return err
	}
	if t.boot.Ended {
		return errors.New("the host was reset")
	}
	return nil
}

func (t *tale) detach(ctx context.Context) (string, error) {
	// The boot is another one, and so is its TLS key.
	if _, err := t.evidence(ctx); err != nil {
		return "", err
	}
	var v volume
	if err := t.tool(ctx, &v, "detach", volumeName); err != nil {
		return "", err
	}
	_, err := t.hostSays("gone", stepLimit)
	return "the key is zeroed, the namespace is gone", err
}

func (t *tale) again(ctx context.Context) (string, error) {
	var v volume
	if err := t.tool(ctx, &v, "attach", "-standing", "-lease", "12h", volumeName); err != nil {
		return "", err
	}
	r, err := t.hostSays("verify", stepLimit)
	return fmt.Sprintf("%s files, %s bytes right", r.Fields["files"], r.Fields["bytes"]), err
}

// followHost shows what the host says, until it has no power.
func (t *tale) followHost() {
	for {
		m, err := t.boot.Machine.Expect(linuxhost.Prefix+`[^\r\n]*\r?\n`, 365*24*time.Hour) // ends with the machine
		if err != nil {
			return
		}
		fmt.Fprintln(t.out, strings.TrimSpace(m[0]))
	}
}
