package audit

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
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

// Export gives what writes an [Export] in JSON: the records from an index up to the last
// checkpoint, which [Log.Sign] makes beforehand, with the proof that they continue an older
// checkpoint, if one is given. Writing reads a segment at a time, so that a long log needs
// no more memory than a short one; it fails if the records are cleared meanwhile.
func (l *Log) Export(from uint64, older []byte) (write func(io.Writer) error, err error) {
	newest, size := l.Checkpoint()
	if newest == nil {
		return nil, fmt.Errorf("audit: export: nothing was signed yet: %w", ErrRange)
	}
	if from > size || size-from > MaxExportRecords {
		return nil, fmt.Errorf("audit: export: records %d to %d, at most %d: %w", from, size, MaxExportRecords, ErrRange)
	}
	if first := l.Stats().First; from < first {
		return nil, fmt.Errorf("audit: export: records %d to %d: %w", from, first, ErrGone)
	}
	x := Export{Format: ExportFormat, Origin: l.origin, First: from, Checkpoint: string(newest), Left: [][]byte{}, Records: [][]byte{}}
	if err := l.exportProofs(&x, older, size); err != nil {
		return nil, err
	}
	frame, err := json.Marshal(x)
	if err != nil {
		return nil, err
	}
	before, after, _ := bytes.Cut(frame, []byte(`"records":[`))
	return func(w io.Writer) error {
		if _, err := fmt.Fprintf(w, `%s"records":[`, before); err != nil {
			return err
		}
		if err := l.writeRecords(w, from, size); err != nil {
			return err
		}
		_, err := w.Write(after)
		return err
	}, nil
}

// writeRecords writes the records from an index up to another as base64 strings with commas
// between them.
func (l *Log) writeRecords(w io.Writer, from, to uint64) error {
	comma := ""
	var text []byte
	for from < to {
		records, err := l.Records(from, int(min(SegmentRecords-from%SegmentRecords, to-from)))
		if err != nil {
			return err
		}
		text = text[:0]
		for _, r := range records {
			text = append(text, comma+`"`...)
			text = base64.StdEncoding.AppendEncode(text, r)
			text = append(text, '"')
			comma = ","
		}
		if _, err := w.Write(text); err != nil {
			return err
		}
		from += uint64(len(records))
	}
	return nil
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
