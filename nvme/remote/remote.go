// Package remote keeps a volume on a storage server: an NVMe/TCP target elsewhere, which
// is any that package initiator can use.
//
// The association with the server comes and goes; the volume stays. When one has ended,
// calls wait for the next, and what was under way is done again on it: reads and writes of
// blocks may be repeated. So a server that restarts is a pause for who uses the volume. One
// that is gone for longer than Patience is volume.ErrUnavailable, at once: calls that wait
// hold up other volumes of the same host.
//
// What was acknowledged is durable. A server may have a volatile write cache and lose it
// between two associations, of which a later Flush would know nothing; so all writes to
// such a server go through its cache (FUA, NVM Command Set Specification 1.0, section 3.2.6).
//
// Put volume.Encrypted on it: the server is not trusted with plaintext. It can still
// withhold, replay and mix up what it keeps.
//
// Left out: several paths to one server, discovery, volumes that change their size.
package remote

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"nitro/nvme/initiator"
	"nitro/nvme/volume"
)

// Times.
const (
	// Patience is how long after the end of an association calls wait for the next. Linux,
	// as the host of the board, gives up a command after 30 s.
	Patience     = 20 * time.Second
	ConnectLimit = 10 * time.Second // of one attempt to connect
	CommandLimit = 10 * time.Second // of one command; then the association ends
	retryFirst   = 250 * time.Millisecond
	retryMost    = 5 * time.Second
)

// ErrShape says that the server's namespace is not the one that the volume was made on.
var ErrShape = errors.New("remote: the server's namespace has another size: have it serve the one that the volume was created on")

// A Config says where a volume is.
type Config struct {
	Server    initiator.Config // Limit and Queues are the package's
	Namespace uint32           // there
	BlockSize int              // as it has to be
	Blocks    uint64           // as many have to be there

	// Notify is told when an association begins (nil) and why one ended or could not be
	// made, once for each reason in a row. It may be nil, and must not block.
	Notify func(error)
}

// A Volume is a volume on a server.
type Volume struct {
	conf    Config
	stop    context.CancelFunc
	stopped context.Context
	running sync.WaitGroup

	mu      sync.Mutex
	present *initiator.Namespace // nil while there is no association
	since   time.Time            // when present changed
	changed chan struct{}        // closed when present changes
}

var _ volume.Volume = (*Volume)(nil)

// Open gives a volume at once, and then connects to its server.
func Open(c Config) (*Volume, error) {
	if err := volume.CheckBlockSize(c.BlockSize); err != nil {
		return nil, err
	}
	if c.Blocks == 0 || c.Namespace == 0 || c.Server.Dial == nil {
		return nil, errors.New("remote: a server, a namespace and a size are needed")
	}
	v := &Volume{conf: c, since: time.Now(), changed: make(chan struct{})}
	v.stopped, v.stop = context.WithCancel(context.Background())
	v.running.Go(v.keepConnected)
	return v, nil
}

// Probe connects to a server once, and tells what its namespace is like.
func Probe(ctx context.Context, server initiator.Config, namespace uint32) (blockSize int, blocks uint64, err error) {
	n, _, err := connect(ctx, server, namespace)
	if err != nil {
		return 0, 0, err
	}
	defer n.Close()
	return n.BlockSize(), n.Blocks(), nil
}

// connect makes an association for one namespace.
func connect(ctx context.Context, server initiator.Config, namespace uint32) (*initiator.Namespace, <-chan struct{}, error) {
	ctx, cancel := context.WithTimeout(ctx, ConnectLimit)
	defer cancel()
	server.Limit, server.Queues = CommandLimit, 1
	c, err := initiator.Connect(ctx, server)
	if err != nil {
		return nil, nil, err
	}
	n, err := c.Namespace(ctx, namespace)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	n.WriteThrough()
	return n, c.Gone(), nil
}

// keepConnected connects, and connects again, until Close.
func (v *Volume) keepConnected() {
	told := "" // the last reason
	for wait := retryFirst; ; {
		n, gone, err := v.connect()
		if err == nil {
			v.set(n)
			v.notify(nil)
			select {
			case <-gone:
				err = errors.New("remote: the association has ended")
			case <-v.stopped.Done():
			}
			v.set(nil)
			n.Close()
			wait, told = retryFirst, ""
		}
		if v.stopped.Err() != nil {
			return
		}
		if err.Error() != told {
			told = err.Error()
			v.notify(err)
		}
		select {
		case <-time.After(wait):
		case <-v.stopped.Done():
			return
		}
		wait = min(2*wait, retryMost)
	}
}

// connect makes an association with the volume as it has to be.
func (v *Volume) connect() (*initiator.Namespace, <-chan struct{}, error) {
	n, gone, err := connect(v.stopped, v.conf.Server, v.conf.Namespace)
	if err != nil {
		return nil, nil, err
	}
	if n.BlockSize() != v.conf.BlockSize || n.Blocks() != v.conf.Blocks {
		n.Close()
		return nil, nil, fmt.Errorf("%w: %d blocks of %d bytes, not %d of %d", ErrShape, n.Blocks(), n.BlockSize(), v.conf.Blocks, v.conf.BlockSize)
	}
	return n, gone, nil
}

func (v *Volume) notify(err error) {
	if v.conf.Notify != nil {
		v.conf.Notify(err)
	}
}

func (v *Volume) set(n *initiator.Namespace) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.present, v.since = n, time.Now()
	close(v.changed)
	v.changed = make(chan struct{})
}

// get gives the association of the moment, or nil and until when one is waited for.
func (v *Volume) get() (n *initiator.Namespace, until time.Time, changed <-chan struct{}) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.present, v.since.Add(Patience), v.changed
}

// do does a command on the present association, or on the next ones while it fails for
// no other reason than that they end, or that the server is not ready.
func (v *Volume) do(ctx context.Context, command func(*initiator.Namespace) error) error {
	begun := time.Now()
	err := fmt.Errorf("remote: no association with the server: %w", volume.ErrUnavailable)
	for {
		n, until, changed := v.get()
		if last := begun.Add(Patience); until.After(last) { // a server that comes and goes
			until = last
		}
		retry := time.Until(until)
		if n != nil {
			if err = command(n); !errors.Is(err, volume.ErrUnavailable) {
				return err
			}
			retry = retryFirst // the server may be there still, and not ready
			until = begun.Add(Patience)
		}
		if !time.Now().Before(until) {
			return err
		}
		t := time.NewTimer(retry)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
		case <-v.stopped.Done():
		}
		t.Stop()
		switch {
		case v.stopped.Err() != nil:
			return fmt.Errorf("remote: %w", volume.ErrClosed)
		case ctx.Err() != nil:
			return fmt.Errorf("%w: %w", volume.ErrUnavailable, ctx.Err())
		}
	}
}

// BlockSize implements volume.Volume.
func (v *Volume) BlockSize() int { return v.conf.BlockSize }

// Blocks implements volume.Volume.
func (v *Volume) Blocks() uint64 { return v.conf.Blocks }

// ReadsZero implements volume.Volume: servers differ, and one may be replaced by another.
func (v *Volume) ReadsZero() bool { return false }

// ReadAt implements volume.Volume.
func (v *Volume) ReadAt(ctx context.Context, lba uint64, p []byte) error {
	return v.do(ctx, func(n *initiator.Namespace) error { return n.ReadAt(ctx, lba, p) })
}

// WriteAt implements volume.Volume. What it has written is durable when it returns.
func (v *Volume) WriteAt(ctx context.Context, lba uint64, p []byte) error {
	return v.do(ctx, func(n *initiator.Namespace) error { return n.WriteAt(ctx, lba, p) })
}

// Flush implements volume.Volume.
func (v *Volume) Flush(ctx context.Context) error {
	return v.do(ctx, func(n *initiator.Namespace) error { return n.Flush(ctx) })
}

// Zero implements volume.Volume.
func (v *Volume) Zero(ctx context.Context, lba, blocks uint64) error {
	return v.do(ctx, func(n *initiator.Namespace) error { return n.Zero(ctx, lba, blocks) })
}

// Deallocate implements volume.Volume.
func (v *Volume) Deallocate(ctx context.Context, lba, blocks uint64) error {
	return v.do(ctx, func(n *initiator.Namespace) error { return n.Deallocate(ctx, lba, blocks) })
}

// Close implements volume.Volume: it ends the association. Calls that are under way fail.
func (v *Volume) Close() error {
	v.stop()
	v.running.Wait()
	return nil
}
