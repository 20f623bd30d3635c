/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is used here of QEMU's plugin interface: it stands for qemu-plugin.h, which no distribution packages.
 *
 * One plugin serves all versions of the interface: 1 (QEMU 4.2 to 8), 2 (9.0), 3 and later (9.1 and later). What not
 * every version has is a weak symbol, NULL where it is missing. With `-include qemu-plugin.h` the compiler checks these
 * declarations against that version's header.
 */
#ifndef FORESHADE_ICOUNT_QEMU_PLUGIN_API_H
#define FORESHADE_ICOUNT_QEMU_PLUGIN_API_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEAK __attribute__((weak))

#ifndef QEMU_PLUGIN_VERSION
#define QEMU_PLUGIN_EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;

typedef struct qemu_info_t {
  const char *target_name;
  struct {
    int min;
    int cur;
  } version;
  bool system_emulation;
  union {
    struct {
      int smp_vcpus;
      int max_vcpus;
    } system;
  };
} qemu_info_t;

enum qemu_plugin_cb_flags { QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_CB_R_REGS, QEMU_PLUGIN_CB_RW_REGS };
enum qemu_plugin_op { QEMU_PLUGIN_INLINE_ADD_U64 };

typedef void (*qemu_plugin_vcpu_simple_cb_t)(qemu_plugin_id_t id, unsigned vcpu);
typedef void (*qemu_plugin_vcpu_tb_trans_cb_t)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*qemu_plugin_vcpu_udata_cb_t)(unsigned vcpu, void *userdata);

/* Version 1's; from 3 on it has other parameters, see insn_data_copy. */
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn);
#endif

/* ---- in every version ---- */

void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t id, qemu_plugin_vcpu_simple_cb_t cb);
void qemu_plugin_register_vcpu_idle_cb(qemu_plugin_id_t id, qemu_plugin_vcpu_simple_cb_t cb);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, qemu_plugin_vcpu_tb_trans_cb_t cb);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, qemu_plugin_vcpu_udata_cb_t cb,
                                          enum qemu_plugin_cb_flags flags, void *userdata);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t idx);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn);

typedef const void *insn_data_pointer(const struct qemu_plugin_insn *insn);                 /* 1 and 2 */
typedef size_t insn_data_copy(const struct qemu_plugin_insn *insn, void *dest, size_t len); /* 3 and later */

/* ---- version 1 only: one counter for all vCPUs ---- */

WEAK void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, enum qemu_plugin_op op, void *ptr,
                                                   uint64_t imm);

/* ---- version 2 and later: an element for each vCPU, which blocks change without a call ---- */

#if !defined QEMU_PLUGIN_VERSION || QEMU_PLUGIN_VERSION < 2
struct qemu_plugin_scoreboard;
typedef struct {
  struct qemu_plugin_scoreboard *score;
  size_t offset;
} qemu_plugin_u64;
#endif

WEAK struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t element_size);
WEAK void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *score, unsigned vcpu_index);
WEAK void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *tb, enum qemu_plugin_op op,
                                                            qemu_plugin_u64 entry, uint64_t imm);

/* ---- version 3 and later: a call only where a counter asks for it ---- */

#if !defined QEMU_PLUGIN_VERSION || QEMU_PLUGIN_VERSION < 3
enum qemu_plugin_cond {
  QEMU_PLUGIN_COND_NEVER,
  QEMU_PLUGIN_COND_ALWAYS,
  QEMU_PLUGIN_COND_EQ,
  QEMU_PLUGIN_COND_NE,
  QEMU_PLUGIN_COND_LT,
  QEMU_PLUGIN_COND_LE,
  QEMU_PLUGIN_COND_GT,
  QEMU_PLUGIN_COND_GE,
};
#endif

/* `cond` compares without sign. */
WEAK void qemu_plugin_register_vcpu_tb_exec_cond_cb(struct qemu_plugin_tb *tb, qemu_plugin_vcpu_udata_cb_t cb,
                                                    enum qemu_plugin_cb_flags flags, enum qemu_plugin_cond cond,
                                                    qemu_plugin_u64 entry, uint64_t imm, void *userdata);
#endif
