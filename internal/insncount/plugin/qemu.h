/*
 * What the plugins here share: the part of QEMU 10's plugin interface (version 4)
 * that they use, and the reading of CPSR. Debian packages no qemu-plugin.h, so the
 * declarations are those of QEMU 10's include/qemu/qemu-plugin.h.
 */
#ifndef QEMU_H
#define QEMU_H

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
enum qemu_plugin_cond { QEMU_PLUGIN_COND_NEVER, QEMU_PLUGIN_COND_ALWAYS, QEMU_PLUGIN_COND_EQ };
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
void qemu_plugin_register_vcpu_insn_exec_cond_cb(struct qemu_plugin_insn *, exec_cb, enum qemu_plugin_cb_flags,
	enum qemu_plugin_cond, qemu_plugin_u64, uint64_t, void *);
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
#define MODE_USER 0x10

static void die(const char *why)
{
	fprintf(stderr, "insncount: %s\n", why);
	exit(1);
}

static struct qemu_plugin_register *cpsr_handle;
static GByteArray *cpsr_bytes;

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
	cpsr_bytes = g_byte_array_new();
}

/* read_cpsr works in callbacks that are registered with R_REGS. */
static uint32_t read_cpsr(void)
{
	g_byte_array_set_size(cpsr_bytes, 0);
	if (qemu_plugin_read_register(cpsr_handle, cpsr_bytes) != 4)
		die("CPSR is not four bytes");
	const uint8_t *b = cpsr_bytes->data;
	return b[0] | b[1] << 8 | b[2] << 16 | (uint32_t)b[3] << 24;
}

/* address reads an argument's value; false when it is no number. */
static bool address(const char *text, bool *has, uint64_t *value)
{
	char *rest;
	*value = strtoull(text, &rest, 0);
	return *has = *text && !*rest;
}

/* suits tells whether the plugins can count this emulator's board, and says why not. */
static bool suits(const qemu_info_t *info)
{
	bool good = info->system_emulation && strcmp(info->target_name, "arm") == 0 && info->system.max_vcpus == 1;
	if (!good)
		fprintf(stderr, "insncount: made for qemu-system-arm with one processor\n");
	return good;
}

#endif
