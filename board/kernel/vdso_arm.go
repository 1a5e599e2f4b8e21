package kernel

// The clock page, which User mode can read. vdsoClockGettime reads its first
// words; behind them stands the ELF header of a vDSO with that one function
// (Linux: Documentation/ABI/stable/vdso), whose code lies in the image.
const (
	clockSequence = 0
	clockBase     = 4
	clockScale    = 8
	clockMono     = 12
	clockReal     = 16
	clockRealNsec = 20

	vdsoHeader = clockVA + 0x100
)

// publishClock tells User mode the time at the clock's base.
func (k *kernel) publishClock() {
	c := &k.clock
	store(clockVA+clockSequence, load(clockVA+clockSequence)+1)
	store(clockVA+clockBase, uint32(c.base))
	store(clockVA+clockScale, c.nsScale)
	store(clockVA+clockMono, uint32(c.seconds))
	store(clockVA+clockReal, uint32(c.seconds+c.offsetSec))
	store(clockVA+clockRealNsec, c.offsetNsec)
}

// writeVDSO writes the ELF structures in which the Go runtime looks for
// __vdso_clock_gettime (ELF specification 1.2, figures 1-3, 2-1, 1-16, 2-10).
func (k *kernel) writeVDSO() {
	const (
		headers = 52
		dynamic = headers + 2*phSize
		symbols = dynamic + 6*8
		hash    = symbols + 2*16
		version = hash + 5*4  // which version each symbol has
		defined = version + 4 // the one version that there is
		strings = defined + 28

		ptDynamic = 2
		dtHash    = 4
		dtStrtab  = 5
		dtSymtab  = 6
		dtVersym  = 0x6ffffff0
		dtVerdef  = 0x6ffffffc
		function  = 1<<4 | 2 // global, a function

		functionName = "__vdso_clock_gettime"
		functionLen  = uint32(len(functionName))
		linuxVersion = 0x3ae75f6 // ELF hash of LINUX_2.6
	)
	store(vdsoHeader, elfMagic)
	store(vdsoHeader+elfPhoff, headers)
	store(vdsoHeader+elfPhnum, 2)
	w := stackWriter{word: vdsoHeader + headers}
	w.pair(ptLoad, 0)
	w.word += phSize - 8
	w.pair(ptDynamic, dynamic)
	w.word = vdsoHeader + dynamic
	w.pair(dtHash, hash)
	w.pair(dtStrtab, strings)
	w.pair(dtSymtab, symbols)
	w.pair(dtVersym, version)
	w.pair(dtVerdef, defined)
	w.word = vdsoHeader + symbols + 16 // symbol 0 is none
	w.pair(1, k.symbols.clockGettime-vdsoHeader)
	w.put(0)
	w.put(function | 1<<16)
	w.word = vdsoHeader + hash
	w.pair(1, 2) // one bucket, two symbols
	w.put(1)     // the bucket begins with symbol 1
	w.word = vdsoHeader + version
	w.put(2 << 16)             // symbol 1 has version 2
	w.pair(1, 1<<16|2)         // of which this is the definition
	w.pair(linuxVersion, 20)   // its hash; its name's entry follows
	w.put(0)                   // the last one
	w.put(1 + functionLen + 1) // its name
	storeString(vdsoHeader+strings+1, functionName)
	storeString(vdsoHeader+strings+1+functionLen+1, "LINUX_2.6")
}
