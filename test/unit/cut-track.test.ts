// Goal: samples on the axis of instructions say what was executed, once, in steps of at least what was asked. Method: cuts as
// a counter gives them, worked by hand.
import t from 'tap';
import { CutTrack } from '../../libvirt-adapter/cut-track.ts';
import type { InstructionCut } from '../../libvirt-adapter/host-readings.ts';

const NOW_MS = 1_000_000;

function cut(vcpu: number, total: number, ageMs: number, branch?: number): InstructionCut {
  return { vcpu, total, ageMs, ...(branch !== undefined && { classes: { branch, other: total - branch } }) };
}

t.test('one vCPU: a sample a step, with its time, its rate and its classes', async (t) => {
  const track = new CutTrack('g');
  const cuts = [cut(0, 1000, 50, 100), cut(0, 2001, 40, 300), cut(0, 3000, 20, 350)];
  t.strictSame(track.take({ run: 'a', cuts, lost: 0 }, 1000, NOW_MS, { memoryBytes: 7 }), [
    {
      guest: 'g',
      atMs: NOW_MS - 40,
      periodMs: 10,
      cadence: 'cut',
      usage: { instructionsPerS: 100_100, memoryBytes: 7 },
      instructionsAt: 2001,
      classes: { branch: 200, other: 801 },
      flags: [],
    },
  ]);
  const later = track.take({ run: 'a', cuts: [cut(0, 4002, 0, 400)], lost: 0 }, 1000, NOW_MS, {});
  t.match(later, [{ instructionsAt: 4002, classes: { branch: 100, other: 1901 }, periodMs: 40 }]);
});

t.test('two vCPUs count together; one that is plugged later brings no history', async (t) => {
  const track = new CutTrack('g');
  const take = (cuts: InstructionCut[]) => track.take({ run: 'a', cuts, lost: 0 }, 2000, NOW_MS, {});
  t.strictSame(take([cut(0, 5000, 90), cut(0, 6000, 80), cut(1, 1000, 75)]), []);
  t.match(take([cut(1, 2000, 70)]), [
    { instructionsAt: 8000, periodMs: 20, usage: { instructionsPerS: 100_000 } },
  ]);
  t.strictSame(take([cut(0, 7000, 60)]), []);
  t.match(take([cut(1, 3000, 60)]), [{ instructionsAt: 10_000, periodMs: 10 }]);
});

t.test('lost cuts are said, in the step they fell in', async (t) => {
  const track = new CutTrack('g');
  track.take({ run: 'a', cuts: [cut(0, 1000, 9)], lost: 0 }, 1000, NOW_MS, {});
  const samples = track.take(
    { run: 'a', cuts: [cut(0, 9000, 5), cut(0, 10_000, 4)], lost: 7 },
    1000,
    NOW_MS,
    {},
  );
  t.strictSame(
    samples.map(({ flags, instructionsAt }) => [instructionsAt, flags]),
    [
      [9000, ['gap']],
      [10_000, []],
    ],
  );
});

t.test('another run of the guest begins anew; cuts of one moment give no rate', async (t) => {
  const track = new CutTrack('g');
  track.take({ run: 'a', cuts: [cut(0, 9000, 9)], lost: 0 }, 1000, NOW_MS, {});
  t.strictSame(track.take({ run: 'b', cuts: [cut(0, 1000, 5)], lost: 0 }, 1000, NOW_MS, {}), []);
  const [sample] = track.take({ run: 'b', cuts: [cut(0, 2000, 5)], lost: 0 }, 1000, NOW_MS, {});
  t.match(sample, { instructionsAt: 2000, periodMs: 0 });
  t.equal(sample?.usage.instructionsPerS, undefined);
});
