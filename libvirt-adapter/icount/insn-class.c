/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Source of the maps: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, appendix A (opcode maps)
 * and chapter 2 (prefixes, VEX, EVEX).
 */
#include "insn-class.h"

#include <stdbool.h>

/*
 * One letter per opcode:
 *   s system   c crypto   v vector   b branch   . other   m memory
 *   r memory if ModRM names it, else other
 * and where ModRM or a prefix decides further:
 *   5 inc, dec, call, jmp, push (FF)         A fxsave, xsave, fences (0F AE)
 *   9 cmpxchg16b, xsaves, rdrand (0F C7)     p popcnt (0F B8)
 *   g vmread, vmwrite or extrq, insertq (0F 78, 0F 79)
 */
static const char ONE_BYTE[] =
    "rrrr..mmrrrr..m."  /* 00 add or, push and pop of segments; 0F escapes */
    "rrrr..mmrrrr..mm"  /* 10 adc sbb */
    "rrrr....rrrr...."  /* 20 and sub */
    "rrrr....rrrr...."  /* 30 xor cmp */
    "................"  /* 40 REX; inc and dec of registers outside 64-bit mode */
    "mmmmmmmmmmmmmmmm"  /* 50 push pop */
    "mm.r....mrmrssss"  /* 60 pusha popa, movsxd, push imul, ins outs */
    "bbbbbbbbbbbbbbbb"  /* 70 jcc */
    "rrrrrrrrrrrrr.rm"  /* 80 group 1, test xchg mov, lea, pop */
    "..........bvmm.."  /* 90 nop xchg, callf fwait pushf popf */
    "mmmmmmmm..mmmmmm"  /* A0 mov moffs, movs cmps, test, stos lods scas */
    "................"  /* B0 mov imm */
    "rrbb..rrmmbbssss"  /* C0 shifts ret mov, enter leave retf int into iret */
    "rrrr...mvvvvvvvv"  /* D0 shifts xlat x87 */
    "bbbbssssbbbbssss"  /* E0 loop in call jmp in */
    ".s..s.rr..ss..r5"; /* F0 int1 hlt, group 3, cli sti, groups 4 and 5 */

static const char MAP_0F[] =
    "ssss.sssss....vv"  /* 00 descriptor tables, syscall clts sysret invd wbinvd, ud2 prefetch femms 3DNow */
    "vvvvvvvv........"  /* 10 SSE moves, hints */
    "ssss....vvvvvvvv"  /* 20 mov cr dr, conversions and compares */
    "ssssss.s........"  /* 30 wrmsr rdtsc rdmsr rdpmc sysenter sysexit getsec; 38 and 3A escape */
    "rrrrrrrrrrrrrrrr"  /* 40 cmov */
    "vvvvvvvvvvvvvvvv"  /* 50 */
    "vvvvvvvvvvvvvvvv"  /* 60 */
    "vvvvvvvvgg..vvvv"  /* 70 */
    "bbbbbbbbbbbbbbbb"  /* 80 jcc */
    "rrrrrrrrrrrrrrrr"  /* 90 setcc */
    "mmsrrrccmmsrrrAr"  /* A0 push pop fs gs, cpuid bt shld PadLock, rsm bts shrd imul */
    "rrmrmmrrp.rrrrrr"  /* B0 cmpxchg lss btr lfs lgs movzx, bt group 8, btc bsf bsr movsx */
    "rrvrvvv9........"  /* C0 xadd cmpps movnti pinsrw pextrw shufps, bswap */
    "vvvvvvvvvvvvvvvv"  /* D0 */
    "vvvvvvvvvvvvvvvv"  /* E0 */
    "vvvvvvvvvvvvvvv."; /* F0 ud0 */

static const char MAP_0F38[] =
    "vvvvvvvvvvvvvvvv"  /* 00 SSSE3 */
    "vvvvvvvvvvvvvvvv"  /* 10 */
    "vvvvvvvvvvvvvvvv"  /* 20 */
    "vvvvvvvvvvvvvvvv"  /* 30 */
    "vvvvvvvvvvvvvvvv"  /* 40 */
    "vvvvvvvvvvvvvvvv"  /* 50 */
    "vvvvvvvvvvvvvvvv"  /* 60 */
    "vvvvvvvvvvvvvvvv"  /* 70 */
    "sssvvvvvvvvvvvvv"  /* 80 invept invvpid invpcid */
    "vvvvvvvvvvvvvvvv"  /* 90 fused multiply-add, gathers */
    "vvvvvvvvvvvvvvvv"  /* A0 */
    "vvvvvvvvvvvvvvvv"  /* B0 */
    "vvvvvvvvccccccvc"  /* C0 SHA, GF(2^8) */
    "vvvvvvvvcvcccccc"  /* D0 key locker, SM3 SM4, AES */
    "rrrrrrrrrrrrrrrr"  /* E0 cmpccxadd */
    "rrrr.rrrmrccr..."; /* F0 movbe crc32 BMI adx, movdir64b movdiri encodekey aadd */

static const char MAP_0F3A[] =
    "vvvvvvvvvvvvvvvv"  /* 00 */
    "vvvvvvvvvvvvvvvv"  /* 10 */
    "vvvvvvvvvvvvvvvv"  /* 20 */
    "vvvvvvvvvvvvvvvv"  /* 30 */
    "vvvvcvvvvvvvvvvv"  /* 40 pclmulqdq */
    "vvvvvvvvvvvvvvvv"  /* 50 */
    "vvvvvvvvvvvvvvvv"  /* 60 */
    "vvvvvvvvvvvvvvvv"  /* 70 */
    "vvvvvvvvvvvvvvvv"  /* 80 */
    "vvvvvvvvvvvvvvvv"  /* 90 */
    "vvvvvvvvvvvvvvvv"  /* A0 */
    "vvvvvvvvvvvvvvvv"  /* B0 */
    "vvvvvvvvvvvvcvcc"  /* C0 sha1rnds4, GF(2^8) */
    "vvvvvvvvvvvvvvcc"  /* D0 sm3rnds2 aeskeygenassist */
    "vvvvvvvvvvvvvvvv"  /* E0 */
    "rvvvvvvvvvvvvvvv"; /* F0 rorx */

_Static_assert(sizeof ONE_BYTE == 257 && sizeof MAP_0F == 257, "a letter for each opcode");
_Static_assert(sizeof MAP_0F38 == 257 && sizeof MAP_0F3A == 257, "a letter for each opcode");

struct cursor {
  const uint8_t *bytes;
  size_t length;
  size_t at;
  bool operand_size; /* 66 */
  bool repeat;       /* F3 */
  bool repeat_not;   /* F2 */
};

static bool next(struct cursor *c, uint8_t *byte) {
  if (c->at >= c->length) return false;
  *byte = c->bytes[c->at++];
  return true;
}

/* Skip legacy prefixes; true while an opcode follows, which is then in `opcode`. */
static bool skip_prefixes(struct cursor *c, uint8_t *opcode) {
  while (next(c, opcode)) {
    switch (*opcode) {
      case 0x66: c->operand_size = true; break;
      case 0xf3: c->repeat = true; break;
      case 0xf2: c->repeat_not = true; break;
      case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65: case 0x67: case 0xf0: break;
      default: return true;
    }
  }
  return false;
}

static enum insn_class resolve(struct cursor *c, char letter) {
  switch (letter) {
    case 's': return INSN_SYSTEM;
    case 'c': return INSN_CRYPTO;
    case 'v': return INSN_VECTOR;
    case 'b': return INSN_BRANCH;
    case 'm': return INSN_MEMORY;
    case '.': return INSN_OTHER;
  }
  uint8_t modrm;
  if (!next(c, &modrm)) return INSN_OTHER;
  bool in_memory = modrm < 0xc0;
  unsigned reg = modrm >> 3 & 7;
  switch (letter) {
    case '5':
      if (reg >= 2 && reg <= 5) return INSN_BRANCH;
      return in_memory || reg == 6 ? INSN_MEMORY : INSN_OTHER;
    case 'A': /* registers: fences, and fs and gs bases; memory: state, but clwb, clflush and clflushopt are hints */
      return in_memory && reg != 7 && !(reg == 6 && c->operand_size) ? INSN_VECTOR : INSN_OTHER;
    case '9':
      if (!in_memory) return INSN_OTHER; /* rdrand rdseed rdpid */
      return reg == 1 ? INSN_MEMORY : reg == 4 ? INSN_VECTOR : INSN_SYSTEM;
    case 'g': return c->operand_size || c->repeat_not ? INSN_VECTOR : INSN_SYSTEM;
    case 'p': return c->repeat && in_memory ? INSN_MEMORY : INSN_OTHER;
    default: return in_memory ? INSN_MEMORY : INSN_OTHER;
  }
}

static enum insn_class look_up(struct cursor *c, const char *map) {
  uint8_t opcode;
  return next(c, &opcode) ? resolve(c, map[opcode]) : INSN_OTHER;
}

/* Behind VEX or EVEX: which map, then its opcode. Map 1 is all vector there; 5 and 6 are half precision. */
static enum insn_class look_up_vector(struct cursor *c, unsigned map) {
  switch (map) {
    case 1: case 5: case 6: return INSN_VECTOR;
    case 2: return look_up(c, MAP_0F38);
    case 3: return look_up(c, MAP_0F3A);
    default: return INSN_OTHER;
  }
}

static enum insn_class after_0f(struct cursor *c) {
  uint8_t opcode;
  if (!next(c, &opcode)) return INSN_OTHER;
  if (opcode == 0x38) return look_up(c, MAP_0F38);
  if (opcode == 0x3a) return look_up(c, MAP_0F3A);
  return resolve(c, MAP_0F[opcode]);
}

enum insn_class insn_class_of(const uint8_t *bytes, size_t length) {
  struct cursor c = {.bytes = bytes, .length = length};
  uint8_t opcode, prefix;
  if (!skip_prefixes(&c, &opcode)) return INSN_OTHER;
  if ((opcode & 0xf0) == 0x40 && !next(&c, &opcode)) return INSN_OTHER; /* inc, dec: no REX ends an instruction */
  switch (opcode) {
    case 0x0f: return after_0f(&c);
    case 0x62: /* EVEX: map in the low bits of its second byte; two more follow */
      if (!next(&c, &prefix)) return INSN_OTHER;
      c.at += 2;
      return look_up_vector(&c, prefix & 7);
    case 0xc4: /* VEX of three bytes */
      if (!next(&c, &prefix)) return INSN_OTHER;
      c.at += 1;
      return look_up_vector(&c, prefix & 0x1f);
    case 0xc5: return INSN_VECTOR; /* VEX of two bytes: map 1 */
    default: return resolve(&c, ONE_BYTE[opcode]);
  }
}
