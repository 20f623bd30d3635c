import { z } from 'zod';
import { ANY_NAME, CONFIG_SCHEMA, type KeyText } from './schema.ts';

/** One key of the schema, or one section (then `key` is absent). */
export interface SchemaEntry {
  /** Dotted; '' is the top level. */
  readonly path: string;
  readonly description: string;
  readonly key?: {
    readonly type: z.ZodType;
    readonly rule: string;
    /** Absent: the key has none, since it may be absent or must be there. */
    readonly fallback?: unknown;
    readonly isRequired: boolean;
  };
}

/** The one form of a table whose names are the operator's. */
function recordOf(type: z.ZodType): z.ZodObject | undefined {
  if (type instanceof z.ZodPipe) return recordOf(type.in as z.ZodType);
  if (type instanceof z.ZodPrefault) return recordOf(type.unwrap() as z.ZodType);
  return type instanceof z.ZodRecord ? objectOf(type.valueType as z.ZodType) : undefined;
}

function objectOf(type: z.ZodType): z.ZodObject | undefined {
  if (type instanceof z.ZodObject) return type;
  return type instanceof z.ZodPrefault ? objectOf(type.unwrap() as z.ZodType) : undefined;
}

function* entriesOf(object: z.ZodObject, prefix: string): Generator<SchemaEntry> {
  const sections: SchemaEntry[] = [];
  for (const [name, type] of Object.entries(object.shape as Record<string, z.ZodType>)) {
    const path = prefix === '' ? name : `${prefix}.${name}`;
    const text = type.meta() as unknown as Partial<KeyText> | undefined;
    const description = text?.description ?? '';
    const inner = objectOf(type);
    const each = recordOf(type);
    if (each) {
      const at = `${path}.${ANY_NAME}`;
      const about = (each.meta() as unknown as Partial<KeyText> | undefined)?.description ?? '';
      sections.push({ path: at, description: about }, ...entriesOf(each, at));
    } else if (inner) {
      sections.push({ path, description }, ...entriesOf(inner, path));
    } else {
      const { success, data: fallback } = type.safeParse(undefined);
      const key = { type, rule: text?.rule ?? '', isRequired: !success };
      yield { path, description, key: { ...key, ...(fallback !== undefined && { fallback }) } };
    }
  }
  yield* sections;
}

/** Every key and section, in the order of the schema, keys before the sections of the same level. */
export const SCHEMA_ENTRIES: readonly SchemaEntry[] = [...entriesOf(CONFIG_SCHEMA, '')];

/** Names of tables that hold tables under names of the operator's. */
const RECORDS: ReadonlySet<string> = new Set(
  SCHEMA_ENTRIES.filter(({ path }) => path.endsWith(`.${ANY_NAME}`)).map(({ path }) =>
    path.slice(0, -ANY_NAME.length - 1),
  ),
);

/** A written path as the schema has it: an operator's name replaced by the one that stands for all. */
export function schemaPath(path: string): string {
  const [table = '', name, ...rest] = path.split('.');
  return RECORDS.has(table) && name !== undefined ? [table, ANY_NAME, ...rest].join('.') : path;
}

/** True where the path, as the schema has it, may stand under any name: there is nothing to set it to by default. */
export function isUnderAnyName(path: string): boolean {
  return path.split('.')[1] === ANY_NAME;
}

/** Every key by its dotted path. */
export const SCHEMA_KEYS: ReadonlyMap<string, NonNullable<SchemaEntry['key']>> = new Map(
  SCHEMA_ENTRIES.flatMap((entry) => (entry.key ? [[entry.path, entry.key] as const] : [])),
);
