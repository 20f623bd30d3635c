import { ProxmoxError } from './errors.ts';

/** An object of an answer. Proxmox VE writes numbers as numbers or as text, and truth as 1, 0, "1" or "0", by version and field. */
export type Fields = Readonly<Record<string, unknown>>;

/** @throws {ProxmoxError} when the answer is something else */
export function fieldsOf(answer: unknown, call: string): Fields {
  if (isFields(answer)) return answer;
  throw new ProxmoxError(call, 'unreadable', 200, 'the answer is not an object');
}

/** The objects of a list; what else is in it is left out. @throws {ProxmoxError} when the answer is no list */
export function listOf(answer: unknown, call: string): Fields[] {
  if (Array.isArray(answer)) return answer.filter(isFields);
  throw new ProxmoxError(call, 'unreadable', 200, 'the answer is not a list');
}

export function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A number from 0 to 2^53 - 1, beyond which nothing is counted; undefined where there is none. */
export function numberIn(fields: Fields, name: string): number | undefined {
  const value = fields[name];
  const number = typeof value === 'string' && value.trim() !== '' ? Number(value) : value;
  return typeof number === 'number' && number >= 0 && number <= Number.MAX_SAFE_INTEGER ? number : undefined;
}

/** A text, numbers as they print; undefined where there is none. */
export function textIn(fields: Fields, name: string): string | undefined {
  const value = fields[name];
  if (typeof value === 'number') return String(value);
  return typeof value === 'string' ? value : undefined;
}
