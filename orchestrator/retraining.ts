import { spawn } from 'node:child_process';
import { rm } from 'node:fs/promises';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { servedVersion } from '../models/files/current-version.ts';
import { readManifest, versionsIn } from '../models/files/model-file.ts';
import type { Config } from './config.ts';
import type { Log } from './engine/log.ts';
import { packagePath } from './package-path.ts';

/** Longest that a training may take: it must be over before people come to work. */
const RUN_MS_MAX = 4 * 3600 * 1000;
/** What is kept of what it prints: an answer is a few KiB. */
const OUTPUT_CHARS_MAX = 1 << 20;
/** The lowest priority there is: whatever answers somebody goes first. */
const NICENESS = 19;
/** How a set made of a record is called: what was learned from one is ours to remove. */
const RECORD_NAME = /^shadow until /;

/** The next moment at a time of the day by the host's clock, ms since epoch, after `nowMs`. @param time such as "03:30" */
export function nextAtMs(nowMs: number, time: string): number {
  const [hours = 0, minutes = 0] = time.split(':').map(Number);
  const next = new Date(nowMs);
  next.setHours(hours, minutes, 0, 0);
  if (next.getTime() <= nowMs) next.setDate(next.getDate() + 1);
  return next.getTime();
}

/** What a training answers, as far as it is read here. */
interface Answer {
  readonly model: string;
  readonly version: number;
  readonly promotion?: { readonly promoted: boolean; readonly champion: number; readonly CRPS_ratio: number };
}

/** How a run ended. */
export type RetrainingOutcome =
  | { readonly kind: 'promoted' | 'not-better'; readonly label: string; readonly ratio: number }
  | { readonly kind: 'first'; readonly label: string }
  | { readonly kind: 'failed'; readonly reason: string };

/** What a run is made of; tests give a program of their own. */
export interface RetrainingParts {
  readonly config: Pick<Config, 'model' | 'stateDir'>;
  readonly log: Log;
  /** The program and its first parameters. */
  readonly program?: readonly [string, ...string[]];
}

/**
 * Once a day, a version of the model trained on the record by a process of its own, which lets it serve only if it is better on
 * the record's last day than what serves.
 */
export class Retraining {
  readonly #parts: RetrainingParts;
  readonly #home: string;
  #timer: NodeJS.Timeout | undefined;
  #stop = new AbortController();
  #running: Promise<RetrainingOutcome> | undefined;

  constructor(parts: RetrainingParts) {
    const { model, stateDir } = parts.config;
    this.#parts = parts;
    this.#home = join(model.folder ?? join(stateDir, 'models'), model.name);
  }

  /** Wait for each day's time, if the configuration names one. */
  start(): void {
    const { retrainAt } = this.#parts.config.model;
    if (retrainAt === undefined) return;
    const atMs = nextAtMs(Date.now(), retrainAt);
    this.#parts.log.info({ at: new Date(atMs).toISOString() }, 'a model will be trained on the record');
    this.#timer = setTimeout(() => {
      void this.run();
      this.start();
    }, atMs - Date.now()).unref();
  }

  /** Train and challenge now; while one is under way, that one. */
  async run(): Promise<RetrainingOutcome> {
    this.#running ??= this.#run().finally(() => {
      this.#running = undefined;
    });
    return await this.#running;
  }

  /** End the wait and what is under way. */
  async stop(): Promise<void> {
    clearTimeout(this.#timer);
    this.#stop.abort();
    await this.#running;
  }

  async #run(): Promise<RetrainingOutcome> {
    const { log } = this.#parts;
    const outcome = await this.#train().catch(
      (cause: unknown): RetrainingOutcome => ({ kind: 'failed', reason: String(cause) }),
    );
    if (outcome.kind === 'failed') log.warn(outcome, 'the model was not trained on the record');
    else log.info(outcome, 'a model was trained on the record');
    await this.#dropLosers().catch((err: unknown) =>
      log.warn({ err }, 'versions that lost were not removed'),
    );
    return outcome;
  }

  async #train(): Promise<RetrainingOutcome> {
    const { config, program = [process.execPath, packagePath(join('bin', 'foreshade.js'))] } = this.#parts;
    const [command, ...first] = program;
    const models = config.model.folder ?? join(config.stateDir, 'models');
    const record = join(config.stateDir, 'shadow');
    const { name } = config.model;
    const wanted = ['train', '--shadow', record, '--out', name, '--models', models, '--promote', '--json'];
    const { code, out, err } = await this.#runProgram(command, [...first, ...wanted]);
    const answer = answerOf(out);
    if (answer === undefined) {
      const last = err.trim().split('\n').at(-1);
      return { kind: 'failed', reason: last || `it ended with ${code}` };
    }
    const label = `${answer.model}@${answer.version}`;
    if (answer.promotion === undefined) return { kind: 'first', label };
    const { promoted, CRPS_ratio: ratio } = answer.promotion;
    return { kind: promoted ? 'promoted' : 'not-better', label, ratio };
  }

  async #runProgram(command: string, parameters: readonly string[]) {
    const signal = AbortSignal.any([this.#stop.signal, AbortSignal.timeout(RUN_MS_MAX)]);
    signal.throwIfAborted();
    const child = spawn(command, parameters, { stdio: ['ignore', 'pipe', 'pipe'], signal });
    if (child.pid !== undefined) setPriority(child.pid, NICENESS);
    let [out, err] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out = (out + text).slice(0, OUTPUT_CHARS_MAX);
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      err = (err + text).slice(-OUTPUT_CHARS_MAX);
    });
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    return { code, out, err };
  }

  /** Remove the versions after the one that serves that were trained on a record: they have lost. */
  async #dropLosers(): Promise<void> {
    const serves = await servedVersion(this.#home);
    if (serves === undefined) return;
    for (const version of await versionsIn(this.#home)) {
      if (version <= serves) continue;
      const path = join(this.#home, String(version));
      const { data } = await readManifest(path);
      if (data.every(({ name }) => RECORD_NAME.test(name))) await rm(path, { recursive: true });
    }
  }
}

/** The document on stdout; undefined: there is none that tells of a model, for the program failed. */
function answerOf(out: string): Answer | undefined {
  try {
    const answer = JSON.parse(out) as Partial<Answer>;
    return typeof answer.version === 'number' ? (answer as Answer) : undefined;
  } catch {
    return undefined;
  }
}
