import { type Schema, Table, Utf8, vectorFromArray } from 'apache-arrow';
import { ShadowError } from '../core/shadow.ts';

/**
 * Version of the columns of log and partitions, in the metadata of each frame and file. A store is read whatever version
 * wrote its parts, up to this one; what is written is of this one.
 *
 *   1  the first
 *   2  contexts have a `cadence`, and with them points and buckets
 */
export const SCHEMA_VERSION = 2;

export type FrameKind = 'rows' | 'contexts' | 'inputs';
export type TableKind = 'points' | 'buckets' | 'inputs';

/** From the columns of one version to those of the next. */
interface Upgrade {
  /** Of a frame of the log. */
  readonly frame: (kind: FrameKind, table: Table) => Table;
  /** Of sealed rows, as a FROM clause's content. */
  readonly sealed: (kind: TableKind, source: string) => string;
}

/** By the version they start from; each goes one step. */
const UPGRADES: Readonly<Record<number, Upgrade>> = {
  1: {
    frame: (kind, table) => (kind === 'contexts' ? withNoText(table, 'cadence') : table),
    sealed: (kind, source) =>
      kind === 'inputs' ? source : `(SELECT *, NULL::VARCHAR AS cadence FROM ${source})`,
  },
};

/** Version of a frame, from the metadata of its table's schema. */
export function versionOf(schema: Schema): number {
  return Number(schema.metadata.get('version'));
}

/** @throws {ShadowError} STORE_TOO_NEW */
export function refuseNewer(version: number, path: string): void {
  if (version <= SCHEMA_VERSION) return;
  throw new ShadowError(
    'STORE_TOO_NEW',
    `${path} has schema ${version}; this version of the product knows ${SCHEMA_VERSION}: use the one that wrote it`,
  );
}

/** Upgrades from a version to the latest, in order. */
function stepsFrom(version: number): Upgrade[] {
  const steps: Upgrade[] = [];
  for (let from = version; from < SCHEMA_VERSION; from += 1) {
    const step = UPGRADES[from];
    if (step === undefined) throw new RangeError(`no upgrade starts from schema ${from}`);
    steps.push(step);
  }
  return steps;
}

/** A frame's table with the columns of the latest version. @throws {ShadowError} STORE_TOO_NEW */
export function upgradeFrame(kind: FrameKind, table: Table, path: string): Table {
  const version = versionOf(table.schema);
  refuseNewer(version, path);
  return stepsFrom(version).reduce((upgraded, step) => step.frame(kind, upgraded), table);
}

/** Sealed rows of one version with the columns of the latest, as a FROM clause's content. */
export function upgradeSealed(kind: TableKind, version: number, source: string): string {
  return stepsFrom(version).reduce((upgraded, step) => step.sealed(kind, upgraded), source);
}

function withNoText(table: Table, name: string): Table {
  const nulls = vectorFromArray(new Array<null>(table.numRows).fill(null), new Utf8());
  return table.assign(new Table({ [name]: nulls }));
}
