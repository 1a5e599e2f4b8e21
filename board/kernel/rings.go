package kernel

// The kernel's queues are doubly linked rings of small numbers: each queue and
// each thing that can stand in one is a node. A node can leave its ring without
// knowing whose ring it is, and there are no pointers that the garbage
// collector would have to hear of.
//
// Nodes are numbered so: threads first, then the queues that threads wait in,
// then epoll's lists.
const (
	nodeThread   = 0
	nodeActive   = nodeThread + MaxThreads // run queue with time left
	nodeExpired  = nodeActive + 1          // run queue of threads whose slice is used up
	nodeConsole  = nodeExpired + 1         // writers that wait for room
	nodeSeed     = nodeConsole + 1         // waiting for the generator to be seeded
	nodeFutex    = nodeSeed + 1            // waiting on a futex, by hash
	nodeWait     = nodeFutex + futexBuckets
	nodeInterest = nodeWait + MaxFiles     // epoll items that watch a file
	nodeReady    = nodeInterest + MaxFiles // epoll items that are ready, of an epoll file
	nodeItem     = nodeReady + MaxFiles    // an item in its file's list
	nodeReadied  = nodeItem + maxItems     // an item in its epoll's ready list
	numNodes     = nodeReadied + maxItems
)

type rings struct {
	next, prev [numNodes]uint16
}

// init makes every node a ring of its own.
func (r *rings) init() {
	for i := range r.next {
		r.next[i], r.prev[i] = uint16(i), uint16(i)
	}
}

// alone reports whether node n is in no ring; of a queue, whether it is empty.
func (r *rings) alone(n uint32) bool { return uint32(r.next[n]) == n }

// first returns the first node of queue q, which is not empty.
func (r *rings) first(q uint32) uint32 { return uint32(r.next[q]) }

// after returns the node after n, which is q itself at the end of queue q.
func (r *rings) after(n uint32) uint32 { return uint32(r.next[n]) }

// push puts node n, which is in no ring, at the end of queue q.
func (r *rings) push(q, n uint32) {
	last := r.prev[q]
	r.next[last], r.prev[n] = uint16(n), last
	r.next[n], r.prev[q] = uint16(q), uint16(n)
}

// remove takes node n out of its ring, if it is in one.
func (r *rings) remove(n uint32) {
	next, prev := r.next[n], r.prev[n]
	r.next[prev], r.prev[next] = next, prev
	r.next[n], r.prev[n] = uint16(n), uint16(n)
}

// splice moves all that stand in queue q to the end of queue to.
func (r *rings) splice(q, to uint32) {
	if r.alone(q) {
		return
	}
	first, last, tail := r.next[q], r.prev[q], r.prev[to]
	r.next[tail], r.prev[first] = first, tail
	r.next[last], r.prev[to] = uint16(to), last
	r.next[q], r.prev[q] = uint16(q), uint16(q)
}
