/*
 * profile: a TCG plugin for QEMU 10 system emulation of one ARM processor that
 * counts how often each piece of code is executed. Package insncount, in the
 * folder above, builds it, names its arguments and reads its result.
 *
 * How it counts. Code is cut into segments, each with a counter of its own that
 * one inline operation raises. A segment is a whole translation block, or with
 * exact=on one instruction; the addresses from= and to= begin segments, so that a
 * window opens and closes between two instructions. A block that an exception
 * leaves half done counts as whole unless exact=on.
 *
 * QEMU translates code anew for each mode that executes it, so a segment belongs
 * to one mode. It is read from CPSR when the segment's block is first executed,
 * and never again.
 */
#include "qemu.h"

/* Counters come from QEMU in lots. QEMU keeps room for 16 processors in each. */
#define LOT 4096

struct segment {
	uint32_t pc, insns;
	uint32_t mode;		/* CPSR's mode field, valid once the counter is not zero */
	uint32_t in_block;	/* of a block's first segment: how many segments the block has */
	qemu_plugin_u64 counter;
	uint64_t opened;	/* the counter when the window opened */
	uint64_t closed;	/* how often it ran in windows that have closed */
};

static const char *out_path;
static bool exact, once, has_from, has_to;
static uint64_t from, to;

static struct segment *segments;
static size_t used, room;
static bool open_now, been_open;
static uint64_t windows;

/* add begins a segment at pc, and gives it the next counter. */
static struct segment *add(uint64_t pc)
{
	static struct qemu_plugin_scoreboard *lot;
	if (used == room) {
		room = room ? 2 * room : LOT;
		segments = realloc(segments, room * sizeof *segments);
		if (!segments)
			die("out of memory");
	}
	if (used % LOT == 0)
		lot = qemu_plugin_scoreboard_new(LOT * sizeof(uint64_t));
	struct segment *s = &segments[used];
	*s = (struct segment){ .pc = (uint32_t)pc, .counter = { lot, used % LOT * sizeof(uint64_t) } };
	used++;
	return s;
}

/* learn notes the mode of the block whose first segment has the number in data. */
static void learn(unsigned vcpu, void *data)
{
	struct segment *s = &segments[(uintptr_t)data];
	uint32_t mode = read_cpsr() & CPSR_MODE;
	for (uint32_t i = 0, n = s->in_block; i < n; i++)
		s[i].mode = mode;
}

static void open_window(unsigned vcpu, void *data)
{
	if (open_now || (once && been_open))
		return;
	open_now = been_open = true;
	windows++;
	for (size_t i = 0; i < used; i++)
		segments[i].opened = qemu_plugin_u64_get(segments[i].counter, 0);
}

static void close_window(unsigned vcpu, void *data)
{
	if (!open_now)
		return;
	open_now = false;
	for (size_t i = 0; i < used; i++)
		segments[i].closed += qemu_plugin_u64_get(segments[i].counter, 0) - segments[i].opened;
}

/*
 * translate instruments one block. Callbacks come before the counters' increments,
 * so that they see the counts without the instruction they stand at.
 */
static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb), first = used;
	struct segment *s = NULL;
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		uint64_t pc = qemu_plugin_insn_vaddr(insn);
		bool opens = has_from && pc == from, closes = has_to && pc == to, begins = i == 0 || exact || opens || closes;
		if (begins)
			s = add(pc);
		s->insns++;
		if (i == 0)
			qemu_plugin_register_vcpu_insn_exec_cond_cb(insn, learn, QEMU_PLUGIN_CB_R_REGS,
				QEMU_PLUGIN_COND_EQ, s->counter, 0, (void *)first);
		if (closes)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, close_window, QEMU_PLUGIN_CB_NO_REGS, NULL);
		if (opens)
			qemu_plugin_register_vcpu_insn_exec_cb(insn, open_window, QEMU_PLUGIN_CB_NO_REGS, NULL);
		if (begins)
			qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, QEMU_PLUGIN_INLINE_ADD_U64, s->counter, 1);
	}
	segments[first].in_block = (uint32_t)(used - first);
}

/* report writes the result; package insncount's ReadProfile reads it. */
static void report(qemu_plugin_id_t id, void *data)
{
	close_window(0, NULL);
	FILE *f = fopen(out_path, "w");
	if (!f)
		die("cannot write the result file");
	fprintf(f, "windows %" PRIu64 "\n", windows);
	for (size_t i = 0; i < used; i++) {
		const struct segment *s = &segments[i];
		if (s->closed)
			fprintf(f, "code 0x%08" PRIx32 " %" PRIu32 " 0x%02" PRIx32 " %" PRIu64 "\n", s->pc, s->insns, s->mode, s->closed);
	}
	fprintf(f, "done\n");
	if (fclose(f) != 0)
		die("cannot write the result file");
}

static bool argument(const char *a)
{
	if (strncmp(a, "out=", 4) == 0)
		return (out_path = strdup(a + 4)) && *out_path;
	if (strncmp(a, "from=", 5) == 0)
		return address(a + 5, &has_from, &from);
	if (strncmp(a, "to=", 3) == 0)
		return address(a + 3, &has_to, &to);
	if (strcmp(a, "exact=on") == 0)
		return exact = true;
	return once = strcmp(a, "once=on") == 0;
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
	if (!out_path || (once && !has_from)) {
		fprintf(stderr, "insncount: want out=FILE; once=on goes with from=ADDR\n");
		return -1;
	}
	if (!has_from)
		open_window(0, NULL);
	qemu_plugin_register_vcpu_init_cb(id, find_cpsr);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	qemu_plugin_register_atexit_cb(id, report, NULL);
	return 0;
}
