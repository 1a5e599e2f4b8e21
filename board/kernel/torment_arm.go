//go:build boardtorment

package kernel

// Images that torment their program: the timer interrupts every 150 microseconds,
// and every fourth time the running thread gets a SIGURG, with which the Go
// runtime preempts its goroutine.

func tick(next uint64) uint64 {
	return min(next, counter()+uint64(state().clock.hz)/6667)
}

func torment(k *kernel) {
	if k.idle {
		return
	}
	if k.othersRunnable() {
		k.work |= workSchedule
	}
	if k.count.interrupts%4 == 0 {
		k.post(k.current, sigURG, false)
	}
}
