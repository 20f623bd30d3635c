import type { LogDamage, ShadowErrorCode } from '../core/shadow.ts';
import type { DatabaseLimits } from './database.ts';
import type { SealedFile, Tier } from './manifest.ts';

/** What a worker is started with, as JSON in its first argument. */
export interface WorkerOptions {
  readonly directory: string;
  readonly limits: DatabaseLimits;
  /** Folders it may read beside the store's. */
  readonly alsoBelow?: readonly string[];
  /** Nobody waits for what it does: it takes what the service's own threads leave of the processors. */
  readonly yields?: boolean;
}

/** Files made for a manifest that is still to be published: below the store's folder, synced, and named for good. */
export interface Made {
  readonly files: readonly SealedFile[];
}

/** What a worker can be asked. */
export type Ask =
  | { readonly kind: 'query'; readonly sql: string }
  | {
      readonly kind: 'export';
      readonly sql: string;
      readonly format: 'parquet' | 'csv';
      readonly path: string;
    }
  | { readonly kind: 'count-log' }
  /** `hasTime`: the log is not outgrowing it, so that it may rest while somebody is answered. */
  | { readonly kind: 'seal'; readonly through: number; readonly hasTime: boolean }
  | { readonly kind: 'merge'; readonly tier: Tier; readonly files: readonly SealedFile[] }
  | { readonly kind: 'roll-up'; readonly tier: 'minute' | 'hour'; readonly files: readonly SealedFile[] }
  | { readonly kind: 'erase'; readonly file: SealedFile; readonly tenant: string }
  | { readonly kind: 'load-set'; readonly set: string };

/** What it answers to each. */
export interface Answers {
  /** `last`: the end of the result, which for most is all of it. */
  readonly query: { readonly last: Uint8Array };
  readonly export: { readonly rows: number };
  readonly 'count-log': {
    readonly rows: number;
    readonly damage: readonly LogDamage[];
    readonly orphans: number;
  };
  readonly seal: Made & {
    readonly sealedSequence: number;
    readonly damage: readonly LogDamage[];
    readonly orphans: number;
  };
  readonly merge: Made;
  readonly 'roll-up': Made;
  /** `held`: the tenant stood in the file; `files` is what is left of it, if anything. */
  readonly erase: Made & { readonly held: boolean };
  readonly 'load-set': Made & { readonly name: string; readonly rows: number };
}

export type ToWorker =
  | { readonly id: number; readonly ask: Ask }
  | { readonly id: number; readonly more: true }
  | { readonly id: number; readonly stop: true };

export type FromWorker =
  | { readonly id: number; readonly piece: Uint8Array }
  | { readonly id: number; readonly answer: Answers[Ask['kind']] }
  | { readonly id: number; readonly failure: { readonly code: ShadowErrorCode; readonly message: string } };
