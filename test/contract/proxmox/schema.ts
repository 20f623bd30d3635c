import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MINIMUM } from './schema-minimum.ts';

/** One parameter, in the form of Proxmox VE's own API description. */
export interface ParameterSchema {
  readonly type?: string;
  readonly optional?: number;
  readonly minimum?: number | string;
  readonly maximum?: number | string;
  readonly maxLength?: number;
  readonly enum?: readonly string[];
  readonly pattern?: string;
  /** A name, or the parts of a property string. */
  readonly format?: string | Readonly<Record<string, PartSchema>>;
}

interface PartSchema extends ParameterSchema {
  readonly alias?: string;
  readonly keyAlias?: string;
  readonly default_key?: number;
}

/** One method of one path. */
export interface MethodSchema {
  readonly parameters: Readonly<Record<string, ParameterSchema>>;
  readonly permissions?: readonly unknown[];
  /** `props`: names of the answer's fields, or of its items'. */
  readonly returns: { readonly type: string; readonly props?: readonly string[] };
}

export type ApiSchema = Readonly<Record<string, Readonly<Partial<Record<string, MethodSchema>>>>>;

/** Fields that every version answers and no schema names: from the source of qemu-server, PVE::QemuServer::vmstatus. */
const UNNAMED_FIELDS: ReadonlySet<string> = new Set([
  'balloon',
  'ballooninfo',
  'balloon_min',
  'blockstat',
  'disk',
  'freemem',
  'nics',
  'proxmox-support',
  'shares',
]);

/** The official description where it is at hand, completed by our own minimum. */
export function loadSchema(): { readonly schema: ApiSchema; readonly origin: 'official' | 'minimum' } {
  const { FORESHADE_PROXMOX_SCHEMA: named, FORESHADE_DATA: data } = process.env;
  const beside = data === undefined ? undefined : join(data, '..', 'proxmox', 'contract-subset.json');
  const file = named ?? beside;
  if (file === undefined || !existsSync(file)) return { schema: MINIMUM, origin: 'minimum' };
  const official = JSON.parse(readFileSync(file, 'utf8')) as ApiSchema;
  return { schema: { ...MINIMUM, ...official }, origin: 'official' };
}

/** The path of the schema that a request's path is of, and the values of its names. */
export function matchPath(
  schema: ApiSchema,
  path: string,
): { readonly template: string; readonly values: Record<string, string> } | undefined {
  for (const template of Object.keys(schema)) {
    const names = [...template.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? '');
    const pattern = new RegExp(`^${template.replace(/\{\w+\}/g, '([^/]+)')}$`);
    const found = pattern.exec(path);
    if (found === null) continue;
    const values = names.map((name, i) => [name, decodeURIComponent(found[i + 1] ?? '')]);
    return { template, values: Object.fromEntries(values) };
  }
  return undefined;
}

/** What is wrong with a request's parameters, by name. */
export function requestProblems(
  method: MethodSchema,
  parameters: Readonly<Record<string, string>>,
): Record<string, string> {
  const problems: Record<string, string> = {};
  for (const [name, value] of Object.entries(parameters)) {
    const known = method.parameters[name] ?? method.parameters[name.replace(/\d+$/, '[n]')];
    const problem = known === undefined ? 'property is not defined in schema' : valueProblem(known, value);
    if (problem !== undefined) problems[name] = problem;
  }
  for (const [name, { optional }] of Object.entries(method.parameters)) {
    if (!optional && !name.endsWith('[n]') && !(name in parameters))
      problems[name] = 'property is missing and it is not optional';
  }
  return problems;
}

function valueProblem(schema: ParameterSchema, value: string): string | undefined {
  const { type, minimum, maximum, maxLength, pattern, format } = schema;
  if (type === 'boolean' && !/^[01]$/.test(value)) return 'not a boolean';
  if (type === 'integer' && !/^-?\d+$/.test(value)) return 'not an integer';
  if (type === 'number' && !/^-?\d+(?:\.\d+)?(?:e-?\d+)?$/i.test(value)) return 'not a number';
  if (minimum !== undefined && Number(value) < Number(minimum)) return `must be at least ${minimum}`;
  if (maximum !== undefined && Number(value) > Number(maximum)) return `must be at most ${maximum}`;
  if (maxLength !== undefined && value.length > maxLength) return `may be ${maxLength} characters long`;
  if (schema.enum !== undefined && !schema.enum.includes(value)) return 'not in the enumeration';
  if (pattern !== undefined && !new RegExp(`^${unPerl(pattern)}$`).test(value)) return 'does not match';
  return typeof format === 'object' ? propertyProblem(format, value) : undefined;
}

/** Perl's `(?^:` is a plain group. */
function unPerl(pattern: string): string {
  return pattern.replaceAll('(?^:', '(?:').replaceAll('{,', '{0,');
}

function propertyProblem(parts: Readonly<Record<string, PartSchema>>, value: string): string | undefined {
  const bareName = Object.keys(parts).find((name) => parts[name]?.default_key);
  for (const part of value.split(',')) {
    const cut = part.indexOf('=');
    const name = cut < 0 ? bareName : part.slice(0, cut);
    const known = name === undefined ? undefined : parts[name];
    if (known === undefined) return `${part}: no such part`;
    const aliased = known.alias === undefined ? known : (parts[known.alias] ?? known);
    const problem = valueProblem(aliased, cut < 0 ? part : part.slice(cut + 1));
    if (problem !== undefined) return `${name}: ${problem}`;
  }
  return undefined;
}

/** What is wrong with an answer's data. */
export function answerProblems(method: MethodSchema, data: unknown): string[] {
  const { type, props } = method.returns;
  if (type === 'null') return data === null ? [] : ['data for null'];
  if (type === 'string') return typeof data === 'string' || data === null ? [] : ['not a string'];
  if (type === 'array') {
    if (!Array.isArray(data)) return ['not a list'];
    return data.flatMap((item) => fieldProblems(props, item));
  }
  return fieldProblems(props, data);
}

function fieldProblems(props: readonly string[] | undefined, item: unknown): string[] {
  if (typeof item !== 'object' || item === null || Array.isArray(item)) return ['not an object'];
  if (props === undefined || props.length === 0) return [];
  return Object.keys(item).flatMap((name) => {
    const isKnown =
      props.includes(name) || props.includes(name.replace(/\d+$/, '[n]')) || UNNAMED_FIELDS.has(name);
    return isKnown ? [] : [`${name}: not in the schema`];
  });
}
