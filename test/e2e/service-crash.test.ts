// Goal: kill -9 at any moment of a running load costs nothing that was promised, and SIGTERM costs nothing at all. No
// acknowledged lease is lost, no request has two leases, every adopted guest stands where its leases or its baseline put it,
// and what is not ours, or was taken over by somebody else, is left alone. Method: `foreshade serve` in a process of its own
// over real guests; clients allocate, renew and release through its socket; the process is killed at a random moment,
// started again, and its answers are compared with what the clients remember and with what libvirt says of the guests.
// FORESHADE_KILLS sets how often, FORESHADE_SEED repeats a run's choices (its timing is the machine's).
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { ClientError } from '../../integrations/client-node/client-error.ts';
import { Lab } from '../../libvirt-adapter/lab/lab.ts';
import { labUnavailableReason } from '../../libvirt-adapter/lab/requirements.ts';
import { labServiceConfig } from '../../libvirt-adapter/lab/service-config.ts';
import { virsh } from '../../libvirt-adapter/lab/virsh.ts';
import type { Guest } from '../../proto/gen/foreshade/v1/admin.ts';
import { type Lease, LeaseState } from '../../proto/gen/foreshade/v1/allocation.ts';
import { Mode, Priority } from '../../proto/gen/foreshade/v1/resources.ts';
import { recordFigure } from '../figures.ts';
import { randomFrom } from '../random.ts';
import { readSizes, type Sizes, sameSize, unexplained } from './guest-sizes.ts';
import { type Asked, CALL_TIMEOUT_MS, hasEnded, Load } from './service-load.ts';
import { ServiceProcess } from './service-process.ts';

const unavailable = labUnavailableReason();
if (unavailable !== undefined) {
  t.plan(0, `the service is not killed over real guests here: ${unavailable}`);
  process.exit(0);
}

const KILLS = Number(process.env.FORESHADE_KILLS ?? 3);
const SEED = Number(process.env.FORESHADE_SEED ?? Date.now() % 1_000_000);
const CLIENTS = 4;
/** The load runs this long at most before the kill. */
const LOAD_MS_MAX = 2_500;
/** A balloon that was travelling at the kill, and a queue that is served after it, come to rest within this time. */
const REST_MS_MAX = 20_000;
const ADOPTED = ['lab-1', 'lab-2'] as const;
const STRANGER = 'lab-3';
/** Work met for the first time is given the guest's ceiling at this priority. */
const SURE = { priority: Priority.PRIORITY_CRITICAL };
const MIB = 1024 * 1024;

/** A kill takes some 8 s beside 60 s for the rest; a loaded machine takes three times as long. */
t.setTimeout((60 + 10 * KILLS) * 3_000);
t.comment(`seed ${SEED}, ${KILLS} kills`);

const random = randomFrom(SEED);
const folder = mkdtempSync(join(tmpdir(), 'fs-crash-'));
const place = {
  config: join(folder, 'foreshade.toml'),
  socket: join(folder, 'foreshade.sock'),
  log: join(folder, 'service.log'),
};
// Little room in the balloon, so that its moves are short; more vCPUs than the host sells, so that leases queue as well.
const lab = await Lab.up({
  guests: ADOPTED.length + 1,
  guest: { memoryMib: 224, baselineMib: 128, virtioMemMib: 0, maxVcpus: 3, icount: false },
  stateDir: join(folder, 'lab'),
  onProgress: (line) => t.comment(line),
});
let service: ServiceProcess | undefined;
t.teardown(async () => {
  await service?.kill();
  await lab.down();
  rmSync(folder, { recursive: true, force: true });
});
const own = `state_dir = ${JSON.stringify(join(folder, 'state'))}
[service]
socket = ${JSON.stringify(place.socket)}
[host]
mode = "enforce"
`;
writeFileSync(place.config, own + labServiceConfig(lab.uri));

async function running(): Promise<ServiceProcess> {
  service ??= await ServiceProcess.start(place);
  return service;
}

async function killed(): Promise<void> {
  await service?.kill();
  service = undefined;
}

async function guestOf(name: string): Promise<Guest> {
  const { client } = await running();
  return client.ask(client.admin, client.admin.getGuest, { guest: name }, { timeoutMs: CALL_TIMEOUT_MS });
}

/** A domain's live description, without the balloon's size: libvirt notes that some time after the balloon came to rest. */
async function descriptionOf(name: string): Promise<string> {
  const xml = await virsh(lab.uri, ['dumpxml', name]);
  return xml.replace(/^ *<currentMemory.*\n/m, '');
}

/** Every lease the service knows. */
async function allLeases(): Promise<Lease[]> {
  const { client } = await running();
  const leases: Lease[] = [];
  let pageToken = '';
  do {
    const page = await client.ask(
      client.allocation,
      client.allocation.listLeases,
      { guest: '', tenant: '', states: [], pageSize: 1000, pageToken },
      { timeoutMs: CALL_TIMEOUT_MS },
    );
    leases.push(...page.leases);
    pageToken = page.nextPageToken ?? '';
  } while (pageToken !== '');
  return leases;
}

/** Poll until nothing is wrong; what is wrong still after `REST_MS_MAX` otherwise. */
async function atRest(wrong: () => Promise<string[]>): Promise<string[]> {
  const deadlineMs = Date.now() + REST_MS_MAX;
  for (;;) {
    const found = await wrong();
    if (found.length === 0 || Date.now() > deadlineMs) return found;
    await sleep(200);
  }
}

/** What of the adopted guests their leases do not account for. */
async function wrongSizes(): Promise<string[]> {
  const found: string[] = [];
  for (const name of ADOPTED) {
    const leases = (await allLeases()).filter(({ guestName }) => guestName === name);
    const { adoption, ceiling } = await guestOf(name);
    if (adoption?.baseline === undefined || ceiling === undefined) return [`${name} is no longer adopted`];
    const underWay = leases.filter(
      ({ state }) => state === LeaseState.LEASE_STATE_PREPARING || state === LeaseState.LEASE_STATE_RELEASING,
    );
    found.push(...underWay.map(({ id, state }) => `lease ${id} is still in state ${state}`));
    const held = await readSizes(lab.uri, name);
    const guest = { baseline: adoption.baseline, ceiling };
    for (const field of ['cpuMillicores', 'memoryBytes'] as const) {
      const why = unexplained(field, held[field], guest, leases);
      if (why !== undefined) found.push(`${name}: ${why}`);
    }
    if (adoption.relinquished.length > 0) found.push(`${name}: gave up ${adoption.relinquished}`);
  }
  return found;
}

/** What the service forgot of what it had told its clients. */
function forgotten(asked: readonly Asked[], leases: readonly Lease[]): string[] {
  const byId = new Map(leases.map((lease) => [lease.id, lease]));
  const found: string[] = [];
  for (const { answer, releaseSent, releaseAnswered } of asked) {
    if (answer === undefined) continue;
    const now = byId.get(answer.id);
    const id = `lease ${answer.id} (request ${answer.requestId})`;
    if (now === undefined) found.push(`${id} is gone`);
    else if (releaseAnswered && !hasEnded(now)) found.push(`${id} was released and is in state ${now.state}`);
    else if (!releaseSent && hasEnded(now) && Date.now() < Number(answer.expiresAtMs)) {
      found.push(`${id} ended in state ${now.state}: ${now.reason}`);
    } else if (now.requestId !== answer.requestId || now.guest !== answer.guest)
      found.push(`${id} is another`);
    else if (!releaseSent && Number(now.expiresAtMs) < Number(answer.expiresAtMs)) {
      found.push(`${id} lost its renewal`);
    }
  }
  return found;
}

function grantedTwice(leases: readonly Lease[]): string[] {
  const seen = new Set<string>();
  return leases.map(({ requestId = '' }) => requestId).filter((id) => seen.has(id) || !seen.add(id));
}

const strangersSizes = await readSizes(lab.uri, STRANGER);
const strangersXml = await descriptionOf(STRANGER);
const load = new Load(random, ADOPTED);
const baselines = new Map<string, Sizes>();

t.test('guests are adopted as they stand', async (t) => {
  const { client, readyMs } = await running();
  t.comment(`the service answers after ${Math.round(readyMs)} ms`);
  for (const name of ADOPTED) {
    const adoption = { guest: name, mode: Mode.MODE_ENFORCE };
    await client.ask(client.admin, client.admin.adoptGuest, adoption, { timeoutMs: CALL_TIMEOUT_MS });
    baselines.set(name, await readSizes(lab.uri, name));
  }
  t.strictSame(await wrongSizes(), []);
});

t.test(`killed ${KILLS} times while it works`, async (t) => {
  let clean = 0;
  let cutOff = 0;
  for (let kill = 1; kill <= KILLS; kill += 1) {
    const before = await running();
    load.start(before.client, CLIENTS);
    await sleep(random() * LOAD_MS_MAX);
    await before.kill();
    await load.stop();
    service = undefined;
    const { client, readyMs } = await running();
    const wrong = forgotten(load.asked, await allLeases());
    const unanswered = load.unanswered;
    cutOff += unanswered.length;
    const knownBefore = new Set((await allLeases()).map(({ requestId }) => requestId));
    await Promise.all(unanswered.map((one) => load.allocate(client, one)));
    wrong.push(...(await atRest(wrongSizes)));
    const leases = await allLeases();
    wrong.push(...grantedTwice(leases).map((id) => `request ${id} has two leases`));
    for (const { request, refusal } of unanswered) {
      const has = leases.some(({ requestId }) => requestId === request.requestId);
      if (!has && refusal === undefined)
        wrong.push(`request ${request.requestId} was repeated and has no lease`);
      if (!has && knownBefore.has(request.requestId ?? ''))
        wrong.push(`request ${request.requestId} lost its lease`);
    }
    if (!sameSizes(await readSizes(lab.uri, STRANGER), strangersSizes)) wrong.push(`${STRANGER} was touched`);
    t.strictSame(
      wrong,
      [],
      `kill ${kill}: ${load.asked.length} requests so far, ${unanswered.length} cut off, ready in ${Math.round(readyMs)} ms`,
    );
    if (wrong.length === 0) clean += 1;
  }
  const granted = (await allLeases()).map((lease) => lease.granted?.memoryBytes ?? 0);
  const grew = granted.filter((bytes) => bytes > (baselines.get(ADOPTED[0])?.memoryBytes ?? 0)).length;
  t.comment(
    `${load.asked.length} requests, ${cutOff} of them cut off by a kill; ${grew} grants moved the balloon`,
  );
  t.ok(grew > 0, 'balloons moved');
  recordFigure({
    bar: 'crash-kills-survived',
    value: clean,
    limit: `${KILLS} of ${KILLS} kills without a lease lost, doubled or a guest unexplained`,
    met: clean === KILLS,
  });
});

t.test('a hangup has the configuration read again, and a broken one changes nothing', async (t) => {
  const { client } = await running();
  const capacity = async () => {
    const status = await client.ask(client.admin, client.admin.getStatus, {}, { timeoutMs: CALL_TIMEOUT_MS });
    return status.capacity?.cpuMillicores ?? Number.NaN;
  };
  const reread = async (text: string, until: (log: string) => boolean): Promise<string> => {
    const from = readFileSync(place.log, 'utf8').length;
    const logged = (): string => readFileSync(place.log, 'utf8').slice(from);
    writeFileSync(place.config, text);
    (await running()).hangUp();
    while (!until(logged())) await sleep(20);
    return logged();
  };
  const written = readFileSync(place.config, 'utf8');
  const before = await capacity();
  t.teardown(() => writeFileSync(place.config, written));
  const twice = written.replace(
    /(\[host\.overcommit\]\ncpu = )([\d.]+)/,
    (_, key, cpu) => `${key}${2 * Number(cpu)}`,
  );
  await reread(twice, (log) => log.includes('was read again'));
  t.equal(await capacity(), 2 * before);
  const refused = await reread('[host]\nmode = "sideways"', (log) => log.includes('stays as it was'));
  t.match(refused, /host\.mode: must be one of/);
  t.equal(await capacity(), 2 * before);
  await reread(written, (log) => log.includes('was read again'));
  t.equal(await capacity(), before);
});

function sameSizes(a: Sizes, b: Sizes): boolean {
  return (
    sameSize('cpuMillicores', a.cpuMillicores, b.cpuMillicores) &&
    sameSize('memoryBytes', a.memoryBytes, b.memoryBytes)
  );
}

/** Give every lease back. */
async function releaseAll(): Promise<void> {
  const { client } = await running();
  const open = (await allLeases()).filter((lease) => !hasEnded(lease));
  const asker = (lease: Lease): Asked =>
    load.asked.find(({ answer }) => answer?.id === lease.id) ?? { request: { params: {} }, answer: lease };
  await Promise.all(open.map((lease) => load.release(client, asker(lease))));
}

t.test('with its last lease gone a guest is back at its baseline', async (t) => {
  await releaseAll();
  t.strictSame(await atRest(wrongSizes), []);
  for (const name of ADOPTED) {
    const held = await readSizes(lab.uri, name);
    t.ok(sameSizes(held, baselines.get(name) as Sizes), `${name}: ${JSON.stringify(held)}`);
  }
});

t.test('SIGTERM: calls in flight are answered, new ones refused, guests keep what they have', async (t) => {
  const before = await running();
  const { client } = before;
  const inFlight = [load.draw(600_000), load.draw(600_000)];
  inFlight.forEach((one, i) => {
    Object.assign(one.request, { guest: ADOPTED[i], workload: `novel-${i}`, noQueue: false, ...SURE });
  });
  const answers = Promise.all(inFlight.map((one) => load.allocate(client, one)));
  await sleep(20);
  const ended = before.terminate();
  const late: Asked[] = [];
  let refusal: ClientError | undefined;
  for (let i = 0; i < 100 && refusal === undefined; i += 1) {
    // Sent until one is refused: the signal takes a moment to arrive.
    const one = load.draw(600_000);
    late.push(one);
    refusal = await client
      .ask(client.allocation, client.allocation.allocate, one.request, { timeoutMs: CALL_TIMEOUT_MS })
      .then(
        (answer) => {
          one.answer = answer;
          return undefined;
        },
        (error) => error as ClientError,
      );
  }
  await answers;
  t.ok(
    refusal instanceof ClientError && isUnavailable(refusal),
    `refused with ${refusal?.reason}: ${refusal?.message}`,
  );
  t.ok(
    inFlight.every(({ answer }) => answer !== undefined),
    'calls in flight were answered',
  );
  t.strictSame(await ended, { code: 0, signal: null });
  service = undefined;
  client.close();
  const kept = await Promise.all(ADOPTED.map((name) => readSizes(lab.uri, name)));
  t.ok(
    kept.some((sizes, i) => !sameSizes(sizes, baselines.get(ADOPTED[i] ?? '') as Sizes)),
    'guests keep what they have',
  );
  await running();
  t.strictSame(forgotten(load.asked, await allLeases()), []);
  t.strictSame(await atRest(wrongSizes), []);
});

/** The gRPC status, whatever the reason in its details. */
function isUnavailable({ cause }: ClientError): boolean {
  return (cause as { code?: number }).code === 14;
}

t.test('what somebody else resized while the service was down is left alone and reported', async (t) => {
  await releaseAll();
  t.strictSame(await atRest(wrongSizes), []);
  const [first, second] = ADOPTED;
  const logged = readFileSync(place.log, 'utf8').length;
  await killed();
  await virsh(lab.uri, ['schedinfo', first, '--live', '--set', 'global_quota=77000']);
  await virsh(lab.uri, ['setmem', second, '151M', '--live']);
  const taken = { cpuMillicores: 770, memoryBytes: 151 * MIB };
  await atRest(async () => {
    const { memoryBytes } = await readSizes(lab.uri, second);
    return sameSize('memoryBytes', memoryBytes, taken.memoryBytes) ? [] : ['the balloon travels'];
  });
  const { client } = await running();
  t.strictSame((await guestOf(first)).adoption?.relinquished, ['cpu']);
  t.strictSame((await guestOf(second)).adoption?.relinquished, ['memory']);
  const told = readFileSync(place.log, 'utf8')
    .slice(logged)
    .split('\n')
    .filter((line) => line.includes('"relinquish"'));
  t.strictSame(
    told
      .map((line) => JSON.parse(line))
      .map(({ level, guest, resources }) => `${guest} ${resources} at level ${level}`)
      .sort(),
    [`${first} cpu at level 40`, `${second} memory at level 40`],
  );
  // What is still ours is moved all the same, and only that.
  for (const name of ADOPTED) {
    const one = load.draw(600_000);
    Object.assign(one.request, { guest: name, workload: `novel-${name}`, noQueue: false, ...SURE });
    await load.allocate(client, one);
    t.ok(one.answer, one.refusal?.message ?? `${name} has a lease`);
  }
  const [a, b] = [await readSizes(lab.uri, first), await readSizes(lab.uri, second)];
  t.ok(
    sameSize('cpuMillicores', a.cpuMillicores, taken.cpuMillicores),
    `${first} keeps 770 millicores: ${a.cpuMillicores}`,
  );
  t.ok(
    a.memoryBytes > (baselines.get(first)?.memoryBytes ?? Number.NaN) + 8 * MIB,
    `${first} grew in memory: ${a.memoryBytes}`,
  );
  t.ok(
    sameSize('memoryBytes', b.memoryBytes, taken.memoryBytes),
    `${second} keeps 151 MiB: ${b.memoryBytes / MIB}`,
  );
  t.ok(b.cpuMillicores > 1100, `${second} grew in CPU: ${b.cpuMillicores}`);
});

t.test('a guest that was never adopted is as it was', async (t) => {
  t.strictSame(await readSizes(lab.uri, STRANGER), strangersSizes);
  t.equal(await descriptionOf(STRANGER), strangersXml);
  t.equal((await guestOf(STRANGER)).adoption, undefined);
});
