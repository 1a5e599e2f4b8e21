package target

import (
	"context"
	"errors"
	"fmt"

	"nitro/nvme/wire"
)

// Fields of Format NVM and Sanitize, CDW10.
const (
	formatSettings = 0x3f<<12 | 0x1ff // format, metadata, protection: only 0 is there
	formatErase    = 9                // SES begins here
	sanitizeAction = 7                // SANACT
	sanitizeExit   = 1
	sanitizeCrypto = 4
	sanitizeKeep   = 1 << 9 // NDAS: no deallocation afterwards
)

// ErrLater is for Config.Erase: the host may ask for an erase again, later.
var ErrLater = errors.New("target: too many erases: try again later")

// errInUse says that commands did not end for an erase.
var errInUse = errors.New("target: commands are still under way")

// Statuses of a sanitize operation, SSTAT (Base 2.0, figure 291).
const (
	sanitizeNever   = 0
	sanitizeDone    = 1
	sanitizeRunning = 2
	sanitizeBroken  = 3
)

// An erasure is a host's erase that is under way, and its last Sanitize. The target's mutex
// guards it.
type erasure struct {
	meanwhile wire.Status // what commands get; Success where no erase is under way
	status    uint16      // of the last Sanitize
	cdw10     uint32      // of its command
}

// format does a Format NVM (Base 2.0, section 5.14), beside other commands: a host whose
// Keep Alive is not answered meanwhile gives the controller up. Whatever erase it asks for,
// it gets the cryptographic one: it is the strongest, and takes no time.
func (l *lane) format() error {
	if l.cmd.CDW10&formatSettings != 0 || l.cmd.CDW10>>formatErase&7 > 2 {
		return l.finish(wire.InvalidFormat|wire.DNR, 0)
	}
	c, cid := l.c, l.cmd.CID
	status := c.t.beginErase(c.k.host, l.cmd.NSID, wire.FormatInProgress, 0, func(status wire.Status) {
		if c.respond(cid, status, 0) == nil {
			c.flush() // an error ends the connection, whose lane sees it
		}
	})
	if status != wire.Success {
		return l.finish(status, 0)
	}
	return nil
}

// sanitize does a Sanitize (Base 2.0, section 5.24): a crypto erase of all the host's
// namespaces. Its end is an event, and in the log page.
func (l *lane) sanitize() error {
	t, h := l.c.t, l.c.k.host
	switch action := l.cmd.CDW10 & sanitizeAction; {
	case action == sanitizeExit:
		return l.finish(t.exitSanitize(h), 0)
	case action != sanitizeCrypto, l.cmd.CDW10&sanitizeKeep != 0:
		return l.finish(wire.InvalidField|wire.DNR, 0)
	}
	status := t.beginErase(h, allNamespaces, wire.SanitizeInProgress, l.cmd.CDW10, func(wire.Status) {
		t.mu.Lock()
		defer t.mu.Unlock()
		for _, k := range t.controllers {
			if k.host == h && !k.discovery {
				k.raise(eventSanitized)
			}
		}
	})
	return l.finish(status, 0)
}

// exitSanitize leaves the failure of the last Sanitize behind.
func (t *Target) exitSanitize(h *host) wire.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch h.erasure.status {
	case sanitizeRunning:
		return wire.SanitizeInProgress
	case sanitizeBroken:
		h.erasure.status = sanitizeNever
	}
	return wire.Success
}

// beginErase begins an erase of the namespaces that an identifier stands for, unless one of
// this host's is under way. ended gets its outcome. Commands get the status meanwhile.
func (t *Target) beginErase(h *host, id uint32, meanwhile wire.Status, cdw10 uint32, ended func(wire.Status)) wire.Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := h.named(id)
	switch {
	case h.erasure.meanwhile != wire.Success:
		return h.erasure.meanwhile
	case len(all) == 0:
		return wire.InvalidNamespace | wire.DNR
	case t.closed:
		return wire.InternalError
	}
	h.erasure.meanwhile = meanwhile
	if meanwhile == wire.SanitizeInProgress {
		h.erasure.status, h.erasure.cdw10 = sanitizeRunning, cdw10
	}
	var empty []<-chan struct{}
	for _, n := range all { // at once: a detachment that comes later has the last word
		empty = append(empty, n.shut(meanwhile))
	}
	t.running.Go(func() {
		err := t.erase(all, empty, meanwhile)
		t.endErase(h, err)
		ended(eraseStatus(err))
	})
	return wire.Success
}

// named lists the namespaces that an identifier stands for.
func (h *host) named(id uint32) (all []*namespace) {
	for i, n := range h.table.Load() {
		if n != nil && (id == allNamespaces || id == uint32(i)) {
			all = append(all, n)
		}
	}
	return all
}

// erase has namespaces erased when they are empty of commands.
func (t *Target) erase(all []*namespace, empty []<-chan struct{}, meanwhile wire.Status) error {
	ctx, cancel := context.WithTimeout(background, t.cfg.EraseLimit)
	defer cancel()
	var shown []Namespace
	for i, n := range all {
		defer n.open(meanwhile)
		shown = append(shown, n.Namespace)
		select {
		case <-empty[i]:
		case <-t.done:
			return ErrTargetClosed
		case <-ctx.Done():
			return fmt.Errorf("namespace %d: %w", n.ID, errInUse)
		}
	}
	return t.cfg.Erase(ctx, shown)
}

// endErase notes the outcome, and lets the next erase begin.
func (t *Target) endErase(h *host, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h.erasure.meanwhile = wire.Success
	if h.erasure.status == sanitizeRunning {
		h.erasure.status = sanitizeDone
		if err != nil {
			h.erasure.status = sanitizeBroken
		}
	}
}

// eraseStatus makes a status of an erase's outcome. What may be better later is without DNR.
func eraseStatus(err error) wire.Status {
	switch {
	case err == nil:
		return wire.Success
	case errors.Is(err, ErrLater):
		return wire.CommandInterrupted
	}
	return wire.InternalError
}
