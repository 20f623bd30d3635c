import { DOMAIN_STATES, type DomainRef, type DomainStats, STATS_TYPE, type StatsGroup } from '../libvirt.ts';
import type { FakeDomain } from './fake-domain.ts';

/** Packs answers of allDomainStats as the native binding does; one per connection, for its keys only grow. */
export class StatsPacker {
  readonly #keys: string[] = [];
  readonly #idOf = new Map<string, number>();

  pack(
    domains: readonly FakeDomain[],
    groups: readonly StatsGroup[],
    wallMs: number,
    nowMs: number,
  ): DomainStats {
    const refs: DomainRef[] = [];
    const offsets = new Uint32Array(domains.length + 1);
    const keyIds: number[] = [];
    const types: number[] = [];
    const values: bigint[] = [];
    const strings: string[] = [];
    const put = (key: string, type: number, value: bigint) => {
      keyIds.push(this.#keyId(key));
      types.push(type);
      values.push(value);
    };
    const sink: StatsSink = {
      count: (key, value) => put(key, STATS_TYPE.ullong, BigInt(Math.floor(value))),
      int: (key, value) => put(key, STATS_TYPE.int, BigInt(value)),
      text: (key, value) => put(key, STATS_TYPE.string, BigInt(strings.push(value) - 1)),
    };
    for (const [i, domain] of domains.entries()) {
      refs.push(domain.ref);
      for (const group of groups) GROUP_WRITERS[group]?.(domain, sink, wallMs, nowMs);
      offsets[i + 1] = keyIds.length;
    }
    return {
      domains: refs,
      offsets,
      keyIds: Uint32Array.from(keyIds),
      types: Uint8Array.from(types),
      values: BigInt64Array.from(values),
      keys: this.#keys,
      strings,
    };
  }

  #keyId(key: string): number {
    let id = this.#idOf.get(key);
    if (id === undefined) {
      id = this.#keys.push(key) - 1;
      this.#idOf.set(key, id);
    }
    return id;
  }
}

interface StatsSink {
  count(key: string, value: number): void;
  int(key: string, value: number): void;
  text(key: string, value: string): void;
}

type GroupWriter = (domain: FakeDomain, sink: StatsSink, wallMs: number, nowMs: number) => void;

const GROUP_WRITERS: Partial<Record<StatsGroup, GroupWriter>> = {
  state(domain, sink) {
    sink.int('state.state', DOMAIN_STATES.indexOf(domain.state));
    sink.int('state.reason', 1);
  },
  cpuTotal(domain, sink) {
    if (domain.isActive) sink.count('cpu.time', domain.cpuNs);
  },
  balloon(domain, sink, wallMs, nowMs) {
    sink.count('balloon.current', domain.heldKib);
    sink.count('balloon.maximum', domain.bootMemoryKib);
    if (!domain.isActive) return;
    const stats = domain.memoryStats(wallMs, nowMs);
    const fields: [string, number | bigint | undefined][] = [
      ['balloon.swap_in', stats.swapInKib],
      ['balloon.swap_out', stats.swapOutKib],
      ['balloon.major_fault', stats.majorFaults],
      ['balloon.unused', stats.unusedKib],
      ['balloon.available', stats.availableKib],
      ['balloon.usable', stats.usableKib],
      ['balloon.last-update', stats.lastUpdateS],
      ['balloon.rss', stats.rssKib],
    ];
    for (const [key, value] of fields) if (value !== undefined) sink.count(key, Number(value));
  },
  vcpu(domain, sink) {
    sink.count('vcpu.current', domain.pluggedCount);
    sink.count('vcpu.maximum', domain.vcpus.length);
    if (!domain.isActive) return;
    for (const [i, vcpu] of domain.vcpus.entries()) {
      if (!vcpu.plugged) continue;
      sink.int(`vcpu.${i}.state`, vcpu.online ? 1 : 0);
      sink.count(`vcpu.${i}.time`, vcpu.runNs);
      sink.count(`vcpu.${i}.delay`, vcpu.delayNs);
    }
  },
  interface(domain, sink) {
    if (!domain.isActive) return;
    sink.count('net.count', domain.interfaces.length);
    for (const [i, nic] of domain.interfaces.entries()) {
      if (nic.type === 'user') continue;
      sink.text(`net.${i}.name`, nic.target);
      sink.count(`net.${i}.rx.bytes`, nic.rxBytes);
      sink.count(`net.${i}.tx.bytes`, nic.txBytes);
    }
  },
  block(domain, sink) {
    sink.count('block.count', domain.disks.length);
    for (const [i, disk] of domain.disks.entries()) {
      sink.text(`block.${i}.name`, disk.target);
      sink.count(`block.${i}.rd.bytes`, disk.readBytes);
      sink.count(`block.${i}.wr.bytes`, disk.writeBytes);
    }
  },
  perf(domain, sink) {
    if (!domain.isActive) return;
    for (const [event, count] of domain.perf.counts(domain.vcpus)) sink.count(`perf.${event}`, count);
  },
};
