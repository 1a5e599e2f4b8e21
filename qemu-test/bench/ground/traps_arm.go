package main

import (
	"fmt"
	"math"
	"syscall"
	"unsafe"
)

// System calls of Linux/arm that package syscall does not name.
const (
	sysEventfd2 = 356 // arch/arm/tools/syscall.tbl
	sysFutex64  = 422 // futex_time64, which Go's runtime uses
)

const (
	futexWakePrivate = 1 | 128 // FUTEX_WAKE | FUTEX_PRIVATE_FLAG, linux/futex.h
	epollET          = 1 << 31 // EPOLLET, linux/eventpoll.h
)

const (
	rounds   = 10   // of each figure; the smallest counts
	perRound = 1000 // calls a round
)

// word and one are what the futex and eventfd calls point at. As package
// variables they stay where they are.
var (
	word uint32
	one  uint64 = 1
)

// traced lists the system calls to measure, by figure.
func traced() ([]struct {
	name string
	call
}, error) {
	fd, err := eventfdInEpoll()
	if err != nil {
		return nil, err
	}
	futex := [3]uint32{uint32(uintptr(unsafe.Pointer(&word))), futexWakePrivate, 1}
	write := [3]uint32{fd, uint32(uintptr(unsafe.Pointer(&one))), uint32(unsafe.Sizeof(one))}
	return []struct {
		name string
		call
	}{
		{"trap.getpid", call{number: syscall.SYS_GETPID}},
		{"trap.futex_wake", call{futex, sysFutex64}},
		{"trap.eventfd_write", call{write, syscall.SYS_WRITE}},
	}, nil
}

// eventfdInEpoll makes a nonblocking eventfd and puts it, edge triggered, into an
// epoll set of its own in which nobody waits, as Go's netpoller has it.
func eventfdInEpoll() (uint32, error) {
	fd, _, errno := syscall.RawSyscall(sysEventfd2, 0, syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if errno != 0 {
		return 0, fmt.Errorf("eventfd2: %w", errno)
	}
	set, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("epoll_create1: %w", err)
	}
	event := syscall.EpollEvent{Events: syscall.EPOLLIN | epollET, Fd: int32(fd)}
	if err := syscall.EpollCtl(set, syscall.EPOLL_CTL_ADD, int(fd), &event); err != nil {
		return 0, fmt.Errorf("epoll_ctl: %w", err)
	}
	return uint32(fd), nil
}

// rawSyscalls makes a system call perRound times through syscall.RawSyscall.
//
//go:noinline
func rawSyscalls(c *call) {
	for range perRound {
		syscall.RawSyscall(uintptr(c.number), uintptr(c.args[0]), uintptr(c.args[1]), uintptr(c.args[2]))
	}
}

// gross gives the instructions of one turn of rawSyscalls' loop.
func gross(c *call) float64 {
	return least(rounds, func() float64 { return instructions(func() { rawSyscalls(c) }) }) / perRound
}

// bare gives the instructions from SWI, that one included, to the return, by two
// loops of assembly which differ in that one instruction.
func bare(c *call) float64 {
	with := least(rounds, func() float64 { return instructions(func() { traps(perRound, c) }) })
	without := least(rounds, func() float64 { return instructions(func() { noTraps(perRound, c) }) })
	return (with - without) / perRound
}

// tolerance is how far two ways to measure a trap may lie apart, in instructions.
const tolerance = 1

// measureTraps measures each system call three ways. The figure NAME is what
// rawSyscalls' loop takes a turn less what of it runs in user mode; that part is
// the same for every call that succeeds, and is calibrated on getpid as its gross
// less its bare figure. NAME_bare is measured without RawSyscall altogether. The
// two must agree, or the calibration would not hold. NAME_gross is the whole turn.
func measureTraps() error {
	list, err := traced()
	if err != nil {
		return err
	}
	user := gross(&list[0].call) - bare(&list[0].call)
	for _, t := range list {
		if r, _, errno := syscall.RawSyscall(uintptr(t.number), uintptr(t.args[0]), uintptr(t.args[1]), uintptr(t.args[2])); errno != 0 {
			return fmt.Errorf("%s: %d, %w", t.name, r, errno)
		}
		g, b := gross(&t.call), bare(&t.call)
		if math.Abs(g-user-b) > tolerance {
			return fmt.Errorf("%s: %.2f instructions through RawSyscall, %.2f without it", t.name, g-user, b)
		}
		figure(t.name, g-user)
		figure(t.name+"_bare", b)
		figure(t.name+"_gross", g)
	}
	figure("trap.user_side", user)
	return nil
}
