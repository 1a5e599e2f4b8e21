package redfish

import (
	"nitro/net/policy"
)

// Paths of what is no Redfish resource, but behind the same gate.
const (
	MetricsPath = "/metrics"
	RingPath    = "/audit/ring"
)

// plain are the pages that no schema of the specification describes: the metrics, in the
// place where collectors look for them, and quarantine's records, which outlive no
// restart and so are no log service.
func (s *Service) plain() {
	if s.config.Metrics != nil {
		s.add(node{path: MetricsPath, read: policy.ReadMetrics, on: policy.Metrics, page: func() (string, []byte, error) {
			text, err := s.config.Metrics.Metrics()
			return "text/plain; version=0.0.4; charset=utf-8", text, err
		}})
	}
	if s.config.Ring != nil {
		s.add(node{path: RingPath, read: policy.ReadRing, on: policy.Log, page: func() (string, []byte, error) {
			text, err := s.config.Ring.Ring()
			return "application/json", text, err
		}})
	}
}
