import { START_POLICIES, type StartRequest } from '../orchestrator/core/guest-start.ts';
import { type Params, type ParamValue, PRIORITIES } from '../orchestrator/core/request.ts';
import type { XmlElement } from './xml.ts';

/** Namespace of what a domain's metadata asks of Foreshade. The hook's program looks for it too. */
export const REQUEST_NAMESPACE = 'urn:foreshade:request:1';

/** Longest piece of the definition's own words repeated in a problem. */
const QUOTE_CHARS_MAX = 40;
/** Problems named of one request; whoever made more mends these first. */
const PROBLEMS_MAX = 5;

const ATTRIBUTES = ['workload', 'tenant', 'priority', 'policy', 'duration_s', 'ttl_s'] as const;
/** A parameter has exactly one of these. */
const KINDS = ['number', 'category', 'text', 'size_bytes', 'time_ms'] as const;

/** Prefixes in force and what they stand for; the default namespace is under the empty one. */
type Scope = ReadonlyMap<string, string>;

/**
 * What a domain's metadata asks for at each start: the first `request` element of our namespace. Elements of other namespaces are
 * nobody's business here, and are passed over.
 * @param root the domain's element
 */
export function readStartRequest(root: XmlElement): StartRequest | undefined {
  const ofRoot = scopeIn(new Map(), root);
  for (const metadata of root.children.filter(({ name }) => name === 'metadata')) {
    const outer = scopeIn(ofRoot, metadata);
    for (const element of metadata.children) {
      const scope = scopeIn(outer, element);
      if (isOurs(element, scope, 'request')) return new RequestReader(scope).read(element);
    }
  }
  return undefined;
}

function scopeIn(outer: Scope, { attributes }: XmlElement): Scope {
  const declared = Object.entries(attributes).flatMap(([name, value]): [string, string][] => {
    if (name === 'xmlns') return [['', value]];
    return name.startsWith('xmlns:') ? [[name.slice('xmlns:'.length), value]] : [];
  });
  return declared.length === 0 ? outer : new Map([...outer, ...declared]);
}

function isOurs({ name }: XmlElement, scope: Scope, local: string): boolean {
  const colon = name.indexOf(':');
  return (
    name.slice(colon + 1) === local && scope.get(name.slice(0, Math.max(0, colon))) === REQUEST_NAMESPACE
  );
}

/** Reads one request, and keeps what is wrong with it. */
class RequestReader {
  readonly #scope: Scope;
  readonly #problems: string[] = [];

  constructor(scope: Scope) {
    this.#scope = scope;
  }

  read({ attributes, children }: XmlElement): StartRequest {
    this.#refuseOthers('request', attributes, ATTRIBUTES);
    const { workload = '', tenant = '' } = attributes;
    const durationMs = this.#seconds(attributes, 'duration_s');
    const ttlMs = this.#seconds(attributes, 'ttl_s');
    return {
      policy: this.#oneOf(attributes, 'policy', START_POLICIES, 'prefer'),
      tenant,
      workload,
      priority: this.#oneOf(attributes, 'priority', PRIORITIES, 'normal'),
      params: this.#params(children),
      ...(durationMs !== undefined && { durationMs }),
      ...(ttlMs !== undefined && { ttlMs }),
      problems: this.#problems.slice(0, PROBLEMS_MAX),
    };
  }

  #params(children: readonly XmlElement[]): Params {
    const params: [string, ParamValue][] = [];
    const names = new Set<string>();
    for (const child of children) {
      const scope = scopeIn(this.#scope, child);
      if (!isOurs(child, scope, 'param')) {
        this.#problem(`<${quoted(child.name)}> is no param`);
        continue;
      }
      const { name = '' } = child.attributes;
      if (name === '__proto__') this.#problem('a param has a reserved name');
      if (names.has(name)) this.#problem(`param ${quoted(name)} is given twice`);
      names.add(name);
      const value = this.#param(name, child.attributes);
      if (value !== undefined) params.push([name, value]);
    }
    return Object.fromEntries(params);
  }

  #param(name: string, attributes: XmlElement['attributes']): ParamValue | undefined {
    this.#refuseOthers(`param ${quoted(name)}`, attributes, ['name', ...KINDS]);
    const kinds = KINDS.filter((kind) => attributes[kind] !== undefined);
    const [kind] = kinds;
    if (kind === undefined || kinds.length > 1)
      return this.#problem(`param ${quoted(name)} must have exactly one of ${KINDS.join(', ')}`);
    const text = attributes[kind] ?? '';
    if (kind === 'category' || kind === 'text') return { kind, value: text };
    const value = kind === 'number' ? decimal(text) : whole(text);
    if (Number.isNaN(value))
      return this.#problem(`${kind} of param ${quoted(name)} is no number: ${quoted(text)}`);
    return { kind: kind === 'number' ? 'number' : kind === 'size_bytes' ? 'size' : 'time', value };
  }

  /** Seconds as ms; NaN never. */
  #seconds(attributes: XmlElement['attributes'], name: string): number | undefined {
    const text = attributes[name];
    if (text === undefined) return undefined;
    const ms = Math.round(decimal(text) * 1000);
    return Number.isSafeInteger(ms) ? ms : this.#problem(`${name} is no number of seconds: ${quoted(text)}`);
  }

  #oneOf<T extends string>(
    attributes: XmlElement['attributes'],
    name: string,
    words: readonly T[],
    absent: T,
  ): T {
    const text = attributes[name];
    if (text === undefined) return absent;
    const word = words.find((candidate) => candidate === text);
    if (word === undefined) this.#problem(`${name} must be one of ${words.join(', ')}, not ${quoted(text)}`);
    return word ?? absent;
  }

  #refuseOthers(of: string, attributes: XmlElement['attributes'], known: readonly string[]): void {
    for (const name of Object.keys(attributes))
      if (!known.includes(name) && name !== 'xmlns' && !name.startsWith('xmlns:'))
        this.#problem(`${of} has no attribute ${quoted(name)}`);
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

function quoted(text: string): string {
  return JSON.stringify(text.length > QUOTE_CHARS_MAX ? `${text.slice(0, QUOTE_CHARS_MAX)}…` : text);
}
