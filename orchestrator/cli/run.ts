import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { isatty } from 'node:tty';
import { Command } from 'commander';
import type { ForeshadeClient } from '../../integrations/client-node/client.ts';
import type { HeldLease, Keeping } from '../../integrations/client-node/held-lease.ts';
import { type Lease, LeaseState } from '../../proto/gen/foreshade/v1/allocation.ts';
import { type AllocationOptions, addAllocationOptions, allocationRequest } from './allocate.ts';
import { describeFailure } from './failure.ts';
import { type Io, Unsuccessful } from './io.ts';
import { addServiceOptions, type ServiceOptions, SOCKET_VARIABLE, socketOf, withClient } from './options.ts';
import { seconds } from './quantities.ts';

/** Exit codes of what was not the command's doing, as env(1), nohup(1) and the shells have them. */
const EXIT_WITHOUT_COMMAND = { failed: 125, notExecutable: 126, notFound: 127 } as const;
/** Exit code of a command that a signal ended, less the signal's number. */
const EXIT_SIGNAL = 128;
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
const STDIN = 0;

/** `foreshade run`: allocate, run a command, release. */
export function runCommand(io: Io): Command {
  const command = addAllocationOptions(
    new Command('run').description('Run a command with a lease: allocate, run, keep it alive, release'),
  )
    .argument('<command>', 'what to run; everything after -- is its own')
    .argument('[args...]', 'its arguments');
  return addServiceOptions(command)
    .usage('<guest> --workload <name> [options] -- <command> [args...]')
    .addHelpText(
      'after',
      `
The command has the lease's figures in its environment: FORESHADE_LEASE_ID, FORESHADE_GUEST, FORESHADE_LEASE_STATE,
FORESHADE_CPU_MILLICORES, FORESHADE_VCPUS, FORESHADE_MEMORY_BYTES, ${SOCKET_VARIABLE}. SIGINT, SIGTERM and SIGHUP are passed
on to it. It goes on when the lease is lost.

Exit code: the command's, ${EXIT_SIGNAL} + N after signal N; 125 without a lease, 126 or 127 when the command cannot be run.

Examples:
  $ foreshade run web-1 --workload encode --param input_mib=64 -- ssh web-1 encode film.mkv
  $ foreshade run db-1 --workload backup --latest-start +10m -- sh -c 'echo $FORESHADE_LEASE_ID; exec backup'`,
    )
    .action(
      async (guest: string, program: string, args: string[], options: AllocationOptions & ServiceOptions) => {
        const exitCode = await withClient(io, options, (client) =>
          new Run(io, client, options, [program, ...args]).whole(guest),
        );
        if (exitCode !== 0) throw new Unsuccessful(`${program} ended with ${exitCode}`, exitCode);
      },
    );
}

/** One command under one lease. */
class Run {
  readonly #io: Io;
  readonly #client: ForeshadeClient;
  readonly #options: AllocationOptions & ServiceOptions;
  readonly #command: readonly string[];
  readonly #interrupt = new AbortController();
  #child: ChildProcess | undefined;

  constructor(
    io: Io,
    client: ForeshadeClient,
    options: AllocationOptions & ServiceOptions,
    command: readonly string[],
  ) {
    this.#io = io;
    this.#client = client;
    this.#options = options;
    this.#command = command;
    for (const name of FORWARDED) io.onSignal?.(name, () => this.#forward(name));
  }

  /** @returns the exit code */
  async whole(guest: string): Promise<number> {
    let held: HeldLease | undefined;
    try {
      held = await this.#client.hold(allocationRequest(guest, this.#options), {
        timeoutMs: this.#options.timeout,
        onKeeping: (keeping, cause) => this.#tell(keeping, cause),
      });
      const lease = await held.inPlace(this.#interrupt.signal);
      this.#interrupt.signal.throwIfAborted();
      const startedAtMs = Date.now();
      const exitCode = await this.#run(lease);
      await this.#release(held, { startedAtMs, failed: exitCode !== 0 });
      return exitCode;
    } catch (error) {
      if (held !== undefined) await this.#release(held, { failed: true });
      if (this.#interrupt.signal.aborted) return EXIT_SIGNAL + Number(this.#interrupt.signal.reason);
      this.#io.err(`${describeFailure(error).text}\n`);
      return EXIT_WITHOUT_COMMAND.failed;
    }
  }

  #run(lease: Lease): Promise<number> {
    const [program = '', ...args] = this.#command;
    return new Promise((resolve) => {
      const child = spawn(program, args, {
        stdio: 'inherit',
        env: { ...this.#io.env, ...this.#figures(lease) },
      });
      this.#child = child;
      child.once('error', (error: NodeJS.ErrnoException) => {
        this.#io.err(`${program} cannot be run: ${error.message}\n`);
        resolve(error.code === 'ENOENT' ? EXIT_WITHOUT_COMMAND.notFound : EXIT_WITHOUT_COMMAND.notExecutable);
      });
      child.once('exit', (code, signal) =>
        resolve(code ?? EXIT_SIGNAL + (signal ? constants.signals[signal] : 0)),
      );
    });
  }

  #figures({ id, guestName, state, granted, requested }: Lease): Record<string, string> {
    const { cpuMillicores, vcpuCount, memoryBytes } = granted ?? requested ?? {};
    const figures = {
      [SOCKET_VARIABLE]: socketOf(this.#io, this.#options.socket),
      FORESHADE_LEASE_ID: id,
      FORESHADE_GUEST: guestName,
      FORESHADE_LEASE_STATE: state === LeaseState.LEASE_STATE_ACTIVE ? 'ACTIVE' : 'DEGRADED',
      FORESHADE_CPU_MILLICORES: cpuMillicores,
      FORESHADE_VCPUS: vcpuCount,
      FORESHADE_MEMORY_BYTES: memoryBytes,
    };
    const known = Object.entries(figures).filter(([, value]) => value !== undefined);
    return Object.fromEntries(known.map(([name, value]) => [name, String(value)]));
  }

  /** A terminal sends its interrupt to the command as well as to us: passing it on would make it two. */
  #forward(name: (typeof FORWARDED)[number]): void {
    if (this.#child === undefined) this.#interrupt.abort(constants.signals[name]);
    else if (name !== 'SIGINT' || !isatty(STDIN)) this.#child.kill(name);
  }

  async #release(
    held: HeldLease,
    { startedAtMs, failed }: { startedAtMs?: number; failed: boolean },
  ): Promise<void> {
    if (held.lost.aborted) return;
    const report = {
      workFailed: failed,
      ...(startedAtMs !== undefined && { workStartedAtMs: startedAtMs, workFinishedAtMs: Date.now() }),
    };
    try {
      await held.release(report, { timeoutMs: this.#options.timeout });
    } catch (error) {
      const until = `it ends by itself within ${seconds(held.lease.ttlMs ?? 0)}`;
      this.#io.err(`The lease was not given back, ${until}: ${messageOf(error)}\n`);
    }
  }

  #tell(keeping: Keeping, cause: Error | undefined): void {
    const text = {
      kept: 'The lease is renewed again.',
      'at-risk': `The lease could not be renewed, trying on: ${cause?.message}`,
      lost: `${cause?.message}; the command goes on without it.`,
    }[keeping];
    this.#io.err(`${text}\n`);
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
