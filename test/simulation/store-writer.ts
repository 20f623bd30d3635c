// The process that is killed: writes samples as fast as they are acknowledged, seals and merges all the while, and says
// "N" on stdout once every sample up to N is.
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { DiskShadowStore } from '../../orchestrator/store/store.ts';

/** Guests that are written in turn. */
export const GUESTS = 5;
/** Samples between two acknowledgements. */
const BURST = 200;
/** Noon and on, a second a sample: days change under way. */
export const FROM_MS = Date.UTC(2026, 0, 31, 23, 30);

async function maintainForEver(store: DiskShadowStore): Promise<never> {
  for (;;) {
    await store.maintain();
    await sleep(10);
  }
}

const [, , directory, first] = process.argv;
if (directory !== undefined && import.meta.filename === process.argv[1]) {
  const store = DiskShadowStore.open({ directory });
  const layout = store.layout(['n']);
  const context = (i: number, request: number) =>
    store.context({ guest: `g${i}`, host: 'h1', axis: 'seconds', requestId: `r${request}` });
  writeSync(1, 'open\n');
  void maintainForEver(store);
  for (let n = Number(first); ; ) {
    const contexts = Array.from({ length: GUESTS }, (_, i) => context(i, n));
    for (const end = n + BURST; n < end; n += 1) {
      const of = contexts[n % GUESTS];
      if (of !== undefined) layout.append(of, FROM_MS + n * 1000, 1000, Number.NaN, 0, [n]);
    }
    await store.flush();
    writeSync(1, `${n - 1}\n`);
  }
}
