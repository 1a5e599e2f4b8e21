package server

import (
	"bytes"
	"crypto/ecdsa"
	"slices"
	"time"

	"nitro/attest/evidence"
	"nitro/nvme/key"
)

// Limits of grants that wait for a confirmation (docs/keyservice.md, "Confirmations").
const (
	confirmationLife = key.RequestLife
	maxWaiting       = 1024 // of control planes, and as many of boards alone
	planeShare       = 128  // of one control plane
	boardShare       = 64   // of one board alone
)

// A waiting grant has not been confirmed.
type waiting struct {
	text  []byte
	grant key.Grant
	who   string // control plane that asked for it; "" for the board alone
	ak    *ecdsa.PublicKey
	at    time.Time

	// Of form CMS:
	until  time.Time          // end of its lease by the service's clock
	beside *evidence.Evidence // event log and EK certificates of the evidence that it was granted for
}

// A waitingList is those of one service, the oldest first.
type waitingList struct{ all []waiting }

// fresh forgets those that nobody has confirmed in time.
func (l *waitingList) fresh(now time.Time) {
	for len(l.all) > 0 && now.Sub(l.all[0].at) > confirmationLife {
		l.all = l.all[1:]
	}
}

// add takes one, unless too many wait already: in all, or of who asks. An older one of
// the same asker, volume and board goes: the board has only its last request open.
func (l *waitingList) add(w waiting) bool {
	l.fresh(w.at)
	share := boardShare
	if w.who != "" {
		share = planeShare
	}
	all, own, same := 0, 0, -1
	for i, o := range l.all {
		if (o.who == "") != (w.who == "") {
			continue
		}
		all++
		if o.who != w.who || w.who == "" && o.grant.AK != w.grant.AK {
			continue
		}
		own++
		if o.grant.Volume == w.grant.Volume && o.grant.AK == w.grant.AK {
			same = i
		}
	}
	if same >= 0 {
		l.remove(same)
	} else if all >= maxWaiting || own >= share {
		return false
	}
	l.all = append(l.all, w)
	return true
}

func (l *waitingList) remove(i int) { l.all = append(l.all[:i:i], l.all[i+1:]...) }

// drop takes one out that was not given out.
func (l *waitingList) drop(text []byte) {
	l.all = slices.DeleteFunc(l.all, func(w waiting) bool { return bytes.Equal(w.text, text) })
}

// envelope finds the one that somebody may have an envelope for.
func (l *waitingList) envelope(now time.Time, who string, volume [key.VolumeSize]byte, recipient [32]byte) (waiting, bool) {
	l.fresh(now)
	for _, w := range l.all {
		if g := w.grant; g.CMS && w.who == who && g.Volume == volume && g.Wrapping == recipient && now.Before(w.until) {
			return w, true
		}
	}
	return waiting{}, false
}
