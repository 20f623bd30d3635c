// The process that loses its power: commits as fast as it can, and says on stdout "LANE N" once commit N of a lane is
// acknowledged. Each commit writes two keys, so that half of one would show.
import { writeSync } from 'node:fs';
import { LmdbLedger } from '../../orchestrator/ledger/lmdb-ledger.ts';

/** Commits under way at once. */
export const LANES = 6;
/** Bytes of a value at most: some take several pages. */
const PAD_BYTES_MAX = 9_000;

/** The two keys of a lane. */
export function laneKeys(lane: number): [string, string] {
  return [`lease/${lane}`, `guest/${lane}`];
}

async function commitForEver(ledger: LmdbLedger, lane: number): Promise<never> {
  for (let n = 1; ; n += 1) {
    const value = { n, pad: 'x'.repeat((n * 7919 * (lane + 1)) % PAD_BYTES_MAX) };
    await ledger.commit(laneKeys(lane).map((key) => ({ key, value, ifVersion: n - 1 })));
    writeSync(1, `${lane} ${n}\n`);
  }
}

const [, , directory] = process.argv;
if (directory !== undefined && import.meta.filename === process.argv[1]) {
  const ledger = LmdbLedger.open(directory);
  await Promise.all(Array.from({ length: LANES }, (_, lane) => commitForEver(ledger, lane)));
}
