package rack

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nitro/qemu-test/emulator"
)

// Times between two samples. One of GPIO1 takes the emulator 0.02 ms.
const (
	gpioPeriod     = 2 * time.Millisecond
	expanderPeriod = 10 * time.Millisecond
)

// A sampler asks for what the emulator does not tell by itself: the direction of GPIO1's
// lines, and the expander's lines.
type sampler struct {
	stopped chan struct{}
	over    sync.WaitGroup
}

func startSampler(p *Pins, q *emulator.QTest) *sampler {
	s := &sampler{stopped: make(chan struct{})}
	var asked atomic.Bool // a sample is on its way
	s.every(gpioPeriod, func() error {
		if asked.Swap(true) {
			return nil
		}
		return q.ReadThen(gpioBase[0], 8, func(registers []byte) {
			p.sampled(registers)
			asked.Store(false)
		})
	})
	var lines []Pin
	for _, w := range p.wires {
		if w.From.port == 0 {
			lines = append(lines, w.From)
		}
	}
	if len(lines) > 0 {
		s.every(expanderPeriod, func() error { return p.sampleExpander(lines) })
	}
	return s
}

// every calls do now and then, until it fails, as it does when the emulator has ended.
func (s *sampler) every(period time.Duration, do func() error) {
	s.over.Go(func() {
		tick := time.NewTicker(period)
		defer tick.Stop()
		for {
			select {
			case <-s.stopped:
				return
			case <-tick.C:
			}
			if do() != nil {
				return
			}
		}
	})
}

func (s *sampler) stop() {
	close(s.stopped)
	s.over.Wait()
}

// sampleExpander asks for lines of the expander. The host's processor, which is let go last, is
// the first one that is asked for and the last one that is noted: so what is let go while the
// others are asked for does not come out in another order.
func (p *Pins) sampleExpander(lines []Pin) error {
	drives := make([]Drive, len(lines))
	for n, pin := range lines {
		var err error
		if drives[n], err = expanderState(p.qmp, pin); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n, pin := range slices.Backward(lines) {
		p.set(pin, drives[n])
	}
	return nil
}
