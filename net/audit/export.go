package audit

import (
	"encoding/json"
	"fmt"
)

// Bounds of an export.
const (
	MaxExport        = 64 << 20 // bytes
	MaxExportRecords = 65536
)

// ExportFormat is the version of an export.
const ExportFormat = 1

// An Export is what an auditor takes away: records up to a checkpoint, and what proves
// that they are the log's. docs/audit.md, "Proofs and the offline check".
type Export struct {
	Format      int      `json:"format"`
	Origin      string   `json:"origin"`
	First       uint64   `json:"first"`
	Left        [][]byte `json:"left"` // perfect subtrees of what is before First
	Records     [][]byte `json:"records"`
	Checkpoint  string   `json:"checkpoint"`
	Older       string   `json:"older,omitempty"` // one that the auditor has kept
	Consistency [][]byte `json:"consistency,omitempty"`
}

// Export gives the records from an index up to the last checkpoint, which [Log.Sign] makes
// beforehand; with the proof that they continue an older checkpoint, if one is given.
func (l *Log) Export(from uint64, older []byte) ([]byte, error) {
	newest, size := l.Checkpoint()
	if newest == nil {
		return nil, fmt.Errorf("audit: export: nothing was signed yet: %w", ErrRange)
	}
	if from > size || size-from > MaxExportRecords {
		return nil, fmt.Errorf("audit: export: records %d to %d, at most %d: %w", from, size, MaxExportRecords, ErrRange)
	}
	x := Export{Format: ExportFormat, Origin: l.origin, First: from, Checkpoint: string(newest), Left: [][]byte{}}
	var err error
	if x.Records, err = l.Records(from, int(size-from)); err != nil {
		return nil, err
	}
	if err := l.exportProofs(&x, older, size); err != nil {
		return nil, err
	}
	return json.Marshal(x)
}

func (l *Log) exportProofs(x *Export, older []byte, size uint64) error {
	if older != nil {
		if len(older) > MaxNote {
			return fmt.Errorf("audit: export: a checkpoint of %d bytes: at most %d", len(older), MaxNote)
		}
		o, err := parseHead(noteText(older))
		if err != nil {
			return err
		}
		hashes, err := l.Consistency(o.Size, size)
		if err != nil {
			return err
		}
		x.Older = string(older)
		for _, h := range hashes {
			x.Consistency = append(x.Consistency, h[:])
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	left, err := l.tree.left(x.First)
	x.Left = append(x.Left, left...)
	return err
}
