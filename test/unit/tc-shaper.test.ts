// Goal: a tap's limits are ours, whole and found again, or refused by name with everything as it was. Method: a kernel's
// queueing disciplines in memory behind the commands that are run; expectations worked by hand.
import t from 'tap';
import type { RunNetworkCommand } from '../../libvirt-adapter/network-command.ts';
import { TcShaper } from '../../libvirt-adapter/tc-shaper.ts';
import { AllocatorError } from '../../orchestrator/core/errors.ts';

const TAP = { ifindex: 45, ifname: 'vnet7' };
const IFB = 'foreshade-19'; // 45 in base 36

/** What `tc` and `ip` do to one host, as far as the shaper asks. */
function kernel(root: { kind: string; handle: string } = { kind: 'noqueue', handle: '8001:' }) {
  const links: { ifindex: number; ifname: string; linkinfo?: { info_kind: string } }[] = [TAP];
  const roots = new Map<string, { kind: string; handle: string; rate?: number }>([['vnet7', root]]);
  const ingress = new Map<string, string[]>();
  const commands: string[] = [];
  const refusals: RegExp[] = [];
  const run: RunNetworkCommand = async (program, args, { input = '' } = {}) => {
    if (args.includes('show')) return JSON.stringify(shown(program, args));
    for (const line of input.split('\n').filter(Boolean)) change(program, line.split(' '));
    return '';
  };
  const change = (program: string, args: readonly string[]) => {
    const line = [program, ...args].join(' ');
    commands.push(line);
    if (refusals.some((refused) => refused.test(line))) throw new AllocatorError('ACTUATION_REFUSED', line);
    const dev = args[args.indexOf(program === 'ip' && args[1] === 'add' ? 'name' : 'dev') + 1] ?? '';
    if (program === 'ip' && args[1] === 'add') {
      links.push({ ifindex: 100 + links.length, ifname: dev, linkinfo: { info_kind: 'ifb' } });
    } else if (program === 'ip' && args[1] === 'del') {
      links.splice(
        links.findIndex(({ ifname }) => ifname === dev),
        1,
      );
      roots.delete(dev);
    } else if (args[0] === 'filter') ingress.get(dev)?.push(args.at(-1) ?? '');
    else if (args.includes('ingress')) {
      if (args[1] === 'add') ingress.set(dev, []);
      else ingress.delete(dev);
    } else if (args[1] === 'del') roots.set(dev, { kind: 'pfifo_fast', handle: '0:' });
    else if (args[1] === 'replace') roots.set(dev, rootOf(args));
  };
  const shown = (program: string, args: readonly string[]) => {
    if (program === 'ip') return links;
    if (args.includes('filter')) return (ingress.get(args[4] ?? '') ?? []).map((to_dev) => ({ to_dev }));
    return [
      ...[...roots].map(([dev, { kind, handle, rate }]) => ({
        kind,
        handle,
        dev,
        root: true,
        options: { rate },
      })),
      ...[...ingress.keys()].map((dev) => ({ kind: 'ingress', handle: 'ffff:', dev })),
    ];
  };
  return {
    links,
    roots,
    ingress,
    commands,
    refusals,
    shaper: () => new TcShaper(async () => undefined, run),
  };
}

function rootOf(args: readonly string[]) {
  const after = (name: string) => args[args.indexOf(name) + 1] ?? '';
  if (args.at(-1) === 'noqueue') return { kind: 'noqueue', handle: '8002:' };
  return { kind: 'tbf', handle: after('handle'), rate: Number.parseInt(after('rate'), 10) / 8 };
}

t.test('limits are set by argument vectors, read back, found by another process and taken off', async (t) => {
  const { links, roots, ingress, commands, shaper } = kernel();
  const limits = { netRxBytesPerS: 2_000_000, netTxBytesPerS: 1_000_000 };
  await shaper().set('g', 'vnet7', limits);
  t.strictSame(commands, [
    'tc qdisc replace dev vnet7 root handle f05e: tbf rate 16000000bit burst 40000b limit 240000b',
    `ip link add name ${IFB} type ifb`,
    `ip link set dev ${IFB} up`,
    `tc qdisc replace dev ${IFB} root handle f05d: tbf rate 8000000bit burst 20000b limit 120000b`,
    'tc qdisc add dev vnet7 ingress',
    `tc filter add dev vnet7 parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev ${IFB}`,
  ]);
  t.strictSame(await shaper().get('g', 'vnet7'), limits, 'a later process knows them');
  await shaper().set('g', 'vnet7', { netTxBytesPerS: 3_000_000 });
  t.strictSame(await shaper().get('g', 'vnet7'), { netTxBytesPerS: 3_000_000 });
  t.equal(roots.get('vnet7')?.kind, 'noqueue', 'what libvirt gave the tap is put back');
  await shaper().set('g', 'vnet7', {});
  t.strictSame(await shaper().get('g', 'vnet7'), {});
  t.strictSame(links, [TAP]);
  t.equal(ingress.size, 0);
});

t.test("the kernel's own choice comes back where it was", async (t) => {
  const { commands, shaper } = kernel({ kind: 'pfifo_fast', handle: '0:' });
  await shaper().set('g', 'vnet7', { netRxBytesPerS: 2_000_000 });
  await shaper().set('g', 'vnet7', {});
  t.equal(commands.at(-1), 'tc qdisc del dev vnet7 root');
});

t.test('both directions or neither', async (t) => {
  const { roots, links, refusals, shaper } = kernel();
  await shaper().set('g', 'vnet7', { netRxBytesPerS: 2_000_000 });
  for (const refused of [/ifb$/, /up$/, /burst 20000b/, /ingress$/, /filter/]) {
    refusals[0] = refused;
    const both = { netRxBytesPerS: 5_000_000, netTxBytesPerS: 1_000_000 };
    await t.rejects(shaper().set('g', 'vnet7', both), { code: 'ACTUATION_REFUSED' }, `${refused}`);
    refusals.pop();
    t.strictSame(await shaper().get('g', 'vnet7'), { netRxBytesPerS: 2_000_000 });
    t.strictSame(links, [TAP]);
    t.equal(roots.get('vnet7')?.rate, 2_000_000);
  }
});

t.test('what others shape is left alone', async (t) => {
  for (const root of [
    { kind: 'tbf', handle: '7:' },
    { kind: 'htb', handle: '1:' },
  ]) {
    const { commands, shaper } = kernel(root);
    await t.rejects(shaper().get('g', 'vnet7'), { code: 'NOT_SUPPORTED' }, root.kind);
    await t.rejects(shaper().set('g', 'vnet7', { netRxBytesPerS: 1e6 }), { code: 'NOT_SUPPORTED' });
    t.strictSame(commands, []);
  }
  const { ingress, commands, shaper } = kernel();
  ingress.set('vnet7', ['ifb0']);
  await t.rejects(shaper().set('g', 'vnet7', { netRxBytesPerS: 1e6 }), { code: 'NOT_SUPPORTED' });
  t.strictSame(commands, []);
});

t.test('what a death in the middle left is finished, and orphans go', async (t) => {
  const { links, ingress, shaper } = kernel();
  links.push({ ifindex: 60, ifname: IFB, linkinfo: { info_kind: 'ifb' } });
  links.push({ ifindex: 61, ifname: 'foreshade-zz', linkinfo: { info_kind: 'ifb' } });
  ingress.set('vnet7', []);
  t.strictSame(await shaper().get('g', 'vnet7'), {}, 'led nowhere yet: not limited');
  await shaper().set('g', 'vnet7', { netTxBytesPerS: 1_000_000 });
  t.strictSame(await shaper().get('g', 'vnet7'), { netTxBytesPerS: 1_000_000 });
  t.strictSame(
    links.map(({ ifname }) => ifname),
    ['vnet7', IFB],
  );
});

t.test('taps by impossible names, and taps that are gone', async (t) => {
  const { commands, shaper } = kernel();
  for (const name of ['-all', 'a b', 'vnet7;reboot', '', 'x'.repeat(16)]) {
    await t.rejects(shaper().set('g', name, { netRxBytesPerS: 1e6 }), { code: 'NOT_SUPPORTED' }, name);
  }
  await t.rejects(shaper().set('g', 'vnet8', { netRxBytesPerS: 1e6 }), { code: 'GUEST_NOT_RUNNING' });
  t.strictSame(commands, []);
});

t.test('rates that tc has no words for are brought into its range', async (t) => {
  const { commands, shaper } = kernel();
  await shaper().set('g', 'vnet7', { netRxBytesPerS: 1 });
  t.match(commands[0], / rate 8000bit burst 16384b limit 16484b$/);
  await shaper().set('g', 'vnet7', { netRxBytesPerS: 1e15 });
  t.match(commands.at(-1), / rate 8000000000000000bit burst 67108864b limit 67108864b$/);
});
