import { createHash } from 'node:crypto';
import { defaultConfig } from '../../orchestrator/config.ts';
import { enginePolicy } from '../../orchestrator/engine-policy.ts';
import { ParametricForecaster } from '../../orchestrator/forecast/parametric-forecaster.ts';
import { MemoryLedger } from '../../orchestrator/ledger/memory-ledger.ts';
import { Replay, type ReplayParts, type ReplayResult } from '../../orchestrator/replay/replay.ts';
import { type Recorded, surveyStretch } from '../../orchestrator/replay/shadow-rows.ts';
import type { StretchChoice } from '../../orchestrator/replay/stretch.ts';

/** One record of a decision log. */
export type LogRecord = Readonly<Record<string, unknown>> & {
  readonly at_ms: number;
  readonly record: string;
};

export interface Played {
  readonly text: string;
  readonly records: readonly LogRecord[];
  readonly result: ReplayResult;
}

/** Play a stretch of a store with the product's defaults. */
export async function play(
  shadow: Recorded,
  choice: StretchChoice = {},
  more: Partial<ReplayParts> = {},
  signal = new AbortController().signal,
): Promise<Played> {
  let text = '';
  const stretch = await surveyStretch(shadow, choice);
  const result = await new Replay({
    shadow,
    stretch,
    forecaster: await ParametricForecaster.create(),
    ledger: new MemoryLedger(),
    policy: enginePolicy(defaultConfig()),
    speed: Number.POSITIVE_INFINITY,
    forecastEveryMs: 600_000,
    sink: (line) => {
      text += line;
    },
    ...more,
  }).run(signal);
  const records = text
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as LogRecord);
  return { text, records, result };
}

export function digestOf(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
