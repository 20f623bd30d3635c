import { runCommand } from './command.ts';

/** QEMU lists -plugin in its help only when it was built with TCG plugins. */
let answer: Promise<boolean> | undefined;

/** Whether this host's QEMU loads TCG plugins. Asked once. */
export function takesPlugins(): Promise<boolean> {
  answer ??= runCommand('qemu-system-x86_64', ['-help'], { timeoutMs: 20_000 }).then(
    (help) => help.includes('\n-plugin '),
    () => false,
  );
  return answer;
}
