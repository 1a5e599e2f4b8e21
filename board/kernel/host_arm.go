//go:build boardtest

package kernel

import "unsafe"

// Images that test reach the emulator's host through ARM semihosting (Semihosting
// for AArch32 and AArch64, 2.0): arguments, exit code, test data and temporary
// files. Product images have none of this; see nohost_arm.go.

const redact = false

//go:noescape
func semihost(op uint32, block unsafe.Pointer) uint32

const (
	semiOpen    = 0x01
	semiClose   = 0x02
	semiWrite   = 0x05
	semiRead    = 0x06
	semiSeek    = 0x0a
	semiLength  = 0x0c
	semiRemove  = 0x0e
	semiRename  = 0x0f
	semiCmdline = 0x15
	semiExit    = 0x20

	failed     = ^uint32(0)
	stoppedApp = 0x20026 // ADP_Stopped_ApplicationExit
)

func (k *kernel) semi(op, a, b, c uint32) uint32 {
	var block [3]uint32
	block[0], block[1], block[2] = a, b, c
	return semihost(op, unsafe.Pointer(&block))
}

// fopen modes, as semihosting numbers them.
const (
	modeRead      = 1  // rb
	modeUpdate    = 3  // r+b
	modeTruncate  = 5  // wb
	modeRecreate  = 7  // w+b
	modeAppend    = 9  // ab
	modeReadwrite = 11 // a+b
)

// hostHas reports whether a path may name a file of the host's. What the host's
// kernel says of itself in /proc, /sys and /dev is not true of the board.
func hostHas(path, n uint32) bool {
	return !(n >= 5 && (pathIs(path, 5, "/proc") || pathIs(path, 5, "/sys/") || pathIs(path, 5, "/dev/")))
}

func (k *kernel) hostOpen(path, n, flags uint32) uint32 {
	if !hostHas(path, n) {
		return eNOENT
	}
	handle := k.semi(semiOpen, path, modeRead, n)
	exists := handle != failed
	if exists && flags&(oCreat|oExcl) == oCreat|oExcl {
		k.semi(semiClose, handle, 0, 0)
		return eEXIST
	}
	if !exists && flags&oCreat == 0 {
		return eNOENT
	}
	if flags&oAccessMode != oRdonly || !exists {
		mode := uint32(modeUpdate)
		switch {
		case flags&oAppend != 0:
			mode = modeReadwrite
		case flags&oTrunc != 0 || !exists:
			mode = modeRecreate
		}
		if exists {
			k.semi(semiClose, handle, 0, 0)
		}
		if handle = k.semi(semiOpen, path, mode, n); handle == failed {
			return eACCES
		}
	}
	fd := k.newFile(fileHost, flags)
	if isError(fd) {
		k.semi(semiClose, handle, 0, 0)
		return fd
	}
	k.file[fd].arg = handle
	return fd
}

// hostPass is how many bytes one call moves.
const hostPass = 1 << 16

func (k *kernel) hostRead(f *file, addr, n uint32) uint32 {
	n = min(n, hostPass)
	if !k.canWrite(addr, n) {
		return eFAULT
	}
	left := k.semi(semiRead, f.arg, addr, n)
	if left > n {
		return eIO
	}
	f.count += uint64(n - left)
	return n - left
}

func (k *kernel) hostWrite(f *file, addr, n uint32) uint32 {
	n = min(n, hostPass)
	if !k.canRead(addr, n) {
		return eFAULT
	}
	left := k.semi(semiWrite, f.arg, addr, n)
	if left > n {
		return eIO
	}
	f.count += uint64(n - left)
	return n - left
}

func (k *kernel) hostLength(f *file) uint32 { return k.semi(semiLength, f.arg, 0, 0) }

func (k *kernel) hostClose(f *file) { k.semi(semiClose, f.arg, 0, 0) }

// hostCall makes the system calls that only a host's files have.
func (k *kernel) hostCall(r *[15]uint32) uint32 {
	switch r[7] {
	case sysLseek:
		return k.hostSeek(r[0], r[1], r[2])
	case sysLlseek:
		f := k.openFile(r[0])
		if f != nil && f.kind == fileHost && r[1] != uint32(int32(r[2])>>31) {
			return eINVAL // beyond 2 GiB
		}
		pos := k.hostSeek(r[0], r[2], r[4])
		if !isError(pos) {
			if !k.canWrite(r[3], 8) {
				return eFAULT
			}
			store64(r[3], uint64(pos))
			return 0
		}
		return pos
	case sysStat64, sysLstat64:
		return k.hostStat(r[0], r[1])
	case sysFstatat64:
		return k.hostStat(r[1], r[2])
	case sysUnlink, sysUnlinkat:
		path := r[0]
		if r[7] == sysUnlinkat {
			path = r[1]
		}
		n := k.pathLength(path)
		if isError(n) {
			return n
		}
		if k.semi(semiRemove, path, n, 0) != 0 {
			return eNOENT
		}
		return 0
	}
	return eNOSYS
}

func (k *kernel) hostSeek(fd, offset, whence uint32) uint32 {
	f := k.openFile(fd)
	if f == nil {
		return eBADF
	}
	if f.kind != fileHost {
		return eSPIPE
	}
	pos := offset
	switch whence {
	case 1:
		pos += uint32(f.count)
	case 2:
		pos += k.hostLength(f)
	}
	if int32(pos) < 0 || k.semi(semiSeek, f.arg, pos, 0) != 0 {
		return eINVAL
	}
	f.count = uint64(pos)
	return pos
}

func (k *kernel) hostStat(path, addr uint32) uint32 {
	n := k.pathLength(path)
	if isError(n) {
		return n
	}
	if !hostHas(path, n) {
		return eNOENT
	}
	handle := k.semi(semiOpen, path, modeRead, n)
	if handle == failed {
		return eNOENT
	}
	length := k.semi(semiLength, handle, 0, 0)
	directory := k.isDirectory(handle, length)
	k.semi(semiClose, handle, 0, 0)
	if directory {
		return k.storeStat(addr, modeDirectory|0755, 0)
	}
	return k.storeStat(addr, modeRegular|0644, length)
}

const modeDirectory = 0040000

// isDirectory reports whether a handle that was just opened is a directory's: it
// may have a length, but nothing can be read.
func (k *kernel) isDirectory(handle, length uint32) bool {
	var first [4]byte
	return length != 0 && k.semi(semiRead, handle, uint32(uintptr(unsafe.Pointer(&first))), 1) != 0
}

// The emulator's command line gives the program's arguments and its environment
// in one string: unit separators stand between the items, a record separator
// before the environment.
const (
	unitSeparator   = 0x1f
	recordSeparator = 0x1e
)

func (k *kernel) hostArguments(s *stackWriter) (count uint32)   { return k.hostStrings(s, 0) }
func (k *kernel) hostEnvironment(s *stackWriter) (count uint32) { return k.hostStrings(s, 1) }

// maxLine bounds the command line. firstStack has room for it.
const maxLine = 6144

// hostStrings writes the items of one part of the command line.
func (k *kernel) hostStrings(s *stackWriter, part int) (count uint32) {
	var line [maxLine]byte
	var block [2]uint32
	block[0], block[1] = uint32(uintptr(unsafe.Pointer(&line))), uint32(len(line))
	if semihost(semiCmdline, unsafe.Pointer(&block)) != 0 {
		return 0
	}
	n := min(block[1], uint32(len(line)))
	start := uint32(0)
	for i := uint32(0); i <= n; i++ {
		if i < n && line[i] != unitSeparator && line[i] != recordSeparator && line[i] != 0 {
			continue
		}
		if part == 0 && i > start {
			s.put(s.bytes(line[start:i]))
			count++
		}
		start = i + 1
		if i < n && line[i] == recordSeparator {
			part--
		}
	}
	return count
}

// bytes writes a string and its final zero, and returns its address.
func (s *stackWriter) bytes(p []byte) uint32 {
	n := uint32(len(p))
	s.top -= n + 1
	copy(bytesAt(s.top, n), p)
	store8(s.top+n, 0)
	return s.top
}

// exitHost ends the emulator with an exit code: the program's, or 128 plus the
// signal that it died of, as a shell has it.
func exitHost(reason, code uint32) {
	switch reason {
	case diedExit:
	case diedSignal:
		code += 128
	default:
		code = 250 + reason
	}
	var block [2]uint32
	block[0], block[1] = stoppedApp, code
	semihost(semiExit, unsafe.Pointer(&block))
}
