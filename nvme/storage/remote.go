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
	// for Create; a State does not have them.
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

// parsePlace reads what encode wrote.
func parsePlace(b []byte) (p Place, err error) {
	malformed := errors.New("storage: the record of a remote volume's place is malformed: delete the volume and create it again")
	if len(b) < placeHeader || string(b[:len(placeMagic)]) != placeMagic {
		return p, malformed
	}
	p.Namespace = binary.LittleEndian.Uint32(b[len(placeMagic):])
	b = b[placeHeader:]
	for _, s := range []*string{&p.Server, &p.Secret, &p.Opposite} {
		if len(b) < 2 {
			return Place{}, malformed
		}
		n := int(binary.LittleEndian.Uint16(b))
		if n > maxSecret || n > len(b)-2 {
			return Place{}, malformed
		}
		*s, b = string(b[2:2+n]), b[2+n:]
	}
	if len(b) > 0 {
		return Place{}, malformed
	}
	return p, nil
}

// check refuses what no place can be.
func (p Place) check() error {
	if p.Server == "" || len(p.Server) > maxServer || p.Namespace == 0 || len(p.Secret) > maxSecret || len(p.Opposite) > maxSecret {
		return fmt.Errorf("%w: a remote volume needs a server's name of at most %d characters, and a namespace", ErrSpec, maxServer)
	}
	return nil
}

// initiator is how the server of a place is reached.
func (s *Service) initiator(p Place) (c initiator.Config, err error) {
	server, allowed := s.conf.Servers[p.Server]
	if !allowed {
		return c, fmt.Errorf("%w: %.64q", ErrNoServer, p.Server)
	}
	c = initiator.Config{Dial: server.Dial, SubsystemNQN: server.SubsystemNQN, HostNQN: s.conf.BoardNQN, HostID: s.conf.BoardID,
		HeaderDigest: true, DataDigest: true}
	for _, of := range []struct {
		text string
		to   **dhchap.Secret
	}{{p.Secret, &c.Secret}, {p.Opposite, &c.Opposite}} {
		if of.text == "" {
			continue
		}
		k := new(dhchap.Secret)
		if err := k.Set(of.text); err != nil {
			return c, fmt.Errorf("%w: the server's secret: %w", ErrSpec, err)
		}
		*of.to = k
	}
	return c, nil
}

// remoteVolume is a volume on a storage server. The pool has its entry, its commitment and
// its salt, so that it is erased as others are; no data is ever in the pool.
type remoteVolume struct {
	poolVolume
	s  *Service
	at Place
}

func (r remoteVolume) spec() Spec {
	sp := r.poolVolume.spec()
	sp.Kind, sp.Place = Remote, r.at.known()
	return sp
}

func (r remoteVolume) open() (volume.Volume, error) {
	server, err := r.s.initiator(r.at)
	if err != nil {
		return nil, err
	}
	id := r.info.ID
	return remote.Open(remote.Config{
		Server: server, Namespace: r.at.Namespace, BlockSize: r.info.BlockSize, Blocks: r.info.Blocks,
		Notify: func(err error) { r.s.serverEvent(id, err) },
	})
}

func (r remoteVolume) remove() error {
	if err := r.poolVolume.remove(); err != nil {
		return err
	}
	delete(r.s.places, r.info.ID)
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
	server, err := s.initiator(sp.Place)
	if err != nil {
		return err
	}
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
	if err := s.conf.Store.SetPlace(sp.ID, sp.Place.encode()); err != nil {
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	if err := s.createEntry(sp); err != nil {
		return errors.Join(err, s.conf.Store.SetPlace(sp.ID, nil))
	}
	s.places[sp.ID] = sp.Place
	return nil
}

// loadPlaces reads where the remote volumes of the pool are.
func (s *Service) loadPlaces() error {
	if s.conf.Pool == nil {
		return nil
	}
	for _, i := range s.conf.Pool.List() {
		b, err := s.conf.Store.Place(i.ID)
		if err != nil {
			return fmt.Errorf("storage: place of volume %x: %w", i.ID, err)
		}
		if b == nil {
			continue
		}
		if s.places[i.ID], err = parsePlace(b); err != nil {
			return err
		}
	}
	return nil
}

// inPool is a volume that the pool has an entry of.
func (s *Service) inPool(i pool.Info) backing {
	v := poolVolume{s.conf.Pool, i}
	if at, is := s.places[i.ID]; is {
		return remoteVolume{v, s, at}
	}
	return v
}
