#!/bin/sh
# install.sh installs what the Makefile's targets need on Debian 12, and says so.
# Run it again at any time: it does nothing when all is there. Arguments are
# further packages.
set -eu

packages="gcc libc6-dev libcap2 libedit2 libseccomp2 libgnutls30 libuuid1 zlib1g binutils-arm-linux-gnueabihf xz-utils swtpm iperf3 tpm2-tools fdisk ovmf u-boot-qemu redfishtool python3-sushy testssl.sh sslscan openssl fish $*"

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

installed() { dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q 'ok installed'; }

missing=
for p in $packages; do
	installed "$p" || missing="$missing $p"
done

# QEMU 8.1 is the first with the TPM on I2C that the board has; Debian 12 has it in
# its backports. The x86 host's QEMU shares files with it, and so has to be of one version.
qemu=wanted
if installed qemu-system-arm && installed qemu-system-x86 && dpkg --compare-versions "$(dpkg-query -W -f '${Version}' qemu-system-arm)" ge 1:8.1; then
	qemu=there
fi
# User-mode emulation is Debian 12's own: that of the backports cannot load plugins.
plugins() { command -v qemu-arm >/dev/null && ! qemu-arm -plugin nothing 2>&1 | grep -q "unknown option"; }

# Daemons that tests start by themselves are unpacked, not installed: Debian would start
# them, and chrony would take this machine's clock in hand. What they link is installed.
unpacked="chrony rsyslog rsyslog-openssl libestr0 libfastjson4 liblognorm5"
debian=build/debian
is_unpacked() { [ -x $debian/usr/sbin/chronyd ] && [ -x $debian/usr/sbin/rsyslogd ]; }

if [ -z "$missing" ] && [ "$qemu" != wanted ] && plugins && is_unpacked; then
	exit 0
fi

command -v apt-get >/dev/null || { echo "deps: this is not a Debian system: install QEMU 8.1 or later (system emulation of ARM and x86), and:$packages" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
# One of a machine's package sources may be out of order without being needed; what
# is missing in the end, apt-get install says.
read_lists() {
	as_root apt-get update -q -q || echo "deps: some package lists could not be read; going on with the others"
}
echo "deps: reading Debian's package lists"
read_lists
if [ "$qemu" = wanted ]; then
	if ! apt-get indextargets --format '$(CODENAME)$(SUITE)' | grep -q backports; then
		mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' | head -n 1)
		[ -n "$mirror" ] || { echo "deps: no apt source for Debian 12 (bookworm) found: add one, then run this again" >&2; exit 1; }
		echo "deps: adding bookworm-backports of the same mirror to apt's sources"
		echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror bookworm-backports main" |
			as_root tee /etc/apt/sources.list.d/nitro-backports.list >/dev/null
		read_lists
	fi
	echo "deps: installing QEMU from bookworm-backports"
	as_root apt-get install -q -q -y --no-install-recommends -t bookworm-backports qemu-system-arm qemu-system-x86
fi
if [ -n "$missing" ]; then
	echo "deps: installing$missing"
	as_root apt-get install -q -q -y --no-install-recommends $missing
fi
if ! is_unpacked; then
	echo "deps: unpacking $unpacked into $debian"
	mkdir -p $debian
	(cd $debian && apt-get download -q -q $unpacked && for d in *.deb; do dpkg -x "$d" .; done && rm -- *.deb)
fi
if ! plugins; then
	echo "deps: installing qemu-user of bookworm"
	as_root apt-get install -q -q -y --no-install-recommends --allow-downgrades qemu-user/bookworm
fi
plugins || { echo "deps: qemu-arm cannot load plugins: install Debian 12's own qemu-user" >&2; exit 1; }
echo "deps: done"
