type Write = (record: Readonly<Record<string, unknown>>, message: string) => void;

/** What the engine asks of a logger; pino's is one. */
export interface Log {
  readonly debug: Write;
  readonly info: Write;
  readonly warn: Write;
  readonly error: Write;
}
