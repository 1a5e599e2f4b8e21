package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"nitro/internal/insncount"
	"nitro/internal/peer"
	"nitro/net/https"
	"nitro/net/policy"
	"nitro/net/redfish"
)

// What is asked of the API, and how long an answer may take.
const (
	apiClients  = 8    // each keeps one connection
	apiWarm     = 400  // requests that are not measured
	apiRequests = 2400 // that are, together: p99 leaves 24 above it; two audit records each fit the log
	answerLimit = 2 * time.Minute
)

// apiPaths are what the clients ask for: an auditor may read everything.
var apiPaths = []string{
	"/redfish/v1/", "/redfish/v1/Systems/host", "/redfish/v1/Managers/controller", "/redfish/v1/Chassis/controller", "/redfish/v1/UpdateService/FirmwareInventory",
}

// apiArea measures the API of a provisioned board: what a request takes over connections that
// are kept, each being authenticated, authorised and twice recorded in the encrypted store;
// and what a TLS 1.3 handshake takes the board, in which both sides show a P-256 certificate.
//
//	api.p50, api.p99      ms until the last byte of the answer, at 8 clients
//	api.batches, .sectors, .steps
//	                      of the encrypted store a request: batches committed, sectors written,
//	                      steps of the TPM's freshness counter
//	tls.handshake         instructions of a handshake with X25519, OpenSSL's s_server on Linux
//	                      beside it
//	tls.handshake_hybrid  the same with X25519MLKEM768, which Debian 12's OpenSSL 3.0 has not
func (b *bench) apiArea(ctx context.Context) error {
	c, err := b.provisioned(ctx, nil)
	if err != nil {
		return err
	}
	defer os.RemoveAll(c.folder)
	if err := b.apiLatency(ctx, c); err != nil {
		return fmt.Errorf("api: %w", err)
	}
	return b.handshakes(ctx, c)
}

// apiLatency measures requests.
func (b *bench) apiLatency(ctx context.Context, c *chain) error {
	board, err := c.inService()
	if err != nil {
		return err
	}
	defer board.stop()
	pair, err := c.factory.Clients.Certificate(policy.Auditor, "bench")
	if err != nil {
		return err
	}
	var clients [apiClients]*http.Client
	for i := range clients {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, Certificates: []tls.Certificate{pair}}, MaxConnsPerHost: 1}
		defer transport.CloseIdleConnections()
		clients[i] = &http.Client{Timeout: answerLimit, Transport: transport}
	}
	base := "https://" + board.address()
	if _, err := askAll(ctx, clients[:], base, apiWarm); err != nil {
		return err
	}
	before, err := storeCounts(ctx, clients[0], base)
	if err != nil {
		return err
	}
	took, err := askAll(ctx, clients[:], base, apiRequests)
	if err != nil {
		return err
	}
	after, err := storeCounts(ctx, clients[0], base)
	if err != nil {
		return err
	}
	slices.Sort(took)
	for _, p := range []int{50, 99} {
		b.report(figure{Name: fmt.Sprintf("api.p%d", p), Value: ms(percentile(took, p)), Unit: "ms"})
	}
	for i, c := range storeCounters {
		b.report(figure{Name: "api." + c.figure, Value: (after[i] - before[i]) / apiRequests, Unit: c.figure})
	}
	return nil
}

// storeCounters are what the board's metrics have of the store's work.
var storeCounters = [...]struct{ figure, metric string }{
	{"batches", "nitro_store_batches_total"}, {"sectors", "nitro_store_sectors_written_total"}, {"steps", "nitro_store_counter_steps_total"},
}

// storeCounts reads them.
func storeCounts(ctx context.Context, c *http.Client, base string) (counts [len(storeCounters)]float64, err error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+redfish.MetricsPath, nil)
	if err != nil {
		return counts, err
	}
	answer, err := c.Do(r)
	if err != nil {
		return counts, err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return counts, err
	}
	for i, c := range storeCounters {
		_, rest, found := strings.Cut(string(text), "\n"+c.metric+" ")
		if _, err := fmt.Sscan(rest, &counts[i]); !found || err != nil {
			return counts, fmt.Errorf("metrics: no %s, status %s", c.metric, answer.Status)
		}
	}
	return counts, nil
}

// percentile is the smallest of sorted values that so many of a hundred do not exceed.
func percentile(sorted []time.Duration, p int) time.Duration {
	return sorted[(len(sorted)*p+99)/100-1]
}

// askAll has each client ask for its share of so many requests, and gives what each took.
func askAll(ctx context.Context, clients []*http.Client, base string, requests int) (took []time.Duration, err error) {
	var all sync.WaitGroup
	var mu sync.Mutex
	for i, c := range clients {
		all.Go(func() {
			for n := range requests / len(clients) {
				start := time.Now()
				failed := ask(ctx, c, base+apiPaths[(i+n)%len(apiPaths)])
				mu.Lock()
				took, err = append(took, time.Since(start)), errors.Join(err, failed)
				mu.Unlock()
				if failed != nil {
					return
				}
			}
		})
	}
	all.Wait()
	return took, err
}

// ask reads an answer to its end.
func ask(ctx context.Context, c *http.Client, url string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	answer, err := c.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		return err
	}
	if answer.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, answer.Status)
	}
	return nil
}

// inService switches a provisioned board on, and waits until it has nothing to do but to serve.
func (c *chain) inService(further ...string) (*server, error) {
	board, _, err := c.on(further...)
	if err != nil {
		return nil, err
	}
	if _, err = board.Expect(provenLine, chainLimit); err != nil {
		board.Close()
		return nil, err
	}
	address, err := board.Address(httpsPort)
	if err != nil {
		board.Close()
		return nil, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		board.Close()
		return nil, err
	}
	n, err := strconv.Atoi(port)
	return &server{name: "the firmware", port: n, stop: board.Close}, err
}

const httpsPort = 443

// address is where a server is reached from this machine.
func (s *server) address() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// How many handshakes there are in the two times of power of which the difference is taken,
// so that what a boot takes falls out.
const (
	fewHandshakes  = 10
	manyHandshakes = 110
)

// handshakes measures both sides.
func (b *bench) handshakes(ctx context.Context, c *chain) error {
	var images []*insncount.Symbols
	for _, file := range []string{c.bootloader, c.controller} {
		s, err := insncount.ReadSymbols(file)
		if err != nil {
			return err
		}
		images = append(images, s)
	}
	pair, err := c.factory.Clients.Certificate(policy.Auditor, "bench")
	if err != nil {
		return err
	}
	ours := func(_ context.Context, further ...string) (*server, error) { return c.inService(further...) }
	theirs, err := opensslServer(c.folder, c.factory.Clients.CA)
	if err != nil {
		return err
	}
	mine, err := b.perHandshake(ctx, ours, client(pair, tls.X25519), images...)
	if err != nil {
		return fmt.Errorf("tls.handshake: %w", err)
	}
	peers, err := b.perHandshake(ctx, theirs, client(pair, tls.X25519))
	if err != nil {
		return fmt.Errorf("tls.handshake of OpenSSL: %w", err)
	}
	b.report(figure{Name: "tls.handshake", Value: mine, Unit: "instructions", Peer: "openssl-" + opensslVersion, PeerValue: peers})
	hybrid, err := b.perHandshake(ctx, ours, client(pair, tls.X25519MLKEM768), images...)
	if err != nil {
		return fmt.Errorf("tls.handshake_hybrid: %w", err)
	}
	b.report(figure{Name: "tls.handshake_hybrid", Value: hybrid, Unit: "instructions"})
	return nil
}

// client is the configuration of a client that shows a certificate and offers one group.
func client(pair tls.Certificate, group tls.CurveID) *tls.Config {
	return &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{pair}, CurvePreferences: []tls.CurveID{group}}
}

// perHandshake counts a handshake's instructions, without those of the idle threads of images.
// Both times of power last equally long once the server is ready, since a board has other
// things to do now and then.
func (b *bench) perHandshake(ctx context.Context, start starter, c *tls.Config, images ...*insncount.Symbols) (float64, error) {
	many, window, err := b.countHandshakes(ctx, start, c, manyHandshakes, 0, images)
	if err != nil {
		return 0, err
	}
	few, _, err := b.countHandshakes(ctx, start, c, fewHandshakes, window, images)
	return math.Round((many - few) / (manyHandshakes - fewHandshakes)), err
}

// countHandshakes counts all instructions of a time of power in which so many handshakes are
// made, and which goes on for at least so long after the server is ready.
func (b *bench) countHandshakes(ctx context.Context, start starter, c *tls.Config, n int, window time.Duration, images []*insncount.Symbols) (insns float64, took time.Duration, err error) {
	plugin, read, err := b.profiler(ctx, insncount.ProfileOptions{})
	if err != nil {
		return 0, 0, err
	}
	s, err := start(ctx, plugin...)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	for range n {
		if err = shake(ctx, s.address(), c); err != nil {
			break
		}
	}
	time.Sleep(max(0, window-time.Since(began)))
	took = time.Since(began)
	s.stop() // the plugin writes its result then
	if err != nil {
		return 0, 0, err
	}
	p, err := read()
	if err != nil {
		return 0, 0, err
	}
	total := p.Total().Insns
	for _, symbols := range images {
		for _, f := range p.Functions(symbols) {
			if f.Name == idleFunction {
				total -= f.Insns
			}
		}
	}
	return float64(total), took, nil
}

// shake makes a handshake, and waits until the server has taken the client's part of it: in
// TLS 1.3 that comes last, and what is wrong with it comes as an alert.
func shake(ctx context.Context, address string, c *tls.Config) error {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	conn, err := (&tls.Dialer{Config: c}).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(answerLimit))
	if err := conn.(*tls.Conn).CloseWrite(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}

// opensslVersion is that of Debian 12's OpenSSL.
const opensslVersion = "3.0"

// opensslServer gives what starts OpenSSL's server on Linux, with a certificate like the
// board's, which takes clients of a CA alone and gives no tickets, as the firmware does.
func opensslServer(folder string, ca *x509.Certificate) (starter, error) {
	program, err := peer.Program("openssl")
	if err != nil {
		return nil, err
	}
	own, err := https.SelfSigned("bench")
	if err != nil {
		return nil, err
	}
	key, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		return nil, err
	}
	files := map[string]string{}
	for name, block := range map[string]*pem.Block{
		"/cert.pem": {Type: "CERTIFICATE", Bytes: own.Certificate[0]}, "/key.pem": {Type: "PRIVATE KEY", Bytes: key}, "/ca.pem": {Type: "CERTIFICATE", Bytes: ca.Raw},
	} {
		files[name] = filepath.Join(folder, name)
		if err := os.WriteFile(files[name], pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, err
		}
	}
	args := []string{"s_server", "-accept", strconv.Itoa(httpsPort), "-www", "-tls1_3", "-num_tickets", "0", "-cert", "/cert.pem", "-key", "/key.pem",
		"-CAfile", "/ca.pem", "-Verify", "1", "-verify_return_error", "-attime", strconv.FormatInt(time.Now().Unix(), 10)} // it has no clock
	return func(ctx context.Context, further ...string) (*server, error) {
		return onLinux(ctx, peer.Job{Program: program, Args: args, Files: files, QEMUArgs: further, Limit: linuxLimit, Network: true})
	}, nil
}

// onLinux starts a server on Linux and waits until it takes connections.
func onLinux(ctx context.Context, job peer.Job) (*server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	job.Forward = map[int]int{port: httpsPort}
	ctx, cancel := context.WithCancel(ctx)
	listens := make(chan struct{})
	ended := make(chan error, 1)
	job.Live = &listening{said: listens}
	go func() {
		r, err := peer.Run(ctx, job)
		ended <- fmt.Errorf("the server has ended: %w\n%s", err, r.Output)
	}()
	s := &server{name: "openssl on Linux", port: port, stop: func() { cancel(); <-ended }}
	select {
	case <-listens:
		return s, nil
	case err := <-ended:
		cancel()
		return nil, err
	}
}

// A listening hears when OpenSSL's server takes connections.
type listening struct {
	said chan struct{}
	text []byte
	once sync.Once
}

// Write implements io.Writer, for one writer.
func (l *listening) Write(p []byte) (int, error) {
	if l.text = append(l.text, p...); bytes.Contains(l.text, []byte("ACCEPT")) {
		l.once.Do(func() { close(l.said) })
	}
	return len(p), nil
}
