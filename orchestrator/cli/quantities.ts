import { InvalidArgumentError } from 'commander';

const MS_OF: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const BYTES_OF: Readonly<Record<string, number>> = {
  '': 1,
  B: 1,
  K: 1024,
  KiB: 1024,
  M: 1024 ** 2,
  MiB: 1024 ** 2,
  G: 1024 ** 3,
  GiB: 1024 ** 3,
  T: 1024 ** 4,
  TiB: 1024 ** 4,
};

/** `500ms`, `30s`, `5m`, `2h`, `1d` as ms. @throws {InvalidArgumentError} */
export function parseDurationMs(text: string): number {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/.exec(text) ?? [];
  const factor = MS_OF[unit];
  if (number === undefined || factor === undefined) {
    throw new InvalidArgumentError('A duration is a number and a unit: 500ms, 30s, 5m, 2h or 1d.');
  }
  return Math.round(Number(number) * factor);
}

/** @throws {InvalidArgumentError} */
export function parseCount(text: string): number {
  const count = Number(text);
  if (!Number.isSafeInteger(count) || count < 1)
    throw new InvalidArgumentError('It is a whole number from 1.');
  return count;
}

/** `4`, `1.5` cores as millicores. @throws {InvalidArgumentError} */
export function parseCores(text: string): number {
  const millicores = Math.round(Number(text) * 1000);
  if (text.trim() === '' || !(millicores > 0 && millicores < Number.POSITIVE_INFINITY))
    throw new InvalidArgumentError('It is a number of cores above 0: 4, 1.5.');
  return millicores;
}

/** `64MiB`, `1.5G`, `4096` as bytes. @throws {InvalidArgumentError} */
export function parseBytes(text: string): number {
  const [, number, unit = ''] = /^(\d+(?:\.\d+)?)\s*([A-Za-z]*)$/.exec(text) ?? [];
  const factor = BYTES_OF[unit];
  if (number === undefined || factor === undefined) {
    throw new InvalidArgumentError('A size is a number and a binary unit: 4096, 64KiB, 64MiB, 1.5GiB.');
  }
  return Math.round(Number(number) * factor);
}

/** ISO 8601, ms since the epoch, or `+30s` from now. @throws {InvalidArgumentError} */
export function parseTimeMs(text: string, nowMs: number): number {
  if (text.startsWith('+')) return nowMs + parseDurationMs(text.slice(1));
  const timeMs = /^\d{11,}$/.test(text) ? Number(text) : Date.parse(text);
  if (Number.isNaN(timeMs)) {
    throw new InvalidArgumentError(
      'A time is ISO 8601 (2026-01-31T18:00:00Z), ms since the epoch, or +30s from now.',
    );
  }
  return timeMs;
}

/** Absent numbers in tables. */
export const NONE = '-';

export function cores(millicores: number | undefined): string {
  return millicores === undefined ? NONE : `${(millicores / 1000).toFixed(2)} cores`;
}

/** Binary units, three digits at most after the point; from bytes. */
export function size(bytes: number | undefined, suffix = ''): string {
  if (bytes === undefined) return NONE;
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  // Whole MiB up to 16 GiB: what an administrator compares with a guest's definition.
  while (Math.abs(value) >= (unit === 2 ? 16_384 : 1024) && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${value.toLocaleString('en-US', { maximumFractionDigits: value < 10 ? 1 : 0 })} ${units[unit]}${suffix}`;
}

/** ISO 8601 in local time, to the ms. */
export function localTime(timeMs: number | undefined): string {
  if (timeMs === undefined) return NONE;
  const time = new Date(timeMs);
  const offsetMin = -time.getTimezoneOffset();
  const shifted = new Date(timeMs + offsetMin * 60_000).toISOString().slice(0, -1);
  const two = (value: number): string => String(value).padStart(2, '0');
  const absolute = Math.abs(offsetMin);
  return `${shifted}${offsetMin < 0 ? '-' : '+'}${two(Math.floor(absolute / 60))}:${two(absolute % 60)}`;
}

export function seconds(ms: number | undefined): string {
  return ms === undefined ? NONE : `${(ms / 1000).toLocaleString('en-US', { maximumFractionDigits: 3 })} s`;
}
