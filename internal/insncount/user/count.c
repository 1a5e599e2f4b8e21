/*
 * A plugin for qemu-arm that counts executed instructions by class, of ARM and
 * of Thumb code alike. Argument: out=FILE, which gets one line "name count" for
 * each class.
 *
 * Classes are told from QEMU's disassembly, since the plugin interface does not
 * say whether four bytes are an ARM or a Thumb instruction. NEON loads and
 * stores are counted twice: as instructions, and by the 8-byte registers that
 * they move.
 */
#include "plugin.h"

EXPORT int qemu_plugin_version = 1;

enum class {
	NEON_Q,		/* data operations on 128 bits */
	NEON_D,		/* data operations on 64 bits */
	PERMUTE_Q,	/* VEXT, VREV, VSWP, VTRN, VUZP, VZIP on 128 bits */
	PERMUTE_D,	/* the same on 64 bits, and VTBL, VTBX */
	NEON_LOAD,
	NEON_STORE,
	NEON_WORDS,	/* 8-byte registers moved by the two above */
	SCALAR_MEM,	/* instructions, however many registers they move */
	BRANCH,
	SCALAR,		/* everything else */
	TOTAL,
	CLASSES
};

static const char *const names[CLASSES] = {
	"neon_q", "neon_d", "permute_q", "permute_d", "neon_load", "neon_store",
	"neon_words", "scalar_mem", "branch", "scalar", "total",
};

static uint64_t counts[CLASSES];
static const char *out;

/* starts tells whether s begins with one of the words in list. */
static bool starts(const char *s, const char *const *list)
{
	for (; *list; list++)
		if (!strncmp(s, *list, strlen(*list)))
			return true;
	return false;
}

/* registers counts the 8-byte registers in the braces of s: "d0, d1" or
 * "d0-d3" or "d0[1]"; none in braces is one. */
static unsigned registers(const char *s)
{
	const char *p = strchr(s, '{'), *end = strchr(s, '}');
	unsigned n = 0, last = 0;
	if (!p || !end)
		return 1;
	while ((p = strchr(p + 1, 'd')) && p < end) {
		unsigned d = strtoul(p + 1, NULL, 10);
		n += p[-1] == '-' ? d - last : 1;
		last = d;
	}
	return n;
}

/* neon classifies an instruction whose name begins with v. */
static enum class neon(const char *s, unsigned *words)
{
	static const char *const loads[] = { "vld", "vpop", NULL };
	static const char *const stores[] = { "vst", "vpush", NULL };
	static const char *const permutes[] = { "vext", "vrev", "vswp", "vtrn", "vuzp", "vzip", "vtb", NULL };
	const char *operand = strpbrk(s, " \t");
	bool quad;
	if (starts(s, loads) || starts(s, stores)) {
		*words = registers(s);
		return starts(s, loads) ? NEON_LOAD : NEON_STORE;
	}
	/* The first operand tells the width, also of long operations. */
	quad = operand && operand[strspn(operand, " \t")] == 'q';
	if (starts(s, permutes))
		return quad ? PERMUTE_Q : PERMUTE_D;
	return quad ? NEON_Q : NEON_D;
}

/* classify finds the class of an instruction from its disassembly. */
static enum class classify(const char *s, unsigned *words)
{
	static const char *const memory[] = { "ldr", "str", "ldm", "stm", "push", "pop", "ldrd", "strd", NULL };
	static const char *const other[] = { "bic", "bfi", "bfc", "bkpt", NULL };
	static const char *const branches[] = { "b", "cbz", "cbnz", "tbb", "tbh", NULL };
	if (s[0] == 'v')
		return neon(s, words);
	if (starts(s, memory))
		return SCALAR_MEM;
	if (starts(s, branches) && !starts(s, other))
		return BRANCH;
	return SCALAR;
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	uint64_t here[CLASSES] = { 0 };
	size_t n = qemu_plugin_tb_n_insns(tb);
	(void)id;
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		unsigned words = 0;
		char *text = qemu_plugin_insn_disas(insn);
		here[TOTAL]++;
		here[classify(text ? text : "", &words)]++;
		here[NEON_WORDS] += words;
		free(text);
	}
	for (int c = 0; c < CLASSES; c++)
		if (here[c])
			qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64,
								 &counts[c], here[c]);
}

static void done(qemu_plugin_id_t id, void *p)
{
	FILE *f = fopen(out, "w");
	(void)id;
	(void)p;
	if (!f)
		return;
	for (int c = 0; c < CLASSES; c++)
		fprintf(f, "%s %llu\n", names[c], (unsigned long long)counts[c]);
	fclose(f);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv)
{
	(void)info;
	out = option(argc, argv, "out");
	if (!out) {
		fprintf(stderr, "count: out=FILE is missing\n");
		return -1;
	}
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	qemu_plugin_register_atexit_cb(id, done, NULL);
	return 0;
}
