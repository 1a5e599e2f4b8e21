package firmware

import (
	"bytes"

	"nitro/boot/code"
)

// tries is how often a window is written before the flash counts as worn.
const tries = 3

// recover is step 5: it puts regions right from the golden copy, all of which is read and
// verified before anything is erased.
func (y *cycle) recover(bad []Region) error {
	if err := y.g.checkContents(y.c, bad); err != nil {
		return err
	}
	if err := y.unprotect(); err != nil {
		return err
	}
	golden := y.g.contents(y.c)
	defer golden.close()
	for _, region := range bad {
		from := y.c.place(region)
		n, err := y.rewrite(region, func(p []byte, at int64) error { return golden.readAt(p, from+at) })
		if n > 0 {
			y.r.Rewritten += n
			y.note(region.Name)
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return code.HostFlash.Errorf("firmware: %s: region %q had another SHA-256 than the golden copy, and has the same content: something else writes the flash, or it is not one", y.g.c.Part, region.Name)
		}
	}
	if y.update {
		return nil
	}
	return y.erase()
}

// note says, once, which region was put right.
func (y *cycle) note(name string) {
	list := &y.r.Recovered
	if y.update {
		list = &y.r.Updated
	}
	for _, n := range *list {
		if n == name {
			return
		}
	}
	*list = append(*list, name)
}

// erase makes the erasable regions blank that are not.
func (y *cycle) erase() error {
	blank := func(p []byte, _ int64) error {
		for i := range p {
			p[i] = erased
		}
		return nil
	}
	for _, region := range y.c.of(Erasable) {
		n, err := y.rewrite(region, blank)
		if err != nil {
			return err
		}
		if n > 0 {
			y.r.Rewritten += n
			y.r.Erased = append(y.r.Erased, region.Name)
		}
	}
	return nil
}

// erased is what an erased byte reads.
const erased = 0xff

// rewrite makes a region hold what want gives, and says how many erase blocks it took.
// Blocks that hold it already are left alone: each erasure wears a block.
func (y *cycle) rewrite(region Region, want func(p []byte, at int64) error) (blocks int, err error) {
	size := max(window, y.c.Erase)
	to, is := make([]byte, size), make([]byte, size)
	for at := int64(0); at < region.Length; at += size {
		n := min(size, region.Length-at)
		if err := want(to[:n], at); err != nil {
			return blocks, code.HostFirmware.Errorf("firmware: %s: golden copy of region %q: %w", y.g.c.Part, region.Name, err)
		}
		k, err := y.rewriteWindow(region.Offset+at, to[:n], is[:n])
		blocks += k
		if err != nil {
			return blocks, y.flashError(region.Name, err)
		}
	}
	return blocks, nil
}

// rewriteWindow writes the blocks of a window that differ, until they read as they should.
func (y *cycle) rewriteWindow(at int64, to, is []byte) (blocks int, err error) {
	for try := 0; ; try++ {
		if _, err := y.f.ReadAt(is, at); err != nil {
			return blocks, err
		}
		runs := differing(to, is, y.c.Erase)
		if len(runs) == 0 {
			return blocks, nil
		}
		if try == tries {
			return blocks, code.HostFlashWorn.Errorf("firmware: %s: %#x bytes at %#x do not read as written after %d tries", y.g.c.Part, runs[0][1], at+runs[0][0], tries)
		}
		for _, r := range runs {
			if err := y.write(at+r[0], to[r[0]:r[0]+r[1]]); err != nil {
				return blocks, err
			}
			if try == 0 {
				blocks += int(r[1] / y.c.Erase)
			}
		}
	}
}

// write erases whole blocks and writes them, unless they are to be blank.
func (y *cycle) write(at int64, p []byte) error {
	if err := y.f.Erase(at, int64(len(p))); err != nil {
		return err
	}
	if blank(p) {
		return nil
	}
	_, err := y.f.WriteAt(p, at)
	return err
}

func blank(p []byte) bool {
	for _, b := range p {
		if b != erased {
			return false
		}
	}
	return true
}

// differing gives the runs of blocks in which two windows differ, as ranges within them.
func differing(a, b []byte, block int64) (runs [][2]int64) {
	for at := int64(0); at < int64(len(a)); at += block {
		if bytes.Equal(a[at:at+block], b[at:at+block]) {
			continue
		}
		if n := len(runs); n > 0 && runs[n-1][0]+runs[n-1][1] == at {
			runs[n-1][1] += block
			continue
		}
		runs = append(runs, [2]int64{at, block})
	}
	return runs
}
