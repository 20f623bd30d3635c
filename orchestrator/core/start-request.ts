import { START_POLICIES, type StartRequest } from './guest-start.ts';
import { type Params, type ParamValue, PRIORITIES } from './request.ts';

/** Longest piece of the definition's own words repeated in a problem. */
const QUOTE_CHARS_MAX = 40;
/** Problems named of one request; whoever made more mends these first. */
const PROBLEMS_MAX = 5;

const ATTRIBUTES = ['workload', 'tenant', 'priority', 'policy', 'duration_s', 'ttl_s'] as const;
/** Kinds of a parameter, as a definition names them: each has exactly one. */
export const PARAM_KINDS = ['number', 'category', 'text', 'size_bytes', 'time_ms'] as const;

/** Names and their values, as they are written. */
export type WrittenAttributes = Readonly<Record<string, string>>;

/** A request as a guest's definition has it, in whatever form: texts under names. */
export interface WrittenRequest {
  readonly attributes: WrittenAttributes;
  /** Each with its `name`, and its value under its kind. */
  readonly params: readonly WrittenAttributes[];
  /** What its form alone has wrong. */
  readonly problems: readonly string[];
}

/** What a definition's words ask for; what is wrong with them is in `problems`. */
export function startRequestOf(written: WrittenRequest): StartRequest {
  return new RequestReader(written.problems).read(written);
}

/** Reads one request, and keeps what is wrong with it. */
class RequestReader {
  readonly #problems: string[];

  constructor(problems: readonly string[]) {
    this.#problems = [...problems];
  }

  read({ attributes, params }: WrittenRequest): StartRequest {
    this.#refuseOthers('request', attributes, ATTRIBUTES);
    const { workload = '', tenant = '' } = attributes;
    const durationMs = this.#seconds(attributes, 'duration_s');
    const ttlMs = this.#seconds(attributes, 'ttl_s');
    return {
      policy: this.#oneOf(attributes, 'policy', START_POLICIES, 'prefer'),
      tenant,
      workload,
      priority: this.#oneOf(attributes, 'priority', PRIORITIES, 'normal'),
      params: this.#params(params),
      ...(durationMs !== undefined && { durationMs }),
      ...(ttlMs !== undefined && { ttlMs }),
      problems: this.#problems.slice(0, PROBLEMS_MAX),
    };
  }

  #params(all: readonly WrittenAttributes[]): Params {
    const params: [string, ParamValue][] = [];
    const names = new Set<string>();
    for (const attributes of all) {
      const { name = '' } = attributes;
      if (name === '__proto__') this.#problem('a param has a reserved name');
      if (names.has(name)) this.#problem(`param ${quoted(name)} is given twice`);
      names.add(name);
      const value = this.#param(name, attributes);
      if (value !== undefined) params.push([name, value]);
    }
    return Object.fromEntries(params);
  }

  #param(name: string, attributes: WrittenAttributes): ParamValue | undefined {
    this.#refuseOthers(`param ${quoted(name)}`, attributes, ['name', ...PARAM_KINDS]);
    const kinds = PARAM_KINDS.filter((kind) => attributes[kind] !== undefined);
    const [kind] = kinds;
    if (kind === undefined || kinds.length > 1)
      return this.#problem(`param ${quoted(name)} must have exactly one of ${PARAM_KINDS.join(', ')}`);
    const text = attributes[kind] ?? '';
    if (kind === 'category' || kind === 'text') return { kind, value: text };
    const value = kind === 'number' ? decimal(text) : whole(text);
    if (Number.isNaN(value))
      return this.#problem(`${kind} of param ${quoted(name)} is no number: ${quoted(text)}`);
    return { kind: kind === 'number' ? 'number' : kind === 'size_bytes' ? 'size' : 'time', value };
  }

  /** Seconds as ms; NaN never. */
  #seconds(attributes: WrittenAttributes, name: string): number | undefined {
    const text = attributes[name];
    if (text === undefined) return undefined;
    const ms = Math.round(decimal(text) * 1000);
    return Number.isSafeInteger(ms) ? ms : this.#problem(`${name} is no number of seconds: ${quoted(text)}`);
  }

  #oneOf<T extends string>(attributes: WrittenAttributes, name: string, words: readonly T[], absent: T): T {
    const text = attributes[name];
    if (text === undefined) return absent;
    const word = words.find((candidate) => candidate === text);
    if (word === undefined) this.#problem(`${name} must be one of ${words.join(', ')}, not ${quoted(text)}`);
    return word ?? absent;
  }

  #refuseOthers(of: string, attributes: WrittenAttributes, known: readonly string[]): void {
    for (const name of Object.keys(attributes))
      if (!known.includes(name)) this.#problem(`${of} has no attribute ${quoted(name)}`);
  }

  #problem(sentence: string): undefined {
    this.#problems.push(sentence);
    return undefined;
  }
}

function decimal(text: string): number {
  return /^-?(\d{1,20}(\.\d{1,20})?|\.\d{1,20})([eE][+-]?\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
}

/** Exact as a double, or NaN. */
function whole(text: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  return Number.isSafeInteger(value) ? value : Number.NaN;
}

/** A definition's own words, no more of them than a sentence holds. */
export function quoted(text: string): string {
  return JSON.stringify(text.length > QUOTE_CHARS_MAX ? `${text.slice(0, QUOTE_CHARS_MAX)}…` : text);
}
