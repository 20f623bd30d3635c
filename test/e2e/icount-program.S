/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs of a known number of instructions, for x86-64 Linux without a library. ITERATIONS times:
 *   with MIX      13 instructions: 1 system, 2 vector, 2 branch, 4 memory, 4 other
 *   with CRYPTO   6 instructions: 3 crypto, 1 branch, 2 other; for a CPU with AES-NI and PCLMULQDQ
 *   without       4 instructions: 1 branch, 3 other: blocks so short that counting them weighs most
 */
    .globl _start
    .text
_start:
    sub $64, %rsp
    and $-16, %rsp
    mov $ITERATIONS, %r8
    .p2align 4
1:
#ifdef MIX
    rdtsc
    add $1, %rax
    xor %rbx, %rdx
    lea 8(%rax), %rsi
    mov (%rsp), %rdi
    mov %rdi, 8(%rsp)
    push %rax
    pop %rcx
    paddq %xmm0, %xmm1
    addsd %xmm2, %xmm3
    jmp 2f
2:
#elif defined CRYPTO
    add $1, %rax
    aesenc %xmm0, %xmm1
    aesenclast (%rsp), %xmm2
    pclmulqdq $0x11, %xmm3, %xmm4
#else
    add $1, %rax
    add $3, %rbx
#endif
    dec %r8
    jnz 1b
    xor %edi, %edi
    mov $60, %eax
    syscall
    .section .note.GNU-stack, "", @progbits
