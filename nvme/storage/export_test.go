package storage

import (
	"context"

	"nitro/nvme/target"
)

// Shown is an attached volume as the target knows it.
func (s *Service) Shown(id [16]byte) target.Namespace {
	a := s.attached[id]
	return target.Namespace{ID: a.namespace, Volume: a.volume, UUID: id}
}

// EraseForHost is what the target calls.
func (s *Service) EraseForHost(ctx context.Context, n target.Namespace) error {
	return s.eraseForHost(ctx, []target.Namespace{n})
}

// Ask is what a renewal does, for a volume that may have been detached meanwhile.
func (s *Service) Ask(ctx context.Context, id [16]byte, source KeySource) error {
	return s.ask(ctx, id, source)
}
