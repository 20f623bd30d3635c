import { existsSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { AllocatorError } from './core/errors.ts';

/** Marks a state folder as in use, so that no second service writes the same ledger. Survives nothing: a dead owner's lock is taken over. */
export class StateLock {
  readonly #path: string;

  private constructor(path: string) {
    this.#path = path;
  }

  /** @throws {AllocatorError} STATE_CONFLICT while another live process holds the folder */
  static take(directory: string): StateLock {
    mkdirSync(directory, { recursive: true, mode: 0o750 });
    const path = join(directory, 'lock');
    const mine = `${path}.${process.pid}`;
    // Written beside and linked: the lock appears whole or not at all, and for one process only.
    writeFileSync(mine, `${process.pid} ${startTicks(process.pid)}\n`);
    try {
      for (let tries = 0; tries < 2; tries += 1) {
        if (tryLink(mine, path)) return new StateLock(path);
        const pid = StateLock.holder(directory);
        if (pid !== undefined) {
          throw new AllocatorError(
            'STATE_CONFLICT',
            `${directory} is in use by process ${pid}: one service per state folder`,
            { pid },
          );
        }
        rmSync(path, { force: true });
      }
      throw new AllocatorError('STATE_CONFLICT', `${directory} was taken by another process just now`, {
        directory,
      });
    } finally {
      rmSync(mine, { force: true });
    }
  }

  /** The live process that holds a folder; undefined when none does. */
  static holder(directory: string): number | undefined {
    const path = join(directory, 'lock');
    if (!existsSync(path)) return undefined;
    const [pid = 0, ticks = 0] = readFileSync(path, 'utf8').trim().split(' ').map(Number);
    return startTicks(pid) === ticks ? pid : undefined;
  }

  release(): void {
    rmSync(this.#path, { force: true });
  }
}

function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw cause;
  }
}

/** When a process started, in clock ticks since boot: with the pid it names one process for good. NaN: no such process. */
function startTicks(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
  } catch {
    return Number.NaN;
  }
}
