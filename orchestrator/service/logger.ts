/** What the service writes to: pino's shape, so that a test needs no logger. Records first, then a sentence. */
export interface ServiceLogger {
  info(record: object, message: string): void;
  warn(record: object, message: string): void;
  error(record: object, message: string): void;
}
