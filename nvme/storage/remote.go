package storage

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"nitro/nvme/dhchap"
	"nitro/nvme/initiator"
	"nitro/nvme/pool"
	"nitro/nvme/remote"
	"nitro/nvme/volume"
)

// A Server is a storage server that the owner allows (docs/medium.md, storage_servers).
type Server struct {
	Dial         func(context.Context) (net.Conn, error) // for each queue
	SubsystemNQN string
}

// A Place is where a remote volume is.
type Place struct {
	Server    string // name of one that is allowed
	Namespace uint32 // there

	// Secret is what the board proves itself with to the server, and Opposite what the
	// server has to prove itself with: DHHC-1, or "" if the server wants none. They are
	// for Create; a State does not have them. Afterwards the store has them, and memory
	// only while the volume is attached, as bytes that are zeroed then.
	Secret, Opposite string
}

// known is a place without its secrets.
func (p Place) known() Place { return Place{Server: p.Server, Namespace: p.Namespace} }

// Format of a place in the store (docs/volumes.md, "Remote volumes").
const (
	placeMagic  = "NCPLACE1"
	maxServer   = 64  // bytes of a server's name
	maxSecret   = 256 // bytes of a secret's text
	placeHeader = len(placeMagic) + 4
)

// encode writes a place for the store.
func (p Place) encode() []byte {
	b := binary.LittleEndian.AppendUint32([]byte(placeMagic), p.Namespace)
	for _, s := range []string{p.Server, p.Secret, p.Opposite} {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(s)))
		b = append(b, s...)
	}
	return b
}

// secrets are the texts of a place's two: bytes, which their owner zeroes.
type secrets [2][]byte

func (t secrets) zero() {
	clear(t[0])
	clear(t[1])
}

// parsePlace reads what encode wrote. The secrets lie in b.
func parsePlace(b []byte) (p Place, texts secrets, err error) {
	if len(b) < placeHeader || string(b[:len(placeMagic)]) != placeMagic {
		return p, texts, ErrPlace
	}
	p.Namespace = binary.LittleEndian.Uint32(b[len(placeMagic):])
	b = b[placeHeader:]
	var server []byte
	for _, text := range []*[]byte{&server, &texts[0], &texts[1]} {
		if len(b) < 2 {
			return Place{}, secrets{}, ErrPlace
		}
		n := int(binary.LittleEndian.Uint16(b))
		if n > maxSecret || n > len(b)-2 {
			return Place{}, secrets{}, ErrPlace
		}
		*text, b = b[2:2+n], b[2+n:]
	}
	if len(b) > 0 {
		return Place{}, secrets{}, ErrPlace
	}
	p.Server = string(server)
	return p, texts, nil
}

// check refuses what no place can be.
func (p Place) check() error {
	if p.Server == "" || len(p.Server) > maxServer || p.Namespace == 0 || len(p.Secret) > maxSecret || len(p.Opposite) > maxSecret {
		return fmt.Errorf("%w: a remote volume needs a server's name of at most %d characters, and a namespace", ErrSpec, maxServer)
	}
	return nil
}

// initiator is how the server of a place is reached. The configuration has the secrets,
// which forget zeroes.
func (s *Service) initiator(p Place, texts secrets) (c initiator.Config, err error) {
	server, allowed := s.server(p.Server)
	if !allowed {
		return c, fmt.Errorf("%w: %.64q", ErrNoServer, p.Server)
	}
	c = initiator.Config{Dial: server.Dial, SubsystemNQN: server.SubsystemNQN, HostNQN: s.conf.BoardNQN, HostID: s.conf.BoardID,
		HeaderDigest: true, DataDigest: true}
	for i, to := range []**dhchap.Secret{&c.Secret, &c.Opposite} {
		if len(texts[i]) == 0 {
			continue
		}
		*to = new(dhchap.Secret)
		if err := (*to).Set(texts[i]); err != nil {
			forget(c)
			return c, fmt.Errorf("%w: the server's secret: %w", ErrSpec, err)
		}
	}
	return c, nil
}

// forget zeroes the secrets of a configuration that is used no more.
func forget(c initiator.Config) {
	for _, k := range []*dhchap.Secret{c.Secret, c.Opposite} {
		if k != nil {
			k.Zero()
		}
	}
}

// server finds one that the owner allows.
func (s *Service) server(name string) (Server, bool) {
	server, allowed := s.conf.Servers()[name]
	return server, allowed
}

// remoteVolume is a volume on a storage server. The pool has its entry, its commitment and
// its salt, so that it is erased as others are; no data is ever in the pool.
type remoteVolume struct {
	poolVolume
	s     *Service
	at    Place // without secrets
	fault error // why nobody knows where it is
}

func (r remoteVolume) spec() Spec {
	sp := r.poolVolume.spec()
	sp.Kind, sp.Place = Remote, r.at.known()
	return sp
}

func (r remoteVolume) open() (volume.Volume, error) {
	id := r.info.ID
	record, err := r.s.conf.Store.Place(id)
	defer clear(record)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStore, err)
	}
	at, texts, err := parsePlace(record)
	if err != nil {
		return nil, err
	}
	server, err := r.s.initiator(at, texts)
	if err != nil {
		return nil, err
	}
	v, err := remote.Open(remote.Config{
		Server: server, Namespace: at.Namespace, BlockSize: r.info.BlockSize, Blocks: r.info.Blocks,
		Notify: func(err error) { r.s.serverEvent(id, err) },
	})
	if err != nil {
		forget(server)
		return nil, err
	}
	return forgetful{v, server}, nil
}

// A forgetful volume zeroes its server's secrets when it is closed.
type forgetful struct {
	volume.Volume
	server initiator.Config
}

// Close implements volume.Volume. Nothing connects any more when it zeroes.
func (f forgetful) Close() error {
	err := f.Volume.Close()
	forget(f.server)
	return err
}

func (r remoteVolume) remove() error {
	if err := r.poolVolume.remove(); err != nil {
		return err
	}
	delete(r.s.places, r.info.ID)
	delete(r.s.lost, r.info.ID)
	return r.s.conf.Store.SetPlace(r.info.ID, nil)
}

// serverEvent tells that a server is there, or why it is not.
func (s *Service) serverEvent(id [16]byte, err error) {
	if s.conf.Notify == nil {
		return
	}
	kind := EventServer
	if err != nil {
		kind = EventServerLost
	}
	s.conf.Notify(Event{Kind: kind, Volume: id, Err: err})
}

// measure asks the server how long a new remote volume is, and holds the specification
// to that.
func (s *Service) measure(ctx context.Context, sp *Spec) error {
	if err := sp.Place.check(); err != nil {
		return err
	}
	texts := secrets{[]byte(sp.Place.Secret), []byte(sp.Place.Opposite)}
	defer texts.zero()
	server, err := s.initiator(sp.Place, texts)
	if err != nil {
		return err
	}
	defer forget(server)
	size, blocks, err := remote.Probe(ctx, server, sp.Place.Namespace)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrServer, err)
	}
	if sp.Blocks == 0 {
		sp.BlockSize, sp.Blocks = size, blocks
	}
	if sp.BlockSize != size || sp.Blocks != blocks {
		return fmt.Errorf("%w: the server's namespace has %d blocks of %d bytes", ErrSpec, blocks, size)
	}
	return nil
}

// createRemote notes the place first: a volume of the pool that has one is remote.
func (s *Service) createRemote(sp Spec) error {
	if err := s.poolThere(); err != nil {
		return err
	}
	record := sp.Place.encode()
	defer clear(record)
	if err := s.conf.Store.SetPlace(sp.ID, record); err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	if err := s.createEntry(sp); err != nil {
		return errors.Join(err, s.conf.Store.SetPlace(sp.ID, nil))
	}
	s.places[sp.ID] = sp.Place.known()
	return nil
}

// loadPlaces reads where the remote volumes of the pool are. A record that cannot be read
// puts its own volume out of service. One of no volume was left by a creation that was cut
// off, and is removed: it has secrets.
func (s *Service) loadPlaces() error {
	if s.conf.Pool == nil {
		return nil
	}
	noted, err := s.conf.Store.Places()
	if err != nil {
		return fmt.Errorf("storage: the places of remote volumes: %w", err)
	}
	there := map[[16]byte]bool{}
	for _, i := range s.conf.Pool.List() {
		there[i.ID] = true
	}
	for _, id := range noted {
		if !there[id] {
			if err := s.conf.Store.SetPlace(id, nil); err != nil {
				s.notify(EventStore, id, err)
			}
			continue
		}
		record, err := s.conf.Store.Place(id)
		if err == nil {
			s.places[id], _, err = parsePlace(record)
		}
		if err != nil {
			s.lost[id] = err
			s.notify(EventPlace, id, err)
		}
		clear(record)
	}
	return nil
}

// inPool is a volume that the pool has an entry of.
func (s *Service) inPool(i pool.Info) backing {
	v := poolVolume{s.conf.Pool, i}
	at, is := s.places[i.ID]
	if fault := s.lost[i.ID]; is || fault != nil {
		return remoteVolume{v, s, at, fault}
	}
	return v
}
