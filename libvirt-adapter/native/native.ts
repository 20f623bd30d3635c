import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';

import { LIBVIRT_ERROR, LibvirtError, type TypedParameters } from '../libvirt.ts';

/** What the addon rejects and throws with. */
export interface RawFailure {
  readonly code: number;
  readonly domain: number;
  readonly level: number;
  readonly message: string;
  /** Whether the lane's connection is gone. */
  readonly connectionLost: boolean;
}

/** Domains as one string: uuid, name and id of each, NUL between all of them. */
export type RawDomains = string;

/** An answer of the stats calls: see DomainStats; NUL between the texts of `newKeys` and of `strings`. */
export interface RawStats {
  readonly domains: RawDomains;
  readonly offsets: Uint32Array;
  readonly keyIds: Uint32Array;
  readonly types: Uint8Array;
  readonly values: BigInt64Array;
  readonly newKeys: string;
  readonly newKeyCount: number;
  readonly strings: string;
  readonly stringCount: number;
}

/**
 * What a lane tells unasked: that the connection of a generation is gone (0: of any), or a domain event.
 * A generation is what `open` gave.
 */
export type RawMessage =
  | [what: 'lost', generation: number, reason: string]
  | [what: 'event', kind: string, domain: RawDomains, fields: TypedParameters];

/** Called on the JavaScript thread. Must not throw. */
export type RawListener = (...message: RawMessage) => void;

/** One native thread with one connection; calls run one at a time, in order. Every promise rejects with RawFailure. */
export interface RawLane {
  /** [uri, keepaliveIntervalS, keepaliveCount, events]. Closes what was open. Gives the connection's generation. */
  open(parameters: readonly [string, number, number, boolean]): Promise<number>;
  /** @throws {TypeError} when a parameter breaks its rule; nothing is called then */
  call(name: string, parameters: readonly unknown[]): Promise<unknown>;
  /** Resolves when the calls before it have come back. */
  close(): Promise<void>;
  /** Stop keeping the process alive for this lane. */
  letGo(): void;
}

interface RawAddon {
  Lane: new (libraryPath: string, qemuLibraryPath: string, listener: RawListener) => RawLane;
}

const ADDON_PATH = fileURLToPath(new URL('./foreshade_libvirt.node', import.meta.url));

/** Which libvirt to load; the system's unless told otherwise. */
export interface LibraryPaths {
  /** Replaces libvirt.so.0, and libvirt-qemu.so.0 too unless that is given. */
  readonly libvirt?: string;
  readonly libvirtQemu?: string;
}

/**
 * Start a lane; the first one loads the addon and libvirt.
 *
 * @throws {LibvirtError} LIBVIRT_ERROR.library when the addon is not built or libvirt cannot be loaded
 */
export function startRawLane(paths: LibraryPaths, listener: RawListener): RawLane {
  const addon = loadAddon();
  try {
    return new addon.Lane(paths.libvirt ?? '', paths.libvirtQemu ?? '', listener);
  } catch (failure) {
    if (isRawFailure(failure)) throw libvirtError(failure, 'dlopen', true);
    throw failure;
  }
}

let loaded: RawAddon | undefined;

function loadAddon(): RawAddon {
  try {
    loaded ??= createRequire(import.meta.url)(ADDON_PATH) as RawAddon;
    return loaded;
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw ownError('library', 'dlopen', `the addon cannot be loaded, build it first (${reason})`);
  }
}

/** Whether `value` is what the addon rejects with. */
export function isRawFailure(value: unknown): value is RawFailure {
  return typeof value === 'object' && value !== null && 'code' in value && 'connectionLost' in value;
}

/** libvirt's failure of the call of that name. */
export function libvirtError(failure: RawFailure, call: string, notStarted = false): LibvirtError {
  const { code, domain, level, message } = failure;
  return new LibvirtError({ code, domain, level, message, call, notStarted });
}

/** Level of an error, virErrorLevel. */
const LEVEL_ERROR = 2;

/** A failure of ours: the call never reached libvirt, unless `notStarted` is false. */
export function ownError(
  code: keyof typeof LIBVIRT_ERROR,
  call: string,
  message: string,
  notStarted = true,
): LibvirtError {
  return new LibvirtError({
    code: LIBVIRT_ERROR[code],
    domain: 0,
    level: LEVEL_ERROR,
    message,
    call,
    notStarted,
  });
}
