// The service over a hypervisor in memory, in a process of its own: `node fake-service.js FOLDER [HOST [REPORT_TO]]`. Its ledger
// stays in the folder, so that it can be killed and started again. Says one line once it serves; SIGTERM ends it in order.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { FakeLibvirt } from '../../libvirt-adapter/fake/fake-libvirt.ts';
import { FakeReadings } from '../../libvirt-adapter/fake/fake-readings.ts';
import { parseConfig } from '../../orchestrator/config.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { LmdbLedger } from '../../orchestrator/ledger/lmdb-ledger.ts';
import { serveOn } from '../../orchestrator/main.ts';

export const FAKE_SERVICE = fileURLToPath(import.meta.url);
/** The one guest: 1 of 4 vCPUs, 2 GiB. */
export const FAKE_GUEST = 'alpha';

/** Where the service of a folder is reached by gRPC. */
export function socketIn(folder: string): string {
  return join(folder, 'foreshade.sock');
}

async function serve(folder: string, host = 'vm', reportTo?: string): Promise<void> {
  const placement = reportTo === undefined ? '' : `[placement]\nreport_to = ${JSON.stringify(reportTo)}\n`;
  const text = `${placement}[host]\nname = ${JSON.stringify(host)}\nmode = "enforce"\n[service]\nsocket = ${JSON.stringify(socketIn(folder))}`;
  const config = parseConfig(text, 'the test');
  const libvirt = new FakeLibvirt({ host: { cpus: 8, memoryKib: 8 * 1024 * 1024 } });
  libvirt.addGuest({
    name: FAKE_GUEST,
    vcpusMax: 4,
    vcpusPlugged: 1,
    bootMemoryKib: 2048 * 1024,
    agent: 'answers',
    onlineDelayMs: 0,
  });
  const ledger = LmdbLedger.open(join(folder, 'ledger'));
  const foundation = {
    libvirt,
    readings: new FakeReadings(libvirt),
    forecaster: await ParametricForecaster.create(),
    ledger,
  };
  const running = await serveOn(config, foundation, { debug() {}, info() {}, warn() {}, error() {} });
  await running.engine.adopt(FAKE_GUEST, 'enforce');
  process.once('SIGTERM', async () => {
    await running.stop();
    await ledger.close();
    process.exit(0);
  });
  process.stdout.write('serving\n');
}

const [, program, folder, host, reportTo] = process.argv;
if (program === FAKE_SERVICE && folder !== undefined) await serve(folder, host, reportTo);
