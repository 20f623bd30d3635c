import type { DomainRef, DomainStats } from '../libvirt.ts';
import type { RawDomains, RawStats } from './native.ts';

/** The domains of a raw answer, in its order. */
export function decodeDomains(raw: RawDomains): DomainRef[] {
  const fields = raw === '' ? [] : raw.split('\0');
  const domains: DomainRef[] = [];
  for (let i = 0; i + 2 < fields.length; i += 3) {
    domains.push({ uuid: fields[i] ?? '', name: fields[i + 1] ?? '', id: Number(fields[i + 2]) });
  }
  return domains;
}

/** Keeps what the answers of one lane share, so that an answer costs the JavaScript thread next to nothing. */
export class StatsDecoder {
  readonly #keys: string[] = [];
  #lastDomains: { raw: RawDomains; decoded: readonly DomainRef[] } = { raw: '', decoded: [] };

  /** Must see every answer of its lane, in order: the addon names each key once. */
  decode(raw: RawStats): DomainStats {
    if (raw.newKeyCount > 0) {
      for (const key of raw.newKeys.split('\0')) this.#keys.push(key);
    }
    if (raw.domains !== this.#lastDomains.raw) {
      this.#lastDomains = { raw: raw.domains, decoded: decodeDomains(raw.domains) };
    }
    return new PackedDomainStats(raw, this.#lastDomains.decoded, this.#keys);
  }
}

class PackedDomainStats implements DomainStats {
  readonly domains: readonly DomainRef[];
  readonly offsets: Uint32Array;
  readonly keyIds: Uint32Array;
  readonly types: Uint8Array;
  readonly values: BigInt64Array;
  readonly keys: readonly string[];
  readonly #rawStrings: string;
  readonly #stringCount: number;
  #strings: readonly string[] | undefined;

  constructor(raw: RawStats, domains: readonly DomainRef[], keys: readonly string[]) {
    this.domains = domains;
    this.offsets = raw.offsets;
    this.keyIds = raw.keyIds;
    this.types = raw.types;
    this.values = raw.values;
    this.keys = keys;
    this.#rawStrings = raw.strings;
    this.#stringCount = raw.stringCount;
  }

  /** Split when first read: a sampler that wants numbers never pays for it. */
  get strings(): readonly string[] {
    this.#strings ??= this.#stringCount === 0 ? [] : this.#rawStrings.split('\0');
    return this.#strings;
  }
}
