import type { Telemetry } from '../core/ports.ts';
import type { GuestSample, InstructionReading } from '../core/sample.ts';

/** Gives recorded samples out as if they were taken now. */
export class RecordedTelemetry implements Telemetry {
  readonly #listeners = new Set<(sample: GuestSample) => void>();
  readonly #executed = new Map<string, InstructionReading>();
  #runs = 0;

  emit(sample: GuestSample): void {
    if (sample.instructionsAt !== undefined) this.#count(sample.guest, sample.instructionsAt);
    for (const listener of this.#listeners) listener(sample);
  }

  onSample(listener: (sample: GuestSample) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  watch(): void {
    // The samples are what they are.
  }

  instructions(guest: string): InstructionReading | undefined {
    return this.#executed.get(guest);
  }

  async close(): Promise<void> {}

  /** A count that goes back is that of a guest that was started anew. */
  #count(guest: string, total: number): void {
    const before = this.#executed.get(guest);
    if (before === undefined || total < before.total) this.#runs += 1;
    const run = before === undefined || total < before.total ? String(this.#runs) : before.run;
    this.#executed.set(guest, { run, total });
  }
}
