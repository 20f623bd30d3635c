import { existsSync, readFileSync } from 'node:fs';
import { parse, TomlError } from 'smol-toml';
import type { z } from 'zod';
import { type CamelTree, frozenCamel } from './config/camel.ts';
import { CROSS_RULES } from './config/rules.ts';
import { CONFIG_SCHEMA } from './config/schema.ts';
import { SCHEMA_ENTRIES, SCHEMA_KEYS, schemaPath } from './config/walk.ts';

export { configurationMarkdown, defaultConfigText } from './config/document.ts';

/** The configuration as code reads it: camelCase, complete, frozen at every level. */
export type Config = CamelTree<z.output<typeof CONFIG_SCHEMA>>;

/** Read when no other file is named; its absence means defaults. */
export const DEFAULT_CONFIG_PATH = '/etc/foreshade/foreshade.toml';

/** Longest rendering of a refused value in a message. */
const VALUE_CHARS_MAX = 60;
/** Edits between an unknown key and one that exists, up to which the latter is suggested. */
const SUGGESTION_EDITS_MAX = 3;

/** One broken rule: where it is, in dotted form, and what the rule is. */
export interface ConfigProblem {
  readonly path: string;
  readonly rule: string;
}

/** Everything that is wrong with a configuration, together. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly ConfigProblem[];

  constructor(origin: string, problems: readonly ConfigProblem[]) {
    const lines = problems.map(({ path, rule }) => (path === '' ? `  ${rule}` : `  ${path}: ${rule}`));
    super(`${origin}: ${problems.length} problem${problems.length === 1 ? '' : 's'}\n${lines.join('\n')}`);
    this.problems = problems;
  }
}

/** @throws {ConfigError} when the file cannot be read or breaks a rule. `undefined`: DEFAULT_CONFIG_PATH, or defaults. */
export function loadConfig(path: string | undefined): Config {
  const file = path ?? DEFAULT_CONFIG_PATH;
  if (path === undefined && !existsSync(file)) return defaultConfig();
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    throw new ConfigError(file, [{ path: '', rule: `cannot be read: ${(cause as Error).message}` }]);
  }
  return parseConfig(text, file);
}

/** Every key at its default. */
export function defaultConfig(): Config {
  return frozenCamel(CONFIG_SCHEMA.parse({}));
}

/**
 * A configuration from TOML text.
 * @param origin named in the error
 * @throws {ConfigError} with every problem
 */
export function parseConfig(text: string, origin: string): Config {
  let raw: unknown;
  try {
    raw = parse(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    throw new ConfigError(origin, [
      { path: `line ${cause.line}`, rule: (cause.message.split('\n')[0] ?? '').trim() },
    ]);
  }
  const result = CONFIG_SCHEMA.safeParse(raw);
  const problems = [...schemaProblems(result.error?.issues ?? [], raw), ...crossProblems(raw)];
  if (problems.length > 0 || !result.success) throw new ConfigError(origin, problems);
  return frozenCamel(result.data);
}

function schemaProblems(issues: readonly z.core.$ZodIssue[], raw: unknown): ConfigProblem[] {
  const problems = new Map<string, string>();
  for (const issue of issues) {
    const at = issue.path.join('.');
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys) {
        const path = at === '' ? key : `${at}.${key}`;
        problems.set(path, `unknown key${suggestion(path)}`);
      }
      continue;
    }
    const known = SCHEMA_KEYS.get(schemaPath(at))?.rule;
    if (known === undefined && (issue.code === 'custom' || issue.code === 'invalid_key')) {
      problems.set(at, issue.message);
      continue;
    }
    const rule = known ?? 'a section ([...])';
    problems.set(at, `must be ${rule}; got ${shown(valueAt(raw, at))}`);
  }
  return [...problems].map(([path, rule]) => ({ path, rule }));
}

function crossProblems(raw: unknown): ConfigProblem[] {
  return CROSS_RULES.flatMap(({ keys, rule, holds }) => {
    const results = keys.map((path) => SCHEMA_KEYS.get(path)?.type.safeParse(valueAt(raw, path)));
    const values = results.flatMap((result) => (result?.success ? [result.data] : []));
    if (values.length < keys.length || holds(...values)) return [];
    return [{ path: keys[0] ?? '', rule: `${rule}; got ${values.map(shown).join(' and ')}` }];
  });
}

function valueAt(raw: unknown, path: string): unknown {
  return path.split('.').reduce<unknown>((value, key) => {
    const isTable = typeof value === 'object' && value !== null && Object.hasOwn(value, key);
    return isTable ? (value as Record<string, unknown>)[key] : undefined;
  }, raw);
}

/** What a URL has before its host: a password must not reach a terminal or a log. */
const USER_OF_URL = /\/\/[^/@\s]*@/g;

function shown(value: unknown): string {
  if (typeof value === 'object') return 'a table, an array or a date';
  const text =
    typeof value === 'string'
      ? JSON.stringify(value).replace(USER_OF_URL, '//…@')
      : String(value ?? 'nothing');
  return text.length > VALUE_CHARS_MAX ? `${text.slice(0, VALUE_CHARS_MAX)}…` : text;
}

function suggestion(written: string): string {
  const path = schemaPath(written);
  const cut = path.lastIndexOf('.') + 1;
  const siblings = SCHEMA_ENTRIES.map((entry) => entry.path).filter(
    (known) => known.lastIndexOf('.') + 1 === cut && known.startsWith(path.slice(0, cut)),
  );
  const [nearest] = siblings
    .map((known) => ({ known, edits: editsBetween(path.slice(cut), known.slice(cut)) }))
    .filter(({ edits }) => edits <= SUGGESTION_EDITS_MAX)
    .sort((a, b) => a.edits - b.edits);
  return nearest ? `; did you mean ${nearest.known}?` : '';
}

/** Levenshtein distance; keys are short. */
function editsBetween(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const substitute = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(substitute, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
