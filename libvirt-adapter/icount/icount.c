/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * icount: a QEMU TCG plugin that counts the guest instructions each vCPU executed, in a file that others map or read.
 *
 *   -plugin file=icount.so,out=FILE[,every=N][,ring=RECORDS][,classes=NAME+NAME...]
 *
 * out      the file, of the layout in icount-file.h. Its folder must be writable by the user QEMU runs as.
 * every    cut a record each N instructions of a vCPU (1,000 to 10^12); 0, the default, cuts none. Record j of a vCPU
 *          is cut by the translation block that reaches j x N: within one block of it, without drift.
 * ring     records kept (a power of two, 16 to 4,194,304; by default 262,144 when `every` is given: a minute of two
 *          busy vCPUs at N = 1,000,000). Older ones are overwritten, and the numbers of the rest tell a reader how many.
 * classes  count these classes of instructions (insn-class.h) on their own: names joined by +, or all.
 *
 * How blocks count is what was measured to be cheapest (times of an endless loop of four instructions, without us 1):
 *   a call per block: 1.25, with classes 1.35. Inline additions have no vCPU in version 1 of QEMU's interface; from
 *   version 2 on each of them finds its vCPU anew, and costs more than a call: 1.5, with classes 1.8;
 *   for a guest that can have one vCPU only, and without classes, inline additions: 1.2 with a scoreboard and a call at
 *   a stop (version 3 and later), 1.0 without stops (version 1, without records).
 * A stop is where a vCPU's counts go to the file: at each cut, each 65,536 instructions, each 3,583 with classes, and
 * when the vCPU goes idle. Without records and classes, calls count in the file itself and never stop.
 * A block that faults half-way is counted whole.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "icount-file.h"
#include "insn-class.h"
#include "qemu-plugin-api.h"

/* QEMU reads this after it has loaded us and before it installs us; 1 is refused from QEMU 9 on, more before it. */
QEMU_PLUGIN_EXPORT int qemu_plugin_version = 1;

__attribute__((constructor)) static void choose_api(void) {
  if (qemu_plugin_scoreboard_new != NULL) qemu_plugin_version = 2;
  if (qemu_plugin_register_vcpu_tb_exec_cond_cb != NULL) qemu_plugin_version = 3;
}

enum {
  RING_MIN = 16,
  RING_DEFAULT = 1 << 18,
  RING_MAX = 1 << 22, /* 256 MiB with classes */
  BLOCK_INSTRUCTIONS_MAX = 512, /* TCG_MAX_INSNS of QEMU */
  INSTRUCTION_BYTES_MAX = 15,
  /* Between stops, classes gather in fields of one word. */
  FIELD_BITS = 12,
  FIELD_MAX = (1 << FIELD_BITS) - 1,
  /* Instructions between stops: 0.1 ms of a vCPU's work, against which a stop costs nothing. */
  STOP_DISTANCE = 1 << 16,
  /* With classes: one block later at the latest, no field is full yet. */
  STOP_DISTANCE_CLASSES = FIELD_MAX - BLOCK_INSTRUCTIONS_MAX,
};
_Static_assert(INSN_CLASSES * FIELD_BITS <= 64, "the classes' fields fit one word");
/* Below 1,000 a record is cut at nearly each block, and the guest mostly writes records. */
static const uint64_t EVERY_MIN = 1000;
static const uint64_t EVERY_MAX = UINT64_C(1000000000000);

static const char *const CLASS_NAMES[INSN_CLASSES] = {
    [INSN_SYSTEM] = "system", [INSN_CRYPTO] = "crypto", [INSN_VECTOR] = "vector",
    [INSN_BRANCH] = "branch", [INSN_MEMORY] = "memory",
};

static struct icount_header *header;
static struct icount_slot *slots;
static char *records;

/* What each block changes. */
struct hot {
  uint64_t behind; /* instructions minus the next stop, in two's complement: negative until the stop is reached */
  uint64_t packed; /* instructions by class since the last stop, in fields of FIELD_BITS */
};

/* One vCPU between its stops. All zeros, it stops at its first block. */
struct vcpu {
  _Alignas(64) struct hot hot;
  uint64_t next_stop;
  uint64_t next_cut; /* multiple of `every` */
};

static struct vcpu vcpus[ICOUNT_SLOTS_MAX];
/* In place of vcpu.hot where blocks count inline; NULL otherwise. */
static struct qemu_plugin_scoreboard *scoreboard;
/* Instructions between two stops of a vCPU that no cut comes in between; 0 where blocks count in the file itself. */
static uint64_t stop_distance;

/* Bytes of an instruction, by either of the two forms that the interface gave this name. */
static insn_data_pointer *point_to_insn_data;
static insn_data_copy *copy_insn_data;

struct options {
  const char *out;
  uint64_t every;
  uint64_t ring;
  uint32_t class_mask;
};

static uint64_t monotonic_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* ---- stops ---- */

static void cut_record(const struct icount_slot *slot, unsigned vcpu) {
  uint64_t k = atomic_fetch_add_explicit(&header->records_cut, 1, memory_order_acq_rel);
  struct icount_record *record =
      (void *)(records + (k & (header->record_count - 1)) * (uint64_t)header->record_bytes);
  atomic_store_explicit(&record->mark, 0, memory_order_relaxed);
  atomic_thread_fence(memory_order_release);
  record->instructions = slot->instructions;
  record->monotonic_ns = monotonic_ns();
  if (header->class_mask != 0) memcpy(record->classes, slot->classes, sizeof record->classes);
  atomic_store_explicit(&record->mark, (k + 1) << 16 | vcpu, memory_order_release);
}

/* On the vCPU's own thread. */
__attribute__((noinline, cold)) static void stop(unsigned index, struct hot *hot) {
  struct icount_slot *slot = &slots[index];
  struct vcpu *vcpu = &vcpus[index];
  uint64_t instructions = vcpu->next_stop + hot->behind;
  slot->instructions = instructions;
  for (unsigned c = 0; c < INSN_CLASSES; ++c) slot->classes[c] += hot->packed >> (c * FIELD_BITS) & FIELD_MAX;
  uint64_t distance = stop_distance;
  if (header->every != 0) {
    if (instructions >= vcpu->next_cut) {
      if (vcpu->next_cut != 0) cut_record(slot, index);
      vcpu->next_cut = instructions - instructions % header->every + header->every;
    }
    if (vcpu->next_cut - instructions < distance) distance = vcpu->next_cut - instructions;
  }
  vcpu->next_stop = instructions + distance;
  hot->behind = -distance;
  hot->packed = 0;
}

/* ---- a call per block ---- */

/*
 * A block's numbers in the one word that a callback is given: its instructions in the low bits, its classes above them
 * as in hot.packed. The last class has what the word has left; of more, several callbacks are made.
 */
enum {
  WORD_COUNT_BITS = 10,
  WORD_LAST_FIELD_MAX = (1 << (64 - WORD_COUNT_BITS - (INSN_CLASSES - 1) * FIELD_BITS)) - 1,
};
_Static_assert(BLOCK_INSTRUCTIONS_MAX < 1 << WORD_COUNT_BITS, "a block's count fits");
_Static_assert(sizeof(void *) == sizeof(uint64_t), "a callback's word has 64 bits");

/* Only vCPU i writes what is vCPU i's, so plain additions do; atomic ones would cost twice the callback. */
static void on_block_in_file(unsigned vcpu, void *instructions) {
  slots[vcpu].instructions += (uintptr_t)instructions;
}

static inline void count(unsigned vcpu, uint64_t instructions) {
  struct hot *hot = &vcpus[vcpu].hot;
  hot->behind += instructions;
  if (__builtin_expect((int64_t)hot->behind >= 0, 0)) stop(vcpu, hot);
}

static void on_block(unsigned vcpu, void *instructions) { count(vcpu, (uintptr_t)instructions); }

static void on_block_classes(unsigned vcpu, void *word) {
  vcpus[vcpu].hot.packed += (uintptr_t)word >> WORD_COUNT_BITS;
  atomic_signal_fence(memory_order_seq_cst); // two scalar additions: merged into a vector they cost twice as much
  count(vcpu, (uintptr_t)word & ((1 << WORD_COUNT_BITS) - 1));
}

/* ---- inline additions, for a guest of one vCPU ---- */

static void on_stop(unsigned vcpu, void *unused) {
  (void)unused;
  stop(vcpu, qemu_plugin_scoreboard_find(scoreboard, vcpu));
}

static void on_translation_scoreboard(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
  (void)id;
  qemu_plugin_u64 behind = {scoreboard, offsetof(struct hot, behind)};
  qemu_plugin_register_vcpu_tb_exec_inline_per_vcpu(tb, QEMU_PLUGIN_INLINE_ADD_U64, behind,
                                                    qemu_plugin_tb_n_insns(tb));
  // Without a sign, what is negative is large: only where the stop was reached it is within a block of zero.
  qemu_plugin_register_vcpu_tb_exec_cond_cb(tb, on_stop, QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_COND_LE, behind,
                                            BLOCK_INSTRUCTIONS_MAX, NULL);
}

static void on_translation_inline(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
  (void)id;
  qemu_plugin_register_vcpu_tb_exec_inline(tb, QEMU_PLUGIN_INLINE_ADD_U64, &slots[0].instructions,
                                           qemu_plugin_tb_n_insns(tb));
}

/* ---- translation ---- */

static enum insn_class class_of(const struct qemu_plugin_insn *insn) {
  uint8_t copy[INSTRUCTION_BYTES_MAX];
  if (copy_insn_data != NULL) return insn_class_of(copy, copy_insn_data(insn, copy, sizeof copy));
  return insn_class_of(point_to_insn_data(insn), qemu_plugin_insn_size(insn));
}

static void count_block(struct qemu_plugin_tb *tb, uint64_t instructions, uint64_t packed) {
  void *word = (void *)(uintptr_t)(packed << WORD_COUNT_BITS | instructions);
  qemu_plugin_register_vcpu_tb_exec_cb(tb, on_block_classes, QEMU_PLUGIN_CB_NO_REGS, word);
}

static void on_translation_classes(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
  (void)id;
  uint64_t instructions = 0, packed = 0;
  for (size_t i = 0, n = qemu_plugin_tb_n_insns(tb); i < n; ++i) {
    enum insn_class class = class_of(qemu_plugin_tb_get_insn(tb, i));
    instructions += 1;
    if (header->class_mask >> class & 1) packed += UINT64_C(1) << (class * FIELD_BITS);
    if (packed >> ((INSN_CLASSES - 1) * FIELD_BITS) == WORD_LAST_FIELD_MAX) {
      count_block(tb, instructions, packed);
      instructions = packed = 0;
    }
  }
  if (instructions != 0) count_block(tb, instructions, packed);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
  (void)id;
  void *instructions = (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb);
  qemu_plugin_register_vcpu_tb_exec_cb(tb, stop_distance == 0 ? on_block_in_file : on_block, QEMU_PLUGIN_CB_NO_REGS,
                                       instructions);
}

static void on_vcpu_init(qemu_plugin_id_t id, unsigned vcpu) {
  (void)id;
  if (vcpu < header->slot_count) atomic_fetch_add_explicit(&slots[vcpu].plugged, 1, memory_order_relaxed);
}

static void on_vcpu_idle(qemu_plugin_id_t id, unsigned vcpu) {
  (void)id;
  stop(vcpu, scoreboard == NULL ? &vcpus[vcpu].hot : qemu_plugin_scoreboard_find(scoreboard, vcpu));
}

/* ---- installation ---- */

/* A decimal number in [low, high]; the message names the argument and the rule. */
static bool parse_number(const char *name, const char *text, uint64_t low, uint64_t high, uint64_t *value) {
  char *end = NULL;
  errno = 0;
  unsigned long long parsed = strtoull(text, &end, 10);
  if (errno == 0 && *text >= '0' && *text <= '9' && *end == '\0' && parsed >= low && parsed <= high) {
    *value = parsed;
    return true;
  }
  fprintf(stderr, "icount: %s must be a number from %" PRIu64 " to %" PRIu64 ", not \"%s\"\n", name, low, high, text);
  return false;
}

static bool parse_classes(const char *text, uint32_t *mask) {
  if (strcmp(text, "all") == 0) {
    *mask = (1 << INSN_CLASSES) - 1;
    return true;
  }
  for (;;) {
    size_t length = strcspn(text, "+");
    unsigned c = 0;
    while (c < INSN_CLASSES && (strncmp(text, CLASS_NAMES[c], length) != 0 || CLASS_NAMES[c][length] != '\0')) ++c;
    if (c == INSN_CLASSES) {
      fprintf(stderr, "icount: no class \"%.*s\"; there are system, crypto, vector, branch, memory, and all\n",
              (int)length, text);
      return false;
    }
    *mask |= UINT32_C(1) << c;
    if (text[length] == '\0') return true;
    text += length + 1;
  }
}

static bool parse_argument(const char *argument, struct options *options) {
  if (strncmp(argument, "out=", 4) == 0) {
    options->out = argument + 4;
    return true;
  }
  if (strcmp(argument, "every=0") == 0) return true;
  if (strncmp(argument, "every=", 6) == 0) {
    return parse_number("every", argument + 6, EVERY_MIN, EVERY_MAX, &options->every);
  }
  if (strncmp(argument, "ring=", 5) == 0) {
    return parse_number("ring", argument + 5, RING_MIN, RING_MAX, &options->ring);
  }
  if (strncmp(argument, "classes=", 8) == 0) return parse_classes(argument + 8, &options->class_mask);
  fprintf(stderr, "icount: unknown argument \"%s\"; known are out=FILE, every=N, ring=RECORDS, classes=NAMES\n",
          argument);
  return false;
}

static bool parse_arguments(int argc, char **argv, struct options *options) {
  for (int i = 0; i < argc; ++i) {
    if (!parse_argument(argv[i], options)) return false;
  }
  if (options->out == NULL || *options->out == '\0') {
    fprintf(stderr, "icount: out=FILE is required\n");
    return false;
  }
  if (options->ring != 0 && options->every == 0) {
    fprintf(stderr, "icount: ring needs every=N\n");
    return false;
  }
  if (options->every != 0 && options->ring == 0) options->ring = RING_DEFAULT;
  if ((options->ring & (options->ring - 1)) != 0) {
    fprintf(stderr, "icount: ring must be a power of two, not %" PRIu64 "\n", options->ring);
    return false;
  }
  return true;
}

/*
 * A file of `bytes` zeros, locked and open for as long as QEMU lives: one that another QEMU writes must not be cut short
 * under it. Its blocks are taken at once, since a full disk would kill the guest later. -1 with errno on failure.
 */
static int claim_file(const char *path, size_t bytes) {
  int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return -1;
  if (flock(fd, LOCK_EX | LOCK_NB) == 0 && ftruncate(fd, 0) == 0) {
    errno = posix_fallocate(fd, 0, (off_t)bytes);
    if (errno == 0) return fd;
  }
  int error = errno;
  close(fd);
  errno = error;
  return -1;
}

static bool map_file(const struct options *options, unsigned slot_count) {
  size_t record_bytes = options->class_mask == 0 ? ICOUNT_RECORD_BYTES : ICOUNT_RECORD_BYTES_WITH_CLASSES;
  size_t slots_end = ICOUNT_HEADER_BYTES + slot_count * sizeof *slots;
  size_t bytes = slots_end + options->ring * record_bytes;
  int fd = claim_file(options->out, bytes);
  void *map = fd < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (map == MAP_FAILED) {
    const char *reason = errno == EWOULDBLOCK ? "another QEMU writes it" : strerror(errno);
    fprintf(stderr, "icount: cannot write %s: %s\n", options->out, reason);
    if (fd >= 0) close(fd);
    return false;
  }
  header = map;
  slots = (void *)((char *)map + ICOUNT_HEADER_BYTES);
  records = (char *)map + slots_end;
  header->record_bytes = (uint32_t)record_bytes;
  header->slot_count = slot_count;
  return true;
}

static void write_header(const struct options *options) {
  header->version = ICOUNT_VERSION;
  header->header_bytes = ICOUNT_HEADER_BYTES;
  header->slot_bytes = sizeof *slots;
  header->record_count = (uint32_t)options->ring;
  header->every = options->every;
  header->pid = (uint64_t)getpid();
  header->start_ns = monotonic_ns();
  header->class_mask = options->class_mask;
  header->lag_instructions = (uint32_t)stop_distance;
  atomic_thread_fence(memory_order_release);
  memcpy(header->magic, ICOUNT_MAGIC, sizeof header->magic);
}

static bool is_x86(const char *target) { return strcmp(target, "x86_64") == 0 || strcmp(target, "i386") == 0; }

static void choose_insn_data(int version) {
  void (*insn_data)(void) = (void (*)(void))qemu_plugin_insn_data;
  if (version >= 3) {
    copy_insn_data = (insn_data_copy *)insn_data;
  } else {
    point_to_insn_data = (insn_data_pointer *)insn_data;
  }
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
  struct options options = {0};
  if (!parse_arguments(argc, argv, &options)) return -1;
  if (!info->system_emulation) {
    fprintf(stderr, "icount: counts the vCPUs of a system emulator; this is a user-mode QEMU\n");
    return -1;
  }
  int max_vcpus = info->system.max_vcpus;
  if (max_vcpus > ICOUNT_SLOTS_MAX) {
    fprintf(stderr, "icount: %d vCPUs; the file has slots for %d\n", max_vcpus, ICOUNT_SLOTS_MAX);
    return -1;
  }
  bool decodes = options.class_mask != 0 && is_x86(info->target_name);
  if (options.class_mask != 0 && !decodes) {
    fprintf(stderr, "icount: classes are known for x86 only: on %s all instructions count as other\n",
            info->target_name);
  }
  if (!map_file(&options, (unsigned)max_vcpus)) return -1;
  choose_insn_data(info->version.cur);
  bool has_one_vcpu = max_vcpus == 1 && !decodes;
  if (has_one_vcpu && qemu_plugin_version >= 3) scoreboard = qemu_plugin_scoreboard_new(sizeof(struct hot));
  bool stops = scoreboard != NULL || options.every != 0 || decodes;
  if (stops) stop_distance = decodes ? STOP_DISTANCE_CLASSES : STOP_DISTANCE;
  write_header(&options);
  qemu_plugin_register_vcpu_init_cb(id, on_vcpu_init);
  if (stops) qemu_plugin_register_vcpu_idle_cb(id, on_vcpu_idle);
  bool is_inline = has_one_vcpu && !stops && qemu_plugin_register_vcpu_tb_exec_inline != NULL;
  qemu_plugin_register_vcpu_tb_trans_cb(id, scoreboard != NULL ? on_translation_scoreboard
                                            : decodes          ? on_translation_classes
                                            : is_inline        ? on_translation_inline
                                                               : on_translation);
  return 0;
}
