package target

import "time"

// NewFast makes a target whose seconds last less.
func NewFast(cfg Config, second time.Duration) (*Target, error) { return newTarget(cfg, second) }

// Counts gives how many connections, pending ones, controllers and unused buffers there
// are.
func (t *Target) Counts() (conns, pending, controllers, free int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns), t.pending, len(t.controllers), len(t.free)
}
