package kernel

// The memory map. Physical RAM of the reference boards is 512 MiB from
// 0x80000000; virtual addresses of the image equal its physical ones.
//
//	0x00900000  devices, each page on request (virtual = physical)
//	0x10000000  mmap area of User mode
//	0x8000f000  image: ELF header, text, read-only data, data, BSS on demand. It
//	            lies where it was linked to: the bootloader's begins at 0x9800f000
//	0x9f000000  DMA memory, uncached, on request (virtual = physical)
//	0x9fef0000  hand-over block, uncached, on request (virtual = physical)
//	0xc0000000  kernel's own view of RAM (physical + 0x40000000)
//	0xdff00000  kernel region: tables, vectors, stack, state, crash record
const (
	ramStart = 0x80000000
	ramEnd   = 0xa0000000

	// An image with its BSS lies within imageSpan bytes of RAM, whose start is a
	// multiple of that: so many second-level tables the kernel's region has.
	imageSpan = 64 * mib

	// DMAStart and DMAEnd bound the physical memory that /dev/mem hands out as
	// uncached memory for devices to read and write.
	DMAStart = 0x9f000000
	DMAEnd   = HandoverStart

	// HandoverStart and HandoverEnd bound the physical memory that one image leaves
	// to the next. /dev/mem maps it, uncached, with what it holds.
	HandoverStart = 0x9fef0000
	HandoverEnd   = 0x9ff00000

	kernelRegion = 0x9ff00000 // physical; the last MiB of RAM
	directOffset = 0x40000000 // kernel's view of RAM: virtual - physical

	areaStart = 0x10000000 // mmap area
	areaEnd   = 0x80000000

	pageSize  = 4096
	pageShift = 12
	mib       = 1 << 20
)

// The kernel region, as offsets from its start. Each guard page is unmapped, so
// that an overflowing stack faults.
const (
	offL1      = 0x00000 // first-level table, 16 KiB
	offImageL2 = 0x04000 // second-level tables of the image, 64 of 1 KiB
	offDevL2   = 0x14000 // second-level tables of the devices, 5 of 1 KiB
	offSelfL2  = 0x15400 // second-level table of this region, 1 KiB
	offVectors = 0x17000 // vectors, and the g that Go code in the kernel sees
	offG       = offVectors + 0x800
	offFaultG  = offG + 0x100 // zeros: a g without a stack limit
	offFault   = 0x18000      // 4 KiB: stack on which a fault in the kernel is reported
	offClock   = 0x19000      // readable by User mode: the clock, and the vDSO's header
	offStack   = 0x1b000      // 16 KiB, guard pages at 0x1a000 and 0x1f000
	offState   = 0x20000
	offCrash   = 0xfe000 // crash record, 8 KiB, kept over a reset

	stackSize  = 0x4000
	faultSize  = 0x1000
	stackGuard = 928 // room for calls that do not check (internal/abi, StackGuard)
	crashSize  = 0x2000
	stateLimit = offCrash - offState
)

const (
	regionVA = kernelRegion + directOffset
	stateVA  = regionVA + offState
	stackTop = regionVA + offStack + stackSize
	clockVA  = regionVA + offClock
)

// numDeviceMiB is how many megabytes of device space have second-level tables.
const numDeviceMiB = 4

// deviceIndex maps a device address to its second-level table: the GIC's, or one
// of the three AIPS bridges' (IMX6ULRM 2.2, system memory map); else -1.
func deviceIndex(addr uint32) int {
	switch addr >> 20 {
	case 0x00a:
		return 0
	case 0x020, 0x021, 0x022:
		return int(addr>>20) - 0x020 + 1
	}
	return -1
}

// An imageLayout tells where the parts of the image lie. They are those of the
// ELF program headers, which the linker puts into the image's first page.
type imageLayout struct {
	start     uint32 // the page with the headers
	textEnd   uint32 // from start: executable
	dataStart uint32 // from textEnd: read only; from here: writable
	fileEnd   uint32 // the rest is BSS
	end       uint32
}
