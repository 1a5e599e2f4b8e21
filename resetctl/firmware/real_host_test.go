//go:build !arm

package firmware

import (
	"bytes"
	"os"
	"slices"
	"testing"

	"nitro/boot/code"
)

// real is a flash of a real machine, with its regions.
type real struct {
	*Manifest
	flash []byte
}

// file reads a file of a Debian package (internal/deps/install.sh has them).
func file(t *testing.T, path, pkg string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v: install Debian's package %s (make deps)", err, pkg)
	}
	return b
}

// ovmf is the 4 MiB flash of a PC with UEFI: its variables, which are the host's, and
// below the processor's reset vector the code. The variables end at 0x84000, which is no
// whole 64 KiB.
func ovmf(t *testing.T) real {
	vars, code := file(t, "/usr/share/OVMF/OVMF_VARS_4M.fd", "ovmf"), file(t, "/usr/share/OVMF/OVMF_CODE_4M.fd", "ovmf")
	v := int64(len(vars))
	return real{&Manifest{Part: Host, Host: "q35", Version: "2022.11-6", SecurityVersion: 1, Size: 4 << 20, Erase: 4 << 10, Regions: []Region{
		{Name: "variables", Offset: 0, Length: v, Kind: Mutable}, {Name: "code", Offset: v, Length: int64(len(code)), Kind: Static},
	}}, append(vars, code...)}
}

// uboot is a BMC's flash of 16 MiB: U-Boot, its environment, the BMC's kernel (the
// emulator's 64-bit U-Boot stands in for it), and a file system that the BMC makes anew.
func uboot(t *testing.T) real {
	flash := bytes.Repeat([]byte{0xff}, 16<<20)
	copy(flash, file(t, "/usr/lib/u-boot/qemu_arm/u-boot.bin", "u-boot-qemu"))
	copy(flash[2<<20:], file(t, "/usr/lib/u-boot/qemu_arm64/u-boot.bin", "u-boot-qemu"))
	return real{&Manifest{Part: BMC, Host: "q35", Version: "2023.01", SecurityVersion: 1, Size: 16 << 20, Erase: 64 << 10, Regions: []Region{
		{Name: "u-boot", Offset: 0, Length: 1 << 20, Kind: Static}, {Name: "environment", Offset: 1 << 20, Length: 128 << 10, Kind: Mutable},
		{Name: "log", Offset: 1<<20 + 128<<10, Length: 1<<20 - 128<<10, Kind: Mutable},
		{Name: "kernel", Offset: 2 << 20, Length: 6 << 20, Kind: Static}, {Name: "rwfs", Offset: 8 << 20, Length: 8 << 20, Kind: Erasable},
	}}, flash}
}

// TestReal: both parts' real firmware in one store of the card's size: installed, each
// static region corrupted and recovered with the erasures it takes, then the golden copy
// corrupted too, and held.
func TestReal(t *testing.T) {
	host, bmc := ovmf(t), uboot(t)
	w := newWorld(t, 48<<20, newChip(4<<20, 4<<10))
	for _, r := range []real{host, bmc} {
		w.chip = newChip(r.Size, 4<<10)
		w.chip.w = w
		g := w.golden(t, r.Part)
		g.c.Host = "q35"
		w.writes = nil
		if _, err := g.Install(bytes.NewReader(pack(t, r.Manifest, r.flash))); err != nil {
			t.Fatal(err)
		}
		copy(w.chip.mem, r.flash) // as the factory wrote it
		got, err := g.Verify(w.chip, Options{})
		if err != nil || got.Rewritten != 0 || got.Updated != nil {
			t.Fatalf("%s: %+v, %v", r.Part, got, err)
		}
		for _, region := range r.of(Static) {
			w.chip.mem[region.Offset] ^= 1
			w.chip.mem[region.Offset+region.Length/2] ^= 1
			got, err := g.Verify(w.chip, Options{})
			if err != nil || !slices.Equal(got.Recovered, []string{region.Name}) || got.Rewritten != 2 {
				t.Errorf("%s, %s: %+v, %v", r.Part, region.Name, got, err)
			}
			if !bytes.Equal(w.chip.mem, r.flash) {
				t.Errorf("%s, %s: not what it was", r.Part, region.Name)
			}
		}
		w.damage(16 << 10)
		for _, region := range r.of(Static) {
			w.chip.mem[region.Offset] ^= 1
			if _, err := g.Verify(w.chip, Options{}); code.Of(err) != code.HostFirmware {
				t.Errorf("%s, %s, golden copy damaged: %v", r.Part, region.Name, err)
			}
			w.chip.mem[region.Offset] ^= 1
		}
	}
}
