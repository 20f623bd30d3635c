/**
 * The value of a key such as `scsi0` or `net0`: parts between commas, `name=value` each, where the first may be a bare
 * value. Parts that are not looked at are kept as they are, in their order.
 */
export class PropertyString {
  readonly #parts: readonly string[];

  constructor(text: string) {
    this.#parts = text.split(',').filter((part) => part !== '');
  }

  /** The bare first part, such as a volume or a switch; undefined where the first has a name. */
  get bare(): string | undefined {
    const [first] = this.#parts;
    return first === undefined || first.includes('=') ? undefined : first;
  }

  get(name: string): string | undefined {
    const part = this.#parts.find((one) => one.startsWith(`${name}=`));
    return part?.slice(name.length + 1);
  }

  /** A number from 0 to 2^53 - 1; undefined where there is none. */
  number(name: string): number | undefined {
    const text = this.get(name);
    const value = text === undefined || text.trim() === '' ? Number.NaN : Number(text);
    return value >= 0 && value <= Number.MAX_SAFE_INTEGER ? value : undefined;
  }

  /** The same with these parts instead; an undefined one is taken out. */
  with(changes: Readonly<Record<string, number | undefined>>): PropertyString {
    const kept = this.#parts.filter((part) => !(part.slice(0, part.indexOf('=')) in changes));
    const added = Object.entries(changes).flatMap(([name, value]) =>
      value === undefined ? [] : `${name}=${value}`,
    );
    return new PropertyString([...kept, ...added].join(','));
  }

  toString(): string {
    return this.#parts.join(',');
  }
}
