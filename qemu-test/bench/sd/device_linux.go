//go:build linux && !board

package main

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

const (
	path        = "/dev/mmcblk0"
	foundWithin = 20 * time.Second // Linux looks for the card while the program starts
)

// open gives the card, and memory for requests, which O_DIRECT wants on whole pages.
func open() (device, []byte, error) {
	p, err := syscall.Mmap(-1, 0, large, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, nil, fmt.Errorf("memory for requests: %w", err)
	}
	for end := time.Now().Add(foundWithin); ; time.Sleep(50 * time.Millisecond) {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_SYNC|syscall.O_DIRECT, 0)
		if err == nil || !errors.Is(err, os.ErrNotExist) || time.Now().After(end) {
			return f, p, err
		}
	}
}
