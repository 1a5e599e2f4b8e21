package main

import (
	"log"
	"os"
	"path/filepath"
)

// programs are the files that a measurement takes.
type programs struct {
	own, portable string // nvme/xts/internal/subject, for arm
	peer          string // peer/openssl.c, for arm
	plugin        string // internal/insncount/user/count.c, for QEMU
}

// build makes them all.
func build() programs {
	at := func(name string) string { return filepath.Join(*dir, name) }
	b := programs{own: at("own"), portable: at("portable"), peer: at("peer"), plugin: at("count.so")}
	arm := []string{"GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0"}
	command(arm, "go", "build", "-o", b.own, "./nvme/xts/internal/subject")
	command(arm, "go", "build", "-tags=xts_portable", "-o", b.portable, "./nvme/xts/internal/subject")
	command(nil, "gcc", "-O2", "-shared", "-fPIC", "-o", b.plugin, "internal/insncount/user/count.c")
	root := openssl(at("armhf"))
	command(nil, "arm-linux-gnueabihf-gcc", "-O2", "-static", "-o", b.peer, "internal/benchxts/peer/openssl.c",
		"-I"+root+"/usr/include", "-I"+root+"/usr/include/arm-linux-gnueabihf",
		"-L"+root+"/usr/lib/arm-linux-gnueabihf", "-lcrypto", "-lpthread", "-ldl")
	return b
}

// openssl unpacks OpenSSL's library for armhf under root, unless it is there. apt
// works on a state of its own, whose architecture is armhf and whose source is this
// machine's Debian mirror, so nothing is installed and the machine stays as it was.
func openssl(root string) string {
	root, err := filepath.Abs(root)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := os.Stat(root + "/usr/lib/arm-linux-gnueabihf/libcrypto.a"); err == nil {
		return root
	}
	if err := os.MkdirAll(root, 0o755); err != nil {
		log.Fatal(err)
	}
	command(nil, "sh", "-ec", fetch, root)
	return root
}

const fetch = `cd "$0"
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
[ -n "$mirror" ] || { echo "benchxts: no apt source for Debian 12 (bookworm) found: run apt-get update, or add one" >&2; exit 1; }
mkdir -p apt/lists/partial apt/cache/archives/partial
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm main" >apt/sources.list
apt() {
	apt-get -q -o APT::Architecture=armhf -o APT::Architectures=armhf -o Dir::State::Lists="$PWD/apt/lists" \
		-o Dir::State::status=/dev/null -o Dir::Cache="$PWD/apt/cache" -o Dir::Etc::SourceList="$PWD/apt/sources.list" \
		-o Dir::Etc::SourceParts=- -o APT::Sandbox::User=root "$@"
}
apt update
apt download libssl-dev
dpkg-deb -x libssl-dev_*_armhf.deb .`
