package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"nitro/boot/chain"
	"nitro/boot/medium"
	"nitro/boot/store"
	"nitro/net/audit"
	"nitro/net/keyservice"
	"nitro/net/policy"
	"nitro/nvme/key"
	"nitro/nvme/pool"
	"nitro/nvme/storage"
	"nitro/nvme/target"
	"nitro/resetctl/cycle"
)

// Sizes and times of the host's volumes.
const (
	maxLease    = 24 * time.Hour // the longest that a grant may last
	ramVolumes  = 128 << 20      // bytes of memory that volumes may take, of the board's 512 MiB
	poolMinimum = 8 << 20        // bytes: less than that of a card is no pool
)

// openVolumes makes the board serve volumes to its host, where it is in service and has
// somebody to serve.
func (f *firmware) openVolumes() error {
	defer clear(f.hostSecrets[:])
	c := &f.chain
	if f.reason() != nil || !c.Provisioned {
		return nil
	}
	if len(f.ports) < 2 {
		log.Printf("volumes: %s has no port to a host: it serves none", f.board.Name())
		return nil
	}
	s, err := f.newVolumes()
	if err != nil {
		log.Printf("volumes: none are served in this boot: %v", err)
		return nil
	}
	f.volumes.Store(s)
	if f.reason() != nil { // it came while the volumes were opened, and found none to close
		s.Close()
		return nil
	}
	f.forgetErasedOfNone(s)
	go f.serveVolumes(s)
	go f.serveMetadata(s)
	go f.followHost(s)
	go f.noteVolumes()
	go s.Renew(context.Background(), keySource{f}) // until s is closed
	return nil
}

func (f *firmware) newVolumes() (*storage.Service, error) {
	id, err := f.board.UniqueID()
	if err != nil {
		return nil, err
	}
	keys, err := f.keyConfig()
	if err != nil {
		return nil, err
	}
	c := &f.chain
	config := storage.Config{
		Memory: ramVolumes, Keys: keys, HostNQN: f.nqn("host"), Secrets: f.hostSecrets, Store: volumeStore{c.Store}, Notify: f.observeVolumes,
		MayErase: func() bool { return f.hostErases.take(f.up()) },
		Servers:  f.storageServers, BoardNQN: f.nqn("initiator"), BoardID: f.uuid("host id"),
		Target: target.Config{
			SubsystemNQN: f.nqn("subsystem"), Advertise: netip.AddrPortFrom(hostAddress.Addr(), storage.PortIO),
			Serial: fmt.Sprintf("%016x", id), Model: "Nitro Controller", Firmware: f.version[:min(len(f.version), 8)],
		},
	}
	defer clear(config.Secrets[:])
	config.Pool, config.PoolFault = f.openPool()
	if config.PoolFault != nil {
		log.Printf("volumes: %v", config.PoolFault)
	} else {
		n := config.Pool.Space()
		log.Printf("volumes: pool of %d MiB, %d free", n.Total*pool.ExtentSize>>20, n.Free*pool.ExtentSize>>20)
	}
	return storage.New(config)
}

// storageServers are those on which the owner lets volumes lie, by the configuration in
// force. They are on the management network: the host's wire leads to the host alone.
func (f *firmware) storageServers() map[string]storage.Server {
	all := map[string]storage.Server{}
	for _, s := range f.chain.Configuration().StorageServers {
		all[s.Name] = storage.Server{SubsystemNQN: s.SubsystemNQN, Dial: func(ctx context.Context) (net.Conn, error) {
			return f.ports[0].Dial(ctx, "tcp", s.Address.String())
		}}
	}
	return all
}

// uuid names something of this board's, the same in all boots: version 8 (RFC 9562, 5.8),
// from the attestation key's name.
func (f *firmware) uuid(of string) (u [16]byte) {
	d := sha256.Sum256(append([]byte("nitro nvme "+of+"\x00"), f.chain.AK.Name.Buffer...))
	copy(u[:], d[:])
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return u
}

// nqn is a name of this board's of the form with a UUID (NVM Express Base 2.0, 4.5).
func (f *firmware) nqn(of string) string {
	u := f.uuid(of)
	return fmt.Sprintf("nqn.2014-08.org.nvmexpress:uuid:%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// keyConfig is how keys come; nil where the configuration names no key service.
func (f *firmware) keyConfig() (*key.Config, error) {
	c := &f.chain
	if c.Config.KeyService == nil {
		log.Print("volumes: the configuration names no key service: none can be attached")
		return nil, nil
	}
	// Pages of their own, beside the heap: the collector moves and copies nothing there.
	memory, err := unix.Mmap(-1, 0, key.ArenaSize(storage.MaxAttached), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("memory for keys: %w", err)
	}
	arena, err := key.NewArena(memory)
	if err != nil {
		return nil, err
	}
	signer, err := newLogSigner(c)
	if err != nil {
		return nil, err
	}
	return &key.Config{
		Arena: arena, Service: c.Config.KeyService.Key, AK: c.AK.Name.Buffer, Wrapping: f.wrapping, Recipient: f.recipient, Clock: tpmClock{c}, Signer: signer, MaxLease: maxLease,
	}, nil
}

// openPool opens the pool on the rest of the card. The first time it is made: the store,
// which cannot be rolled back, says whether there ever was one.
func (f *firmware) openPool() (*pool.Pool, error) {
	c := &f.chain
	place := medium.Pool(int64(f.card.Blocks()) * int64(f.card.BlockSize()))
	if place.Size < poolMinimum {
		return nil, fmt.Errorf("the card has %d bytes behind the store, and a pool needs %d", max(place.Size, 0), poolMinimum)
	}
	k, err := poolKey(c.Store)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	witness := poolWitness{c.Store}
	config := pool.Config{Device: f.card, Offset: place.Offset, Size: place.Size, Key: k, Witness: witness, Erase: eraseSecret{c}}
	era, err := witness.Era()
	if err != nil {
		return nil, err
	}
	if era == 0 {
		log.Printf("volumes: the card gets a pool of %d MiB", place.Size>>20)
		if err := pool.Format(config); err != nil {
			return nil, err
		}
		if err := c.Store.Checkpoint(); err != nil {
			return nil, err
		}
	}
	return pool.Open(config)
}

// serveVolumes serves the host on its own wire, once it may connect.
func (f *firmware) serveVolumes(s *storage.Service) {
	err := s.Serve(func(port uint16) (net.Listener, error) {
		return f.ports[1].Listen("tcp", ":"+strconv.Itoa(int(port)))
	})
	if !errors.Is(err, storage.ErrClosed) && !errors.Is(err, target.ErrTargetClosed) {
		log.Printf("volumes: %v", err)
	}
}

// hasHost tells whether the host runs, or is about to: it is verified, and its cycle was
// measured.
func hasHost(s cycle.State) bool { return s.Phase >= cycle.HandingOver && s.Phase <= cycle.Stopping }

// tellVolumes has the volumes follow the host. It does not wait for them: only the last
// state counts.
func (f *firmware) tellVolumes(s cycle.State) {
	select {
	case <-f.hostStates:
	default:
	}
	f.hostStates <- s // one sends, so there is room
}

// followHost begins and ends host cycles.
func (f *firmware) followHost(s *storage.Service) {
	asked := uint64(0)
	for now := range f.hostStates {
		if !hasHost(now) {
			s.EndCycle()
			continue
		}
		if err := s.BeginCycle(now.Cycle, now.Adopted); err != nil && !errors.Is(err, storage.ErrClosed) {
			log.Printf("volumes: host cycle %d: %v", now.Cycle, err)
		}
		if now.Adopted && now.Cycle != asked && len(s.Standing()) > 0 {
			asked = now.Cycle
			go f.askAgain(s)
		}
	}
}

// askAgain asks the key service for the keys of volumes that an adopted host had.
func (f *firmware) askAgain(s *storage.Service) {
	ctx, cancel := context.WithTimeout(context.Background(), storage.ReattachLimit)
	defer cancel()
	s.Reattach(ctx, keySource{f})
}

// keySource is the key service of the configuration in force. It implements
// storage.KeySource. Its questions are few, and each has a client of its own: the
// configuration may have changed.
type keySource struct{ f *firmware }

func (k keySource) client() (*keyservice.Client, error) {
	service := k.f.chain.Configuration().KeyService
	if service == nil || service.URL == "" {
		return nil, storage.ErrNoSource
	}
	roots := x509.NewCertPool()
	roots.AddCert(service.CA)
	return keyservice.New(keyservice.Setup{URL: service.URL, Roots: roots, Dial: k.f.ports[0].Dial, Time: k.f.clientTime})
}

// Key implements storage.KeySource.
func (k keySource) Key(ctx context.Context, volume [16]byte, request []byte) (grant, wrapped []byte, err error) {
	client, err := k.client()
	if err != nil {
		return nil, nil, err
	}
	defer client.Close()
	g, err := client.Obtain(ctx, keyservice.Ask{Volume: volume, Standing: true, Lease: maxLease},
		func(_ context.Context, challenge [key.ChallengeSize]byte) ([]byte, []byte, error) {
			nonce := key.EvidenceNonce(challenge, request)
			evidence, err := k.f.Evidence(nonce[:])
			return request, evidence, err
		})
	return g.Grant, g.Wrapped, err
}

// Confirm implements storage.KeySource.
func (k keySource) Confirm(ctx context.Context, grant, confirmation []byte) error {
	client, err := k.client()
	if err != nil {
		return err
	}
	defer client.Close()
	return client.Confirm(ctx, grant, confirmation)
}

// observeVolumes tells the log what happens to volumes, and has the audit record what no
// request asked for. What strangers can cause at will, such as a host that is refused, is
// counted and not recorded: it would fill the log, and wear out the TPM's freshness counter. What a
// storage server or the way to a key service causes is recorded as often as ration says.
func (f *firmware) observeVolumes(e storage.Event) {
	text := "volumes: " + e.Kind
	if e.Volume != [16]byte{} {
		text += fmt.Sprintf(", %x", e.Volume)
	}
	if e.Cycle != 0 {
		text += fmt.Sprintf(", host cycle %d", e.Cycle)
	}
	if e.Remote != "" {
		text += ", " + e.Remote
	}
	if e.Err != nil {
		text += fmt.Sprintf(": %.300v", e.Err)
	}
	log.Print(text)
	switch e.Kind {
	case storage.EventRenewed:
		f.leasesRenewed.Add(1)
	case storage.EventNotRenewed:
		f.leasesNotRenewed.Add(1)
	}
	f.refusedHosts.count(e.Kind)
	if volumeActions[e.Kind] == "" {
		return
	}
	if strangersCause[e.Kind] && !f.strangersEvents.take(f.up()) {
		f.volumeEventsLost.Add(1)
		return
	}
	select {
	case f.volumeEvents <- e:
	default:
		f.volumeEventsLost.Add(1)
	}
}

// volumeActions are the names of events in the audit.
var volumeActions = map[string]string{
	storage.EventAttached: "volumeAttached", storage.EventDetached: "volumeDetached", storage.EventExpired: "leaseExpired",
	storage.EventReattach: "keyNotGiven", storage.EventServerLost: "storageServerLost", storage.EventHostErased: "volumeErasedByHost",
	storage.EventRenewed: "leaseRenewed", storage.EventNotRenewed: "leaseNotRenewed",
}

// strangersCause are those events that a storage server, a key service or the way to one
// can cause as often as it likes.
var strangersCause = map[string]bool{
	storage.EventServerLost: true, storage.EventReattach: true, storage.EventRenewed: true, storage.EventNotRenewed: true,
}

// refusedHosts counts what the target has refused, by whoever is on the host's wire.
type refusedHosts struct{ connection, authentication, protocol atomic.Uint64 }

// count counts an event of the target's, if it tells a refusal.
func (r *refusedHosts) count(kind string) {
	switch kind {
	case target.EventRefused:
		r.connection.Add(1)
	case target.EventFailed:
		r.authentication.Add(1)
	case target.EventProtocol:
		r.protocol.Add(1)
	}
}

// Limits of what others cause. Of events of volumes in the audit, a day of the worst is
// three segments of the log, of 256, and three steps of the TPM's counter. Of erases of the
// host's (docs/volumes.md, "By the host") ten years of the worst are 88,000 writes of an
// index of the TPM's, and as many steps.
const (
	eventsMost  = 16
	eventsEvery = 10 * time.Minute
	erasesMost  = 8
	erasesEvery = time.Hour
)

// A ration is how often something may happen that others cause: most times at once, and once
// more each every.
type ration struct {
	most  int
	every time.Duration

	mu   sync.Mutex
	used int
	at   time.Duration // since the boot: until when used is counted
}

// take takes one, if there is one, at a time since the boot.
func (r *ration) take(now time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	back := int((now - r.at) / r.every)
	r.used = max(r.used-back, 0)
	r.at += time.Duration(back) * r.every
	if r.used >= r.most {
		return false
	}
	r.used++
	return true
}

// noteVolumes records events of volumes. They come while the volumes are busy, and a record
// waits for the card.
func (f *firmware) noteVolumes() {
	for e := range f.volumeEvents {
		detail := fmt.Sprintf("host cycle %d", e.Cycle)
		if e.Err != nil {
			detail += fmt.Sprintf(": %.200v", e.Err)
		}
		if e.Sanitised != nil {
			detail += ": " + f.certifyErase(e)
		}
		f.note(audit.Event{Action: volumeActions[e.Kind], Type: string(policy.Volume), Resource: volumePath(e.Volume), Detail: detail})
	}
}

// A tpmClock is the TPM's, in its turn on the bus.
type tpmClock struct{ c *chain.Controller }

// Clock implements key.Clock.
func (t tpmClock) Clock() (uint64, error) {
	t.c.Bus.Lock()
	defer t.c.Bus.Unlock()
	return t.c.T.Clock(t.c.Session)
}

// An eraseSecret is the TPM's, in its turn on the bus. In quarantine there is none.
type eraseSecret struct{ c *chain.Controller }

// EraseSecret implements pool.EraseSecret.
func (e eraseSecret) EraseSecret() ([]byte, error) {
	e.c.Bus.Lock()
	defer e.c.Bus.Unlock()
	return e.c.NV.EraseSecret()
}

// EraseAll implements pool.EraseSecret.
func (e eraseSecret) EraseAll(secret [32]byte) error {
	e.c.Bus.Lock()
	defer e.c.Bus.Unlock()
	return e.c.NV.EraseAll(secret)
}

// The volumes' records in the store.
const (
	poolKeyName  = "pool/key"         // 32 bytes
	poolEraName  = "pool/era"         // 8 bytes, little endian
	standingName = "volumes/standing" // docs/volumes.md, "Over a restart of the board"
)

// record reads a record of a size; nil if there is none.
func record(s *store.Store, name string, size int) ([]byte, error) {
	b, err := s.Get(name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("store: %s: %w", name, err)
	case len(b) != size:
		return nil, fmt.Errorf("store: %s: %d bytes, not %d", name, len(b), size)
	}
	return b, nil
}

// poolKey is the key of the pool's table, which is made when it is first wanted.
func poolKey(s *store.Store) ([]byte, error) {
	k, err := record(s, poolKeyName, pool.KeySize)
	if k != nil || err != nil {
		return k, err
	}
	k = make([]byte, pool.KeySize)
	rand.Read(k)
	return k, s.Put(poolKeyName, k)
}

// A poolWitness keeps the pool's era in the store.
type poolWitness struct{ s *store.Store }

// Era implements pool.Witness.
func (w poolWitness) Era() (uint64, error) {
	b, err := record(w.s, poolEraName, 8)
	if b == nil || err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

// SetEra implements pool.Witness.
func (w poolWitness) SetEra(era uint64) error {
	return w.s.Put(poolEraName, binary.LittleEndian.AppendUint64(nil, era))
}

// A volumeStore keeps standing leases and places of remote volumes in the store.
type volumeStore struct{ s *store.Store }

// Standing implements storage.Store.
func (k volumeStore) Standing() ([]byte, error) {
	b, err := k.s.Get(standingName)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return b, err
}

// SetStanding implements storage.Store.
func (k volumeStore) SetStanding(b []byte) error { return k.s.Put(standingName, b) }

// Place implements storage.Store.
func (k volumeStore) Place(id [16]byte) ([]byte, error) {
	b, err := k.s.Get(placeName(id))
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	return b, err
}

// SetPlace implements storage.Store.
func (k volumeStore) SetPlace(id [16]byte, place []byte) error {
	if place != nil {
		return k.s.Put(placeName(id), place)
	}
	if b, err := k.Place(id); b == nil {
		return err
	}
	return k.s.Delete(placeName(id))
}

// Places implements storage.Store.
func (k volumeStore) Places() ([][16]byte, error) { return identities(k.s, placePrefix) }

const placePrefix = "volumes/place/"

func placeName(id [16]byte) string { return fmt.Sprintf("%s%x", placePrefix, id) }

// identities lists those of which there are records with a prefix.
func identities(s *store.Store, prefix string) (ids [][16]byte, err error) {
	names, err := s.List(prefix)
	for _, name := range names {
		id, err := hex.DecodeString(strings.TrimPrefix(name, prefix))
		if err != nil || len(id) != 16 {
			return nil, fmt.Errorf("store: a record of the name %.80q", name)
		}
		ids = append(ids, [16]byte(id))
	}
	return ids, err
}

// Settle implements storage.Store.
func (k volumeStore) Settle() error { return k.s.Checkpoint() }
