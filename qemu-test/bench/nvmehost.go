package main

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"nitro/qemu-test/emulator"
)

// An nvmeHost is the x86 host, on which bench/nvmehost takes orders.
type nvmeHost struct {
	board  *emulator.Board
	orders net.Conn
}

// open waits until the host is connected to its targets.
func (h *nvmeHost) open(path string) error {
	said, err := h.board.Expect("nvmehost: (ready|failed: .*)\r\n", nvmeLimit)
	if err != nil {
		return err
	}
	if said[1] != "ready" {
		return errors.New(said[0])
	}
	h.orders, err = net.Dial("unix", path)
	return err
}

// obey gives the host an order, and what came of it: operations and the time that they took.
func (h *nvmeHost) obey(order string) (n int, took time.Duration, err error) {
	if _, err := fmt.Fprintln(h.orders, order); err != nil {
		return 0, 0, err
	}
	said, err := h.board.Expect("nvmehost: (?:done ([0-9]+) ([0-9]+)|failed: .*)\r\n", nvmeLimit)
	if err != nil {
		return 0, 0, err
	}
	if said[1] == "" {
		return 0, 0, errors.New(said[0])
	}
	if n, err = strconv.Atoi(said[1]); err != nil {
		return 0, 0, err
	}
	ns, err := strconv.ParseInt(said[2], 10, 64)
	return n, time.Duration(ns), err
}
