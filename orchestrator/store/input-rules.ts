import { createHash, randomBytes } from 'node:crypto';
import { closeSync, fsyncSync, openSync, renameSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { RequestInputs } from '../core/shadow.ts';
import { syncPathNow, textOf } from './files.ts';
import { KEY_FILE } from './layout.ts';

/** What is kept of a production input. The first rule that fits decides; without one it is kept as it is. */
export interface InputRule {
  /** Absent: whichever. */
  readonly tenant?: string;
  readonly workload?: string;
  /** Name of the parameter; `*` stands for any run of characters. */
  readonly name: string;
  /** `hash`: found again by who knows the value; `redact`: only that it was there. */
  readonly action: 'keep' | 'hash' | 'redact';
}

/** One parameter as it is stored; neither text nor number: redacted. */
export interface StoredInput {
  readonly request: RequestInputs;
  readonly name: string;
  readonly kind: string;
  readonly text?: string;
  readonly number?: number;
}

const KEY_BYTES = 32;
/** Characters of a hash: 128 bits, in hexadecimal. */
export const HASH_CHARS = 32;

/** The store's key, if it has one: without a rule that hashes none is made. */
export function heldInputKey(directory: string): string | undefined {
  const held = textOf(join(directory, KEY_FILE));
  return held?.length === 2 * KEY_BYTES ? held : undefined;
}

/** A key of the store's own: equal inputs have equal hashes here, and others elsewhere. */
export function newInputKey(): string {
  return randomBytes(KEY_BYTES).toString('hex');
}

/** Keep `key` in the store's folder, unless one is kept there already. @returns the one that is kept */
export function keepInputKey(directory: string, key: string): string {
  const held = heldInputKey(directory);
  if (held !== undefined) return held;
  const path = join(directory, KEY_FILE);
  // Written beside and renamed: a full disk leaves no half of it.
  const file = openSync(`${path}.new`, 'w', 0o600);
  try {
    writeSync(file, key);
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(`${path}.new`, path);
  syncPathNow(directory);
  return key;
}

/** True when some input is to be hashed. */
export function hashes(rules: readonly InputRule[]): boolean {
  return rules.some(({ action }) => action === 'hash');
}

/** Digest of a value under the store's key; SQL's `hashed(value)` gives the same. */
export function hashInput(key: string, value: string | number): string {
  return createHash('sha256').update(`${key}${value}`).digest('hex').slice(0, HASH_CHARS);
}

function fits(rule: InputRule, request: RequestInputs, name: string): boolean {
  if (rule.tenant !== undefined && rule.tenant !== request.tenant) return false;
  if (rule.workload !== undefined && rule.workload !== request.workload) return false;
  const parts = rule.name.split('*').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&'));
  return new RegExp(`^${parts.join('.*')}$`).test(name);
}

/** A request's parameters as the rules let them be stored. */
export function storedInputs(
  request: RequestInputs,
  rules: readonly InputRule[],
  key: string,
): StoredInput[] {
  return Object.entries(request.params).map(([name, { kind, value }]) => {
    const action = rules.find((rule) => fits(rule, request, name))?.action ?? 'keep';
    const stored = { request, name, kind };
    if (action === 'redact') return stored;
    if (action === 'hash') return { ...stored, text: hashInput(key, value) };
    return typeof value === 'string' ? { ...stored, text: value } : { ...stored, number: value };
  });
}
