#include "textflag.h"

// calls is the table of system calls, by their numbers in the ARM EABI
// (arch/arm/tools/syscall.tbl, Linux 5.10). It lies in read-only memory; 0 is a
// call that does not exist. asm_arm.s knows its length too.
#define CALL(number, function) DATA ·calls+(4*number)(SB)/4, $function(SB)
#define NUMBERS 424

CALL(1, ·callExit)
CALL(3, ·callRead)
CALL(4, ·callWrite)
CALL(5, ·callOpen)
CALL(6, ·callClose)
CALL(10, ·callHost)	// unlink
CALL(19, ·callHost)	// lseek
CALL(20, ·callGetpid)
CALL(24, ·callZero)	// getuid
CALL(37, ·callKill)
CALL(45, ·callBrk)
CALL(47, ·callZero)	// getgid
CALL(49, ·callZero)	// geteuid
CALL(50, ·callZero)	// getegid
CALL(54, ·callIoctl)
CALL(55, ·callFcntl)
CALL(64, ·callZero)	// getppid
CALL(91, ·callMunmap)
CALL(120, ·callClone)
CALL(122, ·callUname)
CALL(125, ·callMprotect)
CALL(140, ·callHost)	// _llseek
CALL(158, ·callYield)
CALL(162, ·callNanosleep)
CALL(172, ·callPrctl)
CALL(173, ·callSigreturn)
CALL(174, ·callSigaction)
CALL(175, ·callSigprocmask)
CALL(186, ·callSigaltstack)
CALL(192, ·callMmap)
CALL(195, ·callHost)	// stat64
CALL(196, ·callHost)	// lstat64
CALL(197, ·callFstat)
CALL(199, ·callZero)	// getuid32
CALL(200, ·callZero)	// getgid32
CALL(201, ·callZero)	// geteuid32
CALL(202, ·callZero)	// getegid32
CALL(220, ·callMadvise)
CALL(221, ·callFcntl)	// fcntl64
CALL(224, ·callGettid)
CALL(240, ·callFutex)
CALL(242, ·callGetaffinity)
CALL(248, ·callExitGroup)
CALL(251, ·callEpollCtl)
CALL(252, ·callEpollWait)
CALL(262, ·callClockSettime)
CALL(263, ·callClockGettime)
CALL(268, ·callTgkill)
CALL(322, ·callOpenat)
CALL(327, ·callHost)	// fstatat64
CALL(328, ·callHost)	// unlinkat
CALL(346, ·callEpollPwait)
CALL(356, ·callEventfd2)
CALL(357, ·callEpollCreate1)
CALL(359, ·callPipe2)
CALL(384, ·callGetrandom)
CALL(403, ·callClockGettime)	// clock_gettime64
CALL(404, ·callClockSettime)	// clock_settime64
CALL(422, ·callFutex)	// futex_time64
GLOBL ·calls(SB), RODATA|NOPTR, $(4*NUMBERS)
