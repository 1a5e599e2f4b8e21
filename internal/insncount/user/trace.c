/*
 * A plugin for qemu-arm that digests the trace of some functions: the address
 * of each instruction executed in them and each address that they read or
 * write, in order. Two runs with the same digest went through the same
 * instructions and touched the same memory, up to the numbering of its pages.
 *
 * Arguments: out=FILE, which gets one line "instructions accesses digest", and
 * ranges=A-B+C-D..., the hexadecimal ranges of addresses to watch, each
 * without its end.
 */
#include "plugin.h"

EXPORT int qemu_plugin_version = 1;

#define VCPUS 256

/* trace is what has been seen so far. */
struct trace {
	uint64_t instructions, accesses;
	uint64_t digest;	/* FNV-1a, by words of 64 bits */
	size_t pages;		/* how many have been touched */
};

static struct { uint64_t from, to; } ranges[4096];
static size_t n_ranges;
static const char *out;
static struct trace now = { .digest = 0xcbf29ce484222325 };
static struct trace at_entry;		/* as it was before the last function began */
static uint64_t entry, last;		/* its address; the last instruction watched */
static uint64_t current[VCPUS];		/* the watched instruction being executed, or 0 */

static void mix(uint64_t v)
{
	now.digest = (now.digest ^ v) * 0x100000001b3;
	now.digest ^= now.digest >> 29;
}

/*
 * A Go function checks its stack first. If it has to grow, or if the scheduler
 * asks for the thread, which is a matter of time and not of data, the function
 * calls the runtime and then starts again: it jumps back to its first
 * instruction, as nothing else does. What came of the first start is forgotten.
 * (A call of the same function by code that is not watched would look the same:
 * ranges have to hold callers as well.)
 */
static void begun(size_t range)
{
	uint64_t pc = ranges[range].from;
	if (entry == pc && last > pc && last < ranges[range].to)
		now = at_entry;
	at_entry = now;
	entry = pc;
}

static void executed(unsigned int vcpu, void *udata)
{
	uint64_t pc = (uintptr_t)udata;
	for (size_t i = 0; i < n_ranges; i++)
		if (ranges[i].from == pc)
			begun(i);
	if (vcpu < VCPUS)
		current[vcpu] = pc;
	last = pc;
	now.instructions++;
	mix(pc);
}

/* elsewhere is any instruction that is not watched. */
static void elsewhere(unsigned int vcpu, void *udata)
{
	(void)udata;
	if (vcpu < VCPUS)
		current[vcpu] = 0;
}

/*
 * place numbers pages in the order in which they are first touched, and returns
 * an address in such a page: where the runtime puts a stack or its own records
 * differs from one run to the next, by whole pages. Which page is touched when,
 * and where in it, stays visible.
 */
static uint64_t place(uint64_t vaddr)
{
	static uint64_t pages[4096];
	size_t i = 0;
	while (i < now.pages && pages[i] != vaddr >> 12)
		i++;
	if (i == now.pages && now.pages < sizeof pages / sizeof *pages)
		pages[now.pages++] = vaddr >> 12;
	return (uint64_t)i << 12 | (vaddr & 0xfff);
}

/*
 * QEMU 7.2 can report later accesses of other code under an instruction that
 * has long been executed; these do not count.
 */
static void accessed(unsigned int vcpu, qemu_plugin_meminfo_t info, uint64_t vaddr, void *udata)
{
	if (vcpu >= VCPUS || current[vcpu] != (uintptr_t)udata)
		return;
	now.accesses++;
	mix(place(vaddr));
	mix(info);
}

static bool watched(uint64_t pc)
{
	for (size_t i = 0; i < n_ranges; i++)
		if (pc >= ranges[i].from && pc < ranges[i].to)
			return true;
	return false;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);
	(void)id;
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t pc = qemu_plugin_insn_vaddr(insn);
		void *udata = (void *)(uintptr_t)pc;
		if (!watched(pc)) {
			qemu_plugin_register_vcpu_insn_exec_cb(insn, elsewhere,
							       QEMU_PLUGIN_CB_NO_REGS, NULL);
			continue;
		}
		qemu_plugin_register_vcpu_insn_exec_cb(insn, executed, QEMU_PLUGIN_CB_NO_REGS, udata);
		qemu_plugin_register_vcpu_mem_cb(insn, accessed, QEMU_PLUGIN_CB_NO_REGS,
						 QEMU_PLUGIN_MEM_RW, udata);
	}
}

static void done(qemu_plugin_id_t id, void *p)
{
	FILE *f = fopen(out, "w");
	(void)id;
	(void)p;
	if (!f)
		return;
	fprintf(f, "%llu %llu %016llx\n", (unsigned long long)now.instructions,
		(unsigned long long)now.accesses, (unsigned long long)now.digest);
	fclose(f);
}

/* parse reads the ranges, and reports whether they make sense. */
static bool parse(const char *s)
{
	while (s && *s) {
		char *end;
		if (n_ranges == sizeof ranges / sizeof *ranges)
			return false;
		ranges[n_ranges].from = strtoull(s, &end, 16);
		if (*end++ != '-')
			return false;
		ranges[n_ranges++].to = strtoull(end, &end, 16);
		if (*end && *end++ != '+')
			return false;
		s = end;
	}
	return n_ranges > 0;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	(void)info;
	out = option(argc, argv, "out");
	if (!out || !parse(option(argc, argv, "ranges"))) {
		fprintf(stderr, "trace: out=FILE or ranges=A-B+C-D is missing or wrong\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	qemu_plugin_register_atexit_cb(id, done, NULL);
	return 0;
}
