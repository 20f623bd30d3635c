import t from 'tap';
import { eachDomain } from '../../libvirt-adapter/domain-stats.ts';
import type { DomainRef, Libvirt } from '../../libvirt-adapter/libvirt.ts';
import { PerfEvents } from '../../libvirt-adapter/perf-events.ts';
import { countedBetween, type PerfReading, perfReading } from '../../libvirt-adapter/perf-reading.ts';

/** A hypervisor on a host without a PMU, whose guests have 1 of 2 vCPUs plugged, and keep it busy. */
export interface PerfHarness {
  readonly libvirt: Libvirt;
  /** Start a guest whose definition switches `events` on. */
  start(events: readonly string[]): Promise<DomainRef>;
  wait(ms: number): Promise<void>;
  restartDaemon(): Promise<void>;
}

const LIVE = { live: true };
const STEP_MS = 2_000;

/** Cases of perf events that every hypervisor behind the adapter has to pass, as subtests. */
export function perfContract({ libvirt, start, wait, restartDaemon }: PerfHarness): void {
  const stat = async (domain: DomainRef, key: string): Promise<number | undefined> => {
    let value: number | undefined;
    eachDomain(await libvirt.allDomainStats(['perf'], { domains: [domain] }), (_, values) => {
      value = values.number(key);
    });
    return value;
  };
  const read = async (domain: DomainRef): Promise<PerfReading> => {
    let reading: PerfReading | undefined;
    eachDomain(await libvirt.allDomainStats(['cpuTotal', 'perf'], { domains: [domain] }), (_, values) => {
      reading = perfReading(values);
    });
    return reading ?? {};
  };
  const step = async (domain: DomainRef) => {
    const from = await read(domain);
    await wait(STEP_MS);
    return { from, to: await read(domain) };
  };
  const isOn = async (domain: DomainRef) =>
    Object.entries(await libvirt.getPerfEvents(domain, LIVE)).flatMap(([event, on]) => (on ? [event] : []));

  t.test('a host without a PMU is said once, and its statistics go on', async (t) => {
    const domain = await start([]);
    const reasons: string[] = [];
    const events = new PerfEvents(libvirt, { onUnsupported: (reason) => reasons.push(reason) });
    const several = await Promise.all([events.enable(domain), events.enable(domain), events.enable(domain)]);
    t.strictSame(several, [[], [], []]);
    t.equal(reasons.length, 1);
    t.match(reasons[0], /unable to open host cpu perf event for instructions/);
    t.strictSame(await isOn(domain), [], 'nothing is left on');
    const stats = await libvirt.allDomainStats(['cpuTotal', 'perf'], { domains: [domain] });
    eachDomain(stats, (_, values) => {
      t.ok((values.number('cpu.time') ?? 0) > 0);
      t.equal(perfReading(values), undefined);
    });
    await events.close();
    await libvirt.destroyDomain(domain);
  });

  t.test('somebody else has their own left on, and ours are taken back', async (t) => {
    const domain = await start([]);
    const events = new PerfEvents(libvirt, { events: ['cpu_clock'] });
    await libvirt.setPerfEvents(domain, { cpu_clock: true }, LIVE);
    t.strictSame(await events.enable(domain), ['cpu_clock']);
    t.strictSame((await isOn(domain)).sort(), ['cpu_clock', 'task_clock']);
    await events.release(domain);
    t.strictSame(await isOn(domain), ['cpu_clock']);
    await libvirt.setPerfEvents(domain, { cpu_clock: false, task_clock: true }, LIVE);
    t.strictSame(await events.enable(domain), [], 'what joined now would see other threads');
    await events.close();
    t.strictSame(await isOn(domain), ['task_clock']);
    await libvirt.destroyDomain(domain);
  });

  t.test('what is switched on while a guest runs sees the vCPUs of later', async (t) => {
    const domain = await start([]);
    const events = new PerfEvents(libvirt, { events: ['cpu_clock'] });
    t.strictSame(await events.enable(domain), ['cpu_clock']);
    const { from, to } = await step(domain);
    const usedNs = (to.usedNs ?? 0) - (from.usedNs ?? 0);
    const seenFraction = ((to.seenNs ?? 0) - (from.seenNs ?? 0)) / usedNs;
    t.ok(usedNs > 0.2 * STEP_MS * 1e6, `busy for ${usedNs / 1e6} ms`);
    t.ok(seenFraction < 0.5, `it sees ${seenFraction}`);
    t.equal(countedBetween(from, to), undefined, 'which is not taken for the guest');
    await events.close();
    t.strictSame(await isOn(domain), []);
    await libvirt.destroyDomain(domain);
  });

  t.test('what the definition switches on sees all, until the daemon starts anew', async (t) => {
    const domain = await start(['cpu_clock', 'task_clock']);
    const events = new PerfEvents(libvirt, { events: ['cpu_clock'] });
    t.strictSame(await events.enable(domain), ['cpu_clock']);
    const { from, to } = await step(domain);
    const seenFraction = ((to.seenNs ?? 0) - (from.seenNs ?? 0)) / ((to.usedNs ?? 0) - (from.usedNs ?? 0));
    t.ok(Math.abs(seenFraction - 1) < 0.05, `it sees ${seenFraction}`);
    t.strictSame(countedBetween(from, to), {}, 'which is the guest');
    const clockFraction = ((await stat(domain, 'perf.cpu_clock')) ?? 0) / ((await read(domain)).seenNs ?? 1);
    t.ok(Math.abs(clockFraction - 1) < 0.05, `one clock and the other: ${clockFraction}`);
    await restartDaemon();
    const after = await step(domain);
    t.equal(countedBetween(to, after.from), undefined, 'counts begin anew');
    t.equal(countedBetween(after.from, after.to), undefined, 'and see the vCPUs no more');
    await events.close();
    t.strictSame((await isOn(domain)).sort(), ['cpu_clock', 'task_clock'], 'they were not ours');
    await libvirt.destroyDomain(domain);
  });
}
