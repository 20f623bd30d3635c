import {
  accessSync,
  chmodSync,
  chownSync,
  constants,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { packagePath } from '../package-path.ts';

/** Where libvirt looks for hooks, and what is ours there, below the root of a system. */
const HOOKS = 'etc/libvirt/hooks';
const PROGRAM = 'qemu.d/50-foreshade';
const SETTINGS = 'foreshade.conf';
/** The program that the build makes. */
const SHIPPED = 'dist/integrations/libvirt-hook/foreshade-hook';

/** What every version of our program holds, and no other hook does: the call that it makes. */
const PROGRAM_MARK = '/foreshade.v1.HookService/Report';
const SETTINGS_MARK = "# Foreshade's libvirt hook";

/** How the hook is to behave, as its settings file says it. */
export interface HookSettings {
  /** The service's HTTP socket. */
  readonly socket: string;
  readonly deadlineMs: number;
  /** `prefer`: a guest starts when the service does not answer. `require`: one that asks for room does not. */
  readonly policy: 'prefer' | 'require';
  /** The deadline of a start under `require`. */
  readonly requireWaitMs: number;
}

/** What stands where the hook belongs. */
export interface HookState {
  readonly path: string;
  readonly settingsPath: string;
  /** `ours`: this version's program; `other-version`: ours, of another version; `foreign`: not ours. */
  readonly state: 'absent' | 'ours' | 'other-version' | 'foreign';
  /** Owned by root where we are root, and runnable: libvirt runs nothing else. */
  readonly isRunnable: boolean;
  /** The settings file as it is; absent: the program's own defaults are in force. */
  readonly settings?: string;
}

/** @param root of the system, `/` unless a test or an image is prepared */
export function hookState(root: string): HookState {
  const { path, settingsPath } = places(root);
  const settings = existsSync(settingsPath) ? readFileSync(settingsPath, 'utf8') : undefined;
  return {
    path,
    settingsPath,
    state: stateOf(path),
    isRunnable: isRunnable(path),
    ...(settings !== undefined && { settings }),
  };
}

/**
 * Put the program and its settings in place, each by a rename. A settings file that is there is kept unless `settings` are given.
 * @returns whether libvirt had no hook for QEMU before: then it looks for one only when it is started again
 * @throws {Error} when what is there is not ours, or the program was not built
 */
export function installHook(
  root: string,
  fallback: HookSettings,
  settings?: HookSettings,
): { isFirst: boolean } {
  const { hooks, path, settingsPath } = places(root);
  assertOurs(path, settingsPath);
  const program = shipped();
  const isFirst = !hasQemuHook(hooks);
  mkdirSync(join(path, '..'), { recursive: true, mode: 0o755 });
  if (settings !== undefined || !existsSync(settingsPath))
    place(hooks, settingsPath, settingsText(settings ?? fallback), 0o644);
  place(hooks, path, program, 0o755);
  return { isFirst };
}

/**
 * Take away what `installHook` put there, and the folder when it is empty then.
 * @returns whether there was anything
 * @throws {Error} when what is there is not ours
 */
export function uninstallHook(root: string): boolean {
  const { path, settingsPath } = places(root);
  assertOurs(path, settingsPath);
  const wasThere = existsSync(path) || existsSync(settingsPath);
  rmSync(path, { force: true });
  rmSync(settingsPath, { force: true });
  const folder = join(path, '..');
  if (existsSync(folder) && readdirSync(folder).length === 0) rmdirSync(folder);
  return wasThere;
}

function places(root: string): { hooks: string; path: string; settingsPath: string } {
  const hooks = join(root, HOOKS);
  return { hooks, path: join(hooks, PROGRAM), settingsPath: join(hooks, SETTINGS) };
}

function stateOf(path: string): HookState['state'] {
  if (!existsSync(path)) return 'absent';
  const program = readFileSync(path);
  if (!program.includes(PROGRAM_MARK)) return 'foreign';
  const own = packagePath(SHIPPED);
  return existsSync(own) && program.equals(readFileSync(own)) ? 'ours' : 'other-version';
}

function isRunnable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function assertOurs(path: string, settingsPath: string): void {
  if (stateOf(path) === 'foreign')
    throw new Error(`${path} is not Foreshade's: it stays as it is. Move it away to install ours`);
  if (existsSync(settingsPath) && !readFileSync(settingsPath, 'utf8').startsWith(SETTINGS_MARK))
    throw new Error(`${settingsPath} is not Foreshade's: it stays as it is. Move it away to install ours`);
}

function shipped(): Buffer {
  const path = packagePath(SHIPPED);
  if (!existsSync(path))
    throw new Error(`${path} is missing: the build says why (npm run build; it needs g++)`);
  return readFileSync(path);
}

/** libvirt runs `qemu` and what can be run in `qemu.d`. */
function hasQemuHook(hooks: string): boolean {
  const folder = join(hooks, 'qemu.d');
  const names = existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  return [join(hooks, 'qemu'), ...names].some(
    (path) => existsSync(path) && statSync(path).isFile() && isRunnable(path),
  );
}

/** Written beside the folder that libvirt runs everything in, so that half a program is never run. */
function place(hooks: string, path: string, content: string | Buffer, mode: number): void {
  const draft = join(hooks, `.foreshade-${process.pid}`);
  try {
    writeFileSync(draft, content, { mode: 0o600 });
    if (process.getuid?.() === 0) chownSync(draft, 0, 0);
    chmodSync(draft, mode);
    renameSync(draft, path);
  } finally {
    rmSync(draft, { force: true });
  }
}

function settingsText({ socket, deadlineMs, policy, requireWaitMs }: HookSettings): string {
  return `${SETTINGS_MARK}. What is missing or wrong stays at its default.

# The service's HTTP socket.
socket = ${socket}
# What the hook may take in all, 1 to 30,000.
deadline_ms = ${deadlineMs}
# prefer: a guest starts when the service does not answer. require: one whose definition asks for room does not.
policy = ${policy}
# The deadline of a start under require.
require_wait_ms = ${requireWaitMs}
`;
}
