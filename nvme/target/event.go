package target

import "nitro/nvme/wire"

// Kinds of events that a host can be told of, one after the other.
const (
	eventNamespaces = iota
	eventDiscovery
	eventSanitized
	eventKinds
)

// kinds says what each is on the wire, and which bit of Asynchronous Event Configuration
// (Base 2.0, figure 335) enables it; 0 is always enabled.
var kinds = [eventKinds]struct{ result, enable uint32 }{
	eventNamespaces: {wire.EventNamespaces, wire.OAESNamespace},
	eventDiscovery:  {wire.EventDiscovery, wire.OAESDiscovery},
	eventSanitized:  {wire.EventSanitized, 0},
}

// events are a controller's (Base 2.0, section 5.2). Its mutex guards them.
type events struct {
	requests      []uint16 // identifiers of waiting Async Event Requests
	enabledEvents uint32
	raised        [eventKinds]bool // to be told
	masked        [eventKinds]bool // told, and the log page has not been read since
	changedIDs    [MaxNamespaces + 1]bool
}

// request holds an Async Event Request until there is something to tell.
func (k *controller) request(l *lane) error {
	k.mu.Lock()
	if len(k.requests) >= maxEvents {
		k.mu.Unlock()
		return l.finish(wire.AsyncLimit|wire.DNR, 0)
	}
	k.requests = append(k.requests, l.cmd.CID)
	k.mu.Unlock()
	k.tell()
	return nil
}

// withdraw takes a request back.
func (k *controller) withdraw(cid uint16) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i, r := range k.requests {
		if r == cid {
			k.requests = append(k.requests[:i], k.requests[i+1:]...)
			return true
		}
	}
	return false
}

// enableEvents takes a new configuration.
func (k *controller) enableEvents(v uint32) {
	k.mu.Lock()
	k.enabledEvents = v
	k.mu.Unlock()
	k.tell()
}

// namespaceChanged notes that a namespace came or went.
func (k *controller) namespaceChanged(id uint32) {
	k.mu.Lock()
	k.changedIDs[id] = true
	k.mu.Unlock()
	k.raise(eventNamespaces)
}

// raise notes that there is something to tell, and tells it if the host listens.
func (k *controller) raise(kind int) {
	k.mu.Lock()
	k.raised[kind] = true
	k.mu.Unlock()
	k.tell()
}

// pending gives the next event to tell and the request to tell it with.
func (k *controller) pending() (cid uint16, result uint32, ok bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.requests) == 0 {
		return 0, 0, false
	}
	for kind := range k.raised {
		if !k.raised[kind] || k.masked[kind] || kinds[kind].enable != 0 && k.enabledEvents&kinds[kind].enable == 0 {
			continue
		}
		k.raised[kind], k.masked[kind] = false, true
		cid = k.requests[0]
		k.requests = k.requests[:copy(k.requests, k.requests[1:])]
		return cid, kinds[kind].result, true
	}
	return 0, 0, false
}

// tell tells what there is to tell. Writing may wait for the host, so a goroutine of its
// own does it; events are rare.
func (k *controller) tell() {
	cid, result, ok := k.pending()
	if !ok {
		return
	}
	go func() {
		for ; ok; cid, result, ok = k.pending() {
			if k.admin.respond(cid, wire.Success, uint64(result)) != nil || k.admin.flush() != nil {
				return // the connection is at its end
			}
		}
	}()
}

// read notes that the host has read an event's log page.
func (k *controller) read(kind int) {
	k.mu.Lock()
	k.masked[kind] = false
	k.mu.Unlock()
	k.tell()
}

// takeChanged lists the namespaces that changed, and forgets them if told to.
func (k *controller) takeChanged(forget bool) (ids []uint32) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, is := range k.changedIDs {
		if is {
			ids = append(ids, uint32(id))
		}
	}
	if forget {
		clear(k.changedIDs[:])
		k.raised[eventNamespaces] = false
	}
	return ids
}
