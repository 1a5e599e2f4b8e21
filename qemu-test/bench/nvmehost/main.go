// Command nvmehost is the first process of the bench's x86 host: it connects the kernel's
// NVMe/TCP initiator to targets and loads them as it is told over its second serial port.
//
// Its arguments are the targets, each
//
//	NAME,INTERFACE,OWN ADDRESS/BITS,TARGET'S ADDRESS,NQN,HOST'S NQN,HOST'S ID,SECRET
//
// with an empty SECRET where the target asks for none. When all are connected it says
// "nvmehost: ready". Each line on the serial port is then an order,
//
//	load NAME read|write BYTES DEPTH sequential|random COUNT SECONDS
//	verify NAME MEBIBYTES
//
// where COUNT or SECONDS, of which the other is 0, end a load. The answer is a line
// "nvmehost: done OPERATIONS NANOSECONDS", or "nvmehost: failed: " and why.
package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"
)

func main() {
	err := run()
	fmt.Println("nvmehost: failed:", err)
	syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}

func run() error {
	if err := bringUp(); err != nil {
		return err
	}
	disks := map[string]*disk{}
	for _, arg := range os.Args[1:] {
		f := strings.Split(arg, ",")
		if len(f) != 8 {
			return fmt.Errorf("%d fields in %q, want 8", len(f), arg)
		}
		if err := address(f[1], f[2]); err != nil {
			return err
		}
		d, err := connect(f[3], f[4], f[5], f[6], f[7])
		if err != nil {
			return fmt.Errorf("%s: %w", f[0], err)
		}
		disks[f[0]] = d
	}
	orders, err := os.Open("/dev/ttyS1")
	if err != nil {
		return err
	}
	fmt.Println("nvmehost: ready")
	for s := bufio.NewScanner(orders); s.Scan(); {
		start := time.Now()
		n, err := obey(disks, s.Text())
		if err != nil {
			fmt.Println("nvmehost: failed:", err)
			continue
		}
		fmt.Printf("nvmehost: done %d %d\n", n, time.Since(start).Nanoseconds())
	}
	return fmt.Errorf("the serial port ended")
}

// obey carries one order out and gives the number of operations that it took.
func obey(disks map[string]*disk, line string) (n int, err error) {
	var name, verb, op, order string
	var size, depth, count, seconds int
	if _, err := fmt.Sscan(line, &verb, &name); err != nil {
		return 0, fmt.Errorf("order %q: %w", line, err)
	}
	d := disks[name]
	if d == nil {
		return 0, fmt.Errorf("order %q: no such target", line)
	}
	switch verb {
	case "load":
		if _, err := fmt.Sscan(line, &verb, &name, &op, &size, &depth, &order, &count, &seconds); err != nil {
			return 0, fmt.Errorf("order %q: %w", line, err)
		}
		return d.load(load{write: op == "write", size: size, depth: depth, random: order == "random", count: count, limit: time.Duration(seconds) * time.Second})
	case "verify":
		if _, err := fmt.Sscan(line, &verb, &name, &count); err != nil {
			return 0, fmt.Errorf("order %q: %w", line, err)
		}
		return d.verify(count << 20)
	}
	return 0, fmt.Errorf("order %q: unknown", line)
}
