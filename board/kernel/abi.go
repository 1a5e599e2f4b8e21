package kernel

// firstTime64 is clock_gettime64, the first of the calls with 64-bit times.
const firstTime64 = 403

// Calls that only images which test make; all others are in calls_arm.s.
const (
	sysUnlink    = 10
	sysLseek     = 19
	sysLlseek    = 140
	sysStat64    = 195
	sysLstat64   = 196
	sysFstatat64 = 327
	sysUnlinkat  = 328
)

// Error numbers (include/uapi/asm-generic/errno-base.h and errno.h), as a call
// returns them.
const (
	ePERM        = ^uint32(1) + 1
	eNOENT       = ^uint32(2) + 1
	eSRCH        = ^uint32(3) + 1
	eINTR        = ^uint32(4) + 1
	eIO          = ^uint32(5) + 1
	eBADF        = ^uint32(9) + 1
	eAGAIN       = ^uint32(11) + 1
	eNOMEM       = ^uint32(12) + 1
	eACCES       = ^uint32(13) + 1
	eFAULT       = ^uint32(14) + 1
	eBUSY        = ^uint32(16) + 1
	eEXIST       = ^uint32(17) + 1
	eNODEV       = ^uint32(19) + 1
	eINVAL       = ^uint32(22) + 1
	eMFILE       = ^uint32(24) + 1
	eNOTTY       = ^uint32(25) + 1
	eSPIPE       = ^uint32(29) + 1
	ePIPE        = ^uint32(32) + 1
	eNAMETOOLONG = ^uint32(36) + 1
	eNOSYS       = ^uint32(38) + 1
	eTIMEDOUT    = ^uint32(110) + 1

	// again never reaches User mode: the thread is sent back to its SWI, and
	// the call goes on where it was (see [thread.resumed]).
	again = ^uint32(600) + 1
	// asIs leaves the registers as the call has set them.
	asIs = ^uint32(599) + 1
	// restartSys is Linux's ERESTARTSYS: interrupted before anything was done.
	// It becomes EINTR or a restart, as the signal's SA_RESTART says.
	restartSys = ^uint32(512) + 1
)

func isError(r uint32) bool { return r > ^uint32(4095) }

// Protections, mapping flags and advice (asm-generic/mman-common.h).
const (
	protRead  = 1
	protWrite = 2
	protExec  = 4

	mapShared         = 0x01
	mapPrivate        = 0x02
	mapTypeMask       = 0x0f
	mapFixed          = 0x10
	mapAnonymous      = 0x20
	mapFixedNoreplace = 0x100000

	madvDontneed = 4
	madvFree     = 8
)

// Open and descriptor flags (arch/arm/include/uapi/asm/fcntl.h).
const (
	oAccessMode = 3
	oRdonly     = 0
	oWronly     = 1
	oRdwr       = 2
	oCreat      = 0x40
	oExcl       = 0x80
	oTrunc      = 0x200
	oAppend     = 0x400
	oNonblock   = 0x800
	oCloexec    = 0x80000

	fGetfd = 1
	fSetfd = 2
	fGetfl = 3
	fSetfl = 4
)

// Signals that the kernel itself names (asm-generic/signal.h) and their codes.
const (
	sigILL     = 4
	sigTRAP    = 5
	sigBUS     = 7
	sigKILL    = 9
	sigSEGV    = 11
	sigPIPE    = 13
	sigCHLD    = 17
	sigSTOP    = 19
	sigURG     = 23
	sigWINCH   = 28
	numSignals = 64

	saNodefer   = 0x40000000
	saResethand = 0x80000000
	saRestart   = 0x10000000
	saOnstack   = 0x08000000

	ssOnstack   = 1
	ssDisable   = 2
	minSigStack = 2048

	siUser     = 0
	siTkill    = ^uint32(6) + 1
	segvMaperr = 1
	segvAccerr = 2
	busAdraln  = 1
	busObjerr  = 3
	illIllopc  = 1
	trapBrkpt  = 1
)

// Clocks (include/uapi/linux/time.h).
const (
	clockRealtime        = 0
	clockMonotonic       = 1
	clockMonotonicRaw    = 4
	clockRealtimeCoarse  = 5
	clockMonotonicCoarse = 6
	clockBoottime        = 7
)

// cloneThread is what clone must be asked for: CLONE_VM, FS, FILES, SIGHAND and
// THREAD; CLONE_SYSVSEM and SETTLS may be added. There is no other kind of thread.
const (
	cloneThread  = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000
	cloneSysvsem = 0x40000
	cloneSetTLS  = 0x80000
)

const atFdcwd = ^uint32(100) + 1

const (
	epollIn      = 0x001
	epollOut     = 0x004
	epollErr     = 0x008
	epollHup     = 0x010
	epollOneshot = 1 << 30
	epollEdge    = 1 << 31

	epollCtlAdd = 1
	epollCtlDel = 2
	epollCtlMod = 3
)

const (
	futexWait    = 0
	futexWake    = 1
	futexPrivate = 128

	grndNonblock = 1
	grndRandom   = 2
	grndInsecure = 4

	efdSemaphore = 1
)
