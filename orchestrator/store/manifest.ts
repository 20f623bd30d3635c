import { join } from 'node:path';
import { type LogDamage, ShadowError } from '../core/shadow.ts';
import { publishText, textOf } from './files.ts';
import { MANIFEST_FILE } from './layout.ts';
import { refuseNewer, SCHEMA_VERSION } from './schema-versions.ts';

export const TIERS = ['raw', 'minute', 'hour', 'inputs'] as const;
export type Tier = (typeof TIERS)[number];

/** One Parquet file: samples of one day and host, sorted by guest, axis and time. Never changed once published. */
export interface SealedFile {
  /** Below the store's folder. */
  readonly path: string;
  readonly tier: Tier;
  /** UTC, `2026-01-31`. */
  readonly day: string;
  readonly host: string;
  readonly rows: number;
  readonly bytes: number;
  readonly fromMs: number;
  readonly toMs: number;
  readonly schema: number;
  /** Points that a rolled-up tier was made of. */
  readonly points?: number;
}

/**
 * What of the store counts. Replacing this file is the one moment at which samples move from the log into Parquet, or from
 * many files into one: a sample is read in exactly one place before and after, wherever a process is killed.
 */
export interface Manifest {
  readonly schema: number;
  readonly generation: number;
  /** Segments up to this number are sealed; -1: none. */
  readonly sealedSegment: number;
  /** Frames up to this number are sealed; -1: none. */
  readonly sealedSequence: number;
  readonly files: readonly SealedFile[];
  /** Names of sets that were imported. */
  readonly imports: readonly string[];
  /** Tenants whose erasure has begun, and is finished at the next opening if it was cut off. */
  readonly erasing: readonly string[];
  /** What could not be read in segments that are sealed; the latest. */
  readonly damage: readonly LogDamage[];
  /** Rows that were whole and could not be told whose they are, since both definitions of their context were bad. */
  readonly lostRows: number;
}

/** Damage that is remembered; more than a disk in use would show. */
const DAMAGE_MAX = 100;

/** Of a store that has sealed nothing yet. */
export const EMPTY: Manifest = {
  schema: SCHEMA_VERSION,
  generation: 0,
  sealedSegment: -1,
  sealedSequence: -1,
  files: [],
  imports: [],
  erasing: [],
  damage: [],
  lostRows: 0,
};

export function readManifest(directory: string): Manifest {
  const path = join(directory, MANIFEST_FILE);
  const text = textOf(path);
  if (text === undefined) return EMPTY;
  const manifest = parse(path, text);
  refuseNewer(manifest.schema, path);
  return { ...EMPTY, ...manifest };
}

function parse(path: string, text: string): Manifest {
  try {
    return JSON.parse(text) as Manifest;
  } catch (cause) {
    throw new ShadowError('STORE_UNAVAILABLE', `${path} is damaged: ${(cause as Error).message}`, { cause });
  }
}

/** Replace the manifest; durable when this resolves. @returns what was written */
export async function publishManifest(directory: string, next: Manifest): Promise<Manifest> {
  const manifest = {
    ...next,
    schema: SCHEMA_VERSION,
    generation: next.generation + 1,
    damage: next.damage.slice(-DAMAGE_MAX),
  };
  await publishText(join(directory, MANIFEST_FILE), `${JSON.stringify(manifest)}\n`);
  return manifest;
}
