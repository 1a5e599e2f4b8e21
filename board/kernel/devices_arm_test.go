package kernel

import "testing"

// TestDevicePages: only whole ranges that the board allows, DMA memory, the hand-over
// block and the next image's window; never the console's or the watchdog's page, nor
// anything by arithmetic that wraps.
func TestDevicePages(t *testing.T) {
	k := new(kernel)
	k.console.uart, k.watchdog.base = 0x02020000, 0x020bc000
	k.next = DeviceRange{0x8000f000, 0x82000000}
	k.allow(&Config{Devices: [maxDeviceRanges]DeviceRange{
		{0x02018000, 0x02028000},
		{0x30000000, 0x30001000}, // has no second-level table
		{0x020b8000, 0x020c0000},
	}})
	const dma, dmaEnd, handover = DMAStart >> pageShift, DMAEnd >> pageShift, HandoverStart >> pageShift
	for _, c := range []struct {
		page, n uint32
		want    bool
	}{
		{0x2018, 1, true}, {0x2018, 8, true}, {0x2018, 9, false}, {0x2017, 1, false}, {0x2017, 2, false},
		{0x2020, 1, false}, {0x2021, 7, true}, {0x2021, 8, false},
		{0x20b8, 4, true}, {0x20bb, 2, false}, {0x20bc, 1, false}, {0x20bd, 3, true},
		{0x30000, 1, false}, {0xa01, 1, false}, {0, 1, false}, {0x80000, 1, false},
		{dma, 1, true}, {dma, dmaEnd - dma, true}, {dma, dmaEnd - dma + 1, false}, {dma - 1, 2, false},
		{handover, 1, true}, {handover, 16, true}, {handover, 17, false}, {handover - 1, 2, false}, {handover, 0, false},
		{0x8000f, 1, true}, {0x8000e, 1, false}, {0x8000f, 0x81fff - 0x8000e, true}, {0x8000f, 0x81fff - 0x8000d, false},
		{0x81fff, 1, true}, {0x82000, 1, false}, {0x9ff00, 1, false}, {0xdff00, 1, false}, {0xfffff, 1, false}, {dma, 1 << 20, false}, {dma, 1<<20 - dma, false},
		{0x2018, 0, false}, {dma, 0, false},
	} {
		if got := k.devicePages(c.page, c.n); got != c.want {
			t.Errorf("%#x pages at %#x: %v", c.n, c.page, got)
		}
	}
}

func TestUserRanges(t *testing.T) {
	for _, c := range []struct {
		addr, n uint32
		want    bool
	}{
		{0, 0, true}, {0xbfffffff, 1, true}, {0xbfffffff, 2, false}, {0xc0000000, 0, true}, {0xc0000001, 0, false},
		{0xffffffff, 1, false}, {0xffffffff, 2, false}, {1, 0xffffffff, false}, {0x80000000, 0x80000000, false}, {0, 0xc0000000, true},
		{0, 0xc0000001, false},
	} {
		if got := inUserSpace(c.addr, c.n); got != c.want {
			t.Errorf("%#x bytes at %#x: %v", c.n, c.addr, got)
		}
	}
	for n, want := range map[uint32]uint32{0: 0, 1: 1, 4096: 1, 4097: 2, 0xfffff000: 0xfffff} {
		if got, ok := pages(n); !ok || got != want {
			t.Errorf("%#x bytes are %#x pages, %v", n, got, ok)
		}
	}
	if _, ok := pages(0xfffff001); ok {
		t.Error("a length that wraps was not noticed")
	}
}

// TestDeviceTables: every device page that can be mapped has a table of its own.
func TestDeviceTables(t *testing.T) {
	seen := map[int]bool{}
	for m := uint32(0); m < 1<<12; m++ {
		if i := deviceIndex(m << 20); i >= 0 {
			if seen[i] || i >= numDeviceMiB || m<<20 >= areaStart {
				t.Errorf("MiB %#x has table %d", m, i)
			}
			seen[i] = true
		}
	}
}

// TestSharedSlice: a thread that is made takes its time from its maker.
func TestSharedSlice(t *testing.T) {
	k := newKernel(t, 1)
	for want := uint32(testSlice / 2); want > 0; want /= 2 {
		th := &k.thread[k.current]
		th.regs = registers{}
		th.regs.r[0] = cloneThread
		tid := callClone(k, th)
		n, ok := k.byTid(tid)
		if !ok || th.slice != want || k.thread[n].slice != want {
			t.Fatalf("thread %d: slices %d and %d, not %d", int32(tid), th.slice, k.thread[n].slice, want)
		}
	}
}
