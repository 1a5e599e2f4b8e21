package enet

import (
	"time"

	"nitro/board/imx6ul/phy"
)

// How often the link is looked at, and a PHY that does not answer is looked for: a few
// times at short intervals, since opening the port whose block has the management
// interface resets that too, and may have cut a transfer off.
const (
	linkPoll   = 200 * time.Millisecond
	phyRetry   = 5 * time.Second
	quickTries = 5
)

// keep follows the link until the port is closed.
func (p *Port) keep() {
	defer close(p.kept)
	found, failed := false, 0
	for {
		pause := linkPoll
		if !found {
			found = p.find()
		}
		if found {
			found = p.follow()
		}
		if found {
			failed = 0
		} else {
			p.setLink(phy.State{}, false)
			if failed++; failed > quickTries {
				pause = phyRetry
			}
		}
		wake := time.NewTimer(pause)
		select {
		case <-p.quit:
		case <-wake.C:
		case <-p.stalled:
			p.rx.mu.Lock()
			p.tx.mu.Lock()
			p.restart()
			p.tx.mu.Unlock()
			p.rx.mu.Unlock()
		}
		if wake.Stop(); p.closed.Load() {
			return
		}
	}
}

// find sets the PHY up.
func (p *Port) find() bool {
	err := p.c.PHY.SetUp()
	p.events.phy(err)
	return err == nil
}

// follow looks at the link once. What it finds wrong with the PHY ends in setting it
// up anew.
func (p *Port) follow() bool {
	s, dropped, err := p.c.PHY.Link()
	p.events.phy(err)
	if err != nil {
		return false
	}
	p.setLink(s, dropped)
	p.ringAgain()
	return true
}

// setLink takes note of the link's state, and has the MAC run at the link's speed and
// duplex. A link that was lost and is back has been down.
func (p *Port) setLink(s phy.State, dropped bool) {
	was := p.up.Load()
	if dropped && was || was && !s.Up {
		p.linkIs(false)
	}
	if !s.Up || p.up.Load() && s == p.mode {
		return
	}
	p.rx.mu.Lock()
	p.tx.mu.Lock()
	if s != p.mode && !p.closed.Load() {
		p.stop()
		p.start(s)
		p.mode = s
	}
	p.tx.mu.Unlock()
	p.rx.mu.Unlock()
	p.linkIs(true)
}

func (p *Port) linkIs(up bool) {
	p.up.Store(up)
	p.events.linkChanges.Add(1)
	select {
	case p.changed <- struct{}{}:
	default:
	}
}
