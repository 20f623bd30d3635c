/**
 * A process that keeps every lane busy until its standard input ends, for a test that stops the daemon under it. Writes
 * a line for each connection change, and `sampled` for the first good sample after each.
 */
import { setTimeout as sleep } from 'node:timers/promises';

import { LibvirtError } from '../../libvirt-adapter/libvirt.ts';
import { NativeLibvirt } from '../../libvirt-adapter/native/connection.ts';

/** Pause after a refused call, so that a lost connection is not asked in a spin. */
const REFUSED_PAUSE_MS = 20;

const [uri = ''] = process.argv.slice(2);
const libvirt = await NativeLibvirt.open(uri, {
  keepalive: { intervalS: 1, count: 1 },
  timeoutsMs: { stats: 500, control: 500, slow: 500 },
});
const domains = await libvirt.listDomains();
let isStopping = false;
let isSampleAwaited = true;

process.stdin.resume().once('end', () => {
  isStopping = true;
});
libvirt.onConnection(({ state }) => {
  isSampleAwaited = true;
  process.stdout.write(`${state}\n`);
});

/** Refusals are the point of this load; anything but a LibvirtError is a fault of ours and ends the process. */
async function repeat(call: () => Promise<unknown>): Promise<void> {
  while (!isStopping) {
    try {
      await call();
    } catch (error) {
      if (!(error instanceof LibvirtError)) throw error;
      await sleep(REFUSED_PAUSE_MS);
    }
  }
}

await Promise.all([
  repeat(async () => {
    await libvirt.allDomainStats(['state', 'cpuTotal', 'balloon']);
    if (isSampleAwaited && libvirt.connection.state === 'connected') {
      isSampleAwaited = false;
      process.stdout.write('sampled\n');
    }
  }),
  ...domains.map((domain) => repeat(() => libvirt.domainXml(domain))),
  ...domains.map((domain) => repeat(() => libvirt.qemuMonitorCommand(domain, '{"execute":"query-status"}'))),
]);
await libvirt.close();
