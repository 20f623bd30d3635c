import type { Config } from '../config.ts';
import { snakeCase } from '../core/shadow.ts';

/** Sections and keys that a running service takes up; all others are read at its start. */
const LIVE = [
  'engine',
  'host.mode',
  'host.overcommit',
  'host.reserved',
  'tenants',
  'groups',
  'scale',
  'anomaly',
  'log.level',
];
/** Of these the clock of a running service is made, and who is asked for room. */
const NOT_LIVE = ['engine.tick_ms', 'scale.webhook_url', 'scale.webhook_token_file'];

/** Keys that differ, in dotted form as the file has them. */
export interface ConfigChanges {
  /** In force at once. */
  readonly live: readonly string[];
  /** In force after the next start. */
  readonly atRestart: readonly string[];
}

export function changesOf(before: Config, after: Config): ConfigChanges {
  const from = flat(before);
  const to = flat(after);
  const changed = [...new Set([...from.keys(), ...to.keys()])].filter((key) => from.get(key) !== to.get(key));
  const isLive = (key: string): boolean => isIn(key, LIVE) && !isIn(key, NOT_LIVE);
  return { live: changed.filter(isLive), atRestart: changed.filter((key) => !isLive(key)) };
}

function isIn(key: string, places: readonly string[]): boolean {
  return places.some((place) => key === place || key.startsWith(`${place}.`));
}

/** Each value as text, by its key. */
function flat(value: unknown, path = ''): Map<string, string> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return new Map([[path, JSON.stringify(value)]]);
  }
  return new Map(
    Object.entries(value).flatMap(([name, child]) => [
      ...flat(child, path === '' ? snakeCase(name) : `${path}.${snakeCase(name)}`),
    ]),
  );
}
