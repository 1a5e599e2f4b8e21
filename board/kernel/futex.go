package kernel

// futexQueue returns the queue of threads that wait on a futex whose address has
// the same hash. It is served in order of arrival.
func futexQueue(addr uint32) uint32 {
	return nodeFutex + (addr>>2^addr>>8^addr>>14)%futexBuckets
}

// maxWakes bounds how many threads one pass of a call wakes.
const maxWakes = 32

// futexWakeUp wakes up to n threads that wait on addr, longest waiting first, and
// returns how many it woke; t is who wakes them, in as many passes as it takes.
func (k *kernel) futexWakeUp(t *thread, addr, n uint32) uint32 {
	if !t.resumed {
		t.done = 0
	}
	q := futexQueue(addr)
	limit := min(n, t.done+maxWakes)
	for node := k.rings.first(q); node != q && t.done < limit; {
		th := node - nodeThread
		node = k.rings.after(node)
		if k.thread[th].futex == addr {
			k.wake(th, byEvent)
			t.done++
		}
	}
	if t.done == limit && limit < n {
		return again
	}
	return t.done
}

// futexWaitOn parks the current thread on addr. When the call is resumed the
// value is not looked at again: who woke it has answered.
func (k *kernel) futexWaitOn(t *thread, addr uint32, until uint64) uint32 {
	switch t.woken {
	case notWoken:
		t.futex = addr
		return k.park(futexQueue(addr), until)
	case byTimeout:
		return eTIMEDOUT
	case bySignal:
		if t.until != never {
			return eINTR
		}
		return restartSys
	}
	return 0
}
