# make help lists the targets. Everything that they need beside Go, `make deps`
# installs, and each target that needs it calls it.

GO      ?= go
# What makes a linux/arm program an image: see internal/metal.
IMAGE    = GOOS=linux GOARCH=arm GOARM=7 CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=false -ldflags '-s -w -T 0x80010000 -E cpuentry -R 0x1000'
# The bootloader lies where it does not overlap the image that it starts.
LOADER   = $(subst -T 0x80010000,-T 0x98010000,$(IMAGE)) -tags bootloader
ARM      = GOOS=linux GOARCH=arm GOARM=7 CGO_ENABLED=0
METAL    = $(GO) run ./internal/metal/cmd
# Packages whose tests need nothing but a processor; and those that need more than the board
# has: sockets of an operating system, processes, or (attest/verify, nvme/pool) more time.
PORTABLE = ./attest/akcert ./attest/document ./attest/eventlog ./attest/evidence ./attest/golden ./attest/ijson ./attest/sanitisation ./attest/sha256 ./attest/tis \
	./board/... ./boot/... ./resetctl/... \
	./net/dhcp ./net/keyservice/kms ./net/metadata ./net/redfish ./net/stack ./nvme/dhchap ./nvme/initiator ./nvme/key ./nvme/target ./nvme/volume ./nvme/wire ./nvme/xts \
	./qemu-test/conformance ./qemu-test/torture
HOSTED   = ./attest/verify ./net/audit/... ./net/metrics ./net/https ./net/policy ./net/update ./nvme/pool ./nvme/remote ./nvme/storage

.PHONY: all armory nitroctl run demo host test hil soak test-tamper test-powercut vet verify test-std bench bench-board bench-ground bench-boot bench-host bench-net bench-card bench-api bench-nvme bench-xts bench-sha256 bench-verify bench-store peer deps clean help FORCE

all: build/controller.elf build/bootloader.elf ## build the firmware

build/controller.elf: FORCE
	$(IMAGE) -o $@ ./cmd/controller

build/bootloader.elf: FORCE
	$(LOADER) -o $@ ./cmd/bootloader

armory: FORCE ## build the firmware for the USB armory Mk II LAN
	$(IMAGE) -tags armory -o build/controller-armory.elf ./cmd/controller

nitroctl: ## build the factory's and operator's tool (docs/nitroctl.md)
	$(GO) build -trimpath -o build/bin/nitroctl ./cmd/nitroctl

# RACK are arguments for the rack: make run RACK='-count -v'
run: deps host all nitroctl ## boot the emulated rack, tell each step up to a host with an encrypted volume, and say what to try (Ctrl-C ends it)
	@$(GO) build -o build/bin/rack ./cmd/rack
	@build/bin/rack $(RACK)

demo: deps host all nitroctl ## the same with a new board, without waiting: succeeds only if each step was checked
	@$(GO) build -o build/bin/rack ./cmd/rack
	@build/bin/rack -demo $(RACK)

host: deps ## set up Linux for the rack's x86 host
	$(GO) run ./internal/peer/cmd setup -host

test: deps peer host vet verify ## run all tests: on this machine, under GOARCH=arm, and on the emulated board
	$(GO) test -short $$($(GO) list ./... | grep -v /qemu-test)
	$(GO) test -short -count=1 -timeout 40m ./qemu-test/...
	$(ARM) $(GO) test -short -exec 'qemu-arm -cpu cortex-a7' $(PORTABLE) $(HOSTED)
	$(METAL) -short -torment ./qemu-test/conformance ./qemu-test/torture ./nvme/xts ./attest/sha256
	$(METAL) -short $(PORTABLE) ./qemu-test/board ./qemu-test/card ./qemu-test/devices
	$(METAL) -short -std

vet: ## check the sources: gofmt, go vet for all that is built
	@test -z "$$(gofmt -l .)" || { echo "vet: gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(ARM) $(GO) vet ./...
	$(ARM) $(GO) vet -tags boardtest,boardtorment,board ./...
	$(ARM) $(GO) vet -tags bootloader ./board/... ./cmd/bootloader ./qemu-test/images/...
	$(ARM) $(GO) vet -tags armory ./cmd/...

test-std: deps ## run the standard library's own tests on the emulated board (long)
	$(METAL) -std

test-tamper: deps ## change, swap and replay every region of the boot chain, and sit on the TPM's bus (ten minutes)
	NITRO_TAMPER=all $(GO) test -count=1 -timeout 60m -p 1 -run 'TestTamper' -v ./internal/tamper ./qemu-test

test-powercut: deps ## cut the power at every write and TPM command of provisioning, boots, updates and store traffic (twenty minutes)
	NITRO_POWERCUT=all $(GO) test -count=1 -timeout 60m -p 1 -run 'TestCut' -v ./net/provisioning ./boot/chain

# The rig is a file: docs/hil.md.
RIG ?= qemu-test/hil/testdata/emulator.json
hil: deps ## run the end-to-end tests over a board on the bench, or the emulator: make hil RIG=bench.json
	$(GO) test -count=1 -timeout 2h -v ./qemu-test/hil -rig $(abspath $(RIG))

soak: deps peer host ## ten minutes of HTTPS load, card traffic and garbage collection; 100,000 quotes and requests, 10,000 handshakes; 1 GiB of NVMe/TCP with Linux; 5 GiB of fio on the rack
	$(GO) test -count=1 -timeout 30m -run TestSoak -v ./qemu-test -soak 10m
	$(GO) test -count=1 -timeout 3h -parallel 1 -v ./qemu-test/nvme -soak 512
	$(GO) test -count=1 -timeout 13h -run TestDemo -v ./qemu-test -fio 5120
	$(GO) test -count=1 -timeout 6h -run TestService -v ./qemu-test/api -handshakes 10000 -requests 100000
	NITRO_QUOTES=100000 $(GO) test -count=1 -timeout 60m -run TestQuotes -v ./attest/tpm

bench: bench-board bench-xts bench-sha256 bench-verify bench-store ## measure everything, and write build/bench.json
	@{ echo '['; sed '1d;$$d' build/bench-board.json; for a in xts sha256 verify store; do echo ','; sed '1d;$$d' build/bench-$$a.json; done; echo ']'; } > build/bench.json

bench-board: deps peer all ## measure the ground, the boot, the network, an SD card, the API and encrypted volumes, Linux on the same emulated board beside them
	$(GO) run ./qemu-test/bench

bench-ground bench-boot bench-host bench-net bench-card bench-api bench-nvme: bench-%: deps peer all ## measure that part of bench-board
	$(GO) run ./qemu-test/bench $*

bench-xts: ## measure AES-256-XTS, OpenSSL for ARM beside it
bench-sha256: ## measure SHA-256, OpenSSL for ARM beside it
bench-xts bench-sha256: bench-%:
	@internal/deps/install.sh gcc-arm-linux-gnueabihf libc6-dev-armhf-cross
	$(GO) run ./internal/benchcrypto $*

bench-verify: deps ## measure what verifying the boot chain takes
	$(GO) run ./internal/benchverify

bench-store: deps ## measure the encrypted store: instructions, sectors, steps of the counter
	$(GO) run ./internal/benchstore

verify: ## build the firmware twice, in two folders and from nothing, and compare
	@rm -rf build/verify && mkdir -p build/verify/one build/verify/elsewhere/two
	@for d in one elsewhere/two; do \
		git ls-files -z --cached --others --exclude-standard | tar -c --null -T - | tar -x -C build/verify/$$d && \
		(cd build/verify/$$d && if [ $$d != one ]; then export GOCACHE=$(CURDIR)/build/verify/cache; fi && \
			$(IMAGE) -o controller.elf ./cmd/controller && $(LOADER) -o bootloader.elf ./cmd/bootloader) || exit 1; \
	done
	@for f in controller bootloader; do \
		cmp build/verify/one/$$f.elf build/verify/elsewhere/two/$$f.elf && \
		echo "verify: both builds of the $$f are `sha256sum < build/verify/one/$$f.elf | cut -c1-64`" || exit 1; \
	done
	@rm -rf build/verify

peer: deps ## set up Linux on the emulated board, to compare with
	$(GO) run ./internal/peer/cmd setup

deps: ## install what is missing of QEMU and the tools (says what it does)
	@internal/deps/install.sh

clean: ## remove what was built
	rm -rf build

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 14

FORCE:
