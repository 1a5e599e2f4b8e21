package main

import (
	"crypto/hpke"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"nitro/board"
	"nitro/boot/chain"
	"nitro/boot/handover"
	"nitro/net/audit"
	"nitro/net/https"
	"nitro/net/metrics"
	"nitro/net/policy"
	"nitro/net/redfish"
	"nitro/net/sntp"
	"nitro/net/stack"
	"nitro/net/standing"
	"nitro/net/syslog"
	"nitro/net/update"
	"nitro/nvme/key"
	"nitro/nvme/storage"
	"nitro/resetctl"
	"nitro/resetctl/cycle"
	hostfw "nitro/resetctl/firmware"
	"nitro/resetctl/ticket"
)

// firmware is what runs once the board is up.
type firmware struct {
	board       board.Board
	card        board.Card // nil where there is none
	ports       []*stack.Stack
	certificate tls.Certificate
	ready       time.Time
	began       time.Time   // this boot
	battery     bool        // the clock on it had a time
	clock       *sntp.Clock // under the time rules
	phases      []phaseTime // of this boot

	chain    chain.Controller
	strength handover.Strength
	version  string // of the controller, as measured

	mu  sync.Mutex
	why error // of the quarantine; nil in service

	host      atomic.Pointer[resetctl.Controller] // nil where no host is guarded
	ticketKey ticket.Key                          // of the host's tickets

	hostPhase   cycle.Phase               // that the host's control was in last; its goroutine's own
	hostFacts   atomic.Pointer[hostFacts] // nil until the control has begun
	hostRenewed atomic.Bool               // a golden copy was written since the host came to be held

	volumes     atomic.Pointer[storage.Service] // the host's; nil where none are served
	hostSecrets [32]byte                        // what the secrets of its cycles are derived from
	hostStates  chan cycle.State                // of the host, for the volumes; the last one

	volumeEvents     chan storage.Event // for the audit
	volumeEventsLost atomic.Uint64
	strangersEvents  ration // of volumes, in the audit
	hostErases       ration
	leasesRenewed    atomic.Uint64
	leasesNotRenewed atomic.Uint64
	refusedHosts     refusedHosts

	showing      sync.Mutex                     // held while another identity is put in place
	identity     atomic.Pointer[https.Identity] // that TLS shows now
	policy       atomic.Pointer[policy.Set]     // who may do what; nil where the card has no good set
	evidenceOnly atomic.Pointer[policy.Set]     // of quarantine, and where there is no good set; nil: nobody is known
	log          *audit.Log                     // nil in quarantine
	records      recorder
	golden       map[hostfw.Part]*hostfw.Golden // nil where no host is guarded
	updates      *update.Service                // nil where there is no API
	sender       *syslog.Sender                 // nil where the configuration names no collector

	requests     metrics.Requests
	handshakes   atomic.Uint64
	refusals     sync.Mutex
	refusedSoFar audit.Counters // guarded by refusals
	timeAgree    atomic.Int64   // servers
	timeFailures atomic.Uint64
	tpmTrouble   atomic.Pointer[error] // of the last look at it

	wrapping                     hpke.PrivateKey // of this boot, for secrets that are sent to the board
	recipient                    *key.Recipient  // of this boot, for keys in envelopes
	tlsKey                       [sha256.Size]byte
	ekCertificate, akCertificate []byte // DER; nil where there is none
}

// A phaseTime is what a phase of the boot took.
type phaseTime struct {
	name string
	took time.Duration
}

// count adds to what was refused before it was known who asks, since the boot: the log's
// own counters end with it.
func (f *firmware) count(add func(*audit.Counters)) {
	f.refusals.Lock()
	defer f.refusals.Unlock()
	add(&f.refusedSoFar)
}

// refused is what was refused so far.
func (f *firmware) refused() audit.Counters {
	f.refusals.Lock()
	defer f.refusals.Unlock()
	return f.refusedSoFar
}

// reason is why the board is in quarantine; nil in service.
func (f *firmware) reason() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.why
}

// setReason puts the board into quarantine, unless it is there.
func (f *firmware) setReason(why error) (first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.why != nil || why == nil {
		return false
	}
	f.why = why
	return true
}

const httpsPort = 443

// makeIdentity makes this boot's TLS key and a certificate that it signs itself: the
// quote of PCR 8 vouches for the key.
func (f *firmware) makeIdentity() (err error) {
	if f.certificate, err = https.SelfSigned(hostname); err != nil {
		return err
	}
	log.Printf("certificate: SHA-256 %x", sha256.Sum256(f.certificate.Certificate[0]))
	return f.bindIdentity()
}

// serve opens the HTTPS port on the management port, and on no other.
func (f *firmware) serve() error {
	id, err := f.board.UniqueID()
	if err != nil {
		return err
	}
	l, err := f.ports[0].Listen("tcp", ":"+strconv.Itoa(httpsPort))
	if err != nil {
		return err
	}
	f.showIdentity()
	if err := f.openUpdates(id); err != nil {
		return err
	}
	c := https.Config{Identity: f.identity.Load, Routes: f.routes(id), Refuse: http.HandlerFunc(redfish.Stranger), Failed: f.failed, Opened: func() { f.handshakes.Add(1) }, Now: f.clientTime}
	f.ready = time.Now()
	go func() {
		// Without its API the board is of no use to anybody: reset it.
		log.Fatal(https.Serve(l, c))
	}()
	if f.log != nil {
		go f.signLog()
		go f.keepTime()
		if f.makeSender(); f.sender != nil {
			go f.sendLog()
		}
	}
	return nil
}

// health answers that the firmware serves: since how many seconds, and on what board.
// Being in service is "ready"; anything else says so.
func (f *firmware) health(w http.ResponseWriter, _ *http.Request) {
	s := f.Status()
	state, status := "ready", http.StatusOK
	if s.State != standing.InService {
		state, status = s.State, http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(struct {
		Status   string `json:"status"`
		Board    string `json:"board"`
		Emulated bool   `json:"emulated"`
		Seconds  int64  `json:"ready_seconds"`
	}{state, s.Board, s.Emulated, s.Seconds})
}

// serviceUUID names a board's service: a UUID of version 8 (RFC 9562, 5.8) from the
// chip's number, so the same over all boots.
func serviceUUID(id uint64) string {
	u := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("nitro redfish service"), id))
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}
