package kernel

// An item is a descriptor that an epoll set watches. It stands in the interest
// list of the file and, when something has happened to the file that the set
// asked for, in the ready list of the set. What is reported is what the file is
// ready for when the events are fetched.
type item struct {
	used   bool
	fd     uint32
	epoll  uint32
	events uint32
	data   uint64
}

const epollFlags = epollEdge | epollOneshot

// wants returns the events that the item is to be told of; none once EPOLLONESHOT
// has switched it off.
func (it *item) wants() uint32 { return it.events &^ epollFlags }

// findItem returns the item with which a set watches a file.
func (k *kernel) findItem(epoll, fd uint32) (n uint32, ok bool) {
	q := nodeInterest + fd
	for node := k.rings.first(q); node != q; node = k.rings.after(node) {
		if n = node - nodeItem; k.item[n].epoll == epoll {
			return n, true
		}
	}
	return 0, false
}

func (k *kernel) addItem(epoll, fd, events uint32, data uint64) uint32 {
	for n := range uint32(maxItems) {
		it := &k.item[n]
		if it.used {
			continue
		}
		it.used, it.fd, it.epoll = true, fd, epoll
		k.rings.push(nodeInterest+fd, nodeItem+n)
		k.changeItem(n, events, data)
		return 0
	}
	return eNOMEM
}

// changeItem sets what an item asks for, and reports anew what is there already.
func (k *kernel) changeItem(n, events uint32, data uint64) {
	it := &k.item[n]
	it.events, it.data = events|epollErr|epollHup, data
	k.unready(n)
	if k.poll(&k.file[it.fd])&it.wants() != 0 {
		k.ready(n)
	}
}

func (k *kernel) removeItem(n uint32) {
	k.rings.remove(nodeItem + n)
	k.unready(n)
	k.item[n].used = false
}

// ready puts an item in its set's ready list and wakes one waiter of the set. An
// item that stands there already has woken one, who has not come for it yet.
func (k *kernel) ready(n uint32) {
	if k.rings.alone(nodeReadied + n) {
		k.rings.push(nodeReady+k.item[n].epoll, nodeReadied+n)
		k.wakeFirst(nodeWait + k.item[n].epoll)
	}
}

// unready takes an item out of its set's ready list.
func (k *kernel) unready(n uint32) {
	k.rings.remove(nodeReadied + n)
	k.file[k.item[n].fd].told = false
}

// notify tells all that wait for a file, or watch it, that it has become ready
// for some of events. When that leaves every item in its ready list, the next
// events have nobody to tell.
func (k *kernel) notify(f *file, events uint32) {
	if f.told {
		return
	}
	k.wakeAll(nodeWait + uint32(f.fd))
	told := true
	q := nodeInterest + uint32(f.fd)
	for node := k.rings.first(q); node != q; node = k.rings.after(node) {
		n := node - nodeItem
		if k.item[n].wants()&events != 0 {
			k.ready(n)
		} else if k.rings.alone(nodeReadied + n) {
			told = false
		}
	}
	f.told = told
}

// forget removes a closed descriptor from all sets; of a set, all that it watches.
func (k *kernel) forget(fd uint32) {
	for q := uint32(nodeInterest + fd); !k.rings.alone(q); {
		k.removeItem(k.rings.first(q) - nodeItem)
	}
	if k.file[fd].kind != fileEpoll {
		return
	}
	for n := range uint32(maxItems) {
		if it := &k.item[n]; it.used && it.epoll == fd {
			k.removeItem(n)
		}
	}
}

// nextReady looks for the first item in a set's ready list that still is ready,
// and returns what for. Items that no longer are leave the list.
func (k *kernel) nextReady(epoll uint32) (n, events uint32) {
	q := nodeReady + epoll
	for !k.rings.alone(q) {
		n = k.rings.first(q) - nodeReadied
		it := &k.item[n]
		if events = k.poll(&k.file[it.fd]) & it.wants(); events != 0 {
			return n, events
		}
		k.unready(n)
	}
	return 0, 0
}

// reported does what follows the report of an item: a level-triggered one goes to
// the end of the list, others leave it. It tells whether the item stays.
func (k *kernel) reported(n uint32) (stays bool) {
	it := &k.item[n]
	k.unready(n)
	if it.events&epollOneshot != 0 {
		it.events &= epollFlags
		return false
	}
	if it.events&epollEdge != 0 {
		return false
	}
	k.rings.push(nodeReady+it.epoll, nodeReadied+n)
	return true
}
