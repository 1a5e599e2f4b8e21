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
 *
 * Debian packages no qemu-plugin.h, so the declarations below are those of
 * QEMU 10's include/qemu/qemu-plugin.h, as far as they are used.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
struct qemu_plugin_register;
struct qemu_plugin_scoreboard;
typedef struct {
	struct qemu_plugin_scoreboard *score;
	size_t offset;
} qemu_plugin_u64;
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64, QEMU_PLUGIN_INLINE_STORE_U64 };
enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_CB_R_REGS };
typedef struct {
	const char *target_name;
	struct { int min, cur; } version;
	bool system_emulation;
	union { struct { int smp_vcpus, max_vcpus; } system; };
} qemu_info_t;
typedef struct {
	struct qemu_plugin_register *handle;
	const char *name;
	const char *feature;
} qemu_plugin_reg_descriptor;

/* GLib's two array types, which the register interface uses. QEMU has the library loaded. */
typedef struct { char *data; unsigned len; } GArray;
typedef struct { uint8_t *data; unsigned len; } GByteArray;
GByteArray *g_byte_array_new(void);
GByteArray *g_byte_array_set_size(GByteArray *, unsigned);
char *g_array_free(GArray *, int free_segment);

typedef void (*vcpu_cb)(qemu_plugin_id_t, unsigned vcpu);
typedef void (*exec_cb)(unsigned vcpu, void *data);
void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t, vcpu_cb);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn *, exec_cb, enum qemu_plugin_cb_flags, void *);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *, enum qemu_plugin_op, qemu_plugin_u64, uint64_t);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t);
uint64_t qemu_plugin_u64_get(qemu_plugin_u64, unsigned vcpu);
GArray *qemu_plugin_get_registers(void);
int qemu_plugin_read_register(struct qemu_plugin_register *, GByteArray *);

#define EXPORT __attribute__((visibility("default")))
EXPORT int qemu_plugin_version = 4;

#define CPSR_MODE 0x1f
#define CPSR_I    (1u << 7)
#define MODE_USER 0x10
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
static struct qemu_plugin_register *cpsr_handle;
static GByteArray *cpsr_bytes;
static uint32_t block_cpsr;
static uint64_t block_start;

/* Results. */
static uint64_t user, masked, until_count;
static bool been_user, until_seen, ended, in_run;
static struct run present, longest[RUNS];
static uint64_t passes, pass_total, pass_min, pass_max, pass_start;
static bool in_pass;

static void die(const char *why)
{
	fprintf(stderr, "insncount: %s\n", why);
	exit(1);
}

static uint32_t read_cpsr(void)
{
	g_byte_array_set_size(cpsr_bytes, 0);
	if (qemu_plugin_read_register(cpsr_handle, cpsr_bytes) != 4)
		die("CPSR is not four bytes");
	const uint8_t *b = cpsr_bytes->data;
	return b[0] | b[1] << 8 | b[2] << 16 | (uint32_t)b[3] << 24;
}

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
	if ((block_cpsr & CPSR_MODE) == MODE_USER)
		been_user = true;
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

/* find_cpsr looks the register up once the processor exists. */
static void find_cpsr(qemu_plugin_id_t id, unsigned vcpu)
{
	GArray *regs = qemu_plugin_get_registers();
	const qemu_plugin_reg_descriptor *d = (const void *)regs->data;
	for (unsigned i = 0; i < regs->len; i++)
		if (strcmp(d[i].name, "cpsr") == 0)
			cpsr_handle = d[i].handle;
	g_array_free(regs, 1);
	if (!cpsr_handle)
		die("the processor has no register cpsr");
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

/* address reads an argument's value; false when it is no number. */
static bool address(const char *text, bool *has, uint64_t *value)
{
	char *rest;
	*value = strtoull(text, &rest, 0);
	return *has = *text && !*rest;
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
	if (!info->system_emulation || strcmp(info->target_name, "arm") != 0 || info->system.max_vcpus != 1) {
		fprintf(stderr, "insncount: made for qemu-system-arm with one processor\n");
		return -1;
	}
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
	cpsr_bytes = g_byte_array_new();
	qemu_plugin_register_vcpu_init_cb(id, find_cpsr);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	qemu_plugin_register_atexit_cb(id, report, NULL);
	return 0;
}
