package peer

import "path/filepath"

// A system is a Linux that Setup takes from Debian: the peer on the emulated board, or the
// x86 host of the rack.
type system struct {
	architecture string   // Debian's name
	multiarch    string   // its libraries' folder
	goarch       []string // what has Go build for it
	folder       string   // where Setup works, in the module's folder
	metapackage  string   // depends on the current kernel for such machines
	tree         string   // device tree in the kernel's package; "" where the machine needs none

	// packages are those that programs and their libraries are taken from. What they depend
	// on beyond that (most of it to install and to configure them) is left out: a program
	// that lacks a library is refused.
	packages []string
}

// forNVMe are packages of the host's side of NVMe over TCP, and of a file system.
var forNVMe = []string{
	"nvme-cli", "libnvme1", "libjson-c5", "zlib1g", "libssl3",
	"libdbus-1-3", "libsystemd0", "libcap2", "libgcrypt20", "libgpg-error0", "liblzma5", "libzstd1", "liblz4-1", // what libnvme1 loads
	"e2fsprogs", "libext2fs2", "libcom-err2", "libblkid1", "libuuid1", // ext4
	"libc6",
}

var (
	// board is Linux on the emulated reference board.
	board = &system{
		architecture: "armhf", multiarch: "arm-linux-gnueabihf", goarch: []string{"GOARCH=arm", "GOARM=7"},
		folder: "build/peer", metapackage: "linux-image-armmp", tree: "imx6ul-14x14-evk.dtb",
		packages: append([]string{"iperf3", "libiperf0", "libsctp1", "openssl"}, forNVMe...), // iperf3 measures the network, OpenSSL the handshake
	}

	// host is Linux on the x86 machine that the rack's board guards.
	host = &system{
		architecture: "amd64", multiarch: "x86_64-linux-gnu", goarch: []string{"GOARCH=amd64"},
		folder: "build/host", metapackage: "linux-image-amd64",
		packages: append([]string{"fio", "libaio1", "libnuma1"}, forNVMe...), // fio writes and verifies
	}
)

// in is a path in the system's folder.
func (s *system) in(root string, names ...string) string {
	return filepath.Join(append([]string{root, s.folder}, names...)...)
}
