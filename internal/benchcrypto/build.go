package main

import (
	"log"
	"os"
	"path/filepath"
	"strings"
)

// programs are the files that measurements take.
type programs struct {
	subject string // for arm, this repository's
	peer    string // OpenSSL's, for arm
	plugin  string // internal/insncount/user/count.c, for QEMU
}

// build makes them of a package's internal/subject and the area's source in peer/.
func build(area, pkg string) programs {
	at := func(name string) string { return filepath.Join(*dir, name) }
	b := programs{subject: subject(area, pkg), peer: at(area + "-peer"), plugin: at("count.so")}
	command(nil, "gcc", "-O2", "-shared", "-fPIC", "-o", b.plugin, "internal/insncount/user/count.c")
	root := openssl(at("armhf"))
	command(nil, "arm-linux-gnueabihf-gcc", "-O2", "-static", "-o", b.peer, "internal/benchcrypto/peer/"+area+".c",
		"-I"+root+"/usr/include", "-I"+root+"/usr/include/arm-linux-gnueabihf",
		"-L"+root+"/usr/lib/arm-linux-gnueabihf", "-lcrypto", "-lpthread", "-ldl")
	return b
}

// subject builds a package's internal/subject for arm, with tags or without.
func subject(name, pkg string, tags ...string) string {
	file := filepath.Join(*dir, name)
	env := []string{"GOOS=linux", "GOARCH=arm", "GOARM=7", "CGO_ENABLED=0"}
	command(env, "go", "build", "-tags="+strings.Join(tags, ","), "-o", file, pkg+"/internal/subject")
	return file
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
[ -n "$mirror" ] || { echo "benchcrypto: no apt source for Debian 12 (bookworm) found: run apt-get update, or add one" >&2; exit 1; }
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
