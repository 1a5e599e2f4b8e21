package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe"
)

// ramDisk is of the brd module, which makes disks when they are first opened.
const ramDisk = "/dev/ram0"

// Requests of the device mapper (linux/dm-ioctl.h): the numbers are _IOWR(0xfd, N, 312).
const (
	dmCreate = 0xc138fd03
	dmResume = 0xc138fd06 // DM_DEV_SUSPEND without the flag
	dmLoad   = 0xc138fd09

	dmHeader = 312 // struct dm_ioctl
	dmTarget = 40  // struct dm_target_spec
	dmName   = "crypt0"
)

// encryptedDisk puts dm-crypt on the RAM disk, with sectors of 512 bytes as the firmware's
// volume has, and gives its device.
func encryptedDisk() (string, error) {
	f, err := os.OpenFile(ramDisk, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	size, err := f.Seek(0, 2)
	if err != nil {
		return "", err
	}
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer control.Close()
	key := "01" + strings.Repeat("0", 126) // 64 bytes whose halves differ
	table := fmt.Sprintf("aes-xts-plain64 %s 0 %s 0", key, ramDisk)
	target := make([]byte, (dmTarget+len(table)+8)/8*8)
	binary.NativeEndian.PutUint64(target[8:], uint64(size/512))
	copy(target[24:40], "crypt")
	copy(target[dmTarget:], table)
	for _, step := range []struct {
		request uintptr
		targets []byte
	}{{dmCreate, nil}, {dmLoad, target}, {dmResume, nil}} {
		if err := mapper(control, step.request, step.targets); err != nil {
			return "", fmt.Errorf("device mapper, request %#x: %w", step.request, err)
		}
	}
	return "/dev/dm-0", nil
}

// mapper makes one request of the device mapper.
func mapper(control *os.File, request uintptr, targets []byte) error {
	b := make([]byte, dmHeader+max(len(targets), 1024))
	binary.NativeEndian.PutUint32(b, 4) // version 4.0.0
	binary.NativeEndian.PutUint32(b[12:], uint32(len(b)))
	binary.NativeEndian.PutUint32(b[16:], dmHeader) // where the targets are
	if targets != nil {
		binary.NativeEndian.PutUint32(b[20:], 1)
	}
	copy(b[48:], dmName)
	copy(b[dmHeader:], targets)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, control.Fd(), request, uintptr(unsafe.Pointer(&b[0]))); errno != 0 {
		return errno
	}
	return nil
}
