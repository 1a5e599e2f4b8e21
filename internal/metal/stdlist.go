package metal

// StdPatterns name the packages of the standard library whose tests run on the
// board: those that lean on the kernel, and those that the firmware is built of.
// A package that is about files, processes or sockets alone is not among them
// (path/filepath, syscall, os/exec, net).
var StdPatterns = []string{
	"runtime", "runtime/debug", "runtime/metrics", "runtime/trace",
	"internal/runtime/atomic", "internal/runtime/gc/scan", "internal/runtime/maps",
	"internal/poll", "internal/sync",
	"sync", "sync/atomic", "context", "time", "os", "os/signal",
	"bufio", "bytes", "cmp", "errors", "fmt", "io", "io/fs", "iter", "log", "log/slog",
	"maps", "path", "reflect", "slices", "sort", "strconv", "strings", "unique", "weak",
	"math", "math/big", "math/bits", "math/cmplx", "math/rand", "math/rand/v2",
	"compress/...", "container/...", "crypto/...", "encoding/...", "hash/...",
	"embed", "expvar", "flag", "html", "regexp", "regexp/syntax", "text/...",
	"testing/iotest", "testing/quick", "testing/synctest",
	"unicode", "unicode/utf16", "unicode/utf8",
}

// Reasons that more than one package has.
const (
	whyProcess   = "starts a process, itself or another program: the board has one process"
	whyDirectory = "makes, enters or reads a directory: the board has none"
	whySocket    = "opens a socket: the kernel has none"
	whyPrctl     = "changes each thread's capabilities (prctl), which no thread of the board has"
	whySlow      = "its slow tests take minutes under the emulator"
)

// Std holds the packages that have a rule. The others run whole.
var Std = map[string]Rule{
	"bufio":          {LeftOut: []LeftOut{{whyDirectory, "TestCopyUnixpacket"}}},
	"compress/flate": {Short: whySlow},
	"compress/gzip": {LeftOut: []LeftOut{
		{whyDirectory, "FuzzReader"},
		{whySocket, "Example_compressingReader"},
	}},
	"context":                              {Quick: ".", LeftOut: []LeftOut{{whySocket, "ExampleAfterFunc_connection"}}},
	"crypto":                               {LeftOut: []LeftOut{{whyDirectory, "TestDisallowedAssemblyInstructions"}}},
	"crypto/cipher":                        {Short: whySlow, LeftOut: []LeftOut{{whyProcess, "TestGCMNoncesFIPSV1 TestGCMNoncesFIPSV126"}}},
	"crypto/dsa":                           {Short: whySlow},
	"crypto/ecdh":                          {LeftOut: []LeftOut{{"builds a program with the Go toolchain", "TestLinker"}}},
	"crypto/fips140":                       {LeftOut: []LeftOut{{whyProcess, "TestWithoutEnforcement"}}},
	"crypto/hpke":                          {Short: whySlow},
	"crypto/internal/fips140/mldsa":        {Short: whySlow},
	"crypto/internal/fips140/edwards25519": {Short: whySlow},
	"crypto/internal/fips140/edwards25519/field": {Short: whySlow},
	"crypto/internal/sysrand":                    {LeftOut: []LeftOut{{whyProcess, "TestReadError"}}},
	"crypto/rand":                                {LeftOut: []LeftOut{{whyProcess, "TestReadError"}}},
	"crypto/rsa":                                 {Short: whySlow},
	"crypto/internal/fips140only":                {LeftOut: []LeftOut{{whyProcess, "TestFIPS140Only"}}},
	"crypto/internal/fips140test": {
		None: "has two arrays of 32 MiB among its variables: an image for the board has 64 MiB in all",
	},
	"crypto/sha3": {Short: whySlow},
	"crypto/tls":  {None: whySocket + "; its tests open one before the first begins"},
	"crypto/x509": {Short: whySlow, LeftOut: []LeftOut{
		{whyDirectory, "TestEnvVars TestLoadSystemCertsLoadColonSeparatedDirs TestReadUniqueDirectoryEntries"},
		{"needs to know the date: the board's clock starts in 1970", "TestInvalidPolicyWithAnyKeyUsage"},
	}},
	"encoding/xml": {LeftOut: []LeftOut{
		{"keeps 17 million open elements of 32 bytes: more than the board's memory", "TestCVE202230633"},
	}},
	"encoding/asn1":           {Short: whySlow},
	"encoding/json":           {LeftOut: []LeftOut{{whySocket, "TestHTTPDecoding"}}},
	"flag":                    {LeftOut: []LeftOut{{whyProcess, "TestExitCode"}}},
	"hash/maphash":            {Short: "its whole tests keep more hashes than the board's memory holds"},
	"internal/poll":           {Quick: "."},
	"internal/runtime/atomic": {Quick: "."},
	"io":                      {LeftOut: []LeftOut{{whyDirectory, "TestOffsetWriter_Seek TestOffsetWriter_WriteAt TestOffsetWriter_Write TestWriteAt_PositionPriorToBase"}}},
	"io/fs":                   {LeftOut: []LeftOut{{whyDirectory, "TestReadDirPath TestReadFilePath TestWalkDir TestIssue51617 TestGlob"}}},
	"log":                     {LeftOut: []LeftOut{{whyProcess, "TestCallDepth"}}},
	"log/slog":                {LeftOut: []LeftOut{{whyProcess, "TestCallDepthConnection"}}},
	"math/rand":               {LeftOut: []LeftOut{{whyProcess, "TestDefaultRace"}}},
	"math/big":                {Short: whySlow},
	"os": {
		Quick:   "Pipe|Deadline|Timeout|Fd|Race|NonBlock|Closed|Env",
		LeftOut: leftOutOfOS,
	},
	"os/signal": {Quick: ".", LeftOut: []LeftOut{
		{whyProcess, "TestDetectNohup TestNohup TestAtomicStop TestNotifyContextNotifications"},
		{whyPrctl, "TestAllThreadsSyscallSignals"},
	}},
	"regexp":        {Short: whySlow},
	"regexp/syntax": {Short: whySlow},
	"runtime": {
		Short:   whySlow,
		Quick:   "Chan|Select|Preempt|Netpoll|Sema|Stack|Finalizer|Cleanup|Timer|Deadlock|Yield|Goexit|Panic|Recover|Nil|PageAlloc|Scavenge|Physical|Memory|Arena|Futex|Lock|Signal",
		Torment: ".",
		LeftOut: []LeftOut{
			{whyProcess, "TestRuntimePanic TestTracebackRuntimeFunction TestTracebackRuntimeMethod TestG0StackOverflow TestCrashWhileTracing TestArenaCollision TestMemHashGlobalSeed/noaes TestTracebackSystem"},
			{"writes the heap dump into a folder of its own: the board has no directories", "TestSchedPauseMetrics/runtime/debug.WriteHeapDump"},
			{"reads /proc/self/maps: there is no /proc", "TestDecorateMappings"},
			{"calls mincore, which the runtime does only where the kernel gives it no page size", "TestMincoreErrorSign"},
		},
	},
	"runtime/debug": {LeftOut: []LeftOut{
		{whyProcess, "TestStack"},
		{whyDirectory, "TestSetCrashOutput FuzzParseBuildInfoRoundTrip"},
	}},
	"sync":             {Quick: ".", Torment: ".", LeftOut: []LeftOut{{whyProcess, "TestMutexMisuse TestIssue76126"}}},
	"sync/atomic":      {Short: whySlow, Quick: "Value|Nil|Alignment|Swap|CompareAndSwap|Add"},
	"text/template":    {LeftOut: []LeftOut{{whyDirectory, "TestParseGlob TestParseFS TestParseGlobWithData ExampleTemplate_glob ExampleTemplate_helpers ExampleTemplate_share"}}},
	"testing/synctest": {Quick: ".", LeftOut: []LeftOut{{whyProcess, "TestFatal TestError TestVerboseError TestSkip TestVerboseSkip TestHelper"}}},
	"time": {
		Short:   whySlow,
		Quick:   "Sleep|Timer|Tick|After|Chan|Monotonic|Now",
		Torment: "Sleep|Timer|Tick|After|Chan|Monotonic|Now",
		LeftOut: []LeftOut{
			{"gives itself 60 s of the wall clock for two million hand-overs between goroutines: passes alone on an idle machine, in 51 s, and not beside anything else", "TestLongAdjustTimers"},
		},
	},
	"unique": {Quick: "."},
	"weak":   {Quick: "."},
}

// leftOutOfOS is long: most of package os is about files and directories.
var leftOutOfOS = []LeftOut{
	{whyProcess, `TestProcessAlreadyDone TestOpenFileNonBlocking TestFileChdirTestlog TestPidfdLeak TestStdPipe
		TestKillFindProcess TestGetppid TestKillStartProcess TestStatStdin TestStartProcess TestExecutable
		TestReadNonblockingFd TestProcessWithHandleLinux`},
	{whySocket, "TestSpliceFile TestGetPollFDAndNetwork TestSendFile"},
	{"makes 100 pipes at a time: the board has 8", "TestPipeThreads"},
	{"asks for the mode of /dev/null by its name, which the host's files answer", "TestDevNullFile"},
	{"seeks beyond 2 GiB: the host's files have offsets of 31 bits", "TestSeek"},
	{"reads or writes at an offset (pread64, pwrite64): the board's files are devices, and have none",
		"TestReadAt TestReadAtOffset TestReadAtEOF TestWriteAt TestWriteAtConcurrent"},
	{"changes a file's mode, owner, times or length: the board's files have none of these", `TestChmod TestChown
		TestFileChown TestLchown TestRootChown TestRootLchown TestRootConsistencyChown TestRootConsistencyLchown
		TestChtimes TestChtimesOmit TestChtimesToUnixZero TestTruncate TestFTruncate`},
	{whyDirectory, `ExampleReadlink TestRemoveAllLarge TestRemoveAllWithMoreErrorThanReqSize TestReaddirNValues TestLargeCopyViaNetwork TestCopyFileToFile TestErrIsNotExist TestFIFONonBlockingEOF
		TestDirFS TestDirFSReadLink TestDirFSLstat TestDirFSWalkDir TestDirFSPathsValid TestRootDirFS
		TestFileChdir TestGetwdDeep TestGetwdDeepWithPWDSet TestChdirAndGetwd TestProgWideChdir
		TestStatError TestStatSymlinkLoop TestStatRelativeSymlink TestStatDirModeExec
		TestStatDirWithTrailingSlash TestStatNotExist TestReaddirStatFailures TestReaddirOfFile
		TestReaddirSmallSeek TestReaddirnamesOneAtATime TestReaddirRemoveRace TestDirSeek TestReadDir
		TestFileReaddir TestFileReaddirnames TestFileReadDir TestHardLink TestSymlink TestLongSymlink
		TestSymlinkWithTrailingSlash TestFileAndSymlinkStats TestDirAndSymlinkStats TestRename
		TestRenameOverwriteDest TestRenameFailed TestRenameNotExisting TestRenameToDirFailed
		TestRenameCaseDifference TestWriteAtInAppendMode TestAppend TestAppendDoesntOverwrite
		TestOpenFileCreateExclDanglingSymlink TestOpenFileKeepsPermissions TestOpenError TestFileRDWRFlags
		TestSameFile TestWriteStringAlloc TestRandomLen TestCopyFS TestCopyFSWithSymlinks TestCopyFile
		TestRemoveReadOnlyFile TestRemoveReadOnlyDir TestRemoveAll TestRemoveAllRace TestRemoveAllLongPath
		TestRemoveAllDot TestRemoveAllDotDot TestRemoveAllTrailingSlash TestMkdirStickyUmask TestIssue60181
		TestMkdirAll TestMkdirAllWithSymlink TestMkdirAllAbsPath TestMkdirTemp TestMkdirTempBadPattern
		TestMkdirTempBadDir TestCreateTemp TestCreateTempBadPattern TestLongPath TestChtimesDir
		TestTruncateNonexistentFile TestFifoEOF TestFileIOCloseRace TestRootOpen_File TestRootOpen_Directory
		TestRootCreate TestRootChmod TestRootChtimes TestRootMkdir TestRootMkdirAll TestRootOpenRoot
		TestRootRemoveFile TestRootRemoveDirectory TestRootRemoveAll TestRootOpenFileAsRoot TestRootStat
		TestRootLstat TestRootReadlink TestRootRenameFrom TestRootLinkFrom TestRootRenameTo TestRootLinkTo
		TestRootSymlink TestRootConsistencyOpen TestRootConsistencyCreate TestRootConsistencyChmod
		TestRootConsistencyMkdir TestRootConsistencyMkdirAll TestRootConsistencyRemove
		TestRootConsistencyRemoveAll TestRootConsistencyStat TestRootConsistencyLstat
		TestRootConsistencyReadlink TestRootConsistencyRename TestRootConsistencyLink
		TestRootConsistencySymlink TestRootRenameAfterOpen TestRootNonPermissionMode TestRootUseAfterClose
		TestRootConcurrentClose TestRootRaceRenameDir TestRootSymlinkToRoot TestOpenInRoot TestRootRemoveDot
		TestRootWriteReadFile TestRootName TestRootNoLstat TestRootMultiOpen TestRootMultiChmod
		TestRootMultiCreate TestRootMultiLink TestRootMultiLstat TestRootMultiMkdir
		TestRootMultiMkdirAllShallow TestRootMultiMkdirAllDeep TestRootMultiRename TestRootMultiReadFile
		TestRootMultiStat TestRootMultiRemove TestRootMultiRemoveAll TestRootMultiChtimes
		TestRootMultiReadlink TestRootMultiWriteFile TestRootMultiOpenFile`},
}
