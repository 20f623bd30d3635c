import type { Clock, Forecaster } from '../core/ports.ts';
import type { GuestGroup } from '../core/scale.ts';
import { foreseenLevel, standingGuests } from '../core/standing-capacity.ts';
import type { GuestGroups } from './guest-groups.ts';
import type { EnginePolicy } from './policy.ts';

/** A forecast of the long track changes with its bins of five minutes; half a minute late is not late. */
const FORESEE_EVERY_MS = 30_000;
/** A group's demand is kept in the forecaster under its name, apart from those of guests: a UUID has no colon. */
const SERIES_PREFIX = 'group:';

export interface StandingCapacityParts {
  readonly clock: Clock;
  readonly forecaster: Forecaster;
  readonly groups: GuestGroups;
  readonly policy: Pick<EnginePolicy, 'scale' | 'tickMs'>;
}

/**
 * How many guests of each group are to run. A group's demand is the CPU ceilings of its guests at work, forecast as if it were the
 * usage of one guest: so what no guest can share counts as the forecaster's experts, seasons included, see it.
 */
export class StandingCapacity {
  readonly #parts: StandingCapacityParts;
  readonly #foreseen = new Map<string, { readonly atMs: number; readonly millicores: number | undefined }>();

  constructor(parts: StandingCapacityParts) {
    this.#parts = parts;
  }

  /** Take in who is at work; once a tick. */
  note(group: GuestGroup): void {
    if (group.level === undefined) return;
    const { clock, forecaster, groups, policy } = this.#parts;
    const atWork = groups.members(group).filter((guest) => groups.isAtWork(guest));
    forecaster.observe({
      guest: SERIES_PREFIX + group.name,
      atMs: clock.nowMs(),
      periodMs: policy.tickMs,
      cadence: 'full',
      usage: { cpuMillicores: atWork.reduce((sum, { facts }) => sum + facts.ceiling.cpuMillicores, 0) },
      flags: [],
    });
  }

  wanted(group: GuestGroup): number {
    const { groups } = this.#parts;
    const members = groups.members(group);
    const sizes = members.map(({ facts }) => facts.ceiling.cpuMillicores);
    const atWork = members.filter((guest) => groups.isAtWork(guest)).length;
    return standingGuests(sizes, atWork, group.spare, this.#foresee(group, sizes));
  }

  #foresee({ name, level }: GuestGroup, sizes: readonly number[]): number | undefined {
    if (level === undefined) return undefined;
    const { clock, forecaster, policy } = this.#parts;
    const nowMs = clock.nowMs();
    const known = this.#foreseen.get(name);
    if (known !== undefined && Math.abs(nowMs - known.atMs) < FORESEE_EVERY_MS) return known.millicores;
    const forecast = forecaster.forecast({
      guest: SERIES_PREFIX + name,
      axis: 'seconds',
      track: 'long',
      originMs: nowMs,
      ceiling: { cpuMillicores: sizes.reduce((sum, size) => sum + size, 0) },
    });
    // What is started is there after its boot, and stays for a cooldown.
    const horizonMs = (policy.scale?.bootMs ?? 0) + (policy.scale?.cooldownMs ?? 0);
    const millicores = foreseenLevel(forecast, 'cpuMillicores', level, nowMs, horizonMs);
    this.#foreseen.set(name, { atMs: nowMs, millicores });
    return millicores;
  }
}
