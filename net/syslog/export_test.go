package syslog

import "time"

// Hurry makes a sender fast enough for tests.
func (s *Sender) Hurry() {
	s.times = times{poll: 10 * time.Millisecond, settle: 300 * time.Millisecond, retry: 20 * time.Millisecond, most: 200 * time.Millisecond}
}
