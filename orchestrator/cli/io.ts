/** What a command may touch of its process: two streams, the environment and an interrupt. */
export interface Io {
  /** The result, once. */
  readonly out: (text: string) => void;
  /** Everything else. */
  readonly err: (text: string) => void;
  /** True when a person watches `err`: progress may be shown there. */
  readonly errIsTerminal?: boolean;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Aborted by Ctrl-C. */
  readonly signal: AbortSignal;
  /** From now on the signal calls `listener`, each time, and no longer ends the process; absent where there are none. */
  readonly onSignal?: (name: NodeJS.Signals, listener: () => void) => void;
}

/** How a result is printed: as a document for programs, or as text for people. */
export interface Answer {
  /** Printed by `--json`; keys in snake_case. */
  readonly document: unknown;
  readonly text: string;
}

export function printAnswer(io: Io, json: boolean | undefined, answer: Answer): void {
  io.out(json ? `${JSON.stringify(answer.document, null, 2)}\n` : `${answer.text}\n`);
}

/** Exit codes of every command. */
export const EXIT = { done: 0, failed: 1, wrongUsage: 2 } as const;

/** A command that ended without an exception, and yet did not succeed; its answer has been printed. */
export class Unsuccessful extends Error {
  override readonly name = 'Unsuccessful';
  readonly exitCode: number;

  constructor(message?: string, exitCode: number = EXIT.failed) {
    super(message);
    this.exitCode = exitCode;
  }
}
