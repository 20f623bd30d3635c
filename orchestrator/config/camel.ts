/** `memory_mib` as `memoryMib`, in types. */
export type Camel<S extends string> = S extends `${infer Head}_${infer Tail}`
  ? `${Head}${Capitalize<Camel<Tail>>}`
  : S;

/** An object with every key in camelCase and every level read-only. */
export type CamelTree<T> = T extends readonly unknown[]
  ? { readonly [I in keyof T]: CamelTree<T[I]> }
  : T extends object
    ? { readonly [K in keyof T as K extends string ? Camel<K> : K]: CamelTree<T[K]> }
    : T;

function camel(key: string): string {
  return key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}

/** Copy of `value` with every key in camelCase, frozen at every level. Absent keys stay absent. */
export function frozenCamel<T>(value: T): CamelTree<T> {
  if (typeof value !== 'object' || value === null) return value as CamelTree<T>;
  if (Array.isArray(value)) return Object.freeze(value.map(frozenCamel)) as CamelTree<T>;
  const entries = Object.entries(value).filter(([, child]) => child !== undefined);
  return Object.freeze(
    Object.fromEntries(entries.map(([key, child]) => [camel(key), frozenCamel(child)])),
  ) as CamelTree<T>;
}
