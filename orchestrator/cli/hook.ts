import { Command, InvalidArgumentError, Option } from 'commander';
import { DEFAULT_CONFIG_PATH, loadConfig } from '../config.ts';
import { httpSocketBeside } from '../service/socket.ts';
import { type HookSettings, type HookState, hookState, installHook, uninstallHook } from './hook-files.ts';
import { EXIT, type Io, printAnswer, Unsuccessful } from './io.ts';
import { facts } from './table.ts';

/** Longest that a start may be held up, as the hook's program bounds it: libvirt's own calls give up after 30 s. */
const WAIT_MS_MAX = 30_000;
const DEADLINE_MS_DEFAULT = 200;
const REQUIRE_WAIT_MS_DEFAULT = 2_000;

interface RootOptions {
  readonly root: string;
  readonly json?: boolean;
}

interface InstallOptions extends RootOptions {
  readonly config?: string;
  readonly socket?: string;
  readonly deadline?: number;
  readonly policy?: HookSettings['policy'];
  readonly wait?: number;
}

/** `foreshade hook install|status|uninstall`: libvirt's hook on this host, without the service. */
export function hookCommand(io: Io): Command {
  const command = new Command('hook')
    .description("Let guests ask for room in their definitions: libvirt's hook on this host")
    .addHelpText(
      'after',
      `
libvirt looks for hooks when it starts: after the first installation restart libvirtd (or virtqemud). Running guests go on.

Examples:
  $ foreshade hook install
  $ foreshade hook install --policy require --wait 5000     no start without an answer
  $ foreshade hook status`,
    );
  for (const make of [install, status, uninstall]) command.addCommand(make(io));
  return command;
}

function sub(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .option('--root <folder>', 'the system to work on', '/')
    .option('--json', 'print exactly one JSON document on stdout');
}

function install(io: Io): Command {
  return sub(
    'install',
    'Put the hook and its settings where libvirt looks; settings that are there stay, unless an option says otherwise',
  )
    .option(
      '--config <file>',
      `the service's TOML file, which names its socket (default: ${DEFAULT_CONFIG_PATH}, or defaults without one)`,
    )
    .option('--socket <path>', "the service's HTTP socket (default: the configuration's)")
    .option('--deadline <ms>', `what the hook may take (default: ${DEADLINE_MS_DEFAULT})`, parseWait)
    .addOption(
      new Option(
        '--policy <policy>',
        'whether a guest that asks for room starts when the service does not answer',
      ).choices(['prefer', 'require']),
    )
    .option('--wait <ms>', `the deadline under require (default: ${REQUIRE_WAIT_MS_DEFAULT})`, parseWait)
    .action((options: InstallOptions) => {
      const { root, json } = options;
      const { isFirst } = installHook(
        root,
        settingsOf(options),
        isTold(options) ? settingsOf(options) : undefined,
      );
      const state = hookState(root);
      const next = isFirst
        ? 'Restart libvirtd (or virtqemud): it had no hook for QEMU, and looks for one only when it starts.'
        : 'In force from the next start of a guest on.';
      printAnswer(io, json, {
        document: { ...stateDocument(state), restart_libvirt: isFirst },
        text: `${stateText(state)}\n${next}`,
      });
    });
}

function status(io: Io): Command {
  return sub(
    'status',
    'Say what stands where the hook belongs; 1 unless it is this version, and runnable',
  ).action(({ root, json }: RootOptions) => {
    const state = hookState(root);
    printAnswer(io, json, { document: stateDocument(state), text: stateText(state) });
    if (state.state !== 'ours' || !state.isRunnable) throw new Unsuccessful(undefined, EXIT.failed);
  });
}

function uninstall(io: Io): Command {
  return sub('uninstall', 'Take the hook and its settings away').action(({ root, json }: RootOptions) => {
    const { path, settingsPath } = hookState(root);
    const removed = uninstallHook(root);
    printAnswer(io, json, {
      document: { path, settings_path: settingsPath, removed },
      text: removed ? `Removed ${path} and ${settingsPath}` : 'There was nothing to remove.',
    });
  });
}

function isTold({ config, socket, deadline, policy, wait }: InstallOptions): boolean {
  return [config, socket, deadline, policy, wait].some((told) => told !== undefined);
}

function settingsOf({ config, socket, deadline, policy, wait }: InstallOptions): HookSettings {
  const { service } = loadConfig(config);
  return {
    socket: socket ?? service.httpSocket ?? httpSocketBeside(service.socket),
    deadlineMs: deadline ?? DEADLINE_MS_DEFAULT,
    policy: policy ?? 'prefer',
    requireWaitMs: wait ?? REQUIRE_WAIT_MS_DEFAULT,
  };
}

function parseWait(text: string): number {
  const ms = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (ms < 1 || ms > WAIT_MS_MAX)
    throw new InvalidArgumentError(`It must be 1 to ${WAIT_MS_MAX.toLocaleString('en-US')} ms.`);
  return ms;
}

function stateDocument({
  path,
  settingsPath,
  state,
  isRunnable,
  settings,
}: HookState): Record<string, unknown> {
  return {
    path,
    state,
    runnable: isRunnable,
    settings_path: settingsPath,
    ...(settings !== undefined && { settings }),
  };
}

const STATE_TEXT: Readonly<Record<HookState['state'], string>> = {
  absent: 'not installed',
  ours: 'installed',
  'other-version': 'installed, from another version: install it anew',
  foreign: 'a file that is not ours',
};

function stateText({ path, settingsPath, state, isRunnable, settings }: HookState): string {
  const noRun = state !== 'absent' && !isRunnable ? ', and libvirt may not run it' : '';
  return facts([
    ['hook', path],
    ['state', STATE_TEXT[state] + noRun],
    ['settings', settings === undefined ? 'defaults' : settingsPath],
  ]);
}
