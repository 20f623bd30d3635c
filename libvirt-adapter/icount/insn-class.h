/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The class of an x86 instruction, decided from its bytes. */
#ifndef FORESHADE_ICOUNT_INSN_CLASS_H
#define FORESHADE_ICOUNT_INSN_CLASS_H
#include <stddef.h>
#include <stdint.h>

/*
 * An instruction has one class: the first of these that fits, and `other` when none does.
 *
 * system  privileged, I/O, or a way into or out of the kernel: in, hlt, mov cr, wrmsr, syscall, int, iret, cpuid, rdtsc
 * crypto  AES, SHA, SM3, SM4, carry-less multiplication, GF(2^8), key locker, PadLock
 * vector  floating point and SIMD: x87, MMX, SSE, AVX, AVX-512, AMX, and saving or loading their state
 * branch  jump, call, return, loop
 * memory  a load or a store: an operand in memory, or a stack or string operation; hints and lea touch no memory
 */
enum insn_class {
  INSN_SYSTEM,
  INSN_CRYPTO,
  INSN_VECTOR,
  INSN_BRANCH,
  INSN_MEMORY,
  INSN_OTHER,
};

enum { INSN_CLASSES = INSN_OTHER }; /* classes that are counted; `other` is what remains of the total */

/*
 * The class of the instruction in `bytes`, of which there are `length`. The processor's mode is not known and hardly
 * matters: what 64-bit mode made a prefix is read as one where more bytes follow, so only the far loads of 16-bit code
 * (les, lds, bound) are taken for VEX and EVEX. Bytes that are no instruction are `other`; none beyond `length` is read.
 */
enum insn_class insn_class_of(const uint8_t *bytes, size_t length);
#endif
