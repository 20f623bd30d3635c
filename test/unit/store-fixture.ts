import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Table, tableFromIPC } from 'apache-arrow';
import type { ShadowPoint } from '../../orchestrator/core/shadow.ts';
import { DiskShadowStore, type StoreOptions } from '../../orchestrator/store/store.ts';

type Row = Record<string, unknown>;

/** Rows of an answer as plain objects; whole numbers as numbers. */
export async function rowsOf(pieces: AsyncIterable<Uint8Array>): Promise<Row[]> {
  return plainRows(tableFromIPC(await bytesOf(pieces)));
}

export async function bytesOf(pieces: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of pieces) all.push(piece);
  return Buffer.concat(all);
}

function plainRows(table: Table): Row[] {
  return table
    .toArray()
    .map((row: { toJSON(): Row }) =>
      Object.fromEntries(
        Object.entries(row.toJSON()).map(([name, value]) => [
          name,
          typeof value === 'bigint' ? Number(value) : value,
        ]),
      ),
    );
}

/** A folder that goes when the test ends. */
export function newFolder(t: { teardown(work: () => void): unknown }): string {
  const folder = mkdtempSync(join(tmpdir(), 'fs-store-'));
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** An open store that is closed when the test ends. */
export function newStore(
  t: { teardown(work: () => unknown): unknown },
  options: Partial<StoreOptions> = {},
): DiskShadowStore {
  const directory = options.directory ?? mkdtempSync(join(tmpdir(), 'fs-store-'));
  const store = DiskShadowStore.open({ ...options, directory });
  t.teardown(async () => {
    await store.close();
    rmSync(directory, { recursive: true, force: true });
  });
  return store;
}

/** 2026-01-31 12:00 UTC. */
export const NOON_MS = Date.UTC(2026, 0, 31, 12);

export function pointAt(n: number, more: Partial<ShadowPoint> = {}): ShadowPoint {
  return {
    atMs: NOON_MS + n * 1000,
    guest: 'g1',
    host: 'h1',
    axis: 'seconds',
    periodMs: 1000,
    profile: { cpuMillicores: n },
    flags: [],
    ...more,
  };
}
