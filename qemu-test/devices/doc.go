// Package devices holds tests of what the kernel gives programs to drive devices
// with: interrupt lines as files, and /dev/mem. They run on the board only, with
// the tag boardtest that its test images have:
//
//	go run ./internal/metal/cmd ./qemu-test/devices
package devices
