// Package linuxhost is the operating system of the rack's x86 host: Debian's 6.12 kernel and
// an initramfs whose first process (linuxhost/init) asks the board's metadata service, connects its volumes
// over NVMe/TCP with nvme-cli, makes a file system, works in it, and says on the serial
// console what it has done.
//
// OVMF loads kernel and initramfs from the emulator (fw_cfg: -kernel, -initrd), as a real
// host's firmware loads them from a disk or a network. The board verifies the host's
// firmware, and none of these: what the firmware loads is the host owner's affair (UEFI
// Secure Boot, measured boot), and this OVMF has no Secure Boot keys.
//
// # What the host says
//
// One line a step, among the console's other lines:
//
//	nitro-host: STEP STATE KEY=VALUE ...
//
// STATE is ok, or failed with the key "why"; values are quoted as Go quotes strings where
// they hold spaces. [Parse] reads a line. The steps, in their order:
//
//	kernel      release, firmware (as DMI names it), uptime (seconds)
//	network     address
//	metadata    cycle, volumes, subsystem, product
//	refused     discovery, name, secret: what nvme-cli said when another host was to discover and to
//	            connect, and this one with a wrong secret; no namespace came
//	connect     host (NQN)
//	namespace   nsid, bytes, device
//	filesystem  made: true, or false where the volume had one
//	work        bytes, files: written and flushed
//	verify      bytes, files: read from the volume, past all caches
//	lost        the connection is gone; I/O waits
//	back        seconds; then verify again
//	gone        nsid: the namespace was taken away; then namespace again when one comes
//
// The second namespace is fio's, if there is work for it. Beside the steps above come, for the
// device itself first and then for a file of an ext4 on it:
//
//	half        on (device or file): half of the bytes are written. On the device the host then
//	            cuts the controller's connections, in the middle of its I/O
//	fio         on, written, read, seconds, error, complaints: all that was written was read and right;
//	            complaints is how often the kernel has told of a failed I/O since it began
package linuxhost

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"nitro/internal/peer"
)

// Prefix begins each line that is for [Parse].
const Prefix = "nitro-host: "

// Address is the host's on its private wire, and Board the metadata service's.
const (
	Address = "169.254.1.1/16"
	Board   = "http://169.254.169.254"
)

// A Report is a line of the host's.
type Report struct {
	Step   string
	OK     bool
	Fields map[string]string
}

// maxFields bounds a line.
const maxFields = 16

// Parse reads a line; false where it is none, or is damaged.
func Parse(line string) (r Report, ok bool) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(line), Prefix)
	if !ok {
		return r, false
	}
	step, rest, _ := strings.Cut(rest, " ")
	state, rest, _ := strings.Cut(rest, " ")
	if step == "" || state != "ok" && state != "failed" {
		return r, false
	}
	r = Report{step, state == "ok", map[string]string{}}
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
		name, value, ok := strings.Cut(rest, "=")
		if !ok || name == "" || strings.ContainsAny(name, " \"") || len(r.Fields) == maxFields {
			return Report{}, false
		}
		if strings.HasPrefix(value, `"`) {
			quoted, err := strconv.QuotedPrefix(value)
			if err != nil {
				return Report{}, false
			}
			rest = value[len(quoted):]
			value, _ = strconv.Unquote(quoted) // QuotedPrefix has looked
		} else {
			value, rest, _ = strings.Cut(value, " ")
		}
		r.Fields[name] = value
	}
	return r, true
}

// String writes the line.
func (r Report) String() string {
	state := "failed"
	if r.OK {
		state = "ok"
	}
	line := Prefix + r.Step + " " + state
	for _, name := range slices.Sorted(maps.Keys(r.Fields)) {
		value := r.Fields[name]
		if value == "" || strings.ContainsAny(value, " \"\\=") || strconv.Quote(value) != `"`+value+`"` {
			value = strconv.Quote(value)
		}
		line += fmt.Sprintf(" %s=%s", name, value)
	}
	return line
}

// Work is what the host does on its volume.
type Work struct {
	Pattern string // what its files repeat: at most 64 letters and digits, found nowhere else
	Bytes   int    // of each round
	Fio     int64  // bytes that fio writes, half of them on the device; 0 is no fio
}

// FioVolume is the size in bytes of a volume that is large enough for fio.
const FioVolume = 64 << 20

// FioParts gives how large a part of the volume fio writes, and how often.
func (w Work) FioParts() (size int64, loops int64) {
	const most = FioVolume / 4 * 3 // beside the file system's own structures
	half := max(w.Fio/2, 1<<20)
	size = min(half, most) / 4096 * 4096
	return size, (half + size - 1) / size
}

// Parameters of the kernel's command line that the first process reads.
const (
	PatternParameter = "nitro.pattern"
	BytesParameter   = "nitro.bytes"
	FioParameter     = "nitro.fio"
)

// CommandLine is the kernel's. A panic restarts at once; the kernel's tests of its own
// ciphers would run beside the host's work for seconds.
func (w Work) CommandLine() string {
	return fmt.Sprintf("console=ttyS0,115200 quiet loglevel=3 panic=-1 rdinit=/init cryptomgr.notests=1 %s=%s %s=%d %s=%d",
		PatternParameter, w.Pattern, BytesParameter, w.Bytes, FioParameter, w.Fio)
}

// Content is a file's: lines of 64 bytes, each with the pattern, the file's number and the
// line's, so that no two of a volume's blocks are equal.
func (w Work) Content(file, size int) []byte {
	var b strings.Builder
	for n := 0; b.Len() < size; n++ {
		line := fmt.Sprintf("%s %d %d ", w.Pattern, file, n)
		b.WriteString(line + strings.Repeat(".", max(0, lineSize-1-len(line))) + "\n")
	}
	return []byte(b.String()[:size])
}

const lineSize = 64

// Make writes the initramfs into a folder, and gives it with Debian's kernel, which make peer
// or make run has set up.
func Make(ctx context.Context, folder string) (kernel, initramfs string, err error) {
	return peer.Host{
		Init:     "./qemu-test/linuxhost/init",
		Programs: []string{"nvme", "mke2fs", "fio"},
		Absent:   []string{"libgfapi.so.0", "libnbd.so.0", "libibverbs.so.1", "librdmacm.so.1", "librados.so.2", "librbd.so.1", "libpmemblk.so.1", "libpmem.so.1"},
		Modules:  []string{"virtio-pci", "virtio-net", "crc32c-generic", "dh-generic", "nvme-tcp", "ext4"},
	}.Make(ctx, folder)
}
