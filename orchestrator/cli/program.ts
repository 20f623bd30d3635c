import { Command, CommanderError } from 'commander';
import { packageVersion } from '../package-path.ts';
import { describeFailure } from './failure.ts';
import { EXIT, type Io, Unsuccessful } from './io.ts';

/** One command: what the overview says, and its code, which is loaded only when it is asked for. */
interface Entry {
  readonly summary: string;
  readonly load: (io: Io) => Promise<Command>;
}

const COMMANDS: Readonly<Record<string, Entry>> = {
  serve: {
    summary: 'run the service',
    load: async (io) => (await import('./serve.ts')).serveCommand(io),
  },
  status: {
    summary: 'show the host: mode, room, guests and leases',
    load: async (io) => (await import('./status.ts')).statusCommand(io),
  },
  guest: {
    summary: 'see and manage guests',
    load: async (io) => (await import('./guest.ts')).guestCommand(io),
  },
  host: {
    summary: 'see the hosts that report, and rank them for a new guest',
    load: async (io) => (await import('./host.ts')).hostCommand(io),
  },
  allocate: {
    summary: 'put resources in place before work starts',
    load: async (io) => (await import('./allocate.ts')).allocateCommand(io),
  },
  run: {
    summary: 'run a command with a lease: allocate, run, release',
    load: async (io) => (await import('./run.ts')).runCommand(io),
  },
  lease: {
    summary: 'see, renew and give back leases',
    load: async (io) => (await import('./lease.ts')).leaseCommand(io),
  },
  forecast: {
    summary: 'show what a request would need; changes nothing',
    load: async (io) => (await import('./forecast.ts')).forecastCommand(io),
  },
  anomaly: {
    summary: 'list what guests did that they should not',
    load: async (io) => (await import('./anomaly.ts')).anomalyCommand(io),
  },
  shadow: {
    summary: 'question and keep the record of what guests used',
    load: async (io) => (await import('./shadow.ts')).shadowCommand(io),
  },
  evaluate: {
    summary: 'score a forecaster on a recorded set',
    load: async (io) => (await import('./evaluate.ts')).evaluateCommand(io),
  },
  backtest: {
    summary: 'play recorded work through the forecaster and other rules',
    load: async (io) => (await import('./backtest.ts')).backtestCommand(io),
  },
  ledger: {
    summary: 'see, copy and put back the leases on record',
    load: async (io) => (await import('./ledger.ts')).ledgerCommand(io),
  },
  hook: {
    summary: "install libvirt's hook, so that definitions may ask for room",
    load: async (io) => (await import('./hook.ts')).hookCommand(io),
  },
  config: {
    summary: 'check and print the configuration',
    load: async (io) => (await import('./config.ts')).configCommand(io),
  },
  doctor: {
    summary: 'check what this host lacks, and say what to do',
    load: async (io) => (await import('./doctor.ts')).doctorCommand(io),
  },
  demo: {
    summary: 'show the whole way of a request on real guests, in a lab of its own',
    load: async (io) => (await import('./demo.ts')).demoCommand(io),
  },
  model: {
    summary: 'list, show, verify, exchange and promote trained models',
    load: async (io) => (await import('./model.ts')).modelCommand(io),
  },
  detect: {
    summary: 'score how unusual each row of a recorded set is',
    load: async (io) => (await import('./detect.ts')).detectCommand(io),
  },
  train: {
    summary: 'learn from recorded sets how forecasts are to be weighed',
    load: async (io) => (await import('./train.ts')).trainCommand(io),
  },
  lab: {
    summary: 'tiny real guests behind a private libvirt daemon, to try things on',
    load: async (io) => (await import('./lab.ts')).labCommand(io),
  },
};

const EXAMPLES = `
Examples:
  $ foreshade doctor                         what this host lacks
  $ foreshade serve                          run the service (it starts in shadow mode: it touches nothing)
  $ foreshade guest adopt web-1              let Foreshade manage a guest
  $ foreshade forecast web-1 --workload encode --param input_mib=64
  $ foreshade allocate web-1 --workload encode --param input_mib=64

Exit codes: 0 done, 1 failed, 2 wrong usage; run gives its command's. With --json stdout carries exactly one JSON document.`;

/**
 * Run one command line.
 * @param args without the interpreter and the script
 * @returns the exit code
 */
export async function runCli(args: readonly string[], io: Io): Promise<number> {
  try {
    const program = await createProgram(args, io);
    await program.parseAsync(args, { from: 'user' });
    return EXIT.done;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.wrongUsage;
    if (error instanceof Unsuccessful) return error.exitCode;
    const { text, document } = describeFailure(error);
    io.err(`${text}\n`);
    if (args.includes('--json')) io.out(`${JSON.stringify(document, null, 2)}\n`);
    return EXIT.failed;
  }
}

async function createProgram(args: readonly string[], io: Io): Promise<Command> {
  const program = new Command('foreshade')
    .description('Predicts what a request needs and puts it in place before the work starts.')
    .version(packageVersion(), '-V, --version')
    .helpCommand('help [command]', 'show the help of a command')
    .addHelpText('after', EXAMPLES);
  const asked = args[0] === 'help' ? args[1] : args[0];
  for (const [name, { summary, load }] of Object.entries(COMMANDS)) {
    const command = name === asked ? await load(io) : new Command(name);
    program.addCommand(command.summary(summary));
  }
  settle(program, io);
  return program;
}

/** The same manners for every command: no exit from within, errors with a hint, output through `io`. */
function settle(command: Command, io: Io): void {
  command
    .exitOverride()
    .configureOutput({ writeOut: io.out, writeErr: io.err })
    .showHelpAfterError(`See: ${commandPath(command)} --help`)
    .configureHelp({ sortOptions: false });
  for (const child of command.commands) settle(child, io);
}

function commandPath(command: Command): string {
  const names: string[] = [];
  for (let at: Command | null = command; at; at = at.parent) names.unshift(at.name());
  return names.join(' ');
}
