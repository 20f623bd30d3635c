import { runCommand } from './command.ts';

/** First QEMU whose virtio-serial queues have 1,024 entries; they had 32 and 128. */
const LARGE_QUEUES_SINCE = 10;
/**
 * What such a guest has less of, MiB: it keeps 4 MiB of buffers in each of three queues, and the kernel of the Debian
 * that brings this QEMU takes 8 MiB more than the one before. Measured as free memory at the same balloon: 31 against 51.
 */
const LARGE_QUEUES_MIB = 24;

let answer: Promise<number> | undefined;

/** Memory that a guest needs on this host beside what it would need under QEMU 7 with Debian 12's kernel, MiB. Asked once. */
export function guestOverheadMib(): Promise<number> {
  answer ??= runCommand('qemu-system-x86_64', ['--version'], { timeoutMs: 20_000 }).then(
    (text) => (Number(/version (\d+)/.exec(text)?.[1] ?? 0) >= LARGE_QUEUES_SINCE ? LARGE_QUEUES_MIB : 0),
    () => 0,
  );
  return answer;
}
