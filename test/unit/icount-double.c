/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Stands in for QEMU before the instruction-count plugin: it offers the plugin interface of version API, translates
 * random blocks, lets vCPUs execute them and prints what was executed, as one JSON document.
 *
 *   icount-double PLUGIN TARGET MAX_VCPUS STEPS SEED [PLUGIN_ARGUMENT...]
 *
 * It starts with one vCPU; a third through, another is plugged if there may be one; two thirds through, all blocks are
 * translated anew, as after a reset. At the end every vCPU goes idle. With 0 vCPUs it says that it emulates one process.
 */
#include <dlfcn.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../libvirt-adapter/icount/insn-class.h"
#if API >= 3
#define qemu_plugin_insn_data declared_for_version_1
#endif
#include "../../libvirt-adapter/icount/qemu-plugin-api.h"
#undef qemu_plugin_insn_data

enum { BLOCKS = 64, INSNS_MAX = 512, CALLBACKS_MAX = 16, VCPUS_MAX = 512, ELEMENT_BYTES_MAX = 256 };

struct qemu_plugin_insn {
  uint8_t bytes[8];
  size_t length;
  enum insn_class class;
};

struct callback {
  enum { CALL, ADD, ADD_PER_VCPU, CALL_IF } kind;
  qemu_plugin_vcpu_udata_cb_t call;
  void *word;
  qemu_plugin_u64 entry;
  uint64_t number;
  enum qemu_plugin_cond cond;
};

struct qemu_plugin_tb {
  size_t count;
  struct qemu_plugin_insn insns[INSNS_MAX];
  size_t callback_count;
  struct callback callbacks[CALLBACKS_MAX];
};

struct qemu_plugin_scoreboard {
  size_t element_size;
  _Alignas(64) char elements[VCPUS_MAX * ELEMENT_BYTES_MAX];
};

/* One encoding of each class, in the order of insn_class. */
static const struct qemu_plugin_insn SAMPLES[] = {
    {{0xf4}, 1, INSN_SYSTEM},                         /* hlt */
    {{0x66, 0x0f, 0x38, 0xdc, 0xc1}, 5, INSN_CRYPTO}, /* aesenc */
    {{0xf2, 0x0f, 0x58, 0xca}, 4, INSN_VECTOR},       /* addsd */
    {{0x75, 0xfe}, 2, INSN_BRANCH},                   /* jne */
    {{0x48, 0x8b, 0x07}, 3, INSN_MEMORY},             /* mov (%rdi),%rax */
    {{0x48, 0x01, 0xc3}, 3, INSN_OTHER},              /* add %rax,%rbx */
};

static struct qemu_plugin_tb blocks[BLOCKS];
static uint64_t executed[VCPUS_MAX][INSN_CLASSES + 1];
static qemu_plugin_vcpu_simple_cb_t on_init, on_idle;
static qemu_plugin_vcpu_tb_trans_cb_t on_translation;

static uint64_t state;
static unsigned below(unsigned bound) {
  state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
  return (unsigned)((state >> 33) % bound);
}

/* ---- the interface ---- */

static struct callback *add_callback(struct qemu_plugin_tb *tb) {
  if (tb->callback_count == CALLBACKS_MAX) abort();
  return &tb->callbacks[tb->callback_count++];
}

void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t id, qemu_plugin_vcpu_simple_cb_t cb) {
  (void)id;
  on_init = cb;
}
void qemu_plugin_register_vcpu_idle_cb(qemu_plugin_id_t id, qemu_plugin_vcpu_simple_cb_t cb) {
  (void)id;
  on_idle = cb;
}
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, qemu_plugin_vcpu_tb_trans_cb_t cb) {
  (void)id;
  on_translation = cb;
}
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, qemu_plugin_vcpu_udata_cb_t cb,
                                          enum qemu_plugin_cb_flags flags, void *userdata) {
  (void)flags;
  *add_callback(tb) = (struct callback){.kind = CALL, .call = cb, .word = userdata};
}
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb) { return tb->count; }
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t idx) {
  return (struct qemu_plugin_insn *)&tb->insns[idx];
}
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *insn) { return insn->length; }

#if API < 3
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *insn) { return insn->bytes; }
#else
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *insn, void *dest, size_t len) {
  size_t copied = len < insn->length ? len : insn->length;
  memcpy(dest, insn->bytes, copied);
  return copied;
}
#endif

#if API == 1
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *tb, enum qemu_plugin_op op, void *ptr,
                                              uint64_t imm) {
  (void)op;
  *add_callback(tb) = (struct callback){.kind = ADD, .word = ptr, .number = imm};
}
#endif

#if API >= 2
struct qemu_plugin_scoreboard *qemu_plugin_scoreboard_new(size_t element_size) {
  struct qemu_plugin_scoreboard *score = aligned_alloc(64, sizeof *score);
  if (score == NULL || element_size > ELEMENT_BYTES_MAX) abort();
  memset(score, 0, sizeof *score);
  score->element_size = element_size;
  return score;
}
void *qemu_plugin_scoreboard_find(struct qemu_plugin_scoreboard *score, unsigned vcpu_index) {
  return score->elements + vcpu_index * score->element_size;
}
void qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(struct qemu_plugin_tb *tb, enum qemu_plugin_op op,
                                                       qemu_plugin_u64 entry, uint64_t imm) {
  (void)op;
  *add_callback(tb) = (struct callback){.kind = ADD_PER_VCPU, .entry = entry, .number = imm};
}
#endif

#if API >= 3
void qemu_plugin_register_vcpu_tb_exec_cond_cb(struct qemu_plugin_tb *tb, qemu_plugin_vcpu_udata_cb_t cb,
                                               enum qemu_plugin_cb_flags flags, enum qemu_plugin_cond cond,
                                               qemu_plugin_u64 entry, uint64_t imm, void *userdata) {
  (void)flags;
  *add_callback(tb) =
      (struct callback){.kind = CALL_IF, .call = cb, .word = userdata, .entry = entry, .number = imm, .cond = cond};
}
#endif

/* ---- the machine ---- */

static uint64_t *entry_of(const struct callback *callback, unsigned vcpu) {
#if API >= 2
  return (void *)((char *)qemu_plugin_scoreboard_find(callback->entry.score, vcpu) + callback->entry.offset);
#else
  (void)callback, (void)vcpu;
  abort();
#endif
}

static void run_callback(const struct callback *callback, unsigned vcpu) {
  switch (callback->kind) {
    case CALL: callback->call(vcpu, callback->word); break;
    case ADD: *(uint64_t *)callback->word += callback->number; break;
    case ADD_PER_VCPU: *entry_of(callback, vcpu) += callback->number; break;
    case CALL_IF:
      if (callback->cond != QEMU_PLUGIN_COND_LE) abort();
      if (*entry_of(callback, vcpu) <= callback->number) callback->call(vcpu, callback->word);
      break;
  }
}

static void translate(void) {
  /* Now and then all code is of one class and in the longest blocks: what gathers the classes is then at its limit. */
  bool is_uniform = below(3) == 0;
  unsigned common = below(INSN_CLASSES);
  for (struct qemu_plugin_tb *tb = blocks; tb < blocks + BLOCKS; ++tb) {
    tb->callback_count = 0;
    bool is_long = is_uniform || below(8) == 0;
    tb->count = is_uniform ? INSNS_MAX - below(2) : 1 + below(is_long ? INSNS_MAX : 12);
    for (size_t i = 0; i < tb->count; ++i) tb->insns[i] = SAMPLES[is_uniform ? common : below(INSN_CLASSES + 1)];
    on_translation(1, tb);
  }
}

static void execute(unsigned vcpu) {
  struct qemu_plugin_tb *tb = &blocks[below(BLOCKS)];
  for (size_t i = 0; i < tb->callback_count; ++i) run_callback(&tb->callbacks[i], vcpu);
  for (size_t i = 0; i < tb->count; ++i) executed[vcpu][tb->insns[i].class] += 1;
}

static void print_executed(int version, unsigned vcpus) {
  printf("{\"version\":%d,\"callbacks\":[", version);
  size_t kinds[4] = {0};
  for (size_t b = 0; b < BLOCKS; ++b) {
    for (size_t i = 0; i < blocks[b].callback_count; ++i) kinds[blocks[b].callbacks[i].kind] += 1;
  }
  printf("%zu,%zu,%zu,%zu],\"vcpus\":[", kinds[CALL], kinds[ADD], kinds[ADD_PER_VCPU], kinds[CALL_IF]);
  for (unsigned vcpu = 0; vcpu < vcpus; ++vcpu) {
    const uint64_t *n = executed[vcpu];
    printf("%s{\"system\":%" PRIu64 ",\"crypto\":%" PRIu64 ",\"vector\":%" PRIu64 ",\"branch\":%" PRIu64
           ",\"memory\":%" PRIu64 ",\"other\":%" PRIu64 "}",
           vcpu == 0 ? "" : ",", n[INSN_SYSTEM], n[INSN_CRYPTO], n[INSN_VECTOR], n[INSN_BRANCH], n[INSN_MEMORY],
           n[INSN_OTHER]);
  }
  puts("]}");
}

int main(int argc, char **argv) {
  if (argc < 6) return 2;
  qemu_info_t info = {.target_name = argv[2], .version = {API >= 2 ? 2 : 0, API}};
  info.system.max_vcpus = atoi(argv[3]);
  info.system.smp_vcpus = 1;
  info.system_emulation = info.system.max_vcpus > 0;
  unsigned long steps = strtoul(argv[4], NULL, 10);
  state = strtoul(argv[5], NULL, 10);

  void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
  if (plugin == NULL) {
    fprintf(stderr, "%s\n", dlerror());
    return 2;
  }
  int version = *(int *)dlsym(plugin, "qemu_plugin_version");
  int (*install)(qemu_plugin_id_t, const qemu_info_t *, int, char **);
  *(void **)&install = dlsym(plugin, "qemu_plugin_install");
  if (install(1, &info, argc - 6, argv + 6) != 0) return 1;

  unsigned vcpus = 1;
  on_init(1, 0);
  translate();
  for (unsigned long step = 0; step < steps; ++step) {
    if (step == steps / 3 && info.system.max_vcpus > 1) on_init(1, vcpus++);
    if (step == steps / 3 * 2) translate();
    unsigned vcpu = below(vcpus);
    execute(vcpu);
    if (on_idle != NULL && below(1000) == 0) on_idle(1, vcpu);
  }
  for (unsigned vcpu = 0; on_idle != NULL && vcpu < vcpus; ++vcpu) on_idle(1, vcpu);
  print_executed(version, vcpus);
}
