import { closeSync, existsSync, fstatSync, fsyncSync, openSync, readSync } from 'node:fs';
import { endianness } from 'node:os';
import { dirname, join } from 'node:path';

/** What LMDB calls its one file of data. */
export const DATA_FILE = 'data.mdb';
/** First word of a meta page's body. Source: LMDB, mdb.c, MDB_MAGIC. */
const MAGIC = 0xbeefc0de;
/** Offsets in a meta page, bytes, on 64-bit hosts. Source: lmdb-js 3.5, mdb.c, MDB_page and MDB_meta. */
const AT = { magic: 24, pageSize: 48, lastPage: 144, transaction: 152, end: 160 } as const;
/** LMDB's own limits of a page's size, bytes. */
const PAGE_BYTES_MIN = 512;
const PAGE_BYTES_MAX = 65_536;

interface Meta {
  readonly pageBytes: number;
  readonly lastPage: bigint;
  readonly transaction: bigint;
}

/** Where a service keeps its ledger. */
export function ledgerFolder(stateDir: string): string {
  return join(stateDir, 'ledger');
}

/**
 * Why LMDB must not open the data file in `directory`: it maps the file, and a page that the file no longer has would
 * end the process by SIGBUS. Undefined when it may, or when there is no file yet.
 */
export function damageOf(directory: string): string | undefined {
  const path = join(directory, DATA_FILE);
  if (!existsSync(path)) return undefined;
  const file = openSync(path, 'r');
  try {
    const { size } = fstatSync(file);
    if (size === 0) return undefined; // LMDB made it and was cut off before its first page
    const first = readMeta(file, 0);
    if (first === undefined) return `${path} is not an LMDB file`;
    const second = readMeta(file, first.pageBytes);
    if (second === undefined) return `${path} has lost its second meta page`;
    const latest = first.transaction >= second.transaction ? first : second;
    const bytes = (latest.lastPage + 1n) * BigInt(latest.pageBytes);
    if (BigInt(size) < bytes) return `${path} is cut short: ${size} bytes of ${bytes}`;
    return undefined;
  } finally {
    closeSync(file);
  }
}

function readMeta(file: number, offset: number): Meta | undefined {
  const page = Buffer.alloc(AT.end);
  if (readSync(file, page, 0, AT.end, offset) < AT.end) return undefined;
  const view = new DataView(page.buffer, page.byteOffset, AT.end);
  const little = endianness() === 'LE';
  const pageBytes = view.getUint32(AT.pageSize, little);
  const isPage = pageBytes >= PAGE_BYTES_MIN && pageBytes <= PAGE_BYTES_MAX;
  if (view.getUint32(AT.magic, little) !== MAGIC || !isPage) return undefined;
  return {
    pageBytes,
    lastPage: view.getBigUint64(AT.lastPage, little),
    transaction: view.getBigUint64(AT.transaction, little),
  };
}

/** Make a new ledger's name durable: a file survives a power loss only once its folder, and that one's own, were synced. */
export function syncFolders(directory: string): void {
  for (const folder of [directory, dirname(directory)]) syncFile(folder);
}

/** Of a file, or of a folder's list of names. */
export function syncFile(path: string): void {
  const handle = openSync(path, 'r');
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}
