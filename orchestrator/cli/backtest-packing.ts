import { resolve } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { Command, InvalidArgumentError, Option } from 'commander';
import {
  drawFleet,
  type FleetGuest,
  type HostSize,
  SHIFT_BINS,
  type Shift,
} from '../../models/backtest/packing/fleet.ts';
import { DIRECTIONS, playPacking } from '../../models/backtest/packing/pack.ts';
import { type PackingRow, packingCells } from '../../models/backtest/packing/packing-rows.ts';
import { PACKING_RULES } from '../../models/backtest/packing/rules.ts';
import { packingReport } from '../../models/report/packing-report.ts';
import { Random } from '../../models/train/random.ts';
import { type GuestSet, readGuestSet } from './backtest-guest-set.ts';
import { type Io, printAnswer } from './io.ts';
import { Progress } from './progress.ts';
import { parseCount } from './quantities.ts';
import { table } from './table.ts';
import { checkPlace, writeWhole } from './whole-file.ts';

interface PackingOptions {
  readonly data: string;
  readonly hostCores: number;
  readonly hostCoreMhz: number;
  readonly hostMemoryGib: number;
  readonly fleet?: number;
  readonly shift: Shift;
  readonly seed: number;
  readonly report?: string;
  readonly json?: boolean;
}

/** Most guests drawn: each keeps its month in memory. */
const FLEET_MAX = 5_000;
const KIB_PER_MIB = 1024;
const MIB_PER_GIB = 1024;

/** `foreshade backtest packing`: how many hosts a recorded fleet would have needed, and how often they would have been too few. */
export function packingCommand(io: Io): Command {
  return new Command('packing')
    .description('A recorded fleet on hosts: planned on one half of its month and judged on the other')
    .requiredOption('--data <folder>', 'the set of guests')
    .option('--host-cores <count>', 'cores of a host', parseCount, 32)
    .option('--host-core-mhz <mhz>', 'speed of a core', parseCount, 2600)
    .option('--host-memory-gib <gib>', 'memory of a host', parseCount, 256)
    .option('--fleet <guests>', 'so many guests, drawn from the set with replacement', parseFleet)
    .addOption(
      new Option('--shift <unit>', 'by whole units of which drawn guests are moved round their month')
        .choices(Object.keys(SHIFT_BINS))
        .default('days'),
    )
    .option('--seed <number>', 'of what is drawn', parseCount, 1)
    .option('--report <file>', 'write what was found as one HTML file')
    .option('--json', 'print exactly one JSON document on stdout')
    .addHelpText(
      'after',
      `
Examples:
  $ foreshade backtest packing --data sets/august --host-cores 8 --host-memory-gib 64
  $ foreshade backtest packing --data sets/august --fleet 1000 --shift hours --seed 2 --json
  $ foreshade backtest packing --data sets/august --report packing.html`,
    )
    .action(async (options: PackingOptions) => backtestPacking(io, options));
}

function parseFleet(text: string): number {
  const count = parseCount(text);
  if (count > FLEET_MAX) throw new InvalidArgumentError(`It is at most ${FLEET_MAX}.`);
  return count;
}

async function backtestPacking(io: Io, options: PackingOptions): Promise<void> {
  const began = performance.now();
  const { report } = options;
  if (report !== undefined) checkPlace(report);
  if (io.errIsTerminal) io.err(`reading ${options.data}\n`);
  const set = await readGuestSet(resolve(options.data));
  const recorded = fleetOf(set);
  const random = new Random(options.seed);
  const fleet =
    options.fleet === undefined
      ? recorded
      : drawFleet(recorded, options.fleet, options.shift, (count) => random.below(count));
  const host: HostSize = {
    cpu: options.hostCores * options.hostCoreMhz,
    memory: options.hostMemoryGib * MIB_PER_GIB,
  };
  const rows = await playRules(io, fleet, host);
  const seconds = (performance.now() - began) / 1000;
  if (report !== undefined) {
    const words = `${options.hostCores} × ${options.hostCoreMhz} MHz and ${options.hostMemoryGib} GiB`;
    const story = { dataset: set.name, guests: fleet.length, host: words, rows };
    const page = packingReport({ ...story, madeAt: new Date().toISOString() });
    io.err(`report: ${await writeWhole(report, page)}\n`);
  }
  printAnswer(io, options.json, {
    document: {
      dataset: set.name,
      guests: fleet.length,
      rows: rows.map(rowDocument),
      seconds: Number(seconds.toFixed(3)),
    },
    text: `${rowsText(rows)}\n\n${set.name}: ${fleet.length} guests, ${seconds.toFixed(1)} s`,
  });
}

function fleetOf({ guests, fleets }: GuestSet): FleetGuest[] {
  return guests.flatMap((_, place) => {
    const cpu = fleets.cpu[place];
    const memory = fleets.memory[place];
    if (cpu === undefined || memory === undefined) return [];
    return {
      cpu,
      memory: { seen: memory.seen.map((kib) => kib / KIB_PER_MIB), ceiling: memory.ceiling / KIB_PER_MIB },
    };
  });
}

async function playRules(io: Io, fleet: readonly FleetGuest[], host: HostSize): Promise<PackingRow[]> {
  const progress = new Progress(io);
  const rows: PackingRow[] = [];
  for (const [r, rule] of PACKING_RULES.entries()) {
    for (const direction of DIRECTIONS) {
      await setImmediate();
      io.signal.throwIfAborted();
      const score = playPacking(rule, fleet, host, direction);
      rows.push({ rule: rule.rule, setting: rule.setting, direction, ...score });
    }
    progress.tell((r + 1) / PACKING_RULES.length, `${rule.rule} ${rule.setting}`);
  }
  progress.end();
  return rows;
}

function rowDocument({ rule, setting, direction, hosts, overloadMean, overloadWorst }: PackingRow) {
  return { rule, setting, direction, hosts, overload_mean: overloadMean, overload_worst: overloadWorst };
}

function rowsText(rows: readonly PackingRow[]): string {
  return table(['RULE', 'SETTING', 'HOSTS', 'OVERLOADED', 'WORST HOST', ''], packingCells(rows), {
    right: [2, 3, 4],
  });
}
