# make help lists the targets. Everything that they need beside Go, `make deps`
# installs, and each target that needs it calls it.

GO      ?= go
# What makes a linux/arm program an image: see internal/metal.
IMAGE    = GOOS=linux GOARCH=arm GOARM=7 CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -T 0x80010000 -E cpuentry -R 0x1000'
ARM      = GOOS=linux GOARCH=arm GOARM=7 CGO_ENABLED=0
QEMU     = qemu-system-arm -M mcimx6ul-evk -m 512M -display none -monitor none -net none -serial stdio
METAL    = $(GO) run ./internal/metal/cmd

.PHONY: all run test bench bench-board verify peer deps test-std test-go127 floors-help clean help

all: build/controller.elf ## build the firmware

build/controller.elf: FORCE
	$(IMAGE) -o $@ ./cmd/controller

run: deps all ## boot the firmware on the emulated board (Ctrl-C ends it)
	@echo "run: the console of the emulated MCIMX6UL-EVK follows; Ctrl-C ends it"
	exec $(QEMU) -kernel build/controller.elf

test: deps peer ## run all tests: on this machine, under GOARCH=arm, and on the emulated board
	$(GO) run ./internal/check

test-std: deps ## run the standard library's own tests on the emulated board (long)
	$(METAL) -std

bench: bench-board ## measure everything

bench-board: deps peer ## measure the ground, Linux on the same emulated board beside it
	$(GO) run ./qemu-test/bench

verify: ## build twice from different folders and compare
	$(GO) run ./internal/verify

peer: deps ## set up Linux on the emulated board, to compare with
	$(GO) run ./internal/peer/cmd setup

deps: ## install what is missing of QEMU and the tools (says what it does)
	@internal/deps/install.sh

clean: ## remove what was built
	rm -rf build

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 14

FORCE:
