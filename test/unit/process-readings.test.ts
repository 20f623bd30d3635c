// Goal: a guest's process is found and read right, as threads come and go, and never another's. Method: a procfs made of
// files in a temporary folder, numbers chosen by hand.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { ProcessReadings } from '../../libvirt-adapter/process-readings.ts';

const UUID = '063558a0-4c4a-47ae-8c7e-ceaf1a639310';
const root = mkdtempSync(join(tmpdir(), 'fs-proc-'));
t.teardown(() => rmSync(root, { recursive: true, force: true }));

function write(path: string, text: string): void {
  mkdirSync(join(root, path, '..'), { recursive: true });
  writeFileSync(join(root, path), text);
}

/** @param ticks utime and stime of 10 ms each */
function stat(pid: number, ticks: readonly [number, number], threads: number): void {
  const before = `${pid} (qemu (x) 86) S 1 1 1 0 -1 138 1 0 0 0`;
  write(`proc/${pid}/stat`, `${before} ${ticks[0]} ${ticks[1]} 0 0 20 0 ${threads} 0 5000 1 2\n`);
}

function thread(pid: number, tid: number, name: string, schedstat: string): void {
  write(`proc/${pid}/task/${tid}/comm`, `${name}\n`);
  write(`proc/${pid}/task/${tid}/schedstat`, `${schedstat}\n`);
}

const readings = () => new ProcessReadings({ proc: join(root, 'proc'), cgroups: [join(root, 'cgroup')] });

write('proc/7/cmdline', '/bin/grep\0-uuid\x063558a0-4c4a-47ae-8c7e-ceaf1a639310\0');
write('proc/self/cmdline', 'not a process number');
write('proc/41/cmdline', `/usr/bin/qemu-system-x86_64\0-name\0guest=a\0-uuid\0${UUID.toUpperCase()}\0-S\0`);
write('proc/41/cgroup', '1:cpu:/x\n0::/machine/qemu-1-a/emulator\n');
write(
  'cgroup/machine/qemu-1-a/cpu.pressure',
  'some avg10=0.00 avg60=0.00 avg300=0.00 total=1234\nfull total=9\n',
);
stat(41, [150, 50], 3);
thread(41, 41, 'qemu-system-x86', '1 1 1');
thread(41, 42, 'CPU 0/KVM', '1000 200 3');
thread(41, 43, 'worker', '5 5 5');

t.test('CPU of the process and its vCPU threads, pressure of its cgroup', async (t) => {
  const guest = await readings().open(UUID);
  t.strictSame(guest?.read(), { cpuNs: 2_000_000_000, vcpus: [{ runNs: 1000, delayNs: 200 }] });
  t.strictSame(guest?.pressure(), { cpuSomeUs: 1234 });

  thread(41, 44, 'CPU 2/KVM', '77 7 1');
  stat(41, [150, 51], 4);
  t.strictSame(
    guest?.read(),
    { cpuNs: 2_010_000_000, vcpus: [{ runNs: 1000, delayNs: 200 }, undefined, { runNs: 77, delayNs: 7 }] },
    'a plugged vCPU is found, a gap between them is one',
  );
  guest?.close();
});

t.test('what is no guest is none', async (t) => {
  t.equal(await readings().open('00000000-0000-4000-8000-000000000000'), undefined);
  const known = readings();
  (await known.open(UUID))?.close();
  write('proc/41/cmdline', '/usr/bin/qemu-system-x86_64\0-uuid\x0011111111-1111-4111-8111-111111111111\0');
  t.equal(await known.open(UUID), undefined, "the number is another guest's by now");
});

t.test('damaged files are missing values', async (t) => {
  write('proc/41/cmdline', `qemu-kvm\0-uuid\0${UUID}\0`);
  const guest = await readings().open(UUID);
  thread(41, 42, 'CPU 0/KVM', 'garbage');
  t.equal(guest?.read()?.vcpus[0], undefined);
  write('proc/41/stat', '');
  t.equal(guest?.read(), undefined);
  guest?.close();
});
