// Goal: one day of an imported set, played twice, gives byte-identical decision logs. Method: real recordings, imported as
// anybody would, into a store in a temporary folder; each day is played by an engine and a forecaster of its own.
import { join } from 'node:path';
import t from 'tap';
import type { StretchChoice } from '../../orchestrator/replay/stretch.ts';
import { recordFigure } from '../figures.ts';
import { digestOf, play } from '../unit/replay-fixture.ts';
import { newStore } from '../unit/store-fixture.ts';

const DATA = process.env.FORESHADE_DATA;
const skip = DATA === undefined && 'FORESHADE_DATA is not set';
const DAY_MS = 86_400_000;

/** Days with what the sets' own units are in the engine's; a core of the first is one of 2.6 GHz. */
const DAYS: readonly {
  readonly set: string;
  readonly from: string;
  readonly usage: StretchChoice['usage'];
}[] = [
  {
    set: 'bitbrains_rnd_2013_08',
    from: '2013-08-10',
    usage: {
      cpuMillicores: 'cpu_mhz / 2.6',
      memoryBytes: 'mem_kb * 1024',
      diskReadBytesPerS: 'disk_r_kbs * 1000',
      diskWriteBytesPerS: 'disk_w_kbs * 1000',
      netRxBytesPerS: 'net_rx_kbs * 1000',
      netTxBytesPerS: 'net_tx_kbs * 1000',
    },
  },
  {
    set: 'nextflow_dev',
    from: '2024-05-26',
    usage: { cpuMillicores: 'used_cpu_pct * 10', memoryBytes: 'used_peak_rss_bytes' },
  },
];

for (const { set, from, usage } of DAYS) {
  t.test(`a day of ${set}, twice`, { skip }, async (t) => {
    const store = newStore(t);
    await store.importSet(join(DATA ?? '', set));
    const fromMs = Date.parse(from);
    const choice = { fromMs, toMs: fromMs + DAY_MS, ...(usage && { usage }) };
    const once = await play(store, choice);
    const again = await play(store, choice);
    const isSame = once.text === again.text;
    t.ok(isSame, 'byte-identical decision logs');
    t.strictSame(
      [once, again].map(({ result }) => result.sha256),
      [once, again].map(({ text }) => digestOf(text)),
    );
    const { samples, requests, decisions, ends, forecasts, seconds } = once.result;
    t.ok(samples > 1000 && decisions + forecasts > 1000, 'of a day in which something was decided');
    t.comment(
      `${samples} samples, ${requests} requests: ${decisions} decisions, ${ends} ends, ${forecasts} forecasts, ${once.text.length} bytes, sha256 ${once.result.sha256}`,
    );
    t.comment(`${seconds.toFixed(2)} s and ${again.result.seconds.toFixed(2)} s`);
    recordFigure({
      bar: `replay-day-twice-${set.split('_')[0]}`,
      value: isSame ? 0 : 1,
      limit: `0 differing logs of ${once.text.length} bytes; played in ${seconds.toFixed(1)} s`,
      met: isSame,
    });
  });
}
