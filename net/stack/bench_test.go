package stack_test

import (
	"io"
	"testing"
	"time"

	"nitro/net/stack/stacktest"
)

// BenchmarkTransfer sends over a connection between two stacks. Both are at work, so
// the time is that of sending and receiving.
func BenchmarkTransfer(b *testing.B) {
	for _, c := range []struct {
		name    string
		offload bool
	}{{"offload", true}, {"sums", false}} {
		b.Run(c.name, func(b *testing.B) {
			one, two, _, lb := pair(b, stacktest.Options{Offload: c.offload})
			client, server := connect(b, one, two, "tcp4", "192.0.2.2:0")
			_ = lb
			const block = 128 << 10
			done := make(chan error, 1)
			go func() {
				p := make([]byte, block)
				for range b.N {
					if _, err := io.ReadFull(server, p); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
			b.SetBytes(block)
			b.ReportAllocs()
			p := make([]byte, block)
			before := two.Stats()
			begin := time.Now()
			b.ResetTimer()
			for range b.N {
				if _, err := client.Write(p); err != nil {
					b.Fatal(err)
				}
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			after := two.Stats()
			segments := float64(b.N) * block / 1448
			b.ReportMetric(float64(time.Since(begin).Nanoseconds())/segments, "ns/segment")
			b.ReportMetric(float64(after.SegmentsJoined-before.SegmentsJoined)/segments, "joined/segment")
			b.ReportMetric(float64(after.FramesSent-before.FramesSent)/segments, "acks/segment")
		})
	}
}
