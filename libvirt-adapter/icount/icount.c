/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * icount: a QEMU TCG plugin that counts the guest instructions each vCPU executed, in a file that others map or read.
 *
 *   -plugin file=icount.so,out=FILE[,every=N][,ring=RECORDS]
 *
 * out    the file; created or overwritten. Its folder must be writable by the user QEMU runs as.
 * every  cut a record each N instructions of a vCPU (1,000 to 10^12); 0, the default, cuts none. A cut falls on the
 *        end of a translation block, so a step is N to N + one block, without drift.
 * ring   records kept (a power of two, 16 to 1,048,576; 4,096 by default when `every` is given).
 *
 * Layout, little endian, all 64-bit fields aligned:
 *   header   4096 bytes, struct icount_header
 *   slots    ICOUNT_SLOTS x 64 bytes, struct icount_slot; slot i belongs to vCPU i and has one writer
 *   records  ring x 32 bytes, struct icount_record; record k is at index k mod ring
 *
 * Counting is by a callback per translation block: QEMU's inline operation of API 1 has no vCPU index. A block that
 * faults half-way is counted whole. The declarations below stand for qemu-plugin.h, which no distribution packages:
 * API 1 is QEMU 4.2 to 8, API 2 and later QEMU 9 and later; the functions used here are the same in both.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* ---- QEMU's plugin interface ---- */

#define QEMU_PLUGIN_EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;

typedef struct {
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

typedef void (*qemu_plugin_vcpu_simple_cb_t)(qemu_plugin_id_t id, unsigned vcpu);
typedef void (*qemu_plugin_vcpu_tb_trans_cb_t)(qemu_plugin_id_t id, struct qemu_plugin_tb *tb);
typedef void (*qemu_plugin_vcpu_udata_cb_t)(unsigned vcpu, void *userdata);

void qemu_plugin_register_vcpu_init_cb(qemu_plugin_id_t id, qemu_plugin_vcpu_simple_cb_t cb);
void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id, qemu_plugin_vcpu_tb_trans_cb_t cb);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, qemu_plugin_vcpu_udata_cb_t cb,
                                          enum qemu_plugin_cb_flags flags, void *userdata);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);

/* Came with API 2; never called, its presence tells which API this QEMU speaks. */
__attribute__((weak)) void *qemu_plugin_scoreboard_new(size_t element_size);

/* QEMU reads this after it has loaded us and before it installs us; 2 is refused before QEMU 9, 1 from then on. */
QEMU_PLUGIN_EXPORT int qemu_plugin_version = 1;

__attribute__((constructor)) static void choose_api(void) {
  if (qemu_plugin_scoreboard_new != NULL) qemu_plugin_version = 2;
}

/* ---- the file ---- */

#define ICOUNT_MAGIC "FSICOUNT"

enum {
  ICOUNT_VERSION = 1,
  ICOUNT_HEADER_BYTES = 4096,
  ICOUNT_SLOTS = 256, /* KVM's and libvirt's guests of one socket; more vCPUs are refused */
  ICOUNT_RING_MIN = 16,
  ICOUNT_RING_DEFAULT = 4096,
  ICOUNT_RING_MAX = 1 << 20,
};
/* Below 1,000 a record is cut at nearly each block, and the guest mostly writes records. */
static const uint64_t EVERY_MIN = 1000;
static const uint64_t EVERY_MAX = UINT64_C(1000000000000);

struct icount_header {
  char magic[8]; /* written last: a reader that sees it sees the rest */
  uint32_t version;
  uint32_t header_bytes;
  uint32_t slot_count;
  uint32_t slot_bytes;
  uint32_t record_count; /* 0 without `every` */
  uint32_t record_bytes;
  uint64_t every;
  uint64_t pid;
  uint64_t start_ns; /* CLOCK_MONOTONIC; tells one run of the guest from the next */
  _Alignas(64) _Atomic uint64_t records_cut;
};

struct icount_slot {
  _Alignas(64) _Atomic uint64_t instructions;
  uint64_t next_cut;
  _Atomic uint64_t plugged; /* times this vCPU was created; 0: never seen */
};

struct icount_record {
  _Atomic uint64_t sequence; /* k + 1 once record k is whole; 0 while it is written */
  uint64_t vcpu;
  uint64_t instructions;
  uint64_t monotonic_ns;
};

_Static_assert(sizeof(struct icount_header) <= ICOUNT_HEADER_BYTES, "the header fits its page");
_Static_assert(sizeof(struct icount_slot) == 64, "a slot is one cache line");
_Static_assert(sizeof(struct icount_record) == 32, "the reader counts on it");

static struct icount_header *header;
static struct icount_slot *slots;
static struct icount_record *records;

struct options {
  const char *out;
  uint64_t every;
  uint64_t ring;
};

static uint64_t monotonic_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* ---- counting ---- */

static void on_vcpu_init(qemu_plugin_id_t id, unsigned vcpu) {
  (void)id;
  if (vcpu >= ICOUNT_SLOTS) return;
  struct icount_slot *slot = &slots[vcpu];
  if (slot->next_cut == 0) slot->next_cut = header->every;
  atomic_fetch_add_explicit(&slot->plugged, 1, memory_order_relaxed);
}

static void cut_record(struct icount_slot *slot, unsigned vcpu, uint64_t instructions) {
  slot->next_cut = instructions - instructions % header->every + header->every;
  uint64_t k = atomic_fetch_add_explicit(&header->records_cut, 1, memory_order_acq_rel);
  struct icount_record *record = &records[k & (header->record_count - 1)];
  atomic_store_explicit(&record->sequence, 0, memory_order_relaxed);
  atomic_thread_fence(memory_order_release);
  record->vcpu = vcpu;
  record->instructions = instructions;
  record->monotonic_ns = monotonic_ns();
  atomic_store_explicit(&record->sequence, k + 1, memory_order_release);
}

/* Only vCPU i writes slot i, so a load and a store do; a locked add would cost twice the callback. */
static inline uint64_t count(struct icount_slot *slot, void *block_instructions) {
  uint64_t instructions = atomic_load_explicit(&slot->instructions, memory_order_relaxed);
  instructions += (uintptr_t)block_instructions;
  atomic_store_explicit(&slot->instructions, instructions, memory_order_relaxed);
  return instructions;
}

static void on_block(unsigned vcpu, void *block_instructions) {
  count(&slots[vcpu % ICOUNT_SLOTS], block_instructions);
}

static void on_block_cutting(unsigned vcpu, void *block_instructions) {
  struct icount_slot *slot = &slots[vcpu % ICOUNT_SLOTS];
  uint64_t instructions = count(slot, block_instructions);
  if (__builtin_expect(instructions >= slot->next_cut, 0)) cut_record(slot, vcpu, instructions);
}

static void on_translation(qemu_plugin_id_t id, struct qemu_plugin_tb *tb) {
  (void)id;
  void *instructions = (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb);
  qemu_plugin_register_vcpu_tb_exec_cb(tb, header->every == 0 ? on_block : on_block_cutting, QEMU_PLUGIN_CB_NO_REGS,
                                       instructions);
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
    return parse_number("ring", argument + 5, ICOUNT_RING_MIN, ICOUNT_RING_MAX, &options->ring);
  }
  fprintf(stderr, "icount: unknown argument \"%s\"; known are out=FILE, every=N, ring=RECORDS\n", argument);
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
  if (options->every != 0 && options->ring == 0) options->ring = ICOUNT_RING_DEFAULT;
  if ((options->ring & (options->ring - 1)) != 0) {
    fprintf(stderr, "icount: ring must be a power of two, not %" PRIu64 "\n", options->ring);
    return false;
  }
  return true;
}

static bool map_file(const struct options *options) {
  size_t bytes = ICOUNT_HEADER_BYTES + ICOUNT_SLOTS * sizeof *slots + options->ring * sizeof *records;
  int fd = open(options->out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  void *map = MAP_FAILED;
  if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0) {
    map = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  int error = errno;
  if (fd >= 0) close(fd);
  if (map == MAP_FAILED) {
    fprintf(stderr, "icount: cannot write %s: %s\n", options->out, strerror(error));
    return false;
  }
  header = map;
  slots = (void *)((char *)map + ICOUNT_HEADER_BYTES);
  records = (void *)(slots + ICOUNT_SLOTS);
  return true;
}

static void write_header(const struct options *options) {
  header->version = ICOUNT_VERSION;
  header->header_bytes = ICOUNT_HEADER_BYTES;
  header->slot_count = ICOUNT_SLOTS;
  header->slot_bytes = sizeof *slots;
  header->record_count = (uint32_t)options->ring;
  header->record_bytes = sizeof *records;
  header->every = options->every;
  header->pid = (uint64_t)getpid();
  header->start_ns = monotonic_ns();
  atomic_thread_fence(memory_order_release);
  memcpy(header->magic, ICOUNT_MAGIC, sizeof header->magic);
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc, char **argv) {
  struct options options = {0};
  if (!parse_arguments(argc, argv, &options)) return -1;
  if (!info->system_emulation) {
    fprintf(stderr, "icount: counts the vCPUs of a system emulator; this is a user-mode QEMU\n");
    return -1;
  }
  if (info->system.max_vcpus > ICOUNT_SLOTS) {
    fprintf(stderr, "icount: %d vCPUs; the file has slots for %d\n", info->system.max_vcpus, ICOUNT_SLOTS);
    return -1;
  }
  if (!map_file(&options)) return -1;
  write_header(&options);
  qemu_plugin_register_vcpu_init_cb(id, on_vcpu_init);
  qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
  return 0;
}
