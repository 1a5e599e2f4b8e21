// A program for the guest, for the tests of package peer. Its first argument
// says what it does.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

func main() {
	switch os.Args[1] {
	case "show": // what it was given, then leave with code 7
		folder, err := os.Getwd()
		fmt.Printf("args %q\nenv %q\nin %s %v\n", os.Args[1:], os.Environ(), folder, err)
		for _, file := range []string{"/data/given", "/proc/modules"} {
			data, err := os.ReadFile(file)
			fmt.Printf("%s %v\n%s", file, err, data)
		}
		fmt.Fprint(os.Stderr, "no line feed at the end")
		os.Exit(7)
	case "pour": // a mebibyte of every byte there is, then die of SIGKILL
		var all [256]byte
		for i := range all {
			all[i] = byte(i)
		}
		os.Stdout.Write(bytes.Repeat(all[:], 1<<20/len(all)))
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		time.Sleep(time.Minute)
	case "hang": // say so, and stay
		fmt.Println("hanging")
		time.Sleep(time.Hour)
	case "serve": // answer one connection with what it says, in capitals
		port, err := net.Listen("tcp", ":7")
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("serving")
		c, err := port.Accept()
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		said, err := io.ReadAll(c)
		fmt.Println(len(said), err)
		c.Write(bytes.ToUpper(said))
		c.Close()
		time.Sleep(time.Second) // the answer is on its way; the board goes off at the program's end
	case "crash": // take the kernel down
		fmt.Println("crashing")
		fmt.Println(os.WriteFile("/proc/sysrq-trigger", []byte("c"), 0))
	}
}
