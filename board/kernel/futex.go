package kernel

// futexQueue returns the queue of threads that wait on a futex whose address has
// the same hash. It is served in order of arrival.
func futexQueue(addr uint32) uint32 {
	return nodeFutex + (addr>>2^addr>>8^addr>>14)%futexBuckets
}

// futexWakeUp wakes up to n threads that wait on addr, longest waiting first, and
// returns how many it woke.
func (k *kernel) futexWakeUp(addr, n uint32) uint32 {
	q := futexQueue(addr)
	woken := uint32(0)
	for node := k.rings.first(q); node != q && woken < n; {
		th := node - nodeThread
		node = k.rings.after(node)
		if k.thread[th].futex == addr {
			k.wake(th, byEvent)
			woken++
		}
	}
	return woken
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
