// The first process of the emulated Linux peer: it mounts what a program
// expects, loads the kernel modules that the order lists, brings the network up if
// the order says so, runs the order's program, reports its output and how it ended on the guest's answering port
// (package guest), and switches the board off.
//
// Its own troubles before the port is open go to the console.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"unsafe"

	"nitro/internal/peer/early"
	"nitro/internal/peer/guest"
)

// A number of Linux/arm that package syscall does not name.
const tcsbrk = 0x5409 // asm-generic/ioctls.h; with argument 1 it waits until all is sent

// firstPort is the first Ethernet port's device in the device tree: FEC1. Linux
// numbers the two ports in the order in which their drivers come up.
const firstPort = "/sys/bus/platform/devices/2188000.ethernet"

func main() {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: runs only as the first process of the emulated peer")
		os.Exit(1)
	}
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "init:", err)
	}
	syscall.Sync()
	err := syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
	fmt.Fprintln(os.Stderr, "init: power off:", err)
	os.Exit(1) // the kernel panics when its first process ends, and that stops the emulator
}

// serve carries out the order and answers on the port. Its error is one that
// could not be told there.
func serve() error {
	if err := early.Mount(); err != nil {
		return err
	}
	port, err := openPort()
	if err != nil {
		return err
	}
	data, err := os.ReadFile(guest.OrderPath)
	if err != nil {
		return err
	}
	var order guest.Order
	if err := json.Unmarshal(data, &order); err != nil {
		return fmt.Errorf("%s: %w", guest.OrderPath, err)
	}
	answer := carryOut(&order, port)
	if _, err := port.WriteString(answer); err != nil {
		return err
	}
	return drain(port)
}

// openPort opens the answering port and takes all processing off it, so that
// every byte arrives as the program wrote it.
func openPort() (*os.File, error) {
	port, err := os.OpenFile(guest.Port, os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	var t syscall.Termios
	if err := ioctl(port, syscall.TCGETS, unsafe.Pointer(&t)); err != nil {
		return nil, fmt.Errorf("%s: read settings: %w", guest.Port, err)
	}
	t.Iflag, t.Oflag, t.Lflag = 0, 0, 0
	if err := ioctl(port, syscall.TCSETS, unsafe.Pointer(&t)); err != nil {
		return nil, fmt.Errorf("%s: write settings: %w", guest.Port, err)
	}
	return port, nil
}

// drain waits until the port has sent all that was written to it.
func drain(port *os.File) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, port.Fd(), tcsbrk, 1); errno != 0 {
		return fmt.Errorf("%s: drain: %w", guest.Port, errno)
	}
	return nil
}

// ioctl calls ioctl(2) with a pointer, which is turned into a number only in
// the system call's own argument list, as package unsafe demands.
func ioctl(f *os.File, request uintptr, arg unsafe.Pointer) error {
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), request, uintptr(arg)); errno != 0 {
		return errno
	}
	return nil
}

// carryOut loads the modules, brings the network up, runs the program with its output on port, and
// gives the marker that ends the answer.
func carryOut(order *guest.Order, port *os.File) string {
	for _, path := range order.Modules {
		if err := early.Load(path); err != nil {
			return guest.Fail(order.Nonce, err)
		}
	}
	if order.Address.IsValid() {
		if err := early.Network(firstPort, order.Address); err != nil {
			return guest.Fail(order.Nonce, err)
		}
	}
	if _, err := port.WriteString(guest.Begin(order.Nonce)); err != nil {
		return guest.Fail(order.Nonce, err)
	}
	cmd := exec.Command(order.Program, order.Args...)
	cmd.Env, cmd.Dir = order.Env, "/tmp"
	cmd.Stdout, cmd.Stderr = port, port
	if err := cmd.Start(); err != nil {
		return guest.Fail(order.Nonce, err)
	}
	cmd.Wait() // its error says no more than ProcessState does
	ws := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ws.Signaled() {
		return guest.End(order.Nonce, guest.Status{Exit: -1, Signal: int(ws.Signal())})
	}
	return guest.End(order.Nonce, guest.Status{Exit: ws.ExitStatus()})
}
