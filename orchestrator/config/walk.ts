import { z } from 'zod';
import { CONFIG_SCHEMA, type KeyText } from './schema.ts';

/** One key of the schema, or one section (then `key` is absent). */
export interface SchemaEntry {
  /** Dotted; '' is the top level. */
  readonly path: string;
  readonly description: string;
  readonly key?: {
    readonly type: z.ZodType;
    readonly rule: string;
    /** Absent: the key is optional and has none. */
    readonly fallback?: unknown;
  };
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
    if (inner) {
      sections.push({ path, description }, ...entriesOf(inner, path));
    } else {
      const fallback = type.parse(undefined);
      const rule = text?.rule ?? '';
      yield { path, description, key: { type, rule, ...(fallback === undefined ? {} : { fallback }) } };
    }
  }
  yield* sections;
}

/** Every key and section, in the order of the schema, keys before the sections of the same level. */
export const SCHEMA_ENTRIES: readonly SchemaEntry[] = [...entriesOf(CONFIG_SCHEMA, '')];

/** Every key by its dotted path. */
export const SCHEMA_KEYS: ReadonlyMap<string, NonNullable<SchemaEntry['key']>> = new Map(
  SCHEMA_ENTRIES.flatMap((entry) => (entry.key ? [[entry.path, entry.key] as const] : [])),
);
