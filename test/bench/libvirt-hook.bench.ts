// What libvirt's hook costs a start: the program, allowed by a service with a ledger on disk, beside `/bin/true`; and, where real
// guests can be had, `virsh start` with no hook, with `/bin/true` as hook, with the service away and with it there. Rounds are
// interleaved, so that whatever else the machine does meets all alike. Prints one JSON document.
import { spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { labUnavailableReason } from '../../libvirt-adapter/lab/requirements.ts';
import { installHook } from '../../orchestrator/cli/hook-files.ts';
import { FAKE_SERVICE } from '../contract/fake-service.ts';
import { HookStage, requestXml } from '../e2e/hook-stage.ts';
import { recordFigure } from '../figures.ts';

const CALLS = 200;
const STARTS = Number(process.env.FORESHADE_STARTS ?? 7);
/** What a hook may take beyond one that does nothing, ms. */
const HOOK_MS_MAX = 20;
/** How much slower a start may be for a service that is away, ms. */
const AWAY_MS_MAX = 300;

function quantile(times: readonly number[], level: number): number {
  const sorted = [...times].sort((a, b) => a - b);
  return Number((sorted[Math.floor(level * (sorted.length - 1))] ?? Number.NaN).toFixed(2));
}

const told = (times: readonly number[]) => ({ p50Ms: quantile(times, 0.5), p95Ms: quantile(times, 0.95) });

/** Run a program with a domain on its stdin. @returns ms */
function timed(program: string, operation: string, xml: string): number {
  const beganAt = performance.now();
  const { status } = spawnSync(program, ['bench', operation, 'begin', '-'], { input: xml });
  const ms = performance.now() - beganAt;
  if (status !== 0) throw new Error(`${program} ${operation} ended with ${status}`);
  return ms;
}

async function ofProgram() {
  const folder = mkdtempSync(join(tmpdir(), 'fs-hook-bench-'));
  const service = spawn(process.execPath, [FAKE_SERVICE, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(service.stdout, 'data');
  const settings = { deadlineMs: 2000, policy: 'require', requireWaitMs: 2000 } as const;
  installHook(folder, { socket: join(folder, 'foreshade.http.sock'), ...settings });
  const hook = join(folder, 'etc/libvirt/hooks/qemu.d/50-foreshade');
  const xml = `<domain type='kvm'><name>bench</name><uuid>${randomUUID()}</uuid><metadata>${requestXml("workload='render'")}</metadata>
    <memory unit='MiB'>512</memory><currentMemory unit='MiB'>128</currentMemory><vcpu current='1'>2</vcpu>
    <devices>${"<disk type='file' device='disk'><target dev='vda'/></disk>".repeat(100)}<memballoon model='virtio'/></devices></domain>`;
  const [nothing, prepare, release]: number[][] = [[], [], []];
  for (let call = 0; call < CALLS; call += 1) {
    nothing?.push(timed('/bin/true', 'prepare', xml));
    prepare?.push(timed(hook, 'prepare', xml));
    release?.push(timed(hook, 'release', xml));
  }
  service.kill();
  await once(service, 'exit');
  rmSync(folder, { recursive: true, force: true });
  return {
    calls: CALLS,
    true: told(nothing ?? []),
    prepare: told(prepare ?? []),
    release: told(release ?? []),
  };
}

async function ofStarts() {
  const stage = await HookStage.set((line) => process.stderr.write(`${line}\n`));
  try {
    stage.install();
    await stage.lab.restartDaemon();
    await stage.define('bench');
    const times: Record<string, number[]> = { none: [], true: [], away: [], there: [] };
    for (let round = 0; round <= STARTS; round += 1) {
      for (const [how, list] of Object.entries(times)) {
        stage.replaceBy(how === 'true' ? '#!/bin/true\n' : undefined);
        if (how === 'away' || how === 'there') stage.install();
        if (how === 'there') await stage.serve();
        const ms = await stage.start('bench');
        await stage.destroy('bench');
        if (how === 'there') await stage.stopService();
        // The first start reads what QEMU can do.
        if (round > 0) list.push(ms);
      }
    }
    return Object.fromEntries(Object.entries(times).map(([how, list]) => [how, told(list)]));
  } finally {
    await stage.close();
  }
}

const program = await ofProgram();
const beyondMs = Number((program.prepare.p50Ms - program.true.p50Ms).toFixed(2));
recordFigure({
  bar: 'libvirt-hook-beyond-true',
  value: beyondMs,
  limit: `at most ${HOOK_MS_MAX} ms beyond /bin/true, median of ${CALLS} starts that were allowed`,
  met: beyondMs <= HOOK_MS_MAX,
});
const unavailable = labUnavailableReason();
const starts = unavailable === undefined ? await ofStarts() : unavailable;
if (typeof starts !== 'string') {
  const slowerMs = Number(
    ((starts.away?.p50Ms ?? Number.NaN) - (starts.none?.p50Ms ?? Number.NaN)).toFixed(1),
  );
  recordFigure({
    bar: 'virsh-start-with-service-away',
    value: slowerMs,
    limit: `less than ${AWAY_MS_MAX} ms slower than without a hook, median of ${STARTS} starts each`,
    met: slowerMs < AWAY_MS_MAX,
  });
}
process.stdout.write(`${JSON.stringify({ beyondMs, program, starts }, null, 2)}\n`);
