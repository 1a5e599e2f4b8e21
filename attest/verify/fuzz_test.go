package verify

import (
	"bytes"
	_ "embed"
	"testing"

	"nitro/internal/corpus"
)

// What the fuzzer found: see package corpus.
//
//go:embed testdata/quotes.hex
var keptQuotes string

// FuzzEvidence puts any bytes in the place of each part that is parsed, one after the
// other, and in that of the text itself. Nothing but the part itself is accepted.
func FuzzEvidence(f *testing.F) {
	b := newSoft(f)
	e, p := b.evidence(f, boot(newController)), b.policy(f)
	parts := []*[]byte{&e.Quote, &e.Signature, &e.EventLog, &e.AKPublic, &e.AKCertificate, &e.EKCertificates[0], &e.EKCertificates[1]}
	corpus.Add(f, keptQuotes)
	f.Add(encode(f, e))
	for _, part := range parts {
		f.Add(bytes.Clone(*part))
	}
	f.Fuzz(func(t *testing.T, any []byte) {
		if r, err := Evidence(any, p); (err == nil) != (r.Facts != nil) {
			t.Errorf("%v, with facts %+v", err, r.Facts)
		}
		for i, part := range parts {
			whole := *part
			*part = any
			text, err := e.Encode()
			*part = whole
			if err != nil {
				continue // too long
			}
			if r, err := Evidence(text, p); err == nil && !bytes.Equal(any, whole) && i != 2 {
				t.Errorf("part %d: %x accepted: %+v", i, any, r.Facts)
			}
		}
	})
}
