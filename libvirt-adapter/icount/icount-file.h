/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The file in which the plugin counts, and which others read while it does. Little endian, 64-bit fields aligned:
 *
 *   header   4096 bytes, struct icount_header
 *   slots    slot_count x 64 bytes, struct icount_slot; slot i belongs to vCPU i and has one writer
 *   records  record_count x record_bytes, struct icount_record; record k is at index k mod record_count
 *
 * A change of the layout raises ICOUNT_VERSION: a reader refuses a version that it does not know.
 */
#ifndef FORESHADE_ICOUNT_FILE_H
#define FORESHADE_ICOUNT_FILE_H
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "insn-class.h"

#define ICOUNT_MAGIC "FSICOUNT"

enum {
  ICOUNT_VERSION = 2,
  ICOUNT_HEADER_BYTES = 4096,
  ICOUNT_SLOTS_MAX = 256, /* KVM's and libvirt's guests of one socket; more vCPUs are refused */
  ICOUNT_RECORD_BYTES = 32,
  ICOUNT_RECORD_BYTES_WITH_CLASSES = 64,
};

struct icount_header {
  char magic[8]; /* written last: a reader that sees it sees the rest */
  uint32_t version;
  uint32_t header_bytes;
  uint32_t slot_count; /* vCPUs the guest can have */
  uint32_t slot_bytes;
  uint32_t record_count; /* a power of two; 0 without `every` */
  uint32_t record_bytes;
  uint64_t every;
  uint64_t pid;
  uint64_t start_ns;         /* CLOCK_MONOTONIC; tells one run of the guest from the next */
  uint32_t class_mask;       /* bit c: class c of insn-class.h is counted; the others are part of `other` */
  uint32_t lag_instructions; /* a running vCPU's counts are at most so far behind; an idle one's are exact */
  _Alignas(64) _Atomic uint64_t records_cut;
};

/* Each count is whole and never goes back. They are written one after another, so two may differ by the lag. */
struct icount_slot {
  _Alignas(64) uint64_t instructions;
  uint64_t classes[INSN_CLASSES]; /* zero for what class_mask leaves out */
  _Atomic uint64_t plugged;       /* times this vCPU was created; 0: never seen */
};

struct icount_record {
  _Atomic uint64_t mark; /* (k + 1) << 16 | vCPU once record k is whole; 0 while it is written */
  uint64_t instructions;
  uint64_t monotonic_ns;
  uint64_t classes[INSN_CLASSES]; /* sums; absent from records of ICOUNT_RECORD_BYTES */
};

_Static_assert(sizeof(struct icount_header) <= ICOUNT_HEADER_BYTES, "the header fits its page");
_Static_assert(offsetof(struct icount_header, records_cut) == 64, "the reader counts on it");
_Static_assert(sizeof(struct icount_slot) == 64, "a slot is one cache line");
_Static_assert(sizeof(struct icount_record) == ICOUNT_RECORD_BYTES_WITH_CLASSES, "and on this");
#endif
