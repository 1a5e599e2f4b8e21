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
 *
 * With snap=FIFO a thread of the plugin's waits for bytes in that named pipe and writes,
 * for each, what has been counted until then to OUT.1, OUT.2 and so on. The processor
 * goes on meanwhile.
 */
#include "qemu.h"

#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

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

static const char *out_path, *snap_path;
static bool exact, once, has_from, has_to;
static uint64_t from, to;

/* lock guards segments and used, which grow while a snapshot reads them. */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
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
	pthread_mutex_lock(&lock);
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
	pthread_mutex_unlock(&lock);
}

/* write_result writes what has been counted; package insncount's ReadProfile reads it. */
static void write_result(const char *path)
{
	FILE *f = fopen(path, "w");
	if (!f)
		die("cannot write the result file");
	pthread_mutex_lock(&lock);
	fprintf(f, "windows %" PRIu64 "\n", windows);
	for (size_t i = 0; i < used; i++) {
		const struct segment *s = &segments[i];
		uint64_t n = s->closed + (open_now ? qemu_plugin_u64_get(s->counter, 0) - s->opened : 0);
		if (n)
			fprintf(f, "code 0x%08" PRIx32 " %" PRIu32 " 0x%02" PRIx32 " %" PRIu64 "\n", s->pc, s->insns, s->mode, n);
	}
	pthread_mutex_unlock(&lock);
	fprintf(f, "done\n");
	if (fclose(f) != 0)
		die("cannot write the result file");
}

static void report(qemu_plugin_id_t id, void *data)
{
	write_result(out_path);
}

/* snapshots writes a result for each byte that comes, whole or not at all. */
static void *snapshots(void *data)
{
	/* Opened for writing too, so that it never ends. */
	int fd = open(snap_path, O_RDWR);
	if (fd < 0)
		die("cannot open the pipe for snapshots");
	char order, path[4096], part[4096];
	for (unsigned n = 1; read(fd, &order, 1) == 1; n++) {
		snprintf(path, sizeof path, "%s.%u", out_path, n);
		if (snprintf(part, sizeof part, "%s.part", out_path) >= (int)sizeof part)
			die("the result file's name is too long");
		write_result(part);
		if (rename(part, path) != 0)
			die("cannot name the snapshot");
	}
	return NULL;
}

static bool argument(const char *a)
{
	if (strncmp(a, "out=", 4) == 0)
		return (out_path = strdup(a + 4)) && *out_path;
	if (strncmp(a, "snap=", 5) == 0)
		return (snap_path = strdup(a + 5)) && *snap_path;
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
	pthread_t thread;
	if (snap_path && pthread_create(&thread, NULL, snapshots, NULL) != 0)
		die("cannot start a thread");
	qemu_plugin_register_vcpu_init_cb(id, find_cpsr);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	qemu_plugin_register_atexit_cb(id, report, NULL);
	return 0;
}
