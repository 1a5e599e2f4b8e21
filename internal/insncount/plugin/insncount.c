/*
 * insncount: a TCG plugin for QEMU 10 system emulation of one ARM processor
 * (plugin API version 4). It counts the guest's instructions, in User mode and
 * in all, and measures the longest runs of instructions with IRQs masked.
 * Package insncount, in the folder above, builds it, names its arguments and reads
 * its result; the package's comment says what is counted and how.
 *
 * How it counts. Every instruction carries two inline operations, a counter and
 * a store of its address, so that a block which an exception leaves half done
 * counts only what ran. The mode and the I bit are read from CPSR when a
 * translation block begins: within a block they cannot change, since QEMU ends a
 * block after every instruction that writes them. The argument every=on reads
 * CPSR before every instruction instead, which is slow and proves the claim.
 */
#include "qemu.h"

#define CPSR_I    (1u << 7)
#define MAGIC_END 0xe1a08008u /* mov r8, r8 in ARM state; insncount.EndWord says the same */
#define RUNS      8           /* longest runs that are kept, each with another beginning */

struct run { uint64_t length; uint32_t begin, end, begin_cpsr, end_cpsr; };

/* What the arguments ask for. */
static const char *out_path;
static bool every, has_until, has_from, has_to, has_end;
static uint64_t until, from, to, end;

/* Counted inline. */
struct counts { uint64_t executed, last_pc; };
static qemu_plugin_u64 executed, last_pc;

/* CPSR and the count when the present block began. */
static uint32_t block_cpsr;
static uint64_t block_start;

/* Results. */
static uint64_t user, before_user, masked, until_count;
static bool been_user, until_seen, ended, in_run;
static struct run present, longest[RUNS];
static uint64_t passes, pass_total, pass_min, pass_max, pass_start;
static bool in_pass;

/* keep puts a finished run among the longest ones: one for each beginning. */
static void keep(struct run r)
{
	int at = 0;
	while (at < RUNS - 1 && longest[at].length && longest[at].begin != r.begin)
		at++;
	if (r.length <= longest[at].length)
		return;
	for (; at > 0 && longest[at - 1].length < r.length; at--)
		longest[at] = longest[at - 1];
	longest[at] = r;
}

/* settle books what ran since the present block began. */
static void settle(unsigned vcpu)
{
	uint64_t now = qemu_plugin_u64_get(executed, vcpu), ran = now - block_start;
	block_start = now;
	if (ran == 0)
		return;
	if ((block_cpsr & CPSR_MODE) == MODE_USER)
		user += ran;
	if (!in_run)
		return;
	masked += ran;
	present.length += ran;
	present.end = (uint32_t)qemu_plugin_u64_get(last_pc, vcpu);
	present.end_cpsr = block_cpsr;
}

/* finish ends the present run of masked instructions, if there is one. */
static void finish(void)
{
	if (in_run)
		keep(present);
	in_run = false;
}

/* block begins a new block, at the address in data. */
static void block(unsigned vcpu, void *data)
{
	settle(vcpu);
	block_cpsr = read_cpsr();
	if ((block_cpsr & CPSR_MODE) == MODE_USER && !been_user) {
		been_user = true;
		before_user = block_start;
	}
	if (!(block_cpsr & CPSR_I)) {
		finish();
	} else if (been_user && !ended && !in_run) {
		in_run = true;
		present = (struct run){ .begin = (uint32_t)(uintptr_t)data, .begin_cpsr = block_cpsr };
	}
}

static void at_end(unsigned vcpu, void *data)
{
	settle(vcpu);
	finish();
	ended = true;
}

static void at_until(unsigned vcpu, void *data)
{
	if (!until_seen)
		until_count = qemu_plugin_u64_get(executed, vcpu);
	until_seen = true;
}

static void at_to(unsigned vcpu, void *data)
{
	if (!in_pass)
		return;
	uint64_t n = qemu_plugin_u64_get(executed, vcpu) - pass_start;
	pass_min = passes == 0 || n < pass_min ? n : pass_min;
	pass_max = n > pass_max ? n : pass_max;
	pass_total += n;
	passes++;
	in_pass = false;
}

static void at_from(unsigned vcpu, void *data)
{
	pass_start = qemu_plugin_u64_get(executed, vcpu);
	in_pass = true;
}

/* is_magic tells whether an instruction is the one that ends the measurement. */
static bool is_magic(const struct qemu_plugin_insn *insn)
{
	uint32_t word = 0;
	return qemu_plugin_insn_size(insn) == 4 && qemu_plugin_insn_vaddr(insn) % 4 == 0 &&
		qemu_plugin_insn_data(insn, &word, 4) == 4 && word == MAGIC_END;
}

/*
 * translate instruments one block. Callbacks come before the counter's
 * increment, so that they see the count without the instruction they stand at.
 */
static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t pc = qemu_plugin_insn_vaddr(insn);
		void *data = (void *)(uintptr_t)pc;
		if (i == 0 || every)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, block, QEMU_PLUGIN_CB_R_REGS, data);
		if (has_until && pc == until)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, at_until, QEMU_PLUGIN_CB_NO_REGS, data);
		if (has_to && pc == to)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, at_to, QEMU_PLUGIN_CB_NO_REGS, data);
		if (has_from && pc == from)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, at_from, QEMU_PLUGIN_CB_NO_REGS, data);
		if ((has_end && pc == end) || is_magic(insn))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, at_end, QEMU_PLUGIN_CB_NO_REGS, data);
		qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, QEMU_PLUGIN_INLINE_ADD_U64, executed, 1);
		qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, QEMU_PLUGIN_INLINE_STORE_U64, last_pc, pc);
	}
}

/* report writes the result; package insncount's Read reads it. */
static void report(qemu_plugin_id_t id, void *data)
{
	settle(0);
	finish();
	FILE *f = fopen(out_path, "w");
	if (!f)
		die("cannot write the result file");
	uint64_t all = qemu_plugin_u64_get(executed, 0);
	fprintf(f, "insns %" PRIu64 "\nuser %" PRIu64 "\nprivileged %" PRIu64 "\nmasked %" PRIu64 "\n", all, user, all - user, masked);
	fprintf(f, "before_user %" PRIu64 "\n", been_user ? before_user : all);
	for (int i = 0; i < RUNS && longest[i].length; i++)
		fprintf(f, "run %" PRIu64 " 0x%08" PRIx32 " 0x%08" PRIx32 " 0x%02" PRIx32 " 0x%02" PRIx32 "\n", longest[i].length,
			longest[i].begin, longest[i].end, longest[i].begin_cpsr & CPSR_MODE, longest[i].end_cpsr & CPSR_MODE);
	if (until_seen)
		fprintf(f, "until %" PRIu64 "\n", until_count);
	if (passes)
		fprintf(f, "window %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", passes, pass_total, pass_min, pass_max);
	fprintf(f, "done\n");
	if (fclose(f) != 0)
		die("cannot write the result file");
}

static bool argument(const char *a)
{
	if (strncmp(a, "out=", 4) == 0)
		return (out_path = strdup(a + 4)) && *out_path;
	if (strncmp(a, "until=", 6) == 0)
		return address(a + 6, &has_until, &until);
	if (strncmp(a, "from=", 5) == 0)
		return address(a + 5, &has_from, &from);
	if (strncmp(a, "to=", 3) == 0)
		return address(a + 3, &has_to, &to);
	if (strncmp(a, "end=", 4) == 0)
		return address(a + 4, &has_end, &end);
	every = strcmp(a, "every=on") == 0;
	return every;
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	if (!suits(info))
		return -1;
	for (int i = 0; i < argc; i++)
		if (!argument(argv[i])) {
			fprintf(stderr, "insncount: bad argument %s\n", argv[i]);
			return -1;
		}
	if (!out_path || has_from != has_to) {
		fprintf(stderr, "insncount: want out=FILE, and from=ADDR with to=ADDR\n");
		return -1;
	}
	struct qemu_plugin_scoreboard *score = qemu_plugin_scoreboard_new(sizeof(struct counts));
	executed = (qemu_plugin_u64){ score, offsetof(struct counts, executed) };
	last_pc = (qemu_plugin_u64){ score, offsetof(struct counts, last_pc) };
	qemu_plugin_register_vcpu_init_cb(id, find_cpsr);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	qemu_plugin_register_atexit_cb(id, report, NULL);
	return 0;
}
